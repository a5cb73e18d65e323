/** Record marking: records come out as they went in, whatever the fragments and the pieces of the stream. Pure. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RecordDecoder, RecordError } from '../../../src/remote/rpc/record.ts';
import { toRecord } from './fake-server.ts';

function decode(pieces: readonly Uint8Array[], limit = 1 << 20, reuse = false): Buffer[] {
  const records: Buffer[] = [];
  const decoder = new RecordDecoder(limit, (reader) => records.push(Buffer.from(reader.fixed(reader.remaining & ~3))));
  const shared = new Uint8Array(1 << 16);
  for (const piece of pieces) {
    if (!reuse) {
      decoder.push(piece, piece.length);
      continue;
    }
    // As a socket's receive buffer: overwritten by what comes next.
    shared.fill(0xee);
    shared.set(piece);
    decoder.push(shared, piece.length);
  }
  return records;
}

/** Cuts bytes at the given places. */
function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const cuts = [...new Set([0, ...places.map((p) => p % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  return cuts.slice(1).map((cut, i) => bytes.subarray(cuts[i], cut));
}

test('records come out as they went in', () => {
  const message = fc.uint8Array({ maxLength: 120 }).map((bytes) => Buffer.from(bytes.subarray(0, bytes.length & ~3)));
  fc.assert(
    fc.property(
      fc.array(fc.record({ message, size: fc.integer({ min: 1, max: 200 }) }), { maxLength: 12 }),
      fc.array(fc.nat(4000), { maxLength: 40 }),
      fc.boolean(),
      (messages, places, reuse) => {
        const stream = Buffer.concat(messages.map(({ message, size }) => toRecord(message, size)));
        const records = decode(cutAt(stream, places), 1 << 20, reuse);
        assert.deepEqual(
          records,
          messages.map(({ message }) => message),
        );
      },
    ),
  );
});

test('empty fragments in between and at the end belong to the record', () => {
  const empty = Buffer.from('00000000', 'hex');
  const stream = Buffer.concat([empty, Buffer.from('00000004aabbccdd', 'hex'), empty, Buffer.from('80000000', 'hex')]);
  for (let size = 1; size <= stream.length; size++) {
    const places = Array.from({ length: stream.length }, (_, i) => i * size);
    assert.deepEqual(decode(cutAt(stream, places)), [Buffer.from('aabbccdd', 'hex')]);
  }
});

test('a record above the limit, or in too many fragments, is refused before it is gathered', () => {
  assert.throws(() => decode([Buffer.from('80000401', 'hex')], 1024), RecordError);
  assert.throws(() => decode([Buffer.from('7fffffff', 'hex')], 1024), RecordError);
  assert.throws(() => decode([toRecord(new Uint8Array(1200), 400)], 1024), RecordError);
  assert.throws(() => decode([toRecord(new Uint8Array(4000), 1)], 1 << 20), RecordError);
});

test('long records: what is put straight into their memory is part of them', () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 60_000, max: 300_000 }));
  fc.assert(
    fc.property(
      fc.array(fc.record({ size, fragment: fc.integer({ min: 30_000, max: 400_000 }) }), { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 10 }),
      (messages, reads) => {
        const sent = messages.map(({ size }, i) => Buffer.alloc(size & ~3, `record ${i} `));
        const stream = Buffer.concat(sent.map((bytes, i) => toRecord(bytes, messages[i]!.fragment)));
        const records: Buffer[] = [];
        const decoder = new RecordDecoder(1 << 20, (reader) =>
          records.push(Buffer.from(reader.fixed(reader.remaining))),
        );
        const received = new Uint8Array(1 << 16);
        let direct = 0;
        for (let at = 0, i = 0; at < stream.length; i++) {
          const target = decoder.room ?? received;
          const length = Math.min(target.length, reads[i % reads.length]!, stream.length - at);
          target.set(stream.subarray(at, at + length));
          if (target === received) decoder.push(received, length);
          else decoder.pushInPlace(length);
          if (target !== received) direct += length;
          at += length;
        }
        assert.equal(records.length, sent.length);
        for (const [i, bytes] of sent.entries()) assert.ok(records[i]!.equals(bytes), `record ${i}`);
        if (messages.some(({ size, fragment }) => Math.min(size, fragment) > 150_000)) assert.ok(direct > 0);
      },
    ),
    { numRuns: 60 },
  );
});

test('any bytes are records, or none: never more memory than the limit, never another error', () => {
  const limit = 1 << 16;
  const mark = fc.oneof(
    fc.constantFrom(0, 4, 0x8000_0000, 0x8000_0008, 0xffff_ffff),
    fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  );
  const piece = fc.record({ mark, bytes: fc.uint8Array({ maxLength: 64 }) });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      let gathered = 0;
      const decoder = new RecordDecoder(limit, (reader) => {
        gathered += reader.remaining;
        assert.ok(reader.remaining <= limit);
      });
      let sent = 0;
      try {
        for (const { mark, bytes } of pieces) {
          const stream = Buffer.alloc(4 + bytes.length);
          stream.writeUInt32BE(mark);
          stream.set(bytes, 4);
          decoder.push(stream, stream.length);
          sent += stream.length;
          assert.ok((decoder.room?.length ?? 0) <= limit);
        }
      } catch (error) {
        assert.ok(error instanceof RecordError, String(error));
      }
      assert.ok(gathered <= sent + 68);
    }),
  );
});
