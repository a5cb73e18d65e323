/**
 * `isthmus run FILE`: runs a program's default export on a kernel that owns the thread.
 * It touches a kernel of its own (or workers with one each), the module loader and process.argv.
 */
import { resolve } from 'node:path';
import type { Coroutine } from '../../index.ts';
import { defineCommand, type Io } from '../command.ts';
import { CORES_OPTION, DATAPATH_OPTION } from '../shared-options.ts';

export const run = defineCommand({
  name: 'run',
  summary: 'Runs a program file on a kernel of its own.',
  description:
    'FILE is a JavaScript or TypeScript module. Its default export is a coroutine, export default function* main(k, args), or an async function. ' +
    'It is given its kernel, and what stands after -- as an array of strings (also in process.argv). ' +
    'The program ends when nothing of it is open any more, or at Ctrl-C or SIGTERM: its finally blocks run and everything is closed.',
  positionals: [{ name: 'FILE', help: 'The program.' }],
  rest: { name: 'ARGUMENTS', help: "The program's own arguments." },
  options: {
    datapath: DATAPATH_OPTION,
    cores: {
      ...CORES_OPTION,
      help: 'Kernels to run it on, each in a thread of its own. They share a port if each listens with reusePort: true.',
    },
  },
  examples: [
    { line: 'run examples/echo.ts', what: 'on the best datapath there is' },
    { line: 'run echo.ts --datapath kernel', what: 'over epoll' },
    { line: 'run server.ts --cores 2 -- --port 80', what: 'two kernels, and arguments for the program' },
  ],
  async run({ values, positionals, rest }, io) {
    const file = positionals[0]!;
    const { aborted } = await import('../launch.ts');
    const interrupted = aborted(io.interrupted);
    if (values.cores > 1) {
      const { ownModule, runWorkers } = await import('../workers.ts');
      const program = {
        module: resolve(file),
        entry: 'default',
        argument: () => [...rest],
        importer: ownModule('./typescript'),
        argv: rest,
      };
      await runWorkers(program, values.datapath, values.cores, io, interrupted);
    } else await runFile(file, rest, values.datapath, io, interrupted);
    return 0;
  },
});

async function runFile(
  file: string,
  args: readonly string[],
  datapath: string,
  io: Io,
  interrupted: Promise<void>,
): Promise<void> {
  const { entryOf, importProgram } = await import('../typescript.ts');
  const { drained, spawned, startKernel } = await import('../launch.ts');
  process.argv = [process.argv[0]!, resolve(file), ...args];
  const main = entryOf(await importProgram(file), file);
  const running = await startKernel(datapath);
  const { kernel } = running;
  try {
    io.err(`${running.line}\n`);
    const result = main(kernel, [...args]);
    const ended = isCoroutine(result) ? spawned(kernel, result) : Promise.resolve(result);
    // After main, coroutines it spawned may go on.
    await Promise.race([ended.then(drained), running.failed, interrupted]);
  } finally {
    await running.close();
  }
}

export function isCoroutine(value: unknown): value is Coroutine<unknown> {
  const { next, throw: raise } = (value ?? {}) as Partial<Coroutine>;
  return typeof next === 'function' && typeof raise === 'function';
}
