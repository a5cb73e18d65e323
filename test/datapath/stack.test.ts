/** The stack datapath between two kernels on a wire, with itself, and behind middleware. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openMiddleware } from '../../src/datapath/middleware.ts';
import { parseSpec } from '../../src/datapath/spec.ts';
import { Middleware } from '../../src/datapath/stack/middleware.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { Family, SocketOption, SocketType } from '../../src/kernel/datapath.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { TimerWheel } from '../../src/kernel/timers.ts';
import { NO_OFFLOADS } from '../../src/net/device.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';
import { leavePartial, udpFrame } from '../net/frames.ts';
import { TestDevice, testHeap } from '../net/hosts.ts';
import { echo, failureOf, ip, pattern, readAll, until } from './conformance/world.ts';
import { type End, Pair, run } from './stack-pair.ts';
import { wire } from './wire-link.ts';

const PARTIAL = { receivePartial: true, transmitPartial: true };

function readable({ datapath }: End): boolean {
  for (const c of datapath.tcp.table) if (c.readable) return true;
  return false;
}

function wireOf({ datapath }: End): ReturnType<typeof wire>[0] {
  return datapath.stack.context.device as unknown as ReturnType<typeof wire>[0];
}

describe('two kernels on a wire', { timeout: 60_000 }, () => {
  it('a coroutine keeps no connection that it has closed, and closes at its end those that it has not', async () => {
    await using pair = new Pair();
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    const greeting = b.k.spawn(
      (function* () {
        for (let i = 0; i < 4; i++) {
          const conn = (yield* listener.accept()).detach();
          yield* conn.write('hello');
        }
      })(),
    );
    const opened: Connection[] = [];
    await run(
      a,
      (function* () {
        for (let i = 0; i < 4; i++) {
          const conn = yield* a.k.connect(ip(listener.address));
          (yield* conn.pop())!.release();
          opened.push(conn);
        }
        const task = a.k.currentTask!;
        // From the middle of the list, from its end and from its beginning.
        for (const [i, left] of [
          [1, [3, 2, 0]],
          [0, [3, 2]],
          [3, [2]],
        ] as const) {
          opened[i]!.close();
          const owned: number[] = [];
          for (let conn = task.owned; conn !== null; conn = conn.nextOwned) owned.push(opened.indexOf(conn));
          assert.deepEqual(owned, left);
        }
      })(),
    );
    assert.ok(opened.every(({ closed }) => closed));
    await greeting.join();
  });

  for (const [host, scatterGather] of [
    ['10.0.0.2', true],
    ['fd00::2', true],
    ['10.0.0.2', false],
  ] as const) {
    it(`carries bulk both ways, ${host}${scatterGather ? '' : ', a frame in one piece'}`, async () => {
      await using pair = new Pair({}, { scatterGather, checked: false });
      const { a, b } = pair;
      const bytes = 3_000_000;
      function* send({ k }: End, conn: Connection, seed: number): Coroutine {
        const data = pattern(seed, bytes);
        for (let at = 0; at < bytes; at += 30_001) {
          const part = data.subarray(at, at + 30_001);
          yield* conn.push(k.alloc(part.length).fill(part));
        }
        conn.end();
      }
      function* both(end: End, conn: Connection, seed: number): Coroutine {
        const sending = end.k.spawn(send(end, conn.detach(), seed));
        assert.ok((yield* readAll(conn)).equals(pattern(3 - seed, bytes)));
        yield* sending.join();
        conn.close();
      }
      const listener = b.k.listen({ host });
      await Promise.all([
        run(
          b,
          (function* () {
            yield* both(b, yield* listener.accept(), 1);
          })(),
        ),
        run(
          a,
          (function* () {
            yield* both(a, yield* a.k.connect(ip(listener.address)), 2);
          })(),
        ),
      ]);
    });
  }

  it('says who cannot be reached, who refuses and who is not there', async () => {
    await using pair = new Pair({ tcp: { initialRtoMs: 20, synRetries: 2 } });
    const { a, b } = pair;
    await run(
      a,
      (function* () {
        assert.equal(yield* failureOf(a.k.connect({ host: '10.0.0.2', port: 9 })), 'ECONNREFUSED');
        assert.equal(yield* failureOf(a.k.connect({ host: '192.0.2.1', port: 9 })), 'ENETUNREACH');
        assert.equal(yield* failureOf(a.k.connect({ host: '2001:db8::1', port: 9 })), 'ENETUNREACH');
        assert.equal(yield* failureOf(a.k.connect({ host: '10.0.0.2', port: 0 })), 'ECONNREFUSED');
        const socket = a.k.udp({ host: '10.0.0.1' });
        yield* socket.connect({ host: '10.0.0.2', port: 9 });
        yield* socket.push(a.k.alloc(1));
        assert.equal(yield* failureOf(socket.pop({ timeout: 30_000 })), 'ECONNREFUSED');
        socket.close();
        // Somebody who never answers: the SYNs are lost on a wire that has been cut.
        const listener = b.k.listen({ host: '10.0.0.2' });
        const { other } = wireOf(b);
        wireOf(a).other = null;
        assert.equal(yield* failureOf(a.k.connect(ip(listener.address))), 'ETIMEDOUT');
        wireOf(a).other = other === null ? null : wireOf(b);
        listener.close();
      })(),
    );
  });

  it('leaves nothing behind of short connections, and uses its own ports again', async () => {
    await using pair = new Pair();
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    b.k.spawn(listener.serve(echo));
    function* client(count: number): Coroutine {
      for (let i = 0; i < count; i++) {
        const conn = yield* a.k.connect(ip(listener.address));
        yield* conn.write(`connection ${i}`);
        yield* readAll(conn, `connection ${i}`.length);
        conn.close();
      }
    }
    await Promise.all(Array.from({ length: 8 }, () => run(a, client(60))));
    await until(() => b.k.openQueues === 1 && a.k.draining === 0, 'every connection is closed');
  });

  it('echoes datagrams past a device that takes few at a time', async () => {
    await using pair = new Pair({}, { queue: 4 });
    const { a, b } = pair;
    const server = b.k.udp({ host: '10.0.0.2' });
    const to = ip(server.address);
    await run(
      a,
      (function* () {
        const client = a.k.udp({ host: '10.0.0.1' });
        yield* client.push(a.k.alloc(1).fill('?'), to);
        b.k.spawn(
          (function* (): Coroutine {
            for (;;) yield* server.push(yield* server.pop());
          })(),
        );
        (yield* client.pop({ timeout: 30_000 })).release();
        const pushes = Array.from({ length: 30 }, (_, i) =>
          a.k.pushTo(client.qd, a.k.alloc(4).fill(`${1000 + i}`), to),
        );
        const withdrawn = a.k.pushTo(client.qd, a.k.alloc(4).fill('none'), to);
        a.k.cancel(withdrawn);
        const results = yield* a.k.waitAll([...pushes, withdrawn]);
        for (const { error } of results.slice(0, 30)) assert.equal(error, null);
        for (let i = 0; i < 30; i++) {
          const reply = yield* client.pop({ timeout: 30_000 });
          assert.equal(reply.text(), `${1000 + i}`);
          reply.release();
        }
        client.close();
      })(),
    );
    server.close();
  });

  it('gives what came before a reset, then the reset', async () => {
    await using pair = new Pair();
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    b.k.spawn(
      listener.serve(function* (peer) {
        yield* peer.write('last words');
        while (!readable(a)) yield* b.k.sleep(1);
        peer.abort();
      }),
    );
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        while (a.datapath.tcp.counters.resetsIn === 0) yield* a.k.sleep(1);
        assert.equal((yield* readAll(conn, 10)).toString(), 'last words');
        assert.equal(yield* failureOf(conn.pop()), 'ECONNRESET');
        assert.equal(yield* failureOf(conn.write('x')), 'ECONNRESET');
        conn.close();
      })(),
    );
  });

  it('refuses Unix sockets, and says so', async () => {
    await using pair = new Pair();
    assert.throws(() => pair.a.k.socket(Family.UNIX, SocketType.STREAM), { code: 'EAFNOSUPPORT', syscall: 'socket' });
    assert.throws(() => pair.a.k.listen({ path: '/tmp/x' }), { code: 'EAFNOSUPPORT' });
  });
});

describe('what takes its time', { timeout: 60_000, concurrency: true }, () => {
  it('fails a connect to a neighbour that does not exist with EHOSTUNREACH', async () => {
    await using pair = new Pair();
    const { a } = pair;
    assert.equal(await run(a, failureOf(a.k.connect({ host: '10.0.0.77', port: 9 }))), 'EHOSTUNREACH');
  });

  it('ends a connection that is closed with a backlog that nobody reads, after its linger time', async () => {
    await using pair = new Pair({ tcp: { minRtoMs: 20, maxRtoMs: 200 } });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        a.k.setsockopt(conn.qd, SocketOption.LINGER, 1);
        for (let i = 0; i < 20; i++) conn.push(a.k.alloc(60_000)).abandon();
        conn.close();
      })(),
    );
    assert.equal(a.k.draining, 1);
    await until(() => a.k.draining === 0, 'the sender gives up');
    (await listener.accept()).abort();
  });

  it('resets a peer that goes on sending to a closed connection, but not at once', async () => {
    await using pair = new Pair();
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    b.k.spawn(
      listener.serve(function* (conn) {
        (yield* conn.pop())?.release();
        yield* conn.write('enough');
      }),
    );
    const code = await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        for (let i = 0; i < 20; i++) yield* conn.push(a.k.alloc(10_000));
        assert.equal((yield* readAll(conn)).toString(), 'enough');
        for (;;) {
          const failure = yield* failureOf(conn.push(a.k.alloc(100)));
          if (failure !== '') return failure;
          yield* a.k.sleep(20);
        }
      })(),
    );
    assert.match(code, /^(EPIPE|ECONNRESET)$/);
  });
});

it('a program that talks to itself waits while the heap is used up, and goes on when buffers come back', () => {
  const [link] = wire();
  let now = 1000;
  const clock = (): number => now;
  const k = new Kernel(new StackDatapath(link, { now: clock }), { now: clock });
  const turns = (count: number): void => {
    for (let i = 0; i < count; i++, now += 10) k.turn(0);
  };
  const listener = k.listen({ host: '10.0.0.1', port: 80 });
  k.spawn(listener.serve(echo));
  const hoard: HeapBuffer[] = [];
  let heard = '';
  k.spawn(
    (function* (): Coroutine {
      const conn = yield* k.connect({ host: '10.0.0.1', port: 80 });
      const message = k.alloc(300).fill('x'.repeat(300));
      for (let size = 60_000; size > 0; size = Math.floor(size / 2)) {
        for (let next = k.heap.tryAlloc(size); next !== null; next = k.heap.tryAlloc(size)) hoard.push(next);
      }
      yield* conn.push(message);
      heard = (yield* readAll(conn, 300)).toString();
      conn.close();
    })(),
  );
  turns(100);
  assert.ok(hoard.length > 0);
  assert.equal(heard, '');
  for (const buffer of hoard) buffer.release();
  turns(1000);
  assert.equal(heard, 'x'.repeat(300));
  listener.close();
  k.end();
  turns(1000);
  k.dispose();
  assert.equal(k.heap.inUse, 0);
});

describe('middleware', () => {
  for (const offloads of [NO_OFFLOADS, PARTIAL]) {
    it(`loses, doubles, reorders and corrupts frames, and the streams are exact${offloads === PARTIAL ? ', with partial checksums' : ''}`, async () => {
      const { middleware } = parseSpec(
        'tap:t,faults=loss:0.05,duplication:0.05,reordering:0.05,corruption:0.02,seed:3',
      );
      await using pair = new Pair({ middleware: openMiddleware(middleware!), tcp: { minRtoMs: 20 } }, { offloads });
      const { a, b } = pair;
      const listener = b.k.listen({ host: '10.0.0.2' });
      b.k.spawn(listener.serve(echo));
      const sent = pattern(9, 200_000);
      await run(
        a,
        (function* () {
          const conn = yield* a.k.connect(ip(listener.address));
          const sending = a.k.spawn(
            (function* (): Coroutine {
              yield* conn.write(sent);
              conn.end();
            })(),
          );
          assert.ok((yield* readAll(conn)).equals(sent));
          yield* sending.join();
          conn.close();
        })(),
      );
      assert.ok(a.datapath.tcp.counters.retransmits > 0);
      assert.ok(a.datapath.tcp.counters.badChecksum > 0);
    });
  }

  it('completes partial checksums before it corrupts frames, in both directions', () => {
    const heap = testHeap();
    const device = new TestDevice(2, 1);
    device.offloads = PARTIAL;
    const middleware = new Middleware(
      device,
      { faults: { seed: 1 } },
      { heap, timers: new TimerWheel(0), now: () => 0 },
      'x',
    );
    assert.equal(middleware.device.offloads, NO_OFFLOADS);
    const ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
    const whole = udpFrame(ends, 99, 7, pattern(1, 31));
    const frame = heap.alloc(whole.length);
    frame.memory.set(whole, frame.offset);
    frame.length = whole.length;
    leavePartial(frame.memory, frame.offset);
    const got: Uint8Array[] = [];
    middleware.input({ input: (arrived) => void got.push(arrived.bytes.slice()) }).input(frame);
    assert.deepEqual(got, [whole]);
    frame.release();
    assert.equal(heap.inUse, 0);
  });

  it('writes a capture, whole when the datapath ends', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'isthmus-pcap-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'a.pcap');
    const lines: string[] = [];
    {
      const options = openMiddleware(parseSpec(`tap:t,pcap=${file}`).middleware!);
      const [a] = wire();
      const datapath = new StackDatapath(a, { middleware: { ...options, trace: (line) => lines.push(line) } });
      const k = new Kernel(datapath);
      datapath.stack.announce();
      k.turn(0);
      k.dispose();
    }
    const capture = readFileSync(file);
    assert.equal(capture.readUInt32LE(0), 0x0a0d0d0a);
    // The host's own address, in an ARP request.
    assert.ok(capture.includes(Buffer.from([0x08, 0x06, 0, 1, 8, 0, 6, 4])));
    assert.ok(
      lines.some((line) => /> arp /.test(line)),
      lines.join('\n'),
    );
  });
});
