/**
 * The changes that are assumed: what each rests on, how it is undone, and what became of it at the server.
 * It reaches the world only through the view and its server, and the process backend.
 */
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation, Outcome, ViewOperation } from '../../remote/view/operation.ts';
import { Getattr } from '../../remote/view/operations/reading.ts';
import type { UndoLog } from '../../remote/view/undo.ts';
import type { View } from '../../remote/view/view.ts';
import type { Interval, Speculation } from '../engine/interval.ts';
import type { Doubts } from './doubts.ts';
import type { Member } from './group.ts';
import type { PredictedReads } from './reads.ts';
import { type AssumedMutation, isRepairable, MutationSender } from './sender.ts';
import type { Surroundings } from './surroundings.ts';
import { AssumedTimes } from './times.ts';
import type { TouchedNodes } from './touched.ts';

interface Before {
  /** The first touched node's modification time. */
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  /** Nodes of which what is known is too old to be relied on. */
  readonly unverified: readonly ViewNode[];
}

export class AssumedChanges {
  readonly #around: Surroundings;
  readonly #view: View;
  readonly #nodes: TouchedNodes;
  readonly #doubts: Doubts;
  readonly #reads: PredictedReads;
  readonly #sender: MutationSender;
  readonly #times: AssumedTimes;
  /** What was so before a change was assumed. */
  readonly #before = new WeakMap<ViewOperation, Before>();
  /** Intervals that hold a mutation which allows no other after it. */
  readonly #final = new WeakSet<Interval>();
  #eager = false;

  constructor(around: Surroundings, view: View, nodes: TouchedNodes, doubts: Doubts, reads: PredictedReads) {
    this.#around = around;
    this.#view = view;
    this.#nodes = nodes;
    this.#doubts = doubts;
    this.#reads = reads;
    this.#times = new AssumedTimes(() => view.clock.wall());
    this.#sender = new MutationSender(view.server, around.engine, around.statistics, {
      truth: (speculation, assumed, right) => this.#truth(speculation, assumed, right),
      takenBack: (mutation) => this.#askAgain(mutation),
      roundTrip: (ms) => around.judgement.roundTrip(ms * 1000),
      now: around.now,
    });
  }

  /** Nothing is waiting or on its way. */
  get idle(): boolean {
    return this.#sender.idle;
  }

  /** Sends what may go now. */
  pump(): void {
    this.#sender.pump();
  }

  /** What the server has said of these nodes was so before: what is assumed from now on is shown as later. */
  seen({ touches }: ViewOperation): void {
    for (const { said } of touches) this.#times.seen(said);
  }

  /** May the member's present interval take one more? */
  mayFollow({ object }: Member): boolean {
    const present = this.#around.engine.present(object);
    return present !== null && !this.#final.has(present);
  }

  /** The change is about to be assumed: keeps what was so before. */
  expect(operation: ViewOperation): void {
    const { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = operation.touches[0]!.attributes;
    this.#before.set(operation, { mtime: { seconds, nanoseconds }, unverified: this.#nodes.unverified(operation) });
  }

  /** The view shows it. */
  assumed(member: Member, mutation: Mutation, predicted: Outcome<unknown>, undo: UndoLog): void {
    const { engine, judgement, statistics, trace, now } = this.#around;
    this.#record(member, mutation, undo);
    if (mutation.kind === 'write') {
      engine.whenSettled(member.object, (outcome) => outcome === 'committed' && undo.clear());
      return;
    }
    const speculation = engine.speculate(member.object, 'mutation', mutation.kind);
    if (!isRepairable(mutation)) {
      this.#final.add(speculation.interval);
      this.#beEager(judgement.pays(mutation.kind, true));
    }
    statistics.predictedMutations++;
    judgement.predicted();
    trace?.begin(mutation.kind, 'mutation', member.pid, speculation.id);
    this.#sender.push(speculation, { mutation, predicted, undo, sinceMs: now() });
    this.#sender.pump();
  }

  #record(member: Member, mutation: Mutation, undo: UndoLog): void {
    const before = this.#before.get(mutation);
    const hide = this.#times.assumed(mutation, before?.mtime ?? null);
    for (const node of before?.unverified ?? []) this.#reads.verify(member, node);
    this.#around.engine.record(
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

  /** Whether the tracer shall take checkpoints by itself where they will be needed. */
  #beEager(on: boolean): void {
    if (this.#eager === on) return;
    this.#eager = on;
    this.#around.backend?.eager(on);
  }

  #truth(speculation: Speculation, { mutation, sinceMs }: AssumedMutation, right: boolean): void {
    const { judgement, statistics, trace, now } = this.#around;
    const { kind } = mutation;
    const took = now() - sinceMs;
    judgement.outcome(kind, right);
    trace?.end(kind, 'mutation', Number(speculation.interval.object.label), speculation.id, { right });
    if (right) {
      this.#times.settled(mutation);
      statistics.confirmed++;
      statistics.savedMs += Math.min(took, judgement.roundTripUs / 1000);
    } else {
      this.#doubts.add(mutation);
      statistics.refuted++;
    }
  }

  async #askAgain({ touches }: Mutation): Promise<void> {
    const caller = { credential: null, thread: 0 };
    for (const node of touches) {
      if (node.handle === null) continue;
      this.#view.expire(node);
      await new Getattr(this.#view, caller, node, true).perform();
    }
  }
}
