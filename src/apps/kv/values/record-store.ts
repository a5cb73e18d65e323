/**
 * Byte records in chunks of 64 KiB that are added, never copied as a whole: room for a collection's members without a
 * pause when it grows. Pure; a record is named by a 32-bit reference: chunk number in the high half, offset in the low.
 */
import { ArenaFullError } from '../store/arena.ts';
import { EMPTY } from './bytes.ts';

const CHUNK_BITS = 16;
const CHUNK_BYTES = 1 << CHUNK_BITS;
const OFFSET_MASK = CHUNK_BYTES - 1;
const MAX_CHUNKS = 1 << (32 - CHUNK_BITS);
const MIN_BYTES = 128;
/** What a chunk costs beside its bytes: the typed array, its buffer, the entries in the lists below. */
const CHUNK_OVERHEAD = 200;

export class RecordStore {
  // Plain, because byte-table.ts reads it in its lookup.
  chunks: Uint8Array[] = [];
  /** Memory held, in bytes. */
  held = 0;
  #live: number[] = [];
  #end: number[] = [];
  #free: number[] = [];
  #current = -1;

  /** Where `size` new bytes may be written. A record over half a chunk has one of its own size to itself. */
  reserve(size: number): number {
    if (size > CHUNK_BYTES / 2) {
      const alone = this.#open(size);
      this.#live[alone] = size;
      this.#end[alone] = size;
      return alone << CHUNK_BITS;
    }
    let current = this.#current;
    if (current < 0) {
      this.#current = current = this.#open(this.chunks.length === 0 ? Math.max(MIN_BYTES, size) : CHUNK_BYTES);
    } else if (this.#end[current]! + size > this.chunks[current]!.length) {
      if (this.chunks[current]!.length < CHUNK_BYTES && this.#end[current]! + size <= CHUNK_BYTES) {
        this.#grow(current, size);
      } else {
        this.#current = current = this.#open(CHUNK_BYTES);
      }
    }
    const at = this.#end[current]!;
    this.#end[current] = at + size;
    this.#live[current]! += size;
    return (current << CHUNK_BITS) | at;
  }

  /** The chunk that should be emptied before `size` more bytes are reserved, or -1: it is full and mostly dead. */
  crowded(size: number): number {
    const current = this.#current;
    if (current < 0) return -1;
    const end = this.#end[current]!;
    if (end + size <= this.chunks[current]!.length || end < MIN_BYTES / 2) return -1;
    return this.#live[current]! * 2 <= end ? current : -1;
  }

  /** Gives back a record. Returns the number of a chunk that has become mostly dead and should be emptied, or -1. */
  drop(reference: number, size: number): number {
    const chunk = reference >>> CHUNK_BITS;
    const live = this.#live[chunk]! - size;
    this.#live[chunk] = live;
    if (chunk === this.#current) {
      if (live === 0) this.#end[chunk] = 0;
      return -1;
    }
    if (live === 0) {
      this.close(chunk);
      return -1;
    }
    return live * 2 <= this.#end[chunk]! ? chunk : -1;
  }

  /** Offset behind the last record of a chunk. */
  endOf(chunk: number): number {
    return this.#end[chunk]!;
  }

  /** Makes the next reserve use another chunk than this. */
  retire(chunk: number): void {
    if (chunk !== this.#current) return;
    // A store that has one small chunk goes on with a small one.
    this.#current = this.#open(this.chunks[chunk]!.length);
  }

  /** Frees a chunk in which nothing lives any more. */
  close(chunk: number): void {
    this.held -= this.chunks[chunk]!.length + CHUNK_OVERHEAD;
    this.chunks[chunk] = EMPTY;
    this.#free.push(chunk);
    if (chunk === this.#current) this.#current = -1;
  }

  #open(length: number): number {
    const bytes = allocateBytes(length);
    let chunk = this.#free.pop();
    if (chunk === undefined) {
      chunk = this.chunks.length;
      if (chunk === MAX_CHUNKS) throw tooLarge();
      this.chunks.push(EMPTY);
      this.#live.push(0);
      this.#end.push(0);
    }
    this.chunks[chunk] = bytes;
    this.#live[chunk] = 0;
    this.#end[chunk] = 0;
    this.held += length + CHUNK_OVERHEAD;
    return chunk;
  }

  #grow(chunk: number, size: number): void {
    const before = this.chunks[chunk]!;
    const grown = new Uint8Array(Math.min(CHUNK_BYTES, Math.max(before.length * 2, this.#end[chunk]! + size)));
    grown.set(before);
    this.chunks[chunk] = grown;
    this.held += grown.length - before.length;
  }
}

export function chunkOf(reference: number): number {
  return reference >>> CHUNK_BITS;
}

export function offsetOf(reference: number): number {
  return reference & OFFSET_MASK;
}

export function referenceTo(chunk: number, offset: number): number {
  return (chunk << CHUNK_BITS) | offset;
}

/** For a collection at the bounds of its store: becomes an OOM reply. */
export function tooLarge(): ArenaFullError {
  return new ArenaFullError('a collection has at most 2 GiB of members and 134 million of them');
}

/** Zeroed memory. Throws ArenaFullError. */
export function allocateBytes(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new ArenaFullError(`a buffer of ${size} bytes`);
  }
}

/** Bytes of a length prefix: one up to 253, three up to 65535, else five. */
export function prefixSize(length: number): number {
  return length < 254 ? 1 : length < 65536 ? 3 : 5;
}

/** Bytes of the length prefix that stands at `at`. */
export function prefixSizeAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  return first < 254 ? 1 : first === 254 ? 3 : 5;
}

/** The length that the prefix at `at` says. */
export function readPrefix(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first < 254) return first;
  if (first === 254) return bytes[at + 1]! | (bytes[at + 2]! << 8);
  return bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 24);
}

/** Writes a length prefix and returns where the next byte goes. */
export function writePrefix(bytes: Uint8Array, at: number, length: number): number {
  if (length < 254) {
    bytes[at] = length;
    return at + 1;
  }
  bytes[at + 1] = length;
  bytes[at + 2] = length >>> 8;
  if (length < 65536) {
    bytes[at] = 254;
    return at + 3;
  }
  bytes[at] = 255;
  bytes[at + 3] = length >>> 16;
  bytes[at + 4] = length >>> 24;
  return at + 5;
}
