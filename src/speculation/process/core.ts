/**
 * What all parts of the tracer share: processes, parked copies, withheld output, counts, and how a process goes on.
 * It resumes and kills traced processes; it waits only for a parked copy to stop or to end.
 */
import { writeSync } from 'node:fs';
import { readProcLink, statusField } from '../../linux/proc.ts';
import {
  interrupt,
  readCall,
  reapOrphan,
  resume,
  resumeToCall,
  sendSignal,
  waited,
  waitFor,
} from '../../linux/ptrace.ts';
import type { SavedRegisters } from '../../linux/registers.ts';
import type { BackendCounts, CheckpointId, ExitStatus, LaunchOptions, Pid, ProcessEvent } from './backend.ts';
import { TracedCall } from './descriptors.ts';
import { Injector } from './injector.ts';
import { LocalCalls } from './local-calls.ts';
import { LocalJournal } from './local-journal.ts';
import { WithheldOutput } from './output.ts';
import { PipeReaders } from './pipe-readers.ts';
import { type Checkpoint, dependencies, Hold, isSpeculative, Stop, type Tracee } from './tracee.ts';

const SIGKILL = 9;

export interface Copy {
  readonly owner: Tracee;
  /** Its first stop has been seen: it is parked. */
  parked: boolean;
  dying: boolean;
}

export class TracerCore {
  readonly options: LaunchOptions;
  readonly emit: (event: ProcessEvent) => void;
  readonly injector = new Injector();
  readonly output: WithheldOutput;
  readonly tracees = new Map<Pid, Tracee>();
  readonly copies = new Map<Pid, Copy>();
  readonly checkpoints = new Map<CheckpointId, Checkpoint>();
  /** Pipes made speculatively: they exist only as long as these checkpoints are neither committed nor undone. */
  readonly pipes = new Map<string, Set<Checkpoint>>();
  readonly call: TracedCall;
  readonly journal: LocalJournal;
  readonly local: LocalCalls;
  readonly #pipeReaders: PipeReaders;
  readonly counts: BackendCounts = {
    stops: 0,
    checkpoints: 0,
    checkpointUs: 0,
    refused: 0,
    missed: 0,
    commits: 0,
    commitUs: 0,
    rollbacks: 0,
    rollbackUs: 0,
    replaced: 0,
    killed: 0,
    held: 0,
    withheldWrites: 0,
    withheldBytes: 0,
    exitsHeld: 0,
    waitsEmulated: 0,
  };
  nextCheckpoint = 1;
  /** Looks at a process that stands before a call; set by the tracer. */
  onEntry: (tracee: Tracee) => void = () => {};
  readonly #later: () => void;
  /** A call of `retryOutput` has been asked for and has not come. */
  #retrying = false;
  readonly #names: string[] = [];
  readonly #started = performance.now();

  /** @param later has `retryOutput` called a little later */
  constructor(options: LaunchOptions, emit: (event: ProcessEvent) => void, later: () => void) {
    this.options = options;
    this.emit = emit;
    this.#later = later;
    this.output = new WithheldOutput(process.pid);
    this.call = new TracedCall({
      mounts: options.mounts ?? [],
      locals: options.locals ?? [],
      stdio: options.stdio ?? [0, 1, 2],
      ownPid: process.pid,
      isInsidePipe: (name, tracee) => this.#isInside(name, tracee),
    });
    this.#pipeReaders = new PipeReaders(this.injector.numbers.getdents64!);
    this.journal = new LocalJournal(options.locals ?? [], options.journal);
    this.local = new LocalCalls(this.journal, this.call);
    for (const [name, number] of Object.entries(this.injector.numbers)) this.#names[number] = name;
  }

  callName(number: number): string {
    return this.#names[number] ?? `#${number}`;
  }

  /** For debugging only. */
  log(text: () => string): void {
    if (!this.options.log) return;
    writeSync(2, `    [${(performance.now() - this.#started).toFixed(2)}] ${text()}\n`);
  }

  /** Whether it must stop at its system calls. */
  needsStops(tracee: Tracee): boolean {
    return (
      isSpeculative(tracee) ||
      tracee.watched ||
      tracee.toReap.size > 0 ||
      tracee.dead.owes ||
      (this.options.everyCall ?? 0) > 0 ||
      (this.options.locals ?? []).length > 0
    );
  }

  /** Lets a stopped process go on, natively where it may; what was withheld of it comes first. */
  go(tracee: Tracee, signal = 0): void {
    if (!isSpeculative(tracee) && this.output.waitsFor(tracee) && this.output.flush() && this.output.waitsFor(tracee)) {
      tracee.hold = Hold.OUTPUT;
      tracee.stopSignal = signal;
      this.later();
      return;
    }
    tracee.stop = Stop.NONE;
    tracee.hold = Hold.NONE;
    if (this.needsStops(tracee)) resumeToCall(tracee.pid, signal);
    else resume(tracee.pid, signal);
  }

  /** Keeps it at the entry of a call until it depends on nothing, or what it would see is settled. */
  hold(tracee: Tracee, call: string, why: string, hold: typeof Hold.TRUTH | typeof Hold.LOCAL = Hold.TRUTH): void {
    tracee.hold = hold;
    this.counts.held++;
    this.log(() => `hold ${tracee.pid} at ${call}: ${why}`);
    this.emit({ type: 'held', pid: tracee.pid, call, why });
  }

  /** Something has changed for a process held before a call: looks at the call once more. */
  again(tracee: Tracee): void {
    tracee.hold = Hold.NONE;
    readCall(tracee.pid);
    this.onEntry(tracee);
  }

  /** Lets a process whose call was cancelled or has ended make it (again). */
  repeat(tracee: Tracee, saved: SavedRegisters): void {
    const { registers } = this.injector;
    registers.load(saved);
    registers.repeatCall();
    registers.write(tracee.pid);
    tracee.repeating = true;
    this.go(tracee);
  }

  /** Asks for a call of `retryOutput` a little later: one, however many wait for it, since each asks again. */
  later(): void {
    if (this.#retrying) return;
    this.#retrying = true;
    this.#later();
  }

  retryOutput(): void {
    this.#retrying = false;
    if (this.output.flush()) this.later();
    for (const tracee of this.tracees.values()) {
      if (tracee.hold === Hold.OUTPUT) this.go(tracee, tracee.stopSignal);
    }
  }

  /** Makes sure that a copy has come to its first stop. */
  parkCopy(pid: Pid): void {
    const copy = this.copies.get(pid);
    if (!copy || copy.parked) return;
    waitFor(pid);
    copy.parked = true;
  }

  /** Ends a parked copy. Its owner is left to reap it. */
  killCopy(checkpoint: Checkpoint): void {
    const copy = this.copies.get(checkpoint.copy);
    if (!copy || copy.dying) return;
    copy.dying = true;
    sendSignal(checkpoint.copy, SIGKILL);
    copy.owner.toReap.add(checkpoint.copy);
    copy.owner.swallow.add(checkpoint.copy);
    if (!checkpoint.closesLate) return;
    // Whoever writes to that pipe next must find nobody there, and who executes that file no writer.
    do if (waitFor(checkpoint.copy) < 0) return;
    while (!waited.ended);
    this.copyEnded(checkpoint.copy, copy);
  }

  copyEnded(pid: Pid, { owner }: Copy): void {
    this.copies.delete(pid);
    this.becameReapable(owner, pid);
  }

  /** Something has ended that `owner` (if it lives) must reap unseen. */
  becameReapable(owner: Tracee, pid: Pid): void {
    if (owner.ended) {
      reapOrphan(pid);
      return;
    }
    if (!owner.toReap.has(pid)) return;
    owner.reapable.add(pid);
    // A held process reaps when it goes on; a running one is stopped for it.
    if (owner.stop === Stop.NONE) interrupt(owner.pid);
    else if (owner.hold === Hold.REAP) this.again(owner);
  }

  /** At a stop between user code and kernel: reaps what is to be reaped. Registers are changed. True if anything was. */
  reap(tracee: Tracee): boolean {
    const WNOHANG_ALL = 0x40000001;
    const { injector } = this;
    if (tracee.reapable.size === 0) return false;
    if (tracee.instruction === 0) tracee.instruction = injector.findInstruction(tracee.pid);
    const mask = injector.blockSignals(tracee.pid);
    for (const pid of tracee.reapable) {
      injector.call(tracee.pid, tracee.instruction, 'wait4', [pid, 0, WNOHANG_ALL, 0]);
      tracee.toReap.delete(pid);
    }
    tracee.reapable.clear();
    injector.unblockSignals(tracee.pid, mask);
    return true;
  }

  /** Takes an ended process out of the books. */
  forget(tracee: Tracee, status: ExitStatus): void {
    tracee.ended = true;
    tracee.exitStatus ??= status;
    tracee.stop = Stop.NONE;
    tracee.hold = Hold.NONE;
    this.tracees.delete(tracee.pid);
    const { parent } = tracee;
    parent?.children.delete(tracee);
    for (const child of tracee.children) child.parent = undefined;
    for (const checkpoint of tracee.checkpoints) this.killCopy(checkpoint);
    // What one that was killed has done is still to be kept or undone.
    if (tracee.doomed) this.dropCheckpoints(tracee, 0);
    // Its zombies are ours now.
    for (const pid of tracee.dead.zombies) if (!this.tracees.has(pid) && !this.copies.has(pid)) reapOrphan(pid);
    for (const pid of tracee.reapable) reapOrphan(pid);
  }

  /** Its checkpoints from the `from`-th on are undone. */
  dropCheckpoints(tracee: Tracee, from: number): void {
    for (const checkpoint of tracee.checkpoints.splice(from)) {
      checkpoint.state = 'undone';
      this.checkpoints.delete(checkpoint.id);
      this.killCopy(checkpoint);
    }
  }

  /** A pipe made by the call that a process has just finished. */
  notePipe(tracee: Tracee, fds: readonly number[]): void {
    for (const fd of fds) {
      const name = readProcLink(`/proc/${tracee.pid}/fd/${fd}`);
      if (name?.startsWith('pipe:')) this.pipes.set(name, new Set(dependencies(tracee)));
    }
  }

  /** Whether the descriptor is a pipe that only parked copies could read: nobody reads it, but a write would not fail. */
  isUnreadPipe({ pid }: Tracee, fd: number): boolean {
    const link = readProcLink(`/proc/${pid}/fd/${fd}`);
    if (!link?.startsWith('pipe:')) return false;
    return this.#pipeReaders.isHeldByCopiesOnly(link, this.tracees.keys(), this.copies);
  }

  /** Whether SIGCHLD would run a handler of its program. */
  hasHandler(tracee: Tracee, signal: number): boolean {
    return hasBit(statusField(tracee.pid, 'SigCgt'), signal);
  }

  /** Whether a signal is about to be delivered to it. */
  hasSignal({ pid }: Tracee): boolean {
    const blocked = bits(statusField(pid, 'SigBlk'));
    return ((bits(statusField(pid, 'SigPnd')) | bits(statusField(pid, 'ShdPnd'))) & ~blocked) !== 0n;
  }

  /** Whether the signal would end it. */
  isFatal(tracee: Tracee, signal: number): boolean {
    const harmless = signal >= 17 && signal <= 23; // CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG
    if (harmless || signal === 28) return false; // WINCH
    return !hasBit(statusField(tracee.pid, 'SigCgt'), signal) && !hasBit(statusField(tracee.pid, 'SigIgn'), signal);
  }

  /**
   * Whether the pipe is undone with whatever may undo the process: then what it writes there or takes from there is, too. Not so
   * of a child whose parent has taken a checkpoint since the pipe was made, although it has none of its own: undone alone, it
   * would leave what it wrote, and before the withheld output of its parent.
   */
  #isInside(name: string, tracee: Tracee): boolean {
    const since = this.pipes.get(name);
    return since !== undefined && isSpeculative(tracee) && dependencies(tracee).every((one) => since.has(one));
  }
}

function bits(hexadecimal: string | undefined): bigint {
  return hexadecimal === undefined ? 0n : BigInt(`0x${hexadecimal}`);
}

function hasBit(hexadecimal: string | undefined, signal: number): boolean {
  return ((bits(hexadecimal) >> BigInt(signal - 1)) & 1n) === 1n;
}
