/**
 * The nodes of the view as objects of the engine: which of them an operation shows, who has changed them, and what the kernel
 * must forget of changes that are undone. It reaches the kernel only through the function it is given.
 */
import { FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation, ViewOperation } from '../../remote/view/operation.ts';
import { Lookup } from '../../remote/view/operations/lookup.ts';
import { Rename } from '../../remote/view/operations/moving.ts';
import { sameChange, type View } from '../../remote/view/view.ts';
import type { SpeculationEngine } from '../engine/engine.ts';
import type { SpeculativeObject } from '../engine/interval.ts';

/** What the kernel can be made to forget. */
export interface KernelMemory {
  /** Data and attributes of a file. */
  readonly drop?: ((node: ViewNode) => Promise<void>) | undefined;
  /** What a name stands for. */
  readonly forget?: ((directory: ViewNode, name: string) => Promise<void>) | undefined;
}

export class TouchedNodes {
  readonly #view: View;
  readonly #engine: SpeculationEngine;
  readonly #kernel: KernelMemory;
  /** What the kernel held of undone changes has been dropped; before, nobody who is restored may go on. */
  #dropped: Promise<unknown> = Promise.resolve();

  constructor(view: View, engine: SpeculationEngine, kernel: KernelMemory) {
    this.#view = view;
    this.#engine = engine;
    this.#kernel = kernel;
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

  /** Nodes that a change touches of which what is known is not vouched for any more. */
  unverified({ touches }: ViewOperation): readonly ViewNode[] {
    return touches.filter((node) => !isAssumed(node) && !this.#view.isVouched(node));
  }

  /** Asks the server whether the node is as it is known here. */
  async isUnchanged(node: ViewNode): Promise<boolean> {
    const { said } = node;
    const asked = this.#view.ask();
    try {
      const now = await this.#view.server.getattr(node.handle!, this.#view.call(null));
      this.#view.accept(node, now, asked);
      return sameChange(said, now);
    } catch {
      return false;
    }
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

  /** A change is undone: the kernel must forget what it has made of its success. */
  undone(mutation: Mutation): void {
    const { drop, forget } = this.#kernel;
    for (const node of mutation.touches) if (node.attributes.type === FileType.regular) this.#wait(drop?.(node));
    // It has moved the entry by itself, with the time for which it may keep it.
    if (mutation instanceof Rename) this.#wait(forget?.(mutation.to, mutation.toName));
  }

  #wait(dropped: Promise<void> | undefined): void {
    if (dropped === undefined) return;
    // It may be refused where the mount ends.
    this.#dropped = Promise.all([this.#dropped, dropped.catch(() => {})]);
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
