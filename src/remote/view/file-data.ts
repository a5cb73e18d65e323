/**
 * The cached bytes of one file: blocks of memory, and which bytes are known, unwritten, on the way and not yet committed.
 * Pure; the budget over all files decides what is dropped.
 */
import { type Range, RangeSet } from './ranges.ts';
import type { UndoLog } from './undo.ts';

/** Bytes of a block; a power of two, and what the kernel reads at once. */
export const BLOCK_BYTES = 1 << 17;
const BLOCK_BYTES_MIN = 4096;

/** A piece of a file to be written, as it was when it was taken. */
export interface WriteRun {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Block {
  readonly owner: FileData;
  readonly index: number;
  /** Grows up to BLOCK_BYTES. */
  bytes: Uint8Array;
}

/** Memory over all files, bounded: the block used longest ago goes first, unless it is needed. */
export class DataBudget {
  readonly limitBytes: number;
  usedBytes = 0;
  dropped = 0;
  /** In order of use. */
  readonly #blocks = new Set<Block>();

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** More memory is needed for what is unwritten than there may be in all. */
  get exceeded(): boolean {
    return this.usedBytes > this.limitBytes;
  }

  used(block: Block): void {
    this.#blocks.delete(block);
    this.#blocks.add(block);
  }

  grew(bytes: number): void {
    this.usedBytes += bytes;
  }

  gone(block: Block): void {
    if (this.#blocks.delete(block)) this.usedBytes -= block.bytes.byteLength;
  }

  /** Drops blocks until the limit holds; what has unwritten or uncommitted data stays (its own limit bounds it). */
  enforce(): void {
    if (this.usedBytes <= this.limitBytes) return;
    for (const block of this.#blocks) {
      if (this.usedBytes <= this.limitBytes) return;
      if (block.owner.dropBlock(block)) this.dropped++;
    }
  }
}

export class FileData {
  readonly #budget: DataBudget;
  readonly #blocks = new Map<number, Block>();
  /** Bytes that are known. */
  readonly valid = new RangeSet();
  /** Known, and newer than the server's: to be sent. */
  readonly dirty = new RangeSet();
  /** Sent, no answer yet. */
  readonly sending = new RangeSet();
  /** Taken by assumed operations, which send it in their order; later ones may take what was written over it. */
  readonly claims = new Set<WriteRun>();
  /** Written by the server, but perhaps not on stable storage. */
  readonly unstable = new RangeSet();
  /** Write errors so far, and the last one: each descriptor reports those since it was opened. */
  errors = 0;
  lastErrno = 0;
  /** Assumed writes in it: nothing may be sent by itself. */
  held = 0;

  constructor(budget: DataBudget) {
    this.#budget = budget;
  }

  /** Whether anything is not on the server's stable storage yet. */
  get unwritten(): boolean {
    return this.unsent || !this.unstable.isEmpty;
  }

  /** Whether anything has not reached the server at all. */
  get unsent(): boolean {
    return !(this.dirty.isEmpty && this.sending.isEmpty) || this.claims.size > 0;
  }

  /** Takes bytes written by a program. */
  write(offset: number, bytes: Uint8Array, undo: UndoLog | null): void {
    const end = offset + bytes.byteLength;
    if (undo !== null) this.#remember(offset, end, undo);
    this.#copyIn(offset, bytes);
    this.valid.add(offset, end);
    this.dirty.add(offset, end);
    this.#budget.enforce();
  }

  /** Takes bytes that came from the server; what is known already stays as it is. */
  fill(offset: number, bytes: Uint8Array): void {
    for (const { start, end } of this.valid.gaps(offset, offset + bytes.byteLength)) {
      this.#copyIn(start, bytes.subarray(start - offset, end - offset));
      this.valid.add(start, end);
    }
    this.#budget.enforce();
  }

  /** As {@link fill}, with zeros: a hole that the server does not know of yet. */
  fillZeros(from: number, to: number): void {
    for (const gap of this.valid.gaps(from, to)) {
      for (let start = gap.start; start < gap.end; start += BLOCK_BYTES) {
        this.#copyIn(start, new Uint8Array(Math.min(BLOCK_BYTES, gap.end - start)));
      }
      this.valid.add(gap.start, gap.end);
    }
    this.#budget.enforce();
  }

  /** Copies known bytes out. The range must be covered by `valid`. */
  copyOut(offset: number, target: Uint8Array): void {
    let at = 0;
    while (at < target.byteLength) {
      const position = offset + at;
      const within = position % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, target.byteLength - at);
      const block = this.#blocks.get((position - within) / BLOCK_BYTES)!;
      this.#budget.used(block);
      target.set(block.bytes.subarray(within, within + length), at);
      at += length;
    }
  }

  /** A copy of a range, that stays as it is now. */
  slice(start: number, end: number): Uint8Array {
    const bytes = new Uint8Array(end - start);
    this.copyOut(start, bytes);
    return bytes;
  }

  /** Somebody else changed the file: what came from the server is forgotten, what has yet to go there stays. */
  dropClean(): void {
    const kept = [...this.dirty.all(), ...this.sending.all(), ...this.unstable.all()];
    this.valid.clear();
    for (const { start, end } of kept) this.valid.add(start, end);
    for (const { offset, bytes } of this.claims) this.valid.add(offset, offset + bytes.byteLength);
    for (const block of [...this.#blocks.values()]) {
      const start = block.index * BLOCK_BYTES;
      if (!this.valid.overlaps(start, start + BLOCK_BYTES)) this.#free(block);
    }
  }

  /** The file ends at `size` now: nothing after it is known, or to be sent. */
  truncate(size: number): void {
    for (const set of [this.valid, this.dirty, this.unstable]) set.remove(size, Infinity);
    for (const block of [...this.#blocks.values()]) {
      if (block.index * BLOCK_BYTES >= size && !this.#needed(block)) this.#free(block);
    }
  }

  /** Forgets everything, unwritten data too. */
  clear(): void {
    for (const set of [this.valid, this.dirty, this.sending, this.unstable]) set.clear();
    this.claims.clear();
    for (const block of [...this.#blocks.values()]) this.#free(block);
  }

  /** Called by the budget. False where the block is needed. */
  dropBlock(block: Block): boolean {
    if (this.#needed(block)) return false;
    const start = block.index * BLOCK_BYTES;
    this.valid.remove(start, start + BLOCK_BYTES);
    this.#free(block);
    return true;
  }

  failed(errno: number): void {
    this.errors++;
    this.lastErrno = errno;
  }

  #needed({ index }: Block): boolean {
    const start = index * BLOCK_BYTES;
    const end = start + BLOCK_BYTES;
    for (const { offset, bytes } of this.claims) if (offset < end && offset + bytes.byteLength > start) return true;
    return this.dirty.overlaps(start, end) || this.sending.overlaps(start, end) || this.unstable.overlaps(start, end);
  }

  #free(block: Block): void {
    this.#blocks.delete(block.index);
    this.#budget.gone(block);
  }

  #copyIn(offset: number, bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.byteLength) {
      const position = offset + at;
      const within = position % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, bytes.byteLength - at);
      const block = this.#block((position - within) / BLOCK_BYTES, within + length);
      block.bytes.set(bytes.subarray(at, at + length), within);
      at += length;
    }
  }

  /** The block, with room for `length` bytes. */
  #block(index: number, length: number): Block {
    let block = this.#blocks.get(index);
    if (block === undefined) {
      block = { owner: this, index, bytes: new Uint8Array(roomFor(length)) };
      this.#blocks.set(index, block);
      this.#budget.grew(block.bytes.byteLength);
    } else if (block.bytes.byteLength < length) {
      const bytes = new Uint8Array(roomFor(length));
      bytes.set(block.bytes);
      this.#budget.grew(bytes.byteLength - block.bytes.byteLength);
      block.bytes = bytes;
    }
    this.#budget.used(block);
    return block;
  }

  #remember(start: number, end: number, undo: UndoLog): void {
    const valid = this.valid.within(start, end);
    const dirty = this.dirty.within(start, end);
    const old = valid.map((range): Range & { bytes: Uint8Array } => ({
      ...range,
      bytes: this.slice(range.start, range.end),
    }));
    const restore = (): void => {
      this.valid.remove(start, end);
      this.dirty.remove(start, end);
      for (const range of old) {
        this.#copyIn(range.start, range.bytes);
        this.valid.add(range.start, range.end);
      }
      for (const range of dirty) this.dirty.add(range.start, range.end);
    };
    undo.push(restore, undefined, end - start);
  }
}

function roomFor(length: number): number {
  let room = BLOCK_BYTES_MIN;
  while (room < length) room *= 2;
  return room;
}
