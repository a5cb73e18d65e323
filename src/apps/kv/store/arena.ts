/**
 * Memory for keys and values: a two-level segregated fit allocator (TLSF: Masmano, Ripoll, Crespo, Real, 2004) over
 * chunks of 1 MiB that come and go with the data. Constant time, neighbours coalesce at once, no copy when it grows.
 * Pure: it touches only the ArrayBuffers it makes.
 */

/** log2 of a chunk's size in units of 8 bytes. */
export const CHUNK_SHIFT = 17;
export const UNIT_MASK = (1 << CHUNK_SHIFT) - 1;
const CHUNK_BYTES = 1 << (CHUNK_SHIFT + 3);
/** Chunk numbers fit the 31 bits of a reference: at most 16 GiB in ordinary chunks. */
const CHUNKS_MAX = 1 << (31 - CHUNK_SHIFT);
/** A block over this gets a chunk of its own. */
const SHARED_BLOCK_MAX = CHUNK_BYTES >>> 1;
/** The largest payload: a string of 512 MiB with a key. */
export const PAYLOAD_MAX = 0x3fffffff;

const MIN_BLOCK = 16;
const FREE = 1;
const PREVIOUS_FREE = 2;
/** The block has a chunk of its own. */
const ALONE = 4;
const SIZE = ~7;
const SECOND_LEVEL = 16;
const FIRST_LEVEL = CHUNK_SHIFT - 2;

const NO_BYTES = new Uint8Array(0);
const NO_WORDS = new Int32Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

/** No room: all chunk numbers in use, or the process cannot get more memory. Becomes an OOM reply. */
export class ArenaFullError extends Error {
  override readonly name = 'ArenaFullError';
}

/**
 * A reference is `chunk << CHUNK_SHIFT | unit`, never 0: it names a block whose bytes begin at `unit * 8` of the chunk. The
 * first word of a block (4 bytes) is the allocator's; the rest is the owner's. `bytes` and `words` are plain because the
 * dictionary reads them on the hot path.
 */
export class Arena {
  /** Views of each chunk, by chunk number; empty where there is none. */
  readonly bytes: Uint8Array[] = [];
  readonly words: Int32Array[] = [];
  readonly views: DataView[] = [];
  /** Bytes in blocks handed out, with their first word. */
  used = 0;
  /** Bytes in chunks. */
  committed = 0;
  #heads = new Int32Array(FIRST_LEVEL * SECOND_LEVEL);
  #firstBits = 0;
  #secondBits = new Int32Array(FIRST_LEVEL);
  #freeChunks: number[] = [];
  /** Ordinary chunks wholly free; one is kept so that a size at the edge does not allocate again and again. */
  #spare = 0;
  /** Tables of discarded dictionaries whose entries are still to be freed, and how far the last one is done. */
  #discarded: Int32Array[] = [];
  #discardedDone = 0;

  /** A block with room for `payload` bytes after its first word. Throws ArenaFullError. */
  allocate(payload: number): number {
    if (payload > PAYLOAD_MAX) throw new ArenaFullError(`a block of ${payload} bytes`);
    const size = payload <= MIN_BLOCK - 4 ? MIN_BLOCK : (payload + 11) & SIZE;
    if (size > SHARED_BLOCK_MAX) return this.#allocateAlone(size);
    let list = this.#search(size >>> 3);
    if (list < 0) {
      this.#addChunk();
      list = this.#search(size >>> 3);
    }
    const ref = this.#heads[list]!;
    const words = this.words[ref >>> CHUNK_SHIFT]!;
    const at = (ref & UNIT_MASK) << 1;
    const have = words[at]! & SIZE;
    this.#unlink(ref, list);
    if (have === CHUNK_BYTES - 16) this.#spare--;
    const rest = have - size;
    if (rest >= MIN_BLOCK) {
      words[at] = size;
      const restAt = at + (size >>> 2);
      words[restAt] = rest | FREE;
      words[restAt + (rest >>> 2) - 1] = rest;
      this.#link(ref + (size >>> 3), rest >>> 3);
      this.used += size;
    } else {
      words[at] = have;
      words[at + (have >>> 2)]! &= ~PREVIOUS_FREE;
      this.used += have;
    }
    return ref;
  }

  /** Give a block back. */
  free(ref: number): void {
    const chunk = ref >>> CHUNK_SHIFT;
    const words = this.words[chunk]!;
    let at = (ref & UNIT_MASK) << 1;
    const head = words[at]!;
    let size = head & SIZE;
    this.used -= size;
    if ((head & ALONE) !== 0) {
      this.#dropChunk(chunk);
      return;
    }
    const next = at + (size >>> 2);
    const nextHead = words[next]!;
    if ((nextHead & FREE) !== 0) {
      const nextSize = nextHead & SIZE;
      this.#unlink(ref + (size >>> 3), this.#listOf(nextSize >>> 3));
      size += nextSize;
    } else words[next] = nextHead | PREVIOUS_FREE;
    if ((head & PREVIOUS_FREE) !== 0) {
      const before = words[at - 1]!;
      at -= before >>> 2;
      ref -= before >>> 3;
      this.#unlink(ref, this.#listOf(before >>> 3));
      size += before;
    }
    if (size === CHUNK_BYTES - 16) {
      if (this.#spare > 0) {
        this.#dropChunk(chunk);
        return;
      }
      this.#spare++;
    }
    words[at] = size | FREE;
    words[at + (size >>> 2) - 1] = size;
    this.#link(ref, size >>> 3);
  }

  /** Bytes a block occupies, its first word included. */
  sizeOf(ref: number): number {
    return this.words[ref >>> CHUNK_SHIFT]![(ref & UNIT_MASK) << 1]! & SIZE;
  }

  /** Take over a dictionary's table (pairs of a hash and a reference): `reap` frees its entries bit by bit. */
  discard(table: Int32Array): void {
    if (table.length > 0) this.#discarded.unshift(table);
  }

  /** Free the entries of at most `slots` slots of discarded tables; true while there are more. */
  reap(slots: number): boolean {
    while (this.#discarded.length > 0) {
      const table = this.#discarded[this.#discarded.length - 1]!;
      const end = Math.min(table.length, this.#discardedDone + slots * 2);
      for (let i = this.#discardedDone + 1; i < end; i += 2) if (table[i]! > 0) this.free(table[i]!);
      if (end < table.length) {
        this.#discardedDone = end;
        return true;
      }
      slots -= (end - this.#discardedDone) >> 1;
      this.#discarded.pop();
      this.#discardedDone = 0;
      if (slots <= 0) return this.#discarded.length > 0;
    }
    return false;
  }

  /** Forget every block and chunk at once. */
  reset(): void {
    this.bytes.length = 0;
    this.words.length = 0;
    this.views.length = 0;
    this.#freeChunks.length = 0;
    this.#heads.fill(0);
    this.#secondBits.fill(0);
    this.#firstBits = 0;
    this.#discarded.length = 0;
    this.#discardedDone = 0;
    this.#spare = 0;
    this.used = 0;
    this.committed = 0;
  }

  // --- chunks

  #newChunk(bytes: number): number {
    const free = this.#freeChunks;
    if (free.length === 0 && this.bytes.length >= CHUNKS_MAX) throw new ArenaFullError('all chunks are in use');
    let buffer: ArrayBuffer;
    try {
      buffer = new ArrayBuffer(bytes);
    } catch {
      throw new ArenaFullError(`no memory for a chunk of ${bytes} bytes`);
    }
    const chunk = free.length > 0 ? free.pop()! : this.bytes.length;
    this.bytes[chunk] = new Uint8Array(buffer);
    this.words[chunk] = new Int32Array(buffer);
    this.views[chunk] = new DataView(buffer);
    this.committed += bytes;
    return chunk;
  }

  #dropChunk(chunk: number): void {
    this.committed -= this.bytes[chunk]!.length;
    this.bytes[chunk] = NO_BYTES;
    this.words[chunk] = NO_WORDS;
    this.views[chunk] = NO_VIEW;
    this.#freeChunks.push(chunk);
  }

  /** Unit 0 is left out so that no reference is 0; the last unit holds a used block of size 0 that ends coalescing. */
  #addChunk(): void {
    const chunk = this.#newChunk(CHUNK_BYTES);
    const words = this.words[chunk]!;
    const size = CHUNK_BYTES - 16;
    words[2] = size | FREE;
    words[2 + (size >>> 2) - 1] = size;
    words[2 + (size >>> 2)] = PREVIOUS_FREE;
    this.#spare++;
    this.#link((chunk << CHUNK_SHIFT) | 1, size >>> 3);
  }

  #allocateAlone(size: number): number {
    const chunk = this.#newChunk(size + 8);
    this.words[chunk]![2] = size | ALONE;
    this.used += size;
    return (chunk << CHUNK_SHIFT) | 1;
  }

  // --- free lists: words 1 and 2 of a free block are the next and the previous of its list, its last word is its size

  #listOf(units: number): number {
    if (units < SECOND_LEVEL) return units;
    const first = 28 - Math.clz32(units);
    return (first << 4) | ((units >>> (first - 1)) & 15);
  }

  /** The first list that surely holds blocks of at least `units`; -1 if none does. */
  #search(units: number): number {
    if (units >= SECOND_LEVEL) units += (1 << (27 - Math.clz32(units))) - 1;
    const list = this.#listOf(units);
    const first = list >>> 4;
    const second = this.#secondBits[first]! & (-1 << (list & 15));
    if (second !== 0) return (first << 4) | (31 - Math.clz32(second & -second));
    const larger = this.#firstBits & (-2 << first);
    if (larger === 0) return -1;
    const next = 31 - Math.clz32(larger & -larger);
    const bits = this.#secondBits[next]!;
    return (next << 4) | (31 - Math.clz32(bits & -bits));
  }

  #link(ref: number, units: number): void {
    const list = this.#listOf(units);
    const words = this.words[ref >>> CHUNK_SHIFT]!;
    const at = (ref & UNIT_MASK) << 1;
    const head = this.#heads[list]!;
    words[at + 1] = head;
    words[at + 2] = 0;
    if (head !== 0) this.words[head >>> CHUNK_SHIFT]![((head & UNIT_MASK) << 1) + 2] = ref;
    this.#heads[list] = ref;
    this.#secondBits[list >>> 4]! |= 1 << (list & 15);
    this.#firstBits |= 1 << (list >>> 4);
  }

  #unlink(ref: number, list: number): void {
    const words = this.words[ref >>> CHUNK_SHIFT]!;
    const at = (ref & UNIT_MASK) << 1;
    const next = words[at + 1]!;
    const previous = words[at + 2]!;
    if (next !== 0) this.words[next >>> CHUNK_SHIFT]![((next & UNIT_MASK) << 1) + 2] = previous;
    if (previous !== 0) this.words[previous >>> CHUNK_SHIFT]![((previous & UNIT_MASK) << 1) + 1] = next;
    else {
      this.#heads[list] = next;
      if (next === 0) {
        const first = list >>> 4;
        const bits = this.#secondBits[first]! & ~(1 << (list & 15));
        this.#secondBits[first] = bits;
        if (bits === 0) this.#firstBits &= ~(1 << first);
      }
    }
  }
}
