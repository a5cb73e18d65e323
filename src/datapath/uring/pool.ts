/**
 * Receive buffers of one size: heap buffers that lie ready in the kernel under buffer ids, and how many lie there.
 * It allocates from the heap and writes the ring of provided buffers; it owns what lies in the kernel.
 *
 * The kernel fills the buffers in the order in which they were given, so each of them passes through the cache again and
 * again. The fewer there are, the more of them stay in it (with messages of 16 KiB, 64 of them cost a tenth less per
 * message than 256). So no more lie ready than the turns of late have used, until one turn finds too few.
 */
import type { Ring } from '../../linux/uring.ts';
import { ProvidedBuffers } from '../../linux/uring-buffers.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';

/** Fills between two looks at how many buffers were used. */
const WINDOW = 64;
const MIN_DEPTH = 32;

export class Pool {
  readonly group: number;
  readonly bytes: number;
  /** Most buffers in the kernel at once; a power of two. */
  readonly count: number;
  /** Buffers in the kernel now, those in completions not yet read among them. */
  present = 0;
  /** How many should lie ready. */
  #depth: number;
  /** Fewest that lay ready in this window, and its fills so far. */
  #fewest: number;
  #fills = 0;
  readonly #heap: Heap;
  readonly #provided: ProvidedBuffers;
  readonly #buffers: (HeapBuffer | null)[];
  /** Ids without a buffer: the first `count − present`. */
  readonly #free: Int32Array;

  constructor(ring: Ring, heap: Heap, group: number, bytes: number, count: number) {
    this.group = group;
    this.bytes = bytes;
    this.count = count;
    this.#depth = count;
    this.#fewest = count;
    this.#heap = heap;
    this.#provided = new ProvidedBuffers(ring, { group, entries: count, addressHigh: heap.region.addressHigh });
    this.#buffers = new Array<HeapBuffer | null>(count).fill(null);
    this.#free = Int32Array.from({ length: count }, (_, id) => id);
  }

  /** The buffer that the kernel filled; it is the caller's. */
  take(id: number): HeapBuffer {
    const filled = this.#buffers[id]!;
    this.#buffers[id] = null;
    this.#free[this.count - this.present] = id;
    this.present--;
    return filled;
  }

  /** The buffer that the kernel filled, to be read and then put back or taken. */
  peek(id: number): HeapBuffer {
    return this.#buffers[id]!;
  }

  /** The kernel may fill this buffer again. */
  putBack(id: number): void {
    this.#provided.recycle(id);
  }

  /** A receive found no buffer. */
  tooFew(): void {
    this.#depth = Math.min(this.count, this.#depth * 2);
    this.#fewest = 0;
  }

  /** Once per turn: gives the kernel what it lacks, at most `most` in all, and lets it see all changes. */
  fill(most: number): void {
    if (this.present < this.#fewest) this.#fewest = this.present;
    if (++this.#fills === WINDOW) this.#adapt();
    const wanted = Math.min(most, this.#depth);
    while (this.present < wanted) {
      const fresh = this.#heap.tryAlloc(this.bytes);
      if (fresh === null) break;
      this.present++;
      const id = this.#free[this.count - this.present]!;
      this.#buffers[id] = fresh;
      this.#provided.provide(id, fresh.base, this.bytes);
    }
    this.#provided.publish();
  }

  #adapt(): void {
    if (this.#fewest > this.#depth >> 1 && this.#depth > MIN_DEPTH) this.#depth >>= 1;
    this.#fewest = this.present;
    this.#fills = 0;
  }

  /** No receive is in flight any more. */
  close(): void {
    this.#provided.close();
    for (const buffer of this.#buffers.splice(0)) buffer?.release();
    this.present = 0;
  }
}
