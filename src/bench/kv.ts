/**
 * `bench kv`: key-value servers under redis-benchmark (or our own load where that is not installed), beside redis-server.
 * Data for server-bench.ts, and the reading of redis-benchmark's output.
 */
import { createServer } from 'node:net';
import type { Bench, BenchContext, Sample } from './bench.ts';
import { findProgram } from './find.ts';
import { LAB_HOST, labComparisons, labSides, needsLab, onLab } from './lab-sides.ts';
import {
  type Driver,
  isthmusSide,
  runPinned,
  type ServerSide,
  type ServerWorkload,
  sampleOf,
  serverBench,
} from './server-bench.ts';
import type { ServerProcess } from './server-process.ts';

interface KvWorkload extends ServerWorkload {
  readonly command: 'set' | 'get';
  readonly depth: number;
}

const CONNECTIONS = 50;
/** Random keys. With redis-benchmark's default of one key every server is as fast as redis-benchmark itself. */
const KEYS = 1_000_000;
/** SETs that fill the store before anything is measured: four keys of five then exist. */
const FILL = 1_600_000;
const FILL_DEPTH = 64;
const METRICS = ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'];

/** A port that is free in a lab, where nothing else runs. */
const LAB_PORT = 6379;

export async function kv(context: Pick<BenchContext, 'datapaths'>): Promise<Bench> {
  return needsLab(context) ? onVeth(context) : onLoopback(context);
}

/**
 * Over a veth pair our own load drives both; what redis-benchmark finds stands beside, where its kernel is the limit.
 */
function onVeth(context: Pick<BenchContext, 'datapaths'>): Bench {
  const ours = labSides(context, 'kv');
  const benchmark = findProgram('redis-benchmark');
  const speeds = new Map<number, number>();
  const filled = new Set<number>();
  const beside = 'get c50 d1 redis-benchmark';
  return serverBench<KvWorkload>({
    name: 'kv',
    summary:
      'Key-value servers over a veth pair: 3 bytes under a million random keys (quick: 100,000), 50 clients, from our load past the kernel.',
    sides: [...ours, onLab(redisServer(LAB_HOST, LAB_PORT))],
    workloads: [
      { name: 'get c50 d1', command: 'get', depth: 1 },
      { name: 'set c50 d1', command: 'set', depth: 1 },
      { name: 'get c50 d16', command: 'get', depth: 16, slow: true },
      ...(benchmark === null ? [] : [{ name: beside, command: 'get' as const, depth: 1, extraSeconds: 0.3 }]),
    ],
    columns: ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage', 'loadCpu'],
    comparisons: labComparisons(ours, ['redis-server'], METRICS),
    async drive(server, { name, command, depth }, { seconds, warmup }, driver) {
      const target = `resp://${driver.host}:${server.port}`;
      // To fill three servers takes too long for a quick run.
      const share = driver.quick ? 10 : 1;
      const keys = ['-c', `${CONNECTIONS}`, '-s', '3', '--keys', `${KEYS / share}`];
      if (!filled.has(server.pid)) {
        filled.add(server.pid);
        await driver.load([target, ...keys, '-d', `${FILL_DEPTH}`, '--command', 'set', '-n', `${FILL / share}`]);
      }
      if (name === beside) {
        const run = (requests: number) =>
          redisBenchmark(benchmark!, server, command, depth, requests, driver, KEYS / share);
        const speed = speeds.get(server.pid) ?? (await run(5000))['messagesPerSecond']!;
        const sample = await run(Math.max(1000, Math.round(speed * seconds)));
        speeds.set(server.pid, sample['messagesPerSecond']!);
        return sample;
      }
      const times = ['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`];
      return sampleOf(await driver.load([target, ...keys, '-d', `${depth}`, '--command', command, ...times]));
    },
  });
}

async function onLoopback({ datapaths }: Pick<BenchContext, 'datapaths'>): Promise<Bench> {
  const ours = datapaths.map((datapath) => isthmusSide(datapath, 'kv'));
  const benchmark = findProgram('redis-benchmark');
  /** Requests per second of the last sample of each server and workload: it says how many requests fill the time. */
  const speeds = new Map<string, number>();
  const filled = new Set<number>();
  return serverBench<KvWorkload>({
    name: 'kv',
    summary: `Key-value servers: SET and GET of 3 bytes under a million random keys, 50 clients, ${benchmark === null ? 'isthmus load' : 'redis-benchmark'} as the load.`,
    sides: [...ours, redisServer('127.0.0.1', await freePort())],
    workloads: [1, 16].flatMap((depth) =>
      (['set', 'get'] as const).map((command) => ({
        name: `${command} c50 d${depth}`,
        command,
        depth,
        extraSeconds: 0.1,
      })),
    ),
    columns: ['messagesPerSecond', 'p50Us', 'p99Us', 'cpuNsPerMessage'],
    comparisons: [
      ...ours.map(({ name }) => ({ ours: name, peer: 'redis-server', metrics: METRICS })),
      { ours: 'isthmus/uring', peer: 'isthmus/kernel', metrics: METRICS },
    ],
    async drive(server, { command, depth }, { seconds, warmup }, { load, ...context }) {
      const { host } = context;
      if (benchmark === null) {
        const args = ['-c', `${CONNECTIONS}`, '-d', `${depth}`, '-s', '3', '--command', command, '--keys', `${KEYS}`];
        const times = ['--seconds', `${seconds}`, '--warmup', `${warmup}`, '--server-pid', `${server.pid}`];
        return sampleOf(await load([`resp://${host}:${server.port}`, ...args, ...times]));
      }
      if (!filled.has(server.pid)) {
        filled.add(server.pid);
        await redisBenchmark(benchmark, server, 'set', FILL_DEPTH, FILL, context);
      }
      const run = (requests: number) => redisBenchmark(benchmark, server, command, depth, requests, context);
      const key = `${server.pid} ${command} ${depth}`;
      let speed = speeds.get(key);
      if (speed === undefined) {
        // A first, short one warms the server up and says how fast it is.
        await run(20_000);
        speed = (await run(depth === 1 ? 20_000 : 150_000))['messagesPerSecond']!;
      }
      const sample = await run(Math.max(1000, Math.round(speed * seconds)));
      speeds.set(key, sample['messagesPerSecond']!);
      return sample;
    },
  });
}

async function redisBenchmark(
  program: string,
  server: ServerProcess,
  command: string,
  depth: number,
  requests: number,
  context: Pick<Driver, 'loadCpu' | 'quick' | 'beside' | 'host'>,
  keys = KEYS,
): Promise<Sample> {
  const before = server.cpuNs();
  const args = ['-h', context.host, '-p', `${server.port}`, '-t', command, '-n', `${requests}`, '-r', `${keys}`];
  const out = await runPinned([program, ...args, '-c', `${CONNECTIONS}`, '-P', `${depth}`, '--csv'], context);
  return { ...parseRedisBenchmark(out), cpuNsPerMessage: (server.cpuNs() - before) / requests };
}

/** Reads the last line of `redis-benchmark --csv`; latencies there are milliseconds. @throws Error where it is something else */
export function parseRedisBenchmark(text: string): Sample {
  const rows = text
    .trim()
    .split('\n')
    .map((line) => line.split(',').map((cell) => cell.replaceAll('"', '').trim()));
  const header = rows.find((row) => row.includes('rps'));
  const values = rows.at(-1);
  if (header === undefined || values === undefined || values.length !== header.length) {
    throw new Error(`redis-benchmark said: ${text.trim().slice(0, 200)}`);
  }
  const number = (name: string) => Number(values[header.indexOf(name)]);
  const sample = {
    messagesPerSecond: number('rps'),
    p50Us: number('p50_latency_ms') * 1000,
    p99Us: number('p99_latency_ms') * 1000,
  };
  if (!Object.values(sample).every(Number.isFinite))
    throw new Error(`redis-benchmark said: ${text.trim().slice(0, 200)}`);
  return sample;
}

function redisServer(host: string, port: number): ServerSide {
  const program = findProgram('redis-server');
  const options = ['--bind', host, '--port', `${port}`, '--protected-mode', 'no', '--save', '', '--appendonly', 'no'];
  return {
    name: 'redis-server',
    missing: program === null ? 'it is not installed (apt install redis-server)' : undefined,
    server: { command: [program ?? 'redis-server', ...options], ready: /Ready to accept connections/, port },
  };
}

/** A port that nobody listens on now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
