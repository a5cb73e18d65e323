/**
 * The load generator as a process that stays, for benchmarks: a program for fork that runs one load after another.
 * It touches a kernel of its own and its channel to the parent. What it compiled for one load serves the next, so that
 * short samples measure servers rather than a compiler that shares the load's CPU.
 */
import { runLoad } from '../apps/load/load.ts';
import type { LoadReport } from '../apps/load/report.ts';
import { parseOptions } from '../apps/options.ts';
import { configOf, loadOptions, ownCpuNs, probeOf } from '../cli/commands/load.ts';
import { spawned, startKernel } from '../cli/launch.ts';

/** The arguments of `isthmus load`, and what came of them. */
export interface LoadRequest {
  readonly args: readonly string[];
}
export type LoadAnswer = { readonly report: LoadReport } | { readonly error: string };

/** Kernels by `--datapath`: what is asked for once is likely asked for again. */
const running = new Map<string, ReturnType<typeof startKernel>>();

process.on('message', (request: LoadRequest) => {
  void load(request).then((answer) => process.send!(answer));
});
process.on('disconnect', () => process.exit());
// Ctrl-C is for the parent, which ends its children itself.
process.on('SIGINT', () => {});

async function load({ args }: LoadRequest): Promise<LoadAnswer> {
  try {
    const parsed = parseOptions(loadOptions, args, { positionals: ['TARGET'] });
    const pid = parsed.values['server-pid'];
    const server = pid === undefined ? undefined : await probeOf(pid);
    const { kernel, failed } = await kernelOn(parsed.values.datapath);
    const loading = spawned(kernel, runLoad(kernel, configOf(parsed), { server, ownCpuNs }));
    const { report } = await Promise.race([loading, failed]);
    return { report };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

function kernelOn(datapath: string): ReturnType<typeof startKernel> {
  let starting = running.get(datapath);
  if (starting === undefined) {
    starting = startKernel(datapath);
    running.set(datapath, starting);
  }
  return starting;
}
