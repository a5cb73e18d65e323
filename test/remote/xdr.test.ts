/** XDR: what is written is read, and bytes that are no XDR are a typed error. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { XdrError, XdrReader, XdrWriter } from '../../src/remote/xdr.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
/** A value with how it is written and read. */
const value = fc.oneof(
  u32.map((v) => ({ write: (w: XdrWriter) => w.u32(v), read: (r: XdrReader) => r.u32(), v: v as unknown })),
  fc.integer().map((v) => ({ write: (w: XdrWriter) => w.i32(v), read: (r: XdrReader) => r.i32(), v })),
  fc.boolean().map((v) => ({ write: (w: XdrWriter) => w.bool(v), read: (r: XdrReader) => r.bool(), v })),
  fc.maxSafeNat().map((v) => ({ write: (w: XdrWriter) => w.u64(v), read: (r: XdrReader) => r.u64(), v })),
  fc.maxSafeInteger().map((v) => ({ write: (w: XdrWriter) => w.i64(v), read: (r: XdrReader) => r.i64(), v })),
  fc.uint8Array({ maxLength: 70 }).map((v) => ({
    write: (w: XdrWriter) => w.opaque(v),
    read: (r: XdrReader) => Uint8Array.from(r.opaque(70)),
    v,
  })),
  fc.uint8Array({ maxLength: 9 }).map((v) => ({
    write: (w: XdrWriter) => w.fixed(v),
    read: (r: XdrReader) => Uint8Array.from(r.fixed(v.length)),
    v,
  })),
  fc.string({ unit: 'grapheme', maxLength: 20 }).map((v) => ({
    write: (w: XdrWriter) => w.string(v),
    read: (r: XdrReader) => r.string(1000),
    v,
  })),
);

test('whatever is written is read again, in multiples of four bytes', () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 30 }), fc.boolean(), (values, borrowed) => {
      const writer = new XdrWriter(8);
      for (const { write } of values) write(writer);
      const bytes = writer.toBytes();
      assert.equal(bytes.length % 4, 0);
      const reader = new XdrReader(bytes, borrowed);
      for (const { read, v } of values) assert.deepEqual(read(reader), v);
      reader.finish();
    }),
  );
});

test('the bytes are those of RFC 4506', () => {
  const writer = new XdrWriter(4);
  writer.i32(-2);
  writer.u64(2 ** 32 + 5);
  writer.i64(-1);
  writer.string('abcde');
  writer.bool(true);
  const hex = 'fffffffe 00000001 00000005 ffffffff ffffffff 00000005 61626364 65000000 00000001';
  assert.equal(Buffer.from(writer.toBytes()).toString('hex'), hex.replaceAll(' ', ''));
});

test('a long byte array stands in the output without being copied', () => {
  const long = new Uint8Array(40_001).fill(7);
  const writer = new XdrWriter();
  writer.u32(1);
  writer.opaque(long);
  writer.u32(2);
  assert.equal(writer.splices[0]?.bytes, long);
  assert.equal(writer.length + writer.spliced, 4 + 4 + 40_001 + 3 + 4);
  const reader = new XdrReader(writer.toBytes());
  assert.equal(reader.u32(), 1);
  assert.deepEqual(reader.opaque(50_000), long);
  assert.equal(reader.u32(), 2);
  reader.finish();
});

test('rewind takes back bytes and splices', () => {
  const writer = new XdrWriter();
  writer.u32(1);
  const { length } = writer;
  writer.opaque(new Uint8Array(50_000));
  writer.rewind(length, 0);
  writer.u32(2);
  assert.equal(Buffer.from(writer.toBytes()).toString('hex'), '0000000100000002');
  assert.equal(writer.spliced, 0);
});

test('a borrowed reader copies byte arrays out, another gives views', () => {
  const bytes = Buffer.from([0, 0, 0, 4, 1, 2, 3, 4]);
  const copy = new XdrReader(bytes, true).opaque(4);
  const view = new XdrReader(bytes, false).opaque(4);
  bytes.fill(9);
  assert.deepEqual([...copy], [1, 2, 3, 4]);
  assert.deepEqual([...view], [9, 9, 9, 9]);
});

const code = (expected: string) => (error: unknown) => error instanceof XdrError && error.code === expected;

test('each way of being wrong has its code', () => {
  const reader = (hex: string) => new XdrReader(Buffer.from(hex, 'hex'));
  assert.throws(() => reader('000000').u32(), code('ERR_XDR_SHORT'));
  assert.throws(() => reader('00000008aabbccdd').opaque(100), code('ERR_XDR_SHORT'));
  assert.throws(() => reader('00000003aabbcc').opaque(100), code('ERR_XDR_SHORT'), 'the padding is missing');
  assert.throws(() => reader('ffffffff').opaque(0xffff_ffff), code('ERR_XDR_SHORT'));
  assert.throws(() => reader('00000008aabbccdd').opaque(7), code('ERR_XDR_TOO_LONG'));
  assert.throws(() => reader('00000002').bool(), code('ERR_XDR_VALUE'));
  assert.throws(() => reader('00000008').enumeration(1, 7, 'file type'), code('ERR_XDR_VALUE'));
  assert.throws(() => reader('0020000000000000').u64(), code('ERR_XDR_RANGE'));
  assert.equal(reader('001fffffffffffff').u64(), Number.MAX_SAFE_INTEGER);
  assert.equal(reader('ffffffffffffffff').u64Clamped(), Number.MAX_SAFE_INTEGER);
  assert.throws(() => reader('8000000000000000').i64(), code('ERR_XDR_RANGE'));
  assert.throws(() => reader('40000000').count(4), code('ERR_XDR_SHORT'), 'more elements than bytes');
  assert.throws(() => reader('00000000').finish(), code('ERR_XDR_TRAILING'));
});

test("numbers that do not fit are the programmer's mistake", () => {
  const writer = new XdrWriter();
  for (const wrong of [-1, 2 ** 53, 1.5, Number.NaN]) assert.throws(() => writer.u64(wrong), RangeError);
});

test('any bytes: a value or an XdrError, and never a byte outside', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.array(fc.nat(7), { maxLength: 12 }), (bytes, program) => {
      const around = new Uint8Array(bytes.length + 64).fill(0xee);
      around.set(bytes, 32);
      const reader = new XdrReader(around.subarray(32, 32 + bytes.length));
      try {
        for (const what of program) {
          const read = [
            () => reader.u32(),
            () => reader.u64(),
            () => reader.i64(),
            () => reader.bool(),
            () => reader.opaque(1000),
            () => reader.fixed(5),
            () => reader.count(4),
            () => reader.string(1000),
          ][what] as () => unknown;
          const got = read();
          if (got instanceof Uint8Array)
            assert.ok(got.byteOffset >= 32 && got.byteOffset + got.length <= 32 + bytes.length);
          assert.ok(reader.offset <= bytes.length);
        }
      } catch (error) {
        assert.ok(error instanceof XdrError, String(error));
      }
    }),
  );
});
