/**
 * Runs one kernel on the main thread of this process, which it has to itself, from a `--datapath` to a clean end.
 * It touches the datapath it opens, V8's flags and the process's `beforeExit`.
 */
import { openDatapath } from '../datapath/select.ts';
import { type Coroutine, Kernel } from '../index.ts';
import { Host, OWN_CORE } from '../kernel/host.ts';
import { inlineFurther } from './inlining.ts';

/** Longest wait for peers to take what was pushed to them, at the end. */
const DRAIN_MS = 5000;
const DRAIN_LOOK_MS = 2;

/** A kernel that runs, until {@link Running.close}. */
export interface Running {
  readonly kernel: Kernel;
  /** Which datapath it is and why, in one line. */
  readonly line: string;
  /** The first error that escaped a coroutine nobody joins; never fulfilled otherwise. */
  readonly failed: Promise<never>;
  /** Ends it: `finally` blocks of coroutines run, what was pushed is sent (for some seconds), every descriptor is closed. */
  close(): Promise<void>;
}

/** @throws UsageError, IsthmusError where the datapath is unknown or cannot be had */
export async function startKernel(spec: string): Promise<Running> {
  inlineFurther();
  const { datapath, line } = await openDatapath(spec);
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => {});
  const kernel = new Kernel(datapath, { onUncaught: (error) => fail(error) });
  const host = new Host(kernel, OWN_CORE).start();
  return {
    kernel,
    line,
    failed,
    async close() {
      kernel.end();
      for (let waited = 0; kernel.draining > 0 && waited < DRAIN_MS; waited += DRAIN_LOOK_MS) {
        await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
      }
      host.stop();
      kernel.dispose();
    },
  };
}

/** Starts a coroutine; its end as a Promise. */
export function spawned<T>(kernel: Kernel, coroutine: Coroutine<T>): Promise<T> {
  const task = kernel.spawn(coroutine);
  return Promise.resolve(task.join());
}

/** Fulfilled when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Fulfilled when nothing keeps this process alive any more: every queue is closed and every timer has fired. */
export function drained(): Promise<void> {
  return new Promise((resolve) => process.once('beforeExit', () => resolve()));
}
