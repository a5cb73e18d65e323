/**
 * Whole systems from a seed, our own TCP/IP under them: kernels, stacks and programs on a bad wire, in simulated time. As a
 * program (`npm run simulate -- [SEEDS] [FIRST]`) it runs many seeds and says which one failed; it touches nothing else.
 */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { Random } from '../../src/datapath/simulated/random.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { drawFaults, type HostOptions, StackWire } from './stack-wire.ts';
import { assertNothingLeft, insist, Swarm } from './swarm.ts';

const PORT = 7000;
/** Nobody may wait longer: TCP itself gives up after some minutes, and TIME_WAIT is over. */
const END_MS = 3_600_000;
const MAX_TURNS = 2_000_000;

const ROOMY = [
  { bytes: 384, count: 384 },
  { bytes: 2240, count: 384 },
  { bytes: 16704, count: 8 },
];
/** Too little for everybody: frames are lost, and allocations fail. */
const TIGHT = [
  { bytes: 384, count: 80 },
  { bytes: 2240, count: 64 },
  { bytes: 4096, count: 8 },
];

export interface Outcome {
  readonly digest: number;
  readonly frames: number;
  readonly virtualMs: number;
  readonly completed: number;
  readonly failed: number;
  readonly trace: readonly string[];
}

/** @throws AssertionError and others where anything went wrong that the world may not be blamed for */
export function simulate(seed: number, traced = false): Outcome {
  const random = new Random(seed);
  const trace: string[] = [];
  const wire = new StackWire(random, drawFaults(random), traced ? (line) => void trace.push(line) : null);
  const swarm = new Swarm(random, { longest: 18, keepAlive: true });
  const hosts = Array.from({ length: 2 + random.below(2) }, (_, i) => wire.add(drawHost(random, i + 1)));
  /** What TCP keeps in reserve. */
  const reserved = hosts.map(({ heap }) => heap.inUse);
  const server = hosts[0]!.kernel;
  startServers(server, swarm);
  const clients = 1 + random.below(8);
  for (let i = 0; i < clients; i++) {
    // The server's own host among them, now and then: its packets never reach the wire.
    const { kernel } = hosts[random.chance(0.1) ? 0 : 1 + random.below(hosts.length - 1)]!;
    const host = random.chance(0.5) ? '10.0.0.1' : 'fd00::1';
    kernel.spawn(
      (function* () {
        yield* kernel.sleep(50 + random.below(2000));
        yield* swarm.surviving(() =>
          random.chance(0.2)
            ? swarm.datagrams(kernel, host, PORT)
            : swarm.client(kernel, { host, port: PORT }, 100_000),
        );
      })(),
    );
  }
  wire.run(END_MS, MAX_TURNS);
  if (swarm.bad !== null) throw swarm.bad;
  const virtualMs = wire.now();
  for (const [i, { kernel, datapath }] of hosts.entries()) {
    // The listener and the datagram socket are the server's own, and so are their coroutines.
    assert.ok(kernel.openQueues <= (kernel === server ? 2 : 0), `${kernel.openQueues} queues are stuck`);
    assert.ok(kernel.scheduler.alive <= (kernel === server ? 2 : 0), `${kernel.scheduler.alive} coroutines are stuck`);
    assert.equal(datapath.tcp.table.size, 0, 'connections are left');
    assert.equal(kernel.heap.inUse, reserved[i], 'buffers are left');
  }
  for (const { kernel } of hosts) assertNothingLeft(kernel);
  const { digest, frames } = wire;
  return { digest: digest >>> 0, frames, virtualMs, completed: swarm.completed, failed: swarm.failed, trace };
}

function drawHost(random: Random, number: number): HostOptions {
  return {
    addresses: [`10.0.0.${number}/24`, `fd00::${number}/64`],
    sizeClasses: random.chance(0.2) ? TIGHT : ROOMY,
    checked: random.chance(0.1),
    scatterGather: random.chance(0.5),
    queue: random.chance(0.1) ? 4 + random.below(12) : 256,
    kernel: { batch: 1 + random.below(64) },
    tcp: {
      congestion: random.chance(0.5) ? 'cubic' : 'newreno',
      timeWaitMs: random.chance(0.5) ? 60_000 : 100,
      receiveBuffer: 1 << (11 + random.below(8)),
    },
  };
}

/** On every address of the server, of either family. */
function startServers(server: Kernel, swarm: Swarm): void {
  server.spawn(
    (function* () {
      const place = { host: '::', port: PORT, backlog: 1 + swarm.random.below(20) };
      const listener = yield* insist(server, () => server.listen(place));
      server.spawn(listener.serve((conn) => swarm.surviving(() => swarm.echo(conn))));
    })(),
  );
  server.spawn(swarm.surviving(() => swarm.datagramEcho(server, PORT, '::')));
}

function main(seeds: number, first: number): void {
  let completed = 0;
  let failed = 0;
  let frames = 0;
  const start = performance.now();
  let said = start;
  for (let seed = first; seed < first + seeds; seed++) {
    try {
      const outcome = simulate(seed);
      completed += outcome.completed;
      failed += outcome.failed;
      frames += outcome.frames;
    } catch (error) {
      console.error(`seed ${seed}:`, error);
      console.error(`it replays exactly: npm run simulate -- 1 ${seed}`);
      process.exitCode = 1;
      return;
    }
    if (process.stderr.isTTY && performance.now() - said > 200) {
      said = performance.now();
      process.stderr.write(`\r${seed - first + 1} of ${seeds} seeds`);
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(
    `${seeds} seeds in ${seconds} s: ${completed} conversations ended well and ${failed} by faults of the world, in ${frames} frames; ` +
      'no wrong byte, nothing stuck, nothing left',
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(Number(process.argv[2] ?? 10_000), Number(process.argv[3] ?? 0));
}
