/**
 * Hypotheses about what is at the server: answers given ahead of it, and what changes are made on. The truth confirms or
 * refutes them; it comes from the mount, or is asked through the nodes.
 */
import type { RequestOrigin } from '../../remote/fuse/admission.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Outcome, ViewOperation } from '../../remote/view/operation.ts';
import type { Speculation } from '../engine/interval.ts';
import type { Pid } from '../process/backend.ts';
import type { Doubts } from './doubts.ts';
import type { Member } from './group.ts';
import type { Surroundings } from './surroundings.ts';
import type { TouchedNodes } from './touched.ts';

export interface ReadHooks {
  /** For tests: an answer that was right is taken for a wrong one. */
  readonly distrust: (() => boolean) | undefined;
  /** A truth has come: what waited for it may go on. */
  readonly resolved: () => void;
}

/** A hypothesis that has been answered ahead and whose truth is under way. */
interface Ahead {
  readonly speculation: Speculation;
  readonly pid: Pid;
  readonly sinceMs: number;
  /** The server was not asked before, as it is where a call is bounced for its checkpoint. */
  readonly askedNow: boolean;
}

export class PredictedReads {
  readonly #around: Surroundings;
  readonly #nodes: TouchedNodes;
  readonly #doubts: Doubts;
  readonly #hooks: ReadHooks;
  readonly #ahead = new Map<number, Ahead>();

  constructor(around: Surroundings, nodes: TouchedNodes, doubts: Doubts, hooks: ReadHooks) {
    this.#around = around;
    this.#nodes = nodes;
    this.#doubts = doubts;
    this.#hooks = hooks;
  }

  /** The request is answered ahead; `truth` is told what the server says. */
  predict({ unique }: RequestOrigin, { kind }: ViewOperation, { object, pid }: Member): void {
    const { engine, judgement, statistics, trace, now } = this.#around;
    const askedNow = (engine.present(object)?.speculations.size ?? 0) > 0;
    const speculation = engine.speculate(object, 'read', kind);
    this.#ahead.set(unique, { speculation, pid, sinceMs: now(), askedNow });
    statistics.predictedReads++;
    judgement.predicted();
    trace?.begin(kind, 'read', pid, speculation.id);
  }

  truth({ unique }: RequestOrigin, operation: ViewOperation, agrees: boolean, { errno }: Outcome<unknown>): void {
    const ahead = this.#ahead.get(unique);
    if (ahead === undefined) return;
    this.#ahead.delete(unique);
    const right = agrees && this.#hooks.distrust?.() !== true;
    const { judgement, statistics, trace, now } = this.#around;
    const { speculation, pid, sinceMs, askedNow } = ahead;
    const took = now() - sinceMs;
    if (askedNow) judgement.roundTrip(took * 1000);
    trace?.end(operation.kind, 'read', pid, speculation.id, { right, errno });
    if (speculation.state === 'pending') {
      judgement.outcome(operation.kind, right);
      if (right) statistics.savedMs += took;
      else this.#doubts.add(operation);
    }
    this.#resolve(speculation, right);
  }

  /** What a change is made on is shown from the cache until the change is done: it must be what is at the server. */
  verify({ object }: Member, node: ViewNode): void {
    const speculation = this.#around.engine.speculate(object, 'read', 'base');
    this.#around.statistics.predictedReads++;
    void this.#nodes.isUnchanged(node).then((unchanged) => this.#resolve(speculation, unchanged));
  }

  #resolve(speculation: Speculation, right: boolean): void {
    const { engine, statistics } = this.#around;
    if (speculation.state !== 'pending') statistics.dropped++;
    else if (right) {
      statistics.confirmed++;
      engine.confirm(speculation);
    } else {
      statistics.refuted++;
      engine.refute(speculation);
    }
    this.#hooks.resolved();
  }
}
