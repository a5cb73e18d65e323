/**
 * `isthmus kv`, `echo`, `relay`: makes a command out of an application, and runs it on one core or on several.
 * It touches a kernel of its own, or workers with one each.
 */
import type { OptionTable, OptionValues, ParsedArguments } from '../../apps/options.ts';
import { type AppName, loadApp } from '../../apps/registry.ts';
import { IsthmusError } from '../../errors.ts';
import type { Command, Io } from '../command.ts';
import { CORES_OPTION, DATAPATH_OPTION } from '../shared-options.ts';

export async function appCommand(name: AppName): Promise<Command> {
  const app = await loadApp(name);
  return {
    name: app.name,
    summary: app.summary,
    ...(app.description === undefined ? {} : { description: app.description }),
    options: { ...app.options, datapath: DATAPATH_OPTION, cores: CORES_OPTION },
    examples: (app.examples ?? []).map((line) => ({ line, what: '' })),
    run: (args, io) => run(name, args, io),
  };
}

async function run(app: AppName, { values }: ParsedArguments<OptionTable>, io: Io): Promise<number> {
  const { datapath, cores, ...options } = values as OptionValues<OptionTable> & { datapath: string; cores: number };
  const { aborted } = await import('../launch.ts');
  const interrupted = aborted(io.interrupted);
  try {
    if (cores === 1) await runHere(app, options, datapath, io, interrupted);
    else {
      const { ownModule, runWorkers } = await import('../workers.ts');
      const argument = (core: number) => ({ app, options, core, cores });
      await runWorkers(
        { module: ownModule('./app-worker'), entry: 'runApp', argument },
        datapath,
        cores,
        io,
        interrupted,
      );
    }
  } catch (error) {
    // What an application finds wrong with its options' values, such as an address that is none.
    if ((error as Error).name === 'RangeError') {
      throw new IsthmusError((error as Error).message, { code: 'EINVAL', cause: error });
    }
    throw error;
  }
  return 0;
}

async function runHere(
  name: AppName,
  options: OptionValues<OptionTable>,
  datapath: string,
  io: Io,
  interrupted: Promise<void>,
): Promise<void> {
  const { spawned, startKernel } = await import('../launch.ts');
  const { appContext } = await import('../app-context.ts');
  const app = await loadApp(name);
  const running = await startKernel(datapath);
  const { kernel } = running;
  try {
    io.err(`${running.line}\n`);
    const context = appContext(name, kernel.datapath.name, 0, 1, io);
    await Promise.race([spawned(kernel, app.main(kernel, options, context)), running.failed, interrupted]);
  } finally {
    await running.close();
  }
}
