/** The pure parts of the file library: paths, URLs, the gate, the uncommitted bytes, the name cache. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseFlags } from '../../../src/remote/files/flags.ts';
import { NameCache } from '../../../src/remote/files/name-cache.ts';
import { joinPath, parsePath } from '../../../src/remote/files/path.ts';
import { RangeGate } from '../../../src/remote/files/range-gate.ts';
import { toTime } from '../../../src/remote/files/stats.ts';
import { Uncommitted, type UncommittedWrite } from '../../../src/remote/files/uncommitted.ts';
import { parseNfsUrl } from '../../../src/remote/url.ts';

test('paths: components, absolute or not, directory or not', () => {
  const parse = (path: string | Buffer) => {
    const { components, absolute, directory } = parsePath(path, 'test');
    return [components.map((name) => Buffer.from(name).toString('latin1')), absolute, directory];
  };
  assert.deepEqual(parse('/'), [[], true, true]);
  assert.deepEqual(parse('a'), [['a'], false, false]);
  assert.deepEqual(parse('//a///b.c//'), [['a', 'b.c'], true, true]);
  assert.deepEqual(parse('./a/./..b/.'), [['a', '..b'], false, true]);
  assert.deepEqual(parse('a/..'), [['a', '..'], false, true]);
  assert.deepEqual(parse(Buffer.from([0x2f, 0xff, 0x2f, 0xc3])), [['\xff', '\xc3'], true, false]);
  assert.throws(() => parse(''), { code: 'ENOENT' });
  assert.throws(() => parse('a'.repeat(4096)), { code: 'ENAMETOOLONG' });
  assert.throws(() => parse('a\0b'), TypeError);
  assert.equal(joinPath('/', 'x'), '/x');
  assert.equal(joinPath('/a', 'x'), '/a/x');
  assert.deepEqual(joinPath(Buffer.from('a'), Buffer.from([0xff])), Buffer.from([0x61, 0x2f, 0xff]));
});

test('URLs: everything in its place, and what is wrong is said', () => {
  const url = parseNfsUrl('nfs://[::1]:2050/a%20b/%C3%A4?version=4.1&uid=5&gid=6&groups=7,8&mountport=9&timeout=3');
  assert.deepEqual(url, {
    host: '::1',
    port: 2050,
    path: '/a b/ä',
    version: '4.1',
    mountPort: 9,
    credential: { uid: 5, gid: 6, groups: [7, 8] },
    timeoutMs: 3000,
  });
  const plain = parseNfsUrl('nfs://server/');
  assert.deepEqual([plain.host, plain.port, plain.version, plain.path], ['server', undefined, null, '/']);
  assert.equal(plain.credential.uid, process.getuid?.());
  for (const wrong of [
    'http://a/b',
    'nfs:///x',
    'nonsense',
    'nfs://h/?version=2',
    'nfs://h/?uid=-1',
    'nfs://h/?x=1',
    'nfs://h/?groups=a',
  ]) {
    assert.throws(() => parseNfsUrl(wrong), TypeError, wrong);
  }
});

test('flags: as in node:fs', () => {
  const ones = (flags: string | number) =>
    Object.entries(parseFlags(flags))
      .filter(([, on]) => on)
      .map(([name]) => name);
  assert.deepEqual(ones('r'), ['read']);
  assert.deepEqual(ones('w+'), ['read', 'write', 'create', 'truncate']);
  assert.deepEqual(ones('ax'), ['write', 'append', 'create', 'exclusive']);
  assert.deepEqual(ones('rs+'), ['read', 'write', 'sync']);
  assert.throws(() => parseFlags('rw'), TypeError);
});

test('times: seconds, text and dates, before 1970 too', () => {
  assert.deepEqual(toTime(1.5), { seconds: 1, nanoseconds: 500_000_000 });
  assert.deepEqual(toTime('12'), { seconds: 12, nanoseconds: 0 });
  assert.deepEqual(toTime(new Date(-250)), { seconds: -1, nanoseconds: 750_000_000 });
  assert.throws(() => toTime('soon'), TypeError);
});

test('the gate: nothing passes a write it overlaps, everything goes in the end, in order where it matters', async () => {
  const access = fc.record({ start: fc.nat(20), length: fc.integer({ min: 1, max: 8 }), exclusive: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(access, { maxLength: 25 }), fc.scheduler(), async (list, s) => {
      const gate = new RangeGate();
      const inside = new Set<number>();
      const started: number[] = [];
      const overlap = (a: number, b: number) => {
        const [x, y] = [list[a]!, list[b]!];
        return x.start < y.start + y.length && y.start < x.start + x.length && (x.exclusive || y.exclusive);
      };
      const all = list.map(({ start, length, exclusive }, i) =>
        gate.run(start, start + length, exclusive, async () => {
          for (const other of inside) assert.ok(!overlap(i, other));
          inside.add(i);
          started.push(i);
          await s.schedule(Promise.resolve());
          inside.delete(i);
        }),
      );
      await Promise.all([s.waitIdle(), ...all]);
      assert.equal(started.length, list.length);
      assert.equal(gate.busy, 0);
      for (const [at, i] of started.entries()) {
        for (const j of started.slice(at + 1)) assert.ok(j > i || !overlap(i, j), `${j} was passed by ${i}`);
      }
    }),
    { numRuns: 60 },
  );
});

test('the gate lets the next in after a failure', async () => {
  const gate = new RangeGate();
  const failing = gate.run(0, 10, true, () => Promise.reject(new Error('no')));
  const next = gate.run(0, 10, true, () => Promise.resolve(7));
  await assert.rejects(failing, /no/);
  assert.equal(await next, 7);
});

test('uncommitted bytes: together they are what was last written and not yet committed', () => {
  const SIZE = 40;
  const step = fc.oneof(
    fc.record({
      op: fc.constant('add'),
      start: fc.nat(SIZE - 1),
      length: fc.integer({ min: 1, max: 10 }),
      verifier: fc.nat(1),
    }),
    fc.record({
      op: fc.constant('remove'),
      start: fc.nat(SIZE - 1),
      length: fc.integer({ min: 1, max: 10 }),
      verifier: fc.nat(1),
    }),
    fc.record({ op: fc.constant('snapshot'), start: fc.nat(), length: fc.nat(), verifier: fc.nat(1) }),
    fc.record({ op: fc.constant('commit'), start: fc.nat(), length: fc.nat(), verifier: fc.nat(1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const uncommitted = new Uncommitted();
      /** Byte to [value, verifier]; and what of it the last snapshot saw. */
      const model = new Map<number, readonly [number, number]>();
      let snapshot: readonly UncommittedWrite[] = [];
      let seen = new Map(model);
      for (const [i, { op, start, length, verifier }] of steps.entries()) {
        const end = Math.min(SIZE, start + length);
        if (op === 'add') {
          uncommitted.add(start, new Uint8Array(end - start).fill(i + 1), { high: 0, low: verifier });
          for (let at = start; at < end; at++) model.set(at, [i + 1, verifier]);
        } else if (op === 'remove') {
          uncommitted.remove(start, end);
          for (let at = start; at < end; at++) model.delete(at);
        } else if (op === 'snapshot') {
          snapshot = uncommitted.snapshot();
          seen = new Map(model);
        } else {
          uncommitted.committed(snapshot, { high: 0, low: verifier });
          // What is still exactly as the snapshot saw it is done; it may be kept where it was cut meanwhile.
          const kept = bytesOf(uncommitted);
          for (const [at, value] of model) {
            if (value[1] === verifier && seen.get(at) === value && !kept.has(at)) model.delete(at);
          }
          snapshot = [];
          seen = new Map();
        }
        assert.deepEqual(bytesOf(uncommitted), new Map([...model].sort(([a], [b]) => a - b)));
        assert.equal(uncommitted.bytes, model.size);
      }
    }),
  );
});

function bytesOf(uncommitted: Uncommitted): Map<number, readonly [number, number]> {
  const bytes: [number, readonly [number, number]][] = [];
  for (const { offset, data, verifier } of uncommitted.snapshot()) {
    for (const [i, value] of data.entries()) bytes.push([offset + i, [value, verifier.low]]);
  }
  assert.equal(new Set(bytes.map(([at]) => at)).size, bytes.length, 'no byte is kept twice');
  return new Map(bytes.sort(([a], [b]) => a - b));
}

test('the name cache: bounded in number and age, the least used goes first', () => {
  let now = 0;
  const cache = new NameCache(3, 100, () => now);
  const directory = Uint8Array.of(1);
  const found = (n: number) => ({ handle: Uint8Array.of(n), attributes: {} as never });
  for (const n of [1, 2, 3]) cache.set(directory, Uint8Array.of(n), found(n));
  assert.equal(cache.get(directory, Uint8Array.of(1))?.handle[0], 1);
  cache.set(directory, Uint8Array.of(4), found(4));
  assert.equal(cache.size, 3);
  assert.equal(cache.get(directory, Uint8Array.of(2)), null, 'the least recently used is gone');
  assert.equal(cache.get(Uint8Array.of(2), Uint8Array.of(1)), null, 'another directory is another name');
  now = 101;
  assert.equal(cache.get(directory, Uint8Array.of(1)), null, 'too old');
  cache.set(directory, Uint8Array.of(1), found(9));
  cache.delete(directory, Uint8Array.of(1));
  assert.equal(cache.get(directory, Uint8Array.of(1)), null);
});
