/**
 * A benchmark of servers: each in a process of its own on one CPU, a load on another, one server running at a time.
 * It touches the processes it starts.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { LoadReport } from '../apps/load/report.ts';
import { createLab, type Lab, type LabSide } from '../linux/lab.ts';
import type { Bench, BenchContext, OpenBench, Sample, SampleTimes, Side, Workload } from './bench.ts';
import { findBun, isthmusCommand, ownProgram } from './find.ts';
import { LoadAgent } from './load-agent.ts';
import { spawnPinned } from './pinned.ts';
import { type ServerCommand, ServerProcess, type Within } from './server-process.ts';

export interface ServerSide extends Side {
  readonly server: ServerCommand;
  /** How the load reaches it. */
  readonly load?: {
    /** Datapath of our own load. Default `auto`. */
    readonly datapath?: string;
    /** Another load than ours: a program of this folder that answers as load-worker.ts does. */
    readonly program?: string;
  };
  /** On a pair of namespaces of its own, the server in one and its load in the other. Default: loopback. */
  readonly lab?: boolean;
}

export interface ServerWorkload extends Workload {
  /** Whatever the load needs to know. */
  readonly [parameter: string]: unknown;
}

/** What a drive may use. */
export interface Driver extends BenchContext {
  readonly side: ServerSide;
  /** Address of the server. */
  readonly host: string;
  /**
   * Runs the side's load, with the arguments of `isthmus load`.
   * @param datapath instead of the side's own
   * @throws Error where it failed or counted errors
   */
  load(args: readonly string[], datapath?: string): Promise<LoadReport>;
  /** Starts a process where the load belongs. */
  readonly beside: Within;
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

/** One side, running: its server, its loads, and the lab that both are in. */
class RunningSide {
  readonly side: ServerSide;
  readonly server: ServerProcess;
  readonly #lab: Lab | null;
  readonly #context: BenchContext;
  readonly #agents = new Map<string, LoadAgent>();
  #withoutHeadroom = false;

  private constructor(side: ServerSide, server: ServerProcess, lab: Lab | null, context: BenchContext) {
    this.side = side;
    this.server = server;
    this.#lab = lab;
    this.#context = context;
  }

  static async start(side: ServerSide, context: BenchContext): Promise<RunningSide> {
    const lab = side.lab ? benchLab() : null;
    try {
      const server = await ServerProcess.start(side.server, context.serverCpu, withinSide(lab?.server));
      return new RunningSide(side, server, lab, context);
    } catch (error) {
      lab?.close();
      throw error;
    }
  }

  get driver(): Driver {
    return {
      ...this.#context,
      side: this.side,
      host: this.#lab?.server.address4 ?? '127.0.0.1',
      load: (args, datapath) => this.#load(args, datapath ?? this.side.load?.datapath ?? 'auto'),
      beside: (start) => {
        this.#reserveHeadroom(false);
        return withinSide(this.#lab?.client)(start);
      },
    };
  }

  // A process for each datapath: one that serves two is compiled for both.
  #load(args: readonly string[], datapath: string): Promise<LoadReport> {
    let agent = this.#agents.get(datapath);
    if (agent === undefined) {
      const program = this.side.load?.program;
      const within = withinSide(this.#lab?.client);
      agent = new LoadAgent(this.#context, { ...(program !== undefined && { program }), within });
      this.#agents.set(datapath, agent);
    }
    this.#reserveHeadroom(datapath.startsWith('xdp:'));
    return agent.load([...args, '--datapath', datapath]);
  }

  // It is for loads past the kernel, and leaves none for the others; whatever the server is, so that all have the same pair.
  #reserveHeadroom(wanted: boolean): void {
    if (this.#lab === null || this.#withoutHeadroom) return;
    try {
      this.#lab.reserveHeadroom(wanted);
    } catch (error) {
      this.#withoutHeadroom = true;
      this.#context.note(`${this.side.name}: no headroom for XDP on its veth pair: ${(error as Error).message}`);
    }
  }

  cpuNs(): number {
    return [...this.#agents.values()].reduce((sum, agent) => sum + agent.cpuNs(), this.server.cpuNs());
  }

  async close(): Promise<void> {
    await Promise.all([this.server.close(), ...[...this.#agents.values()].map((agent) => agent.close())]);
    this.#lab?.close();
  }
}

/** As the kernel has it on loopback, a client may use a port again whose last connection it closed a second ago (ip(7)). */
function benchLab(): Lab {
  const lab = createLab();
  for (const { namespace } of [lab.server, lab.client]) {
    namespace.run(() => writeFileSync('/proc/sys/net/ipv4/tcp_tw_reuse', '1'));
  }
  return lab;
}

function withinSide(place: LabSide | undefined): Within {
  return place === undefined ? (start) => start() : (start) => place.namespace.run(start);
}

async function openServers<W extends ServerWorkload>(
  sides: readonly ServerSide[],
  workloads: readonly W[],
  drive: Drive<W>,
  context: BenchContext,
): Promise<OpenBench> {
  const running = new Map<string, RunningSide>();
  const all = () => [...running.values()];
  const close = async () => {
    await Promise.all(all().map((each) => each.close()));
  };
  try {
    for (const side of sides) {
      if (side.missing !== undefined) continue;
      try {
        running.set(side.name, await RunningSide.start(side, context));
      } catch (error) {
        context.note(`${side.name} is left out: ${(error as Error).message}`);
      }
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async sample(name, workloadName, times) {
      const side = running.get(name);
      if (side === undefined || !side.server.alive) throw new Error('the server is not running');
      const { server } = side;
      const workload = workloads.find((each) => each.name === workloadName)!;
      server.resume();
      try {
        const sample = await drive(server, workload, times, side.driver);
        await server.settle();
        return sample;
      } finally {
        server.pause();
      }
    },
    ownCpuNs: () => all().reduce((sum, each) => sum + each.cpuNs(), 0),
    close,
  };
}

/** Longest time that a foreign load may take. */
const LOAD_MS = 700_000;
const QUICK_LOAD_MS = 12_000;

/** What a program on the load's CPU prints on standard output. @throws Error with what it said on standard error */
export function runPinned(
  command: readonly string[],
  { loadCpu, quick, beside }: Pick<Driver, 'loadCpu' | 'quick' | 'beside'>,
): Promise<string> {
  const timeout = quick ? QUICK_LOAD_MS : LOAD_MS;
  const [program, ...args] = command;
  return new Promise((resolve, reject) => {
    const child = beside(() =>
      spawnPinned(loadCpu, () => spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout })),
    );
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
    // Of `xdp:lab-server` the name is what was compared; the rest is where.
    name: `isthmus/${datapath.replace(/:.*/, '')}`,
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
