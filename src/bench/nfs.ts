/**
 * `bench nfs`: our NFSv3 client library beside libnfs, against one nfs-ganesha on loopback that exports a tmpfs.
 * It touches the processes it starts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { processCpuNs } from '../linux/affinity.ts';
import { connectServer } from '../remote/connect.ts';
import type { Bench, BenchContext, OpenBench, Sample, SampleTimes, Workload } from './bench.ts';
import { ownProgram } from './find.ts';
import { Ganesha, ganeshaMissing } from './peers/ganesha.ts';
import { buildLibnfsLoad, type LibnfsLoad, libnfsMissing } from './peers/libnfs-load.ts';

const SIDES = ['isthmus', 'libnfs'] as const;
type SideName = (typeof SIDES)[number];
const BULK_MIB = 1024;

export function nfs(): Bench {
  const missing = ganeshaMissing() ?? undefined;
  const noLibrary = missing ?? libnfsMissing() ?? undefined;
  const workloads: Workload[] = [
    { name: 'getattr d1' },
    { name: 'getattr d64' },
    { name: 'write 1 GiB', slow: true, extraSeconds: 2 },
    { name: 'read 1 GiB', slow: true, extraSeconds: 2 },
  ];
  return {
    name: 'nfs',
    summary:
      'NFSv3 against nfs-ganesha on loopback. getattr: one handle, d requests at once. write, read: a file in blocks of 1 MiB, 8 at once, committed, every byte compared.',
    sides: [
      { name: 'isthmus', missing },
      { name: 'libnfs', missing: noLibrary },
    ],
    workloads,
    columns: ['opsPerSecond', 'bytesPerSecond'],
    comparisons: [{ ours: 'isthmus', peer: 'libnfs', metrics: ['opsPerSecond', 'bytesPerSecond'] }],
    open: (context) => openNfsBench(context, noLibrary === undefined),
  };
}

async function openNfsBench(context: BenchContext, withLibnfs: boolean): Promise<OpenBench> {
  const libnfs = withLibnfs ? buildLibnfsLoad() : null;
  const server = await Ganesha.start({ tmpfs: `${2 * BULK_MIB + 256}m` });
  const loads = new Map<SideName, Load>();
  try {
    const probe = await connectServer(server.url('3'));
    const handle = Buffer.from(probe.root).toString('hex');
    await probe.close();
    const { port, mountPort } = server;
    loads.set('isthmus', await Load.start(process.execPath, [ownProgram('./nfs-worker'), server.url('3')]));
    if (libnfs !== null) {
      const url = `nfs://127.0.0.1/export?nfsport=${port}&mountport=${mountPort}&version=3&uid=0&gid=0`;
      loads.set('libnfs', await Load.start(libnfs.program, [url]));
    }
    context.note('server and load take the CPUs as they come: neither is pinned');
    return {
      sample: (side, workload, times) => sample(loads.get(side as SideName) as Load, side, workload, times, handle),
      ownCpuNs: () =>
        [server.pid, ...[...loads.values()].map((load) => load.pid)].reduce((sum, pid) => sum + processCpuNs(pid), 0),
      close: () => closeAll(server, loads, libnfs),
    };
  } catch (error) {
    await closeAll(server, loads, libnfs);
    throw error;
  }
}

async function sample(
  load: Load,
  side: string,
  workload: string,
  { seconds, warmup }: SampleTimes,
  handle: string,
): Promise<Sample> {
  const depth = /^getattr d(\d+)$/.exec(workload)?.[1];
  if (depth !== undefined) {
    const [count, elapsed] = await load.ask(`getattr ${handle} ${depth} ${warmup} ${seconds}`);
    return { opsPerSecond: count / elapsed };
  }
  const [command] = workload.split(' ');
  const [bytes, elapsed] = await load.ask(`${command} /bulk-${side} ${BULK_MIB}`);
  return { bytesPerSecond: bytes / elapsed, seconds: elapsed };
}

async function closeAll(server: Ganesha, loads: Map<SideName, Load>, libnfs: LibnfsLoad | null): Promise<void> {
  for (const load of loads.values()) await load.end();
  libnfs?.remove();
  await server.stop();
}

/** A process that is told what to do and says how long it took. */
class Load {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  static async start(program: string, args: readonly string[]): Promise<Load> {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child, 'spawn');
    const load = new Load(child);
    await load.#answer();
    return load;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async ask(command: string): Promise<[count: number, seconds: number]> {
    this.#child.stdin!.write(`${command}\n`);
    const [count, seconds] = (await this.#answer()).split(' ').map(Number);
    return [count as number, seconds as number];
  }

  async #answer(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the load program ended');
    if (value.startsWith('error ')) throw new Error(value.slice(6));
    return value;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
