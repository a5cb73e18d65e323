/**
 * The thread of a worker kernel: binds itself to its core, opens the datapath, loads the program and runs it.
 * It touches its own thread only, and speaks with its parent in the messages of worker-host.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { IsthmusError } from '../errors.ts';
import { Host, OWN_CORE } from '../kernel/host.ts';
import { Kernel } from '../kernel/kernel.ts';
import type { Coroutine } from '../kernel/scheduler.ts';
import { setAffinity } from '../linux/affinity.ts';
import { openDatapath } from './select.ts';
import type { FromWorker, ProgramOptions, SentError, ToWorker } from './worker-host.ts';

type Program = Readonly<Record<string, unknown>>;

const options = workerData as ProgramOptions;
const port = parentPort!;
let kernel: Kernel | null = null;
let host: Host | null = null;
let closing = false;

port.on('message', (message: ToWorker) => {
  if (message.type === 'close') void close(true);
});
// Waiting for the parent's word must not keep a program alive that has nothing open any more.
port.unref();
// Descriptors and memory are the process's, not the thread's: they would outlive it.
process.once('exit', () => dispose());
run().catch(fail);

async function run(): Promise<void> {
  if (options.core !== undefined) setAffinity([options.core]);
  const main = entryOf(await load(), options.entry ?? 'default');
  const { datapath, line } = await openDatapath(options.datapath, options);
  if (closing) {
    datapath.dispose();
    return;
  }
  kernel = new Kernel(datapath, { onUncaught: fail });
  host = new Host(kernel, OWN_CORE).start();
  const result = main(kernel, options.argument);
  if (isCoroutine(result)) kernel.spawn(watched(result));
  else Promise.resolve(result).catch(fail);
  // After the host's first turn, so that what a coroutine opens at once is open.
  setImmediate(() => {
    if (!closing) say({ type: 'started', line });
  });
}

async function load(): Promise<Program> {
  if (options.importer === undefined) return import(options.module);
  const { importProgram } = (await import(options.importer)) as { importProgram(url: string): Promise<Program> };
  return importProgram(options.module);
}

function entryOf(program: Program, name: string): (kernel: Kernel, argument: unknown) => unknown {
  let entry = program[name];
  // A CommonJS module's exports arrive as one default export, with the real one inside.
  if (typeof entry === 'object' && entry !== null && name === 'default') entry = (entry as Program)['default'];
  if (typeof entry === 'function') return entry as (kernel: Kernel, argument: unknown) => unknown;
  const what = name === 'default' ? 'no default export that is a function' : `no function '${name}'`;
  throw new IsthmusError(`${options.module} has ${what}: export default function* main(k) { … }`, {
    code: 'ERR_NO_MAIN',
  });
}

/** The main coroutine: unlike in a connection's, every error that escapes from it is the program's. */
function* watched(main: Coroutine<unknown>): Coroutine {
  try {
    yield* main;
  } catch (error) {
    if (!closing) fail(error);
  }
}

function isCoroutine(value: unknown): value is Coroutine<unknown> {
  const { next, throw: raise } = (value ?? {}) as Partial<Coroutine>;
  return typeof next === 'function' && typeof raise === 'function';
}

function say(message: FromWorker): void {
  port.postMessage(message);
}

function fail(reason: unknown): void {
  const error = reason instanceof Error ? reason : new Error(String(reason));
  const { name, message, stack } = error;
  const { code, errno = 0, syscall } = error as Partial<IsthmusError>;
  const sent: SentError = { name, message, stack, code, errno, syscall };
  say({ type: 'failed', error: sent });
  void close(false);
}

/** @param patient wait for what was pushed to be sent */
async function close(patient: boolean): Promise<void> {
  if (closing) return;
  closing = true;
  if (patient) await host?.close();
  dispose();
  process.exit(); // the thread's only; timers and sockets of the program end with it
}

function dispose(): void {
  host?.stop();
  kernel?.dispose();
}
