/** Whole systems from a seed: echo servers and clients of a careless world, run to rest, then searched for leaks. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { swarmFaults } from '../../src/datapath/simulated/faults.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { Random } from '../../src/datapath/simulated/random.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import { assertNothingLeft, insist, Swarm } from './swarm.ts';

const SEEDS = 300;
const PORT = 7000;
const HOST = '127.0.0.1';
const PATIENCE_MS = 200_000;

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

function simulate(seed: number, traced = false): Outcome {
  const lines: string[] = [];
  const random = new Random(seed);
  const swarm = new Swarm(random);
  const network = new SimulatedNetwork({
    seed,
    faults: swarmFaults(seed),
    maxTurns: 200_000,
    ...(traced && { trace: (line: string) => void lines.push(line) }),
  });
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
        server.spawn(listener.serve((conn) => swarm.surviving(() => swarm.echo(conn))));
      }
      server.spawn(swarm.surviving(() => swarm.datagramEcho(server, PORT)));
    })(),
  );
  const clients = 1 + random.below(12);
  for (let i = 0; i < clients; i++) {
    const k = kernels[random.below(kernels.length)]!;
    k.spawn(
      (function* () {
        yield* k.sleep(50 + random.below(200));
        yield* swarm.surviving(() => {
          if (random.chance(0.2)) return swarm.datagrams(k, HOST, PORT);
          return swarm.client(k, random.chance(0.3) ? { path: '/sim/echo' } : { host: HOST, port: PORT }, PATIENCE_MS);
        });
      })(),
    );
  }
  network.run();
  if (swarm.bad !== null) throw swarm.bad;

  // Everything at rest: nothing may be left but the server's own queues.
  for (const k of kernels) assert.equal(k.heap.inUse, 0, 'buffers are left');
  assert.equal(network.pending, 0);
  for (const k of kernels) assertNothingLeft(k);
  network.run();
  const { completed, failed } = swarm;
  const { digest, happened: events } = network;
  return { digest, events, virtualMs: network.now(), completed, failed, trace: lines };
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
