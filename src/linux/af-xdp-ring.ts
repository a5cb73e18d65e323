/**
 * One ring of an AF_XDP socket: memory shared with the kernel, where one side puts descriptors and the other takes them.
 * It reads and writes its mapping only; what the kernel writes there is checked before it is used.
 */
import { IsthmusError } from '../errors.ts';
import { type MappedMemory, mapShared } from './memory.ts';

/** Where the words of a ring stand in its mapping, in bytes; the kernel says so (XDP_MMAP_OFFSETS). */
export interface RingOffsets {
  readonly producer: number;
  readonly consumer: number;
  readonly descriptors: number;
  readonly flags: number;
}

/**
 * Fields are plain because the datapath's loops read them. A descriptor of receive and transmit rings is four words
 * (address low, address high, length, options), one of fill and completion rings two (address low, high).
 * `index` is our own side's place, the next descriptor to write or to take, a 32-bit number that wraps around.
 */
export class XdpRing {
  readonly words: Int32Array;
  /** Indices of words. */
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly descriptors: number;
  readonly entries: number;
  readonly mask: number;
  index = 0;
  readonly #memory: MappedMemory;
  readonly #name: string;

  /** Maps the ring of socket `fd` at `pageOffset`. `descriptorBytes`: 16 or 8. */
  constructor(
    fd: number,
    name: string,
    pageOffset: number,
    entries: number,
    offsets: RingOffsets,
    descriptorBytes: number,
  ) {
    const bytes = offsets.descriptors + entries * descriptorBytes;
    this.#memory = mapShared(fd, bytes, { offset: pageOffset, anywhere: true });
    this.#name = name;
    this.words = this.#memory.i32;
    this.producer = offsets.producer >> 2;
    this.consumer = offsets.consumer >> 2;
    this.flags = offsets.flags >> 2;
    this.descriptors = offsets.descriptors >> 2;
    this.entries = entries;
    this.mask = entries - 1;
  }

  /** On a ring that the kernel fills: descriptors to take, from `index` on. Hot. */
  available(): number {
    const count = (Atomics.load(this.words, this.producer) - this.index) | 0;
    if (count < 0 || count > this.entries) throw this.corrupt(`${count} of ${this.entries} descriptors are there`);
    return count;
  }

  /** On a ring that the kernel fills: descriptors before `index` are the kernel's again. Hot. */
  release(): void {
    Atomics.store(this.words, this.consumer, this.index);
  }

  /** On a ring that we fill: descriptors that can be written, from `index` on. Hot. */
  room(): number {
    const used = (this.index - Atomics.load(this.words, this.consumer)) | 0;
    if (used < 0 || used > this.entries) throw this.corrupt(`${used} of ${this.entries} descriptors are in use`);
    return this.entries - used;
  }

  /** On a ring that we fill: descriptors before `index` are the kernel's. Hot. */
  publish(): void {
    Atomics.store(this.words, this.producer, this.index);
  }

  /** The kernel sleeps over this ring until it is told (XDP_USE_NEED_WAKEUP). Hot. */
  get needsWakeup(): boolean {
    return (Atomics.load(this.words, this.flags) & 1) !== 0;
  }

  /** The error for a ring that holds what cannot be. */
  corrupt(what: string): IsthmusError {
    return new IsthmusError(`the ${this.#name} ring of an AF_XDP socket is corrupt: ${what}`, {
      code: 'ERR_RING_CORRUPT',
    });
  }

  /** Ends the mapping; the socket lives on while one of its rings is mapped. Idempotent. */
  close(): void {
    this.#memory.close();
  }
}
