/**
 * A hash table from byte strings to dense entry numbers, with an optional byte-string value per entry: the large form
 * of hashes and sets and the member table of sorted sets. Pure; it grows by parts, so no single insert copies it all.
 *
 * Entries are numbered 0..size-1 without holes; removing one moves the last into its place. So a random entry is one
 * index, a walk is a loop, and a walk from the highest number down meets every entry that stays all the while.
 * Slots are an extendible hash (Fagin et al. 1979): a directory over the high bits of the hash points to segments of at
 * most 4096 slots, probed linearly from the low bits; a full segment splits in two.
 */
import type { Hasher } from '../store/hash.ts';
import { copyBytes, equalBytes, type Slice } from './bytes.ts';
import {
  chunkOf,
  offsetOf,
  prefixSize,
  prefixSizeAt,
  RecordStore,
  readPrefix,
  referenceTo,
  tooLarge,
  writePrefix,
} from './record-store.ts';

/** A slot is 0 when free, else entry number + 1 in the low 27 bits under 5 bits of the hash. */
const ENTRY_BITS = 27;
const ENTRY_MASK = 2 ** ENTRY_BITS - 1;
/** These hash bits lie between those that choose the slot and those that choose the segment. */
const TAG_SHIFT = ENTRY_BITS - 12;
const MIN_SLOTS = 16;
const MAX_SLOTS = 4096;
const MAX_DEPTH = 20;

/** Entries are kept in blocks, so that their list grows without being copied. */
const BLOCK_BITS = 10;
const BLOCK = 1 << BLOCK_BITS;
const MIN_BLOCK = 16;
const ARRAY_OVERHEAD = 200;

class Segment {
  slots: Int32Array;
  count = 0;
  /** How many high bits of the hash all its entries share. */
  depth: number;

  constructor(slots: number, depth: number) {
    this.slots = new Int32Array(slots);
    this.depth = depth;
  }
}

export class ByteTable {
  size = 0;
  /** Memory held by slots and entries, in bytes. */
  #held = 0;
  readonly #hasher: Hasher;
  readonly #valued: boolean;
  readonly #records = new RecordStore();
  /** Per entry: reference of its record, hash, and a word for the owner. Three words of block `entry >>> BLOCK_BITS`. */
  #blocks: Int32Array[] = [];
  #directory: Segment[];
  #depth = 0;

  /** `valued` tables keep a value beside each key. */
  constructor(hasher: Hasher, valued: boolean) {
    this.#hasher = hasher;
    this.#valued = valued;
    this.#directory = [this.#newSegment(MIN_SLOTS, 0)];
  }

  /** Memory held, in bytes. */
  get bytes(): number {
    return 300 + this.#held + this.#records.held;
  }

  hash(from: Uint8Array, at: number, length: number): number {
    return this.#hasher.hash(from, at, length);
  }

  /** The entry with this key, or -1. `hash` is {@link ByteTable.hash} of it. */
  find(hash: number, from: Uint8Array, at: number, length: number): number {
    const slots = this.#segment(hash).slots;
    const mask = slots.length - 1;
    for (let i = hash & mask; ; i = (i + 1) & mask) {
      const slot = slots[i]!;
      if (slot === 0) return -1;
      if (((slot ^ (hash << TAG_SHIFT)) & ~ENTRY_MASK) !== 0) continue;
      const entry = (slot & ENTRY_MASK) - 1;
      const block = this.#blocks[entry >>> BLOCK_BITS]!;
      const word = (entry & (BLOCK - 1)) * 3;
      if (block[word + 1] !== hash) continue;
      const reference = block[word]!;
      const bytes = this.#records.chunks[chunkOf(reference)]!;
      const start = offsetOf(reference);
      if (readPrefix(bytes, start) !== length) continue;
      let key = start + prefixSizeAt(bytes, start);
      if (this.#valued) key += prefixSizeAt(bytes, key);
      if (equalBytes(bytes, key, from, at, length)) return entry;
    }
  }

  /** Points `key` at an entry's key; good until the table changes. */
  readKey(entry: number, key: Slice): void {
    const reference = this.#blocks[entry >>> BLOCK_BITS]![(entry & (BLOCK - 1)) * 3]!;
    const bytes = this.#records.chunks[chunkOf(reference)]!;
    const start = offsetOf(reference);
    key.bytes = bytes;
    key.length = readPrefix(bytes, start);
    const at = start + prefixSizeAt(bytes, start);
    key.at = this.#valued ? at + prefixSizeAt(bytes, at) : at;
  }

  /** Points `value` at an entry's value; good until the table changes. */
  readValue(entry: number, value: Slice): void {
    const reference = this.#blocks[entry >>> BLOCK_BITS]![(entry & (BLOCK - 1)) * 3]!;
    const bytes = this.#records.chunks[chunkOf(reference)]!;
    const start = offsetOf(reference);
    const at = start + prefixSizeAt(bytes, start);
    value.bytes = bytes;
    value.length = readPrefix(bytes, at);
    value.at = at + prefixSizeAt(bytes, at) + readPrefix(bytes, start);
  }

  hashOf(entry: number): number {
    return this.#blocks[entry >>> BLOCK_BITS]![(entry & (BLOCK - 1)) * 3 + 1]!;
  }

  /** The owner's word of an entry; it moves with the entry. */
  tagOf(entry: number): number {
    return this.#blocks[entry >>> BLOCK_BITS]![(entry & (BLOCK - 1)) * 3 + 2]!;
  }

  setTag(entry: number, tag: number): void {
    this.#blocks[entry >>> BLOCK_BITS]![(entry & (BLOCK - 1)) * 3 + 2] = tag;
  }

  /** Adds a key that is not there (the caller has looked) without a value; returns its entry, the highest number. */
  add(hash: number, from: Uint8Array, at: number, length: number): number {
    const reference = this.#reserve(prefixSize(length) + length);
    const bytes = this.#records.chunks[chunkOf(reference)]!;
    copyBytes(bytes, writePrefix(bytes, offsetOf(reference), length), from, at, length);
    return this.#link(hash, reference);
  }

  /** Adds a key that is not there with its value; returns its entry, the highest number. */
  addPair(
    hash: number,
    from: Uint8Array,
    at: number,
    length: number,
    valueFrom: Uint8Array,
    valueAt: number,
    valueLength: number,
  ): number {
    const reference = this.#reserve(prefixSize(length) + prefixSize(valueLength) + length + valueLength);
    this.#writePair(reference, from, at, length, valueFrom, valueAt, valueLength);
    return this.#link(hash, reference);
  }

  /** Gives an entry another value. */
  setValue(entry: number, from: Uint8Array, at: number, length: number): void {
    const block = this.#blocks[entry >>> BLOCK_BITS]!;
    const word = (entry & (BLOCK - 1)) * 3;
    const before = block[word]!;
    // The buffer under the old record outlives whatever is moved below.
    const bytes = this.#records.chunks[chunkOf(before)]!;
    const start = offsetOf(before);
    const keyLength = readPrefix(bytes, start);
    const prefix = start + prefixSizeAt(bytes, start);
    const old = readPrefix(bytes, prefix);
    const key = prefix + prefixSizeAt(bytes, prefix);
    if (length === old) {
      copyBytes(bytes, key + keyLength, from, at, length);
      return;
    }
    const reference = this.#reserve(prefixSize(keyLength) + prefixSize(length) + keyLength + length);
    this.#writePair(reference, bytes, key, keyLength, from, at, length);
    // Reserving may have moved the record, so its reference is read again.
    const moved = block[word]!;
    block[word] = reference;
    this.#drop(moved, key + keyLength + old - start);
  }

  /** Removes an entry. The last entry takes its number; returns the last's old number (the same if it was the last). */
  remove(entry: number): number {
    const block = this.#blocks[entry >>> BLOCK_BITS]!;
    const word = (entry & (BLOCK - 1)) * 3;
    const reference = block[word]!;
    this.#unlink(entry, block[word + 1]!);
    const last = this.size - 1;
    if (entry !== last) {
      const lastBlock = this.#blocks[last >>> BLOCK_BITS]!;
      const lastWord = (last & (BLOCK - 1)) * 3;
      const hash = lastBlock[lastWord + 1]!;
      const slots = this.#segment(hash).slots;
      const slot = this.#slotOf(slots, last, hash);
      slots[slot] = ((hash << TAG_SHIFT) & ~ENTRY_MASK) | (entry + 1);
      block[word] = lastBlock[lastWord]!;
      block[word + 1] = hash;
      block[word + 2] = lastBlock[lastWord + 2]!;
    }
    this.size = last;
    this.#drop(reference, recordSize(this.#records.chunks[chunkOf(reference)]!, offsetOf(reference), this.#valued));
    this.#shrink();
    return last;
  }

  /** A copy with the same entry numbers and tags. */
  clone(): ByteTable {
    const copy = new ByteTable(this.#hasher, this.#valued);
    for (let entry = 0; entry < this.size; entry++) {
      const word = (entry & (BLOCK - 1)) * 3;
      const block = this.#blocks[entry >>> BLOCK_BITS]!;
      const bytes = this.#records.chunks[chunkOf(block[word]!)]!;
      const start = offsetOf(block[word]!);
      const size = recordSize(bytes, start, this.#valued);
      const reference = copy.#reserve(size);
      copyBytes(copy.#records.chunks[chunkOf(reference)]!, offsetOf(reference), bytes, start, size);
      copy.setTag(copy.#link(block[word + 1]!, reference), block[word + 2]!);
    }
    return copy;
  }

  #segment(hash: number): Segment {
    return this.#directory[this.#depth === 0 ? 0 : hash >>> (32 - this.#depth)]!;
  }

  #newSegment(slots: number, depth: number): Segment {
    this.#held += 4 * slots + ARRAY_OVERHEAD;
    return new Segment(slots, depth);
  }

  #writePair(
    reference: number,
    from: Uint8Array,
    at: number,
    length: number,
    valueFrom: Uint8Array,
    valueAt: number,
    valueLength: number,
  ): void {
    const bytes = this.#records.chunks[chunkOf(reference)]!;
    const body = writePrefix(bytes, writePrefix(bytes, offsetOf(reference), length), valueLength);
    copyBytes(bytes, body, from, at, length);
    copyBytes(bytes, body + length, valueFrom, valueAt, valueLength);
  }

  #link(hash: number, reference: number): number {
    const entry = this.size;
    if (entry >= ENTRY_MASK) throw tooLarge();
    let segment = this.#segment(hash);
    while ((segment.count + 1) * 4 > segment.slots.length * 3) {
      this.#enlarge(segment, hash);
      segment = this.#segment(hash);
    }
    const block = this.#blockFor(entry);
    const word = (entry & (BLOCK - 1)) * 3;
    block[word] = reference;
    block[word + 1] = hash;
    block[word + 2] = 0;
    this.size = entry + 1;
    place(segment, hash, entry);
    return entry;
  }

  #blockFor(entry: number): Int32Array {
    const number = entry >>> BLOCK_BITS;
    const words = ((entry & (BLOCK - 1)) + 1) * 3;
    if (number === this.#blocks.length) {
      const block = new Int32Array(3 * (number === 0 ? MIN_BLOCK : BLOCK));
      this.#blocks.push(block);
      this.#held += 4 * block.length + ARRAY_OVERHEAD;
      return block;
    }
    const block = this.#blocks[number]!;
    if (words <= block.length) return block;
    const grown = new Int32Array(block.length * 2);
    grown.set(block);
    this.#blocks[number] = grown;
    this.#held += 4 * block.length;
    return grown;
  }

  #slotOf(slots: Int32Array, entry: number, hash: number): number {
    const mask = slots.length - 1;
    let i = hash & mask;
    while ((slots[i]! & ENTRY_MASK) !== entry + 1) i = (i + 1) & mask;
    return i;
  }

  /** Frees an entry's slot and moves back what probed past it, so that no tombstones are needed. */
  #unlink(entry: number, hash: number): void {
    const segment = this.#segment(hash);
    const slots = segment.slots;
    const mask = slots.length - 1;
    let hole = this.#slotOf(slots, entry, hash);
    for (let i = (hole + 1) & mask; slots[i] !== 0; i = (i + 1) & mask) {
      const home = this.hashOf((slots[i]! & ENTRY_MASK) - 1) & mask;
      if (((i - home) & mask) >= ((i - hole) & mask)) {
        slots[hole] = slots[i]!;
        hole = i;
      }
    }
    slots[hole] = 0;
    segment.count--;
  }

  /** Doubles a segment, or splits it in two once it has its full size. */
  #enlarge(segment: Segment, hash: number): void {
    const slots = segment.slots;
    if (slots.length < MAX_SLOTS) {
      segment.slots = new Int32Array(slots.length * 2);
      segment.count = 0;
      this.#held += 4 * slots.length;
      this.#deal(slots, segment, segment, 0);
      return;
    }
    if (segment.depth === MAX_DEPTH) throw tooLarge();
    if (segment.depth === this.#depth) {
      const directory: Segment[] = [];
      for (const each of this.#directory) directory.push(each, each);
      this.#directory = directory;
      this.#held += 4 * directory.length;
      this.#depth++;
    }
    const depth = segment.depth + 1;
    const low = this.#newSegment(MAX_SLOTS, depth);
    const high = this.#newSegment(MAX_SLOTS, depth);
    this.#held -= 4 * MAX_SLOTS + ARRAY_OVERHEAD;
    this.#deal(slots, low, high, 32 - depth);
    const span = 1 << (this.#depth - depth);
    const first = (hash >>> (32 - this.#depth)) & ~(2 * span - 1);
    this.#directory.fill(low, first, first + span);
    this.#directory.fill(high, first + span, first + 2 * span);
  }

  /** Places the entries of `slots` anew: into `high` where bit `bit` of the hash is set, else into `low`. */
  #deal(slots: Int32Array, low: Segment, high: Segment, bit: number): void {
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i]!;
      if (slot === 0) continue;
      const entry = (slot & ENTRY_MASK) - 1;
      const hash = this.hashOf(entry);
      place(((hash >>> bit) & 1) === 1 ? high : low, hash, entry);
    }
  }

  /** Gives slots and blocks back once they are far too many; the cost is that of the few entries left. */
  #shrink(): void {
    const blocks = this.#blocks.length;
    if (blocks > 1 && this.size + BLOCK < (blocks - 1) * BLOCK) {
      this.#held -= 4 * this.#blocks.pop()!.length + ARRAY_OVERHEAD;
    }
    const segments = 1 << this.#depth;
    const slots = this.#directory[0]!.slots.length * segments;
    if (slots <= MIN_SLOTS * 4 || this.size * 32 > slots) return;
    this.#held -= new Set(this.#directory).size * (4 * (slots / segments) + ARRAY_OVERHEAD);
    if (segments > 1) this.#held -= 8 * segments;
    this.#depth = 0;
    this.#directory = [this.#newSegment(Math.min(MAX_SLOTS, slots / 8), 0)];
    for (let entry = 0; entry < this.size; entry++) {
      const hash = this.hashOf(entry);
      let segment = this.#segment(hash);
      while ((segment.count + 1) * 4 > segment.slots.length * 3) {
        this.#enlarge(segment, hash);
        segment = this.#segment(hash);
      }
      place(segment, hash, entry);
    }
  }

  #reserve(size: number): number {
    const crowded = this.#records.crowded(size);
    if (crowded >= 0) this.#evacuate(crowded);
    return this.#records.reserve(size);
  }

  #drop(reference: number, size: number): void {
    const sparse = this.#records.drop(reference, size);
    if (sparse >= 0) this.#evacuate(sparse);
  }

  /** Moves the living records of a chunk elsewhere and frees it. A record lives if its entry still refers to it. */
  #evacuate(chunk: number): void {
    const records = this.#records;
    const bytes = records.chunks[chunk]!;
    const end = records.endOf(chunk);
    records.retire(chunk);
    for (let at = 0; at < end; ) {
      const size = recordSize(bytes, at, this.#valued);
      const length = readPrefix(bytes, at);
      let key = at + prefixSizeAt(bytes, at);
      if (this.#valued) key += prefixSizeAt(bytes, key);
      const entry = this.find(this.#hasher.hash(bytes, key, length), bytes, key, length);
      if (entry >= 0) {
        const block = this.#blocks[entry >>> BLOCK_BITS]!;
        const word = (entry & (BLOCK - 1)) * 3;
        if (block[word] === referenceTo(chunk, at)) {
          const reference = records.reserve(size);
          copyBytes(records.chunks[chunkOf(reference)]!, offsetOf(reference), bytes, at, size);
          block[word] = reference;
        }
      }
      at += size;
    }
    records.close(chunk);
  }
}

function place(segment: Segment, hash: number, entry: number): void {
  const slots = segment.slots;
  const mask = slots.length - 1;
  let i = hash & mask;
  while (slots[i] !== 0) i = (i + 1) & mask;
  slots[i] = ((hash << TAG_SHIFT) & ~ENTRY_MASK) | (entry + 1);
  segment.count++;
}

/** Bytes of the record at `at`, prefixes and all. */
function recordSize(bytes: Uint8Array, at: number, valued: boolean): number {
  const prefix = prefixSizeAt(bytes, at);
  const key = readPrefix(bytes, at);
  if (!valued) return prefix + key;
  return prefix + prefixSizeAt(bytes, at + prefix) + key + readPrefix(bytes, at + prefix);
}
