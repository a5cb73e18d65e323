/**
 * A fixed number of slots found by IP address: a hash table with chains, for caches whose keys come from the network.
 * Pure. The hash is keyed, so that nobody outside can choose addresses that share a chain.
 */

const NONE = -1;

export class AddressIndex {
  readonly capacity: number;
  /** Slots in use. */
  size = 0;
  readonly #keys: Int32Array;
  readonly #families: Uint8Array;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #mask: number;
  readonly #key: number;
  #free = 0;

  /** @param key 32 random bits */
  constructor(capacity: number, key: number) {
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity <= 1 << 20))
      throw new RangeError(`bad capacity: ${capacity}`);
    this.capacity = capacity;
    this.#key = key | 0;
    this.#keys = new Int32Array(4 * capacity);
    this.#families = new Uint8Array(capacity);
    let heads = 1;
    while (heads < capacity) heads *= 2;
    this.#mask = heads - 1;
    this.#heads = new Int32Array(heads).fill(NONE);
    this.#next = new Int32Array(capacity);
    for (let slot = 0; slot < capacity; slot++) this.#next[slot] = slot + 1 < capacity ? slot + 1 : NONE;
  }

  /** The slot of an address, or -1. */
  find(family: number, w0: number, w1: number, w2: number, w3: number): number {
    const keys = this.#keys;
    for (let slot = this.#heads[this.#hash(w0, w1, w2, w3)]!; slot !== NONE; slot = this.#next[slot]!) {
      const at = 4 * slot;
      if (
        keys[at + 3] === w3 &&
        keys[at + 2] === w2 &&
        keys[at + 1] === w1 &&
        keys[at] === w0 &&
        this.#families[slot] === family
      ) {
        return slot;
      }
    }
    return NONE;
  }

  /** A slot for an address that has none; -1 where all are in use. */
  insert(family: number, w0: number, w1: number, w2: number, w3: number): number {
    const slot = this.#free;
    if (slot === NONE) return NONE;
    this.#free = this.#next[slot]!;
    const at = 4 * slot;
    this.#keys[at] = w0;
    this.#keys[at + 1] = w1;
    this.#keys[at + 2] = w2;
    this.#keys[at + 3] = w3;
    this.#families[slot] = family;
    const head = this.#hash(w0, w1, w2, w3);
    this.#next[slot] = this.#heads[head]!;
    this.#heads[head] = slot;
    this.size++;
    return slot;
  }

  /** Frees a slot in use. */
  remove(slot: number): void {
    const at = 4 * slot;
    const keys = this.#keys;
    const head = this.#hash(keys[at]!, keys[at + 1]!, keys[at + 2]!, keys[at + 3]!);
    let before = NONE;
    let here = this.#heads[head]!;
    while (here !== slot) {
      before = here;
      here = this.#next[here]!;
    }
    if (before === NONE) this.#heads[head] = this.#next[slot]!;
    else this.#next[before] = this.#next[slot]!;
    this.#next[slot] = this.#free;
    this.#families[slot] = 0;
    this.#free = slot;
    this.size--;
  }

  /** True for a slot in use. */
  has(slot: number): boolean {
    return this.#families[slot] !== 0;
  }

  #hash(w0: number, w1: number, w2: number, w3: number): number {
    let hash = Math.imul(this.#key ^ w3, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ w2, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13) ^ w1, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 16) ^ w0 ^ this.#key, 0x27d4eb2f);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }
}
