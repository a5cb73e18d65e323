/**
 * The relay's sessions: from the bytes of a client's socket address to a small integer, in order of last use.
 * Pure: bounded tables of integers and bytes; time is passed in and the sockets are somebody else's.
 */
import { SOCKADDR_BYTES } from '../address/sockaddr.ts';

const NONE = -1;

/** A hash table with chains, and a list through all its slots from the longest unused to the last used. */
export class SessionTable {
  readonly capacity: number;
  size = 0;
  readonly #addresses: Uint8Array;
  readonly #lengths: Uint8Array;
  readonly #hashes: Int32Array;
  readonly #buckets: Int32Array;
  readonly #mask: number;
  /** Next slot in the same bucket, or in the free list. */
  readonly #chain: Int32Array;
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  readonly #usedAt: Float64Array;
  readonly #seed: number;
  #free = 0;
  #oldest = NONE;
  #newest = NONE;

  /** @param seed makes which clients share a bucket unguessable */
  constructor(capacity: number, seed = 0) {
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity <= 1 << 20))
      throw new RangeError(`a relay holds 1 to ${1 << 20} sessions, not ${capacity}`);
    this.capacity = capacity;
    this.#addresses = new Uint8Array(capacity * SOCKADDR_BYTES);
    this.#lengths = new Uint8Array(capacity);
    this.#hashes = new Int32Array(capacity);
    this.#mask = (1 << (32 - Math.clz32(capacity))) - 1;
    this.#buckets = new Int32Array(this.#mask + 1).fill(NONE);
    this.#chain = Int32Array.from({ length: capacity }, (_, slot) => (slot + 1 < capacity ? slot + 1 : NONE));
    this.#older = new Int32Array(capacity).fill(NONE);
    this.#newer = new Int32Array(capacity).fill(NONE);
    this.#usedAt = new Float64Array(capacity);
    this.#seed = seed | 0;
  }

  /** The slot of the client whose address is `bytes[at .. at+length)`, or -1. */
  find(bytes: Uint8Array, at: number, length: number): number {
    const hash = this.#hash(bytes, at, length);
    for (let slot = this.#buckets[hash & this.#mask]!; slot !== NONE; slot = this.#chain[slot]!) {
      if (this.#hashes[slot] === hash && this.#is(slot, bytes, at, length)) return slot;
    }
    return NONE;
  }

  /** A slot for a client that has none, used now; -1 where all are taken. */
  insert(bytes: Uint8Array, at: number, length: number, now: number): number {
    const slot = this.#free;
    if (slot === NONE) return NONE;
    this.#free = this.#chain[slot]!;
    const base = slot * SOCKADDR_BYTES;
    for (let i = 0; i < length; i++) this.#addresses[base + i] = bytes[at + i]!;
    this.#lengths[slot] = length;
    const hash = this.#hash(bytes, at, length);
    this.#hashes[slot] = hash;
    this.#chain[slot] = this.#buckets[hash & this.#mask]!;
    this.#buckets[hash & this.#mask] = slot;
    this.#usedAt[slot] = now;
    this.#append(slot);
    this.size++;
    return slot;
  }

  /** The session was used. */
  touch(slot: number, now: number): void {
    this.#usedAt[slot] = now;
    if (slot === this.#newest) return;
    this.#unlink(slot);
    this.#append(slot);
  }

  remove(slot: number): void {
    const bucket = this.#hashes[slot]! & this.#mask;
    let before = NONE;
    for (let at = this.#buckets[bucket]!; at !== slot; at = this.#chain[at]!) before = at;
    if (before === NONE) this.#buckets[bucket] = this.#chain[slot]!;
    else this.#chain[before] = this.#chain[slot]!;
    this.#unlink(slot);
    this.#chain[slot] = this.#free;
    this.#free = slot;
    this.size--;
  }

  /** The session that has been unused for longest, or -1. */
  get oldest(): number {
    return this.#oldest;
  }

  usedAt(slot: number): number {
    return this.#usedAt[slot]!;
  }

  /** Writes the client's address at `at` and gives its length. */
  writeAddress(slot: number, into: Uint8Array, at: number): number {
    const base = slot * SOCKADDR_BYTES;
    const length = this.#lengths[slot]!;
    for (let i = 0; i < length; i++) into[at + i] = this.#addresses[base + i]!;
    return length;
  }

  #hash(bytes: Uint8Array, at: number, length: number): number {
    let hash = this.#seed ^ length;
    for (let i = 2; i < length; i++) hash = Math.imul(hash ^ bytes[at + i]!, 0x01000193);
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b3c6d);
    return hash ^ (hash >>> 13);
  }

  #is(slot: number, bytes: Uint8Array, at: number, length: number): boolean {
    if (this.#lengths[slot] !== length) return false;
    const base = slot * SOCKADDR_BYTES;
    for (let i = 0; i < length; i++) if (this.#addresses[base + i] !== bytes[at + i]) return false;
    return true;
  }

  #append(slot: number): void {
    this.#older[slot] = this.#newest;
    this.#newer[slot] = NONE;
    if (this.#newest === NONE) this.#oldest = slot;
    else this.#newer[this.#newest] = slot;
    this.#newest = slot;
  }

  #unlink(slot: number): void {
    const older = this.#older[slot]!;
    const newer = this.#newer[slot]!;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
  }
}
