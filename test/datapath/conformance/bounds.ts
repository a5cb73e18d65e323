/** What happens at the bounds: no buffers, no queues, no turns without need, nothing kept. Every datapath must pass. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Connection } from '../../../src/kernel/connection.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../../src/ring/heap.ts';
import { echo, failureOf, openDescriptors, readAll, type Subject, until, World } from './world.ts';

export function boundTests(subject: Subject, policy: HostPolicy): void {
  it('gives back every buffer, operation and descriptor', async () => {
    const before = openDescriptors();
    {
      await using world = await World.open(subject, policy);
      const { k } = world;
      const address = world.serve(echo);
      function* round(): Coroutine {
        for (let i = 0; i < 25; i++) {
          const conn = yield* k.connect(address);
          yield* conn.write('x'.repeat(1 + i * 400));
          if (i % 3 === 0) conn.abort();
          else {
            yield* readAll(conn, 1 + i * 400);
            if (i % 3 === 1) conn.close();
            else conn.end();
          }
        }
      }
      const used: number[] = [];
      const open: number[] = [];
      for (let i = 0; i < 3; i++) {
        await world.run(round());
        await until(() => k.openQueues === 1, 'every connection is closed');
        await until(() => k.draining === 0, 'every close is done');
        used.push(k.heap.inUse);
        open.push(openDescriptors());
      }
      assert.ok(used[2]! <= used[1]!, `buffers in use: ${used}`);
      assert.ok(open[2]! <= open[1]!, `descriptors open: ${open}`);
    }
    await until(() => openDescriptors() <= before, 'every descriptor is closed');
  });

  it('pops wait while the heap is used up, and go on when buffers come back', async () => {
    await using world = await World.open(subject, policy, { heap: { sizeClasses: [{ bytes: 2048, count: 256 }] } });
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        const message = k.alloc(5).fill('hello');
        const hoard: HeapBuffer[] = [];
        for (let next = k.heap.tryAlloc(1); next !== null; next = k.heap.tryAlloc(1)) hoard.push(next);
        for (let i = 0; i < 400; i++) yield* conn.push(message.retain());
        message.release();
        // Whatever the datapath itself still holds may arrive; the rest must wait, not fail, and take no turns.
        let got = 0;
        const turns = k.turns;
        let waits = 0;
        for (;;) {
          const popping = peer.pop({ timeout: 20 });
          const code = yield* watch(popping, (buffer) => {
            got += buffer.length;
            hoard.push(buffer);
          });
          if (code === 'ETIMEDOUT' && ++waits === 3) break;
          if (waits === 0) assert.equal(code, '');
          if (got === 2000) break;
        }
        assert.ok(k.turns - turns < 500, `${k.turns - turns} turns to wait for nothing`);
        for (const buffer of hoard) buffer.release();
        if (got < 2000) got += (yield* readAll(peer, 2000 - got)).length;
        assert.equal(got, 2000);
        conn.close();
        peer.close();
      })(),
    );
  });

  it('refuses more queues than the kernel may have, and takes the connection when one is free', async () => {
    await using world = await World.open(subject, policy, { kernel: { maxQueues: 3 } });
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const conn = yield* k.connect(listener.address);
        const peer = yield* listener.accept();
        assert.throws(() => k.connect(listener.address), { code: 'EMFILE' });
        peer.close();
        const second = yield* k.connect(listener.address);
        assert.equal(yield* failureOf(listener.accept({ timeout: 30_000 })), 'EMFILE');
        conn.close();
        const accepted = yield* listener.accept({ timeout: 30_000 });
        yield* accepted.write('at last');
        assert.equal((yield* readAll(second, 7)).toString(), 'at last');
        second.close();
        accepted.close();
      })(),
    );
  });

  it('takes no turns for a queue that nobody pops', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        // One connection has bytes waiting, one listener a connection, and one connection a full send buffer.
        const waiting = yield* k.connect(listener.address);
        for (let i = 0; i < 20; i++) conn.push(k.alloc(16384)).abandon();
        yield* k.sleep(50);
        const before = k.turns;
        yield* k.sleep(100);
        const turns = k.turns - before;
        assert.ok(turns < 50, `${turns} turns in 100 ms of nothing to do`);
        peer.abort();
        conn.close();
        waiting.close();
      })(),
    );
  });

  it('survives peers that come and go at any moment', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    let served = 0;
    const address = world.serve(function* (conn) {
      served++;
      yield* echo(conn);
    });
    const count = 60;
    await Promise.all(
      Array.from({ length: count }, (_, i) =>
        world.run(
          (function* () {
            const conn = yield* k.connect(address);
            conn.write('x'.repeat(i * 997)).abandon();
            if (i % 4 === 1) yield* k.sleep(i % 7);
            if (i % 4 === 2) yield* readAll(conn, i);
            if (i % 2 === 0) conn.abort();
            else conn.close();
          })(),
        ),
      ),
    );
    await until(() => k.openQueues === 1, 'every connection has ended');
    assert.ok(served > 0 && served <= count);
  });
}

/** Takes a pop's buffer, or tells the code with which it failed. */
function* watch(op: ReturnType<Connection['pop']>, take: (buffer: HeapBuffer) => void): Coroutine<string> {
  try {
    const buffer = yield* op;
    if (buffer !== null) take(buffer);
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
