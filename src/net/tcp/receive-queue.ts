/**
 * Data in order that the application has not read yet, as the packets it came in. A ring of buffers.
 * It holds one reference of each buffer and touches nothing else.
 */
import type { HeapBuffer } from '../../ring/heap.ts';

const FIRST_CAPACITY = 4;
/** From so many buffers on, small ones are copied together: each pins a whole packet. */
const COALESCE_FROM = 16;

export class ReceiveQueue {
  count = 0;
  /** Bytes held. */
  bytes = 0;
  #head = 0;
  #mask = FIRST_CAPACITY - 1;
  #buffers: (HeapBuffer | null)[] = [null, null, null, null];

  /** Adds a buffer, taking over one reference. */
  push(buffer: HeapBuffer): void {
    if (this.count > this.#mask) this.#grow();
    this.#buffers[(this.#head + this.count) & this.#mask] = buffer;
    this.count++;
    this.bytes += buffer.length;
  }

  shift(): HeapBuffer | null {
    if (this.count === 0) return null;
    const buffer = this.#buffers[this.#head]!;
    this.#buffers[this.#head] = null;
    this.#head = (this.#head + 1) & this.#mask;
    this.count--;
    this.bytes -= buffer.length;
    return buffer;
  }

  /** Copies `length` bytes at `at` of `from` behind the last buffer's data; false where they are few buffers or no room. */
  coalesce(from: HeapBuffer, at: number, length: number): boolean {
    if (this.count < COALESCE_FROM) return false;
    const last = this.#buffers[(this.#head + this.count - 1) & this.#mask]!;
    const end = last.offset + last.length;
    if (last.references !== 1 || end + length > last.base + last.capacity) return false;
    if (last.memory === from.memory) last.memory.copyWithin(end, at, at + length);
    else last.memory.set(from.memory.subarray(at, at + length), end);
    last.length += length;
    this.bytes += length;
    return true;
  }

  clear(): void {
    for (let buffer = this.shift(); buffer !== null; buffer = this.shift()) buffer.release();
  }

  #grow(): void {
    const old = this.#mask + 1;
    const buffers: (HeapBuffer | null)[] = [];
    for (let i = 0; i < 2 * old; i++) buffers.push(i < old ? this.#buffers[(this.#head + i) & this.#mask]! : null);
    this.#buffers = buffers;
    this.#head = 0;
    this.#mask = 2 * old - 1;
  }
}
