/**
 * The speculation engine: which objects depend on which hypotheses, what commits when, and what goes back where.
 * Pure: it knows neither processes nor file systems, does no I/O and reads no clock; what must happen outside is told to its hooks.
 *
 * The rules:
 * - A definite object that is about to depend on something gets a checkpoint first (`needsCheckpoint`, then `begin`).
 * - An interval commits when its predecessor, its causes and its own hypotheses have.
 * - A refuted hypothesis undoes its interval, the later ones of the same object, and every interval that one of these caused.
 * - Dependencies point from older to newer intervals only. Who would need the other direction takes a new checkpoint.
 */
import assert from 'node:assert/strict';
import { anchor, closure, knows } from './graph.ts';
import {
  currentInterval,
  type HypothesisKind,
  type Interval,
  type ObjectKind,
  type Outcome,
  type Restoration,
  type Rollback,
  type Speculation,
  type SpeculativeObject,
  type UndoRecord,
} from './interval.ts';
import {
  boundPassed,
  DEFAULT_LIMITS,
  type SpeculationDemand,
  type SpeculationLimits,
  type SpeculationUse,
} from './limits.ts';
import type { Sink } from './sink.ts';

export interface EngineHooks {
  /** The interval is definite: its checkpoint is no longer needed. Called in commit order, before its output leaves. */
  committed?(interval: Interval): void;
  /** Restore these objects. Undo records have run already; dropped output is gone. */
  rolledBack?(rollback: Rollback): void;
}

export interface EngineCounters {
  /** Hypotheses made, and what became of them. */
  predicted: number;
  confirmed: number;
  refuted: number;
  dropped: number;
  /** Intervals begun, kept and undone. */
  intervals: number;
  committed: number;
  undone: number;
  rollbacks: number;
  /** Most held at one time. */
  peak: SpeculationUse;
}

export class SpeculationEngine {
  readonly limits: SpeculationLimits;
  readonly counters: EngineCounters;
  readonly #hooks: EngineHooks;
  readonly #use: SpeculationUse = { speculations: 0, intervals: 0, undoBytes: 0, outputBytes: 0 };
  /** Unresolved intervals in order of beginning. */
  readonly #intervals = new Set<Interval>();
  readonly #sinks = new Set<Sink>();
  readonly #roomWaiters: (() => void)[] = [];
  readonly #events: (() => void)[] = [];
  #delivering = false;
  #order = 0;
  #ids = 0;

  constructor(hooks: EngineHooks = {}, limits: SpeculationLimits = DEFAULT_LIMITS) {
    this.#hooks = hooks;
    this.limits = limits;
    const peak = { ...this.#use };
    this.counters = {
      predicted: 0,
      confirmed: 0,
      refuted: 0,
      dropped: 0,
      intervals: 0,
      committed: 0,
      undone: 0,
      rollbacks: 0,
      peak,
    };
  }

  get use(): Readonly<SpeculationUse> {
    return this.#use;
  }

  /** Unresolved intervals, oldest first. */
  get intervals(): Iterable<Interval> {
    return this.#intervals;
  }

  /** The bound that stands in the way of so much more, or null. */
  full(demand: SpeculationDemand): keyof SpeculationUse | null {
    return boundPassed(this.#use, this.limits, demand);
  }

  /** Calls back once after something has been resolved. */
  whenRoom(callback: () => void): void {
    this.#roomWaiters.push(callback);
  }

  // Objects

  /** A new object that exists for certain. */
  object(kind: ObjectKind, label: string): SpeculativeObject {
    return { id: ++this.#ids, kind, label, log: [], ended: false };
  }

  /**
   * A new object made by `parent`: if the parent's present interval is undone, it never existed. Until it has a checkpoint of
   * its own, what it predicts and absorbs counts as the parent's, since it can only be undone together with its making.
   */
  born(kind: ObjectKind, label: string, parent: SpeculativeObject): SpeculativeObject {
    const object = this.object(kind, label);
    const cause = currentInterval(parent);
    if (cause !== null) this.#link(cause, this.#append(object, null, cause));
    return object;
  }

  /** Nothing will happen to this object any more; what depends on it still does. */
  end(object: SpeculativeObject): void {
    object.ended = true;
  }

  // Intervals and what flows between them

  /**
   * Must the object be checkpointed before it makes a hypothesis (no `from`), or before it learns the state of `from`?
   * Also true where the present interval may not grow: it is sealed, or older than what it would depend on.
   */
  needsCheckpoint(object: SpeculativeObject, from?: SpeculativeObject): boolean {
    const present = anchor(object);
    if (from === undefined) return present === null || present.sealed;
    const cause = currentInterval(from);
    if (cause === null || knows(object, cause)) return false;
    return present === null || present.sealed || cause.order >= present.order;
  }

  /** May one more checkpoint of this object be taken? */
  mayCheckpoint(object: SpeculativeObject): boolean {
    return object.log.length < this.limits.checkpointsPerProcess && this.full({ intervals: 1 }) === null;
  }

  /** Begins an interval with the object's present state as checkpoint. */
  begin(object: SpeculativeObject, checkpoint: unknown): Interval {
    assert(!object.ended, 'an ended object begins nothing');
    return this.#append(object, checkpoint, null);
  }

  /** The object learns the state of `from` and depends on it from now on. */
  absorb(object: SpeculativeObject, from: SpeculativeObject): void {
    const cause = currentInterval(from);
    if (cause === null || knows(object, cause)) return;
    assert(!this.needsCheckpoint(object, from), 'checkpoint the object first');
    this.#link(cause, anchor(object)!);
  }

  /**
   * `by` has changed the object (a process a node): the object depends on it, and `undo` takes the change back.
   * Whoever changes an object must know its state, so `by` absorbs it first. Nothing to do where `by` is definite.
   */
  touch(object: SpeculativeObject, by: SpeculativeObject, undo: (() => void) | null = null, undoBytes = 0): void {
    const maker = currentInterval(by);
    if (maker === null) {
      assert(object.log.length === 0, 'a definite object changes a speculative one it has not absorbed');
      return;
    }
    let interval = currentInterval(object);
    assert(interval === null || knows(by, interval), 'absorb the object before changing it');
    if (interval === null || interval.maker !== maker) {
      interval = this.#append(object, null, maker);
      this.#link(maker, interval);
    }
    if (undo !== null) this.#addUndo(interval, undo, undoBytes);
  }

  /** Records a change made in the object's present interval; false (and not recorded) where the object is definite. */
  record(object: SpeculativeObject, undo: () => void, bytes: number): boolean {
    const interval = currentInterval(object);
    if (interval === null) return false;
    this.#addUndo(interval, undo, bytes);
    return true;
  }

  /** Commits the object's intervals that turn out to rest on nothing (the truth arrived before the checkpoint did). */
  settle(object: SpeculativeObject): void {
    const interval = anchor(object);
    if (interval === null) return;
    // The oldest first: it may rest on nothing, too, and the present one waits for it.
    this.#commitFrom(interval.object.log[0]!);
    this.#deliver();
  }

  /**
   * Closes the interval and everything it rests on: later hypotheses and dependencies of these objects need a new checkpoint.
   * So the set of hypotheses that can undo it is fixed, and will be known.
   */
  seal(interval: Interval): void {
    const reach = [interval];
    while (reach.length > 0) {
      const next = reach.pop()!;
      // What a sealed interval rests on has been sealed with it and cannot have grown.
      if (next.sealed) continue;
      next.sealed = true;
      reach.push(...next.causes);
      const { log } = next.object;
      const at = log.indexOf(next);
      if (at > 0) reach.push(log[at - 1]!);
    }
  }

  /** Tells what becomes of the object's present state; at once where it is definite. */
  whenSettled(object: SpeculativeObject, callback: (outcome: Outcome) => void): void {
    const interval = currentInterval(object);
    if (interval === null) callback('committed');
    else interval.settled.push(callback);
  }

  // Hypotheses

  /** The object goes on with a predicted result. */
  speculate(object: SpeculativeObject, kind: HypothesisKind, label: string): Speculation {
    const interval = anchor(object);
    // A sealed interval may take another mutation only: it is behind the sealed ones, and the caller has said how to repair.
    assert(interval !== null && (!interval.sealed || kind === 'mutation'), 'checkpoint the object first');
    const speculation: Speculation = { id: ++this.#ids, kind, label, interval, state: 'pending' };
    interval.speculations.add(speculation);
    interval.pending++;
    this.#use.speculations++;
    this.counters.predicted++;
    this.#peak();
    return speculation;
  }

  /** The prediction was right. False where it no longer matters. */
  confirm(speculation: Speculation): boolean {
    if (speculation.state !== 'pending') return false;
    speculation.state = 'confirmed';
    this.counters.confirmed++;
    this.#use.speculations--;
    const { interval } = speculation;
    interval.pending--;
    this.#commitFrom(interval);
    this.#deliver();
    return true;
  }

  /** The prediction was wrong: everything that rests on it is undone. Null where it no longer matters. */
  refute(speculation: Speculation): Rollback | null {
    if (speculation.state !== 'pending') return null;
    speculation.state = 'refuted';
    this.counters.refuted++;
    this.#use.speculations--;
    speculation.interval.pending--;
    return this.#rollBack(speculation.interval, speculation);
  }

  /** Undoes an interval for another reason than a hypothesis. */
  abandon(interval: Interval): Rollback | null {
    return interval.state === 'open' ? this.#rollBack(interval, null) : null;
  }

  /**
   * Mutations that the server has executed and that refuting this hypothesis would undo here: they must be repaired there.
   * Only where an interval holds several mutations; oldest first.
   */
  orphans(speculation: Speculation): Speculation[] {
    if (speculation.state !== 'pending') return [];
    const found: Speculation[] = [];
    for (const interval of closure(speculation.interval)) {
      for (const other of interval.speculations) {
        if (other.kind === 'mutation' && other.state === 'confirmed') found.push(other);
      }
    }
    return found.sort((a, b) => a.id - b.id);
  }

  /** The interval that what the object does now belongs to; null where it is definite. */
  present(object: SpeculativeObject): Interval | null {
    return anchor(object);
  }

  // Output

  /** Keeps output of the object until it is definite, and then delivers it in order. */
  withhold(object: SpeculativeObject, sink: Sink, bytes: number, deliver: () => void): void {
    const interval = currentInterval(object);
    if (interval === null && sink.empty) {
      deliver();
      return;
    }
    sink.push(interval, bytes, deliver);
    this.#sinks.add(sink);
    this.#use.outputBytes += bytes;
    this.#peak();
  }

  // Inside

  #append(object: SpeculativeObject, checkpoint: unknown, maker: Interval | null): Interval {
    const previous = currentInterval(object);
    const interval: Interval = {
      order: ++this.#order,
      object,
      checkpoint,
      maker,
      state: 'open',
      sealed: false,
      waits: previous === null ? 0 : 1,
      pending: 0,
      causes: new Set(),
      effects: new Set(),
      speculations: new Set(),
      undo: [],
      undoBytes: 0,
      settled: [],
    };
    object.log.push(interval);
    this.#intervals.add(interval);
    this.#use.intervals++;
    this.counters.intervals++;
    this.#peak();
    return interval;
  }

  #link(cause: Interval, effect: Interval): void {
    assert(cause.order < effect.order && cause.state === 'open' && effect.state === 'open');
    if (effect.causes.has(cause)) return;
    effect.causes.add(cause);
    cause.effects.add(effect);
    effect.waits++;
  }

  #addUndo(interval: Interval, undo: () => void, bytes: number): void {
    const record: UndoRecord = { order: ++this.#order, bytes, undo };
    interval.undo.push(record);
    interval.undoBytes += bytes;
    this.#use.undoBytes += bytes;
    this.#peak();
  }

  #commitFrom(start: Interval): void {
    const ready = [start];
    while (ready.length > 0) {
      const interval = ready.pop()!;
      if (interval.state !== 'open' || interval.pending > 0 || interval.waits > 0) continue;
      const { log } = interval.object;
      assert(log[0] === interval, 'intervals of one object commit in order');
      log.shift();
      interval.state = 'committed';
      this.counters.committed++;
      this.#release(interval);
      const next: Interval[] = [...interval.effects];
      if (log.length > 0) next.push(log[0]!);
      for (const effect of next) effect.waits--;
      // Oldest first, so that output and checkpoints are released in the order in which things happened.
      next.sort((a, b) => b.order - a.order);
      ready.push(...next);
      this.#events.push(() => this.#hooks.committed?.(interval));
      for (const told of interval.settled) this.#events.push(() => told('committed'));
    }
  }

  #rollBack(start: Interval, because: Speculation | null): Rollback {
    const undone = closure(start);
    const byObject = new Map<SpeculativeObject, Interval[]>();
    const records: UndoRecord[] = [];
    const dropped: Speculation[] = [];
    const orphaned: Speculation[] = [];
    for (const interval of [...undone].sort((a, b) => a.order - b.order)) {
      const list = byObject.get(interval.object);
      if (list === undefined) byObject.set(interval.object, [interval]);
      else list.push(interval);
      records.push(...interval.undo);
      for (const speculation of interval.speculations) {
        if (speculation.state === 'pending') {
          speculation.state = 'dropped';
          this.counters.dropped++;
          this.#use.speculations--;
          dropped.push(speculation);
        } else if (speculation.state === 'confirmed' && speculation.kind === 'mutation') orphaned.push(speculation);
      }
      for (const cause of interval.causes) cause.effects.delete(interval);
      interval.state = 'rolledBack';
      this.counters.undone++;
      this.#release(interval);
    }
    records.sort((a, b) => b.order - a.order);
    for (const { undo } of records) undo();
    const restorations: Restoration[] = [];
    for (const [object, [to, ...rest]] of byObject) {
      object.log.length -= rest.length + 1;
      object.ended = false;
      restorations.push({ object, to: to!, dropped: rest });
    }
    restorations.sort((a, b) => b.to.order - a.to.order);
    this.counters.rollbacks++;
    const rollback: Rollback = { because, restorations, dropped, orphaned };
    this.#events.push(() => this.#hooks.rolledBack?.(rollback));
    for (const interval of undone) for (const told of interval.settled) this.#events.push(() => told('rolledBack'));
    this.#deliver();
    return rollback;
  }

  #release(interval: Interval): void {
    this.#intervals.delete(interval);
    this.#use.intervals--;
    this.#use.undoBytes -= interval.undoBytes;
    interval.undo.length = 0;
  }

  /** Runs hooks and callbacks one after the other, whatever they call meanwhile. */
  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (;;) {
        const event = this.#events.shift();
        if (event !== undefined) event();
        else if (!this.#settleSinks()) break;
      }
    } finally {
      this.#delivering = false;
    }
    for (const waiter of this.#roomWaiters.splice(0)) waiter();
  }

  #settleSinks(): boolean {
    let any = false;
    for (const sink of this.#sinks) {
      const before = sink.bytes;
      const leave = sink.settle();
      this.#use.outputBytes -= before - sink.bytes;
      if (sink.empty) this.#sinks.delete(sink);
      for (const deliver of leave) {
        any = true;
        deliver();
      }
    }
    return any;
  }

  #peak(): void {
    const { peak } = this.counters;
    const use = this.#use;
    if (use.speculations > peak.speculations) peak.speculations = use.speculations;
    if (use.intervals > peak.intervals) peak.intervals = use.intervals;
    if (use.undoBytes > peak.undoBytes) peak.undoBytes = use.undoBytes;
    if (use.outputBytes > peak.outputBytes) peak.outputBytes = use.outputBytes;
  }
}
