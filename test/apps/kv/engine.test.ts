/**
 * Sessions of the engine: transactions and watches between clients, replies off and on, kills, resets, RESP3.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../../../src/apps/kv/engine.ts';
import type { Session } from '../../../src/apps/kv/session.ts';
import { createTestEngine, encodeRequest, MemorySink, seededRandom, TestClient } from './harness.ts';

test('a transaction runs as one, with a reply for each command', () => {
  const kv = createTestEngine();
  assert.equal(kv.call('MULTI'), '+OK\r\n');
  assert.equal(kv.call('SET', 'a', '1'), '+QUEUED\r\n');
  assert.equal(kv.call('INCR', 'a'), '+QUEUED\r\n');
  assert.equal(kv.call('GET', 'a'), '+QUEUED\r\n');
  assert.equal(kv.connect().call('GET', 'a'), '$-1\r\n');
  assert.equal(kv.call('EXEC'), '*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n');
  assert.equal(kv.call('EXEC'), '-ERR EXEC without MULTI\r\n');
});

test('a command that cannot be queued aborts the transaction; one that fails does not', () => {
  const kv = createTestEngine();
  kv.call('MULTI');
  assert.match(kv.call('NOSUCH'), /^-ERR unknown command/);
  kv.call('SET', 'a', '1');
  assert.equal(kv.call('EXEC'), '-EXECABORT Transaction discarded because of previous errors.\r\n');
  assert.equal(kv.call('GET', 'a'), '$-1\r\n');
  kv.call('MULTI');
  kv.call('SET', 'a', 'x');
  kv.call('INCR', 'a');
  kv.call('SET', 'b', 'y');
  assert.equal(kv.call('EXEC'), '*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n');
});

test('EXEC does nothing if a watched key changed, however it changed', () => {
  const changes: string[][] = [
    ['SET', 'k', 'v2'],
    ['DEL', 'k'],
    ['APPEND', 'k', 'x'],
    ['EXPIRE', 'k', '100'],
    ['RENAME', 'k', 'other'],
    ['RENAME', 'source', 'k'],
    ['COPY', 'source', 'k', 'REPLACE'],
    ['MOVE', 'k', '1'],
    ['FLUSHDB'],
    ['FLUSHALL'],
    ['SWAPDB', '0', '1'],
    ['MSET', 'x', '1', 'k', '2'],
    ['SETBIT', 'k', '0', '1'],
    ['GETDEL', 'k'],
    ['GETEX', 'k', 'EX', '10'],
  ];
  for (const change of changes) {
    const kv = createTestEngine();
    kv.call('SET', 'k', 'v');
    kv.call('SET', 'source', 's');
    const other = kv.connect();
    kv.call('WATCH', 'unrelated', 'k');
    other.call(...change);
    kv.call('MULTI');
    kv.call('SET', 'done', '1');
    assert.equal(kv.call('EXEC'), '*-1\r\n', change.join(' '));
    assert.equal(kv.call('GET', 'done'), '$-1\r\n');
    kv.call('MULTI');
    assert.equal(kv.call('EXEC'), '*0\r\n', 'the watch has ended');
  }
});

test('reading a watched key, or changing it elsewhere, is no change', () => {
  const kv = createTestEngine();
  kv.call('SET', 'k', 'v');
  const other = kv.connect();
  kv.call('WATCH', 'k');
  other.call('GET', 'k');
  other.call('SELECT', '1');
  other.call('SET', 'k', 'other database');
  other.call('DEL', 'nosuch');
  kv.call('MULTI');
  kv.call('PING');
  assert.equal(kv.call('EXEC'), '*1\r\n+PONG\r\n');
});

test('a watched key that expires or is evicted is a change', () => {
  const kv = createTestEngine();
  kv.call('SET', 'k', 'v', 'PX', '100');
  kv.call('WATCH', 'k');
  kv.now += 101;
  kv.call('MULTI');
  assert.equal(kv.call('EXEC'), '*-1\r\n');
  kv.call('SET', 'k', 'v', 'PX', '100');
  kv.now += 101;
  kv.call('WATCH', 'k');
  kv.call('MULTI');
  assert.equal(kv.call('EXEC'), '*0\r\n', 'it had expired before the watch');
  kv.call('SET', 'k', 'v'.repeat(1000));
  kv.call('WATCH', 'k');
  kv.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random', 'maxmemory', '1000');
  kv.engine.cron();
  kv.call('MULTI');
  assert.equal(kv.call('EXEC'), '*-1\r\n');
});

test('UNWATCH, DISCARD and closing forget the watches', () => {
  const kv = createTestEngine();
  const other = kv.connect();
  for (const forget of [['UNWATCH'], ['MULTI', 'DISCARD']]) {
    kv.call('WATCH', 'k');
    other.call('SET', 'k', 'v');
    for (const command of forget) kv.call(command);
    kv.call('MULTI');
    assert.equal(kv.call('EXEC'), '*0\r\n');
  }
  kv.call('WATCH', 'k');
  kv.engine.closeSession(kv.client.session);
  assert.equal(kv.engine.watchers.any, false);
  assert.equal(kv.engine.sessions.size, 1);
});

test('CLIENT REPLY turns replies off, on, and skips one', () => {
  const kv = createTestEngine();
  assert.equal(kv.call('CLIENT', 'REPLY', 'OFF'), '');
  assert.equal(kv.call('SET', 'k', 'v'), '');
  assert.equal(kv.call('GET', 'k'), '');
  assert.equal(kv.call('CLIENT', 'REPLY', 'ON'), '+OK\r\n');
  assert.equal(kv.call('GET', 'k'), '$1\r\nv\r\n');
  assert.equal(kv.call('CLIENT', 'REPLY', 'SKIP'), '');
  assert.equal(kv.call('GET', 'k'), '');
  assert.equal(kv.call('GET', 'k'), '$1\r\nv\r\n');
});

test('CLIENT KILL ends other sessions, and tells the server', () => {
  const killed: Session[] = [];
  const engine = new Engine({ now: () => 1000, random: seededRandom(1), onKill: (session) => killed.push(session) });
  const a = new TestClient(engine, new MemorySink());
  const b = new TestClient(engine, new MemorySink());
  assert.equal(a.call('CLIENT', 'KILL', 'ID', b.session.id), ':1\r\n');
  assert.deepEqual(killed, [b.session]);
  assert.equal(b.call('PING'), '', 'nothing runs for it');
  assert.equal(a.call('CLIENT', 'KILL', 'ID', a.session.id, 'SKIPME', 'no'), ':1\r\n');
  assert.equal(a.session.closing, true);
});

test('CLIENT LIST and INFO describe the sessions', () => {
  const kv = createTestEngine();
  const other = kv.connect();
  other.call('CLIENT', 'SETNAME', 'second');
  other.call('SELECT', '3');
  other.call('CLIENT', 'SETINFO', 'LIB-NAME', 'lib');
  kv.now += 5000;
  const lines = kv
    .call('CLIENT', 'LIST')
    .split('\n')
    .filter((line) => line.startsWith('id='));
  assert.equal(lines.length, 2);
  assert.match(
    lines[1]!,
    /^id=2 addr=127\.0\.0\.1:1 laddr=127\.0\.0\.1:2 fd=-1 name=second age=5 idle=5 flags=N db=3 .*cmd=client\|setinfo .*lib-name=lib/,
  );
  assert.equal(kv.call('CLIENT', 'GETNAME'), '$-1\r\n');
  assert.equal(other.call('CLIENT', 'ID'), ':2\r\n');
  assert.match(kv.call('INFO', 'clients'), /connected_clients:2\r\n/);
});

test('HELLO 3 changes the protocol, RESET brings everything back', () => {
  const kv = createTestEngine();
  assert.match(kv.call('HELLO', '3', 'SETNAME', 'me'), /^%7\r\n/);
  assert.equal(kv.call('GET', 'nosuch'), '_\r\n');
  assert.match(kv.call('CONFIG', 'GET', 'maxmemory'), /^%1\r\n/);
  kv.call('SELECT', '5');
  kv.call('MULTI');
  assert.equal(kv.call('RESET'), '+RESET\r\n');
  assert.equal(kv.call('GET', 'nosuch'), '$-1\r\n');
  assert.match(kv.call('CLIENT', 'INFO'), / name= .* db=0 .* multi=-1 .* resp=2 /);
});

test('QUIT answers and ends, whatever follows', () => {
  const kv = createTestEngine();
  const input = Buffer.concat([encodeRequest(['QUIT']), encodeRequest(['PING'])]);
  assert.equal(kv.client.send(input).toString(), '+OK\r\n');
  assert.equal(kv.client.session.closing, true);
});

test('CONFIG SET sets all of its parameters or none', () => {
  const kv = createTestEngine();
  assert.match(kv.call('CONFIG', 'SET', 'maxmemory', '5mb', 'maxmemory-samples', 'x'), /^-ERR CONFIG SET failed/);
  assert.match(kv.call('CONFIG', 'GET', 'maxmemory'), /\$1\r\n0\r\n$/);
  assert.equal(kv.call('CONFIG', 'SET', 'maxmemory', '5mb', 'maxmemory-policy', 'ALLKEYS-LRU'), '+OK\r\n');
  assert.equal(kv.call('CONFIG', 'GET', 'maxmemory'), '*2\r\n$9\r\nmaxmemory\r\n$7\r\n5242880\r\n');
  assert.match(kv.call('CONFIG', 'GET', 'MAXMEMORY-P*'), /allkeys-lru/);
});

test('COMMAND describes what there is', () => {
  const kv = createTestEngine();
  const count = Number(kv.call('COMMAND', 'COUNT').slice(1));
  assert.ok(count > 100, `${count} commands`);
  assert.match(
    kv.call('COMMAND', 'INFO', 'get'),
    /^\*1\r\n\*10\r\n\$3\r\nget\r\n:2\r\n\*2\r\n\+readonly\r\n\+fast\r\n:1\r\n:1\r\n:1\r\n/,
  );
  assert.match(kv.call('COMMAND', 'DOCS', 'get'), /summary/);
  assert.equal(kv.call('COMMAND', 'GETKEYS', 'MSET', 'a', '1', 'b', '2'), '*2\r\n$1\r\na\r\n$1\r\nb\r\n');
  assert.equal(kv.call('COMMAND', 'INFO', 'nosuch'), '*1\r\n$-1\r\n');
});

test('INFO names what clients look for', () => {
  const kv = createTestEngine();
  kv.call('SET', 'k', 'v');
  const info = kv.call('INFO');
  for (const line of [
    'redis_version:7.0.15',
    'loading:0',
    'role:master',
    'db0:keys=1,expires=0,avg_ttl=0',
    'cluster_enabled:0',
  ]) {
    assert.ok(info.includes(`${line}\r\n`), line);
  }
  assert.match(kv.call('INFO', 'commandstats'), /cmdstat_set:calls=1,/);
});

test('facts of the server appear in INFO', () => {
  const engine = new Engine({
    now: () => 1,
    random: seededRandom(1),
    facts: () => ({ server: { tcp_port: 6379 }, cpu: { used_cpu_user: '1.5' } }),
  });
  const info = new TestClient(engine, new MemorySink()).call('INFO');
  assert.ok(info.includes('tcp_port:6379\r\n') && info.includes('# CPU\r\nused_cpu_user:1.5\r\n'));
});

test('sixty-four bits count exactly', () => {
  const kv = createTestEngine();
  kv.call('SET', 'n', '9007199254740990');
  for (const expected of ['9007199254740991', '9007199254740992', '9007199254740993', '9007199254740994']) {
    assert.equal(kv.call('INCR', 'n'), `:${expected}\r\n`);
  }
  assert.equal(kv.call('INCRBY', 'n', '9214364837600034813'), ':9223372036854775807\r\n');
  assert.equal(kv.call('INCR', 'n'), '-ERR increment or decrement would overflow\r\n');
  assert.equal(kv.call('DECRBY', 'n', '9223372036854775807'), ':0\r\n');
});

test('TIME has microseconds', () => {
  const engine = new Engine({ now: () => 1_700_000_000_123.5, random: seededRandom(1) });
  assert.equal(new TestClient(engine, new MemorySink()).call('TIME'), '*2\r\n$10\r\n1700000000\r\n$6\r\n123500\r\n');
});

test('a pipeline over a large keyspace is answered as one command after the other would be, wherever it is cut', () => {
  const random = seededRandom(7);
  const engine = new Engine({ now: () => 1, random });
  const kv = new TestClient(engine, new MemorySink());
  // enough keys that the look-ahead at the table is worthwhile
  for (let i = 0; i < 50_000; i++) kv.call('SET', `key:${i}`, `value ${i}`);
  const requests: Buffer[] = [];
  const replies: string[] = [];
  for (let i = 0; i < 200; i++) {
    const key = random() % 60_000;
    const value = `value ${key}`;
    requests.push(encodeRequest(i % 5 === 4 ? ['PING'] : ['GET', `key:${key}`]));
    replies.push(i % 5 === 4 ? '+PONG\r\n' : key < 50_000 ? `$${value.length}\r\n${value}\r\n` : '$-1\r\n');
  }
  const input = Buffer.concat(requests);
  for (let cut = 0; cut < 40; cut++) {
    const at = random() % input.length;
    const answered = Buffer.concat([kv.send(input.subarray(0, at)), kv.send(input.subarray(at))]);
    assert.equal(answered.toString(), replies.join(''));
  }
});
