/**
 * Segments that arrived out of order, as the packets they came in, sorted by sequence number and never overlapping.
 * It holds one reference of each packet and touches nothing else; how many it may hold is stated when they are added.
 */
import type { HeapBuffer } from '../../ring/heap.ts';

export class Reassembly {
  /** Sequence number of the first byte of each buffer. */
  readonly #seqs: number[] = [];
  readonly #buffers: HeapBuffer[] = [];
  /** Bytes held. */
  bytes = 0;

  get count(): number {
    return this.#seqs.length;
  }

  /**
   * Adds `length` bytes at `at` of `packet`, whose first has sequence number `seq`. What is already held stays; of the
   * new bytes only one run is kept, the first that fills a hole, and smaller runs that it covers give way to it.
   * @returns bytes kept; 0 for a duplicate, -1 where the limit is reached
   */
  add(packet: HeapBuffer, seq: number, at: number, length: number, limit: number): number {
    const seqs = this.#seqs;
    const buffers = this.#buffers;
    let place = seqs.length;
    // Mostly the newest bytes belong at the end.
    while (place > 0 && ((seqs[place - 1]! - seq) | 0) > 0) place--;
    if (place > 0) {
      const covered = (seqs[place - 1]! + buffers[place - 1]!.length - seq) | 0;
      if (covered >= length) return 0;
      if (covered > 0) {
        seq = (seq + covered) | 0;
        at += covered;
        length -= covered;
      }
    }
    let covers = 0;
    while (place + covers < seqs.length) {
      const reach = (seq + length - seqs[place + covers]!) | 0;
      if (reach < buffers[place + covers]!.length) {
        // The next one reaches further than we do: end before it.
        if (reach > 0) length -= reach;
        break;
      }
      covers++;
    }
    if (length <= 0) return 0;
    if (seqs.length - covers >= limit) return -1;
    for (let i = place; i < place + covers; i++) {
      this.bytes -= buffers[i]!.length;
      buffers[i]!.release();
    }
    packet.retain();
    packet.offset = at;
    packet.length = length;
    seqs.splice(place, covers, seq);
    buffers.splice(place, covers, packet);
    this.bytes += length;
    return length;
  }

  /**
   * Takes the first buffer if it continues the stream at `next`, cut to what is new; null where there still is a hole.
   * Its reference passes to the caller. Buffers that hold nothing new are released.
   */
  take(next: number): HeapBuffer | null {
    while (this.#seqs.length > 0) {
      const known = (next - this.#seqs[0]!) | 0;
      if (known < 0) return null;
      const buffer = this.#buffers.shift()!;
      this.#seqs.shift();
      this.bytes -= buffer.length;
      if (known < buffer.length) {
        buffer.offset += known;
        buffer.length -= known;
        return buffer;
      }
      buffer.release();
    }
    return null;
  }

  clear(): void {
    for (const buffer of this.#buffers) buffer.release();
    this.#buffers.length = 0;
    this.#seqs.length = 0;
    this.bytes = 0;
  }
}
