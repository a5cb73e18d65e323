/**
 * What all connections of one load share: the window that is measured, its counters, and the way to its end.
 * It touches the kernel's clock; it sends and receives nothing.
 */
import type { Connection, Kernel } from '../../index.ts';
import type { LoadConfig } from './config.ts';
import { LatencyHistogram, unitsOf } from './histogram.ts';

/** What went wrong, by kind. Every count is bounded by the messages and connections of the run. */
export interface LoadErrors {
  /** Nobody listens there (ECONNREFUSED). */
  refused: number;
  /** The peer reset the connection. */
  reset: number;
  /** The peer closed the connection while answers were due. */
  closed: number;
  /** No answer in time: a connection given up, or datagrams sent again. */
  timeout: number;
  /** Messages sent at a rate whose answers never came. */
  unanswered: number;
  /** Answers that differ from what was sent, or that nobody asked for. */
  wrong: number;
  /** Error replies, or bytes that are no replies (RESP). */
  protocol: number;
  /** Anything else, such as no ports or descriptors left on this side. */
  other: number;
}

export function countErrors(errors: LoadErrors): number {
  return Object.values(errors).reduce((sum, count) => sum + count, 0);
}

export class Run {
  readonly k: Kernel;
  readonly config: LoadConfig;
  readonly histogram = new LatencyHistogram();
  readonly errors: LoadErrors = {
    refused: 0,
    reset: 0,
    closed: 0,
    timeout: 0,
    unanswered: 0,
    wrong: 0,
    protocol: 0,
    other: 0,
  };
  /** Message of the latest error, for people. */
  lastError: Error | null = null;
  /** The window: messages are counted by when they were answered (closed loop) or should have been sent (open loop). */
  windowStart = Number.POSITIVE_INFINITY;
  windowEnd = Number.POSITIVE_INFINITY;
  measuring = false;
  /** No connection starts anything new. */
  stopped = false;
  /** Messages answered within the window. */
  messages = 0;
  /** Nil replies (RESP): keys that did not exist. */
  nils = 0;
  /** Connections that stand now. */
  connected = 0;
  /** When each connection began to wait for an answer, in ms; -1 where nothing is outstanding. The watchdog reads it. */
  readonly waitingSince: Float64Array;
  /** What stands on each slot, for the watchdog and for the end. */
  readonly connections: (Connection | null)[];
  readonly #limit: number;
  readonly #onLimit: () => void;

  constructor(k: Kernel, config: LoadConfig, onLimit: () => void) {
    this.k = k;
    this.config = config;
    this.waitingSince = new Float64Array(config.connections).fill(-1);
    this.connections = new Array<Connection | null>(config.connections).fill(null);
    this.#limit = config.count ?? Number.POSITIVE_INFINITY;
    this.#onLimit = onLimit;
  }

  begin(now: number): void {
    this.windowStart = now;
    this.measuring = true;
    this.messages = 0;
    this.nils = 0;
    this.histogram.reset();
    for (const kind of Object.keys(this.errors) as (keyof LoadErrors)[]) this.errors[kind] = 0;
  }

  end(now: number): void {
    this.windowEnd = now;
    this.measuring = false;
  }

  /** Closed loop: `count` messages were answered `ms` after they were sent. */
  answered(ms: number, count: number): void {
    if (!this.measuring) return;
    this.messages += count;
    this.histogram.record(unitsOf(ms), count);
    if (this.messages >= this.#limit) this.#onLimit();
  }

  /** Open loop: a message that should have been sent at `intended` was answered at `now`. */
  answeredIntended(intended: number, now: number): void {
    if (intended < this.windowStart || intended >= this.windowEnd) return;
    this.messages++;
    this.histogram.record(unitsOf(now - intended), 1);
    if (this.messages >= this.#limit) this.#onLimit();
  }

  /** Open loop, at the end: a message of the window that was never answered has waited until `now` at least. */
  unanswered(intended: number, now: number): void {
    if (intended < this.windowStart || intended >= this.windowEnd) return;
    this.histogram.record(unitsOf(now - intended), 1);
    this.errors.unanswered++;
  }

  /** Counts an error by its code. Errors after the end are its own doing. */
  failed(error: unknown): void {
    if (this.stopped) return;
    const { code } = error as { code?: string };
    this.lastError = error as Error;
    if (code === 'ECONNREFUSED') this.errors.refused++;
    else if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'ECONNABORTED') this.errors.reset++;
    else if (code === 'ETIMEDOUT') this.errors.timeout++;
    else if (code === 'ERR_LOAD_CLOSED') this.errors.closed++;
    else if (code === 'ERR_LOAD_PROTOCOL') this.errors.protocol++;
    else if (code !== 'ECANCELED') this.errors.other++;
  }
}
