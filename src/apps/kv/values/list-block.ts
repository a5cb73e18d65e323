/**
 * A block of list items, how an item stands in it, and a cursor that walks from block to block.
 * Pure; an item is [length][bytes][length read backwards], so that a block can be walked either way.
 */
import { copyBytes, Slice } from './bytes.ts';
import { allocateBytes, prefixSizeAt, readPrefix, writePrefix } from './record-store.ts';

export class Block {
  bytes: Uint8Array;
  /** The items lie in [start, end). */
  start: number;
  end: number;
  count = 0;
  previous: Block | null = null;
  next: Block | null = null;

  constructor(capacity: number, start: number) {
    this.bytes = allocateBytes(capacity);
    this.start = start;
    this.end = start;
  }
}

/** A place in a list while it does not change. */
export class ListCursor {
  /** The item it stands on. */
  readonly item = new Slice();
  /** Null once it has gone past either end. */
  block: Block | null = null;
  at = 0;

  /** Goes to the next item towards the tail; false past the end. */
  forward(): boolean {
    let block = this.block;
    if (block === null) return false;
    let at = this.at + itemSize(block.bytes, this.at);
    if (at === block.end) {
      block = this.block = block.next;
      if (block === null) return false;
      at = block.start;
    }
    this.#stand(block, at);
    return true;
  }

  /** Goes to the next item towards the head; false past the beginning. */
  backward(): boolean {
    let block = this.block;
    if (block === null) return false;
    let end = this.at;
    if (end === block.start) {
      block = this.block = block.previous;
      if (block === null) return false;
      end = block.end;
    }
    this.#stand(block, itemBefore(block.bytes, end));
    return true;
  }

  #stand(block: Block, at: number): void {
    this.at = at;
    const bytes = block.bytes;
    const item = this.item;
    item.bytes = bytes;
    item.length = readPrefix(bytes, at);
    item.at = at + prefixSizeAt(bytes, at);
  }

  /** For ListValue.seek. */
  set(block: Block | null, at: number): void {
    this.block = block;
    if (block !== null) this.#stand(block, at);
  }
}

/** Bytes of the item at `at`, with its lengths. */
export function itemSize(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  return first < 254 ? first + 2 : 2 * prefixSizeAt(bytes, at) + readPrefix(bytes, at);
}

/** Where the item that ends at `end` begins. */
export function itemBefore(bytes: Uint8Array, end: number): number {
  const last = bytes[end - 1]!;
  if (last < 254) return end - last - 2;
  if (last === 254) return end - 6 - (bytes[end - 3]! | (bytes[end - 2]! << 8));
  const length = bytes[end - 5]! | (bytes[end - 4]! << 8) | (bytes[end - 3]! << 16) | (bytes[end - 2]! << 24);
  return end - 10 - length;
}

export function writeItem(bytes: Uint8Array, at: number, from: Uint8Array, itemAt: number, length: number): void {
  const body = writePrefix(bytes, at, length);
  copyBytes(bytes, body, from, itemAt, length);
  let end = body + length;
  if (length < 254) {
    bytes[end] = length;
    return;
  }
  // The prefix with its marker last.
  bytes[end++] = length;
  bytes[end++] = length >>> 8;
  if (length >= 65536) {
    bytes[end++] = length >>> 16;
    bytes[end++] = length >>> 24;
  }
  bytes[end] = length < 65536 ? 254 : 255;
}
