/**
 * The nodes of the B+ tree behind a sorted set, and a cursor over its leaves.
 * Pure; leaves lie by eights in shared buffers, which keeps the garbage collector's work small.
 */

export const FANOUT = 64;
/** Leaves that share one buffer: a typed array of its own for each would cost the garbage collector dear. */
export const SHELF = 8;
export const SHELF_FREE = (1 << SHELF) - 1;
export const SHELF_BYTES = 12 * FANOUT * SHELF + 500;
export const LEAF_BYTES = 130;
export const INNER_BYTES = 24 * FANOUT + 700;

export class Shelf {
  readonly scores: Float64Array;
  readonly entries: Int32Array;
  /** A bit for each place that no leaf has. */
  free: number;

  constructor(places: number) {
    const buffer = new ArrayBuffer(12 * FANOUT * places);
    this.scores = new Float64Array(buffer, 0, FANOUT * places);
    this.entries = new Int32Array(buffer, 8 * FANOUT * places, FANOUT * places);
    this.free = (1 << places) - 1;
  }
}

/** A leaf or an inner node. An inner node keeps for each child the first element below it, exactly. */
export class Node {
  readonly shelf: Shelf;
  /** Its scores and entries begin at `base` of these, which are the shelf's. */
  readonly scores: Float64Array;
  readonly entries: Int32Array;
  readonly base: number;
  /** Null in a leaf. */
  readonly children: Node[] | null;
  /** Elements under each child. */
  readonly weights: Int32Array | null;
  count = 0;
  parent: Node | null = null;
  /** Its place in the parent. */
  slot = 0;
  /** Of leaves: neighbours, and the number by which elements refer to it. */
  previous: Node | null = null;
  next: Node | null = null;
  number = 0;

  constructor(shelf: Shelf, place: number, leaf: boolean) {
    this.shelf = shelf;
    this.scores = shelf.scores;
    this.entries = shelf.entries;
    this.base = place * FANOUT;
    this.children = leaf ? null : [];
    this.weights = leaf ? null : new Int32Array(FANOUT);
  }
}

/** Stands where no leaf has a number, so that none is kept alive. */
export const NOBODY = new Node(new Shelf(1), 0, true);

/** A place in the order while it does not change. */
export class OrderCursor {
  entry = 0;
  score = 0;
  #leaf: Node | null = null;
  #at = 0;

  /** For ScoreOrder.seek. */
  set(leaf: Node, at: number): void {
    this.#leaf = leaf;
    this.#at = at;
    this.entry = leaf.entries[leaf.base + at]!;
    this.score = leaf.scores[leaf.base + at]!;
  }

  /** Goes one element up; false past the end. */
  forward(): boolean {
    const leaf = this.#leaf!;
    if (this.#at + 1 < leaf.count) this.set(leaf, this.#at + 1);
    else if (leaf.next !== null) this.set(leaf.next, 0);
    else return false;
    return true;
  }

  /** Goes one element down; false past the beginning. */
  backward(): boolean {
    const leaf = this.#leaf!;
    if (this.#at > 0) this.set(leaf, this.#at - 1);
    else if (leaf.previous !== null) this.set(leaf.previous, leaf.previous.count - 1);
    else return false;
    return true;
  }
}

/** Where in its leaf an entry stands. */
export function placeOf(leaf: Node, entry: number): number {
  const entries = leaf.entries;
  let at = leaf.base;
  while (entries[at] !== entry) at++;
  return at - leaf.base;
}

/** Elements under a node. */
export function weightOf(node: Node): number {
  if (node.weights === null) return node.count;
  let weight = 0;
  for (let i = 0; i < node.count; i++) weight += node.weights[i]!;
  return weight;
}

/** Inserts a child with `weight` elements; the parent must have room. */
export function putChild(parent: Node, slot: number, child: Node, weight: number): void {
  const children = parent.children!;
  for (let i = parent.count; i > slot; i--) {
    const moved = children[i - 1]!;
    moved.slot = i;
    children[i] = moved;
    parent.scores[i] = parent.scores[i - 1]!;
    parent.entries[i] = parent.entries[i - 1]!;
    parent.weights![i] = parent.weights![i - 1]!;
  }
  children[slot] = child;
  child.parent = parent;
  child.slot = slot;
  parent.scores[slot] = child.scores[child.base]!;
  parent.entries[slot] = child.entries[child.base]!;
  parent.weights![slot] = weight;
  parent.count++;
}

/** Tells a node's ancestors which element is now its first, as far as they begin with it. */
export function tellFirst(node: Node): void {
  const score = node.scores[node.base]!;
  const entry = node.entries[node.base]!;
  for (let up = node; up.parent !== null; up = up.parent) {
    up.parent.scores[up.slot] = score;
    up.parent.entries[up.slot] = entry;
    if (up.slot !== 0) return;
  }
}
