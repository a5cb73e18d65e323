/** Several connections used as one: when the second is made, that all answer, and that it can be missing. It touches loopback. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Procedure } from '../../../src/remote/rpc/message.ts';
import { RpcPool } from '../../../src/remote/rpc/pool.ts';
import { type FakeCall, FakeServer } from './fake-server.ts';

const DOUBLE: Procedure<number, number> = {
  name: 'DOUBLE',
  program: 77,
  version: 3,
  number: 5,
  idempotent: true,
  encode: (writer, n) => writer.u32(n),
  decode: (reader) => reader.u32(),
};

const double = (call: FakeCall): void => {
  const n = call.args.u32();
  call.reply((writer) => writer.u32(2 * n));
};

async function pool(t: TestContext, server: FakeServer): Promise<RpcPool> {
  const rpc = await RpcPool.connect({ host: '127.0.0.1', port: server.port, credential: null, timeoutMs: 30_000 });
  t.after(() => rpc.close());
  return rpc;
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

/** `depth` calls outstanding all the time, `count` in all. */
async function load(rpc: RpcPool, depth: number, count: number): Promise<number[]> {
  const results: number[] = [];
  let next = 0;
  const worker = async () => {
    for (let n = next++; n < count; n = next++) results[n] = await rpc.call(DOUBLE, n);
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return results;
}

test('few calls at once go over one connection, many over two', async (t) => {
  const server = await FakeServer.start(t, double);
  const rpc = await pool(t, server);
  await load(rpc, 4, 100);
  assert.deepEqual([rpc.size, server.connections], [1, 1]);
  const results = await load(rpc, 64, 2000);
  assert.deepEqual(
    results,
    numbers(2000).map((n) => 2 * n),
  );
  assert.deepEqual([rpc.size, server.connections], [2, 2]);
  const second = server.calls.filter((call) => call.connection === 2).length;
  assert.ok(second > 0, `${second} calls over the second connection`);
  assert.equal(rpc.counters.calls, 2100);
  assert.equal(rpc.counters.replays, 0);
  server.calls.length = 0;
  await load(rpc, 1, 20);
  assert.ok(
    server.calls.every((call) => call.connection === 1),
    'one at a time: always the first',
  );
});

test('both connections are lost: each sends again what it had sent', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    if (server.calls.length === 500) server.cut();
    else double(call);
  });
  const rpc = await pool(t, server);
  const results = await load(rpc, 64, 2000);
  assert.deepEqual(
    results,
    numbers(2000).map((n) => 2 * n),
  );
  assert.ok(rpc.counters.replays > 0 && rpc.counters.reconnects >= 1);
});

test('a server that takes only one connection is served over that one', async (t) => {
  const server = await FakeServer.start(t, double);
  const rpc = await pool(t, server);
  await server.stopListening({ cut: false });
  const results = await load(rpc, 64, 1000);
  assert.equal(results.length, 1000);
  assert.equal(rpc.size, 1);
});

test('close while the second connection is being made ends both', async (t) => {
  const server = await FakeServer.start(t, () => {});
  const rpc = await pool(t, server);
  const calls = Promise.allSettled(numbers(20).map((n) => rpc.call(DOUBLE, n)));
  await rpc.close();
  for (const result of await calls) assert.equal(result.status, 'rejected');
});
