/** The simulated datapath through the kernel's own calls: order, back-pressure, ends of connections, names, faults. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CALM, type Faults, IDEAL } from '../../src/datapath/simulated/faults.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { SimulatedDatapath, type SimulatedDatapathOptions, simulatedKernel } from '../../src/datapath/simulated.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { Family, SocketOption, SocketType } from '../../src/kernel/datapath.ts';
import { EVENT_LOOP, Host } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { DEFAULT_SIZE_CLASSES, type HeapBuffer } from '../../src/ring/heap.ts';

const PORT = 7000;

function pair(faults: Faults = IDEAL, seed = 1, options: SimulatedDatapathOptions = {}) {
  const network = new SimulatedNetwork({ seed, faults });
  const checked = { checked: true, ...options };
  return { network, server: simulatedKernel(network, checked), client: simulatedKernel(network, checked) };
}

function* echo(conn: Connection): Coroutine {
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    yield* conn.push(buffer);
  }
}

/** Pops until `bytes` have come, or the end. */
function* readText(conn: Connection, bytes: number): Generator<unknown, string, unknown> {
  let text = '';
  while (text.length < bytes) {
    const buffer: HeapBuffer | null = yield* conn.pop();
    if (buffer === null) break;
    text += buffer.text();
    buffer.release();
  }
  return text;
}

/** Runs coroutines to their ends and throws what escaped from them. */
function finish(network: SimulatedNetwork, ...tasks: { finished: boolean; join(): unknown }[]): void {
  network.run();
  for (const task of tasks) assert.ok(task.finished, 'a coroutine never ended');
}

for (const [name, faults] of [
  ['ideal', IDEAL],
  ['calm', CALM],
] as const) {
  describe(`simulated streams, ${name} network`, () => {
    it('carries bytes both ways in order, between kernels and within one', () => {
      const { network, server, client } = pair(faults);
      const listener = server.listen({ port: PORT });
      const serving = server.spawn(listener.serve(echo));
      const message = 'The quick brown fox '.repeat(300);
      const run = function* (k: Kernel): Coroutine<string> {
        const conn = yield* k.connect({ host: '127.0.0.1', port: PORT });
        const sending = k.spawn(
          (function* () {
            for (let at = 0; at < message.length; at += 777) yield* conn.write(message.slice(at, at + 777));
            conn.end();
          })(),
        );
        const text = yield* readText(conn, Number.POSITIVE_INFINITY);
        yield* sending.join();
        conn.close();
        return text;
      };
      const results: string[] = [];
      const keep = function* (k: Kernel): Coroutine {
        results.push(yield* run(k));
      };
      finish(network, client.spawn(keep(client)), server.spawn(keep(server)));
      assert.deepEqual(results, [message, message]);
      listener.close();
      finish(network, serving);
      for (const k of [server, client]) {
        assert.equal(k.openQueues, 0);
        assert.equal(k.heap.inUse, 0);
        assert.equal(k.operations.inUse, 0);
        k.dispose();
      }
    });

    it('holds a sender back when the peer does not read, and lets it go on when it does', () => {
      const { network, server, client } = pair(faults);
      const listener = server.listen({ path: '/sim/slow' });
      let pushed = 0;
      const total = 1 << 20;
      const sending = client.spawn(
        (function* () {
          const conn = yield* client.connect({ path: '/sim/slow' });
          for (; pushed < total; pushed += 1000) {
            const buffer = client.alloc(1000);
            yield* conn.push(buffer);
          }
          conn.close();
        })(),
      );
      let received = 0;
      const reading = server.spawn(
        (function* () {
          const conn = yield* listener.accept();
          yield* server.sleep(60_000);
          assert.ok(pushed < total, 'the sender was not held back');
          for (;;) {
            const buffer = yield* conn.pop();
            if (buffer === null) break;
            received += buffer.length;
            buffer.release();
          }
        })(),
      );
      // Room for everything that two windows let be under way at once.
      finish(network, sending, reading);
      assert.equal(received, pushed);
      assert.ok(pushed >= total);
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    });

    it('gives the end of a stream after its data, and still sends the other way', () => {
      const { network, server, client } = pair(faults);
      const listener = server.listen({ port: PORT });
      const seen: string[] = [];
      const serving = server.spawn(
        (function* () {
          const conn = yield* listener.accept();
          seen.push(yield* readText(conn, Number.POSITIVE_INFINITY));
          assert.equal(yield* conn.pop(), null);
          yield* conn.write('reply');
        })(),
      );
      const asking = client.spawn(
        (function* () {
          const conn = yield* client.connect({ host: '127.0.0.1', port: PORT });
          yield* conn.write('question');
          conn.end();
          seen.push(yield* readText(conn, Number.POSITIVE_INFINITY));
          let error: unknown;
          try {
            yield* conn.write('late');
          } catch (e) {
            error = e;
          }
          assert.equal((error as { code?: string }).code, 'EPIPE');
        })(),
      );
      finish(network, serving, asking);
      assert.deepEqual(seen, ['question', 'reply']);
    });

    it('resets a peer that writes to a closed connection, or whose data was not read', () => {
      const { network, server, client } = pair(faults);
      const listener = server.listen({ port: PORT });
      const codes: string[] = [];
      const serving = server.spawn(
        (function* () {
          (yield* listener.accept()).close();
          const unread = yield* listener.accept();
          yield* server.sleep(5000);
          unread.close();
          (yield* listener.accept()).abort();
        })(),
      );
      const asking = client.spawn(
        (function* () {
          for (let i = 0; i < 3; i++) {
            const conn = yield* client.connect({ host: '127.0.0.1', port: PORT });
            if (i < 2) yield* conn.write('unread');
            yield* client.sleep(10_000);
            try {
              assert.equal(yield* conn.pop(), null);
              codes.push('end');
            } catch (error) {
              codes.push((error as { code: string }).code);
            }
            conn.close();
          }
        })(),
      );
      finish(network, serving, asking);
      assert.deepEqual(codes, ['ECONNRESET', 'ECONNRESET', 'ECONNRESET']);
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    });

    it('still sends what was pushed before a close, and says so', () => {
      const { network, server, client } = pair(faults, 1, { sizeClasses: DEFAULT_SIZE_CLASSES, checked: false });
      const listener = server.listen({ port: PORT });
      const message = 'x'.repeat(3_000_000);
      client.spawn(
        (function* () {
          const conn = yield* client.connect({ host: '127.0.0.1', port: PORT });
          client.spawn(
            (function* () {
              yield* conn.write(message);
            })(),
          );
          yield* client.sleep(1000);
          conn.close();
          assert.equal(client.draining, 1);
        })(),
      );
      let received = 0;
      const reading = server.spawn(
        (function* () {
          const conn = yield* listener.accept();
          yield* server.sleep(5000);
          received = (yield* readText(conn, Number.POSITIVE_INFINITY)).length;
        })(),
      );
      finish(network, reading);
      assert.equal(received, message.length);
      assert.equal(client.draining, 0);
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    });

    it('resets on close when the linger time is 0', () => {
      const { network, server, client } = pair(faults);
      const listener = server.listen({ port: PORT });
      let code = '';
      const task = client.spawn(
        (function* () {
          const conn = yield* client.connect({ host: '127.0.0.1', port: PORT });
          try {
            yield* conn.pop();
          } catch (error) {
            code = (error as { code: string }).code;
          }
        })(),
      );
      server.spawn(
        (function* () {
          const conn = yield* listener.accept();
          conn.setOption(SocketOption.LINGER, 0);
          conn.close();
        })(),
      );
      finish(network, task);
      assert.equal(code, 'ECONNRESET');
    });

    it('refuses, times out and cancels connections', () => {
      const { network, server, client } = pair(faults);
      const codes: (string | undefined)[] = [];
      const attempt = function* (go: () => Generator<unknown, unknown, unknown>): Coroutine {
        try {
          yield* go();
          codes.push('ok');
        } catch (error) {
          codes.push((error as { code?: string }).code);
        }
      };
      const listener = server.listen({ port: PORT, backlog: 1 });
      const local = { host: '127.0.0.1', port: PORT };
      const asking = client.spawn(
        (function* () {
          yield* attempt(function* () {
            yield* client.connect({ host: '127.0.0.1', port: 1 });
          });
          yield* attempt(function* () {
            yield* client.connect({ path: '/sim/none' });
          });
          yield* attempt(function* () {
            yield* client.connect({ host: '192.0.2.1', port: 1 });
          });
          yield* attempt(function* () {
            yield* client.connect({ host: 'example', port: 1 });
          });
          let waiting: Connection | undefined;
          yield* attempt(function* () {
            waiting = yield* client.connect(local);
          });
          // The backlog of one is full now.
          yield* attempt(function* () {
            yield* client.connect(local, { timeout: 500 });
          });
          yield* attempt(function* () {
            yield* client.connect(local);
          });
          waiting?.close();
        })(),
      );
      finish(network, asking);
      const expected = ['ECONNREFUSED', 'ENOENT', 'ENETUNREACH', 'EINVAL', 'ok', 'ETIMEDOUT', 'ETIMEDOUT'];
      assert.deepEqual(codes, expected);
      assert.ok(network.now() > 60_000, 'retries take virtual minutes');
      assert.equal(client.openQueues, 0);
      listener.close();
      network.run();
    });
  });
}

describe('simulated names', () => {
  it('hands out ports, knows both ends, and refuses what is taken', () => {
    const { network, server, client } = pair();
    const first = server.listen({ port: 0, host: '127.0.0.1' });
    const { port } = first.address as { port: number };
    assert.ok(port >= 32768);
    assert.throws(() => client.listen({ port, host: '127.0.0.1' }), { code: 'EADDRINUSE' });
    assert.throws(() => client.listen({ port }), { code: 'EADDRINUSE' });
    assert.throws(() => client.listen({ port, host: '::' }), { code: 'EADDRINUSE' });
    client.listen({ port, host: '::1' }).close();
    client.listen({ port, host: '127.0.0.2' }).close();
    assert.throws(() => server.listen({ port: 80, host: '192.0.2.7' }), { code: 'EADDRNOTAVAIL' });
    assert.throws(() => server.listen({ port: 80, host: 'nowhere' }), { code: 'EINVAL' });
    assert.throws(() => server.listen({ port: 70000 }), { code: 'EINVAL' });
    server.listen({ path: '/sim/a' });
    assert.throws(() => server.listen({ path: '/sim/a' }), { code: 'EADDRINUSE' });
    const both = server.listen({ port: 9000, host: '::' });
    const names: unknown[] = [];
    const task = client.spawn(
      (function* () {
        const conn = yield* client.connect({ host: '127.0.0.1', port: 9000 });
        const peer = yield* both.accept();
        names.push(conn.remoteAddress, peer.localAddress);
        assert.deepEqual(peer.remoteAddress, {
          host: '::ffff:127.0.0.1',
          port: (conn.localAddress as { port: number }).port,
        });
        conn.close();
        peer.close();
      })(),
    );
    finish(network, task);
    assert.deepEqual(names, [
      { host: '127.0.0.1', port: 9000 },
      { host: '::ffff:127.0.0.1', port: 9000 },
    ]);
    first.close();
    client.listen({ port, host: '127.0.0.1' });
  });

  it('keeps machines apart: each has its own loopback, and routes by address', () => {
    const network = new SimulatedNetwork({ faults: CALM });
    const a = simulatedKernel(network, { machine: 'a', addresses: ['10.0.0.1'] });
    const b = simulatedKernel(network, { machine: 'b', addresses: ['10.0.0.2'] });
    const onA = a.listen({ port: PORT });
    const onB = b.listen({ port: PORT });
    a.spawn(onA.serve(echo));
    const heard: unknown[] = [];
    b.spawn(
      onB.serve(function* (conn) {
        heard.push((conn.remoteAddress as { host: string }).host);
        yield* conn.write('b');
      }),
    );
    const task = a.spawn(
      (function* () {
        const conn = yield* a.connect({ host: '10.0.0.2', port: PORT });
        heard.push(yield* readText(conn, 1));
        conn.close();
        const own = yield* a.connect({ host: '127.0.0.1', port: PORT });
        yield* own.write('mine');
        heard.push(yield* readText(own, 4));
      })(),
    );
    network.run();
    assert.ok(task.finished);
    assert.deepEqual(heard, ['10.0.0.1', 'b', 'mine']);
    assert.throws(() => network.machine('c', ['10.0.0.2']), { code: 'EADDRINUSE' });
  });
});

describe('simulated sockets', () => {
  it('keep their options, refuse unknown ones, and say what a call cannot do', async () => {
    const { network, server: k } = pair();
    const stream = k.socket(Family.INET, SocketType.STREAM);
    assert.equal(k.getsockopt(stream, SocketOption.NO_DELAY), 1);
    k.setsockopt(stream, SocketOption.NO_DELAY, 0);
    assert.equal(k.getsockopt(stream, SocketOption.NO_DELAY), 0);
    assert.throws(() => k.setsockopt(stream, 99 as SocketOption, 1), { code: 'ENOPROTOOPT' });
    assert.throws(() => k.getsockopt(stream, 99 as SocketOption), { code: 'ENOPROTOOPT' });
    assert.throws(() => k.getpeername(stream), { code: 'ENOTCONN' });
    assert.throws(() => k.socket(Family.UNIX, SocketType.DGRAM), { code: 'EOPNOTSUPP' });
    const datagrams = k.socket(Family.INET, SocketType.DGRAM);
    assert.throws(() => k.listen(datagrams), { code: 'EOPNOTSUPP' });
    const codes: unknown[] = [];
    for (const token of [
      k.push(stream, k.alloc(1)),
      k.pop(stream),
      k.accept(stream),
      k.accept(datagrams),
      k.push(datagrams, k.alloc(1)),
      k.pushTo(datagrams, k.alloc(1)),
      k.pushTo(datagrams, k.alloc(1), { host: '::1', port: 1 }),
      k.pushTo(datagrams, k.alloc(1), { host: '192.0.2.1', port: 1 }),
      k.pushTo(datagrams, k.alloc(65_536), { host: '127.0.0.1', port: 1 }),
    ]) {
      codes.push(((await k.wait(token)).error as { code?: string } | null)?.code);
    }
    const unnamed = ['EDESTADDRREQ', 'EDESTADDRREQ', 'EAFNOSUPPORT', 'ENETUNREACH', 'EMSGSIZE'];
    assert.deepEqual(codes, ['ENOTCONN', 'ENOTCONN', 'EINVAL', 'EOPNOTSUPP', ...unnamed]);
    assert.equal(k.heap.inUse, 0);
    network.run();
  });
});

describe('simulated datagrams', () => {
  it('gathers several buffers into one datagram', () => {
    const { network, server, client } = pair(CALM);
    const into = server.udp({ port: PORT });
    let text = '';
    const reading = server.spawn(
      (function* () {
        const buffer = yield* into.pop();
        text = buffer.text();
        buffer.release();
      })(),
    );
    const sending = client.spawn(
      (function* () {
        const socket = client.udp();
        yield* socket.connect({ host: '127.0.0.1', port: PORT });
        const token = client.push(
          socket.qd,
          ['one ', 'and ', 'two'].map((word) => client.alloc(4).fill(word)),
        );
        assert.equal((yield* client.wait(token)).error, null);
      })(),
    );
    finish(network, sending, reading);
    assert.equal(text, 'one and two');
    assert.equal(client.heap.inUse + server.heap.inUse, 0);
  });

  it('carries datagrams with their sender, answers to it, and drops what nobody waits for', () => {
    for (const faults of [IDEAL, CALM]) {
      const { network, server, client } = pair(faults);
      const service = server.udp({ port: PORT });
      server.spawn(
        (function* () {
          for (;;) yield* service.push(yield* service.pop());
        })(),
      );
      let text = '';
      const task = client.spawn(
        (function* () {
          const socket = client.udp({ host: '127.0.0.1' });
          const to = { host: '127.0.0.1', port: PORT };
          yield* socket.push(client.alloc(4).fill('ping'), to);
          const reply = yield* socket.pop();
          text = reply.text();
          assert.deepEqual(reply.peer, to);
          reply.release();
          yield* socket.push(client.alloc(0), to);
          const empty = yield* socket.pop();
          assert.equal(empty.length, 0);
          empty.release();
          yield* socket.push(client.alloc(1), { host: '127.0.0.1', port: 9 });
          socket.close();
        })(),
      );
      finish(network, task);
      assert.equal(text, 'ping');
      assert.equal(network.droppedDatagrams, 1);
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    }
  });

  it('loses, doubles and reorders by the faults', () => {
    const count = 400;
    const run = (faults: Faults) => {
      const network = new SimulatedNetwork({ seed: 7, faults });
      const a = simulatedKernel(network);
      const b = simulatedKernel(network);
      const into = b.udp({ port: PORT });
      const got: number[] = [];
      b.spawn(
        (function* () {
          for (;;) {
            const buffer = yield* into.pop();
            got.push(Number(buffer.text()));
            buffer.release();
          }
        })(),
      );
      a.spawn(
        (function* () {
          const socket = a.udp();
          for (let i = 0; i < count; i++) {
            yield* socket.push(a.alloc(4).fill(`${i}`), { host: '127.0.0.1', port: PORT });
            yield* a.sleep(1);
          }
        })(),
      );
      network.run();
      assert.equal(a.heap.inUse + b.heap.inUse, 0);
      return got;
    };
    const straight = Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(run({ ...IDEAL, latencyUs: [5, 50] }), straight);
    const lossy = run({ ...IDEAL, loss: 0.25 });
    assert.ok(lossy.length > count * 0.65 && lossy.length < count * 0.85, `${lossy.length} of ${count}`);
    const doubled = run({ ...IDEAL, duplicate: 0.25 });
    assert.ok(doubled.length > count * 1.15 && doubled.length < count * 1.35, `${doubled.length} of ${count}`);
    const reordered = run({ ...IDEAL, reorder: 0.1, stallUs: [5000, 9000] });
    assert.notDeepEqual(reordered, straight);
    assert.deepEqual(
      reordered.toSorted((x, y) => x - y),
      straight,
    );
  });

  it('tells a connected socket that nobody is there', () => {
    for (const faults of [IDEAL, CALM]) {
      const { network, client } = pair(faults);
      const task = client.spawn(
        (function* () {
          const socket = client.udp();
          yield* socket.connect({ host: '127.0.0.1', port: 9 });
          yield* socket.push(client.alloc(1));
          yield* socket.pop();
        })(),
      );
      const codes: string[] = [];
      const join = client.spawn(
        (function* () {
          try {
            yield* task.join();
          } catch (error) {
            codes.push((error as { code: string }).code);
          }
        })(),
      );
      finish(network, join);
      assert.deepEqual(codes, ['ECONNREFUSED']);
    }
  });
});

describe('simulated memory', () => {
  it('moves a buffer from push to pop within a heap, and copies what the pusher still holds', () => {
    const { network, server } = pair();
    const listener = server.listen({ port: PORT });
    const task = server.spawn(
      (function* () {
        const conn = yield* server.connect({ host: '127.0.0.1', port: PORT });
        const peer = yield* listener.accept();
        const moved = server.alloc(5).fill('moved');
        yield* conn.push(moved);
        assert.equal(yield* peer.pop(), moved);
        moved.release();
        const held = server.alloc(4).fill('held').retain();
        yield* conn.push(held);
        held.fill('gone');
        const copy = yield* peer.pop();
        assert.notEqual(copy, held);
        assert.equal(copy?.text(), 'held');
        copy?.release();
        held.release();
        conn.close();
        peer.close();
      })(),
    );
    finish(network, task);
    assert.equal(server.heap.inUse, 0);
  });

  it('waits for memory at the receiver, then delivers everything in order', () => {
    for (const faults of [IDEAL, CALM]) {
      const network = new SimulatedNetwork({ faults: { ...faults, coalesce: 0 } });
      const client = simulatedKernel(network);
      const server = simulatedKernel(network, { sizeClasses: [{ bytes: 4096, count: 3 }] });
      const listener = server.listen({ port: PORT });
      const message = Array.from({ length: 3000 }, (_, i) => i).join(' ');
      const sending = client.spawn(
        (function* () {
          const conn = yield* client.connect({ host: '127.0.0.1', port: PORT });
          yield* conn.write(message);
          conn.close();
        })(),
      );
      let text = '';
      const reading = server.spawn(
        (function* () {
          const conn = yield* listener.accept();
          yield* server.sleep(2000);
          text = yield* readText(conn, Number.POSITIVE_INFINITY);
        })(),
      );
      finish(network, sending, reading);
      assert.equal(text, message);
      assert.ok(server.heap.exhausted > 0);
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    }
  });

  it('gives a connection up when no memory comes free', () => {
    for (const faults of [IDEAL, CALM]) {
      const network = new SimulatedNetwork({ faults });
      const client = simulatedKernel(network);
      const server = simulatedKernel(network, { sizeClasses: [{ bytes: 4096, count: 1 }] });
      const hoard = server.alloc(1);
      const listener = server.listen({ port: PORT });
      const codes: string[] = [];
      for (const k of [client, server]) {
        k.spawn(
          (function* () {
            const conn = yield* k === client ? k.connect({ host: '127.0.0.1', port: PORT }) : listener.accept();
            try {
              if (k === client) yield* conn.write('hello');
              yield* conn.pop();
            } catch (error) {
              codes.push((error as { code: string }).code);
            }
            conn.close();
          })(),
        );
      }
      network.run();
      assert.deepEqual(codes.toSorted(), ['ECONNRESET', 'ETIMEDOUT']);
      hoard.release();
      assert.equal(client.heap.inUse + server.heap.inUse, 0);
    }
  });
});

describe('a simulated datapath in an ordinary program', () => {
  it('works under Promises in virtual time', async () => {
    const { network, server, client } = pair({ ...CALM, split: 0 });
    const listener = server.listen({ port: PORT });
    const serving = (async () => {
      for await (const conn of listener) for await (const buffer of conn) await conn.push(buffer);
    })();
    const asking = (async () => {
      const conn = await client.connect({ host: '127.0.0.1', port: PORT });
      await conn.write('hello');
      const reply = await conn.pop();
      const text = reply?.text();
      reply?.release();
      conn.close();
      await client.sleep(3_600_000);
      return text;
    })();
    await network.runAsync();
    assert.equal(await asking, 'hello');
    assert.ok(network.now() >= 3_600_000);
    listener.close();
    await serving;
  });

  it('loops back through real hosts: within a kernel, and between kernels that sleep', {
    timeout: 20_000,
  }, async () => {
    for (const latency of [0, 2000]) {
      const faults = { ...IDEAL, latencyUs: [latency, latency] as const };
      const network = new SimulatedNetwork({ clock: () => performance.now(), faults });
      const a = new Kernel(new SimulatedDatapath(network));
      const b = new Kernel(new SimulatedDatapath(network));
      const hosts = [a, b].map((k) => new Host(k, EVENT_LOOP).start());
      try {
        const listener = a.listen({ port: 0, host: '127.0.0.1' });
        a.spawn(listener.serve(echo));
        for (const k of [a, b]) {
          const conn = await k.connect(listener.address);
          for (const word of ['one', 'two', 'three']) {
            // Both kernels are asleep in the event loop now.
            await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
            await conn.write(word);
            const reply = await conn.pop();
            assert.equal(reply?.text(), word);
            reply?.release();
          }
          conn.close();
        }
        listener.close();
        await new Promise((resolve) => setImmediate(resolve));
      } finally {
        for (const host of hosts) host.stop();
        for (const k of [a, b]) k.dispose();
      }
    }
  });
});
