/**
 * Carries the engine's rollbacks to the processes, and those that the tracer has decided to the engine.
 * It reaches the processes only through the backend.
 */
import type { Rollback } from '../engine/interval.ts';
import type { CheckpointId } from '../process/backend.ts';
import { checkpointOf, type Group, type Member } from './group.ts';
import type { Surroundings } from './surroundings.ts';
import type { TouchedNodes } from './touched.ts';

export class Rollbacks {
  readonly #around: Surroundings;
  readonly #group: Group;
  readonly #nodes: TouchedNodes;
  /** Whom the rollbacks concern that the tracer has not carried out. */
  readonly #undoing: Member[][] = [];

  constructor(around: Surroundings, group: Group, nodes: TouchedNodes) {
    this.#around = around;
    this.#group = group;
    this.#nodes = nodes;
  }

  /** The engine has undone it; its processes are doomed until the tracer has. */
  begin({ because, restorations }: Rollback): void {
    const { statistics, trace } = this.#around;
    const checkpoints: CheckpointId[] = [];
    const members: Member[] = [];
    statistics.rollbacks++;
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
      if (checkpoint === null) statistics.killed++;
      else statistics.restored++;
    }
    trace?.instant('rollback', 'process', Number(because?.interval.object.label ?? 0), {
      because: because?.label,
      checkpoints,
    });
    this.#undoing.push(members);
    // In this order also among rollbacks.
    void this.#nodes.forgotten().then(() => this.#around.backend?.rollback(checkpoints));
  }

  /** The tracer has carried out the oldest one, back to these checkpoints. */
  done(checkpoints: readonly CheckpointId[]): void {
    this.#alsoUndone(checkpoints);
    // There is one such event for each command, in order. Another one may still be on its way for some of them.
    for (const member of this.#undoing.shift() ?? []) member.doomed--;
  }

  /** The tracer undoes parents that were told of an exit which is undone; here that is known before, or it is made up for. */
  #alsoUndone(checkpoints: readonly CheckpointId[]): void {
    const { engine, statistics } = this.#around;
    const undone = new Set(checkpoints);
    for (const interval of [...engine.intervals]) {
      const checkpoint = checkpointOf(interval.checkpoint);
      if (checkpoint === null || !undone.has(checkpoint) || interval.state !== 'open') continue;
      statistics.unexpected++;
      engine.abandon(interval);
    }
  }
}
