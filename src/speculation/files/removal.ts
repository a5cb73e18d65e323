/**
 * Removes directories ahead of the server. The kernel would mark one as dead for good, and who has it open could not use it
 * after a rollback: so the kernel hears that the call was interrupted, and its process, which is detained, that it succeeded.
 * It reaches the process through the backend, and the kernel through the function it is given.
 */
import type { RequestOrigin, Verdict } from '../../remote/fuse/admission.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Remove } from '../../remote/view/operations/moving.ts';
import type { SpeculativeObject } from '../engine/interval.ts';
import type { AssumedChanges } from './changes.ts';
import type { Member } from './group.ts';
import type { Pauses } from './pauses.ts';
import type { Rules } from './rules.ts';
import type { Surroundings } from './surroundings.ts';
import type { TouchedNodes } from './touched.ts';

export interface RemovalParts {
  readonly pauses: Pauses;
  readonly rules: Rules;
  readonly nodes: TouchedNodes;
  readonly changes: AssumedChanges;
  /** The kernel may still hold attributes of it that are not so any more. */
  readonly invalidate: ((directory: ViewNode) => Promise<void>) | undefined;
}

export class DirectoryRemoval {
  readonly #around: Surroundings;
  readonly #parts: RemovalParts;

  constructor(around: Surroundings, parts: RemovalParts) {
    this.#around = around;
    this.#parts = parts;
  }

  /** Detains the process. @param wait the verdict where that cannot be, and why */
  begin(
    origin: RequestOrigin,
    operation: Remove,
    member: Member,
    wait: (why: string) => Verdict | Promise<Verdict>,
  ): Verdict | Promise<Verdict> {
    const { pauses, changes } = this.#parts;
    if (!pauses.mayBounce(origin, member)) return wait('no checkpoint');
    return pauses.detain(origin, member).then((answer) => {
      if (answer === 'refused' && !member.doomed) return wait('refused');
      if (answer !== 'detained') return 'bounce';
      if (!member.doomed && this.#isStillGood(member, operation)) {
        changes.expect(operation);
        return 'emulate';
      }
      this.#around.backend!.resume(member.pid, null);
      return 'bounce';
    });
  }

  /** It is assumed. The kernel has dropped the name, but not the attributes of where it was; then the process goes on. */
  async end(member: Member, { directory }: Remove): Promise<void> {
    const { era } = member;
    await this.#parts.invalidate?.(directory).catch(() => {});
    if (member.era === era) this.#around.backend?.resume(member.pid, 0);
  }

  /** Others have gone on while the process was stopped. */
  #isStillGood(member: Member, operation: Remove): boolean {
    const { rules, nodes } = this.#parts;
    const { engine } = this.#around;
    if (rules.unusable(member, operation, operation.predict(), false) !== null) return false;
    if (!rules.joins(member, operation)) return false;
    for (const node of nodes.shows(operation)) {
      const object = node.speculation as SpeculativeObject | null;
      if (object === null || object.log.length === 0) continue;
      if (engine.needsCheckpoint(member.object, object)) return false;
      engine.absorb(member.object, object);
    }
    return true;
  }
}
