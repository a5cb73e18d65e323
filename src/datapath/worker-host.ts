/**
 * Kernels on cores of their own: starts a program module in a worker thread that its kernel has to itself.
 * This is the parent's side; it touches the worker and nothing of its kernel.
 */
import { Worker } from 'node:worker_threads';
import { IsthmusError } from '../errors.ts';
import type { OpenOptions } from './select.ts';

export interface ProgramOptions extends OpenOptions {
  /** URL of the program's module. */
  readonly module: string;
  /** Name of the export to run: a coroutine `function* (kernel, argument)`, or an async function. Default `default`. */
  readonly entry?: string;
  /** Passed to it; whatever structured cloning can copy. */
  readonly argument?: unknown;
  /** As in `--datapath`. Default `auto`. */
  readonly datapath?: string;
  /** Processor to bind the thread to; none by default. */
  readonly core?: number;
  /** URL of a module whose `importProgram(url)` loads the program, e.g. one that knows TypeScript. Default: `import`. */
  readonly importer?: string;
  /** `process.argv` of the thread after the first entry. */
  readonly argv?: readonly string[];
}

/** What the worker is told. It is plain data, for structured cloning. */
export type ToWorker = { readonly type: 'close' };

export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: string | undefined;
  readonly errno: number;
  readonly syscall: string | undefined;
}

/** What the worker says. */
export type FromWorker =
  | { readonly type: 'started'; readonly line: string }
  | { readonly type: 'failed'; readonly error: SentError };

/** Milliseconds between asking a worker to end and ending it by force: its program may never give way. */
const CLOSE_TIMEOUT_MS = 7000;

/** A program on a kernel in a worker. */
export class WorkerKernel {
  /** The line that says which datapath it has, once the program has had its first turn. Rejected as {@link ended} is. */
  readonly started: Promise<string>;
  /**
   * Fulfilled when nothing of the program is open any more, or after {@link close}. Rejected with what ended it:
   * no such module, no such export, an error that escaped the program.
   */
  readonly ended: Promise<void>;
  readonly #worker: Worker;

  constructor(options: ProgramOptions) {
    const file = new URL(
      import.meta.url.endsWith('.ts') ? './worker-thread.ts' : './worker-thread.js',
      import.meta.url,
    );
    const { argv = [], ...workerData } = options;
    const worker = new Worker(file, { workerData, argv: [...argv] });
    this.#worker = worker;
    let failure: Error | null = null;
    this.started = new Promise((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'started') resolve(message.line);
        else failure ??= received(message.error);
      });
      worker.once('exit', () => reject(failure ?? new IsthmusError('the program ended', { code: 'ECANCELED' })));
    });
    this.started.catch(() => {});
    worker.on('error', (error: Error) => {
      failure ??= error;
    });
    this.ended = new Promise((resolve, reject) => {
      worker.once('exit', () => (failure === null ? resolve() : reject(failure)));
    });
    this.ended.catch(() => {});
  }

  /**
   * Ends the program: `finally` blocks of its coroutines run, its queues are closed, what was pushed is sent, and the
   * thread ends. A program that does not give way in time is ended by force; what it had open is then lost to the
   * process until that ends, too. Rejected as {@link ended} is.
   */
  async close(timeoutMs = CLOSE_TIMEOUT_MS): Promise<void> {
    this.#worker.postMessage({ type: 'close' } satisfies ToWorker);
    const force = setTimeout(() => void this.#worker.terminate(), timeoutMs);
    try {
      await this.ended;
    } finally {
      clearTimeout(force);
    }
  }
}

/** Starts a program on a kernel that owns a worker thread. For several cores, start several; they listen with `reusePort`. */
export function startProgram(options: ProgramOptions): WorkerKernel {
  return new WorkerKernel(options);
}

/** The error as it was, as far as a copy can be. */
function received({ name, message, stack, code, errno, syscall }: SentError): Error {
  const error: Error =
    name === 'IsthmusError' && code !== undefined
      ? new IsthmusError(message, { code, errno, syscall })
      : Object.assign(new Error(message), code === undefined ? {} : { code });
  if (stack !== undefined) error.stack = stack;
  if (name !== 'IsthmusError') error.name = name;
  return error;
}
