/**
 * Starts a kernel inside an ordinary Node process, beside Promises, timers and other sockets.
 * It opens a datapath and runs the kernel in this thread's event loop.
 */
import { type OpenOptions, openDatapath } from './datapath/select.ts';
import type { Datapath } from './kernel/datapath.ts';
import { EVENT_LOOP, Host, type HostPolicy } from './kernel/host.ts';
import { Kernel, type KernelOptions } from './kernel/kernel.ts';
import type { QueueDescriptor } from './kernel/queue-table.ts';

export interface BootOptions extends KernelOptions, OpenOptions {
  /** `auto` (the default), `kernel`, `uring` or `simulated`. */
  readonly datapath?: string;
  /** How much the kernel may take of the thread. Default: what a guest in the event loop should. */
  readonly policy?: HostPolicy;
}

/** A kernel that runs in the event loop, until it is closed. */
export class BootedKernel extends Kernel {
  /** Which datapath it has, and why, in one line. */
  readonly datapathLine: string;
  readonly host: Host;

  constructor(datapath: Datapath, line: string, options: BootOptions) {
    super(datapath, options);
    this.datapathLine = line;
    this.host = new Host(this, options.policy ?? EVENT_LOOP).start();
  }

  /**
   * Ends the kernel: `finally` blocks of coroutines run, every queue is closed, what was pushed is sent (for at most
   * five seconds), and every resource goes back. Closing twice is harmless.
   */
  override close(): Promise<void>;
  /** Closes one queue. */
  override close(qd: QueueDescriptor): void;
  override close(qd?: QueueDescriptor): Promise<void> | undefined {
    if (qd === undefined) return this.host.close();
    super.close(qd);
    return undefined;
  }

  /** Ends the kernel at once; what is unsent is dropped. */
  override dispose(): void {
    this.host.stop();
    super.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.host.close();
  }
}

/**
 * Starts a kernel in this thread's event loop. It never blocks it, and keeps the process alive while a queue is open.
 * @throws IsthmusError EINVAL for no such datapath; EPERM, ENOSYS and others where the one asked for is not allowed
 */
export async function boot(options: BootOptions = {}): Promise<BootedKernel> {
  const { datapath, line } = await openDatapath(options.datapath, options);
  return new BootedKernel(datapath, line, options);
}
