/**
 * What the speculation engine knows of processes: events that come up and commands that go down. Types only.
 * The tracer implements it for unmodified Linux programs (process/host.ts); a simulation implements it for tests.
 *
 * The model. A process runs natively until it has an open *checkpoint*, or was created by a process that had one; then
 * it is *speculative* and runs under the table of system calls (syscalls.ts). A checkpoint is taken at a system call
 * (or between two), and that call runs again after it, and once more after a rollback.
 *
 * A process *depends* on its own open checkpoints and on those that its creator depended on when it was created. Rolling
 * a checkpoint back restores its process, kills every process created since by it or by what it created, and drops the
 * output withheld since. So most of a script's life is one family: one checkpoint, and children that need none.
 *
 * What the backend does by itself, because no judgement is needed:
 * - a call the table calls `wait` holds the process; it goes on once the process depends on nothing (event `held`);
 * - output to a terminal, pipe or socket outside is withheld and emitted, in order, when what its writer depended on then
 *   is committed, before the writer runs natively;
 * - the exit of a process that has a checkpoint of its own is held; it happens when the process depends on nothing;
 * - a real exit that the parent has already been told of is reaped inside the parent, unseen by it;
 * - fatal signals to a speculative process are held like exits.
 *
 * What the engine decides: when to checkpoint, to commit, to roll back, and whether a process may go on by depending on
 * others (event `needs`). Dependencies of one checkpoint upon another are the engine's knowledge alone: the backend
 * only insists that a process's own checkpoints commit oldest first.
 */

import type { JournalLimits } from './local-journal.ts';

/** A process number, as the kernel (and FUSE requests of this machine) give it. */
export type Pid = number;
/** Never reused within a run; ascending in the order of creation. */
export type CheckpointId = number;

/** How a process ended: exit code 0..255, or the signal that killed it (then `code` is 0). */
export interface ExitStatus {
  readonly code: number;
  /** 0 when it exited by itself. */
  readonly signal: number;
}

/** Why a checkpoint cannot be taken; the request that asked for it must wait for the truth. */
export type Refusal =
  | 'gone' // no such process (any more)
  | 'threads' // more than one thread
  | 'vfork' // shares its memory with its parent until it execs
  | 'shared-memory' // writable shared mappings
  | 'call' // the system call it is in does not unwind, or would wait anyway
  | 'page-fault' // it is not in a system call
  | 'busy' // another checkpoint or rollback of it is under way
  | 'limit' // too many checkpoints are open
  | 'foreign' // not a 64-bit program, or the kernel refused
  | 'missed'; // a signal came first: the call has been answered with EINTR and runs again by itself

export type ProcessEvent =
  /** The program is about to run; `pid` is the root of the family. */
  | { readonly type: 'started'; readonly pid: Pid }
  /** `dependsOn` is what the child depends on by birth (empty: it runs natively). Sent before the child runs. */
  | {
      readonly type: 'forked';
      readonly parent: Pid;
      readonly child: Pid;
      /** A thread of `parent` rather than a process of its own. */
      readonly thread: boolean;
      readonly dependsOn: readonly CheckpointId[];
    }
  | { readonly type: 'execed'; readonly pid: Pid }
  /** Answer to `checkpoint`, or to `proceed` where one was needed; or an eager one. The call runs again from now on, speculatively. */
  | { readonly type: 'checkpointed'; readonly pid: Pid; readonly checkpoint: CheckpointId; readonly token: number }
  /** Answer to `detain`: it stands behind the call, until `resume`. */
  | { readonly type: 'detained'; readonly pid: Pid; readonly token: number }
  /** Answer to `checkpoint` or `detain`. `replied` says whether the reply given with the command has been written. */
  | {
      readonly type: 'refused';
      readonly pid: Pid;
      readonly token: number;
      readonly reason: Refusal;
      readonly replied: boolean;
    }
  /** It waits for the truth: it is stopped at a call that must not be made speculatively, until it depends on nothing. */
  | { readonly type: 'held'; readonly pid: Pid; readonly call: string; readonly why: string }
  /**
   * It waits for this child (it may run natively so far), whose exit is held: it can go on if it depends on what the child
   * depends on. Answer `proceed`, or do nothing: then it goes on by itself when the child has been resolved.
   */
  | { readonly type: 'needs'; readonly pid: Pid; readonly child: Pid }
  /** Output was withheld; `total` counts the bytes withheld and not yet emitted in the whole run. */
  | {
      readonly type: 'withheld';
      readonly pid: Pid;
      readonly fd: number;
      readonly bytes: number;
      readonly total: number;
    }
  /** The process has finished, speculatively. Its parent can be told (see `needs`). */
  | { readonly type: 'exitHeld'; readonly pid: Pid; readonly parent: Pid; readonly status: ExitStatus }
  /** The checkpoint is gone and what was withheld for it alone is out. */
  | { readonly type: 'committed'; readonly checkpoint: CheckpointId }
  /** The process depends on nothing any more and runs natively. */
  | { readonly type: 'released'; readonly pid: Pid }
  /**
   * All is restored, and restored processes go on. `checkpoints` are all that are gone: those asked for, later ones of
   * the same processes, those of processes killed, and those of parents told of an exit that is undone (the engine may
   * not have heard of some yet). `killed` are the processes that never were.
   */
  | {
      readonly type: 'rolledBack';
      readonly checkpoints: readonly CheckpointId[];
      readonly restored: readonly Pid[];
      readonly killed: readonly Pid[];
    }
  /** A signal was delivered to the process (told for statistics and traces). */
  | { readonly type: 'signalled'; readonly pid: Pid; readonly signal: number }
  /** It has really ended. Of the root's exit the run's end follows. */
  | { readonly type: 'exited'; readonly pid: Pid; readonly status: ExitStatus }
  /** Every process has ended; nothing follows. */
  | { readonly type: 'ended'; readonly status: ExitStatus; readonly counts: BackendCounts }
  /** Only with `everyCall`: the process stands before its `count`-th system call. Answer `checkpoint` or `pass`. */
  | { readonly type: 'atCall'; readonly pid: Pid; readonly count: number; readonly call: string }
  /** The tracer failed, all processes have been killed. */
  | { readonly type: 'failed'; readonly error: Error };

/** Counts and sums of time since the start; times in microseconds. */
export interface BackendCounts {
  stops: number;
  checkpoints: number;
  checkpointUs: number;
  refused: number;
  missed: number;
  commits: number;
  commitUs: number;
  rollbacks: number;
  rollbackUs: number;
  replaced: number;
  killed: number;
  held: number;
  withheldWrites: number;
  withheldBytes: number;
  exitsHeld: number;
  waitsEmulated: number;
}

/** Bytes to write to a descriptor of this process, once the target has been told to stop: FUSE's reply EINTR. */
export interface Reply {
  readonly fd: number;
  readonly bytes: Uint8Array;
}

/** Processes that can be checkpointed, committed and rolled back. Commands return at once; their results are events. */
export interface ProcessBackend {
  /**
   * Starts the program. Events go to the listener given at construction, in order, from the event loop or from `poll`.
   * @throws IsthmusError ENOENT, EACCES, … when it cannot be started
   */
  start(): void;

  /**
   * Hands over events that have arrived but have not been told. Call it before deciding on a request of a process: its
   * `forked` or `checkpointed` may be among them. Costs about a microsecond when there are none.
   */
  poll(): void;

  /**
   * Interrupts `pid`, writes `reply`, and takes a checkpoint where the interrupted call begins. Answered by
   * `checkpointed` or `refused` with the same token; a refusal may come before the reply is written, and then the
   * request still wants its answer. A process that is speculative already can be checkpointed again.
   */
  checkpoint(pid: Pid, token: number, reply?: Reply): void;

  /**
   * Interrupts `pid`, writes `reply`, and keeps it stopped behind the interrupted call. Answered by `detained` or `refused`
   * as a checkpoint is. For calls whose success the kernel must not believe in, since it could not take it back.
   */
  detain(pid: Pid, token: number, reply: Reply): void;

  /** A detained process goes on with this result of its call; null: it makes the call again. */
  resume(pid: Pid, result: number | null): void;

  /**
   * From now on (or not any more) the backend takes checkpoints by itself where the engine would have to ask for one: at a call
   * that changes the mount, after one that cannot be taken back. They are told by `checkpointed` with token 0.
   */
  eager(on: boolean): void;

  /**
   * Answers `needs`: the process goes on, depending on the child from now on. With `fresh` (or where the process has no
   * open checkpoint) a checkpoint is taken first and told by `checkpointed` with `token`; otherwise its newest one must
   * do, and the engine makes that one depend on the child's.
   */
  proceed(pid: Pid, child: Pid, token: number, fresh: boolean): void;

  /**
   * Forgets a checkpoint: what was done since stays done, unless it depends on another.
   * Of one process's checkpoints the oldest must go first.
   */
  commit(checkpoint: CheckpointId): void;

  /**
   * Goes back to these checkpoints, all in one step. The set must be closed: whoever depends on what is undone is undone,
   * too. Of several checkpoints of one process the oldest counts. Until `rolledBack`, FUSE requests of the processes
   * concerned must be answered at once (with EINTR, say): a process ends only after its request is answered.
   */
  rollback(checkpoints: readonly CheckpointId[]): void;

  /** Only with `everyCall`: let the process make its call. */
  pass(pid: Pid): void;

  /** Sends a signal to the root, as the terminal would. */
  signal(signal: number): void;

  /** Kills what is left and ends the tracer. Idempotent; resolves when nothing is left behind. */
  close(): Promise<void>;
}

export interface LaunchOptions {
  /** Program and arguments; the program is searched on the PATH of `env`. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Descriptors of this process that become 0, 1 and 2 of the program. Default 0, 1, 2. */
  readonly stdio?: readonly [number, number, number];
  /** Directories whose files the mount's speculation answers for; absolute, without symbolic links. */
  readonly mounts?: readonly string[];
  /**
   * Local directories, absolute, without symbolic links, in which speculating processes may change files: the changes are
   * recorded and put back on a rollback. Every process of the run then stops at its calls. Default: none.
   */
  readonly locals?: readonly string[];
  /** What may be recorded of them. Default 64 MiB of data, 4096 changes. */
  readonly journal?: JournalLimits;
  /** Processor for the tracer and the program: a stop costs several times less. Default: the last one allowed; −1: none. */
  readonly cpu?: number;
  /** Bytes of output that may be withheld; a writer beyond it waits for the truth. Default 8 MiB. */
  readonly maxWithheldBytes?: number;
  /** Open checkpoints at once. Default 256. */
  readonly maxCheckpoints?: number;
  /** For tests: stop every process before every `everyCall`-th system call and ask (event `atCall`). */
  readonly everyCall?: number;
  /** For debugging: one line per step of the tracer on stderr. */
  readonly log?: boolean;
}
