/**
 * The nodes of a view by id and by handle, and how many may be remembered.
 * Pure; a node is forgotten when no cached name and nobody else refers to it.
 */
import { handleKey } from '../operation.ts';
import type { Attributes, Handle } from '../server.ts';
import { type NameEntry, ViewNode } from './node.ts';

export class NodeTable {
  readonly root: ViewNode;
  readonly #byId = new Map<number, ViewNode>();
  readonly #byHandle = new Map<string, ViewNode>();
  /** Directories with cached names, in order of use. */
  readonly #directories = new Set<ViewNode>();
  readonly namesMax: number;
  #nextId = 2;
  /** Cached names over all directories. */
  nameCount = 0;

  constructor(rootHandle: Handle, rootAttributes: Attributes, namesMax: number) {
    this.namesMax = namesMax;
    this.root = new ViewNode(1, rootHandle, rootAttributes);
    this.#byId.set(1, this.root);
    this.#byHandle.set(handleKey(rootHandle), this.root);
  }

  get size(): number {
    return this.#byId.size;
  }

  byId(id: number): ViewNode | undefined {
    return this.#byId.get(id);
  }

  byHandle(handle: Handle): ViewNode | undefined {
    return this.#byHandle.get(handleKey(handle));
  }

  all(): IterableIterator<ViewNode> {
    return this.#byId.values();
  }

  /** A new node; without a handle as long as it is only assumed. */
  add(handle: Handle | null, attributes: Attributes): ViewNode {
    const node = new ViewNode(this.#nextId++, handle === null ? null : handle.slice(), attributes);
    this.#byId.set(node.id, node);
    if (node.handle !== null) this.#byHandle.set(handleKey(node.handle), node);
    return node;
  }

  /** An assumed node has been made at the server. */
  settle(node: ViewNode, handle: Handle): void {
    node.handle = handle.slice();
    this.#byHandle.set(handleKey(node.handle), node);
  }

  /** The handle is no longer good: a later node may have the same one. */
  abandonHandle(node: ViewNode): void {
    if (node.handle === null) return;
    const key = handleKey(node.handle);
    if (this.#byHandle.get(key) === node) this.#byHandle.delete(key);
  }

  /** Forgets the node if nothing refers to it. */
  release(node: ViewNode): void {
    if (node.held || node.nameCount > 0 || this.#byId.get(node.id) !== node) return;
    if (node.data?.unwritten) return;
    node.data?.clear();
    this.dropNames(node);
    this.#byId.delete(node.id);
    this.abandonHandle(node);
  }

  /** The directory's cached names have been used. */
  touched(directory: ViewNode): void {
    this.#directories.delete(directory);
    this.#directories.add(directory);
  }

  setName(directory: ViewNode, name: string, entry: NameEntry): void {
    directory.names ??= { names: new Map(), completeEpoch: -1, completeUntil: 0, changes: 0 };
    const old = directory.names.names.get(name);
    if (entry.node !== null) {
      entry.node.nameCount++;
      entry.node.parent = directory;
    }
    directory.names.names.set(name, entry);
    if (old === undefined) this.nameCount++;
    else if (old.node !== null) this.#unname(old.node);
    this.touched(directory);
    this.#enforce(directory);
  }

  removeName(directory: ViewNode, name: string): void {
    const old = directory.names?.names.get(name);
    if (old === undefined) return;
    directory.names!.names.delete(name);
    this.nameCount--;
    if (old.node !== null) this.#unname(old.node);
  }

  dropNames(directory: ViewNode): void {
    const { names } = directory;
    this.#directories.delete(directory);
    if (names === null) return;
    directory.names = null;
    this.nameCount -= names.names.size;
    for (const { node } of names.names.values()) if (node !== null) this.#unname(node);
  }

  #unname(node: ViewNode): void {
    node.nameCount--;
    this.release(node);
  }

  /** Names of the directories used longest ago go first; never those of `current` or of assumed state. */
  #enforce(current: ViewNode): void {
    if (this.nameCount <= this.namesMax) return;
    for (const directory of this.#directories) {
      if (this.nameCount <= this.namesMax * 0.9) return;
      if (directory === current || directory.pins > 0 || directory.handle === null) continue;
      this.dropNames(directory);
    }
  }
}
