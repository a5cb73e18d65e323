/**
 * The parts of a speculation graph: objects that carry state, the intervals of their history, and the hypotheses these rest on.
 * Plain records without behaviour; only engine.ts writes to them, and nothing here does I/O.
 *
 * After Nightingale, Chen and Flinn, "Speculative Execution in a Distributed File System" (SOSP 2005), section 3: an object's undo
 * log is its list of unresolved intervals, each begun by a checkpoint. Dependencies are kept between intervals (Strom and Yemini,
 * "Optimistic Recovery in Distributed Systems", 1985) rather than as a set of speculations per object, because several
 * hypotheses share one checkpoint: going back to it also undoes what happened before the failed hypothesis was made.
 */

/** What an object is, for policy, statistics and traces. */
export type ObjectKind = 'process' | 'node' | 'pipe' | 'file' | 'sink';

export type HypothesisKind = 'read' | 'mutation';

/** `pending`: not known yet. `dropped`: undone because of another one, so its truth no longer matters. */
export type HypothesisState = 'pending' | 'confirmed' | 'refuted' | 'dropped';

/** One prediction: a result handed out before it was known. */
export interface Speculation {
  readonly id: number;
  readonly kind: HypothesisKind;
  /** What was predicted, for people: `getattr src/main.c`. */
  readonly label: string;
  readonly interval: Interval;
  state: HypothesisState;
}

/** `open` until every hypothesis below it is confirmed (`committed`) or one is refuted (`rolledBack`). */
export type IntervalState = 'open' | 'committed' | 'rolledBack';

export type Outcome = Exclude<IntervalState, 'open'>;

/** A change to undo, run newest first. It must not call the engine. */
export interface UndoRecord {
  readonly order: number;
  readonly bytes: number;
  readonly undo: () => void;
}

/** A stretch of one object's history that can only be kept or undone as a whole. */
export interface Interval {
  /** Order of beginning. Dependencies only ever point from a lower number to a higher one, so they have no cycle. */
  readonly order: number;
  readonly object: SpeculativeObject;
  /** State before the interval; what it is belongs to the caller. `null`: the object did not exist. */
  readonly checkpoint: unknown;
  /** The interval of another object that made this one (a process writing a node); null where the object acts itself. */
  readonly maker: Interval | null;
  state: IntervalState;
  /** True: nothing more may be absorbed, since a mutation issued in it may be on its way to the server. */
  sealed: boolean;
  /** Uncommitted intervals that this one rests on: its predecessor and its causes. */
  waits: number;
  /** Hypotheses made in this interval and not yet known. */
  pending: number;
  readonly causes: Set<Interval>;
  readonly effects: Set<Interval>;
  readonly speculations: Set<Speculation>;
  readonly undo: UndoRecord[];
  undoBytes: number;
  /** Told once what became of it. */
  readonly settled: ((outcome: Outcome) => void)[];
}

/** Anything whose state can depend on a hypothesis. */
export interface SpeculativeObject {
  readonly id: number;
  readonly kind: ObjectKind;
  readonly label: string;
  /** Unresolved intervals, oldest first: the undo log. Empty: the state is definite. */
  readonly log: Interval[];
  /** Nothing will happen to it any more (a process that has exited). */
  ended: boolean;
}

/** Where one object goes back to. */
export interface Restoration {
  readonly object: SpeculativeObject;
  /** The oldest interval undone: the object goes back to its checkpoint. */
  readonly to: Interval;
  /** Newer intervals whose checkpoints are no longer needed, oldest first. */
  readonly dropped: readonly Interval[];
}

/** Everything that one failed hypothesis undoes. */
export interface Rollback {
  readonly because: Speculation | null;
  /** Each object once, the one that must be restored first (the newest) first. */
  readonly restorations: readonly Restoration[];
  /** Hypotheses that were still pending and no longer matter. */
  readonly dropped: readonly Speculation[];
  /** Mutations already confirmed by the server inside an interval that is undone: the caller must be able to redo or repair. */
  readonly orphaned: readonly Speculation[];
}

/** The newest unresolved interval, or null where the object is definite. */
export function currentInterval(object: SpeculativeObject): Interval | null {
  return object.log.length === 0 ? null : object.log[object.log.length - 1]!;
}
