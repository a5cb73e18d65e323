/**
 * What ioredis and redis (npm) do beyond single commands, against the key-value server and redis-server: pipelines, transactions,
 * scans, automatic pipelining, large values, binary keys, handshakes and ends. Each scenario's transcript must be the same.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { it } from 'node:test';
import { Redis, type RedisOptions } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';
import { overDatapaths, sharedServers } from '../support/app-servers.ts';
import { type Plain, plain } from './kv-session-run.ts';

const servers = sharedServers();

type Note = (what: string, value: unknown) => void;
/** Does things on a server and notes what it sees. */
type Scenario = (port: number, note: Note) => Promise<void>;

const host = '127.0.0.1';
const BINARY = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const LARGE = Buffer.alloc(10 << 20, BINARY);

function digest(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : createHash('sha256').update(bytes).digest('hex');
}

async function withIoredis(port: number, options: RedisOptions, use: (redis: Redis) => Promise<void>): Promise<void> {
  const redis = new Redis({ port, host, ...options });
  try {
    await use(redis);
  } finally {
    redis.disconnect();
  }
}

async function gather(stream: AsyncIterable<string[]>): Promise<string[]> {
  const all: string[] = [];
  for await (const part of stream) all.push(...part);
  return all;
}

/** Pairs of an alternating list, sorted. */
function pairs(list: readonly string[]): string[] {
  return list.flatMap((one, i) => (i % 2 === 0 ? [`${one}=${list[i + 1]}`] : [])).sort();
}

const ioredisScenarios: Readonly<Record<string, (protocol: 2 | 3) => Scenario>> = {
  'pipelines and transactions': (protocol) => (port, note) =>
    withIoredis(port, { protocol }, async (redis) => {
      await redis.flushall();
      note('pipeline', await redis.pipeline().set('a', 1).incr('a').get('a').lpush('a', 'x').get('none').exec());
      note('multi', await redis.multi().set('b', 1).incrby('b', 5).get('b').exec());
      note('multi with a wrong type', await redis.multi().set('c', 'text').incr('c').get('c').exec());
      note(
        'multi, refused',
        await redis
          .multi()
          .set('d', 1)
          .call('NOSUCH')
          .exec()
          .catch((error: Error) => error.message),
      );
      await withIoredis(port, { protocol }, async (other) => {
        await redis.watch('b');
        await other.set('b', 'changed');
        note('watched and changed', await redis.multi().set('b', 'mine').exec());
        await redis.watch('b');
        note('watched', await redis.multi().set('b', 'mine').exec());
      });
      const many = redis.pipeline();
      for (let i = 0; i < 3000; i++) many.set(`key:${i}`, i);
      note('3,000 in a pipeline', new Set((await many.exec())!.map(([error, reply]) => `${error} ${reply}`)));
      note('dbsize', await redis.dbsize());
    }),

  'automatic pipelining': (protocol) => (port, note) =>
    withIoredis(port, { protocol, enableAutoPipelining: true }, async (redis) => {
      await redis.flushall();
      const keys = Array.from({ length: 1000 }, (_, i) => `auto:${i}`);
      note('sets', new Set(await Promise.all(keys.map((key, i) => redis.set(key, i)))));
      note('gets', await Promise.all(keys.map((key) => redis.get(key))));
      note('counters', await Promise.all(keys.map(() => redis.incr('auto:counter'))));
    }),

  scans: (protocol) => (port, note) =>
    withIoredis(port, { protocol }, async (redis) => {
      await redis.flushall();
      const fill = redis.pipeline();
      for (let i = 0; i < 600; i++) {
        fill.set(`${i % 2 === 0 ? 'even' : 'odd'}:${i}`, i);
        fill
          .hset('hash', `f${i}`, i)
          .sadd('set', i)
          .zadd('zset', i / 4, `m${i}`);
      }
      await fill.exec();
      note('keys', (await gather(redis.scanStream({ count: 100 }))).sort());
      note('matching', (await gather(redis.scanStream({ match: 'odd:1*', count: 77 }))).sort());
      note('of a type', (await gather(redis.scanStream({ type: 'zset' }))).sort());
      note('hash', pairs(await gather(redis.hscanStream('hash', { count: 50 }))));
      note('set', (await gather(redis.sscanStream('set'))).sort());
      note('sorted set', pairs(await gather(redis.zscanStream('zset', { match: 'm1*' }))));
    }),

  'large values and binary keys': (protocol) => (port, note) =>
    withIoredis(port, { protocol }, async (redis) => {
      await redis.flushall();
      note('set', await redis.set('large', LARGE));
      note('get', digest(await redis.getBuffer('large')));
      note('strlen', await redis.strlen('large'));
      note('range', await redis.getrangeBuffer('large', 9_000_000, 9_000_300));
      note('append', await redis.append('large', BINARY));
      note('mget', (await redis.mgetBuffer('large', 'none', 'large')).map(digest));
      note('binary key', await redis.set(BINARY, BINARY));
      note('binary value', await redis.getBuffer(BINARY));
      note('binary field', await redis.hset('h', BINARY, LARGE));
      note('binary hash', digest((await redis.hgetBuffer('h', BINARY))!));
    }),

  'connections: names, databases, prefixes, quitting': (protocol) => async (port, note) => {
    await withIoredis(port, { protocol, connectionName: 'tester', db: 3, keyPrefix: 'app:' }, async (redis) => {
      await redis.flushall();
      note('name', await redis.client('GETNAME'));
      note('set', await redis.set('k', 'v', 'EX', 100));
      note('keys', await redis.keys('*'));
      note('select', await redis.select(0));
      note('elsewhere', await redis.get('k'));
      note('quit', await redis.quit());
    });
    const redis = new Redis({ port, host, protocol, lazyConnect: true });
    const events: string[] = [];
    for (const event of ['connect', 'ready', 'close', 'end']) redis.on(event, () => events.push(event));
    await redis.connect();
    note('ping', await redis.ping());
    const ended = new Promise((resolve) => redis.once('end', resolve));
    note('quit', await redis.quit());
    await ended;
    note('events', events);
  },
};

const nodeRedisScenarios: Readonly<Record<string, (protocol: 2 | 3) => Scenario>> = {
  'typed commands': (protocol) => async (port, note) => {
    const client = createClient({ socket: { port, host }, RESP: protocol, name: 'typed' });
    client.on('error', () => {});
    await client.connect();
    try {
      await client.flushAll();
      note('name', await client.clientGetName());
      note('set', await client.set('k', 'v', { expiration: { type: 'EX', value: 100 }, condition: 'NX' }));
      note('set again', await client.set('k', 'w', { condition: 'NX' }));
      note('set get', await client.set('k', 'w', { GET: true }));
      note('mget', await client.mGet(['k', 'none']));
      note('incr', [await client.incr('n'), await client.incrBy('n', 41), await client.incrByFloat('f', 1.5)]);
      note('hset', await client.hSet('h', { a: '1', b: '2' }));
      note('hgetall', { ...(await client.hGetAll('h')) });
      note('push', await client.rPush('l', ['a', 'b', 'c']));
      note('range', await client.lRange('l', 0, -1));
      note('sadd', await client.sAdd('s', ['x', 'y']));
      note('smembers', [...(await client.sMembers('s'))].sort());
      note(
        'zadd',
        await client.zAdd('z', [
          { score: 1, value: 'a' },
          { score: 2.5, value: 'b' },
        ]),
      );
      note('zrange', await client.zRangeWithScores('z', 0, -1));
      note('zscore', await client.zScore('z', 'b'));
      note('exists', await client.exists(['k', 'h', 'none']));
      note('type', await client.type('z'));
      note('expire', [await client.expire('l', 50), await client.persist('l'), await client.ttl('l')]);
      note('copy', await client.copy('l', 'm'));
      note('wrong type', await client.get('h').catch((error: Error) => error.message));
      note('client', (await client.clientInfo()).name);
    } finally {
      await client.close();
    }
  },

  'transactions, scans and pipelines': (protocol) => async (port, note) => {
    const client = createClient({ socket: { port, host }, RESP: protocol });
    client.on('error', () => {});
    await client.connect();
    const other = await client
      .duplicate()
      .on('error', () => {})
      .connect();
    try {
      await client.flushAll();
      note('multi', await client.multi().set('a', '1').incr('a').hSet('h', 'f', 'v').hGetAll('h').exec());
      note(
        'a failure inside',
        await client
          .multi()
          .set('t', 'x')
          .incr('t')
          .exec()
          .catch((error: Error) => error.message),
      );
      await client.watch('a');
      await other.set('a', 'changed');
      note(
        'watched',
        await client
          .multi()
          .set('a', 'mine')
          .exec()
          .catch((error: Error) => error.constructor.name),
      );
      note('pipeline', await client.multi().set('p', '1').get('p').execAsPipeline());
      const keys = Array.from({ length: 2000 }, (_, i) => `key:${i}`);
      note('written at once', new Set(await Promise.all(keys.map((key) => client.set(key, key)))));
      const found: string[] = [];
      for await (const part of client.scanIterator({ MATCH: 'key:*', COUNT: 200 })) found.push(...part);
      note('scanned', found.sort());
      await client.hSet('big', Object.fromEntries(keys.map((key) => [key, 'v'])));
      const fields: string[] = [];
      for await (const part of client.hScanIterator('big')) fields.push(...part.map(({ field }) => field));
      note('hash scanned', fields.sort());
    } finally {
      client.destroy();
      other.destroy();
    }
  },

  'large values and binary keys': (protocol) => async (port, note) => {
    const client = createClient({ socket: { port, host }, RESP: protocol });
    client.on('error', () => {});
    await client.connect();
    const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    try {
      await client.flushAll();
      note('set', await client.set('large', LARGE));
      note('get', digest(await buffers.get('large')));
      note('binary', await client.set(BINARY, BINARY));
      note('binary back', await buffers.get(BINARY));
      note('at once', new Set((await Promise.all(Array.from({ length: 4 }, () => buffers.get('large')))).map(digest)));
    } finally {
      client.destroy();
    }
  },
};

async function transcript(scenario: Scenario, port: number): Promise<Plain[]> {
  const notes: Plain[] = [];
  await scenario(port, (what, value) => notes.push([what, plain(value)]));
  return notes;
}

overDatapaths('client libraries', (datapath) => {
  for (const [library, scenarios] of [
    ['ioredis', ioredisScenarios],
    ['redis (npm)', nodeRedisScenarios],
  ] as const) {
    for (const [name, scenario] of Object.entries(scenarios)) {
      for (const protocol of [2, 3] as const) {
        it(`${library}: ${name}, RESP${protocol}`, async (t) => {
          const pair = await servers.pair(t, datapath);
          if (pair === null) return;
          const [ours, theirs] = await Promise.all([
            transcript(scenario(protocol), pair.isthmus.port),
            transcript(scenario(protocol), pair.redis.port),
          ]);
          assert.deepEqual(ours, theirs);
        });
      }
    }
  }
});
