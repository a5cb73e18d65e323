/**
 * The queue of predicted mutations, and the gate in front of the server: which of them may be sent now.
 * Pure: it hands out batches and is told their results; sending is the caller's business.
 *
 * A mutation goes out when nothing that could still fail would undo the state it was issued in. On a server that runs a batch in
 * order and stops at the first failure (an NFSv4.1 COMPOUND) the mutations before it in the same batch may still fail, since then
 * it is not executed either. While a batch is on its way everything new gathers, so a chain of N mutations costs about
 * N / batch round trips instead of N.
 */
import type { SpeculationEngine } from './engine.ts';
import type { Interval, Speculation, SpeculativeObject } from './interval.ts';

export interface QueuedMutation<M> {
  readonly speculation: Speculation;
  readonly payload: M;
  /** Weight against the bounds of a batch, e.g. protocol operations. */
  readonly operations: number;
  readonly bytes: number;
  /** Nothing may be sent behind it in its batch: it may be done otherwise than predicted, and that stops no batch. */
  readonly last?: () => boolean;
}

/** How much one batch may hold. */
export interface BatchBounds {
  /** The server keeps the order within a batch and stops at the first failure; else every mutation stands alone. */
  readonly ordered: boolean;
  readonly operations: number;
  readonly bytes: number;
}

export class MutationQueue<M> {
  readonly #engine: SpeculationEngine;
  readonly #bounds: BatchBounds;
  #waiting: QueuedMutation<M>[] = [];
  readonly #inFlight = new Set<QueuedMutation<M>>();

  constructor(engine: SpeculationEngine, bounds: BatchBounds) {
    this.#engine = engine;
    this.#bounds = bounds;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Adds a mutation, in the order in which they were issued. */
  push(mutation: QueuedMutation<M>): void {
    this.#waiting.push(mutation);
  }

  /**
   * The mutations to send now, in an order that keeps dependencies; empty where nothing may go.
   * Ordered servers get one batch at a time; else each mutation is a request of its own and all of them are independent.
   * Intervals that hold a waiting mutation are sealed, so that what they rest on can become known.
   */
  take(): QueuedMutation<M>[] {
    this.#waiting = this.#waiting.filter(({ speculation }) => speculation.state === 'pending');
    const { ordered } = this.#bounds;
    if (this.#waiting.length === 0 || (ordered && this.#inFlight.size > 0)) return [];
    const byInterval = new Map<Interval, QueuedMutation<M>[]>();
    for (const mutation of this.#waiting) {
      const { interval } = mutation.speculation;
      this.#engine.seal(interval);
      const list = byInterval.get(interval);
      if (list === undefined) byInterval.set(interval, [mutation]);
      else list.push(mutation);
    }
    const batch = this.#fill(byInterval);
    if (batch.length === 0) return batch;
    for (const mutation of batch) this.#inFlight.add(mutation);
    this.#waiting = this.#waiting.filter((mutation) => !this.#inFlight.has(mutation));
    return batch;
  }

  /**
   * Goes through the unresolved intervals, causes before effects. An interval is blocked where something it rests on could fail
   * after its mutation was executed: something unknown that is not in this batch before it.
   */
  #fill(byInterval: Map<Interval, QueuedMutation<M>[]>): QueuedMutation<M>[] {
    const { ordered } = this.#bounds;
    const batch: QueuedMutation<M>[] = [];
    const blocked = new Set<Interval>();
    const last = new Map<SpeculativeObject, Interval>();
    let operations = 0;
    let bytes = 0;
    let closed = false;
    for (const interval of this.#engine.intervals) {
      const own = byInterval.get(interval) ?? [];
      const previous = last.get(interval.object);
      last.set(interval.object, interval);
      if (
        (previous !== undefined && blocked.has(previous)) ||
        interval.pending > own.length ||
        some(interval.causes, blocked)
      ) {
        blocked.add(interval);
        continue;
      }
      for (const mutation of own) {
        const fits =
          batch.length === 0 ||
          !ordered ||
          (operations + mutation.operations <= this.#bounds.operations && bytes + mutation.bytes <= this.#bounds.bytes);
        if (!fits || closed) {
          blocked.add(interval);
          break;
        }
        batch.push(mutation);
        operations += mutation.operations;
        bytes += mutation.bytes;
        if (ordered) {
          closed = mutation.last?.() ?? false;
          continue;
        }
        blocked.add(interval);
        break;
      }
    }
    return batch;
  }

  /** The server has executed it as predicted. */
  succeeded(mutation: QueuedMutation<M>): void {
    assertTaken(this.#inFlight.delete(mutation));
    this.#engine.confirm(mutation.speculation);
  }

  /** The server refused it, or did otherwise than predicted. The engine undoes what rests on it. */
  failed(mutation: QueuedMutation<M>): void {
    assertTaken(this.#inFlight.delete(mutation));
    this.#engine.refute(mutation.speculation);
  }

  /** It was behind a failure in its batch and not executed: it waits again, at its old place. */
  untouched(mutations: readonly QueuedMutation<M>[]): void {
    for (const mutation of mutations) assertTaken(this.#inFlight.delete(mutation));
    this.#waiting = [...mutations.filter(({ speculation }) => speculation.state === 'pending'), ...this.#waiting];
    this.#waiting.sort((a, b) => a.speculation.id - b.speculation.id);
  }
}

function assertTaken(taken: boolean): void {
  if (!taken) throw new TypeError('this mutation is not on its way');
}

function some(causes: ReadonlySet<Interval>, blocked: ReadonlySet<Interval>): boolean {
  for (const cause of causes) if (blocked.has(cause)) return true;
  return false;
}
