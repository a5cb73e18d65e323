/**
 * The reply writer: RESP2 and RESP3 forms, and replies that lie across chunks of any size.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REPLY_CHUNK_MIN, type ReplyWriter } from '../../../../src/apps/kv/resp/reply.ts';
import { MemorySink } from '../harness.ts';

/** What some calls write, with chunks of a size. */
function written(write: (reply: ReplyWriter) => void, options: { resp3?: boolean; size?: number } = {}): string {
  const sink = new MemorySink(options.size ?? 4096);
  sink.writer.resp3 = options.resp3 ?? false;
  write(sink.writer);
  return sink.take().toString('latin1');
}

test('each reply has its RESP2 and its RESP3 form', () => {
  const cases: [(reply: ReplyWriter) => void, string, string?][] = [
    [(r) => r.ok(), '+OK\r\n'],
    [(r) => r.simple('PONG'), '+PONG\r\n'],
    [(r) => r.error('ERR a\r\nb'), '-ERR a  b\r\n'],
    [(r) => r.int(-12345678901), ':-12345678901\r\n'],
    [(r) => r.int(99), ':99\r\n'],
    [(r) => r.int(100), ':100\r\n'],
    [(r) => r.bigint(-(2n ** 63n)), ':-9223372036854775808\r\n'],
    [(r) => r.nil(), '$-1\r\n', '_\r\n'],
    [(r) => r.nilArray(), '*-1\r\n', '_\r\n'],
    [(r) => r.map(2), '*4\r\n', '%2\r\n'],
    [(r) => r.set(3), '*3\r\n', '~3\r\n'],
    [(r) => r.bool(true), ':1\r\n', '#t\r\n'],
    [(r) => r.double(0.1), '$19\r\n0.10000000000000001\r\n', ',0.10000000000000001\r\n'],
    [(r) => r.double(Infinity), '$3\r\ninf\r\n', ',inf\r\n'],
    [(r) => r.verbatim('hi'), '$2\r\nhi\r\n', '=6\r\ntxt:hi\r\n'],
    [(r) => r.text('caf\u00e9', 'utf8'), '$5\r\ncaf\u00c3\u00a9\r\n'],
  ];
  for (const [write, two, three] of cases) {
    assert.equal(written(write), two);
    assert.equal(written(write, { resp3: true }), three ?? two);
  }
});

test('values of any length come out whole across chunks of any size', () => {
  const value = fc.uint8Array({ maxLength: 3000 });
  fc.assert(
    fc.property(fc.array(value, { maxLength: 12 }), fc.integer({ min: REPLY_CHUNK_MIN, max: 1500 }), (values, size) => {
      const write = (reply: ReplyWriter): void => {
        for (const bytes of values) {
          const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
          reply.bulkView(bytes, view, 0, bytes.length);
          reply.bytesBulk(bytes);
          reply.int(bytes.length);
        }
      };
      assert.equal(written(write, { size }), written(write, { size: 1 << 20 }));
      const expected = values.map((bytes) => {
        const bulk = `$${bytes.length}\r\n${Buffer.from(bytes).toString('latin1')}\r\n`;
        return `${bulk}${bulk}:${bytes.length}\r\n`;
      });
      assert.equal(written(write, { size }), expected.join(''));
    }),
    { seed: 11, numRuns: 200 },
  );
});

test('a value may end at any distance from the end of a chunk', () => {
  for (const before of [0, 1, 600 - 40]) {
    for (let length = 0; length < 620; length++) {
      const bytes = new Uint8Array(length).fill(65);
      const write = (reply: ReplyWriter): void => {
        for (let i = 0; i < before / 4; i++) reply.int(1);
        reply.bulkView(bytes, new DataView(bytes.buffer), 0, length);
        reply.ok();
      };
      const expected = `${':1\r\n'.repeat(Math.ceil(before / 4))}$${length}\r\n${'A'.repeat(length)}\r\n+OK\r\n`;
      assert.equal(written(write, { size: 600 }), expected, `${length} bytes after ${before}`);
    }
  }
});

test('a discarded reply leaves no trace', () => {
  const out = written((reply) => {
    reply.ok();
    reply.discard(true);
    reply.bytesBulk(new Uint8Array(100_000));
    reply.discard(false);
    reply.simple('END');
  });
  assert.equal(out, '+OK\r\n+END\r\n');
});

test('a bulk whose view is at hand is whole, however little room its chunk has left', () => {
  const source = Buffer.alloc(128, 'abcdefghijklmnopqrstuvwxyz');
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  for (let room = 0; room <= 160; room++) {
    for (let length = 0; length <= 110; length++) {
      const filler = 'x'.repeat(512 - room);
      const reply = written(
        (r) => {
          r.raw(Buffer.from(filler), 0, filler.length);
          r.bulkView(source, view, 3, length);
        },
        { size: 512 },
      );
      assert.equal(reply, `${filler}$${length}\r\n${source.toString('latin1', 3, 3 + length)}\r\n`);
    }
  }
});
