/**
 * The load generator, from its first connection to its report: an ordinary Isthmus program on whatever datapath it is given.
 * It touches the kernel it is given; processes are looked at through hooks, so that it runs in simulated time as well.
 */
import type { Coroutine, IsthmusError, Kernel } from '../../index.ts';
import type { LoadConfig } from './config.ts';
import { Connects } from './connects.ts';
import { Datagrams } from './datagrams.ts';
import { EchoExchange } from './exchange.ts';
import { IdleConnections } from './idle.ts';
import { type PacedTarget, pace, SPIN_MS } from './pacer.ts';
import { type LoadReport, makeReport } from './report.ts';
import { RespExchange } from './resp-exchange.ts';
import { countErrors, Run } from './run.ts';
import { Schedule } from './schedule.ts';
import { Streams } from './streams.ts';
import { together } from './together.ts';

/** Looks at the server's process, from outside. */
export interface ProcessProbe {
  /** CPU time used so far, in ns. */
  cpuNs(): number;
  rssBytes(): number;
}

export interface Progress {
  readonly phase: 'connect' | 'warm-up' | 'measure' | 'drain';
  /** Seconds since the phase began, and how long it lasts. */
  readonly elapsed: number;
  readonly total: number;
  readonly connected: number;
  readonly messages: number;
  /** Messages per second since the last call. */
  readonly recent: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly errors: number;
}

export interface LoadHooks {
  /** Called about once a second. */
  readonly progress?: ((progress: Progress) => void) | undefined;
  readonly server?: ProcessProbe | undefined;
  /** The load's own CPU time so far, in ns. */
  readonly ownCpuNs?: (() => number) | undefined;
  /** Open loop: how near to a send time the load begins to poll the clock. 0 in simulated time. Default 4. */
  readonly spinMs?: number | undefined;
  /** Ends the load early; it still reports. */
  readonly signal?: AbortSignal | undefined;
}

export interface LoadResult {
  readonly report: LoadReport;
  readonly run: Run;
}

const CONNECTS_AT_ONCE = 64;
const WATCHDOG_MS = 50;
const PROGRESS_MS = 1000;
/** Longest wait for the last answers of an open loop. */
const DRAIN_MS = 2000;

/** What the three kinds of clients have in common here. */
interface Clients {
  /** Opens a slot's first connection or socket. */
  open(slot: number): Coroutine<unknown>;
  client(slot: number, schedule: Schedule | null): Coroutine;
  /** The watchdog found a slot without answers for too long. */
  expire(slot: number): void;
  /** Open loop: answers that are still to come. */
  outstanding(slot: number): number;
  close(): void;
}

/** @throws IsthmusError where nothing could be reached at all: ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, … */
export function* runLoad(k: Kernel, config: LoadConfig, hooks: LoadHooks = {}): Coroutine<LoadResult> {
  const over = new AbortController();
  const stop = () => over.abort();
  hooks.signal?.addEventListener('abort', stop);
  if (hooks.signal?.aborted) stop();
  const run = new Run(k, config, stop);
  const idle = new IdleConnections();
  const clients = makeClients(run);
  try {
    return yield* new Loading(run, clients, idle, hooks, over.signal).go();
  } finally {
    run.stopped = true;
    hooks.signal?.removeEventListener('abort', stop);
    clients.close();
    idle.close();
  }
}

class Loading {
  readonly #run: Run;
  readonly #clients: Clients & { paced?: PacedTarget; settle?: () => void };
  readonly #idle: IdleConnections;
  readonly #hooks: LoadHooks;
  readonly #over: AbortSignal;
  #lastMessages = 0;
  #lastTime = 0;

  constructor(run: Run, clients: Clients, idle: IdleConnections, hooks: LoadHooks, over: AbortSignal) {
    this.#run = run;
    this.#clients = clients;
    this.#idle = idle;
    this.#hooks = hooks;
    this.#over = over;
  }

  *go(): Coroutine<LoadResult> {
    const run = this.#run;
    const { k, config } = run;
    const { server, ownCpuNs } = this.#hooks;
    const idle = yield* this.#openIdle();
    yield* this.#connect();
    const schedule = config.rate === undefined ? null : new Schedule(config.connections, config.rate, k.now);
    for (let slot = 0; slot < config.connections; slot++) k.spawn(this.#clients.client(slot, schedule));
    k.spawn(this.#watchdog());
    if (schedule !== null) k.spawn(pace(run, schedule, this.#clients.paced!, this.#hooks.spinMs ?? SPIN_MS));
    yield* this.#wait('warm-up', config.warmup);

    const serverBefore = server?.cpuNs() ?? 0;
    const loadBefore = ownCpuNs?.() ?? 0;
    run.begin(k.now);
    if (schedule !== null) run.windowEnd = k.now + config.seconds * 1000;
    const begun = run.windowStart;
    yield* this.#wait('measure', config.seconds);
    const ended = Math.min(k.now, run.windowEnd);
    run.end(ended);
    const loadNs = (ownCpuNs?.() ?? 0) - loadBefore;
    const serverNs = server === undefined ? null : server.cpuNs() - serverBefore;
    const serverRss = server?.rssBytes() ?? 0;
    if (schedule !== null) yield* this.#drain();
    run.stopped = true;
    this.#clients.close();
    this.#clients.settle?.();
    const limited = config.count !== undefined && run.messages >= config.count;
    const complete = limited || !this.#over.aborted;
    const report = makeReport(run, (ended - begun) / 1000, complete, { loadNs, serverNs, serverRss, idle });
    return { report, run };
  }

  *#openIdle(): Coroutine<LoadReport['idle'] | null> {
    const { k, config } = this.#run;
    if (config.idle === 0) return null;
    const { server } = this.#hooks;
    const rssBytesBefore = server?.rssBytes() ?? 0;
    yield* this.#idle.open(k, config.address, config.idle, config.timeout * 1000);
    // The server takes the last connections off its backlog.
    yield* this.#wait('connect', 0.2);
    return { connections: this.#idle.count, rssBytesBefore, rssBytesAfter: server?.rssBytes() ?? 0 };
  }

  /** Opens everything, or throws the first error where nothing could be opened. */
  *#connect(): Coroutine {
    const run = this.#run;
    const clients = this.#clients;
    let opened = 0;
    let failure: unknown = null;
    yield* together(run.k, run.config.connections, CONNECTS_AT_ONCE, function* connect(slot) {
      try {
        yield* clients.open(slot);
        opened++;
      } catch (error) {
        failure ??= error;
        run.failed(error);
      }
    });
    if (opened === 0) throw failure as IsthmusError;
  }

  /** Sleeps through a phase, with a word about it now and then; an end asked for ends it. */
  *#wait(phase: Progress['phase'], seconds: number): Coroutine {
    const { k } = this.#run;
    const start = k.now;
    const end = start + seconds * 1000;
    this.#lastMessages = 0;
    this.#lastTime = start;
    while (k.now < end && !this.#over.aborted) {
      yield* this.#sleep(Math.min(PROGRESS_MS, end - k.now));
      if (k.now - this.#lastTime >= PROGRESS_MS - 1) this.#progress(phase, (k.now - start) / 1000, seconds);
    }
  }

  *#sleep(ms: number): Coroutine {
    try {
      yield* this.#run.k.sleep(ms, { signal: this.#over });
    } catch (error) {
      if (!this.#over.aborted) throw error;
    }
  }

  #progress(phase: Progress['phase'], elapsed: number, total: number): void {
    const { k, histogram, messages, errors, connected } = this.#run;
    const recent = ((messages - this.#lastMessages) * 1000) / (k.now - this.#lastTime);
    this.#lastMessages = messages;
    this.#lastTime = k.now;
    this.#hooks.progress?.({
      phase,
      elapsed,
      total,
      connected,
      messages,
      recent,
      p50Us: histogram.percentileUs(50),
      p99Us: histogram.percentileUs(99),
      errors: countErrors(errors),
    });
  }

  /** Open loop: the answers to what was sent in the window may still come. */
  *#drain(): Coroutine {
    const { k, config } = this.#run;
    const until = k.now + Math.min(DRAIN_MS, config.timeout * 1000);
    while (k.now < until && this.#outstanding()) yield* k.sleep(1);
  }

  #outstanding(): boolean {
    for (let slot = 0; slot < this.#run.config.connections; slot++) {
      if (this.#clients.outstanding(slot) > 0) return true;
    }
    return false;
  }

  /** One timer for all connections, where one for each message would cost more than the message. */
  *#watchdog(): Coroutine {
    const run = this.#run;
    const { k, waitingSince } = run;
    const patience = run.config.timeout * 1000;
    while (!run.stopped) {
      yield* k.sleep(Math.min(WATCHDOG_MS, patience / 2));
      for (let slot = 0; slot < waitingSince.length && !run.stopped; slot++) {
        const since = waitingSince[slot]!;
        if (since >= 0 && k.now - since > patience) this.#clients.expire(slot);
      }
    }
  }
}

function makeClients(run: Run): Clients & { paced?: PacedTarget; settle?: () => void } {
  const { k, config } = run;
  if (config.protocol === 'udp') {
    const datagrams = new Datagrams(run);
    return {
      paced: datagrams,
      open: (slot) => datagrams.open(slot),
      client: (slot, schedule) => datagrams.client(slot, schedule),
      expire: (slot) => datagrams.resend(slot),
      outstanding: (slot) => datagrams.outstanding(slot),
      settle: () => datagrams.settleUnanswered(),
      close: () => datagrams.close(),
    };
  }
  const exchange = config.protocol === 'resp' ? new RespExchange(k, run, config) : new EchoExchange(k, run, config);
  if (config.protocol === 'connect') {
    const connects = new Connects(run, exchange);
    return {
      open: (slot) => connects.client(slot, true),
      client: (slot) => connects.client(slot),
      expire(slot) {
        run.errors.timeout++;
        connects.drop(slot);
      },
      outstanding: () => 0,
      close() {
        for (let slot = 0; slot < config.connections; slot++) connects.drop(slot);
        exchange.close();
      },
    };
  }
  const streams = new Streams(run, exchange);
  return {
    paced: streams,
    open: (slot) => streams.open(slot),
    client: (slot, schedule) => streams.client(slot, schedule),
    expire(slot) {
      run.errors.timeout++;
      streams.drop(slot);
    },
    outstanding: (slot) => streams.outstanding(slot),
    close() {
      for (let slot = 0; slot < config.connections; slot++) streams.drop(slot);
      exchange.close();
    },
  };
}
