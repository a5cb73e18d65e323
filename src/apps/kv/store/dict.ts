/**
 * A dictionary from bytes to bytes: open addressing with linear probing over entries in the arena, rehashed in small steps.
 * It serves the keyspace and the larger collections; it touches its tables and the arena only.
 */
import { copyBytes, copyWords, sameWords, viewOf } from '../bytes.ts';
import { type Arena, CHUNK_SHIFT, UNIT_MASK } from './arena.ts';
import type { Hasher } from './hash.ts';

/** Table slots are pairs of words: the hash of the key, and the entry's reference (0 empty, -1 moved away or removed). */
const EMPTY = 0;
const GONE = -1;
const MIN_SLOTS = 8;
/** Slots moved by each change while a rehash is under way. */
const REHASH_STEP = 16;
/** Tables up to this many words are freed when they are cleared. */
const CLEAR_AT_ONCE = 1024;
const NO_TABLE = new Int32Array(0);

/**
 * An entry is a block of the arena: `[allocator's word][key length][value length][extra words…][key][value]`. It is named by
 * its reference, an integer that holds until the entry is removed or `resize`d. Fields are plain for the engine's fast path.
 */
export class Dict {
  readonly arena: Arena;
  readonly hasher: Hasher;
  /** Offset of the key in an entry, in bytes. */
  readonly keyOffset: number;
  /** Number of entries. */
  count = 0;
  /** Bytes of the entries' blocks. */
  entryBytes = 0;
  /** Set by the last `find`: the hash of its key and, if it found the key, its slot in the newer table (or -1). */
  hash = 0;
  slot = -1;
  table: Int32Array;
  mask: number;
  /** The older table while a rehash is under way; slots below `#moved` are done. */
  old: Int32Array | null = null;
  oldMask = 0;
  #moved = 0;
  #oldCount = 0;

  /** `extraWords` words of 32 bits in each entry belong to the owner: see `extra`. */
  constructor(arena: Arena, hasher: Hasher, extraWords = 0) {
    this.arena = arena;
    this.hasher = hasher;
    this.keyOffset = 12 + extraWords * 4;
    this.table = NO_TABLE;
    this.mask = -1;
  }

  /** Bytes held: entries and tables. */
  get bytes(): number {
    return this.entryBytes + this.tableBytes;
  }

  get tableBytes(): number {
    return (this.table.length + (this.old === null ? 0 : this.old.length)) * 4;
  }

  /** Slots of the newer table and of the older one, for DEBUG and the tests. */
  get slots(): number {
    return this.mask + 1 + (this.old === null ? 0 : this.oldMask + 1);
  }

  // --- finding

  /** The entry with this key; 0 if there is none. */
  find(key: Uint8Array, offset: number, length: number): number {
    const hash = this.hasher.hash(key, offset, length);
    this.hash = hash;
    if (this.count === 0) return EMPTY;
    const { table, mask } = this;
    const { words, bytes, views } = this.arena;
    // the comparison is written out here: V8 would not inline it, and this is the hottest loop of all
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const ref = table[(slot << 1) + 1]!;
      if (ref === EMPTY) break;
      if (table[slot << 1] !== hash) continue;
      const chunk = ref >>> CHUNK_SHIFT;
      const unit = ref & UNIT_MASK;
      if (words[chunk]![(unit << 1) + 1] !== length) continue;
      if (!sameWords(key, viewOf(key), offset, bytes[chunk]!, views[chunk]!, (unit << 3) + this.keyOffset, length))
        continue;
      this.slot = slot;
      return ref;
    }
    return this.old === null ? EMPTY : this.#findOld(hash, key, offset, length);
  }

  #same(ref: number, key: Uint8Array, offset: number, length: number): boolean {
    const chunk = ref >>> CHUNK_SHIFT;
    const unit = ref & UNIT_MASK;
    if (this.arena.words[chunk]![(unit << 1) + 1] !== length) return false;
    const { bytes, views } = this.arena;
    return sameWords(key, viewOf(key), offset, bytes[chunk]!, views[chunk]!, (unit << 3) + this.keyOffset, length);
  }

  #findOld(hash: number, key: Uint8Array, offset: number, length: number): number {
    const table = this.old!;
    const mask = this.oldMask;
    let slot = hash & mask;
    for (;;) {
      const ref = table[(slot << 1) + 1]!;
      if (ref === EMPTY) return EMPTY;
      if (ref !== GONE && table[slot << 1] === hash && this.#same(ref, key, offset, length)) {
        this.slot = -1;
        return ref;
      }
      slot = (slot + 1) & mask;
    }
  }

  /** True if an entry with this hash and reference is present: tells whether a remembered entry is still there. */
  holds(hash: number, ref: number): boolean {
    if (this.count === 0) return false;
    for (let slot = hash & this.mask; this.table[(slot << 1) + 1] !== EMPTY; slot = (slot + 1) & this.mask) {
      if (this.table[(slot << 1) + 1] === ref) return this.table[slot << 1] === hash;
    }
    const old = this.old;
    if (old === null) return false;
    for (let slot = hash & this.oldMask; old[(slot << 1) + 1] !== EMPTY; slot = (slot + 1) & this.oldMask) {
      if (old[(slot << 1) + 1] === ref) return old[slot << 1] === hash;
    }
    return false;
  }

  // --- changing

  /** Add a key that `find` just did not find, with room for a value of `valueLength` bytes. Throws ArenaFullError. */
  insert(key: Uint8Array, offset: number, length: number, valueLength: number): number {
    const hash = this.hash;
    if (this.old !== null) this.rehashStep(REHASH_STEP);
    else if ((this.count + 1) * 8 > (this.mask + 1) * 5)
      this.#resizeTable(this.mask < 0 ? MIN_SLOTS : (this.mask + 1) * 2);
    const head = this.keyOffset;
    const ref = this.arena.allocate(head - 4 + length + valueLength);
    const chunk = ref >>> CHUNK_SHIFT;
    const unit = ref & UNIT_MASK;
    const words = this.arena.words[chunk]!;
    const word = unit << 1;
    this.entryBytes += words[word]! & ~7;
    words[word + 1] = length;
    words[word + 2] = valueLength;
    for (let i = 3; i < head >> 2; i++) words[word + i] = 0;
    const { bytes, views } = this.arena;
    copyWords(key, viewOf(key), offset, length, bytes[chunk]!, views[chunk]!, (unit << 3) + head);
    this.#place(hash, ref);
    this.count++;
    return ref;
  }

  #place(hash: number, ref: number): void {
    const table = this.table;
    const mask = this.mask;
    let slot = hash & mask;
    while (table[(slot << 1) + 1] !== EMPTY) slot = (slot + 1) & mask;
    table[slot << 1] = hash;
    table[(slot << 1) + 1] = ref;
    this.slot = slot;
  }

  /** Find or insert, and write the value; true if the key is new. */
  set(
    key: Uint8Array,
    offset: number,
    length: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
  ): boolean {
    const found = this.find(key, offset, length);
    if (found !== EMPTY) {
      this.writeValue(found, value, valueOffset, valueLength);
      return false;
    }
    const ref = this.insert(key, offset, length, valueLength);
    this.fill(ref, value, valueOffset, valueLength);
    return true;
  }

  /** Replace the value of an entry; gives its reference, which is a new one if it had to move. Throws ArenaFullError. */
  writeValue(ref: number, value: Uint8Array, offset: number, length: number): number {
    ref = this.resize(ref, length, 0, 0);
    this.fill(ref, value, offset, length);
    return ref;
  }

  /** Write the bytes of a value of this length. */
  fill(ref: number, value: Uint8Array, offset: number, length: number): void {
    const chunk = ref >>> CHUNK_SHIFT;
    const { bytes, views, words } = this.arena;
    const unit = ref & UNIT_MASK;
    const at = (unit << 3) + this.keyOffset + words[chunk]![(unit << 1) + 1]!;
    copyWords(value, viewOf(value), offset, length, bytes[chunk]!, views[chunk]!, at);
  }

  /**
   * Give the value of an entry a length; gives the entry's reference, which is a new one if it had to move. The first `keep`
   * bytes of the value stay. `slack` more bytes are reserved if it moves. Throws ArenaFullError and changes nothing then.
   */
  resize(ref: number, length: number, keep: number, slack: number): number {
    const words = this.arena.words[ref >>> CHUNK_SHIFT]!;
    const word = (ref & UNIT_MASK) << 1;
    const fixed = this.keyOffset + words[word + 1]!;
    const room = (words[word]! & ~7) - fixed;
    if (length <= room && (room <= 64 || room >> 1 <= length + slack)) {
      words[word + 2] = length;
      return ref;
    }
    const moved = this.arena.allocate(fixed - 4 + length + slack);
    const toWords = this.arena.words[moved >>> CHUNK_SHIFT]!;
    const to = (moved & UNIT_MASK) << 1;
    this.entryBytes += (toWords[to]! & ~7) - (words[word]! & ~7);
    const from = (ref & UNIT_MASK) << 3;
    const start = ((moved & UNIT_MASK) << 3) + 4;
    copyBytes(this.chunk(ref), from + 4, fixed - 4 + keep, this.chunk(moved), start);
    toWords[to + 2] = length;
    this.#rename(ref, moved);
    this.arena.free(ref);
    return moved;
  }

  /** Put a new reference where an old one stands in the tables. */
  #rename(ref: number, next: number): void {
    if (this.slot >= 0 && this.table[(this.slot << 1) + 1] === ref) {
      this.table[(this.slot << 1) + 1] = next;
      return;
    }
    const at = this.#locate(ref);
    if (this.slot >= 0) this.table[(at << 1) + 1] = next;
    else this.old![(at << 1) + 1] = next;
  }

  /** Slot of an entry known to be present; leaves `slot` at it, or at -1 if it is in the older table. */
  #locate(ref: number): number {
    const hash = this.hasher.hash(this.chunk(ref), this.keyStart(ref), this.keyLength(ref));
    for (let slot = hash & this.mask; this.table[(slot << 1) + 1] !== EMPTY; slot = (slot + 1) & this.mask) {
      if (this.table[(slot << 1) + 1] === ref) {
        this.slot = slot;
        return slot;
      }
    }
    const old = this.old!;
    this.slot = -1;
    for (let slot = hash & this.oldMask; ; slot = (slot + 1) & this.oldMask)
      if (old[(slot << 1) + 1] === ref) return slot;
  }

  /** Remove a key; false if there was none. */
  remove(key: Uint8Array, offset: number, length: number): boolean {
    const ref = this.find(key, offset, length);
    if (ref === EMPTY) return false;
    this.removeEntry(ref);
    return true;
  }

  /** Remove an entry and free its block. */
  removeEntry(ref: number): void {
    const at = this.slot >= 0 && this.table[(this.slot << 1) + 1] === ref ? this.slot : this.#locate(ref);
    if (this.slot >= 0) this.#closeGap(at);
    else {
      this.old![(at << 1) + 1] = GONE;
      this.#oldCount--;
    }
    this.slot = -1;
    this.count--;
    this.entryBytes -= this.arena.sizeOf(ref);
    this.arena.free(ref);
    if (this.old !== null) this.rehashStep(REHASH_STEP);
    else if (this.mask >= MIN_SLOTS && this.count * 8 < this.mask)
      this.#resizeTable(Math.max(MIN_SLOTS, (this.mask + 1) >> 1));
  }

  /** Deletion by shifting back: entries behind the gap move into it where their probe would pass it. */
  #closeGap(gap: number): void {
    const table = this.table;
    const mask = this.mask;
    let slot = gap;
    for (;;) {
      slot = (slot + 1) & mask;
      const ref = table[(slot << 1) + 1]!;
      if (ref === EMPTY) break;
      const home = table[slot << 1]! & mask;
      if (((slot - home) & mask) < ((slot - gap) & mask)) continue;
      table[gap << 1] = table[slot << 1]!;
      table[(gap << 1) + 1] = ref;
      gap = slot;
    }
    table[(gap << 1) + 1] = EMPTY;
  }

  /** Remove every entry. The blocks of a large dictionary are freed bit by bit: see Arena.reap. */
  clear(): void {
    const arena = this.arena;
    for (const table of this.detach()) {
      if (table.length > CLEAR_AT_ONCE) arena.discard(table);
      else for (let i = 1; i < table.length; i += 2) if (table[i]! > 0) arena.free(table[i]!);
    }
  }

  /** Become empty at once and hand the tables over: whoever takes them frees the entries. */
  detach(): Int32Array[] {
    const tables = this.old === null ? [this.table] : [this.table, this.old];
    this.#empty();
    return tables;
  }

  #empty(): void {
    this.table = NO_TABLE;
    this.mask = -1;
    this.old = null;
    this.#moved = 0;
    this.#oldCount = 0;
    this.count = 0;
    this.entryBytes = 0;
    this.slot = -1;
  }

  // --- rehash

  /** Make room for `count` entries at once, to spare rehashes where the number is known. Only while empty. */
  reserve(count: number): void {
    if (this.count > 0 || this.old !== null) return;
    let slots = MIN_SLOTS;
    while (slots * 5 < count * 8) slots *= 2;
    this.table = new Int32Array(slots * 2);
    this.mask = slots - 1;
  }

  #resizeTable(slots: number): void {
    const table = new Int32Array(slots * 2);
    if (this.count > 0) {
      this.old = this.table;
      this.oldMask = this.mask;
      this.#oldCount = this.count;
      this.#moved = 0;
    }
    this.table = table;
    this.mask = slots - 1;
    this.slot = -1;
    if (this.old !== null) this.rehashStep(REHASH_STEP);
  }

  /** Move up to `slots` slots of the older table; true while a rehash remains under way. */
  rehashStep(slots: number): boolean {
    const old = this.old;
    if (old === null) return false;
    const end = Math.min(this.oldMask + 1, this.#moved + slots);
    for (let slot = this.#moved; slot < end; slot++) {
      const ref = old[(slot << 1) + 1]!;
      if (ref <= EMPTY) continue;
      this.#place(old[slot << 1]!, ref);
      old[(slot << 1) + 1] = GONE;
      this.#oldCount--;
    }
    this.#moved = end;
    this.slot = -1;
    if (this.#oldCount > 0) return true;
    this.old = null;
    return false;
  }

  // --- entries

  /** The bytes that hold an entry: `keyStart` and `valueStart` are offsets in it. */
  chunk(ref: number): Uint8Array {
    return this.arena.bytes[ref >>> CHUNK_SHIFT]!;
  }

  /** A view over the same bytes. */
  view(ref: number): DataView {
    return this.arena.views[ref >>> CHUNK_SHIFT]!;
  }

  keyStart(ref: number): number {
    return ((ref & UNIT_MASK) << 3) + this.keyOffset;
  }

  keyLength(ref: number): number {
    return this.arena.words[ref >>> CHUNK_SHIFT]![((ref & UNIT_MASK) << 1) + 1]!;
  }

  valueStart(ref: number): number {
    return ((ref & UNIT_MASK) << 3) + this.keyOffset + this.keyLength(ref);
  }

  valueLength(ref: number): number {
    return this.arena.words[ref >>> CHUNK_SHIFT]![((ref & UNIT_MASK) << 1) + 2]!;
  }

  /** Owner's word `index` of an entry; new entries have 0. */
  extra(ref: number, index: number): number {
    return this.arena.words[ref >>> CHUNK_SHIFT]![((ref & UNIT_MASK) << 1) + 3 + index]!;
  }

  setExtra(ref: number, index: number, word: number): void {
    this.arena.words[ref >>> CHUNK_SHIFT]![((ref & UNIT_MASK) << 1) + 3 + index] = word;
  }

  // --- walking

  /** The first occupied slot, -1 if there is none. No change to the dictionary between `first` and the last `next`. */
  first(): number {
    return this.next(-1);
  }

  /** The next occupied slot, -1 at the end. Slots of the older table follow those of the newer. */
  next(slot: number): number {
    const slots = this.mask + 1;
    for (slot++; slot < slots; slot++) if (this.table[(slot << 1) + 1] !== EMPTY) return slot;
    const old = this.old;
    if (old === null) return -1;
    for (; slot < slots + this.oldMask + 1; slot++) if (old[((slot - slots) << 1) + 1]! > 0) return slot;
    return -1;
  }

  /** The entry in an occupied slot. */
  entryAt(slot: number): number {
    return slot <= this.mask ? this.table[(slot << 1) + 1]! : this.old![((slot - this.mask - 1) << 1) + 1]!;
  }
}
