/**
 * The list: a doubly linked chain of blocks of packed items (redis's quicklist), pushed and popped at both ends in O(1).
 * Pure; items are reached through a cursor, which stays good until the list changes.
 */
import { type StoredValue, TYPE_LIST, type ValueType } from '../store/value.ts';
import { copyBytes, equalBytes, type Slice } from './bytes.ts';
import { Block, itemBefore, itemSize, ListCursor, writeItem } from './list-block.ts';
import { allocateBytes, prefixSize, prefixSizeAt, readPrefix } from './record-store.ts';

/** Bytes of a full block; an item that does not fit has a block to itself. */
const BLOCK_BYTES = 8192;
const FIRST_BYTES = 64;
/** A block that comes to be between two others; it grows as it fills. */
const INNER_BYTES = 512;
/** What a block costs beside its bytes. */
const BLOCK_OVERHEAD = 260;

export class ListValue implements StoredValue {
  size = 0;
  /** The keyspace's; see StoredValue. */
  slot = -1;
  #head: Block | null = null;
  #tail: Block | null = null;
  #held = 0;

  get type(): ValueType<ListValue> {
    return LIST;
  }

  get bytes(): number {
    return 140 + this.#held;
  }

  encoding(): string {
    return 'quicklist';
  }

  pushHead(from: Uint8Array, at: number, length: number): void {
    const size = 2 * prefixSize(length) + length;
    let head = this.#head;
    if (head === null || head.start < size) head = this.#roomAtHead(size);
    head.start -= size;
    writeItem(head.bytes, head.start, from, at, length);
    head.count++;
    this.size++;
  }

  pushTail(from: Uint8Array, at: number, length: number): void {
    const size = 2 * prefixSize(length) + length;
    let tail = this.#tail;
    if (tail === null || tail.bytes.length - tail.end < size) tail = this.#roomAtTail(size);
    writeItem(tail.bytes, tail.end, from, at, length);
    tail.end += size;
    tail.count++;
    this.size++;
  }

  /** Points `item` at the first item; the list must not be empty. */
  readHead(item: Slice): void {
    const { bytes, start } = this.#head!;
    item.bytes = bytes;
    item.length = readPrefix(bytes, start);
    item.at = start + prefixSizeAt(bytes, start);
  }

  readTail(item: Slice): void {
    const { bytes, end } = this.#tail!;
    const start = itemBefore(bytes, end);
    item.bytes = bytes;
    item.length = readPrefix(bytes, start);
    item.at = start + prefixSizeAt(bytes, start);
  }

  /** Removes the first item; what `readHead` pointed at stays readable until the next push. */
  dropHead(): void {
    const head = this.#head!;
    head.start += itemSize(head.bytes, head.start);
    head.count--;
    this.size--;
    if (head.count === 0) this.#unlink(head);
  }

  dropTail(): void {
    const tail = this.#tail!;
    tail.end = itemBefore(tail.bytes, tail.end);
    tail.count--;
    this.size--;
    if (tail.count === 0) this.#unlink(tail);
  }

  /** Sets the cursor on item `index`, 0 <= index < size, from the nearer end. */
  seek(index: number, cursor: ListCursor): void {
    let block: Block;
    if (index * 2 <= this.size) {
      block = this.#head!;
      while (index >= block.count) {
        index -= block.count;
        block = block.next!;
      }
    } else {
      block = this.#tail!;
      index = this.size - 1 - index;
      while (index >= block.count) {
        index -= block.count;
        block = block.previous!;
      }
      index = block.count - 1 - index;
    }
    const bytes = block.bytes;
    let at: number;
    if (index * 2 <= block.count) {
      at = block.start;
      for (; index > 0; index--) at += itemSize(bytes, at);
    } else {
      at = block.end;
      for (index = block.count - index; index > 0; index--) at = itemBefore(bytes, at);
    }
    cursor.set(block, at);
  }

  /** Replaces the item under the cursor, which is then no longer good. */
  replace(cursor: ListCursor, from: Uint8Array, at: number, length: number): void {
    const block = cursor.block!;
    if (cursor.item.length === length) {
      copyBytes(block.bytes, cursor.item.at, from, at, length);
      return;
    }
    this.#splice(block, cursor.at, itemSize(block.bytes, cursor.at), from, at, length);
  }

  /** Inserts before the item under the cursor, or behind it; the cursor is then no longer good. */
  insert(cursor: ListCursor, behind: boolean, from: Uint8Array, at: number, length: number): void {
    const block = cursor.block!;
    this.#splice(block, behind ? cursor.at + itemSize(block.bytes, cursor.at) : cursor.at, 0, from, at, length);
  }

  /** Removes items equal to these bytes: all if `limit` is 0, else at most |limit|, from the tail if it is negative. */
  removeEqual(limit: number, from: Uint8Array, at: number, length: number): number {
    // From the tail means: leave the first ones that match.
    let spare = 0;
    if (limit < 0) spare = Math.max(0, this.#countEqual(from, at, length) + limit);
    let left = limit > 0 ? limit : this.size;
    let removed = 0;
    for (let block = this.#head; block !== null && left > 0; ) {
      const next: Block | null = block.next;
      const bytes = block.bytes;
      let kept = block.start;
      let gone = 0;
      for (let item = block.start; item < block.end; ) {
        const size = itemSize(bytes, item);
        const itemAt = item + prefixSizeAt(bytes, item);
        const equal = readPrefix(bytes, item) === length && equalBytes(bytes, itemAt, from, at, length);
        if (equal && spare === 0 && left > 0) {
          left--;
          gone++;
        } else {
          if (equal && spare > 0) spare--;
          if (kept !== item) bytes.copyWithin(kept, item, item + size); // downwards, so overlap is harmless
          kept += size;
        }
        item += size;
      }
      if (gone > 0) {
        block.end = kept;
        block.count -= gone;
        this.size -= gone;
        removed += gone;
        if (block.count === 0) this.#unlink(block);
        else this.#mergeBack(block);
      }
      block = next;
    }
    return removed;
  }

  /** Removes `fromHead` items at the head and `fromTail` at the tail, together at most all. */
  trim(fromHead: number, fromTail: number): void {
    while (fromHead > 0) {
      const head = this.#head!;
      if (head.count <= fromHead) {
        fromHead -= head.count;
        this.size -= head.count;
        this.#unlink(head);
      } else {
        for (; fromHead > 0; fromHead--) this.dropHead();
      }
    }
    while (fromTail > 0) {
      const tail = this.#tail!;
      if (tail.count <= fromTail) {
        fromTail -= tail.count;
        this.size -= tail.count;
        this.#unlink(tail);
      } else {
        for (; fromTail > 0; fromTail--) this.dropTail();
      }
    }
  }

  clone(): ListValue {
    const copy = new ListValue();
    for (let block = this.#head; block !== null; block = block.next) {
      const twin = copy.#newBlock(block.end - block.start, 0);
      twin.bytes.set(block.bytes.subarray(block.start, block.end));
      twin.end = twin.bytes.length;
      twin.count = block.count;
      copy.#link(copy.#tail, twin);
    }
    copy.size = this.size;
    return copy;
  }

  *elements(): Iterable<Uint8Array> {
    const cursor = new ListCursor();
    if (this.size === 0) return;
    this.seek(0, cursor);
    do {
      const { bytes, at, length } = cursor.item;
      yield bytes.slice(at, at + length);
    } while (cursor.forward());
  }

  #countEqual(from: Uint8Array, at: number, length: number): number {
    let count = 0;
    for (let block = this.#head; block !== null; block = block.next) {
      const bytes = block.bytes;
      for (let item = block.start; item < block.end; item += itemSize(bytes, item)) {
        if (readPrefix(bytes, item) !== length) continue;
        if (equalBytes(bytes, item + prefixSizeAt(bytes, item), from, at, length)) count++;
      }
    }
    return count;
  }

  /** A head block with `size` free bytes in front. */
  #roomAtHead(size: number): Block {
    const head = this.#head;
    if (head !== null) {
      if (this.#center(head, size)) return head;
      const capacity = roomier(head, size);
      if (capacity > 0) {
        this.#recast(head, capacity, capacity - (head.end - head.start));
        return head;
      }
    }
    const capacity = Math.max(head === null ? FIRST_BYTES : BLOCK_BYTES, size);
    return this.#link(null, this.#newBlock(capacity, capacity));
  }

  /** A tail block with `size` free bytes behind. */
  #roomAtTail(size: number): Block {
    const tail = this.#tail;
    if (tail !== null) {
      if (this.#center(tail, size)) return tail;
      const capacity = roomier(tail, size);
      if (capacity > 0) {
        this.#recast(tail, capacity, 0);
        return tail;
      }
    }
    return this.#link(tail, this.#newBlock(Math.max(tail === null ? FIRST_BYTES : BLOCK_BYTES, size), 0));
  }

  /** Moves the items of a block that is less than half full to its middle; false if `size` more would not be less. */
  #center(block: Block, size: number): boolean {
    const used = block.end - block.start;
    const capacity = block.bytes.length;
    if ((used + size) * 2 > capacity) return false;
    const start = (capacity - used) >>> 1;
    block.bytes.copyWithin(start, block.start, block.end);
    block.start = start;
    block.end = start + used;
    return true;
  }

  /** Gives a block another buffer with its items from `start` on. */
  #recast(block: Block, capacity: number, start: number): void {
    const before = block.bytes;
    const used = block.end - block.start;
    block.bytes = allocateBytes(capacity);
    block.bytes.set(before.subarray(block.start, block.end), start);
    block.start = start;
    block.end = start + used;
    this.#held += capacity - before.length;
  }

  /** Puts an item in place of `removed` bytes, which are none or one item, at `at` in a block. */
  #splice(block: Block, at: number, removed: number, from: Uint8Array, itemAt: number, length: number): void {
    const size = 2 * prefixSize(length) + length;
    const used = block.end - block.start - removed + size;
    if (used > block.bytes.length && used > BLOCK_BYTES) {
      this.#splitAround(block, at, removed, from, itemAt, length);
      return;
    }
    const lead = at - block.start;
    if (used > block.bytes.length) {
      this.#recast(block, Math.max(used, Math.min(BLOCK_BYTES, block.bytes.length * 2)), 0);
    } else if (block.end + size - removed > block.bytes.length) {
      block.bytes.copyWithin(0, block.start, block.end);
      block.end -= block.start;
      block.start = 0;
    }
    at = block.start + lead;
    block.bytes.copyWithin(at + size, at + removed, block.end);
    block.end += size - removed;
    writeItem(block.bytes, at, from, itemAt, length);
    if (removed > 0) return;
    block.count++;
    this.size++;
  }

  /** As `#splice` where the block has no room: what lies behind goes to a block of its own. */
  #splitAround(block: Block, at: number, removed: number, from: Uint8Array, itemAt: number, length: number): void {
    if (removed > 0) {
      block.count--;
      this.size--;
    }
    const behind = at + removed;
    let left: Block | null = block;
    let right: Block | null = block.next;
    if (at === block.start && behind < block.end) {
      block.start = behind;
      left = block.previous;
      right = block;
    } else {
      if (behind < block.end) right = this.#splitOff(block, behind);
      block.end = at;
    }
    const size = 2 * prefixSize(length) + length;
    if (left !== null && left.bytes.length - left.end >= size) {
      writeItem(left.bytes, left.end, from, itemAt, length);
      left.end += size;
      left.count++;
    } else if (right !== null && right.start >= size) {
      right.start -= size;
      writeItem(right.bytes, right.start, from, itemAt, length);
      right.count++;
    } else {
      const alone = this.#link(left, this.#newBlock(Math.max(INNER_BYTES, size), 0));
      writeItem(alone.bytes, 0, from, itemAt, length);
      alone.end = size;
      alone.count = 1;
    }
    this.size++;
    if (block.count === 0) this.#unlink(block);
  }

  /** Moves the items from `at` on, of which there is at least one, to a new block behind; its free room is in front. */
  #splitOff(block: Block, at: number): Block {
    const size = block.end - at;
    const capacity = Math.max(BLOCK_BYTES, size);
    const right = this.#link(block, this.#newBlock(capacity, capacity - size));
    right.bytes.set(block.bytes.subarray(at, block.end), right.start);
    right.end = capacity;
    for (let item = right.start; item < right.end; item += itemSize(right.bytes, item)) right.count++;
    block.count -= right.count;
    block.end = at;
    return right;
  }

  /** Joins a block to the one before if both together are small. */
  #mergeBack(block: Block): void {
    const left = block.previous;
    if (left === null) return;
    const used = left.end - left.start;
    const more = block.end - block.start;
    if ((used + more) * 2 > BLOCK_BYTES) return;
    if (left.bytes.length - left.end < more) this.#recast(left, Math.max(left.bytes.length, used + more), 0);
    left.bytes.set(block.bytes.subarray(block.start, block.end), left.end);
    left.end += more;
    left.count += block.count;
    this.#unlink(block);
  }

  #newBlock(capacity: number, start: number): Block {
    const block = new Block(capacity, start);
    this.#held += capacity + BLOCK_OVERHEAD;
    return block;
  }

  /** Puts a block behind another, or at the head; returns it. */
  #link(left: Block | null, block: Block): Block {
    const right = left === null ? this.#head : left.next;
    block.previous = left;
    block.next = right;
    if (left === null) this.#head = block;
    else left.next = block;
    if (right === null) this.#tail = block;
    else right.previous = block;
    return block;
  }

  #unlink(block: Block): void {
    if (block.previous === null) this.#head = block.next;
    else block.previous.next = block.next;
    if (block.next === null) this.#tail = block.previous;
    else block.next.previous = block.previous;
    this.#held -= block.bytes.length + BLOCK_OVERHEAD;
  }
}

/** The larger capacity that gives a block `size` more bytes, or 0 if it is to stay as it is. */
function roomier(block: Block, size: number): number {
  const need = block.end - block.start + size;
  if (block.bytes.length >= BLOCK_BYTES || need > BLOCK_BYTES) return 0;
  return Math.max(need, Math.min(BLOCK_BYTES, block.bytes.length * 2));
}

export const LIST: ValueType<ListValue> = { id: TYPE_LIST, name: 'list' };
