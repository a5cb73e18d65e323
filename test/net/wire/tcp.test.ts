import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  Flag,
  putMss,
  putSack,
  putSackPermitted,
  putTcpHeader,
  putTimestamps,
  putWindowScale,
  TcpSegment,
} from '../../../src/net/wire/tcp.ts';
import { viewOf } from '../view.ts';

test('what is written is read back', () => {
  const int = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  const u16 = fc.nat(65535);
  fc.assert(
    fc.property(u16, u16, int, int, fc.nat(255), u16, (source, destination, seq, ack, flags, window) => {
      const memory = new Uint8Array(80);
      putTcpHeader(viewOf(memory), 7, source, destination, seq, ack, 20, flags, window);
      const segment = new TcpSegment();
      assert.ok(segment.parse(viewOf(memory), 7, 25));
      const got = [
        segment.sourcePort,
        segment.destinationPort,
        segment.seq,
        segment.ack,
        segment.flags,
        segment.window,
      ];
      assert.deepEqual(got, [source, destination, seq, ack, flags, window]);
      assert.equal(segment.dataAt, 27);
      assert.equal(segment.dataLength, 5);
      assert.equal(segment.length, 5 + (flags & Flag.SYN ? 1 : 0) + (flags & Flag.FIN ? 1 : 0));
    }),
  );
});

test('every option at once', () => {
  const memory = new Uint8Array(60);
  putTcpHeader(viewOf(memory), 0, 1, 2, 3, 4, 56, Flag.SYN, 5);
  putMss(viewOf(memory), 20, 1460);
  putSackPermitted(viewOf(memory), 24);
  putTimestamps(viewOf(memory), 28, -5, 77);
  putWindowScale(viewOf(memory), 40, 7);
  putSack(viewOf(memory), 44, Int32Array.of(-9, 100), 1);
  const segment = new TcpSegment();
  assert.ok(segment.parse(viewOf(memory), 0, 56));
  assert.equal(segment.mss, 1460);
  assert.ok(segment.sackPermitted && segment.hasTimestamps);
  assert.deepEqual([segment.tsVal, segment.tsEcr, segment.windowScale], [-5, 77, 7]);
  assert.deepEqual([segment.sackCount, segment.sack[0], segment.sack[1]], [1, -9, 100]);
});

test('timestamps alone take the short way and reset what an earlier segment had', () => {
  const memory = new Uint8Array(60);
  putTcpHeader(viewOf(memory), 0, 1, 2, 3, 4, 24, Flag.SYN, 5);
  putMss(viewOf(memory), 20, 1000);
  const segment = new TcpSegment();
  assert.ok(segment.parse(viewOf(memory), 0, 24));
  putTcpHeader(viewOf(memory), 0, 1, 2, 3, 4, 32, Flag.ACK, 5);
  putTimestamps(viewOf(memory), 20, 8, 9);
  assert.ok(segment.parse(viewOf(memory), 0, 32));
  assert.deepEqual([segment.mss, segment.windowScale, segment.tsVal, segment.tsEcr], [0, -1, 8, 9]);
});

for (const [what, options] of [
  ['a length of 0', [2, 0, 5, 180]],
  ['a length of 1', [8, 1, 0, 0]],
  ['a length past the end', [2, 40, 5, 180]],
  ['a kind without a length', [1, 1, 1, 2]],
  ['an MSS of the wrong length', [2, 3, 5, 1]],
  ['an unknown kind', [200, 4, 5, 180]],
  ['the end of the list before an MSS', [0, 2, 4, 5]],
] as const) {
  test(`options: ${what} says nothing`, () => {
    const memory = new Uint8Array(24);
    putTcpHeader(viewOf(memory), 0, 1, 2, 3, 4, 24, Flag.SYN, 5);
    memory.set(options, 20);
    const segment = new TcpSegment();
    assert.ok(segment.parse(viewOf(memory), 0, 24));
    assert.deepEqual([segment.mss, segment.hasTimestamps, segment.sackCount, segment.windowScale], [0, false, 0, -1]);
  });
}

test('a header that is too short or longer than the segment is refused', () => {
  const memory = new Uint8Array(60);
  const segment = new TcpSegment();
  assert.equal(segment.parse(viewOf(memory), 0, 19), false);
  memory[12] = 4 << 4;
  assert.equal(segment.parse(viewOf(memory), 0, 40), false);
  memory[12] = 15 << 4;
  assert.equal(segment.parse(viewOf(memory), 0, 59), false);
});

test('any bytes parse or are refused, and what is reported lies inside', () => {
  const segment = new TcpSegment();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      if (!segment.parse(viewOf(bytes), 0, bytes.length)) return;
      assert.ok(segment.dataLength >= 0 && segment.dataAt + segment.dataLength === bytes.length);
      assert.ok(segment.sackCount <= 4 && segment.windowScale <= 14);
    }),
    { numRuns: 500 },
  );
});
