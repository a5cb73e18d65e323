/**
 * Runs a program on several kernels, each in a worker thread on a processor of its own, until all end or one fails.
 * It touches the workers it starts.
 */
import { openGroup } from '../datapath/group.ts';
import { startProgram, type WorkerKernel } from '../datapath/worker-host.ts';
import { getAffinity } from '../linux/affinity.ts';
import type { Io } from './command.ts';
import { inlineFurther } from './inlining.ts';

export interface WorkerProgram {
  /** URL of the module. */
  readonly module: string;
  readonly entry: string;
  /** What each is given. */
  readonly argument: (core: number) => unknown;
  /** URL of a module that imports the program. */
  readonly importer?: string;
  readonly argv?: readonly string[];
}

/** @throws what the first of them failed with; the others are closed then, as they are when `interrupted` is fulfilled */
export async function runWorkers(
  program: WorkerProgram,
  datapath: string,
  cores: number,
  io: Pick<Io, 'err'>,
  interrupted: Promise<void>,
): Promise<void> {
  inlineFurther();
  const allowed = getAffinity();
  const { argument, ...rest } = program;
  const workers: WorkerKernel[] = [];
  const group = await openGroup(datapath, cores);
  try {
    for (let core = 0; core < cores; core++) {
      // More kernels than processors: the system shares them out.
      const processor = cores <= allowed.length ? { core: allowed[core]! } : {};
      workers.push(startProgram({ ...rest, ...processor, ...group.options(core), datapath, argument: argument(core) }));
    }
    const started = Promise.all(workers.map((worker) => worker.started)).then(([line]) => io.err(`${line}\n`));
    const ended = Promise.all(workers.map((worker) => worker.ended));
    started.catch(() => {}); // `ended` says why
    await Promise.race([ended, interrupted]);
  } finally {
    await Promise.allSettled(workers.map((worker) => worker.close()));
    group.close();
  }
}

/** URL of a module of ours, given relative to this folder without its extension. */
export function ownModule(path: string): string {
  return new URL(path + (import.meta.url.endsWith('.ts') ? '.ts' : '.js'), import.meta.url).href;
}
