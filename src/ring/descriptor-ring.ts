/**
 * A ring of 16-byte descriptors between one producer and one consumer, in memory that both can see.
 * Pure: each end touches only its part of the region, and takes nothing the other end wrote there on trust.
 */
import { IsthmusError } from '../errors.ts';
import type { Region } from './region.ts';

/** Words (int32) in a descriptor; what they mean is between the two ends. */
export const DESCRIPTOR_WORDS = 4;
const DESCRIPTOR_SHIFT = 2;

// Two cache lines for each index, because processors fetch lines in pairs: neither end's writes disturb the other's.
const TAIL_BYTE = 0;
const HEAD_BYTE = 128;
const SLOTS_BYTE = 256;
const ALIGNMENT = 64;
const MAX_SLOTS = 1 << 24;

/** Bytes of region that a ring of `slots` descriptors needs. */
export function descriptorRingBytes(slots: number): number {
  checkSlots(slots);
  return SLOTS_BYTE + slots * DESCRIPTOR_WORDS * 4;
}

/**
 * Empties a ring. Fresh memory is zero and needs no formatting; afterwards neither end may be in use.
 * @param start value both indices begin at; they wrap at 2^32, so any will do
 */
export function formatDescriptorRing(region: Region, byteOffset: number, slots: number, start = 0): void {
  checkPlace(region, byteOffset, slots);
  Atomics.store(region.i32, (byteOffset + TAIL_BYTE) >> 2, start | 0);
  Atomics.store(region.i32, (byteOffset + HEAD_BYTE) >> 2, start | 0);
}

/**
 * The writing end. Descriptors pushed become visible together at {@link RingProducer.publish}: words are written
 * plainly, and one Atomics store per batch releases them.
 */
export class RingProducer {
  /** Words of the whole region. */
  readonly i32: Int32Array;
  readonly slots: number;
  readonly #mask: number;
  readonly #first: number;
  readonly #tailWord: number;
  readonly #headWord: number;
  /** Ours alone; what stands in shared memory is only a copy for the other end. */
  #tail: number;
  #published: number;
  /** The consumer's index as last seen. */
  #head: number;

  /**
   * Takes up the ring where its indices stand.
   * @param byteOffset where the ring begins in the region, a multiple of 64
   * @param slots a power of two
   * @throws IsthmusError ERR_RING_CORRUPT where the indices contradict each other
   */
  constructor(region: Region, byteOffset: number, slots: number) {
    checkPlace(region, byteOffset, slots);
    this.i32 = region.i32;
    this.slots = slots;
    this.#mask = slots - 1;
    this.#first = (byteOffset + SLOTS_BYTE) >> 2;
    this.#tailWord = (byteOffset + TAIL_BYTE) >> 2;
    this.#headWord = (byteOffset + HEAD_BYTE) >> 2;
    this.#tail = this.#published = Atomics.load(this.i32, this.#tailWord);
    this.#head = Atomics.load(this.i32, this.#headWord);
    if ((this.#tail - this.#head) >>> 0 > slots) throw corrupt('head', this.#head, this.#tail, slots);
  }

  /**
   * Slots that can be filled now; looks at the consumer's index.
   * @throws IsthmusError ERR_RING_CORRUPT
   */
  free(): number {
    this.#refresh();
    return this.slots - ((this.#tail - this.#head) | 0);
  }

  /** Descriptors pushed and not yet published. */
  get unpublished(): number {
    return (this.#tail - this.#published) | 0;
  }

  /**
   * Writes one descriptor behind the others; false when the ring is full.
   * @throws IsthmusError ERR_RING_CORRUPT
   */
  push(word0: number, word1: number, word2: number, word3: number): boolean {
    const tail = this.#tail;
    if (((tail - this.#head) | 0) === this.slots && !this.#refresh()) return false;
    const { i32 } = this;
    const at = this.#first + ((tail & this.#mask) << DESCRIPTOR_SHIFT);
    i32[at] = word0;
    i32[at + 1] = word1;
    i32[at + 2] = word2;
    i32[at + 3] = word3;
    this.#tail = (tail + 1) | 0;
    return true;
  }

  /**
   * Writes up to `count` descriptors from `source`, beginning at its word `from`; gives how many there was room for.
   * @throws IsthmusError ERR_RING_CORRUPT
   */
  pushBatch(source: Int32Array, from: number, count: number): number {
    if (from < 0 || from + count * DESCRIPTOR_WORDS > source.length) throw new RangeError('the source is too short');
    const { i32 } = this;
    let room = this.slots - ((this.#tail - this.#head) | 0);
    if (room < count) room = this.free();
    const taken = Math.min(count, room);
    let tail = this.#tail;
    let word = from;
    for (let i = 0; i < taken; i++) {
      const at = this.#first + ((tail & this.#mask) << DESCRIPTOR_SHIFT);
      i32[at] = source[word]!;
      i32[at + 1] = source[word + 1]!;
      i32[at + 2] = source[word + 2]!;
      i32[at + 3] = source[word + 3]!;
      word += DESCRIPTOR_WORDS;
      tail = (tail + 1) | 0;
    }
    this.#tail = tail;
    return taken;
  }

  /** Makes everything pushed visible to the consumer. Once per batch: an Atomics call costs more than a descriptor. */
  publish(): void {
    if (this.#published === this.#tail) return;
    this.#published = this.#tail;
    Atomics.store(this.i32, this.#tailWord, this.#tail);
  }

  /** Reads the consumer's index; true where there is room. It may only move forward, and never past our own. */
  #refresh(): boolean {
    const head = Atomics.load(this.i32, this.#headWord);
    const unread = (this.#published - this.#head) >>> 0;
    if ((head - this.#head) >>> 0 > unread) throw corrupt('head', head, this.#published, this.slots);
    this.#head = head;
    return ((this.#tail - head) | 0) < this.slots;
  }
}

/**
 * The reading end. {@link RingConsumer.ready} says how many descriptors there are, {@link RingConsumer.at} where in
 * `i32` each lies, {@link RingConsumer.release} gives their slots back. Until then an untrusted producer can still
 * change them: read each word once, or use {@link RingConsumer.pop}, which copies.
 */
export class RingConsumer {
  /** Words of the whole region. */
  readonly i32: Int32Array;
  readonly slots: number;
  readonly #mask: number;
  readonly #first: number;
  readonly #tailWord: number;
  readonly #headWord: number;
  /** Ours alone; what stands in shared memory is only a copy for the other end. */
  #head: number;
  /** The producer's index as last seen. */
  #tail: number;

  /** As {@link RingProducer}'s. */
  constructor(region: Region, byteOffset: number, slots: number) {
    checkPlace(region, byteOffset, slots);
    this.i32 = region.i32;
    this.slots = slots;
    this.#mask = slots - 1;
    this.#first = (byteOffset + SLOTS_BYTE) >> 2;
    this.#tailWord = (byteOffset + TAIL_BYTE) >> 2;
    this.#headWord = (byteOffset + HEAD_BYTE) >> 2;
    this.#head = Atomics.load(this.i32, this.#headWord);
    this.#tail = Atomics.load(this.i32, this.#tailWord);
    if ((this.#tail - this.#head) >>> 0 > slots) throw corrupt('tail', this.#tail, this.#head, slots);
  }

  /**
   * Descriptors that can be read now; looks at the producer's index.
   * @throws IsthmusError ERR_RING_CORRUPT
   */
  ready(): number {
    const tail = Atomics.load(this.i32, this.#tailWord);
    const known = (this.#tail - this.#head) >>> 0;
    if ((tail - this.#tail) >>> 0 > this.slots - known) throw corrupt('tail', tail, this.#head, this.slots);
    this.#tail = tail;
    return (tail - this.#head) >>> 0;
  }

  /**
   * Whether the producer has published since {@link RingConsumer.ready}, by a plain load. For a loop that polls: the
   * language does not promise that it ever sees a change, so ask `ready` as well now and then, and before sleeping.
   */
  get changed(): boolean {
    return this.i32[this.#tailWord] !== this.#tail;
  }

  /** Index in `i32` of the first word of the `i`-th ready descriptor (0 is the oldest). */
  at(i: number): number {
    return this.#first + (((this.#head + i) & this.#mask) << DESCRIPTOR_SHIFT);
  }

  /** Gives the `count` oldest descriptors' slots back to the producer. Once per batch, as publish. */
  release(count: number): void {
    if (!(count >= 0 && count <= (this.#tail - this.#head) >>> 0)) throw new RangeError(`${count} are not there`);
    if (count === 0) return;
    this.#head = (this.#head + count) | 0;
    Atomics.store(this.i32, this.#headWord, this.#head);
  }

  /**
   * Copies up to `count` descriptors to `target`, beginning at its word `to`, and gives their slots back.
   * @returns how many there were
   * @throws IsthmusError ERR_RING_CORRUPT
   */
  pop(target: Int32Array, to: number, count: number): number {
    if (to < 0 || to + count * DESCRIPTOR_WORDS > target.length) throw new RangeError('the target is too short');
    let known = (this.#tail - this.#head) >>> 0;
    if (known < count) known = this.ready();
    const { i32 } = this;
    const taken = Math.min(count, known);
    let word = to;
    for (let i = 0; i < taken; i++) {
      const at = this.#first + (((this.#head + i) & this.#mask) << DESCRIPTOR_SHIFT);
      target[word] = i32[at]!;
      target[word + 1] = i32[at + 1]!;
      target[word + 2] = i32[at + 2]!;
      target[word + 3] = i32[at + 3]!;
      word += DESCRIPTOR_WORDS;
    }
    this.release(taken);
    return taken;
  }
}

function checkSlots(slots: number): void {
  if (!(Number.isInteger(slots) && slots >= 2 && slots <= MAX_SLOTS && (slots & (slots - 1)) === 0)) {
    throw new RangeError(`slots must be a power of two from 2 to ${MAX_SLOTS}, not ${slots}`);
  }
}

function checkPlace(region: Region, byteOffset: number, slots: number): void {
  const bytes = descriptorRingBytes(slots);
  if (!(Number.isInteger(byteOffset) && byteOffset >= 0 && byteOffset % ALIGNMENT === 0)) {
    throw new RangeError(`a ring must begin at a multiple of ${ALIGNMENT}, not ${byteOffset}`);
  }
  if (byteOffset + bytes > region.byteLength) {
    throw new RangeError(`a ring of ${slots} slots needs ${bytes} bytes at ${byteOffset} of ${region.byteLength}`);
  }
}

function corrupt(which: string, found: number, own: number, slots: number): IsthmusError {
  return new IsthmusError(`the other end's ${which} is ${found >>> 0}, against ${own >>> 0} in a ring of ${slots}`, {
    code: 'ERR_RING_CORRUPT',
  });
}
