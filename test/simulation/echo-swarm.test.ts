/** Whole systems from a seed: echo servers and clients of a careless world, run to rest, then searched for leaks. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { swarmFaults } from '../../src/datapath/simulated/faults.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { Random } from '../../src/datapath/simulated/random.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import type { Connection } from '../../src/kernel/connection.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';

const SEEDS = 600;
const PORT = 7000;
/** What the world may do to a connection (EBADF: another coroutine closed it meanwhile); anything else is a fault of ours. */
const WORLD = new Set(
  'ECONNRESET ECONNREFUSED ETIMEDOUT EMFILE EPIPE ECANCELED EADDRINUSE ENOENT ENOMEM EBADF'.split(' '),
);

/** Too little for everybody: arrivals wait for memory, and allocations fail. */
const TIGHT = [
  { bytes: 256, count: 16 },
  { bytes: 4096, count: 8 },
];

interface Outcome {
  readonly digest: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly completed: number;
  readonly failed: number;
  readonly trace: readonly string[];
}

class World {
  readonly random: Random;
  readonly network: SimulatedNetwork;
  readonly trace: string[] = [];
  completed = 0;
  failed = 0;
  bad: unknown = null;

  constructor(seed: number, traced: boolean) {
    this.random = new Random(seed);
    const trace = traced ? { trace: (line: string) => void this.trace.push(line) } : {};
    this.network = new SimulatedNetwork({ seed, faults: swarmFaults(seed), maxTurns: 200_000, ...trace });
  }

  /** Runs `body`; errors of the world are counted, others are kept. */
  *surviving(body: () => Coroutine): Coroutine {
    try {
      yield* body();
      this.completed++;
    } catch (error) {
      this.failed++;
      if (!WORLD.has((error as { code?: string }).code ?? '')) this.bad ??= error;
    }
  }

  *echo(conn: Connection): Coroutine {
    // Some servers stop early, with a reset: so an orderly end always means that everything came back.
    const patience = this.random.chance(0.1) ? this.random.below(5) : Number.POSITIVE_INFINITY;
    for (let popped = 0; popped < patience; popped++) {
      const buffer = yield* conn.pop();
      if (buffer === null) return;
      yield* conn.push(buffer);
    }
    conn.abort();
  }

  *client(k: Kernel): Coroutine {
    const { random } = this;
    const address = random.chance(0.3) ? { path: '/sim/echo' } : { host: '127.0.0.1', port: PORT };
    const options = random.chance(0.3) ? { timeout: 1 + random.below(200_000) } : {};
    const conn = yield* k.connect(address, options);
    const length = random.below(1 << random.below(14));
    try {
      const sending = k.spawn(this.surviving(() => this.send(k, conn, length)));
      let received = 0;
      let bored = false;
      while (!bored) {
        const limit = random.chance(0.05) ? { timeout: random.below(1000) } : undefined;
        const buffer = yield* conn.pop(limit);
        if (buffer === null) break;
        for (const byte of buffer.bytes) assert.equal(byte, pattern(received++), 'bytes out of order');
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
        throw error;
      }
      if (buffers.length === 1) yield* conn.push(buffers[0]!);
      else yield* conn.push(buffers);
      if (random.chance(0.2)) yield* k.sleep(random.below(50));
    }
    conn.end();
  }

  /** Datagrams to nobody's benefit: they come back, or they do not. */
  *datagrams(k: Kernel): Coroutine {
    const socket = k.udp();
    try {
      for (let i = 0; i < 5; i++) {
        yield* socket.push(k.alloc(1 + i * 100), { host: '127.0.0.1', port: PORT });
        const buffer = yield* socket.pop({ timeout: 500 });
        buffer.release();
      }
    } finally {
      socket.close();
    }
  }
}

function pattern(i: number): number {
  return (i * 31 + (i >> 8)) & 255;
}

function* datagramEcho(k: Kernel): Coroutine {
  const socket = k.udp({ port: PORT });
  for (;;) yield* socket.push(yield* socket.pop());
}

/** Sockets may meet EMFILE and EADDRINUSE, so set-up is tried until it works. */
function* insist<T>(k: Kernel, make: () => T): Coroutine<T> {
  for (;;) {
    try {
      return make();
    } catch (error) {
      if (!WORLD.has((error as { code?: string }).code ?? '')) throw error;
      yield* k.sleep(5);
    }
  }
}

function simulate(seed: number, traced = false): Outcome {
  const world = new World(seed, traced);
  const { random, network } = world;
  const kernels = Array.from({ length: 1 + random.below(3) }, () =>
    simulatedKernel(network, {
      checked: seed % 8 === 0,
      batch: 1 + random.below(64),
      ...(seed % 5 === 0 ? { sizeClasses: TIGHT } : {}),
    }),
  );
  const server = kernels[0]!;
  server.spawn(
    (function* () {
      for (const place of [{ port: PORT, backlog: 1 + random.below(20) }, { path: '/sim/echo' }]) {
        const listener = yield* insist(server, () => server.listen(place));
        server.spawn(listener.serve((conn) => world.surviving(() => world.echo(conn))));
      }
      server.spawn(world.surviving(() => datagramEcho(server)));
    })(),
  );
  const clients = 1 + random.below(12);
  for (let i = 0; i < clients; i++) {
    const k = kernels[random.below(kernels.length)]!;
    k.spawn(
      (function* () {
        yield* k.sleep(50 + random.below(200));
        yield* world.surviving(() => (random.chance(0.2) ? world.datagrams(k) : world.client(k)));
      })(),
    );
  }
  network.run();
  if (world.bad !== null) throw world.bad;

  // Everything at rest: nothing may be left but the server's own queues.
  for (const k of kernels) assert.equal(k.heap.inUse, 0, 'buffers are left');
  assert.equal(network.pending, 0);
  for (const k of kernels) {
    k.dispose();
    assert.equal(k.openQueues, 0, 'queues are left');
    assert.equal(k.operations.inUse, 0, 'operations are left');
    assert.equal(k.scheduler.alive, 0, 'coroutines are left');
    assert.equal(k.timers.size, 0, 'timers are left');
    assert.equal(k.heap.inUse, 0, 'buffers are left after the end');
  }
  network.run();
  const { completed, failed, trace } = world;
  return { digest: network.digest, events: network.happened, virtualMs: network.now(), completed, failed, trace };
}

describe('echo in a careless world', () => {
  it(`leaves nothing behind, over ${SEEDS} seeds`, () => {
    let completed = 0;
    let failed = 0;
    const digests = new Set<number>();
    for (let seed = 0; seed < SEEDS; seed++) {
      try {
        const outcome = simulate(seed);
        completed += outcome.completed;
        failed += outcome.failed;
        digests.add(outcome.digest);
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
    // The faults must bite, and must leave something to be seen.
    assert.ok(completed > SEEDS && failed > SEEDS / 2, `${completed} completed, ${failed} failed`);
    assert.ok(digests.size > SEEDS * 0.99);
  });

  it('replays a seed exactly', () => {
    for (let seed = 1000; seed < 1020; seed++) {
      const { trace, ...first } = simulate(seed, true);
      const { trace: again, ...second } = simulate(seed, true);
      assert.deepEqual(second, first, `seed ${seed}`);
      assert.deepEqual(again, trace, `seed ${seed}`);
      assert.equal(trace.length, first.events);
    }
  });
});
