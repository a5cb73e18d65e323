/**
 * The host of a kernel: who calls its turns, and where it sleeps. One loop serves both hosts, by policy:
 * a host that owns its core spins, naps in the kernel, and then sleeps; a host inside Node's event loop never blocks it.
 * It touches the kernel, its datapath's watch, and the timers and immediates of the surrounding event loop.
 */
import type { DatapathWatch } from './datapath.ts';
import type { Kernel } from './kernel.ts';

export interface HostPolicy {
  /** Most turns before the surrounding event loop gets its share (timers, other sockets). */
  readonly maxTurns: number;
  /** Microseconds to poll without sleeping after the last arrival. */
  readonly spinUs: number;
  /** Microseconds to sleep inside the datapath before sleeping in the event loop; it delays everything else by as much. */
  readonly napUs: number;
}

/** Inside Node's event loop, beside Promises, timers and other sockets: never blocks it. */
export const EVENT_LOOP: HostPolicy = { maxTurns: 16, spinUs: 0, napUs: 0 };

/** Owns its core: short gaps are slept away in the datapath, whose wake-up is the cheapest there is. */
export const OWN_CORE: HostPolicy = { maxTurns: 64, spinUs: 0, napUs: 1000 };

/** How long `close` gives peers to take what was pushed to them, and how often it looks. */
const CLOSE_TIMEOUT_MS = 5000;
const LOOK_EVERY_MS = 2;

/** Runs Promise jobs and process.nextTick between turns; where Node hides it, each turn returns to the event loop. */
// Bound once: `process` is a getter of the global object, and its properties are a dictionary.
const tick: (() => void) | null =
  typeof process === 'object' && typeof (process as { _tickCallback?: () => void })._tickCallback === 'function'
    ? (process as unknown as { _tickCallback: () => void })._tickCallback.bind(process)
    : null;

export class Host {
  readonly kernel: Kernel;
  readonly policy: HostPolicy;
  /** Times the host went to sleep in the event loop. */
  sleeps = 0;
  #watch: DatapathWatch | null = null;
  #timeout: ReturnType<typeof setTimeout> | null = null;
  #immediate: ReturnType<typeof setImmediate> | null = null;
  #draining = false;
  #stopped = false;
  /** Work was queued while draining, after the datapath's last submit. */
  #more = false;
  readonly #drain = () => this.#run();

  constructor(kernel: Kernel, policy: HostPolicy = EVENT_LOOP) {
    this.kernel = kernel;
    this.policy = policy;
  }

  start(): this {
    this.#watch = this.kernel.datapath.watch(this.#drain);
    this.kernel.onWork = () => this.#wake();
    this.#schedule();
    return this;
  }

  /** Stops calling turns and lets the process end; the kernel can then be disposed. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.kernel.onWork = () => {};
    this.#watch?.close();
    if (this.#timeout !== null) clearTimeout(this.#timeout);
    if (this.#immediate !== null) clearImmediate(this.#immediate);
  }

  /**
   * Ends the program and the kernel: `finally` blocks of coroutines run, queues are closed, what was pushed is sent (for
   * at most `timeoutMs`), every resource goes back. Harmless when it has ended already.
   */
  async close(timeoutMs = CLOSE_TIMEOUT_MS): Promise<void> {
    const { kernel } = this;
    if (kernel.closed) return;
    kernel.end();
    for (let waited = 0; kernel.draining > 0 && waited < timeoutMs; waited += LOOK_EVERY_MS) {
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    this.stop();
    kernel.dispose();
  }

  #wake(): void {
    if (this.#draining) this.#more = true;
    else this.#schedule();
  }

  #schedule(): void {
    this.kernel.operations.asleep = false;
    if (this.#immediate === null && !this.#stopped) this.#immediate = setImmediate(this.#drain);
  }

  #run(): void {
    if (this.#immediate !== null) clearImmediate(this.#immediate);
    this.#immediate = null;
    if (this.#draining || this.#stopped) return;
    this.kernel.operations.asleep = false;
    this.#draining = true;
    let idle = false;
    try {
      idle = this.#turns();
    } finally {
      this.#draining = false;
    }
    if (this.#stopped) return;
    if (!idle || !this.kernel.datapath.arm()) this.#schedule();
    else this.#sleep();
  }

  /** @returns whether the kernel had nothing left to do */
  #turns(): boolean {
    const { kernel, policy } = this;
    let idleSince = -1;
    for (let turns = 0; turns < policy.maxTurns && !this.#stopped; turns++) {
      this.#more = false;
      const spinning = policy.spinUs > 0 && (idleSince < 0 || kernel.now - idleSince < policy.spinUs / 1000);
      const did = kernel.turn(spinning ? 0 : policy.napUs);
      if (kernel.fatal !== null) this.#raise();
      if (tick === null) return did === 0 && kernel.idle && !this.#more;
      tick();
      if (did > 0 || this.#more || !kernel.idle) idleSince = -1;
      else if (!spinning) return true;
      else {
        if (idleSince < 0) idleSince = kernel.now;
        turns--; // polling an idle datapath is not work done; the clock bounds it
      }
    }
    return false;
  }

  #raise(): void {
    const error = this.kernel.fatal!;
    this.kernel.fatal = null;
    // Thrown from a job of its own, so that Node reports it as any uncaught exception.
    queueMicrotask(() => {
      throw error;
    });
  }

  #sleep(): void {
    const { kernel } = this;
    this.sleeps++;
    kernel.operations.asleep = true;
    if (this.#timeout !== null) clearTimeout(this.#timeout);
    this.#timeout = null;
    // Like a server of node:net, a kernel keeps its process alive while something of it is open.
    const busy = kernel.openQueues > 0 || kernel.draining > 0 || kernel.timers.size > 0;
    if (busy) this.#watch?.ref();
    else this.#watch?.unref();
    if (kernel.timers.size > 0) {
      const ms = Math.max(1, Math.ceil(kernel.timers.nextDeadline() - kernel.now));
      this.#timeout = setTimeout(this.#drain, Math.min(ms, 0x7fffffff));
    }
  }
}
