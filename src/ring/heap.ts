/**
 * The buffer heap: fixed size classes cut from one region, handed out by reference count, never grown.
 * Pure: it may touch only the region it was given; a transmit in flight is a holder like any other (Demikernel 5.3).
 */

import { decodeSockaddr, encodeSockaddr, type IpAddress, SOCKADDR_BYTES } from '../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Region } from './region.ts';

export interface SizeClass {
  /** Bytes in each buffer; a multiple of 64 so that no two buffers share a cache line. */
  readonly bytes: number;
  readonly count: number;
}

/** Sizes for a server of small and middling messages: 74 MiB of address space, touched only as used. */
export const DEFAULT_SIZE_CLASSES: readonly SizeClass[] = [
  { bytes: 256, count: 8192 },
  { bytes: 2048, count: 8192 },
  { bytes: 16384, count: 2048 },
  { bytes: 65536, count: 256 },
  { bytes: 1 << 20, count: 8 },
];

const POISON = 0xdb;

/**
 * One buffer of the heap: `length` bytes at `offset` of `memory`. Whoever holds a reference may read it;
 * `push` takes the holder's reference with it, so after a push the program must not touch the buffer again
 * (unless it called {@link HeapBuffer.retain} first).
 */
export class HeapBuffer {
  // What every message touches first; numbers begin as numbers: of a field that begins undefined V8 never knows that it is
  // one.
  /** The whole region's bytes. Hot code reads `memory[offset + i]`; it is the same object for every buffer of a heap. */
  readonly memory: Uint8Array;
  /** The same bytes, for numbers of several of them; also one object for every buffer. */
  readonly view: DataView;
  /** Start of the data in `memory`. Datapaths move it past headers; programs may move it forward to drop a prefix. */
  offset = 0;
  /** Bytes of data. */
  length = 0;
  /** Holders. 0 means free. Only the heap and datapaths change it. */
  references = 0;
  /** Start of the buffer's own storage. */
  readonly base: number = 0;
  /** Bytes of the peer's socket address kept for a datagram, at `peerOffset` of `memory`; 0 for none. */
  peerLength = 0;
  readonly classIndex: number = 0;
  readonly heap: Heap;
  /** Bytes of storage from `base`. */
  readonly capacity: number = 0;
  /** Index in the heap: 0 … heap.bufferCount - 1. */
  readonly index: number = 0;
  /** For a datapath: which of its receive buffers this is, or what it likes. */
  tag = 0;
  /** In checked mode: where the buffer was allocated and freed. */
  origin: Error | null = null;
  end: Error | null = null;

  constructor(heap: Heap, index: number, classIndex: number, base: number, capacity: number) {
    this.heap = heap;
    this.memory = heap.region.u8;
    this.view = heap.view;
    this.index = index;
    this.classIndex = classIndex;
    this.base = base;
    this.capacity = capacity;
    this.offset = base;
    this.length = 0;
  }

  /** A view of the data. Allocates a small object: hot loops read `memory` at `offset` instead. */
  get bytes(): Uint8Array {
    if (this.references === 0) this.heap.refuse(this, 'used after it was freed', 'ERR_BUFFER_FREED');
    return this.memory.subarray(this.offset, this.offset + this.length);
  }

  /** The data as UTF-8 text. */
  text(): string {
    return new TextDecoder().decode(this.bytes);
  }

  /** Fills the buffer from its start, behind the heap's headroom, with `source` (bytes or UTF-8 text) and sets `length`. */
  fill(source: Uint8Array | string): this {
    if (this.references === 0) this.heap.refuse(this, 'used after it was freed', 'ERR_BUFFER_FREED');
    const data = typeof source === 'string' ? new TextEncoder().encode(source) : source;
    const { headroom } = this.heap;
    const room = this.capacity - headroom;
    if (data.length > room) throw new RangeError(`${data.length} bytes do not fit in ${room}`);
    this.offset = this.base + headroom;
    this.memory.set(data, this.offset);
    this.length = data.length;
    return this;
  }

  /** Offset in `memory` where the peer's socket address is kept. */
  get peerOffset(): number {
    return this.heap.peersBase + this.index * SOCKADDR_BYTES;
  }

  /** Who sent this datagram; null on streams. */
  get peer(): IpAddress | null {
    return this.peerLength === 0 ? null : decodeSockaddr(this.memory, this.peerOffset);
  }

  set peer(address: IpAddress | null) {
    this.peerLength = address === null ? 0 : encodeSockaddr(address, this.memory, this.peerOffset);
  }

  /** Adds a holder: the buffer lives until each holder has released it. */
  retain(): this {
    if (this.references === 0) this.heap.refuse(this, 'retained after it was freed', 'ERR_BUFFER_FREED');
    this.references++;
    return this;
  }

  /** Gives up one hold; the last one frees the buffer. */
  release(): void {
    if (this.references > 1) {
      this.references--;
      return;
    }
    this.heap.free(this);
  }
}

/** A scatter-gather array: one buffer, or several sent as if they were one (demi_sgarray_t). */
export type Sga = HeapBuffer | readonly HeapBuffer[];

export interface HeapOptions {
  readonly sizeClasses?: readonly SizeClass[];
  /** Bytes left free in front of the data of every buffer, for the headers of whoever sends it; a multiple of 4. Default 0. */
  readonly headroom?: number;
  /** Poison freed buffers, and name double frees, use after free and writes after free. Slow; for tests and debugging. */
  readonly checked?: boolean;
}

export interface HeapClassStats {
  readonly bytes: number;
  readonly count: number;
  readonly inUse: number;
  readonly highWater: number;
}

/** Bytes of region a heap with these classes needs. */
export function heapBytes(sizeClasses: readonly SizeClass[] = DEFAULT_SIZE_CLASSES): number {
  let bytes = 0;
  let count = 0;
  for (const sizeClass of sizeClasses) {
    bytes += sizeClass.bytes * sizeClass.count;
    count += sizeClass.count;
  }
  return bytes + align(count * SOCKADDR_BYTES, 4096);
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

export class Heap {
  readonly region: Region;
  /** The region's bytes as numbers of several bytes. */
  readonly view: DataView;
  readonly checked: boolean;
  /** Bytes free in front of the data of every buffer it gives. */
  readonly headroom: number;
  readonly bufferCount: number;
  /** Every buffer by its index: of each class in the order of their places, the largest class first. */
  readonly buffers: readonly HeapBuffer[];
  /** Offset of the table of peer addresses, one per buffer, in the region (so that the kernel can read them). */
  readonly peersBase: number;
  /** Allocations refused because the heap was used up. */
  exhausted = 0;
  /** Buffers handed out now. */
  inUse = 0;
  readonly #classes: readonly SizeClass[];
  /** Bytes of each class, smallest first. */
  readonly #sizes: Int32Array;
  readonly #free: HeapBuffer[][] = [];
  readonly #freeCount: Int32Array;
  readonly #lowWater: Int32Array;

  constructor(region: Region, options: HeapOptions = {}) {
    const classes = [...(options.sizeClasses ?? DEFAULT_SIZE_CLASSES)].sort((a, b) => a.bytes - b.bytes);
    if (classes.length === 0) throw new RangeError('a heap needs at least one size class');
    for (const { bytes, count } of classes) {
      if (bytes < 64 || bytes % 64 !== 0 || count < 1)
        throw new RangeError(`bad size class: ${count} of ${bytes} bytes`);
    }
    if (region.byteLength < heapBytes(classes)) throw new RangeError(`region too small: ${region.byteLength} bytes`);
    this.region = region;
    const { u8 } = region;
    this.view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
    this.checked = options.checked ?? false;
    this.headroom = options.headroom ?? 0;
    if (!(this.headroom >= 0 && this.headroom % 4 === 0 && this.headroom < classes.at(-1)!.bytes)) {
      throw new RangeError(`bad headroom: ${this.headroom}`);
    }
    this.#classes = classes;
    this.#sizes = Int32Array.from(classes, ({ bytes }) => bytes);
    this.#freeCount = new Int32Array(classes.length);
    this.#lowWater = new Int32Array(classes.length);
    this.bufferCount = classes.reduce((sum, sizeClass) => sum + sizeClass.count, 0);
    this.peersBase = classes.reduce((sum, sizeClass) => sum + sizeClass.bytes * sizeClass.count, 0);
    const buffers: HeapBuffer[] = [];
    let base = 0;
    // Largest first, so that each class stays aligned to its own size where sizes are powers of two.
    for (let c = classes.length - 1; c >= 0; c--) {
      const { bytes, count } = classes[c]!;
      const stack: HeapBuffer[] = [];
      for (let i = 0; i < count; i++, base += bytes) {
        const buffer = new HeapBuffer(this, buffers.length, c, base, bytes);
        buffers.push(buffer);
        stack.push(buffer);
      }
      stack.reverse();
      this.#free[c] = stack;
      this.#freeCount[c] = count;
      this.#lowWater[c] = count;
    }
    this.buffers = buffers;
    if (this.checked) region.u8.fill(POISON, 0, this.peersBase);
  }

  /** Largest buffer this heap can give, in bytes. */
  get largest(): number {
    return this.#classes[this.#classes.length - 1]!.bytes - this.headroom;
  }

  /** A buffer of at least `bytes` behind the headroom with one holder and `length` = `bytes`, or null when the heap is used up. */
  tryAlloc(bytes: number): HeapBuffer | null {
    const sizes = this.#sizes;
    const needed = bytes + this.headroom;
    for (let c = 0; c < sizes.length; c++) {
      if (sizes[c]! < needed) continue;
      const left = this.#freeCount[c]!;
      if (left === 0) continue;
      const stack = this.#free[c]!;
      let buffer = stack[left - 1]!;
      this.#freeCount[c] = left - 1;
      if (left - 1 < this.#lowWater[c]!) this.#lowWater[c] = left - 1;
      if (this.checked) buffer = this.#checkedHandle(stack, left - 1, buffer);
      buffer.references = 1;
      buffer.offset = buffer.base + this.headroom;
      buffer.length = bytes;
      buffer.peerLength = 0;
      this.inUse++;
      return buffer;
    }
    this.exhausted++;
    return null;
  }

  /**
   * A buffer of at least `bytes`, with `length` = `bytes`.
   * @throws IsthmusError ENOMEM when every buffer large enough is in use; RangeError when none is ever large enough
   */
  alloc(bytes: number): HeapBuffer {
    if (!(bytes >= 0 && bytes <= this.largest)) {
      throw new RangeError(
        `a buffer holds 0 to ${this.largest} bytes, not ${bytes}: use several as a scatter-gather array`,
      );
    }
    const buffer = this.tryAlloc(bytes);
    if (buffer === null) throw systemError(ERRNO.ENOMEM, 'alloc', `${bytes} bytes`, `${this.inUse} buffers are in use`);
    return buffer;
  }

  /** Frees a buffer whose last holder is done. Programs call {@link HeapBuffer.release} instead. */
  free(buffer: HeapBuffer): void {
    if (buffer.references === 0) this.refuse(buffer, 'freed twice', 'ERR_BUFFER_DOUBLE_FREE');
    buffer.references = 0;
    if (this.checked) this.#poison(buffer);
    const c = buffer.classIndex;
    const n = this.#freeCount[c]!;
    this.#free[c]![n] = buffer;
    this.#freeCount[c] = n + 1;
    this.inUse--;
  }

  /** Usage of each class, smallest first. */
  stats(): HeapClassStats[] {
    return this.#classes.map(({ bytes, count }, c) => ({
      bytes,
      count,
      inUse: count - this.#freeCount[c]!,
      highWater: count - this.#lowWater[c]!,
    }));
  }

  /** Throws the typed error for a misused buffer, with where it was allocated and freed in checked mode. */
  refuse(buffer: HeapBuffer, what: string, code: string): never {
    const trail = [buffer.origin?.stack, buffer.end?.stack].filter((stack) => stack !== undefined).join('\n');
    const hint = this.checked ? `\n${trail}` : ' (a heap in checked mode says where)';
    throw new IsthmusError(`buffer ${buffer.index} was ${what}${hint}`, { code });
  }

  #poison(buffer: HeapBuffer): void {
    this.region.u8.fill(POISON, buffer.base, buffer.base + buffer.capacity);
    buffer.end = new Error('freed here');
  }

  /** In checked mode each allocation has a handle of its own, so that a stale one is recognised for ever. */
  #checkedHandle(stack: HeapBuffer[], at: number, stale: HeapBuffer): HeapBuffer {
    const { u8 } = this.region;
    for (let i = stale.base; i < stale.base + stale.capacity; i++) {
      if (u8[i] !== POISON)
        this.refuse(stale, `written at byte ${i - stale.base} after it was freed`, 'ERR_BUFFER_FREED');
    }
    const fresh = new HeapBuffer(this, stale.index, stale.classIndex, stale.base, stale.capacity);
    fresh.origin = new Error('allocated here');
    stack[at] = fresh;
    (this.buffers as HeapBuffer[])[stale.index] = fresh;
    return fresh;
  }
}
