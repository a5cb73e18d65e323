/**
 * Expiry, eviction and the account of memory, through the engine, with a clock and dice of the test's own.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestEngine, type TestEngine } from '../harness.ts';

function fill(kv: TestEngine, count: number, options: { bytes?: number; prefix?: string; args?: string[] } = {}): void {
  const value = 'v'.repeat(options.bytes ?? 100);
  for (let i = 0; i < count; i++) kv.call('SET', `${options.prefix ?? 'key'}:${i}`, value, ...(options.args ?? []));
}

function present(kv: TestEngine, count: number, prefix = 'key'): number {
  let found = 0;
  for (let i = 0; i < count; i++)
    if (kv.engine.store.keyspaces[0]!.peek(Buffer.from(`${prefix}:${i}`), 0, `${prefix}:${i}`.length) !== 0) found++;
  return found;
}

function statistic(kv: TestEngine, name: string): string {
  return new RegExp(`${name}:(.*)\r`).exec(kv.call('INFO', 'all'))![1]!;
}

test('a key is there until its time has passed, not longer', () => {
  const kv = createTestEngine();
  kv.call('SET', 'k', 'v', 'PX', 1000);
  kv.now += 1000;
  assert.equal(kv.call('GET', 'k'), '$1\r\nv\r\n');
  assert.equal(kv.call('PTTL', 'k'), ':0\r\n');
  kv.now += 1;
  for (const command of [['GET', 'k'], ['STRLEN', 'k'], ['TTL', 'k'], ['EXISTS', 'k'], ['DBSIZE']]) {
    assert.match(kv.call(...command), /^(\$-1|:0|:-2)\r\n$/);
  }
  assert.equal(statistic(kv, 'expired_keys'), '1');
});

test('every way of writing over an expired key begins anew', () => {
  const writes: [string[], string][] = [
    [['APPEND', 'k', 'b'], ':1\r\n'],
    [['INCR', 'k'], ':1\r\n'],
    [['SETRANGE', 'k', '1', 'b'], ':2\r\n'],
    [['SETNX', 'k', 'b'], ':1\r\n'],
    [['SET', 'k', 'b', 'KEEPTTL'], '+OK\r\n'],
    [['SET', 'k', 'b', 'NX'], '+OK\r\n'],
    [['SETBIT', 'k', '0', '1'], ':0\r\n'],
    [['GETSET', 'k', 'b'], '$-1\r\n'],
  ];
  for (const [command, reply] of writes) {
    const kv = createTestEngine();
    kv.call('SET', 'k', '77', 'EX', 10);
    kv.now += 10_001;
    assert.equal(kv.call(...command), reply, command.join(' '));
    assert.equal(kv.call('TTL', 'k'), ':-1\r\n', command.join(' '));
  }
});

test('cron removes expired keys that nobody asks for, a bounded number per call', () => {
  const kv = createTestEngine();
  fill(kv, 5000, { args: ['PX', '10'] });
  fill(kv, 1000, { prefix: 'stays' });
  fill(kv, 1000, { prefix: 'later', args: ['EX', '1000'] });
  kv.now += 11;
  kv.engine.cron();
  const after = kv.engine.store.keyspaces[0]!.count;
  assert.ok(after < 7000 && after > 4000, `${after} after one call`);
  for (let i = 0; i < 100; i++) kv.engine.cron();
  const { count, expiry } = kv.engine.store.keyspaces[0]!;
  assert.ok(count >= 2000 && count < 2200, `${count} keys`);
  assert.ok(expiry.count >= 1000 && expiry.count < 1200, `${expiry.count} that expire`);
  assert.equal(present(kv, 1000, 'stays'), 1000);
  assert.equal(present(kv, 1000, 'later'), 1000);
});

test('the list of keys that expire keeps up with every change', () => {
  const kv = createTestEngine({ seed: 5 });
  const { expiry } = kv.engine.store.keyspaces[0]!;
  const random = kv.engine.options.random;
  const expected = new Map<string, boolean>();
  for (let i = 0; i < 30_000; i++) {
    const key = `k${random() % 300}`;
    const size = 'x'.repeat(random() % 200);
    const choice = random() % 8;
    if (choice === 0) {
      kv.call('SET', key, size);
      expected.set(key, false);
    } else if (choice === 1) {
      kv.call('SET', key, size, 'EX', 100);
      expected.set(key, true);
    } else if (choice === 2) {
      if (kv.call('EXPIRE', key, 50) === ':1\r\n') expected.set(key, true);
    } else if (choice === 3) {
      if (kv.call('PERSIST', key) === ':1\r\n') expected.set(key, false);
    } else if (choice === 4) {
      kv.call('DEL', key);
      expected.delete(key);
    } else if (choice === 5) {
      kv.call('APPEND', key, size);
      if (!expected.has(key)) expected.set(key, false);
    } else if (choice === 6) {
      const to = `k${random() % 300}`;
      if (to !== key && kv.call('RENAME', key, to) === '+OK\r\n') {
        expected.set(to, expected.get(key)!);
        expected.delete(key);
      }
    } else {
      kv.call('SET', key, size, 'KEEPTTL');
      if (!expected.has(key)) expected.set(key, false);
    }
  }
  assert.equal(expiry.count, [...expected.values()].filter(Boolean).length);
  for (const [key, expires] of expected) assert.equal(kv.call('TTL', key) !== ':-1\r\n', expires, key);
  const { arena } = kv.engine.store;
  assert.equal(arena.used, kv.engine.store.keyspaces[0]!.dict.entryBytes);
});

test('without a policy writes are refused at the limit, reads and deletions are not', () => {
  const kv = createTestEngine();
  kv.call('CONFIG', 'SET', 'maxmemory', '200kb');
  let i = 0;
  while (kv.call('SET', `key:${i}`, 'v'.repeat(1000)) === '+OK\r\n') assert.ok(++i < 1000);
  const oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
  assert.equal(kv.call('SET', 'more', 'v'), oom);
  assert.equal(kv.call('APPEND', 'key:0', 'v'), oom);
  assert.equal(kv.call('GET', 'key:0').length, 1000 + 9);
  assert.equal(kv.call('MULTI'), '+OK\r\n');
  assert.equal(kv.call('SET', 'more', 'v'), oom);
  assert.match(kv.call('EXEC'), /^-EXECABORT/);
  for (let j = 0; j < 10; j++) assert.equal(kv.call('DEL', `key:${j}`), ':1\r\n');
  assert.equal(kv.call('SET', 'more', 'v'), '+OK\r\n');
});

for (const policy of ['allkeys-lru', 'allkeys-lfu', 'allkeys-random']) {
  test(`${policy} keeps the data under the limit`, () => {
    const kv = createTestEngine();
    kv.call('CONFIG', 'SET', 'maxmemory', '1mb', 'maxmemory-policy', policy);
    for (let i = 0; i < 10_000; i++) {
      assert.equal(kv.call('SET', `key:${i}`, 'v'.repeat(500)), '+OK\r\n');
      assert.ok(kv.engine.store.memory() < 1048576 + 2000);
    }
    assert.ok(kv.engine.store.keyspaces[0]!.count > 1000);
    assert.ok(Number(statistic(kv, 'evicted_keys')) > 7000);
    assert.ok(kv.engine.store.arena.committed < 3 * 1048576, 'freed memory is used again');
  });
}

test('allkeys-lru evicts what was used longest ago', () => {
  const kv = createTestEngine();
  fill(kv, 1000, { bytes: 500, prefix: 'old' });
  kv.now += 60_000;
  fill(kv, 1000, { bytes: 500, prefix: 'new' });
  kv.now += 60_000;
  for (let i = 0; i < 200; i++) kv.call('GET', `old:${i}`);
  const { store } = kv.engine;
  kv.call(
    'CONFIG',
    'SET',
    'maxmemory-policy',
    'allkeys-lru',
    'maxmemory',
    String(store.memory() - 400 * 540),
    'maxmemory-samples',
    '10',
  );
  kv.call('SET', 'one', 'more');
  assert.ok(store.memory() <= kv.engine.config.maxmemory);
  assert.ok(present(kv, 200, 'old') >= 199, 'what was read again stays');
  assert.ok(present(kv, 1000, 'new') >= 980, `${present(kv, 1000, 'new')} of the newer stay`);
});

test('allkeys-lfu evicts what is used least often', () => {
  const kv = createTestEngine();
  kv.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lfu');
  fill(kv, 1000, { bytes: 500 });
  for (let round = 0; round < 50; round++) for (let i = 0; i < 100; i++) kv.call('GET', `key:${i}`);
  assert.ok(
    Number(kv.call('OBJECT', 'FREQ', 'key:1').slice(1)) > Number(kv.call('OBJECT', 'FREQ', 'key:999').slice(1)),
  );
  const { store } = kv.engine;
  kv.call('CONFIG', 'SET', 'maxmemory', String(store.memory() - 500 * 540), 'maxmemory-samples', '10');
  kv.call('SET', 'one', 'more');
  assert.ok(present(kv, 100) >= 98, `${present(kv, 100)} of the often used stay`);
  assert.ok(present(kv, 1000) < 560);
});

test('an LFU counter decays with time', () => {
  const kv = createTestEngine();
  kv.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lfu');
  kv.call('SET', 'k', 'v');
  assert.equal(kv.call('OBJECT', 'FREQ', 'k'), ':5\r\n');
  kv.now += 3 * 60_000;
  assert.equal(kv.call('OBJECT', 'FREQ', 'k'), ':2\r\n');
  kv.now += 60 * 60_000;
  assert.equal(kv.call('OBJECT', 'FREQ', 'k'), ':0\r\n');
});

for (const policy of ['volatile-lru', 'volatile-lfu', 'volatile-random', 'volatile-ttl']) {
  test(`${policy} evicts only keys that expire, and then refuses`, () => {
    const kv = createTestEngine();
    fill(kv, 500, { bytes: 500, prefix: 'stays' });
    fill(kv, 500, { bytes: 500, args: ['EX', '1000'] });
    const { store } = kv.engine;
    kv.call('CONFIG', 'SET', 'maxmemory-policy', policy, 'maxmemory', String(store.memory() - 250 * 540));
    assert.equal(kv.call('SET', 'one', 'more'), '+OK\r\n');
    assert.ok(store.memory() <= kv.engine.config.maxmemory);
    assert.equal(present(kv, 500, 'stays'), 500);
    assert.ok(present(kv, 500) > 200);
    kv.call('CONFIG', 'SET', 'maxmemory', '100kb');
    assert.match(kv.call('SET', 'two', 'more'), /^(-OOM|\+OK)/);
    for (let i = 0; i < 10; i++) kv.engine.cron();
    assert.match(kv.call('SET', 'two', 'more'), /^-OOM/);
    assert.equal(present(kv, 500, 'stays'), 500);
    assert.equal(present(kv, 500), 0);
  });
}

test('volatile-ttl evicts what would end soonest', () => {
  const kv = createTestEngine();
  fill(kv, 300, { bytes: 500, prefix: 'late', args: ['EX', '10000'] });
  fill(kv, 300, { bytes: 500, prefix: 'soon', args: ['EX', '100'] });
  const { store } = kv.engine;
  kv.call(
    'CONFIG',
    'SET',
    'maxmemory-policy',
    'volatile-ttl',
    'maxmemory',
    String(store.memory() - 200 * 540),
    'maxmemory-samples',
    '10',
  );
  kv.call('SET', 'one', 'more');
  assert.ok(present(kv, 300, 'late') >= 297, `${present(kv, 300, 'late')} of the late stay`);
});

test('a lowered limit is reached in bounded steps', () => {
  const kv = createTestEngine();
  fill(kv, 5000, { bytes: 200 });
  kv.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru', 'maxmemory', '300kb');
  assert.equal(kv.call('SET', 'one', 'more'), '+OK\r\n');
  const after = kv.engine.store.keyspaces[0]!.count;
  assert.ok(after > 3000, `${after} after one command`);
  let calls = 0;
  while (kv.engine.store.memory() > kv.engine.config.maxmemory) {
    kv.engine.cron();
    assert.ok(++calls < 100);
  }
});

test('the account of memory follows the data and ends at nothing', () => {
  const kv = createTestEngine();
  const { store } = kv.engine;
  fill(kv, 2000, { bytes: 300, args: ['EX', '100'] });
  const full = store.memory();
  assert.ok(full > 2000 * 330 && full < 2000 * 480, `${full}`);
  kv.call('FLUSHALL');
  assert.equal(store.arena.used, 0);
  assert.ok(store.memory() < 100_000);
  fill(kv, 2000, { bytes: 300 });
  for (let i = 0; i < 2000; i++) kv.call('DEL', `key:${i}`);
  assert.equal(store.arena.used, 0);
  assert.ok(store.memory() < 1000, `${store.memory()} left`);
});

test('FLUSHDB frees bit by bit and leaves other databases alone', () => {
  const kv = createTestEngine();
  fill(kv, 3000);
  kv.call('SELECT', 1);
  kv.call('SET', 'other', 'v');
  kv.call('SELECT', 0);
  assert.equal(kv.call('FLUSHDB'), '+OK\r\n');
  assert.equal(kv.call('DBSIZE'), ':0\r\n');
  kv.call('SET', 'new', 'v');
  for (let i = 0; i < 10; i++) kv.engine.cron();
  assert.equal(kv.call('GET', 'new'), '$1\r\nv\r\n');
  kv.call('SELECT', 1);
  assert.equal(kv.call('GET', 'other'), '$1\r\nv\r\n');
  assert.equal(
    kv.engine.store.arena.used,
    kv.engine.store.keyspaces[0]!.dict.entryBytes + kv.engine.store.keyspaces[1]!.dict.entryBytes,
  );
});

test('SCAN returns every key that stays, whatever else happens', () => {
  const kv = createTestEngine();
  fill(kv, 2000, { bytes: 1, prefix: 'stays' });
  const seen = new Set<string>();
  let cursor = '0';
  let others = 0;
  do {
    const reply = kv.call('SCAN', cursor, 'COUNT', 20).split('\r\n');
    cursor = reply[2]!;
    for (const word of reply.slice(4)) if (word.startsWith('stays:')) seen.add(word);
    for (let i = 0; i < 100 && others < 5000; i++) kv.call('SET', `other:${others++}`, 'v');
  } while (cursor !== '0');
  assert.equal(seen.size, 2000);
});

test('keys that come and go while others are evicted leave everything consistent', () => {
  for (const policy of ['allkeys-lru', 'volatile-ttl']) {
    const kv = createTestEngine({ seed: 8 });
    kv.call('CONFIG', 'SET', 'maxmemory-policy', policy, 'maxmemory', '100kb');
    const { random } = kv.engine.options;
    const { store } = kv.engine;
    const keyspace = store.keyspaces[0]!;
    for (let i = 0; i < 30_000; i++) {
      const key = `k${random() % 400}`;
      // sizes that make one key take the place of another in the arena
      if (random() % 3 === 0) kv.call('DEL', key);
      else kv.call('SET', key, 'x'.repeat(100 * (1 + (random() % 8))), 'EX', 100 + (random() % 100));
      if (i % 1000 === 0) kv.now += 1000;
    }
    let entries = 0;
    for (let slot = keyspace.dict.first(); slot >= 0; slot = keyspace.dict.next(slot)) {
      const entry = keyspace.dict.entryAt(slot);
      const key = keyspace.keyOf(entry);
      assert.equal(keyspace.peek(key, 0, key.length), entry);
      entries++;
    }
    assert.equal(entries, keyspace.count);
    assert.equal(keyspace.expiry.count, keyspace.count);
    assert.equal(store.arena.used, keyspace.dict.entryBytes);
    assert.ok(store.evictedKeys > 1000, `${store.evictedKeys} evicted`);
  }
});

test('a collection that grows and shrinks is in the account', () => {
  const kv = createTestEngine();
  const { store } = kv.engine;
  kv.call('HSET', 'h', 'f', 'v');
  const before = store.memory();
  for (let i = 0; i < 1000; i++) kv.call('HSET', 'h', `field:${i}`, 'v'.repeat(100));
  assert.ok(store.memory() > before + 100_000, `${store.memory()} after ${before}`);
  kv.call('DEL', 'h');
  assert.equal(store.objectBytes, 0);
  assert.equal(store.objectCount, 0);
  assert.ok(store.memory() < before);
});
