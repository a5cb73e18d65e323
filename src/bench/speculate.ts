/**
 * `bench speculate`: commands on the tree of nfs-ganesha some milliseconds away, through our mount with and without speculation,
 * and through the Linux kernel's NFS client. It touches the processes it starts, a temporary directory, and a tap device.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Bench, BenchContext, OpenBench, Sample, Workload } from './bench.ts';
import { findProgram, ownProgram } from './find.ts';
import { type DelayLine, startDelayLine } from './peers/delay-line.ts';
import { Ganesha, ganeshaMissing } from './peers/ganesha.ts';
import { LinuxNfs, linuxNfsMissing } from './peers/linux-nfs.ts';
import { GIT_ENVIRONMENT, prepareLocal, type Work, type WorkSize, works } from './speculate-work.ts';
import type { WorkerReport } from './speculate-worker.ts';

const OURS = ['speculated', 'unspeculated'] as const;
const LINUX = 'linux-nfs';
/** Round trips in milliseconds. */
const DISTANCES = [0.5, 1, 10, 30];
const QUICK_DISTANCES = [10];
const FULL_SIZE: WorkSize = { postmark: [100, 100], directories: 12 };
const QUICK_SIZE: WorkSize = { postmark: [15, 15], directories: 2 };
/** A run that takes longer has failed. */
const LIMIT_MS = 300_000;

export function speculate(context: Pick<BenchContext, 'quick'>): Bench {
  const missing = ganeshaMissing() ?? programMissing() ?? undefined;
  const noLinux = missing ?? (context.quick ? 'a quick run has no time to start it' : linuxNfsMissing()) ?? undefined;
  const kinds = works(context.quick ? QUICK_SIZE : FULL_SIZE);
  const workloads = (context.quick ? QUICK_DISTANCES : DISTANCES).flatMap((distance) =>
    kinds.map(({ name, light }): Workload => {
      const sides = [...OURS, ...(light ? [LINUX] : [])];
      return { name: `${name} rtt${distance}`, sides };
    }),
  );
  return {
    name: 'speculate',
    summary:
      'A command on a cold mount of a server so many milliseconds away, from its start until all it wrote is on the server; ours by NFSv4.1, Linux by NFSv3.',
    sides: [...OURS.map((name) => ({ name, missing })), { name: LINUX, missing: noLinux }],
    workloads,
    columns: ['seconds', 'predicted', 'waited', 'rollbacks'],
    comparisons: [...OURS.slice(1), LINUX].map((peer) => ({ ours: 'speculated', peer, metrics: ['seconds'] })),
    rounds: 2,
    primed: false,
    open: (open) => openSpeculateBench(open, kinds, noLinux === undefined),
  };
}

function programMissing(): string | null {
  if (process.arch !== 'x64') return 'processes are traced on x86-64 only';
  for (const program of ['cc', 'make', 'git', 'tar']) {
    if (findProgram(program) === null) return `${program} is not installed`;
  }
  return null;
}

async function openSpeculateBench(
  context: BenchContext,
  kinds: readonly Work[],
  withLinux: boolean,
): Promise<OpenBench> {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-bench-speculate-'));
  const closing: (() => Promise<void> | void)[] = [() => rmSync(directory, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const each of closing.reverse()) await each();
  };
  try {
    for (const name of ['local', 'mnt']) mkdirSync(join(directory, name));
    prepareLocal(join(directory, 'local'), context.quick ? QUICK_SIZE : FULL_SIZE);
    // In memory: what a disk takes to make a write stable would be added to every side alike.
    const server = await Ganesha.start({ tmpfs: '1g' });
    closing.push(() => server.stop());
    const line = await startDelayLine({ port: server.port, oneWayMs: 0 });
    closing.push(() => line.close());
    let linux: LinuxNfs | null = null;
    if (withLinux) {
      try {
        linux = await LinuxNfs.start(join(tmpdir(), 'isthmus-uml'), server);
        closing.push(() => linux!.close());
      } catch (error) {
        context.note(`${LINUX} is left out: ${(error as Error).message}`);
      }
    }
    context.note('nfs-ganesha exports memory; the delay is a proxy on loopback');
    return new SpeculateBench(directory, kinds, server, line, linux, close);
  } catch (error) {
    await close();
    throw error;
  }
}

class SpeculateBench implements OpenBench {
  readonly #directory: string;
  readonly #kinds: readonly Work[];
  readonly #server: Ganesha;
  readonly #line: DelayLine;
  readonly #linux: LinuxNfs | null;
  readonly #environment: Readonly<Record<string, string>>;
  /** What each work has printed first: all sides must print the same. */
  readonly #printed = new Map<string, string>();
  #count = 0;
  readonly close: () => Promise<void>;

  constructor(
    directory: string,
    kinds: readonly Work[],
    server: Ganesha,
    line: DelayLine,
    linux: LinuxNfs | null,
    close: () => Promise<void>,
  ) {
    this.#directory = directory;
    this.#kinds = kinds;
    this.#server = server;
    this.#line = line;
    this.#linux = linux;
    this.#environment = { ...GIT_ENVIRONMENT, LOCAL: join(directory, 'local') };
    this.close = close;
  }

  ownCpuNs(): number {
    return 0;
  }

  async sample(side: string, workload: string): Promise<Sample> {
    const [, name, distance] = /^(.*) rtt([\d.]+)$/.exec(workload)!;
    const work = this.#kinds.find((each) => each.name === name)!;
    const oneWayMs = Number(distance) / 2;
    this.#line.setOneWayMs(oneWayMs);
    this.#linux?.setOneWayMs(oneWayMs);
    // `work` on the mount: a fresh directory each time, by a symbolic link, so that no side finds what another has left.
    const own = `w${this.#count++}`;
    const { exportDir } = this.#server;
    mkdirSync(join(exportDir, own));
    const enter = ['nsenter', `--mount=/proc/${this.#server.pid}/ns/mnt`];
    work.prepare({ path: join(exportDir, own), insidePath: join(this.#server.directory, 'export', own), enter });
    rmSync(join(exportDir, 'work'), { force: true });
    symlinkSync(own, join(exportDir, 'work'));
    if (readlinkSync(join(exportDir, 'work')) !== own) throw new Error('the exported directory cannot be prepared');
    try {
      return side === LINUX ? await this.#onLinux(work) : await this.#onOurs(side, work);
    } finally {
      rmSync(join(exportDir, own), { recursive: true, force: true });
    }
  }

  async #onLinux(work: Work): Promise<Sample> {
    if (this.#linux === null) throw new Error('it could not be started');
    const { seconds, stdout } = await this.#linux.run(work.script, this.#environment);
    this.#compare(work, stdout);
    return { seconds };
  }

  async #onOurs(side: string, work: Work): Promise<Sample> {
    const url = this.#server.url('4.1', this.#line.port);
    const how = side === 'speculated' ? 'speculate' : 'wait';
    const argv = [ownProgram('./speculate-worker'), url, join(this.#directory, 'mnt'), how, work.script];
    const child = spawn(process.execPath, argv, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#environment, LC_ALL: 'C' },
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    const texts = ['', '', ''];
    for (const i of [1, 2, 3]) {
      (child.stdio[i] as Readable).setEncoding('utf8').on('data', (text: string) => {
        texts[i - 1] += text;
      });
    }
    await new Promise((resolve) => child.once('close', resolve));
    process.off('exit', kill);
    const [stdout, stderr, said] = texts as [string, string, string];
    if (said === '') throw new Error(stderr.trim().slice(-300) || 'it ended early');
    const { elapsedMs, code, signal, predicted, waited, rollbacks } = JSON.parse(said) as WorkerReport;
    if (code !== 0 || signal !== 0)
      throw new Error(`the command ended with ${code || `signal ${signal}`}: ${stderr.slice(-300)}`);
    this.#compare(work, stdout);
    return { seconds: elapsedMs / 1000, ...(side === 'speculated' ? { predicted, waited, rollbacks } : {}) };
  }

  #compare({ name }: Work, stdout: string): void {
    const first = this.#printed.get(name);
    if (first === undefined) this.#printed.set(name, stdout);
    else if (first !== stdout) throw new Error(`it printed something else than before: ${stdout.slice(0, 200)}`);
  }
}
