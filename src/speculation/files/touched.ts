/**
 * The nodes of the view as objects of the engine: which of them an operation shows, who has changed them, and what the kernel
 * must forget of changes that are undone. It reaches the kernel only through the function it is given.
 */
import { FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { ViewOperation } from '../../remote/view/operation.ts';
import { Lookup } from '../../remote/view/operations/lookup.ts';
import type { View } from '../../remote/view/view.ts';
import type { SpeculationEngine } from '../engine/engine.ts';
import type { SpeculativeObject } from '../engine/interval.ts';

export class TouchedNodes {
  readonly #view: View;
  readonly #engine: SpeculationEngine;
  readonly #drop: ((node: ViewNode) => Promise<void>) | null;
  /** What the kernel held of undone changes has been dropped; before, nobody who is restored may go on. */
  #dropped: Promise<unknown> = Promise.resolve();

  constructor(view: View, engine: SpeculationEngine, drop: ((node: ViewNode) => Promise<void>) | null) {
    this.#view = view;
    this.#engine = engine;
    this.#drop = drop;
  }

  /** The nodes whose state the answer shows or the operation changes. */
  shows(operation: ViewOperation): readonly ViewNode[] {
    const { touches } = operation;
    if (operation instanceof Lookup) {
      const child = this.#view.nameOf(operation.directory, operation.name)?.node;
      return child ? [...touches, child] : touches;
    }
    if (operation.kind !== 'readdir') return touches;
    const shown = [...touches];
    for (const { node } of touches[0]!.names?.names.values() ?? []) if (node?.speculation) shown.push(node);
    return shown;
  }

  /** `by` has changed the node. */
  touch(node: ViewNode, by: SpeculativeObject): void {
    let object = node.speculation as SpeculativeObject | null;
    if (object === null) {
      object = this.#engine.object('node', String(node.id));
      node.speculation = object;
    }
    const before = object.log.length;
    this.#engine.touch(object, by);
    if (before > 0) return;
    this.#view.pin(node);
    this.#whenDefinite(object, () => this.#view.unpin(node));
  }

  #whenDefinite(object: SpeculativeObject, then: () => void): void {
    if (object.log.length === 0) then();
    else this.#engine.whenSettled(object, () => this.#whenDefinite(object, then));
  }

  /** A change of the node is undone. */
  undone(node: ViewNode): void {
    if (node.attributes.type !== FileType.regular || this.#drop === null) return;
    // It may be refused where the mount ends.
    const dropped = this.#drop(node).catch(() => {});
    this.#dropped = Promise.all([this.#dropped, dropped]);
  }

  /** Resolves when the kernel has forgotten all that has been undone so far; in the order of the calls. */
  async forgotten(): Promise<void> {
    await this.#dropped;
  }
}

export function isAssumed({ handle, speculation }: ViewNode): boolean {
  const object = speculation as SpeculativeObject | null;
  return handle === null || (object !== null && object.log.length > 0);
}

export function isDirectory({ attributes }: ViewNode): boolean {
  return attributes.type === FileType.directory;
}
