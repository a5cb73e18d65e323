/** What is particular to the io_uring datapath: crowded rings, few places, scarce buffers, and an end with things in flight. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import type { OpenOptions } from '../../src/datapath/select.ts';
import type { UringOptions } from '../../src/datapath/uring/options.ts';
import { streamShape, URING_SIZE_CLASSES } from '../../src/datapath/uring/options.ts';
import { UringDatapath } from '../../src/datapath/uring.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { Family, SocketOption, SocketType } from '../../src/kernel/datapath.ts';
import { EVENT_LOOP, OWN_CORE } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { probeUring } from '../../src/linux/probe.ts';
import { Heap, heapBytes } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';
import {
  dial,
  echo,
  failureOf,
  ip,
  once,
  openDescriptors,
  pattern,
  readAll,
  readSocket,
  type Subject,
  until,
  World,
} from './conformance/world.ts';

const { available, reason } = probeUring();
if (!available && process.env.CI) throw new Error(`in CI this must run: ${reason}`);

function uring(options: UringOptions = {}): Subject {
  return {
    name: 'uring',
    missing: null,
    real: true,
    bulkBytes: 1 << 20,
    open: async (common?: OpenOptions) => new UringDatapath({ ...common, ...options }),
  };
}

/** The smallest rings there are: every queue in the kernel overflows all the time. */
const CROWDED: UringOptions = { entries: 4, completions: 4, receiveBuffers: 2, datagramBuffers: 2, heldLimit: 1 };

describe('uring datapath', { skip: available ? false : reason }, () => {
  for (const [name, policy] of [
    ['in the event loop', EVENT_LOOP],
    ['owning its core', OWN_CORE],
  ] as const) {
    it(`answers many connections exactly through a ring of four entries, ${name}`, async () => {
      await using world = await World.open(uring(CROWDED), policy, { heap: { checked: false } });
      const { k } = world;
      const address = world.serve(echo);
      const count = 60;
      await Promise.all(
        Array.from({ length: count }, (_, i) =>
          world.run(
            (function* () {
              const message = pattern(i, 1 + ((i * 7919) % 60_000));
              const conn = yield* k.connect(address);
              for (let round = 0; round < 3; round++) {
                const pushed = conn.write(message);
                const reply = yield* readAll(conn, message.length);
                yield* pushed;
                assert.ok(reply.equals(message), `reply ${i}, round ${round}`);
              }
              conn.close();
            })(),
          ),
        ),
      );
    });
  }

  it('keeps datagrams whole and attributes them rightly through a ring of four entries', async () => {
    await using world = await World.open(uring(CROWDED), OWN_CORE);
    const { k } = world;
    const server = k.udp({ host: '127.0.0.1' });
    const client = k.udp({ host: '127.0.0.1' });
    const target = ip(server.address);
    await world.run(
      (function* () {
        for (let i = 0; i < 200; i++) {
          const message = pattern(i, (i * 331) % 60_000);
          yield* client.push(k.alloc(message.length).fill(message), target);
          const arrived = yield* server.pop({ timeout: 30_000 });
          assert.ok(message.equals(arrived.bytes), `datagram ${i}`);
          assert.deepEqual(arrived.peer, client.address);
          yield* server.push(arrived);
          const back = yield* client.pop({ timeout: 30_000 });
          assert.ok(message.equals(back.bytes), `reply ${i}`);
          assert.deepEqual(back.peer, target);
          back.release();
        }
        client.close();
        server.close();
      })(),
    );
  });

  it('says EMFILE when no place is left, keeps the connection in the backlog, and takes it when there is one', async () => {
    await using world = await World.open(uring({ maxConnections: 2 }), EVENT_LOOP);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const clients = await Promise.all([1, 2, 3].map(() => dial(listener.address)));
    clients.forEach((client, i) => {
      client.write(`client ${i}`);
    });
    const first = await listener.accept({ timeout: 30_000 });
    const second = await listener.accept({ timeout: 30_000 });
    const before = k.turns;
    for (let i = 0; i < 5; i++) {
      await assert.rejects(async () => listener.accept({ timeout: 30_000 }), { code: 'EMFILE', syscall: 'accept' });
    }
    assert.ok(k.turns - before < 50, 'an accept that cannot be served costs a few turns, not many');
    second.close();
    await until(() => k.draining === 0, 'its place is free');
    const third = await listener.accept({ timeout: 30_000 });
    assert.equal((await world.run(readAll(third, 8))).toString(), 'client 2');
    first.close();
    third.close();
    for (const client of clients) client.destroy();
  });

  it('moves its own connections into the table of the ring: options, names and the end work as with descriptors', async () => {
    await using world = await World.open(uring(), OWN_CORE);
    const { k } = world;
    const address = world.serve(echo);
    const before = openDescriptors();
    const conns = await Promise.all(Array.from({ length: 20 }, async () => k.connect(address)));
    await until(() => openDescriptors() <= before, 'none of them is a descriptor');
    for (const conn of conns) {
      conn.detach().setOption(SocketOption.KEEP_ALIVE, 1);
      assert.deepEqual(conn.remoteAddress, address);
      await conn.write('to and fro');
      conn.end();
      assert.equal((await world.run(readAll(conn, 10))).toString(), 'to and fro');
      assert.equal(await conn.pop(), null);
      conn.close();
    }
    await until(() => k.draining === 0 && k.openQueues === 1, 'their places are free');
    const again = await k.connect(address);
    again.abort();
    assert.equal(openDescriptors(), before);
  });

  it('keeps connections as descriptors where it is told to', async () => {
    await using world = await World.open(uring({ fixedFiles: false }), EVENT_LOOP);
    const address = world.serve(echo);
    const before = openDescriptors();
    const sockets = await Promise.all(Array.from({ length: 20 }, () => dial(address)));
    await until(() => openDescriptors() >= before + 40, 'both ends of each connection are descriptors');
    for (const [i, socket] of sockets.entries()) {
      socket.write(`client ${i}`);
      assert.equal(String(await once(socket, 'data')), `client ${i}`);
      socket.destroy();
    }
    await until(() => openDescriptors() <= before, 'none is left open');
  });

  it('counts what happens at its bounds', async () => {
    await using world = await World.open(uring({ receiveBuffers: 2 }), EVENT_LOOP);
    const { k } = world;
    const { counters } = k.datapath as UringDatapath;
    assert.deepEqual(
      { ...counters, enters: 0 },
      {
        enters: 0,
        shortSends: 0,
        starvedReceives: 0,
        refusedDatagrams: 0,
        truncatedDatagrams: 0,
        lostConnections: 0,
      },
    );
    const address = world.serve(echo);
    const bulk = Buffer.alloc(30 << 20, 'x');
    const socket = await dial(address);
    socket.write(bulk); // more than all buffers between hold, and nobody reads the echo yet
    const now = () => (k.datapath as UringDatapath).counters;
    await until(() => now().shortSends > 0, 'a send fell short');
    await until(() => now().starvedReceives > 0, 'a receive found no buffer');
    assert.ok(now().enters > counters.enters);
    let got = 0;
    for await (const part of socket) {
      got += (part as Buffer).length;
      if (got === bulk.length) break;
    }
    assert.equal(got, bulk.length);
  });

  it('accepts a crowd with few places, each after another has left', async () => {
    await using world = await World.open(uring({ maxConnections: 4 }), OWN_CORE);
    const address = world.serve(echo);
    const answers = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const socket = await dial(address, { allowHalfOpen: true });
        socket.end(`client ${i}`);
        return (await readSocket(socket)).toString();
      }),
    );
    assert.deepEqual(
      answers,
      Array.from({ length: 40 }, (_, i) => `client ${i}`),
    );
  });

  it('serves others while many connections hold what nobody pops, and then gives it all', async () => {
    const sizeClasses = [
      { bytes: 256, count: 512 },
      { bytes: 16576, count: 64 },
    ];
    await using world = await World.open(uring(), EVENT_LOOP, { heap: { sizeClasses } });
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const bulk = pattern(3, 400_000);
    const deaf: Connection[] = [];
    const sockets = [];
    for (let i = 0; i < 30; i++) {
      sockets.push(await dial(listener.address));
      const conn = await listener.accept();
      deaf.push(conn);
      // One pop, so that it receives; then no more.
      sockets[i]!.write(bulk.subarray(0, 1));
      (await conn.pop())!.release();
      sockets[i]!.write(bulk);
    }
    k.spawn(listener.serve(echo));
    const caller = await dial(listener.address);
    for (let i = 0; i < 50; i++) {
      const message = `are you there ${i}?`;
      caller.write(message);
      const reply = (await once(caller, 'data')) as Buffer;
      assert.equal(reply.toString(), message);
    }
    caller.destroy();
    for (const conn of deaf) {
      const got = await world.run(readAll(conn, bulk.length));
      assert.ok(got.equals(bulk));
      conn.close();
    }
    for (const socket of sockets) socket.destroy();
  });

  it('holds at most so many buffers for a queue that nobody pops', async () => {
    await using world = await World.open(uring({ heldLimit: 4, receiveBuffers: 8 }), OWN_CORE);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const socket = await dial(listener.address);
    const conn = await listener.accept();
    socket.write('x');
    (await conn.pop())!.release();
    const idle = k.heap.inUse;
    const sent = Buffer.alloc(24 << 20, pattern(5, 65_521)); // more than the sockets' own buffers grow to
    let flushed = false;
    socket.write(sent, () => {
      flushed = true;
    });
    await until(() => k.heap.inUse > idle, 'something was received');
    await world.run(
      (function* () {
        yield* k.sleep(50);
      })(),
    );
    // What was on its way when the limit was reached still comes: at most what lay ready in the kernel.
    assert.ok(k.heap.inUse - idle <= 4 + 8, `${k.heap.inUse - idle} buffers held`);
    assert.equal(flushed, false, 'the sender is held back by the peer that does not read');
    assert.ok((await world.run(readAll(conn, sent.length))).equals(sent));
    conn.close();
    socket.destroy();
  });

  it('mixes up no connections that follow each other quickly in the same place', async () => {
    await using world = await World.open(uring({ maxConnections: 3 }), EVENT_LOOP);
    const { k } = world;
    const address = world.serve(echo);
    function* visits(visitor: number): Coroutine {
      for (let i = 0; i < 60; i++) {
        const conn = yield* k.connect(address);
        const name = `visitor ${visitor}, visit ${i};`;
        yield* conn.write(name);
        if (i % 3 === 0) conn.abort();
        else {
          assert.equal((yield* readAll(conn, name.length)).toString(), name);
          conn.close();
        }
      }
    }
    await Promise.all([0, 1, 2, 3, 4].map((visitor) => world.run(visits(visitor))));
  });

  it('tells a reset that came with the last bytes, and asks a silent connection once, not for ever', async () => {
    await using world = await World.open(uring(), EVENT_LOOP);
    const { k } = world;
    const codes: string[] = [];
    let greeted = 0;
    const address = world.serve(function* (conn) {
      (yield* conn.pop())!.release();
      greeted++;
      (yield* conn.pop())!.release();
      codes.push(yield* failureOf(conn.pop()));
    });
    const quiet = await Promise.all(Array.from({ length: 20 }, () => dial(address)));
    const reset = await dial(address);
    for (const socket of [...quiet, reset]) socket.write('here I am');
    await until(() => greeted === 21, 'everybody is heard, and waited for again');
    // Both have arrived before the kernel of this thread runs again.
    reset.write('farewell');
    reset.resetAndDestroy();
    await until(() => codes.length === 1, 'the reset is told');
    assert.deepEqual(codes, ['ECONNRESET']);
    const calls: number[] = [];
    await world.run(
      (function* () {
        yield* k.sleep(500); // by now each of the others has been asked, too
        calls.push((k.datapath as UringDatapath).counters.enters);
        yield* k.sleep(600);
        calls.push((k.datapath as UringDatapath).counters.enters);
      })(),
    );
    assert.ok(calls[1]! - calls[0]! <= 1, `${calls[1]! - calls[0]!} calls while nothing happened`);
    for (const socket of quiet) socket.destroy();
  });

  it('leaves no connection behind when a connect is withdrawn', async () => {
    await using world = await World.open(uring(), EVENT_LOOP);
    const { k } = world;
    let open = 0;
    let seen = 0;
    const server = createServer((socket) => {
      seen++;
      open++;
      socket.on('error', () => {});
      socket.on('close', () => open--);
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const address = { host: '127.0.0.1', port };
    for (let i = 0; i < 20; i++) {
      const qd = k.socket(Family.INET, SocketType.STREAM);
      const token = k.connect(qd, address);
      if (i % 2 === 0) k.datapath.submit(0); // it stands already, but nobody was told
      k.cancel(token);
      const result = await k.wait(token);
      assert.equal((result.error as NodeJS.ErrnoException).code, 'ECANCELED');
      const push = await k.wait(k.push(qd, k.alloc(1)));
      assert.ok(push.error !== null, 'the queue is of no use');
      k.close(qd);
    }
    const controller = new AbortController();
    const connecting = k.connect(address, { signal: controller.signal });
    controller.abort();
    await assert.rejects(async () => connecting, { name: 'AbortError' });
    // A last connection comes after all of them, so those that came at all have been seen.
    const last = await k.connect(address);
    await until(() => seen > 0 && open === 1, 'only the last connection is open');
    last.close();
    await until(() => open === 0, 'no connection is open');
    server.close();
  });

  it('leaves nothing behind when it ends with everything in flight', async () => {
    const before = openDescriptors();
    const clients = [];
    for (let round = 0; round < 3; round++) {
      const datapath = new UringDatapath({ heap: { checked: true, sizeClasses: [{ bytes: 65600, count: 64 }] } });
      const k = new Kernel(datapath);
      const listener = k.listen({ host: '127.0.0.1' });
      const accepting = k.accept(listener.qd);
      const udp = k.udp({ host: '127.0.0.1' });
      const waiting = k.pop(udp.qd);
      const silent = k.socket(Family.INET, SocketType.STREAM);
      const connecting = k.connect(silent, { host: '127.0.0.1', port: ip(listener.address).port });
      const accepted = turnUntil(k, accepting);
      turnUntil(k, connecting);
      const popping = k.pop(accepted);
      // More than both socket buffers hold: the rest is in flight in the kernel when the end comes.
      const part = k.alloc(65600);
      const pushing = k.push(
        silent,
        Array.from({ length: 400 }, () => part.retain()),
      );
      part.release();
      const again = k.accept(listener.qd);
      for (let i = 0; i < 20; i++) k.turn(0);
      k.dispose();
      for (const token of [waiting, popping, pushing, again]) {
        const op = k.operations.lookup(token);
        assert.ok(!op.pending, 'every operation has ended');
        op.abandon();
      }
      assert.equal(k.heap.inUse, 0, 'every buffer came back');
      clients.push(k);
    }
    assert.equal(openDescriptors(), before);
  });

  it('receives into buffers that its heap has: the smallest that take a message, and not all of them', () => {
    const stats = (sizeClasses: { bytes: number; count: number }[]) =>
      new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses }).stats();
    assert.deepEqual(streamShape(stats([...URING_SIZE_CLASSES])), {
      bytes: 16576,
      count: 256,
      reserve: 64,
      most: 1984,
    });
    assert.deepEqual(streamShape(stats([{ bytes: 512, count: 40 }])), { bytes: 512, count: 8, reserve: 4, most: 36 });
    assert.deepEqual(streamShape(stats([{ bytes: 512, count: 1 }])), { bytes: 512, count: 1, reserve: 0, most: 1 });
    assert.throws(() => streamShape(stats([{ bytes: 512, count: 40 }]), 3), RangeError);
  });

  it('refuses options that make no sense', () => {
    assert.throws(() => new UringDatapath({ entries: 3 }), RangeError);
    assert.throws(() => new UringDatapath({ receiveBuffers: 5 }), RangeError);
    assert.throws(() => new UringDatapath({ heldLimit: 0 }), RangeError);
  });
});

/** Turns the kernel until a token's operation has finished; gives its value. */
function turnUntil(k: Kernel, token: number): number {
  const op = k.operations.lookup(token);
  for (let i = 0; i < 1000 && op.pending; i++) k.turn(1000);
  assert.equal(op.error, null);
  const { value } = op.result();
  op.table.release(op);
  return value as number;
}
