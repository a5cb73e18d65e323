/**
 * An application in a worker thread: what `--cores` starts on each core.
 * It touches the kernel it is given, and the process's streams.
 */

import type { OptionTable, OptionValues } from '../apps/options.ts';
import { type AppName, loadApp } from '../apps/registry.ts';
import type { Kernel } from '../index.ts';
import { appContext } from './app-context.ts';

export interface AppWorkerArgument {
  readonly app: AppName;
  readonly options: OptionValues<OptionTable>;
  readonly core: number;
  readonly cores: number;
}

export async function runApp(kernel: Kernel, { app, options, core, cores }: AppWorkerArgument): Promise<void> {
  const { main } = await loadApp(app);
  const context = appContext(app, kernel.datapath.name, core, cores, {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
  });
  await kernel.spawn(main(kernel, options, context)).join();
}
