/** Watches in Node's own event loop: what they call, what they keep alive, and that every kind of end is clean. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, Epoll } from '../../src/linux/epoll.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { close } from '../../src/linux/libc.ts';
import { mapArena } from '../../src/linux/memory.ts';
import { recv, send, socketpair } from '../../src/linux/socket.ts';
import { Ring, uringRefusal } from '../../src/linux/uring.ts';
import { prepPollAddMultishot } from '../../src/linux/uring-prep.ts';
import { watchDescriptor, watchEventfd } from '../../src/linux/watch.ts';

const url = (file: string): string => JSON.stringify(new URL(`../../src/linux/${file}.js`, import.meta.url).href);

describe('watchEventfd', () => {
  it('calls once for many signals, and again for the next', async () => {
    const eventfd = createEventfd();
    let calls = 0;
    let next = (): void => {};
    const called = (): Promise<void> => new Promise((resolve) => (next = resolve));
    const watch = watchEventfd(eventfd, () => {
      calls++;
      next();
    });
    const first = called();
    for (let i = 0; i < 5; i++) signalEventfd(eventfd);
    await first;
    assert.equal(drainEventfd(eventfd), 0);
    const second = called();
    signalEventfd(eventfd);
    await second;
    assert.equal(calls, 2);
    watch.close();
    watch.close();
    watch.ref();
    watch.unref();
    signalEventfd(eventfd);
    await new Promise(setImmediate);
    assert.equal(calls, 2);
    assert.equal(drainEventfd(eventfd), 1, 'the descriptor itself stays open');
    close(eventfd);
  });

  it('runs promises that the callback made before anything else of the loop', async () => {
    const eventfd = createEventfd();
    const order: string[] = [];
    await new Promise<void>((done) => {
      const watch = watchEventfd(eventfd, () => {
        setImmediate(() => {
          order.push('immediate');
          watch.close();
          done();
        });
        Promise.resolve().then(() => order.push('promise'));
        process.nextTick(() => order.push('tick'));
        order.push('callback');
      });
      signalEventfd(eventfd);
    });
    assert.deepEqual(order, ['callback', 'tick', 'promise', 'immediate']);
    close(eventfd);
  });

  it('refuses what is no descriptor', () => {
    for (const bad of [-1, 1.5, 999_999])
      assert.throws(() => watchEventfd(bad, () => {}), { code: 'EBADF', errno: -9 });
    assert.throws(() => watchDescriptor(-1, () => {}), { code: 'EBADF' });
  });

  it('wakes a ring whose completions Node waits for', { skip: uringRefusal()?.message ?? false }, async () => {
    const ring = new Ring({ entries: 8 });
    const arena = mapArena(4096);
    const [a, b] = socketpair();
    const eventfd = createEventfd();
    ring.registerEventfd(eventfd);
    prepPollAddMultishot(ring, a, 0, EPOLLIN, 1, 0);
    ring.submit(0);
    for (let round = 0; round < 3; round++) {
      await new Promise<void>((resolve) => {
        const watch = watchEventfd(eventfd, () => {
          if (ring.submit(0) === 0) return;
          ring.head = ring.words[ring.cqTail]!;
          watch.close();
          resolve();
        });
        setImmediate(() => send(b, arena.address, 1, 0));
      });
      assert.equal(recv(a, arena.address, 64, 0), 1);
    }
    ring.close();
    for (const fd of [a, b, eventfd]) close(fd);
    arena.close();
  });
});

for (const lookByTimer of [false, true]) {
  describe(`watchDescriptor, ${lookByTimer ? 'by a timer' : 'by Linux AIO'}`, () => {
    it('calls for as long as there is something to read', async () => {
      const [a, b] = socketpair();
      const arena = mapArena(4096);
      let calls = 0;
      for (let round = 0; round < 20; round++) {
        await new Promise<void>((resolve) => {
          let got = 0;
          const watch = watchDescriptor(
            a,
            () => {
              calls++;
              got += recv(a, arena.address, 1, 0); // one byte at a time: it must be called for each
              if (got < 3) return;
              watch.close();
              resolve();
            },
            { lookByTimer },
          );
          setImmediate(() => send(b, arena.address, 3, 0));
        });
      }
      assert.equal(calls, 60);
      close(a);
      close(b);
      arena.close();
    });

    it('watches an epoll instance for long', async () => {
      const [a, b] = socketpair();
      const arena = mapArena(4096);
      const epoll = new Epoll();
      epoll.add(a, EPOLLIN, 1);
      const rounds = lookByTimer ? 20 : 500;
      let served = 0;
      await new Promise<void>((resolve) => {
        const watch = watchDescriptor(
          epoll.fd,
          () => {
            assert.equal(epoll.wait(0), 1);
            assert.equal(recv(a, arena.address, 64, 0), 1);
            if (++served === rounds) {
              watch.close();
              resolve();
            } else setImmediate(() => send(b, arena.address, 1, 0));
          },
          { lookByTimer },
        );
        send(b, arena.address, 1, 0);
      });
      assert.equal(served, rounds);
      epoll.close();
      close(a);
      close(b);
      arena.close();
    });
  });
}

const imports = `
  const { createEventfd, signalEventfd } = await import(${url('eventfd')});
  const { watchEventfd, watchDescriptor } = await import(${url('watch')});
  const eventfd = createEventfd();`;

/** Runs a program in its own process: its exit code and what it printed. */
function run(body: string): Promise<[number | string, string]> {
  return new Promise((resolve) => {
    const args = ['--input-type=module', '-e', imports + body];
    execFile(process.execPath, args, { timeout: 30_000 }, (error, stdout) => {
      resolve([error ? (error.code ?? error.signal ?? 'killed') : 0, stdout]);
    });
  });
}

for (const watchWith of ['watchEventfd', 'watchDescriptor']) {
  describe(`${watchWith} and the end of the program`, { concurrency: 2 }, () => {
    it('keeps the process alive', async () => {
      const body = `${watchWith}(eventfd, () => { console.log('called'); process.exit(5); });
        setTimeout(() => signalEventfd(eventfd), 30).unref(); await import('node:timers/promises').then((t) => t.setTimeout(100));`;
      assert.deepEqual(await run(body), [5, 'called\n']);
    });

    it('does not when unreferenced, and ends clean though the descriptor is readable', async () => {
      const body = `${watchWith}(eventfd, () => {}).unref(); process.on('exit', () => { signalEventfd(eventfd); console.log('end'); });`;
      assert.deepEqual(await run(body), [0, 'end\n']);
    });

    it('ends clean by process.exit with a signal waiting', async () => {
      assert.deepEqual(await run(`${watchWith}(eventfd, () => {}); signalEventfd(eventfd); process.exit(3);`), [3, '']);
    });

    it('makes what the callback throws an uncaught exception, and goes on', async () => {
      const body = `let calls = 0;
        process.on('uncaughtException', (error) => { console.log(error.message); signalEventfd(eventfd); });
        const watch = ${watchWith}(eventfd, () => { if (++calls < 3) throw new Error('thrown ' + calls); watch.close(); });
        signalEventfd(eventfd);`;
      assert.deepEqual(await run(body), [0, 'thrown 1\nthrown 2\n']);
    });
  });

  describe(`${watchWith} in a worker`, () => {
    const worker = (body: string): Worker =>
      new Worker(`(async () => { const { parentPort } = require('node:worker_threads'); ${imports} ${body} })();`, {
        eval: true,
      });

    it('is called, and the worker ends when it is closed', async () => {
      const thread = worker(
        `const watch = ${watchWith}(eventfd, () => { parentPort.postMessage('called'); watch.close(); }); signalEventfd(eventfd);`,
      );
      const messages: unknown[] = [];
      thread.on('message', (message) => messages.push(message));
      assert.equal(await new Promise((resolve) => thread.once('exit', resolve)), 0);
      assert.deepEqual(messages, ['called']);
    });

    it('survives terminate() in the middle of its callbacks', async () => {
      for (let round = 0; round < 5; round++) {
        const thread = worker(`let calls = 0;
          ${watchWith}(eventfd, () => { signalEventfd(eventfd); if (++calls === 20) parentPort.postMessage(0); for (let i = 0; i < 1e5; i++); });
          signalEventfd(eventfd);`);
        await new Promise((resolve) => thread.once('message', resolve));
        assert.equal(await thread.terminate(), 1);
      }
    });

    it('survives process.exit() of the worker with a signal waiting', async () => {
      const thread = worker(`${watchWith}(eventfd, () => {}); signalEventfd(eventfd); process.exit(4);`);
      assert.equal(await new Promise((resolve) => thread.once('exit', resolve)), 4);
    });
  });
}
