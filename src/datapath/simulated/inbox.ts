/**
 * What has arrived at a simulated stream and was not popped: buffers in order, and the pops that wait for them.
 * It touches the receiving heap, the buffers it holds and those operations.
 */
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { copyBytes } from '../ends/buffers.ts';
import { Fifo } from '../ends/fifo.ts';

/** Buffers waiting to be popped from which on small ones are joined, so that single bytes do not hold whole buffers. */
const CROWDED = 32;

export class Inbox {
  readonly heap: Heap;
  /** Bytes that may wait here. */
  window: number;
  bytes = 0;
  readonly pops = new OperationFifo<HeapBuffer | null>();
  readonly #received = new Fifo<HeapBuffer>();

  constructor(heap: Heap, window: number) {
    this.heap = heap;
    this.window = window;
  }

  get empty(): boolean {
    return this.#received.length === 0;
  }

  /** Hands the next buffer to a pop; gives its bytes. There must be one. */
  give(op: Operation<HeapBuffer | null>): number {
    const buffer = this.#received.shift();
    const { length } = buffer;
    this.bytes -= length;
    op.complete(buffer);
    return length;
  }

  /** Whether a buffer can come in as it is: of this heap, held by nobody else, and room for it. */
  fits(buffer: HeapBuffer): boolean {
    if (buffer.heap !== this.heap || buffer.references !== 1 || buffer.length === 0) return false;
    return this.bytes < this.window && this.#received.length < CROWDED;
  }

  /** Takes a buffer over; gives how many bytes a waiting pop took at once. */
  put(buffer: HeapBuffer): number {
    const { length } = buffer;
    if (this.pops.head !== null) {
      this.pops.shift()!.complete(buffer);
      return length;
    }
    this.#received.push(buffer);
    this.bytes += length;
    return 0;
  }

  /** Takes a copy; gives how many bytes a waiting pop took at once, or -1 where there is no memory for it. */
  putCopy(buffer: HeapBuffer, offset: number, bytes: number): number {
    const copy = this.heap.tryAlloc(bytes);
    if (copy === null) return -1;
    copyBytes(buffer, offset, bytes, copy, copy.offset);
    return this.put(copy);
  }

  /** Appends a copy to the last buffer, where that has room: when it is crowded here, or as `wanted`. */
  join(buffer: HeapBuffer, offset: number, bytes: number, wanted: boolean): boolean {
    const waiting = this.#received.length;
    if (waiting === 0 || (waiting < CROWDED && !wanted)) return false;
    const last = this.#received.at(waiting - 1);
    const end = last.offset + last.length;
    if (last.references !== 1 || end + bytes > last.base + last.capacity) return false;
    copyBytes(buffer, offset, bytes, last, end);
    last.length += bytes;
    this.bytes += bytes;
    return true;
  }

  /** The end of the stream. */
  end(): void {
    while (this.pops.head !== null) this.pops.shift()!.complete(null);
  }

  drop(): void {
    while (this.#received.length > 0) this.#received.shift().release();
    this.bytes = 0;
  }
}
