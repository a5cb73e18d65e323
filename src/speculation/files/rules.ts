/**
 * The rules by which a request may be answered ahead, whatever that is worth (`Judgement` says).
 * They change nothing; of the processes they only read which files are open.
 */
import { FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Prediction, ViewOperation } from '../../remote/view/operation.ts';
import type { SpeculationEngine } from '../engine/engine.ts';
import type { AssumedChanges } from './changes.ts';
import type { Group, Member } from './group.ts';
import { isDirectory, type TouchedNodes } from './touched.ts';

/** Room that a change may take in the undo log; a write takes more. */
const CHANGE_UNDO_BYTES = 1 << 16;
const WRITE_UNDO_BYTES = 1 << 20;

export class Rules {
  readonly #engine: SpeculationEngine;
  readonly #group: Group;
  readonly #nodes: TouchedNodes;
  readonly #changes: AssumedChanges;

  constructor(engine: SpeculationEngine, group: Group, nodes: TouchedNodes, changes: AssumedChanges) {
    this.#engine = engine;
    this.#group = group;
    this.#nodes = nodes;
    this.#changes = changes;
  }

  /** Why the truth must be awaited; null: the prediction may be used, as far as it goes. */
  unusable(
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
    return this.#engine.full({ speculations: 1 + verified, undoBytes: CHANGE_UNDO_BYTES });
  }

  /** May the operation be part of the member's present interval? */
  joins(member: Member, operation: ViewOperation): boolean {
    const { changes, kind } = operation;
    if (changes) return this.#changes.mayFollow(member) && this.#mayVerify(member, operation);
    // What is opened may be written to, and its close cannot be bounced for a checkpoint of its own.
    return !this.#engine.needsCheckpoint(member.object) && (kind !== 'open' || this.#changes.mayFollow(member));
  }

  /** May a write of a member that is not definite go into the buffer: can it be taken out again? */
  mayBuffer(member: Member, operation: ViewOperation, prediction: Prediction<unknown> | null): boolean {
    if (prediction?.outcome.errno !== 0) return false;
    const speculations = this.#nodes.unverified(operation).length;
    if (this.#engine.full({ speculations, undoBytes: WRITE_UNDO_BYTES }) !== null) return false;
    return this.#mayVerify(member, operation);
  }

  /** May the member's present interval take the hypotheses that a change needs? */
  #mayVerify(member: Member, operation: ViewOperation): boolean {
    return !this.#engine.needsCheckpoint(member.object) || this.#nodes.unverified(operation).length === 0;
  }

  /** Files removed while open keep another name until their last close, which no undo log knows. */
  #takesOpenFile(operation: ViewOperation): boolean {
    return operation.touches.some((node) => {
      if (node.opens === 0 || node.attributes.type !== FileType.regular) return false;
      return node.parent === null || this.#group.mayHoldOpen(nameIn(node.parent, node));
    });
  }
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
