/**
 * A benchmark of servers: each in a process of its own on one CPU, a load on another, one server running at a time.
 * It touches the processes it starts.
 */
import { spawn } from 'node:child_process';
import type { LoadReport } from '../apps/load/report.ts';
import type { Bench, BenchContext, OpenBench, Sample, SampleTimes, Side, Workload } from './bench.ts';
import { findBun, isthmusCommand, ownProgram } from './find.ts';
import { LoadAgent } from './load-agent.ts';
import { spawnPinned } from './pinned.ts';
import { type ServerCommand, ServerProcess } from './server-process.ts';

export interface ServerSide extends Side {
  readonly server: ServerCommand;
}

export interface ServerWorkload extends Workload {
  /** Whatever the load needs to know. */
  readonly [parameter: string]: unknown;
}

/** What a drive may use. */
export interface Driver extends BenchContext {
  /** Runs our own load, with the arguments of `isthmus load`. @throws Error where it failed or counted errors */
  load(args: readonly string[]): Promise<LoadReport>;
}

/** Drives one server for one sample. */
export type Drive<W extends ServerWorkload> = (
  server: ServerProcess,
  workload: W,
  times: SampleTimes,
  driver: Driver,
) => Promise<Sample>;

export interface ServerBenchOptions<W extends ServerWorkload> extends Omit<Bench, 'open' | 'sides' | 'workloads'> {
  readonly sides: readonly ServerSide[];
  readonly workloads: readonly W[];
  readonly drive: Drive<W>;
}

export function serverBench<W extends ServerWorkload>({ drive, sides, ...bench }: ServerBenchOptions<W>): Bench {
  return {
    ...bench,
    sides,
    open: (context) => openServers(sides, bench.workloads, drive, context),
  };
}

async function openServers<W extends ServerWorkload>(
  sides: readonly ServerSide[],
  workloads: readonly W[],
  drive: Drive<W>,
  context: BenchContext,
): Promise<OpenBench> {
  const servers = new Map<string, ServerProcess>();
  const agent = new LoadAgent(context);
  const driver: Driver = { ...context, load: (args) => agent.load(args) };
  const close = async () => {
    await Promise.all([agent.close(), ...[...servers.values()].map((server) => server.close())]);
  };
  try {
    for (const { name, missing, server } of sides) {
      if (missing !== undefined) continue;
      try {
        servers.set(name, await ServerProcess.start(server, context.serverCpu));
      } catch (error) {
        context.note(`${name} is left out: ${(error as Error).message}`);
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async sample(side, workloadName, times) {
      const server = servers.get(side);
      if (server === undefined || !server.alive) throw new Error('the server is not running');
      const workload = workloads.find(({ name }) => name === workloadName)!;
      server.resume();
      try {
        const sample = await drive(server, workload, times, driver);
        await server.settle();
        return sample;
      } finally {
        server.pause();
      }
    },
    ownCpuNs: () => [...servers.values()].reduce((sum, server) => sum + server.cpuNs(), agent.cpuNs()),
    close,
  };
}

/** Longest time that a foreign load may take. */
const LOAD_MS = 700_000;
const QUICK_LOAD_MS = 12_000;

/** What a program on the load's CPU prints on standard output. @throws Error with what it said on standard error */
export function runPinned(
  command: readonly string[],
  { loadCpu, quick }: Pick<BenchContext, 'loadCpu' | 'quick'>,
): Promise<string> {
  const timeout = quick ? QUICK_LOAD_MS : LOAD_MS;
  const [program, ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawnPinned(loadCpu, () => spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout }));
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString('latin1');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err = (err + chunk.toString('utf8')).slice(-4000);
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${args.slice(0, 3).join(' ')} ended with ${signal ?? code}: ${err.trim()}`));
    });
  });
}

/** The metrics of a load on our own generator. */
export function sampleOf(report: LoadReport): Sample {
  const { idle } = report;
  const grown = idle === undefined ? undefined : idle.rssBytesAfter - idle.rssBytesBefore;
  return {
    messagesPerSecond: report.messagesPerSecond,
    p50Us: report.p50Us,
    p99Us: report.p99Us,
    p999Us: report.p999Us,
    cpuNsPerMessage: report.server?.cpuNsPerMessage,
    serverCpu: report.server?.cpu,
    loadCpu: report.load.cpu,
    loadNsPerMessage: report.load.cpuNsPerMessage,
    rssBytesPerIdleConnection: grown === undefined ? undefined : Math.max(0, grown / idle!.connections),
  };
}

const ISTHMUS_READY = /^isthmus \S+: (?:tcp|udp|resp) \S*:(\d+)/m;
const PEER_READY = /^\S+: (?:tcp|udp) \S*:(\d+)/m;

/** `isthmus/uring` and so on: one of our own servers on a datapath. */
export function isthmusSide(datapath: string, ...args: string[]): ServerSide {
  return {
    name: `isthmus/${datapath}`,
    server: { command: isthmusCommand(...args, '--port', '0', '--datapath', datapath), ready: ISTHMUS_READY },
  };
}

/** A server of src/bench/peers, run by node. */
export function nodeSide(name: string, program: string, ...args: string[]): ServerSide {
  return {
    name,
    server: { command: [process.execPath, ownProgram(`./peers/${program}`), ...args], ready: PEER_READY },
  };
}

export function bunSide(...args: string[]): ServerSide {
  const bun = findBun();
  return {
    name: 'bun',
    missing: bun === null ? 'it is not installed (npm install installs it for development)' : undefined,
    server: { command: [bun ?? 'bun', ownProgram('./peers/bun-echo'), ...args], ready: PEER_READY },
  };
}
