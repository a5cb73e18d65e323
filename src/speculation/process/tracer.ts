/**
 * The tracer: follows a program and all it starts, and carries out the engine's commands on them at their stops.
 * Every ptrace call is made on its thread; it is told of commands by a signal to a process of its own, the bell.
 */
import { setAffinity } from '../../linux/affinity.ts';
import { statusField } from '../../linux/proc.ts';
import {
  Call,
  callNumber,
  callResult,
  eventMessage,
  listen,
  readCall,
  resume,
  SYSCALL_STOP,
  sendSignal,
  TraceEvent,
  waited,
  waitFor,
} from '../../linux/ptrace.ts';
import type { CheckpointId, ExitStatus, LaunchOptions, Pid, ProcessEvent } from './backend.ts';
import { onEnd, onEntry, reconsider } from './calls.ts';
import { onChildSignal, onExitHeld, onReallyEnded, SIGCHLD, settle } from './children.ts';
import { TracerCore } from './core.ts';
import { TraceeEnded } from './injector.ts';
import { enterDirectory, launch, launchIdle } from './launch.ts';
import { isOwnDoing } from './signals.ts';
import { createTracee, dependencies, Hold, isSpeculative, Stop, type Tracee } from './tracee.ts';
import { Undo } from './undo.ts';
import { RESTARTS, Wishes } from './wishes.ts';

const SIGKILL = 9;
const SIGTRAP = 5;
const SIGCONT = 18;
const EINTR = -4;

export class Tracer {
  readonly core: TracerCore;
  readonly wishes: Wishes;
  readonly #options: LaunchOptions;
  readonly #emit: (event: ProcessEvent) => void;
  /** First stops of processes that were seen before their creation was told. */
  readonly #early = new Set<Pid>();
  #undo: Undo | undefined;
  readonly #undos: (readonly CheckpointId[])[] = [];
  #root = 0;
  #rootStatus: ExitStatus = { code: 0, signal: 0 };
  #bell = 0;

  constructor(options: LaunchOptions, emit: (event: ProcessEvent) => void, later: () => void) {
    this.#options = options;
    this.#emit = emit;
    this.core = new TracerCore(options, emit, later);
    this.core.onEntry = (tracee) => onEntry(this.core, tracee);
    this.wishes = new Wishes(this.core, { guard: (action) => this.#guard(action), pass: (pid) => this.pass(pid) });
  }

  /** Makes the bell: a process that does nothing; any signal to it wakes the tracer. */
  hangBell(): Pid {
    if ((this.#options.cpu ?? -1) >= 0) setAffinity([this.#options.cpu!]);
    const pid = launchIdle(this.core.injector);
    this.#bell = pid;
    return pid;
  }

  /** @throws IsthmusError when the program cannot be started */
  start(): void {
    const { command, env = process.env, cwd, stdio = [0, 1, 2] } = this.#options;
    const pid = launch({ command, env, stdio });
    if (cwd !== undefined) enterDirectory(this.core.injector, pid, cwd);
    const tracee = createTracee(pid, undefined, this.core.nextCheckpoint);
    tracee.fresh = false;
    this.core.tracees.set(pid, tracee);
    this.#root = pid;
    this.#emit({ type: 'started', pid });
    sendSignal(pid, SIGCONT);
    this.core.go(tracee);
  }

  /** Follows the processes until none is left. `onBell` carries out commands; it may be called at any stop. */
  run(onBell: () => void): void {
    for (;;) {
      const pid = waitFor(-1);
      if (pid < 0) break;
      if (pid === this.#bell) {
        if (waited.ended) break;
        const rings = waited.event === TraceEvent.NONE;
        resume(pid);
        if (rings || waited.event === TraceEvent.STOP) onBell();
      } else {
        this.#guard(() => this.#news(pid));
      }
      if (this.core.tracees.size === 0 && this.#root !== 0) break;
    }
    this.kill();
    while (waitFor(-1) > 0);
    this.core.journal.close();
    this.#emit({ type: 'ended', status: this.#rootStatus, counts: this.core.counts });
  }

  /** Ends everything at once. */
  kill(): void {
    for (const pid of this.core.tracees.keys()) sendSignal(pid, SIGKILL);
    for (const pid of this.core.copies.keys()) sendSignal(pid, SIGKILL);
    for (const pid of this.#early) sendSignal(pid, SIGKILL);
    sendSignal(this.#bell, SIGKILL);
  }

  // A process may be killed from outside at any time, also while calls are being injected into it.
  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof TraceeEnded)) throw error;
      const { pid, code, signal } = error;
      this.#ended(pid, { code, signal });
    }
  }

  #news(pid: Pid): void {
    const copy = this.core.copies.get(pid);
    if (copy) {
      if (waited.ended) this.core.copyEnded(pid, copy);
      else copy.parked = true;
      return;
    }
    if (waited.ended) {
      this.#ended(pid, { code: waited.code, signal: waited.signal });
      return;
    }
    const tracee = this.core.tracees.get(pid);
    if (!tracee) {
      this.#early.add(pid);
      this.#killStrays();
      return;
    }
    this.core.counts.stops++;
    if (waited.signal === SYSCALL_STOP) this.#atCall(tracee);
    else if (waited.event !== TraceEvent.NONE) this.#atEvent(tracee, waited.event, waited.signal);
    else this.#atSignal(tracee, waited.signal);
  }

  #ended(pid: Pid, status: ExitStatus): void {
    const { core } = this;
    const tracee = core.tracees.get(pid);
    if (!tracee) return;
    const { parent, wish } = tracee;
    if (wish) {
      this.wishes.refuse(tracee, wish.token, 'gone', wish.replied);
    }
    core.forget(tracee, status);
    if (pid === this.#root) this.#rootStatus = status;
    core.log(() => `ended ${pid} ${status.code} ${status.signal}`);
    this.#emit({ type: 'exited', pid, status });
    if (parent) {
      onReallyEnded(core, parent, tracee, status);
      reconsider(core, parent);
    }
    this.#killStrays();
    if (this.#undo?.ended(tracee)) this.#undoDone();
  }

  // Killed in the middle of a fork, a process leaves a child of which no event will tell; so do calls of ours.
  #killStrays(): void {
    for (const pid of this.#early) {
      const parent = Number(statusField(pid, 'PPid') ?? 0);
      if (parent === process.pid || this.core.tracees.has(parent)) continue;
      sendSignal(pid, SIGKILL);
      this.#early.delete(pid);
    }
  }

  #atCall(tracee: Tracee): void {
    const { core } = this;
    const where = readCall(tracee.pid);
    if (where === Call.ENTRY) {
      tracee.stop = Stop.ENTRY;
      // An earlier wait has not come to its end: it was answered without the kernel, or broken off by a signal.
      tracee.waiting = false;
      const repeating = tracee.repeating;
      tracee.repeating = false;
      if (this.#detained(tracee)) return;
      if (tracee.wish) {
        this.wishes.grantBeforeCall(tracee);
        return;
      }
      const every = this.#options.everyCall ?? 0;
      if (every > 0 && !repeating && ++tracee.calls % every === 0) {
        tracee.hold = Hold.ASKED;
        this.#emit({ type: 'atCall', pid: tracee.pid, count: tracee.calls, call: core.callName(callNumber()) });
        return;
      }
      const name = core.callName(callNumber());
      if (isSpeculative(tracee) && this.wishes.checkpointEagerly(tracee, name, repeating)) return;
      onEntry(core, tracee);
      return;
    }
    tracee.stop = Stop.NEUTRAL;
    if (this.#detained(tracee)) return;
    const result = callResult();
    if (tracee.wish) {
      this.wishes.grant(tracee);
      return;
    }
    if (tracee.reapable.size > 0 && !RESTARTS.has(result) && result !== EINTR) {
      const { registers } = core.injector;
      registers.read(tracee.pid);
      const saved = registers.save();
      core.reap(tracee);
      registers.load(saved);
      registers.write(tracee.pid);
      readCall(tracee.pid);
      settle(tracee);
    }
    onEnd(core, tracee, result);
  }

  /** A rollback is under way: the process stays where it is. */
  #detained(tracee: Tracee): boolean {
    if (tracee.doomed) return true;
    if (!tracee.undo) return false;
    tracee.hold = Hold.UNDO;
    if (this.#undo?.stopped()) this.#undoDone();
    return true;
  }

  #atEvent(tracee: Tracee, event: number, signal: number): void {
    const { core } = this;
    const { pid } = tracee;
    if (event === TraceEvent.STOP) {
      if (tracee.fresh) {
        tracee.fresh = false;
        tracee.stop = Stop.NEUTRAL;
        if (!this.#detained(tracee)) core.go(tracee);
        return;
      }
      if (signal !== SIGTRAP) {
        tracee.stop = Stop.GROUP;
        if (!this.#detained(tracee)) {
          tracee.stop = Stop.GROUP;
          listen(pid);
        }
        return;
      }
      tracee.stop = Stop.NEUTRAL;
      if (this.#detained(tracee)) return;
      if (tracee.wish) this.wishes.grant(tracee);
      else this.#afterInterrupt(tracee);
      return;
    }
    tracee.stop = Stop.INSIDE;
    if (event === TraceEvent.FORK || event === TraceEvent.VFORK || event === TraceEvent.CLONE) {
      this.#forked(tracee, event, eventMessage(pid));
    } else if (event === TraceEvent.EXEC) {
      tracee.vfork = false;
      tracee.threads = false;
      tracee.instruction = 0;
      tracee.unfit = undefined;
      for (const checkpoint of tracee.checkpoints) checkpoint.execed = true;
      this.#emit({ type: 'execed', pid });
    }
    if (!this.#detained(tracee)) core.go(tracee);
  }

  // An interrupt of ours must not be seen: a call that gave EINTR because of it is made again. A call that the kernel
  // would restart is left to it, unless registers have been changed in between.
  #afterInterrupt(tracee: Tracee): void {
    const { core } = this;
    const { registers } = core.injector;
    registers.read(tracee.pid);
    const saved = registers.save();
    const { call, result } = registers;
    const reaped = core.reap(tracee);
    settle(tracee);
    if (call >= 0 && ((result === EINTR && !core.hasSignal(tracee)) || (reaped && RESTARTS.has(result)))) {
      core.repeat(tracee, saved);
      return;
    }
    if (reaped) {
      registers.load(saved);
      registers.write(tracee.pid);
    }
    core.go(tracee);
  }

  #forked(tracee: Tracee, event: number, pid: Pid): void {
    const { core } = this;
    const thread = event === TraceEvent.CLONE && Number(statusField(pid, 'Tgid') ?? pid) !== pid;
    const child = createTracee(pid, thread ? tracee.parent : tracee, core.nextCheckpoint);
    tracee.swallow.delete(pid);
    core.tracees.set(pid, child);
    child.vfork = event === TraceEvent.VFORK;
    child.unfit = tracee.unfit;
    if (thread) {
      tracee.threads = true;
      child.threads = true;
      child.parent?.children.delete(child);
      child.parent = undefined;
    }
    for (const checkpoint of dependencies(tracee)) child.born.add(checkpoint);
    this.#emit({
      type: 'forked',
      parent: tracee.pid,
      child: pid,
      thread,
      dependsOn: [...child.born].map((checkpoint) => checkpoint.id),
    });
    if (this.#undo?.concerns(tracee)) {
      this.#early.delete(pid);
      child.fresh = false;
      this.#undo.doom(child);
    } else if (this.#early.delete(pid)) {
      child.fresh = false;
      core.go(child);
    }
  }

  #atSignal(tracee: Tracee, signal: number): void {
    const { core } = this;
    const { pid } = tracee;
    tracee.stop = Stop.SIGNAL;
    tracee.stopSignal = signal;
    if (this.#detained(tracee)) return;
    if (signal === SIGCHLD) {
      core.go(tracee, onChildSignal(tracee) ? signal : 0);
      return;
    }
    this.#emit({ type: 'signalled', pid, signal });
    if (isSpeculative(tracee)) {
      if (tracee.checkpoints.length > 0 && core.isFatal(tracee, signal)) {
        tracee.hold = Hold.DEATH;
        tracee.exitStatus = { code: 0, signal };
        onExitHeld(core, tracee);
        return;
      }
      if (!isOwnDoing(pid, signal)) for (const checkpoint of tracee.checkpoints) checkpoint.signals.push(signal);
    }
    core.go(tracee, signal);
  }

  // ---- commands

  commit(id: CheckpointId): void {
    const { core } = this;
    const checkpoint = core.checkpoints.get(id);
    if (checkpoint?.state !== 'open') return;
    const from = performance.now();
    const { tracee } = checkpoint;
    if (tracee.checkpoints[0] !== checkpoint) throw new Error(`checkpoint ${id} is not the oldest of ${tracee.pid}`);
    checkpoint.state = 'committed';
    tracee.checkpoints.shift();
    core.checkpoints.delete(id);
    core.output.committed(checkpoint);
    core.journal.committed(checkpoint);
    for (const { causes } of core.checkpoints.values()) causes.delete(checkpoint);
    for (const [name, since] of core.pipes) if (since.delete(checkpoint) && since.size === 0) core.pipes.delete(name);
    if (core.output.flush()) core.later();
    core.killCopy(checkpoint);
    if (tracee.checkpoints.length === 0) tracee.dead.settle();
    core.counts.commits++;
    this.#emit({ type: 'committed', checkpoint: id });
    for (const other of core.tracees.values()) {
      const concerned = other.born.delete(checkpoint) || other === tracee;
      if (concerned && !isSpeculative(other)) this.#emit({ type: 'released', pid: other.pid });
      if (concerned || other.hold === Hold.LOCAL) this.#guard(() => reconsider(core, other));
    }
    core.counts.commitUs += (performance.now() - from) * 1000;
  }

  rollback(ids: readonly CheckpointId[]): void {
    if (this.#undo) {
      this.#undos.push(ids);
      return;
    }
    this.#undo = new Undo(this.core, ids);
    this.#guard(() => {
      if (this.#undo?.begin()) this.#undoDone();
    });
  }

  #undoDone(): void {
    this.#undo = undefined;
    for (const tracee of [...this.core.tracees.values()]) reconsider(this.core, tracee);
    const next = this.#undos.shift();
    if (next) this.rollback(next);
  }

  pass(pid: Pid): void {
    const tracee = this.core.tracees.get(pid);
    if (tracee?.hold !== Hold.ASKED) return;
    tracee.hold = Hold.NONE;
    this.#guard(() => this.core.again(tracee));
  }

  signal(signal: number): void {
    if (this.#root !== 0 && this.core.tracees.has(this.#root)) sendSignal(this.#root, signal);
  }
}
