/**
 * The programs of the whole-system simulations: echo servers and clients that do everything a careful or careless program
 * may do to a connection, by chance from a seed. They touch only the kernels that they are given.
 */
import assert from 'node:assert/strict';
import type { Random } from '../../src/datapath/simulated/random.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import { type Address, SocketOption } from '../../src/kernel/datapath.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';

/** What the world may do to a connection (EBADF: another coroutine closed it meanwhile); anything else is a fault of ours. */
const WORLD = new Set(
  'ECONNRESET ECONNREFUSED ETIMEDOUT EMFILE EPIPE ECANCELED EADDRINUSE EHOSTUNREACH ENOENT ENOMEM EBADF'.split(' '),
);

export class Swarm {
  readonly random: Random;
  /** Longest message of a client, as a power of two. */
  readonly longest: number;
  /** Ask silent peers whether they are still there: on a wire that loses resets, nobody else will tell. */
  readonly keepAlive: boolean;
  completed = 0;
  failed = 0;
  /** The first error that was no fault of the world. */
  bad: unknown = null;

  constructor(random: Random, { longest = 13, keepAlive = false } = {}) {
    this.random = random;
    this.longest = longest;
    this.keepAlive = keepAlive;
  }

  #prepare(conn: Connection): void {
    if (!this.keepAlive) return;
    conn.setOption(SocketOption.KEEP_ALIVE_IDLE, 30);
    conn.setOption(SocketOption.KEEP_ALIVE_INTERVAL, 10);
    conn.setOption(SocketOption.KEEP_ALIVE, 1);
  }

  /** Runs `body`; errors of the world are counted, others are kept. */
  *surviving(body: () => Coroutine): Coroutine {
    try {
      yield* body();
      this.completed++;
    } catch (error) {
      this.failed++;
      if (!isOfTheWorld(error)) this.bad ??= error;
    }
  }

  *echo(conn: Connection): Coroutine {
    this.#prepare(conn);
    // Some servers stop early, with a reset: so an orderly end always means that everything came back.
    const patience = this.random.chance(0.1) ? this.random.below(5) : Number.POSITIVE_INFINITY;
    for (let popped = 0; popped < patience; popped++) {
      const buffer = yield* conn.pop();
      if (buffer === null) return;
      yield* conn.push(buffer);
    }
    conn.abort();
  }

  /** Sends bytes whose order shows, reads them back, and leaves in one of many ways. `mostMs`: its longest patience. */
  *client(k: Kernel, address: Address, mostMs: number): Coroutine {
    const { random } = this;
    const options = random.chance(0.3) ? { timeout: 1 + random.below(mostMs) } : {};
    const conn = yield* k.connect(address, options);
    this.#prepare(conn);
    const length = random.below(1 << random.below(this.longest + 1));
    try {
      const sending = k.spawn(this.surviving(() => this.send(k, conn, length)));
      let received = 0;
      let bored = false;
      while (!bored) {
        const limit = random.chance(0.05) ? { timeout: random.below(1000) } : undefined;
        const buffer = yield* conn.pop(limit);
        if (buffer === null) break;
        for (const byte of buffer.bytes) if (byte !== pattern(received++)) assert.fail('bytes out of order');
        buffer.release();
        bored = random.chance(0.01);
      }
      assert.ok(bored ? received <= length : received === length, `${received} of ${length} bytes came back`);
      // To wait for a sender without reading could be to wait for ever.
      if (bored || random.chance(0.5)) sending.cancel();
      else yield* sending.join();
    } finally {
      if (random.chance(0.2)) conn.abort();
      else conn.close();
    }
  }

  *send(k: Kernel, conn: Connection, length: number): Coroutine {
    const { random } = this;
    for (let sent = 0; sent < length; ) {
      const buffers: HeapBuffer[] = [];
      try {
        for (let n = 1 + random.below(3); n > 0; n--) {
          const buffer = k.alloc(Math.min(length - sent, random.below(3000)));
          for (let i = 0; i < buffer.length; i++) buffer.memory[buffer.offset + i] = pattern(sent++);
          buffers.push(buffer);
        }
      } catch (error) {
        for (const buffer of buffers) buffer.release();
        // The rest will never come: whoever reads must not wait for it.
        conn.abort();
        throw error;
      }
      if (buffers.length === 1) yield* conn.push(buffers[0]!);
      else yield* conn.push(buffers);
      if (random.chance(0.2)) yield* k.sleep(random.below(50));
    }
    conn.end();
  }

  /** Datagrams to nobody's benefit: they come back, or they do not. */
  *datagrams(k: Kernel, host: string, port: number): Coroutine {
    const socket = k.udp(host.includes(':') ? { host: '::' } : {});
    try {
      for (let i = 0; i < 5; i++) {
        yield* socket.push(k.alloc(1 + i * 100), { host, port });
        const buffer = yield* socket.pop({ timeout: 500 });
        buffer.release();
      }
    } finally {
      socket.close();
    }
  }

  *datagramEcho(k: Kernel, port: number, host?: string): Coroutine {
    const socket = k.udp({ port, ...(host !== undefined && { host }) });
    for (;;) yield* socket.push(yield* socket.pop());
  }
}

function pattern(i: number): number {
  return (i * 31 + (i >> 8)) & 255;
}

export function isOfTheWorld(error: unknown): boolean {
  return WORLD.has((error as { code?: string }).code ?? '');
}

/** Sockets may meet EMFILE and EADDRINUSE, so set-up is tried until it works. */
export function* insist<T>(k: Kernel, make: () => T): Coroutine<T> {
  for (;;) {
    try {
      return make();
    } catch (error) {
      if (!isOfTheWorld(error)) throw error;
      yield* k.sleep(5);
    }
  }
}

/** Nothing may be left of a kernel whose programs are over. */
export function assertNothingLeft(k: Kernel): void {
  k.dispose();
  assert.equal(k.openQueues, 0, 'queues are left');
  assert.equal(k.operations.inUse, 0, 'operations are left');
  assert.equal(k.scheduler.alive, 0, 'coroutines are left');
  assert.equal(k.timers.size, 0, 'timers are left');
  assert.equal(k.heap.inUse, 0, 'buffers are left after the end');
}
