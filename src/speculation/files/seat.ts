/**
 * The seat of speculation in a mount: decides which requests of the group are answered ahead, joins what the mount assumes
 * with what the processes did since, and carries commits and rollbacks to both.
 * It reaches the world only through the mount's view and server, and the process backend.
 */
import type { Admission, RequestOrigin, Verdict } from '../../remote/fuse/admission.ts';
import { FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation, Outcome, Prediction, ViewOperation } from '../../remote/view/operation.ts';
import { Remove } from '../../remote/view/operations/moving.ts';
import { Getattr } from '../../remote/view/operations/reading.ts';
import type { UndoLog } from '../../remote/view/undo.ts';
import type { View } from '../../remote/view/view.ts';
import { SpeculationEngine } from '../engine/engine.ts';
import type { Interval, Rollback, Speculation, SpeculativeObject } from '../engine/interval.ts';
import { Judgement } from '../engine/judgement.ts';
import type { SpeculationLimits } from '../engine/limits.ts';
import type { CheckpointId, Pid, ProcessBackend, ProcessEvent } from '../process/backend.ts';
import { LookAhead } from './ahead.ts';
import { checkpointOf, Group, type Member } from './group.ts';
import { Pauses } from './pauses.ts';
import { type AssumedMutation, isRepairable, MutationSender } from './sender.ts';
import { newStatistics, type SpeculationStatistics } from './statistics.ts';
import { AssumedTimes } from './times.ts';
import { isAssumed, isDirectory, TouchedNodes } from './touched.ts';
import type { SpeculationTrace } from './trace.ts';

export interface SeatOptions {
  readonly view: View;
  /** The descriptor of /dev/fuse: the tracer answers EINTR through it. */
  readonly fuseDescriptor: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly limits: SpeculationLimits;
  readonly judgement?: Judgement;
  readonly distrust?: () => boolean;
  readonly trace?: SpeculationTrace | null;
  /** The kernel may still hold data of a file, or attributes, that are not so any more. */
  readonly invalidate?: (node: ViewNode) => Promise<void>;
  /** The kernel may still take a name for what it was assumed to be. */
  readonly forget?: (directory: ViewNode, name: string) => Promise<void>;
}

/** A hypothesis that has been answered ahead and whose truth is under way. */
interface Ahead {
  readonly speculation: Speculation;
  readonly pid: Pid;
  readonly sinceMs: number;
  /** The server was not asked before, as it is where a call is bounced for its checkpoint. */
  readonly askedNow: boolean;
}

interface Before {
  /** The first touched node's modification time. */
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  /** Nodes of which what is known is too old to be relied on. */
  readonly unverified: readonly ViewNode[];
}

/** Operations remembered as predicted wrongly. */
const DOUBTED_MAX = 4096;
/** Room that one write may take in the undo log. */
const WRITE_UNDO_BYTES = 1 << 20;

export class SpeculationSeat implements Admission {
  readonly engine: SpeculationEngine;
  readonly judgement: Judgement;
  readonly statistics: SpeculationStatistics = newStatistics();
  readonly #view: View;
  readonly #options: SeatOptions;
  readonly #trace: SpeculationTrace | null;
  readonly #group: Group;
  readonly #sender: MutationSender;
  readonly #ahead = new Map<number, Ahead>();
  readonly #pauses: Pauses;
  /** Intervals that hold a mutation which allows no other after it. */
  readonly #final = new WeakSet<Interval>();
  /** Operations that were predicted wrongly and not asked since. */
  readonly #doubted = new Set<string>();
  readonly #lookAhead: LookAhead;
  readonly #times: AssumedTimes;
  /** What was so before a change was assumed. */
  readonly #before = new WeakMap<ViewOperation, Before>();
  #backend: ProcessBackend | null = null;
  #closed = false;
  readonly #nodes: TouchedNodes;
  /** Whom the rollbacks concern that the tracer has not carried out. */
  readonly #undoing: Member[][] = [];
  /** Processes that stand before a call which waits for the truth, and since when. */
  readonly #holds = new Map<Pid, { readonly reason: string; readonly sinceMs: number }>();
  #eager = false;
  /** Processes outside the group have opened files. */
  #strangers = false;

  constructor(options: SeatOptions) {
    this.#options = options;
    this.#view = options.view;
    this.#trace = options.trace ?? null;
    this.judgement = options.judgement ?? new Judgement();
    this.engine = new SpeculationEngine(
      { committed: (interval) => this.#committed(interval), rolledBack: (rollback) => this.#rolledBack(rollback) },
      options.limits,
    );
    this.#lookAhead = new LookAhead(this.#view);
    this.#nodes = new TouchedNodes(this.#view, this.engine, { drop: options.invalidate, forget: options.forget });
    this.#times = new AssumedTimes(() => this.#view.clock.wall());
    this.#group = new Group(this.engine);
    this.#pauses = new Pauses({
      engine: this.engine,
      judgement: this.judgement,
      statistics: this.statistics,
      trace: this.#trace,
      fuseDescriptor: options.fuseDescriptor,
      now: options.now,
    });
    this.#sender = new MutationSender(this.#view.server, this.engine, this.statistics, {
      truth: (speculation, assumed, right) => this.#mutationTruth(speculation, assumed, right),
      takenBack: (mutation) => this.#askAgain(mutation),
      roundTrip: (ms) => this.judgement.roundTrip(ms * 1000),
      now: options.now,
    });
  }

  /** Gives the seat the processes it speculates with. Until then every request waits for the truth. */
  attach(backend: ProcessBackend): void {
    this.#view.held = (_node, name) => this.#strangers || this.#group.holdsOpen(name);
    this.#backend = backend;
    this.#pauses.attach(backend);
  }

  /** Nothing is speculated from now on. */
  close(): void {
    this.#closed = true;
    this.#view.held = null;
    this.#lookAhead.close();
  }

  /** Resolves when no mutation is waiting or on its way, or the seat is closed. */
  async drained(): Promise<void> {
    while (!this.#sender.idle && !this.#closed) {
      this.#sender.pump();
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
    this.#backend?.poll();
    const member = this.#group.get(origin.pid);
    if (member === undefined && operation.kind === 'open') this.#strangers = true;
    if (member !== undefined) for (const { said } of operation.touches) this.#times.seen(said);
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
    const truthNext = member.truthNext || this.#doubted.delete(signature(operation));
    member.truthNext = false;
    // What the group has assumed itself, and the asker depends on already (`enter`): the server does not know it yet, so that
    // asking it would compare two different moments. The truth of the change is the truth of this answer, and of what the
    // change was made on there is a hypothesis of its own (`#verify`).
    if (!operation.changes && prediction !== null && this.#nodes.shows(operation).some(isAssumed)) return 'predict';
    const why = this.#unusable(member, operation, prediction, truthNext);
    if (why !== null) return this.#wait(member, operation, why);
    const joins = this.#joins(member, operation);
    if (!this.judgement.pays(operation.kind, !joins)) return this.#wait(member, operation, 'does not pay');
    if (joins) {
      if (operation instanceof Remove && operation.kind === 'rmdir') {
        return this.#removeDirectory(origin, operation, member);
      }
      if (operation.kind === 'create') member.created = true;
      if (operation.changes) this.#beforeAssuming(operation);
      else this.#predictRead(origin, operation, member);
      return 'predict';
    }
    if (!this.#pauses.mayBounce(origin, member)) return this.#wait(member, operation, 'no checkpoint');
    return this.#pauses.pause(origin, member).then((done) => {
      if (done || member.doomed) return 'bounce';
      return this.#wait(member, operation, 'refused');
    });
  }

  truth(origin: RequestOrigin, operation: ViewOperation, right: boolean, truth: Outcome<unknown>): void {
    const ahead = this.#ahead.get(origin.unique);
    if (ahead === undefined) return;
    this.#ahead.delete(origin.unique);
    const agrees = right && this.#options.distrust?.() !== true;
    const { speculation, sinceMs, askedNow } = ahead;
    const took = this.#options.now() - sinceMs;
    if (askedNow) this.judgement.roundTrip(took * 1000);
    if (speculation.state === 'pending') this.judgement.outcome(operation.kind, agrees);
    this.#trace?.end(operation.kind, 'read', ahead.pid, speculation.id, { right: agrees, errno: truth.errno });
    if (agrees) {
      if (this.engine.confirm(speculation)) {
        this.statistics.confirmed++;
        this.statistics.savedMs += took;
      } else this.statistics.dropped++;
    } else if (speculation.state === 'pending') {
      this.statistics.refuted++;
      this.#doubt(operation);
      this.engine.refute(speculation);
    } else this.statistics.dropped++;
    this.#sender.pump();
  }

  assumed(origin: RequestOrigin, mutation: Mutation, predicted: Outcome<unknown>, undo: UndoLog): void {
    const member = this.#group.get(origin.pid)!;
    this.#record(member, mutation, undo);
    if (mutation.kind === 'write') {
      this.engine.whenSettled(member.object, (outcome) => outcome === 'committed' && undo.clear());
      return;
    }
    const speculation = this.engine.speculate(member.object, 'mutation', mutation.kind);
    if (!isRepairable(mutation)) {
      this.#final.add(speculation.interval);
      this.#beEager(this.judgement.pays(mutation.kind, true));
    }
    this.statistics.predictedMutations++;
    this.judgement.predicted();
    this.#trace?.begin(mutation.kind, 'mutation', origin.pid, speculation.id);
    this.#sender.push(speculation, { mutation, predicted, undo, sinceMs: this.#options.now() });
    this.#sender.pump();
    if (mutation instanceof Remove && mutation.kind === 'rmdir') void this.#removed(member, mutation);
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
        this.#trace?.process(event.pid, `program ${event.pid}`);
        return;
      case 'forked':
        this.#group.forked(event.parent, event.child, event.thread);
        this.#trace?.instant('fork', 'process', event.parent, { child: event.child });
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
        this.#goesOn(event.pid);
        return;
      case 'rolledBack':
        for (const pid of event.restored) this.#goesOn(pid);
        this.#alsoUndone(event.checkpoints);
        // There is one such event for each command, in order. Another one may still be on its way for some of them.
        for (const member of this.#undoing.shift() ?? []) member.doomed--;
        for (const pid of event.killed) this.#group.remove(pid);
        return;
      case 'exited':
        this.#goesOn(event.pid);
        this.#group.remove(event.pid);
        return;
      default:
        return;
    }
  };

  // ---- reads and mutations

  /** Why the truth must be awaited; null: the prediction may be used, as far as it goes. */
  #unusable(
    member: Member,
    operation: ViewOperation,
    prediction: Prediction<unknown> | null,
    truthNext: boolean,
  ): string | null {
    if (member.threads) return 'threads';
    if (prediction === null) return 'unknown';
    if (truthNext) return 'after rollback';
    if (!operation.changes) {
      if (prediction.invented) return 'invented';
    } else if (prediction.outcome.errno !== 0) return 'likely to fail';
    else if (movesDirectory(operation)) return 'directory';
    else if (takesNames(operation) && this.#takesOpenFile(operation)) return 'open file';
    // A change rests on hypotheses about what it is made on, too.
    const verified = operation.changes ? this.#nodes.unverified(operation).length : 0;
    return this.engine.full({ speculations: 1 + verified, undoBytes: 1 << 16 });
  }

  /** Whether the tracer shall take checkpoints by itself where they will be needed. */
  #beEager(on: boolean): void {
    if (this.#eager === on) return;
    this.#eager = on;
    this.#backend?.eager(on);
  }

  /** It was predicted wrongly: the next time the truth is awaited. */
  #doubt(operation: ViewOperation): void {
    if (this.#doubted.size >= DOUBTED_MAX) this.#doubted.clear();
    this.#doubted.add(signature(operation));
  }

  #beforeAssuming(operation: ViewOperation): void {
    const { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = operation.touches[0]!.attributes;
    this.#before.set(operation, { mtime: { seconds, nanoseconds }, unverified: this.#nodes.unverified(operation) });
  }

  /** What a change is made on is shown from the cache until the change is done: it must be what is at the server. */
  #verify(member: Member, node: ViewNode): void {
    const speculation = this.engine.speculate(member.object, 'read', 'base');
    this.statistics.predictedReads++;
    void this.#nodes.isUnchanged(node).then((unchanged) => {
      if (speculation.state !== 'pending') this.statistics.dropped++;
      else if (unchanged) {
        this.statistics.confirmed++;
        this.engine.confirm(speculation);
      } else {
        this.statistics.refuted++;
        this.engine.refute(speculation);
      }
      this.#sender.pump();
    });
  }

  #predictRead(origin: RequestOrigin, operation: ViewOperation, member: Member): void {
    const askedNow = (this.engine.present(member.object)?.speculations.size ?? 0) > 0;
    const speculation = this.engine.speculate(member.object, 'read', operation.kind);
    this.#ahead.set(origin.unique, { speculation, pid: member.pid, sinceMs: this.#options.now(), askedNow });
    this.statistics.predictedReads++;
    this.judgement.predicted();
    this.#trace?.begin(operation.kind, 'read', member.pid, speculation.id);
  }

  /** The buffer takes it if the writer is definite (`wait` does that), or if it can be taken out again. */
  #write(member: Member, operation: ViewOperation, prediction: Prediction<unknown> | null): Verdict | Promise<Verdict> {
    if (member.object.log.length === 0) return 'wait';
    const speculations = this.#nodes.unverified(operation).length;
    const room = this.engine.full({ speculations, undoBytes: WRITE_UNDO_BYTES }) === null;
    if (prediction?.outcome.errno === 0 && room && this.#mayVerify(member, operation)) {
      this.#beforeAssuming(operation);
      return 'predict';
    }
    return this.#settled(member.object).then(() => (member.doomed ? 'bounce' : 'wait'));
  }

  #record(member: Member, mutation: Mutation, undo: UndoLog): void {
    const before = this.#before.get(mutation);
    const hide = this.#times.assumed(mutation, before?.mtime ?? null);
    for (const node of before?.unverified ?? []) this.#verify(member, node);
    this.engine.record(
      member.object,
      () => {
        hide();
        undo.run();
        this.#nodes.undone(mutation);
      },
      undo.bytes + 256,
    );
    for (const node of mutation.touches) this.#nodes.touch(node, member.object);
    if (mutation.makes !== null) this.#nodes.touch(mutation.makes.node, member.object);
  }

  /** Files removed while open keep another name until their last close, which no undo log knows. */
  #takesOpenFile(operation: ViewOperation): boolean {
    return operation.touches.some((node) => {
      if (node.opens === 0 || node.attributes.type !== FileType.regular) return false;
      return this.#strangers || node.parent === null || this.#group.holdsOpen(nameIn(node.parent, node));
    });
  }

  /**
   * The kernel would mark the directory as dead for good, and who has it open could not use it after a rollback. So the kernel
   * hears that the call was interrupted, and its process that it succeeded ({@link #removed}).
   */
  #removeDirectory(origin: RequestOrigin, operation: Remove, member: Member): Verdict | Promise<Verdict> {
    if (!this.#pauses.mayBounce(origin, member)) return this.#wait(member, operation, 'no checkpoint');
    return this.#pauses.detain(origin, member).then((answer) => {
      if (answer === 'refused' && !member.doomed) return this.#wait(member, operation, 'refused');
      if (answer !== 'detained') return 'bounce';
      if (!member.doomed && this.#stillGood(member, operation)) {
        this.#beforeAssuming(operation);
        return 'emulate';
      }
      this.#backend!.resume(member.pid, null);
      return 'bounce';
    });
  }

  /** Others have gone on while the process was stopped. */
  #stillGood(member: Member, operation: ViewOperation): boolean {
    if (this.#unusable(member, operation, operation.predict(), false) !== null || !this.#joins(member, operation))
      return false;
    for (const node of this.#nodes.shows(operation)) {
      const object = node.speculation as SpeculativeObject | null;
      if (object === null || object.log.length === 0) continue;
      if (this.engine.needsCheckpoint(member.object, object)) return false;
      this.engine.absorb(member.object, object);
    }
    return true;
  }

  /** At an interrupted removal the kernel drops the name, but not the attributes of where it was; then its process goes on. */
  async #removed(member: Member, { directory }: Remove): Promise<void> {
    const { era } = member;
    await this.#options.invalidate?.(directory).catch(() => {});
    if (member.era === era) this.#backend?.resume(member.pid, 0);
  }

  /** May the operation be part of the member's present interval? */
  #joins(member: Member, operation: ViewOperation): boolean {
    const { changes, kind } = operation;
    if (changes) return this.#mayMutate(member) && this.#mayVerify(member, operation);
    // What is opened may be written to, and its close cannot be bounced for a checkpoint of its own.
    return !this.engine.needsCheckpoint(member.object) && (kind !== 'open' || this.#mayMutate(member));
  }

  /** May the member's present interval take one more mutation? */
  #mayMutate(member: Member): boolean {
    const present = this.engine.present(member.object);
    return present !== null && !this.#final.has(present);
  }

  /** May the member's present interval take the hypotheses that a change needs? */
  #mayVerify(member: Member, operation: ViewOperation): boolean {
    return !this.engine.needsCheckpoint(member.object) || this.#nodes.unverified(operation).length === 0;
  }

  /** The truth it is. A change must not leave before what it rests on is known. */
  #wait(member: Member, operation: ViewOperation, why: string): Verdict | Promise<Verdict> {
    if (operation.kind === 'create') member.created = true;
    const reason = `${operation.kind} (${why})`;
    this.statistics.waited++;
    this.statistics.waits[reason] = (this.statistics.waits[reason] ?? 0) + 1;
    this.#trace?.instant(`wait: ${operation.kind}`, 'wait', member.pid, { why });
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

  async #askAgain({ touches }: Mutation): Promise<void> {
    const caller = { credential: null, thread: 0 };
    for (const node of touches) {
      if (node.handle === null) continue;
      this.#view.expire(node);
      await new Getattr(this.#view, caller, node, true).perform();
    }
  }

  #mutationTruth(speculation: Speculation, assumed: AssumedMutation, right: boolean): void {
    const { kind } = assumed.mutation;
    const took = this.#options.now() - assumed.sinceMs;
    this.judgement.outcome(kind, right);
    if (!right) this.#doubt(assumed.mutation);
    this.#trace?.end(kind, 'mutation', Number(speculation.interval.object.label), speculation.id, { right });
    if (right) {
      this.#times.settled(assumed.mutation);
      this.statistics.confirmed++;
      this.statistics.savedMs += Math.min(took, this.judgement.roundTripUs / 1000);
    } else this.statistics.refuted++;
  }

  #held(pid: Pid, call: string, why: string): void {
    const member = this.#group.get(pid);
    if (member === undefined) return;
    this.#trace?.instant(`held: ${call}`, 'process', pid, { why });
    this.#holds.set(pid, { reason: `${call} (${why})`, sinceMs: this.#options.now() });
    // A checkpoint that was taken for this very call was of no use: the call comes again natively, and then waits.
    if (this.engine.present(member.object)?.speculations.size === 0) member.truthNext = true;
    this.engine.settle(member.object);
  }

  /** If it was held, it is not any more. */
  #goesOn(pid: Pid): void {
    const hold = this.#holds.get(pid);
    if (hold === undefined) return;
    this.#holds.delete(pid);
    const { holds } = this.statistics;
    holds[hold.reason] ??= { count: 0, ms: 0 };
    holds[hold.reason]!.count++;
    holds[hold.reason]!.ms += this.#options.now() - hold.sinceMs;
  }

  // ---- commit and rollback

  #committed(interval: Interval): void {
    const checkpoint = checkpointOf(interval.checkpoint);
    if (checkpoint !== null) this.#backend?.commit(checkpoint);
  }

  #rolledBack({ because, restorations }: Rollback): void {
    const checkpoints: CheckpointId[] = [];
    const members: Member[] = [];
    this.statistics.rollbacks++;
    for (const { object, to } of restorations) {
      if (object.kind !== 'process') continue;
      const checkpoint = checkpointOf(to.checkpoint);
      // Also of a process that has been killed: what it did is undone.
      if (checkpoint !== null) checkpoints.push(checkpoint);
      const member = this.#group.get(Number(object.label));
      if (member === undefined || member.object !== object) continue;
      members.push(member);
      member.doomed++;
      member.era++;
      member.exited = false;
      if (checkpoint === null) this.statistics.killed++;
      else this.statistics.restored++;
    }
    this.#trace?.instant('rollback', 'process', Number(because?.interval.object.label ?? 0), {
      because: because?.label,
      checkpoints,
    });
    this.#undoing.push(members);
    // In this order also among rollbacks.
    void this.#nodes.forgotten().then(() => this.#backend?.rollback(checkpoints));
  }

  /** The tracer undoes parents that were told of an exit which is undone; here that is known before, or it is made up for. */
  #alsoUndone(checkpoints: readonly CheckpointId[]): void {
    const undone = new Set(checkpoints);
    for (const interval of [...this.engine.intervals]) {
      const checkpoint = checkpointOf(interval.checkpoint);
      if (checkpoint === null || !undone.has(checkpoint) || interval.state !== 'open') continue;
      this.statistics.unexpected++;
      this.engine.abandon(interval);
    }
  }

  // ---- requests that are held

  #settled(object: SpeculativeObject): Promise<void> {
    return new Promise((resolve) => this.engine.whenSettled(object, () => resolve()));
  }
}

/** The same for the same question. */
function signature(operation: ViewOperation): string {
  const { name } = operation as { name?: unknown };
  return `${operation.kind} ${operation.touches.map(({ id }) => id).join()} ${typeof name === 'string' ? name : ''}`;
}

function nameIn(directory: ViewNode, node: ViewNode): string {
  for (const [name, entry] of directory.names?.names ?? []) if (entry.node === node) return name;
  return '';
}

/** A directory may take an empty one's place, which is dead to the kernel for good then. */
function movesDirectory({ kind, touches }: ViewOperation): boolean {
  return kind === 'rename' && isDirectory(touches.at(-1)!);
}

function takesNames({ kind }: ViewOperation): boolean {
  return kind === 'unlink' || kind === 'rename';
}
