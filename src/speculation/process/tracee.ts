/**
 * What the tracer remembers of each process, checkpoint and piece of withheld output.
 * Data and small questions about it; nothing here calls the kernel.
 */
import type { SavedRegisters } from '../../linux/registers.ts';
import type { CheckpointId, ExitStatus, Pid, Refusal, Reply } from './backend.ts';
import { EndedChildren } from './ended-children.ts';
import type { JournalRecord } from './local-journal.ts';

/** Where a stopped process stands. Only at `neutral` can calls be injected at once. */
export const Stop = {
  /** It is running. */
  NONE: 0,
  /** Before a system call; the call can still be cancelled. */
  ENTRY: 1,
  /** Between user code and kernel: after a call, or at EVENT_STOP. */
  NEUTRAL: 2,
  /** Inside fork or exec. */
  INSIDE: 3,
  /** About to receive a signal. */
  SIGNAL: 4,
  /** Stopped by job control. */
  GROUP: 5,
} as const;
export type StopKind = (typeof Stop)[keyof typeof Stop];

/** Why a stopped process is kept stopped. */
export const Hold = {
  NONE: 0,
  /** At the entry of a call that waits for the truth. */
  TRUTH: 1,
  /** At the entry of its exit. */
  EXIT: 2,
  /** At a fatal signal. */
  DEATH: 3,
  /** At the entry of a call that needs the engine's word (see `needs`). */
  NEEDS: 4,
  /** `atCall` has been sent. */
  ASKED: 5,
  /** Its rollback is waiting for others. */
  UNDO: 6,
  /** It is free, but what was withheld of it is not out yet. */
  OUTPUT: 7,
  /** At the entry of its exit: what only it can reap is still ending. */
  REAP: 8,
  /** At the entry of a call that would see what another process has assumed of local files. */
  LOCAL: 9,
  /** Behind a call whose result the engine gives. */
  DETAINED: 10,
} as const;
export type HoldKind = (typeof Hold)[keyof typeof Hold];

export interface Checkpoint {
  readonly id: CheckpointId;
  readonly tracee: Tracee;
  /** The parked copy. */
  readonly copy: Pid;
  readonly registers: SavedRegisters;
  /** The call runs again after a rollback (else the process goes on between two calls). */
  readonly repeat: boolean;
  readonly mask: readonly [number, number];
  /** Positions of open files. */
  readonly positions: readonly (readonly [fd: number, position: number])[];
  /** The copy has something open whose closing others notice: a pipe's reading end, or a file for writing (ETXTBSY). */
  readonly closesLate: boolean;
  /** Signals that it had sent itself, to be delivered next. */
  readonly raised: readonly number[];
  /**
   * Files (see DescriptorInfo) in which it, or what depends on it by birth, has moved since. Only there is the position put
   * back: open files are shared, and another process that is not undone may have moved in the others.
   */
  readonly moved: Set<string>;
  /** Checkpoints of others that this one depends on, since its process was told of their ends; and what those depend on. */
  readonly causes: Set<Checkpoint>;
  /** Signals whose action was changed since. */
  readonly actionsChanged: Set<number>;
  alternateStackChanged: boolean;
  /** It runs another program since, so memory cannot be restored in place. */
  execed: boolean;
  /** Signals delivered since, to be sent again after a rollback. */
  readonly signals: number[];
  /** Children whose SIGCHLD was delivered since. */
  readonly childSignals: Set<Pid>;
  state: 'open' | 'committed' | 'undone';
}

/** What the engine has asked of a process and waits for its next stop. */
export interface CheckpointWish {
  readonly token: number;
  readonly reply: Reply | undefined;
  replied: boolean;
  /** Answers `needs`: after the checkpoint (if any) the process is told of the end of this child. 0: it was not that. */
  readonly child: Pid;
  /** A checkpoint is to be taken (else only to proceed). */
  readonly fresh: boolean;
  /** It is to be kept behind its call. */
  readonly detain: boolean;
}

export interface Tracee {
  readonly pid: Pid;
  parent: Tracee | undefined;
  /** It was created before all checkpoints from this number on. */
  readonly birth: CheckpointId;
  readonly children: Set<Tracee>;
  stop: StopKind;
  /** Of a stop at a signal: which. */
  stopSignal: number;
  hold: HoldKind;
  /** Own open checkpoints, oldest first. */
  readonly checkpoints: Checkpoint[];
  /** Checkpoints of others that it depends on because it was created after them. */
  readonly born: Set<Checkpoint>;
  threads: boolean;
  /** Shares its parent's memory until it execs. */
  vfork: boolean;
  /** Its first stop is still to come. */
  fresh: boolean;
  /** Look out for its waits although it runs natively otherwise: a child's exit is held. */
  watched: boolean;
  wish: CheckpointWish | undefined;
  /** Ends that its program has been told of, or never knew of (copies): to be reaped inside it, unseen. */
  readonly toReap: Set<Pid>;
  /** Of those, the ones that have ended. */
  readonly reapable: Set<Pid>;
  /** Children whose SIGCHLD it must not see. */
  readonly swallow: Set<Pid>;
  /** Children that have really ended. */
  readonly dead: EndedChildren;
  /** A SIGCHLD of ours is on the way to it; it shall look like this child's. */
  fakeChild: { readonly pid: Pid; readonly status: ExitStatus } | undefined;
  /** Until it execs: why no checkpoint can be taken. */
  unfit: Refusal | undefined;
  /** The call it enters next is a repetition: do not ask again. */
  repeating: boolean;
  /** Its exit is held (or has happened) with this status. */
  exitStatus: ExitStatus | undefined;
  /** The parent has been told of its end, after this checkpoint of the parent's. */
  toldAfter: Checkpoint | undefined;
  /** Children about which the engine has been asked. */
  readonly asked: Set<Pid>;
  /** A checkpoint to go back to. */
  undo: Checkpoint | undefined;
  doomed: boolean;
  /** Ended; only the record remains. */
  ended: boolean;
  calls: number;
  /** Address of a system call instruction in it; 0: to be looked up. */
  instruction: number;
  /** Where the call it is in writes the descriptors of a new pipe; 0: it is in no such call. */
  makingPipe: number;
  /** It is in a wait that was let go to the kernel. */
  waiting: boolean;
  /** Since its newest checkpoint it has made a call that cannot be taken back. */
  final: boolean;
  /** The call it makes next has failed because of what a parked copy holds: it waits for the truth. */
  truthNext: boolean;
  /** What was recorded of local files for the call it is in. */
  changing: JournalRecord | undefined;
}

export function createTracee(pid: Pid, parent: Tracee | undefined, birth: CheckpointId): Tracee {
  const tracee: Tracee = {
    pid,
    parent,
    birth,
    children: new Set(),
    stop: Stop.NONE,
    stopSignal: 0,
    hold: Hold.NONE,
    checkpoints: [],
    born: new Set(),
    threads: false,
    vfork: false,
    fresh: true,
    watched: false,
    wish: undefined,
    toReap: new Set(),
    reapable: new Set(),
    exitStatus: undefined,
    toldAfter: undefined,
    asked: new Set(),
    swallow: new Set(),
    dead: new EndedChildren(),
    fakeChild: undefined,
    unfit: undefined,
    repeating: false,
    undo: undefined,
    doomed: false,
    ended: false,
    calls: 0,
    instruction: 0,
    makingPipe: 0,
    waiting: false,
    final: false,
    truthNext: false,
    changing: undefined,
  };
  parent?.children.add(tracee);
  return tracee;
}

/** Whether it runs under the table of system calls. */
export function isSpeculative(tracee: Tracee): boolean {
  return tracee.checkpoints.length > 0 || tracee.born.size > 0;
}

/** All that it depends on. */
export function dependencies(tracee: Tracee): Checkpoint[] {
  return [...tracee.born, ...tracee.checkpoints];
}

/** What is known of a checkpoint when it is taken. */
export type TakenCheckpoint = Pick<
  Checkpoint,
  'id' | 'tracee' | 'copy' | 'registers' | 'repeat' | 'mask' | 'positions' | 'closesLate' | 'raised'
>;

export function createCheckpoint(taken: TakenCheckpoint): Checkpoint {
  return {
    ...taken,
    moved: new Set(),
    causes: new Set(),
    actionsChanged: new Set(),
    alternateStackChanged: false,
    execed: false,
    signals: [],
    childSignals: new Set(),
    state: 'open',
  };
}

/** Whether it is undone when any of these is. */
export function dependsOnAll(tracee: Tracee, checkpoints: Iterable<Checkpoint>): boolean {
  const own = dependencies(tracee);
  for (const checkpoint of checkpoints) {
    if (!own.includes(checkpoint) && !own.some(({ causes }) => causes.has(checkpoint))) return false;
  }
  return true;
}

/** The process has been told of another's end: what that one depends on, its newest checkpoint now depends on. */
export function learnFrom(tracee: Tracee, other: Tracee): void {
  const causes = tracee.checkpoints.at(-1)?.causes;
  if (causes === undefined) return;
  for (const checkpoint of dependencies(other)) {
    causes.add(checkpoint);
    for (const further of checkpoint.causes) causes.add(further);
  }
}
