/** Kernels inside Node's event loop, beside everything else that lives there. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { boot, type Connection, IsthmusError } from '../src/index.ts';
import { uringRefusal } from '../src/linux/uring.ts';
import { echo, ip, openDescriptors, until } from './datapath/conformance/world.ts';
import { need } from './support/need.ts';

for (const datapath of ['kernel', 'uring', 'simulated']) {
  const missing = datapath === 'uring' ? uringRefusal() : null;
  const reason = missing?.message ?? '';

  describe(`boot on the ${datapath} datapath`, () => {
    it('serves async code and closes with its block', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const before = openDescriptors();
      {
        await using k = await boot({ datapath });
        assert.match(k.datapathLine, new RegExp(`^datapath ${datapath}: `));
        const listener = k.listen({ host: '127.0.0.1' });
        const handle = async (conn: Connection) => {
          for await (const buffer of conn) await conn.push(buffer);
          conn.close();
        };
        void (async () => {
          for await (const conn of listener) handle(conn).catch(() => {});
        })();
        const conn = await k.connect(listener.address);
        await conn.write('hello');
        const buffer = await conn.pop();
        assert.equal(buffer?.text(), 'hello');
        buffer?.release();
      }
      await until(() => openDescriptors() <= before, 'every descriptor is closed');
    });

    it('shares the event loop with timers, HTTP, fetch and workers while it is busy', async (t) => {
      if (!need(t, missing === null, reason)) return;
      await using k = await boot({ datapath });
      const listener = k.listen({ host: '127.0.0.1' });
      k.spawn(listener.serve(echo));
      let echoed = 0;
      const busy = Array.from({ length: 10 }, () =>
        k.spawn(
          (function* () {
            const conn = yield* k.connect(listener.address);
            yield* conn.write('x'.repeat(64));
            for (;;) {
              const buffer = yield* conn.pop();
              if (buffer === null) return;
              echoed++;
              yield* conn.push(buffer);
            }
          })(),
        ),
      );
      const server = createServer((_, response) => response.end('page'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      let ticks = 0;
      const ticking = setInterval(() => ticks++, 2);
      let jobs = 0;
      const worker = new Worker('require("worker_threads").parentPort.on("message", (m) => postMessage(m))', {
        eval: true,
      });
      worker.on('error', () => {});
      for (let i = 0; i < 20; i++) {
        assert.equal(await (await fetch(url)).text(), 'page');
        await Promise.resolve().then(() => jobs++);
        await new Promise<void>((resolve) => process.nextTick(resolve));
        await k.sleep(1);
      }
      await until(() => ticks > 10 && echoed > 200, 'timers and queues both go on');
      assert.equal(jobs, 20);
      await worker.terminate();
      clearInterval(ticking);
      server.closeAllConnections();
      server.close();
      for (const task of busy) task.cancel();
    });

    it('runs coroutines and async code on the same queues', async (t) => {
      if (!need(t, missing === null, reason)) return;
      await using k = await boot({ datapath });
      const listener = k.listen({ host: '127.0.0.1' });
      const greeting = k.spawn(
        (function* () {
          const conn = yield* listener.accept();
          yield* conn.write('from a coroutine');
          return ip(conn.remoteAddress).host;
        })(),
      );
      const conn = await k.connect(listener.address);
      const buffer = await conn.pop({ timeout: 30_000 });
      assert.equal(buffer?.text(), 'from a coroutine');
      buffer?.release();
      assert.equal(await greeting.join(), '127.0.0.1');
      await assert.rejects(async () => k.connect(listener.address, { signal: AbortSignal.abort() }), {
        name: 'AbortError',
      });
    });

    it('runs finally blocks of coroutines when it is closed, and refuses what comes after', async (t) => {
      if (!need(t, missing === null, reason)) return;
      const k = await boot({ datapath });
      let ended = 0;
      const listener = k.listen({ host: '127.0.0.1' });
      const waits = function* () {
        try {
          yield* listener.accept();
        } finally {
          ended++;
        }
      };
      k.spawn(waits());
      k.spawn(waits());
      await k.sleep(1);
      await Promise.all([k.close(), k.close()]);
      await k.close();
      assert.equal(ended, 2);
      assert.throws(() => k.listen({}), { code: 'ESHUTDOWN' });
    });
  });
}

it('says which datapath `auto` took and why', async () => {
  await using k = await boot();
  assert.match(k.datapathLine, /^datapath (uring: io_uring|kernel: epoll; io_uring would be faster, but .*)/);
});

it('reports an error of a coroutine that nobody joins, and lives on', async () => {
  const errors: Error[] = [];
  await using k = await boot({ datapath: 'kernel', onUncaught: (error) => errors.push(error) });
  k.spawn(
    (function* () {
      yield* k.sleep(1);
      throw new IsthmusError('mine', { code: 'ERR_MINE' });
    })(),
  );
  await until(() => errors.length === 1, 'it is reported');
  assert.equal(errors[0]?.message, 'mine');
  await k.sleep(1);
});
