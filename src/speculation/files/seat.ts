/**
 * The seat of speculation in a mount: decides which requests of the group are answered ahead, and gives its parts to hear what
 * the mount and the processes tell.
 * It reaches the world only through the mount's view and server, and the process backend.
 */
import type { Admission, RequestOrigin, Verdict } from '../../remote/fuse/admission.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation, Outcome, Prediction, ViewOperation } from '../../remote/view/operation.ts';
import { Remove } from '../../remote/view/operations/moving.ts';
import type { UndoLog } from '../../remote/view/undo.ts';
import type { View } from '../../remote/view/view.ts';
import { SpeculationEngine } from '../engine/engine.ts';
import type { Interval, SpeculativeObject } from '../engine/interval.ts';
import { Judgement } from '../engine/judgement.ts';
import type { SpeculationLimits } from '../engine/limits.ts';
import type { Pid, ProcessBackend, ProcessEvent } from '../process/backend.ts';
import { LookAhead } from './ahead.ts';
import { AssumedChanges } from './changes.ts';
import { Doubts } from './doubts.ts';
import { checkpointOf, Group, type Member } from './group.ts';
import { Holds } from './holds.ts';
import { Pauses } from './pauses.ts';
import { PredictedReads } from './reads.ts';
import { DirectoryRemoval } from './removal.ts';
import { Rollbacks } from './rollbacks.ts';
import { Rules } from './rules.ts';
import { newStatistics, type SpeculationStatistics } from './statistics.ts';
import type { Surroundings } from './surroundings.ts';
import { isAssumed, TouchedNodes } from './touched.ts';
import type { SpeculationTrace } from './trace.ts';

export interface SeatOptions {
  readonly view: View;
  /** The descriptor of /dev/fuse: the tracer answers EINTR through it. */
  readonly fuseDescriptor: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly limits: SpeculationLimits;
  readonly judgement?: Judgement;
  /** For tests: an answer that was right is taken for a wrong one. */
  readonly distrust?: () => boolean;
  readonly trace?: SpeculationTrace | null;
  /** The kernel may still hold data of a file, or attributes, that are not so any more. */
  readonly invalidate?: (node: ViewNode) => Promise<void>;
  /** The kernel may still take a name for what it was assumed to be. */
  readonly forget?: (directory: ViewNode, name: string) => Promise<void>;
}

export class SpeculationSeat implements Admission {
  readonly engine: SpeculationEngine;
  readonly judgement: Judgement;
  readonly statistics: SpeculationStatistics = newStatistics();
  readonly #view: View;
  readonly #around: Surroundings & { backend: ProcessBackend | null };
  readonly #group: Group;
  readonly #nodes: TouchedNodes;
  readonly #doubts = new Doubts();
  readonly #reads: PredictedReads;
  readonly #changes: AssumedChanges;
  readonly #rules: Rules;
  readonly #pauses: Pauses;
  readonly #removal: DirectoryRemoval;
  readonly #rollbacks: Rollbacks;
  readonly #holds: Holds;
  readonly #lookAhead: LookAhead;
  #closed = false;

  constructor(options: SeatOptions) {
    const { view, now, trace = null, invalidate, forget, distrust } = options;
    this.#view = view;
    this.judgement = options.judgement ?? new Judgement();
    this.engine = new SpeculationEngine(
      { committed: (interval) => this.#committed(interval), rolledBack: (rollback) => this.#rollbacks.begin(rollback) },
      options.limits,
    );
    const { engine, judgement, statistics } = this;
    this.#around = { engine, judgement, statistics, trace, now, backend: null };
    this.#group = new Group(engine);
    this.#nodes = new TouchedNodes(view, engine, { drop: invalidate, forget });
    this.#reads = new PredictedReads(this.#around, this.#nodes, this.#doubts, {
      distrust,
      resolved: () => this.#changes.pump(),
    });
    this.#changes = new AssumedChanges(this.#around, view, this.#nodes, this.#doubts, this.#reads);
    this.#rules = new Rules(engine, this.#group, this.#nodes, this.#changes);
    this.#pauses = new Pauses(this.#around, options.fuseDescriptor);
    this.#removal = new DirectoryRemoval(this.#around, {
      pauses: this.#pauses,
      rules: this.#rules,
      nodes: this.#nodes,
      changes: this.#changes,
      invalidate,
    });
    this.#rollbacks = new Rollbacks(this.#around, this.#group, this.#nodes);
    this.#holds = new Holds(statistics.holds, now);
    this.#lookAhead = new LookAhead(view);
  }

  /** Gives the seat the processes it speculates with. Until then every request waits for the truth. */
  attach(backend: ProcessBackend): void {
    this.#view.held = (_node, name) => this.#group.mayHoldOpen(name);
    this.#around.backend = backend;
  }

  /** Nothing is speculated from now on. */
  close(): void {
    this.#closed = true;
    this.#view.held = null;
    this.#lookAhead.close();
  }

  /** Resolves when no mutation is waiting or on its way, or the seat is closed. */
  async drained(): Promise<void> {
    while (!this.#changes.idle && !this.#closed) {
      this.#changes.pump();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** The numbers of the whole run. */
  finish(): SpeculationStatistics {
    const { peak } = this.engine.counters;
    this.statistics.peakSpeculations = peak.speculations;
    this.statistics.roundTripUs = this.judgement.roundTripUs;
    this.statistics.checkpointUs = this.judgement.checkpointUs;
    return this.statistics;
  }

  // ---- the mount asks

  enter(origin: RequestOrigin, operation: ViewOperation): Promise<void> | null {
    if (this.#closed || this.#pauses.isAnswered(origin)) return null;
    this.#around.backend?.poll();
    const member = this.#group.get(origin.pid);
    if (member === undefined && operation.kind === 'open') this.#group.strangers = true;
    if (member !== undefined) this.#changes.seen(operation);
    if (member?.created && operation.kind !== 'getattr') member.created = false;
    if (this.engine.use.intervals === 0 || member?.doomed) return null;
    for (const node of this.#nodes.shows(operation)) {
      const object = node.speculation as SpeculativeObject | null;
      if (object === null || object.log.length === 0) continue;
      if (member === undefined || member.threads) {
        // The kernel's own requests hold locks that others need; what they read is thrown away on a rollback.
        if (origin.pid === 0) continue;
        return this.#settled(object);
      }
      if (!this.engine.needsCheckpoint(member.object, object)) {
        this.engine.absorb(member.object, object);
        continue;
      }
      if (!this.#pauses.mayBounce(origin, member)) return this.#settled(object);
      return this.#pauses
        .pause(origin, member)
        .then((paused) => (paused ? this.#pauses.answered(origin) : this.#settled(object)));
    }
    return null;
  }

  decide(
    origin: RequestOrigin,
    operation: ViewOperation,
    prediction: Prediction<unknown> | null,
  ): Verdict | Promise<Verdict> {
    if (this.#pauses.takeAnswered(origin)) return 'bounce';
    const member = this.#group.get(origin.pid);
    if (member === undefined || this.#closed) return 'wait';
    // Its own requests do not matter any more; those that restore it (its working directory) only read.
    if (member.doomed) return operation.changes ? 'bounce' : prediction === null ? 'wait' : 'predict';
    // The kernel still knows what was undone: told that it is gone, it asks for the name again.
    if (operation.touches.some(({ handle, stale }) => handle === null && stale)) return 'wait';
    // Written data goes into the buffer, and nobody waits for anything: what matters is only that it can be undone.
    if (operation.kind === 'write') return this.#write(member, operation, prediction);
    if (operation.touches.some(({ removed }) => removed)) return this.#wait(member, operation, 'removed directory');
    const truthNext = member.truthNext || this.#doubts.take(operation);
    member.truthNext = false;
    // What the group has assumed itself, and the asker depends on already (`enter`): the server does not know it yet, so that
    // asking it would compare two different moments. The truth of the change is the truth of this answer, and of what the
    // change was made on there is a hypothesis of its own (`PredictedReads.verify`).
    if (!operation.changes && prediction !== null && this.#nodes.shows(operation).some(isAssumed)) return 'predict';
    const why = this.#rules.unusable(member, operation, prediction, truthNext);
    if (why !== null) return this.#wait(member, operation, why);
    const joins = this.#rules.joins(member, operation);
    if (!this.judgement.pays(operation.kind, !joins)) return this.#wait(member, operation, 'does not pay');
    if (joins) {
      if (operation instanceof Remove && operation.kind === 'rmdir') {
        return this.#removal.begin(origin, operation, member, (reason) => this.#wait(member, operation, reason));
      }
      if (operation.kind === 'create') member.created = true;
      if (operation.changes) this.#changes.expect(operation);
      else this.#reads.predict(origin, operation, member);
      return 'predict';
    }
    if (!this.#pauses.mayBounce(origin, member)) return this.#wait(member, operation, 'no checkpoint');
    return this.#pauses.pause(origin, member).then((done) => {
      if (done || member.doomed) return 'bounce';
      return this.#wait(member, operation, 'refused');
    });
  }

  truth(origin: RequestOrigin, operation: ViewOperation, agrees: boolean, truth: Outcome<unknown>): void {
    this.#reads.truth(origin, operation, agrees, truth);
  }

  assumed(origin: RequestOrigin, mutation: Mutation, predicted: Outcome<unknown>, undo: UndoLog): void {
    const member = this.#group.get(origin.pid)!;
    this.#changes.assumed(member, mutation, predicted, undo);
    if (mutation instanceof Remove && mutation.kind === 'rmdir') void this.#removal.end(member, mutation);
  }

  era(pid: Pid): number {
    return this.#group.get(pid)?.era ?? 0;
  }

  // ---- the processes tell

  /** The listener to give to the backend. */
  readonly event = (event: ProcessEvent): void => {
    switch (event.type) {
      case 'started':
        this.#group.add(event.pid);
        this.#around.trace?.process(event.pid, `program ${event.pid}`);
        return;
      case 'forked':
        this.#group.forked(event.parent, event.child, event.thread);
        this.#around.trace?.instant('fork', 'process', event.parent, { child: event.child });
        return;
      case 'checkpointed': {
        const member = this.#group.get(event.pid);
        if (event.token !== 0) this.#pauses.checkpointed(event.token, event.checkpoint);
        else if (member !== undefined) this.#pauses.begin(member, event.checkpoint);
        return;
      }
      case 'detained':
        this.#pauses.detained(event.token);
        return;
      case 'refused':
        this.#pauses.refused(event.token, event.reason, event.replied);
        return;
      case 'needs': {
        const member = this.#group.get(event.pid);
        const child = this.#group.get(event.child);
        if (member !== undefined && child !== undefined) this.#pauses.needs(member, child);
        return;
      }
      case 'withheld':
        this.statistics.peakOutputBytes = Math.max(this.statistics.peakOutputBytes, event.total);
        return;
      case 'held':
        this.#held(event.pid, event.call, event.why);
        return;
      case 'exitHeld': {
        const member = this.#group.get(event.pid);
        if (member !== undefined && !member.doomed) {
          member.exited = true;
          this.engine.settle(member.object);
        }
        return;
      }
      case 'released':
        this.#holds.end(event.pid);
        return;
      case 'rolledBack':
        for (const pid of event.restored) this.#holds.end(pid);
        this.#rollbacks.done(event.checkpoints);
        for (const pid of event.killed) this.#group.remove(pid);
        return;
      case 'exited':
        this.#holds.end(event.pid);
        this.#group.remove(event.pid);
        return;
      default:
        return;
    }
  };

  /** The buffer takes it if the writer is definite (`wait` does that), or if it can be taken out again. */
  #write(member: Member, operation: ViewOperation, prediction: Prediction<unknown> | null): Verdict | Promise<Verdict> {
    if (member.object.log.length === 0) return 'wait';
    if (this.#rules.mayBuffer(member, operation, prediction)) {
      this.#changes.expect(operation);
      return 'predict';
    }
    return this.#settled(member.object).then(() => (member.doomed ? 'bounce' : 'wait'));
  }

  /** The truth it is. A change must not leave before what it rests on is known. */
  #wait(member: Member, operation: ViewOperation, why: string): Verdict | Promise<Verdict> {
    if (operation.kind === 'create') member.created = true;
    const reason = `${operation.kind} (${why})`;
    this.statistics.waited++;
    this.statistics.waits[reason] = (this.statistics.waits[reason] ?? 0) + 1;
    this.#around.trace?.instant(`wait: ${operation.kind}`, 'wait', member.pid, { why });
    const wait = (): Verdict => {
      if (why === 'unknown') this.#lookAround(operation);
      return 'wait';
    };
    if (member.object.log.length === 0) return wait();
    // Asking about what is assumed would send what is written there.
    if (!operation.changes && !this.#nodes.shows(operation).some(isAssumed)) return wait();
    return this.#settled(member.object).then(() => (member.doomed ? 'bounce' : wait()));
  }

  /** What will probably be asked next is asked beside it, while the program changes nothing. */
  #lookAround({ kind, touches, credential }: ViewOperation): void {
    for (const node of touches) this.#lookAhead.directory(node);
    if (kind === 'read') this.#lookAhead.data(touches[0]!, credential);
  }

  #held(pid: Pid, call: string, why: string): void {
    const member = this.#group.get(pid);
    if (member === undefined) return;
    this.#around.trace?.instant(`held: ${call}`, 'process', pid, { why });
    this.#holds.begin(pid, `${call} (${why})`);
    // A checkpoint that was taken for this very call was of no use: the call comes again natively, and then waits.
    if (this.engine.present(member.object)?.speculations.size === 0) member.truthNext = true;
    this.engine.settle(member.object);
  }

  #committed(interval: Interval): void {
    const checkpoint = checkpointOf(interval.checkpoint);
    if (checkpoint !== null) this.#around.backend?.commit(checkpoint);
  }

  #settled(object: SpeculativeObject): Promise<void> {
    return new Promise((resolve) => this.engine.whenSettled(object, () => resolve()));
  }
}
