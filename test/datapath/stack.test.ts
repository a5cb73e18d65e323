/** The stack datapath between two kernels on a wire, with itself, and behind middleware. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openMiddleware } from '../../src/datapath/middleware.ts';
import { parseSpec } from '../../src/datapath/spec.ts';
import type { StackDatapathOptions } from '../../src/datapath/stack/core.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { Family, SocketOption, SocketType } from '../../src/kernel/datapath.ts';
import { EVENT_LOOP, Host, OWN_CORE } from '../../src/kernel/host.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { Chance } from '../../src/net/middleware/chance.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';
import { echo, failureOf, ip, pattern, readAll, until } from './conformance/world.ts';
import { type WireOptions, wire } from './wire-link.ts';

interface End {
  readonly k: Kernel;
  readonly host: Host;
  readonly datapath: StackDatapath;
  readonly errors: Error[];
}

/** Two kernels on the ends of a wire, one in each kind of host. */
class Pair {
  readonly a: End;
  readonly b: End;
  readonly #atRest: readonly number[];

  constructor(options: StackDatapathOptions = {}, wireOptions: Omit<WireOptions, 'addresses'> = {}) {
    const [a, b] = wire({ checked: true, ...wireOptions });
    const end = (link: typeof a, policy: typeof OWN_CORE): End => {
      const datapath = new StackDatapath(link, options);
      const errors: Error[] = [];
      const k = new Kernel(datapath, { onUncaught: (error) => errors.push(error) });
      return { k, datapath, errors, host: new Host(k, policy).start() };
    };
    this.a = end(a, EVENT_LOOP);
    this.b = end(b, OWN_CORE);
    this.#atRest = [this.a.k.heap.inUse, this.b.k.heap.inUse];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = [this.a, this.b];
    try {
      for (const { k } of ends) k.end();
      await until(() => ends.every(({ k }) => k.draining === 0), 'closed queues are drained');
      await until(() => ends.every(({ k }, i) => k.heap.inUse <= this.#atRest[i]!), 'every buffer comes back');
      for (const { k } of ends) assert.equal(k.operations.inUse, 0, 'operations are still outstanding');
    } finally {
      // Whatever is wrong: a host that is left behind turns for ever, and the test's process with it.
      for (const { host } of ends) host.stop();
      for (const { k } of ends) k.dispose();
    }
    for (const { k, datapath, errors } of ends) {
      assert.equal(k.heap.inUse, 0, 'the datapath has let go of everything');
      assert.equal(datapath.tcp.table.size, 0);
      assert.deepEqual(errors, []);
    }
  }
}

function run<T>({ k }: End, coroutine: Coroutine<T>): Promise<T> {
  return Promise.resolve(k.spawn(coroutine).join());
}

describe('two kernels on a wire', { timeout: 60_000 }, () => {
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

  it('sends a reply in the buffer that the request came in, and copies nothing', async () => {
    await using pair = new Pair({}, { checked: false });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    const seen: number[] = [];
    b.k.spawn(
      listener.serve(function* (conn) {
        const buffer = (yield* conn.pop())!;
        const { tcp } = b.datapath;
        const before = b.k.heap.inUse;
        yield* conn.push(buffer);
        tcp.flush();
        seen.push(b.k.heap.inUse - before);
        yield* conn.pop();
      }),
    );
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        yield* conn.write('x'.repeat(1000));
        assert.equal((yield* readAll(conn, 1000)).length, 1000);
        conn.close();
      })(),
    );
    assert.deepEqual(seen, [0]);
  });

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
        assert.equal(yield* failureOf(socket.pop({ timeout: 5000 })), 'ECONNREFUSED');
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

  it('withdraws a push that waits, and sends neither it nor a hole', async () => {
    await using pair = new Pair({ sendLimit: 100_000 });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        let pushed = 0;
        for (; conn.unsent < 100_000; pushed += 50_000) conn.push(a.k.alloc(50_000).fill(pattern(1, 50_000))).abandon();
        const before = a.k.heap.inUse;
        const waiting = a.k.push(conn.qd, a.k.alloc(50_000).fill(new Uint8Array(50_000)));
        a.k.cancel(waiting);
        assert.equal(a.k.heap.inUse, before);
        assert.equal(((yield* a.k.wait(waiting)).error as NodeJS.ErrnoException).code, 'ECANCELED');
        conn.end();
        b.k.spawn(
          (function* (): Coroutine {
            const peer = yield* listener.accept();
            const all = yield* readAll(peer);
            assert.equal(all.length, pushed);
            for (let at = 0; at < pushed; at += 50_000) {
              assert.ok(all.subarray(at, at + 50_000).equals(pattern(1, 50_000)));
            }
            peer.close();
          })(),
        );
        assert.equal(yield* conn.pop(), null);
      })(),
    );
  });

  it('sends what was pushed as it was, also where it had to wait', async () => {
    await using pair = new Pair({ sendLimit: 2048 });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    const got = run(
      b,
      (function* () {
        const peer = yield* listener.accept();
        const all = yield* readAll(peer);
        peer.close();
        return all.toString();
      })(),
    );
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        const buffer = a.k.alloc(1000).fill('0123456789'.repeat(100));
        const tokens: number[] = [];
        for (let i = 0; i < 10; i++) {
          tokens.push(a.k.push(conn.qd, i % 2 === 0 ? buffer.retain() : [a.k.alloc(1).fill('|'), buffer.retain()]));
          // The view moves on.
          buffer.offset += 1;
          buffer.length -= 1;
        }
        assert.equal(buffer.length, 990);
        for (const { error } of yield* a.k.waitAll(tokens)) assert.equal(error, null);
        assert.equal(buffer.length, 990);
        buffer.release();
        conn.end();
        assert.equal(yield* conn.pop(), null);
      })(),
    );
    const whole = '0123456789'.repeat(100);
    const expected = Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? '' : '|') + whole.slice(i)).join('');
    assert.equal(await got, expected);
  });

  it('sends pushes whole and in order, whatever their sizes and whichever are withdrawn', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const chance = new Chance(seed);
      const limit = 1 << (11 + chance.below(6));
      await using pair = new Pair(
        { sendLimit: limit, tcp: { maxSendBuffers: 8 + chance.below(60) } },
        { checked: false },
      );
      const { a, b } = pair;
      const listener = b.k.listen({ host: '10.0.0.2' });
      const got = run(
        b,
        (function* () {
          const peer = yield* listener.accept();
          const all = yield* readAll(peer);
          peer.close();
          return all;
        })(),
      );
      const sent = new Map<number, Buffer>();
      const withdrawn = new Set<number>();
      await run(
        a,
        (function* () {
          const conn = yield* a.k.connect(ip(listener.address));
          const waiting: [id: number, token: number][] = [];
          for (let id = 0; id < 80; id++) {
            const message = pattern(id + seed, 8 + chance.below(chance.below(4) === 0 ? 9000 : 300));
            message.writeUInt32LE(message.length, 0);
            message.writeUInt32LE(id, 4);
            const pieces: HeapBuffer[] = [];
            for (let at = 0; at < message.length; ) {
              const length = Math.min(message.length - at, 1 + chance.below(message.length));
              pieces.push(a.k.alloc(length).fill(message.subarray(at, at + length)));
              at += length;
            }
            const few = pieces.length <= 6 ? pieces : null;
            if (few === null) for (const piece of pieces) piece.release();
            sent.set(id, message);
            const sga = few ?? a.k.alloc(message.length).fill(message);
            waiting.push([id, a.k.push(conn.qd, sga)]);
            if (chance.below(3) === 0) {
              const [which, token] = waiting.splice(chance.below(waiting.length), 1)[0]!;
              a.k.cancel(token);
              const { error } = yield* a.k.wait(token);
              if (error !== null) withdrawn.add(which);
            }
            if (chance.below(20) === 0) yield* a.k.sleep(1);
          }
          if (seed % 2 === 0)
            for (const [, token] of waiting.splice(0)) assert.equal((yield* a.k.wait(token)).error, null);
          conn.end();
          assert.equal(yield* conn.pop(), null);
          // What waited is done or was not: it has been sent all the same.
          for (const [, token] of waiting) assert.equal((yield* a.k.wait(token)).error, null);
        })(),
      );
      const all = await got;
      let last = -1;
      for (let at = 0; at < all.length; ) {
        const id = all.readUInt32LE(at + 4);
        const message = sent.get(id);
        assert.ok(message !== undefined && id > last, `seed ${seed}: message ${id} after ${last}`);
        assert.ok(all.subarray(at, at + message.length).equals(message), `seed ${seed}: message ${id} is whole`);
        for (let missing = last + 1; missing < id; missing++)
          assert.ok(withdrawn.has(missing), `seed ${seed}: ${missing}`);
        last = id;
        at += message.length;
      }
      for (let missing = last + 1; missing < 80; missing++)
        assert.ok(withdrawn.has(missing), `seed ${seed}: ${missing}`);
    }
  });

  it('takes many small buffers in one push, and more than TCP holds wait', async () => {
    await using pair = new Pair({ tcp: { maxSendBuffers: 64 } });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    b.k.spawn(listener.serve(echo));
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        const tokens: number[] = [];
        for (let i = 0; i < 40; i++) {
          tokens.push(a.k.push(conn.qd, [a.k.alloc(2).fill('ab'), a.k.alloc(0), a.k.alloc(1).fill('c')]));
        }
        for (const { error } of yield* a.k.waitAll(tokens)) assert.equal(error, null);
        const pieces = Array.from({ length: 65 }, () => a.k.alloc(1));
        assert.equal(yield* failureOf(conn.push(pieces)), 'ENOBUFS');
        assert.equal((yield* readAll(conn, 120)).toString(), 'abc'.repeat(40));
        conn.close();
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
        (yield* client.pop({ timeout: 5000 })).release();
        const pushes = Array.from({ length: 30 }, (_, i) =>
          a.k.pushTo(client.qd, a.k.alloc(4).fill(`${1000 + i}`), to),
        );
        const withdrawn = a.k.pushTo(client.qd, a.k.alloc(4).fill('none'), to);
        a.k.cancel(withdrawn);
        const results = yield* a.k.waitAll([...pushes, withdrawn]);
        for (const { error } of results.slice(0, 30)) assert.equal(error, null);
        for (let i = 0; i < 30; i++) {
          const reply = yield* client.pop({ timeout: 5000 });
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

function readable({ datapath }: End): boolean {
  for (const c of datapath.tcp.table) if (c.readable) return true;
  return false;
}

function wireOf({ datapath }: End): ReturnType<typeof wire>[0] {
  return datapath.stack.context.device as unknown as ReturnType<typeof wire>[0];
}

describe('middleware', () => {
  it('loses, doubles, reorders and corrupts frames, and the streams are exact', async () => {
    const { middleware } = parseSpec('tap:t,faults=loss:0.05,duplication:0.05,reordering:0.05,corruption:0.02,seed:3');
    await using pair = new Pair({ middleware: openMiddleware(middleware!), tcp: { minRtoMs: 20 } });
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
