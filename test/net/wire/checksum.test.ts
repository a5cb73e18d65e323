import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum, fold } from '../../../src/net/wire/checksum.ts';
import { viewOf } from '../view.ts';

/** RFC 1071, byte by byte. */
function plain(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += (i & 1) === 0 ? bytes[i]! << 8 : bytes[i]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

/** 0 and 0xffff are the same number in ones' complement. */
function same(a: number, b: number): void {
  assert.equal(a % 0xffff, b % 0xffff);
}

test('the example of RFC 1071 section 3', () => {
  assert.equal(checksum(viewOf(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)), 0, 8), 0xddf2);
});

test('any bytes at any offset sum as byte by byte', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(9), fc.nat(3), (bytes, before, shift) => {
      const memory = new Uint8Array(new ArrayBuffer(shift + before + bytes.length + 3), shift);
      memory.fill(0xa5);
      memory.set(bytes, before);
      same(checksum(viewOf(memory), before, bytes.length), plain(bytes));
    }),
  );
});

test('the largest packet of ones does not overflow', () => {
  const memory = new Uint8Array(65536).fill(255);
  same(checksum(viewOf(memory), 0, 65535), plain(memory.subarray(0, 65535)));
  same(checksum(viewOf(memory), 1, 65535), plain(memory.subarray(1)));
});

test('folding keeps the value', () => {
  assert.equal(fold(0x1fffe), 0xffff);
  assert.equal(fold(0), 0);
});
