/**
 * Rolling back: ends the processes that never were, waits until those to be restored have stopped, then restores all in
 * one step. It is told of stops and ends by the tracer and never blocks on a process that may be waiting for a request.
 */
import { interrupt, sendSignal, sendThreadSignal, TraceEvent, waited } from '../../linux/ptrace.ts';
import type { CheckpointId, Pid } from './backend.ts';
import { sendChildSignal } from './children.ts';
import type { TracerCore } from './core.ts';
import { restoreInPlace, setRegisters } from './restore.ts';
import { type Checkpoint, dependencies, Stop, type Tracee } from './tracee.ts';

const SIGKILL = 9;

export class Undo {
  readonly #core: TracerCore;
  readonly #restore = new Map<Tracee, Checkpoint>();
  /** Everything that is undone: the checkpoints asked for and all that came after them. */
  readonly #undone = new Set<Checkpoint>();
  readonly #doomed = new Set<Tracee>();
  readonly #killed: Pid[] = [];
  readonly #restored: Pid[] = [];
  readonly #started = performance.now();

  constructor(core: TracerCore, ids: readonly CheckpointId[]) {
    this.#core = core;
    for (const id of ids) {
      const checkpoint = core.checkpoints.get(id);
      if (checkpoint?.state !== 'open') continue;
      const { tracee } = checkpoint;
      const before = this.#restore.get(tracee);
      if (!before || before.id > id) this.#restore.set(tracee, checkpoint);
    }
    for (const [tracee, checkpoint] of this.#restore) this.#undoAfter(tracee, checkpoint);
    let more = true;
    while (more) {
      more = false;
      for (const tracee of core.tracees.values()) {
        if (this.#doomed.has(tracee)) continue;
        // The parent that has been told of an exit which is now undone goes with it, in whatever order it was asked for.
        const { toldAfter, parent } = tracee;
        if (toldAfter?.state === 'open' && parent && !this.#undone.has(toldAfter) && this.#restore.has(tracee)) {
          this.#restore.set(parent, toldAfter);
          this.#undoAfter(parent, toldAfter);
          more = true;
        }
        if (!dependencies(tracee).some((checkpoint) => this.#undone.has(checkpoint) && checkpoint.tracee !== tracee))
          continue;
        this.#doomed.add(tracee);
        this.#restore.delete(tracee);
        this.#undoAfter(tracee, undefined);
        more = true;
      }
    }
  }

  /** Begins. True when it is complete already. */
  begin(): boolean {
    const { output, counts } = this.#core;
    output.undone(this.#undone);
    for (const tracee of this.#doomed) this.doom(tracee);
    for (const [tracee, checkpoint] of this.#restore) {
      if (tracee.ended) continue;
      tracee.undo = checkpoint;
      if (tracee.stop === Stop.GROUP) tracee.stop = Stop.NONE; // it listens for its end; it can stop again
      if (tracee.stop === Stop.NONE) interrupt(tracee.pid);
    }
    counts.killed += this.#doomed.size;
    return this.#complete();
  }

  /** A process that never was: also one that a restored process has only now created. */
  doom(tracee: Tracee): void {
    tracee.doomed = true;
    this.#doomed.add(tracee);
    this.#killed.push(tracee.pid);
    sendSignal(tracee.pid, SIGKILL);
  }

  /** Whether a new child of this process must be doomed. */
  concerns(tracee: Tracee): boolean {
    return this.#doomed.has(tracee) || this.#restore.has(tracee);
  }

  ended(tracee: Tracee): boolean {
    this.#doomed.delete(tracee);
    return this.#complete();
  }

  /** A process to be restored has stopped. */
  stopped(): boolean {
    return this.#complete();
  }

  #undoAfter(tracee: Tracee, from: Checkpoint | undefined): void {
    for (const checkpoint of tracee.checkpoints) {
      if (!from || checkpoint.id >= from.id) this.#undone.add(checkpoint);
    }
  }

  #complete(): boolean {
    if (this.#doomed.size > 0) return false;
    const core = this.#core;
    for (const tracee of this.#restore.keys()) if (tracee.stop === Stop.NONE && !tracee.ended) return false;
    core.journal.undone(this.#undone);
    // The oldest last: where they share an open file, its position is the one that counts.
    for (const [tracee, checkpoint] of [...this.#restore].sort(([, a], [, b]) => b.id - a.id)) {
      if (checkpoint.state !== 'open') continue; // restored before another one was found to have been killed
      if (tracee.ended) {
        core.dropCheckpoints(tracee, tracee.checkpoints.indexOf(checkpoint));
        continue;
      }
      this.#put(tracee, checkpoint);
      this.#restored.push(tracee.pid);
    }
    const { counts, emit } = core;
    counts.rollbacks++;
    counts.rollbackUs += (performance.now() - this.#started) * 1000;
    const checkpoints = [...this.#undone].map((checkpoint) => checkpoint.id);
    emit({ type: 'rolledBack', checkpoints, restored: this.#restored, killed: this.#killed });
    for (const [tracee, checkpoint] of this.#restore) {
      if (tracee.ended) continue;
      core.go(tracee);
      for (const signal of checkpoint.signals) sendSignal(tracee.pid, signal);
      for (const signal of checkpoint.raised) {
        sendThreadSignal(core.injector.numbers.tgkill!, tracee.pid, signal);
      }
      const child = tracee.dead.any(checkpoint.childSignals);
      if (child) sendChildSignal(core, tracee, child.pid, child.status);
    }
    return true;
  }

  #put(tracee: Tracee, checkpoint: Checkpoint): void {
    const core = this.#core;
    const { injector } = core;
    this.#makeNeutral(tracee);
    if (tracee.instruction === 0) tracee.instruction = injector.findInstruction(tracee.pid);
    const wish = tracee.wish;
    if (wish) {
      tracee.wish = undefined;
      core.emit({ type: 'refused', pid: tracee.pid, token: wish.token, reason: 'busy', replied: wish.replied });
    }
    core.parkCopy(checkpoint.copy);
    for (const pid of tracee.dead.goBack(checkpoint.id)) {
      tracee.toReap.add(pid);
      tracee.reapable.add(pid);
      tracee.swallow.add(pid);
    }
    core.reap(tracee);
    restoreInPlace(injector, tracee, checkpoint, core.options.mounts ?? []);
    setRegisters(injector, tracee.pid, checkpoint);
    core.dropCheckpoints(tracee, tracee.checkpoints.indexOf(checkpoint));
    for (const child of tracee.children) {
      if (child.toldAfter && this.#undone.has(child.toldAfter)) {
        child.toldAfter = undefined;
        tracee.toReap.delete(child.pid);
        tracee.swallow.delete(child.pid);
        tracee.watched = true;
      }
    }
    tracee.undo = undefined;
    tracee.exitStatus = undefined;
    tracee.fakeChild = undefined;
    tracee.makingPipe = 0;
    tracee.changing = undefined;
    tracee.truthNext = false;
    tracee.waiting = false;
    tracee.repeating = checkpoint.repeat;
    tracee.final = false;
    tracee.asked.clear();
    tracee.parent?.asked.delete(tracee.pid);
    core.log(() => `restored ${tracee.pid} to ${checkpoint.id}`);
  }

  /** From any stop to one between user code and kernel. */
  #makeNeutral(tracee: Tracee): void {
    const { pid } = tracee;
    const { injector } = this.#core;
    if (tracee.stop === Stop.ENTRY) injector.cancel(pid);
    else if (tracee.stop === Stop.INSIDE) injector.finishCall(pid);
    else if (tracee.stop === Stop.SIGNAL) {
      // The signal is dropped; those from outside are sent again. Before user code runs the interrupt stops it.
      interrupt(pid);
      do injector.step(pid);
      while (waited.event !== TraceEvent.STOP);
    }
    tracee.stop = Stop.NEUTRAL;
  }
}
