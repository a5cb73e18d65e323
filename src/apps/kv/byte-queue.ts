/**
 * Bytes that wait, first in first out, in plain memory of their own: the replies of a client that reads slowly.
 * Pure; whoever uses it bounds it by `length`.
 */

/** Chunks that small pieces are gathered in: the first, and the largest. */
const FIRST_BYTES = 2048;
const LARGEST_BYTES = 65536;

interface Chunk {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

export class ByteQueue {
  /** Bytes waiting. */
  length = 0;
  #chunks: Chunk[] = [];
  #chunkBytes = FIRST_BYTES;

  /** Copies `from[offset .. offset+length)` to the end. */
  append(from: Uint8Array, offset: number, length: number): void {
    this.length += length;
    while (length > 0) {
      let tail = this.#chunks.at(-1);
      if (tail === undefined || tail.end === tail.bytes.length) {
        tail = { bytes: new Uint8Array(this.#chunkBytes), start: 0, end: 0 };
        this.#chunkBytes = Math.min(this.#chunkBytes * 2, LARGEST_BYTES);
        this.#chunks.push(tail);
      }
      const n = Math.min(length, tail.bytes.length - tail.end);
      tail.bytes.set(from.subarray(offset, offset + n), tail.end);
      tail.end += n;
      offset += n;
      length -= n;
    }
  }

  /** Puts the first `length` bytes of `bytes` at the end without a copy: `bytes` belongs to the queue from now on. */
  adopt(bytes: Uint8Array, length: number): void {
    if (length === 0) return;
    this.length += length;
    this.#chunks.push({ bytes: bytes.subarray(0, length), start: 0, end: length });
  }

  /** Moves as much as fits from the front into `into[offset .. offset+room)`; gives how much. */
  take(into: Uint8Array, offset: number, room: number): number {
    let taken = 0;
    while (taken < room) {
      const head = this.#chunks[0];
      if (head === undefined) break;
      const n = Math.min(room - taken, head.end - head.start);
      into.set(head.bytes.subarray(head.start, head.start + n), offset + taken);
      head.start += n;
      taken += n;
      if (head.start < head.end) break;
      this.#chunks.shift(); // a few thousand chunks at most
    }
    this.length -= taken;
    return taken;
  }

  clear(): void {
    this.length = 0;
    this.#chunks = [];
  }
}
