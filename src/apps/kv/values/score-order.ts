/**
 * The order of a sorted set: a B+ tree over (score, member) with the number of elements under each child.
 * Pure; members are entries of a ByteTable, whose word per entry says which leaf an element is in.
 *
 * A B+ tree and not a skip list: a search stays within a few cache lines of scores, and a rank is a sum over one node
 * per level. An inner node keeps for each child the first element below it, exactly.
 */
import type { ByteTable } from './byte-table.ts';
import { compareBytes, Slice } from './bytes.ts';
import {
  FANOUT,
  INNER_BYTES,
  LEAF_BYTES,
  NOBODY,
  Node,
  type OrderCursor,
  placeOf,
  putChild,
  SHELF,
  SHELF_BYTES,
  SHELF_FREE,
  Shelf,
  tellFirst,
  weightOf,
} from './score-node.ts';

const SPARSE = FANOUT / 4;
const JOINED = (FANOUT / 4) * 3;

/** What a search compares with. */
const BY_PAIR = 0;
const BY_SCORE = 1;
const BY_MEMBER = 2;

export class ScoreOrder {
  /** Memory held, in bytes. */
  bytes = 0;
  readonly #table: ByteTable;
  #root: Node;
  #leaves: Node[] = [];
  #freeNumbers: number[] = [];
  /** Shelves with a free place. */
  #shelves: Shelf[] = [];
  // What the search under way looks for.
  #mode = BY_PAIR;
  #inclusive = false;
  #score = 0;
  readonly #key = new Slice();
  readonly #other = new Slice();

  constructor(table: ByteTable) {
    this.#table = table;
    this.#root = this.#newLeaf();
  }

  /** Adds an entry of the table that is not in the order. */
  insert(entry: number, score: number): void {
    this.#mode = BY_PAIR;
    this.#score = score;
    this.#table.readKey(entry, this.#key);
    let leaf = this.#root;
    while (leaf.children !== null) leaf = leaf.children[this.#childFor(leaf)]!;
    let at = this.#countBelow(leaf);
    if (leaf.count === FANOUT) {
      const right = this.#split(leaf, at);
      if (at > leaf.count || right.count === 0) {
        at -= leaf.count;
        leaf = right;
      }
    }
    const { scores, entries } = leaf;
    const place = leaf.base + at;
    for (let i = leaf.base + leaf.count; i > place; i--) {
      scores[i] = scores[i - 1]!;
      entries[i] = entries[i - 1]!;
    }
    scores[place] = score;
    entries[place] = entry;
    leaf.count++;
    this.#table.setTag(entry, leaf.number);
    for (let node = leaf; node.parent !== null; node = node.parent) node.parent.weights![node.slot]!++;
    if (at === 0) tellFirst(leaf);
  }

  /** Takes an entry out; call it before the table forgets the entry. */
  remove(entry: number): void {
    const leaf = this.#leaves[this.#table.tagOf(entry)]!;
    const { scores, entries } = leaf;
    const at = placeOf(leaf, entry);
    const last = leaf.count - 1;
    const end = leaf.base + last;
    for (let i = leaf.base + at; i < end; i++) {
      scores[i] = scores[i + 1]!;
      entries[i] = entries[i + 1]!;
    }
    leaf.count = last;
    for (let node = leaf; node.parent !== null; node = node.parent) node.parent.weights![node.slot]!--;
    if (last === 0) {
      this.#detach(leaf);
    } else {
      if (at === 0) tellFirst(leaf);
      this.#relax(leaf);
    }
  }

  /** The table gave an entry another number. */
  renumber(from: number, to: number): void {
    const leaf = this.#leaves[this.#table.tagOf(to)]!;
    const at = placeOf(leaf, from);
    leaf.entries[leaf.base + at] = to;
    if (at === 0) tellFirst(leaf);
  }

  /** Gives an entry another score. */
  update(entry: number, score: number): void {
    const leaf = this.#leaves[this.#table.tagOf(entry)]!;
    const at = placeOf(leaf, entry);
    if (at > 0 && at < leaf.count - 1) {
      this.#mode = BY_PAIR;
      this.#score = score;
      this.#table.readKey(entry, this.#key);
      if (this.#isBelow(leaf, at - 1) && !this.#isBelow(leaf, at + 1)) {
        leaf.scores[leaf.base + at] = score;
        return;
      }
    }
    this.remove(entry);
    this.insert(entry, score);
  }

  scoreOf(entry: number): number {
    const leaf = this.#leaves[this.#table.tagOf(entry)]!;
    return leaf.scores[leaf.base + placeOf(leaf, entry)]!;
  }

  /** How many elements come before this one. */
  rankOf(entry: number): number {
    const leaf = this.#leaves[this.#table.tagOf(entry)]!;
    let rank = placeOf(leaf, entry);
    for (let node = leaf; node.parent !== null; node = node.parent) {
      const weights = node.parent.weights!;
      for (let i = node.slot - 1; i >= 0; i--) rank += weights[i]!;
    }
    return rank;
  }

  /** Sets the cursor on the element that has `rank` others before it. */
  seek(rank: number, cursor: OrderCursor): void {
    let node = this.#root;
    while (node.children !== null) {
      const weights = node.weights!;
      let child = 0;
      while (rank >= weights[child]!) rank -= weights[child++]!;
      node = node.children[child]!;
    }
    cursor.set(node, rank);
  }

  /** How many elements have a score below this one, or not above it. */
  countBelowScore(score: number, inclusive: boolean): number {
    this.#mode = BY_SCORE;
    this.#score = score;
    this.#inclusive = inclusive;
    return this.#countAll();
  }

  /** How many members sort before this one, or not after it; of use where all scores are the same. */
  countBelowMember(from: Uint8Array, at: number, length: number, inclusive: boolean): number {
    this.#mode = BY_MEMBER;
    this.#key.bytes = from;
    this.#key.at = at;
    this.#key.length = length;
    this.#inclusive = inclusive;
    return this.#countAll();
  }

  #countAll(): number {
    let node = this.#root;
    let rank = 0;
    while (node.children !== null) {
      const child = this.#childFor(node);
      for (let i = 0; i < child; i++) rank += node.weights![i]!;
      node = node.children[child]!;
    }
    return rank + this.#countBelow(node);
  }

  /** The element at `at` comes before what is looked for. */
  #isBelow(node: Node, at: number): boolean {
    const mode = this.#mode;
    if (mode !== BY_MEMBER) {
      const score = node.scores[node.base + at]!;
      if (mode === BY_SCORE) return this.#inclusive ? score <= this.#score : score < this.#score;
      if (score !== this.#score) return score < this.#score;
    }
    const key = this.#key;
    const other = this.#other;
    this.#table.readKey(node.entries[node.base + at]!, other);
    const order = compareBytes(other.bytes, other.at, other.length, key.bytes, key.at, key.length);
    return order < 0 || (order === 0 && mode === BY_MEMBER && this.#inclusive);
  }

  /** The child in which the boundary lies: the last that begins below it, else the first. */
  #childFor(node: Node): number {
    let from = 1;
    let to = node.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#isBelow(node, middle)) from = middle + 1;
      else to = middle;
    }
    return from - 1;
  }

  #countBelow(leaf: Node): number {
    let from = 0;
    let to = leaf.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#isBelow(leaf, middle)) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #newInner(): Node {
    this.bytes += INNER_BYTES;
    return new Node(new Shelf(1), 0, false);
  }

  #newLeaf(): Node {
    let shelf = this.#shelves[this.#shelves.length - 1];
    if (shelf === undefined) {
      shelf = new Shelf(SHELF);
      this.#shelves.push(shelf);
      this.bytes += SHELF_BYTES;
    }
    const place = 31 - Math.clz32(shelf.free);
    shelf.free &= ~(1 << place);
    if (shelf.free === 0) this.#shelves.pop();
    const leaf = new Node(shelf, place, true);
    leaf.number = this.#freeNumbers.pop() ?? this.#leaves.length;
    this.#leaves[leaf.number] = leaf;
    this.bytes += LEAF_BYTES;
    return leaf;
  }

  #freeLeaf(leaf: Node): void {
    const { shelf } = leaf;
    if (shelf.free === 0) this.#shelves.push(shelf);
    shelf.free |= 1 << (leaf.base / FANOUT);
    if (shelf.free === SHELF_FREE) {
      this.#shelves.splice(this.#shelves.indexOf(shelf), 1);
      this.bytes -= SHELF_BYTES;
    }
    this.#leaves[leaf.number] = NOBODY;
    this.#freeNumbers.push(leaf.number);
    this.bytes -= LEAF_BYTES;
  }

  /** Moves the upper half of a full node to a new one behind it; nothing, if it is only to be appended to. */
  #split(node: Node, at: number): Node {
    const right = node.children === null ? this.#newLeaf() : this.#newInner();
    if (node.parent === null) {
      this.#root = this.#newInner();
      putChild(this.#root, 0, node, weightOf(node));
    }
    const appended = at === FANOUT && node.slot === node.parent!.count - 1;
    this.#addChild(node.parent!, node.slot + 1, right);
    if (node.children === null) {
      right.previous = node;
      right.next = node.next;
      if (node.next !== null) node.next.previous = right;
      node.next = right;
    }
    if (appended) return right;
    const moved = this.#move(node, FANOUT / 2, right);
    for (let a = node, b = right; a !== b; a = a.parent!, b = b.parent!) {
      a.parent!.weights![a.slot]! -= moved;
      b.parent!.weights![b.slot]! += moved;
    }
    tellFirst(right);
    return right;
  }

  /** Moves what `from` has at `at` and behind to the end of `to`; returns how many elements that are. */
  #move(from: Node, at: number, to: Node): number {
    let moved = 0;
    for (let i = at; i < from.count; i++) {
      const slot = to.count++;
      const entry = from.entries[from.base + i]!;
      to.scores[to.base + slot] = from.scores[from.base + i]!;
      to.entries[to.base + slot] = entry;
      if (from.children === null) {
        this.#table.setTag(entry, to.number);
        moved++;
      } else {
        const child = from.children[i]!;
        const weight = from.weights![i]!;
        child.parent = to;
        child.slot = slot;
        to.children!.push(child);
        to.weights![slot] = weight;
        moved += weight;
      }
    }
    from.count = at;
    if (from.children !== null) from.children.length = at;
    return moved;
  }

  /** Adds a child that is still empty; whoever fills it tells its ancestors. */
  #addChild(parent: Node, slot: number, child: Node): void {
    if (parent.count === FANOUT) {
      const right = this.#split(parent, slot);
      if (slot > parent.count || right.count === 0) {
        slot -= parent.count;
        parent = right;
      }
    }
    putChild(parent, slot, child, 0);
  }

  /** Takes an empty node out of the tree. */
  #detach(node: Node): void {
    const parent = node.parent;
    if (parent === null) return;
    const children = parent.children!;
    const last = parent.count - 1;
    for (let i = node.slot; i < last; i++) {
      const child = children[i + 1]!;
      child.slot = i;
      children[i] = child;
      parent.scores[i] = parent.scores[i + 1]!;
      parent.entries[i] = parent.entries[i + 1]!;
      parent.weights![i] = parent.weights![i + 1]!;
    }
    children.length = last;
    parent.count = last;
    if (node.children === null) {
      if (node.previous !== null) node.previous.next = node.next;
      if (node.next !== null) node.next.previous = node.previous;
      this.#freeLeaf(node);
    } else {
      this.bytes -= INNER_BYTES;
    }
    if (last === 0) {
      this.#detach(parent);
      return;
    }
    if (node.slot === 0) tellFirst(parent);
    if (parent.parent === null) {
      if (last === 1) this.#lowerRoot();
    } else {
      this.#relax(parent);
    }
  }

  #lowerRoot(): void {
    while (this.#root.children !== null && this.#root.count === 1) {
      this.#root = this.#root.children[0]!;
      this.#root.parent = null;
      this.#root.slot = 0;
      this.bytes -= INNER_BYTES;
    }
  }

  /** Joins a sparse node with a neighbour under the same parent if both fit in one with room to spare. */
  #relax(node: Node): void {
    const parent = node.parent;
    if (parent === null || node.count >= SPARSE || parent.count === 1) return;
    const left = node.slot + 1 < parent.count ? node : parent.children![node.slot - 1]!;
    const right = parent.children![left.slot + 1]!;
    if (left.count + right.count > JOINED) return;
    const moved = this.#move(right, 0, left);
    parent.weights![left.slot]! += moved;
    this.#detach(right);
  }
}
