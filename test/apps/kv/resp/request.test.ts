/**
 * The request parser under random, split, truncated and oversized input: the same commands run however the bytes arrive, nothing
 * throws, and what an unfinished request holds stays within what has arrived.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Assembler, LINE_MAX } from '../../../../src/apps/kv/resp/request.ts';
import { createTestEngine, encodeRequest, MemorySink } from '../harness.ts';

const SEED = 20240607;
const bytes = (most: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength: most });

/** Commands whose replies tell whether their arguments arrived whole. */
const command = fc.oneof(
  fc.tuple(fc.constant('ECHO'), bytes(40)),
  fc.tuple(fc.constant('ECHO'), bytes(9000)),
  fc.tuple(fc.constant('SET'), bytes(3), bytes(300)),
  fc.tuple(fc.constant('GET'), bytes(3)),
  fc.tuple(fc.constant('APPEND'), bytes(1), bytes(30)),
  fc.tuple(fc.constant('MGET'), bytes(2), bytes(2), bytes(2)),
  fc.tuple(fc.constant('PING')),
  fc.array(bytes(5), { minLength: 1, maxLength: 4 }),
);
const inline = fc.constantFrom(
  'PING\r\n',
  'ping\n',
  '\r\n',
  'SET "a b" \'c\'\r\n',
  'ECHO "\\x41\\n\\""\r\n',
  '   GET a \r\n',
  '*0\r\n',
  '*-1\r\n',
);
const pipeline = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: command.map((args) => encodeRequest(args)) },
      { weight: 1, arbitrary: inline.map((text) => Buffer.from(text)) },
    ),
    {
      maxLength: 30,
    },
  )
  .map((parts) => Buffer.concat(parts));

/** Run bytes in pieces that end at the given places; each piece lies somewhere in an array of its own. */
function runSplit(input: Buffer, cuts: readonly number[]): { replies: string; closing: boolean } {
  const kv = createTestEngine({ chunk: 600 });
  const { session, sink } = kv.client;
  const ends = [...new Set(cuts.map((cut) => cut % (input.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const end of [...ends, input.length]) {
    const piece = new Uint8Array(end - from + 20);
    piece.set(input.subarray(from, end), 7);
    const stop = kv.engine.run(session, piece, 7, 7 + end - from, sink.writer);
    assert.equal(stop, 7 + end - from);
    from = end;
  }
  return { replies: sink.take().toString('latin1'), closing: session.closing };
}

test('a pipeline gives the same replies however it is split', () => {
  fc.assert(
    fc.property(pipeline, fc.array(fc.nat(), { maxLength: 40 }), (input, cuts) => {
      assert.deepEqual(runSplit(input, cuts), runSplit(input, []));
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('a pipeline gives the same replies byte by byte', () => {
  fc.assert(
    fc.property(pipeline, (input) => {
      const whole = input.subarray(0, 2000);
      assert.deepEqual(runSplit(whole, Array.from(whole.keys())), runSplit(whole, []));
    }),
    { seed: SEED, numRuns: 40 },
  );
});

test('random bytes never throw, and are the same however they are split', () => {
  const noise = fc.oneof(
    bytes(300),
    // bytes that look like requests
    fc
      .array(
        fc.constantFrom(
          '*',
          '$',
          '\r\n',
          '\n',
          '\r',
          '0',
          '1',
          '3',
          '-1',
          '99999999999',
          '"',
          "'",
          '\\x',
          'GET',
          'SET',
          'a',
          ' ',
          '\0',
          ':',
          '*1\r\n$4\r\nPING\r\n',
        ),
        { maxLength: 60 },
      )
      .map((parts) => Buffer.from(parts.join(''), 'latin1')),
  );
  fc.assert(
    fc.property(noise, fc.array(fc.nat(), { maxLength: 10 }), (input, cuts) => {
      assert.deepEqual(runSplit(Buffer.from(input), cuts), runSplit(Buffer.from(input), []));
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('damaged requests never throw, and what is held stays within what has arrived', () => {
  const damage = fc.tuple(
    pipeline,
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 5 }),
    fc.nat(),
  );
  fc.assert(
    fc.property(damage, ([input, changes, cut]) => {
      const damaged = Buffer.from(input);
      if (damaged.length === 0) return;
      for (const [at, byte] of changes) damaged[at % damaged.length] = byte;
      const truncated = damaged.subarray(0, 1 + (cut % damaged.length));
      const kv = createTestEngine();
      const { session, sink } = kv.client;
      for (let at = 0; at < truncated.length; at += 100) {
        kv.engine.run(session, truncated, at, Math.min(at + 100, truncated.length), sink.writer);
        assert.ok(session.pending === null || session.pending.bytes.length <= Math.max(1024, truncated.length * 4));
      }
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('a large value in many pieces is looked at once and held once', () => {
  const kv = createTestEngine();
  const { session, sink } = kv.client;
  const value = Buffer.alloc(20_000_000, 'v');
  const request = encodeRequest(['SET', 'big', value]);
  for (let at = 0; at < request.length; at += 16384) {
    kv.engine.run(session, request, at, Math.min(at + 16384, request.length), sink.writer);
    assert.ok((session.pending?.bytes.length ?? 0) <= Math.max(1024, 2 * (at + 16384)));
  }
  assert.equal(sink.take().toString(), '+OK\r\n');
  assert.equal(session.pending, null);
  assert.equal(kv.call('STRLEN', 'big'), ':20000000\r\n');
  assert.equal(kv.call('GETRANGE', 'big', 19_999_998, -1), '$2\r\nvv\r\n');
});

test('a claim of a large bulk takes no memory until the bytes come', () => {
  const assembler = new Assembler();
  const limits = { bulkMax: 512 * 1048576, requestMax: 1024 * 1048576 };
  const head = Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc');
  assert.equal(assembler.feed(head, 0, head.length, limits), head.length);
  assert.equal(assembler.error, '');
  assert.ok(assembler.bytes.length <= 1024);
});

test('many arguments in many pieces run', () => {
  const kv = createTestEngine();
  const { session, sink } = kv.client;
  const args = ['MSET', ...Array.from({ length: 40_000 }, (_, i) => `key:${i >> 1}`)];
  const request = encodeRequest(args);
  for (let at = 0; at < request.length; at += 4096)
    kv.engine.run(session, request, at, Math.min(at + 4096, request.length), sink.writer);
  assert.equal(sink.take().toString(), '+OK\r\n');
  assert.equal(kv.call('DBSIZE'), ':20000\r\n');
});

const errors: readonly [name: string, input: string, reply: string][] = [
  ['a bulk length that is no number', '*1\r\n$x\r\n', 'invalid bulk length'],
  ['a negative bulk length', '*1\r\n$-1\r\n', 'invalid bulk length'],
  ['a bulk length over the limit', '*2\r\n$3\r\nGET\r\n$536870913\r\n', 'invalid bulk length'],
  ['a count that is no number', '*x\r\n', 'invalid multibulk length'],
  ['a count over the limit', '*1048577\r\n', 'invalid multibulk length'],
  ['something else than a bulk', '*1\r\n:1\r\n', "expected '$', got ':'"],
  ['an unbalanced quote', 'SET "a b\r\n', 'unbalanced quotes in request'],
  ['a quote closed within a word', 'SET "a"b\r\n', 'unbalanced quotes in request'],
  ['an inline request too long', 'a'.repeat(LINE_MAX + 1), 'too big inline request'],
  ['a count too long', `*${'1'.repeat(LINE_MAX + 1)}`, 'too big mbulk count string'],
  ['a bulk length too long', `*1\r\n$${'1'.repeat(LINE_MAX + 1)}`, 'too big bulk count string'],
];

for (const [name, input, reply] of errors) {
  test(`${name} is answered and ends the session`, () => {
    const kv = createTestEngine();
    const out = kv.client.send(Buffer.from(`PING\r\n${input}`)).toString();
    assert.equal(out, `+PONG\r\n-ERR Protocol error: ${reply}\r\n`);
    assert.equal(kv.client.session.closing, true);
    assert.equal(kv.client.send(Buffer.from('PING\r\n')).toString(), '', 'nothing runs afterwards');
  });
}

test('a request over client-query-buffer-limit ends the session', () => {
  const kv = createTestEngine();
  assert.equal(kv.call('CONFIG', 'SET', 'client-query-buffer-limit', '1mb'), '+OK\r\n');
  const out = kv.client.send(Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n')).toString();
  assert.equal(out, '-ERR Protocol error: request exceeds client-query-buffer-limit\r\n');
  assert.equal(kv.client.session.closing, true);
});

test('when the sink asks to stop, the rest of the input waits', () => {
  const kv = createTestEngine();
  const sink = new MemorySink(512);
  const { session } = kv.connect(sink);
  kv.call('SET', 'k', 'v'.repeat(400));
  const input = Buffer.from('GET k\r\n'.repeat(10));
  const next = sink.next.bind(sink);
  sink.next = (writer) => {
    writer.stop = true;
    return next(writer);
  };
  let at = 0;
  let calls = 0;
  let replies = '';
  while (at < input.length) {
    sink.writer.stop = false;
    at = kv.engine.run(session, input, at, input.length, sink.writer);
    replies += sink.take().toString();
    calls++;
  }
  assert.equal(replies, `$400\r\n${'v'.repeat(400)}\r\n`.repeat(10));
  assert.ok(calls > 5, `${calls} calls`);
});

test('a reader over its output limit ends, and takes no more memory', () => {
  const kv = createTestEngine();
  const client = kv.connect(new MemorySink(1024, 100_000));
  kv.call('SET', 'k', 'v'.repeat(1_000_000));
  const input = Buffer.from('GET k\r\n'.repeat(10));
  assert.equal(kv.engine.run(client.session, input, 0, input.length, client.sink.writer), input.length);
  assert.equal(client.session.closing, true);
  assert.ok(client.sink.take().length <= 102_000);
});
