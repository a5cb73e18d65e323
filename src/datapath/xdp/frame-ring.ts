/**
 * Frames on their way from one kernel of a process to another: copied into memory that both share, and out of it again.
 * It touches that memory; one kernel puts, the other takes.
 */
import type { HeapBuffer } from '../../ring/heap.ts';

/** Frames under way; one more finds no room. A power of two. */
const SLOTS = 1024;
/** Words in front of the slots: what was put in, and a cache line further what was taken out. */
const PUT = 0;
const TAKEN = 16;
const HEAD_BYTES = 128;
/** Bytes in front of each frame: its length. */
const LENGTH_BYTES = 64;

export function frameRingBytes(frameBytes: number): number {
  return HEAD_BYTES + SLOTS * (LENGTH_BYTES + frameBytes);
}

export class FrameRing {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #frameBytes: number;
  /** Of the end that uses it: what it has put and not published, or taken and not given back. */
  #own: number;

  /** @param at where the ring begins, a multiple of 64 */
  constructor(memory: SharedArrayBuffer, at: number, frameBytes: number) {
    const bytes = frameRingBytes(frameBytes);
    this.#words = new Int32Array(memory, at, bytes >> 2);
    this.#bytes = new Uint8Array(memory, at, bytes);
    this.#frameBytes = frameBytes;
    this.#own = 0;
  }

  // ---- Who puts ------------------------------------------------------------------------------------------------

  room(): number {
    return SLOTS - ((this.#own - Atomics.load(this.#words, TAKEN)) | 0);
  }

  /** Copies a frame of one piece or two, to be published later. False where it is too long or there is no room. */
  put(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): boolean {
    const length = packet.length + payloadLength;
    if (length > this.#frameBytes || this.room() <= 0) return false;
    const at = this.#slot(this.#own);
    const bytes = this.#bytes;
    this.#words[at >> 2] = length;
    bytes.set(packet.memory.subarray(packet.offset, packet.offset + packet.length), at + LENGTH_BYTES);
    if (payload !== null) {
      const rest = payload.memory.subarray(payloadOffset, payloadOffset + payloadLength);
      bytes.set(rest, at + LENGTH_BYTES + packet.length);
    }
    this.#own = (this.#own + 1) | 0;
    return true;
  }

  publish(): void {
    Atomics.store(this.#words, PUT, this.#own);
  }

  // ---- Who takes -----------------------------------------------------------------------------------------------

  /** Frames that are there. */
  available(): number {
    return (Atomics.load(this.#words, PUT) - this.#own) | 0;
  }

  /** Length of the next frame. */
  nextLength(): number {
    return this.#words[this.#slot(this.#own) >> 2]!;
  }

  /** Copies the next frame to where `buffer` has room for it; null to pass over it. */
  take(buffer: HeapBuffer | null): void {
    if (buffer !== null) {
      const at = this.#slot(this.#own) + LENGTH_BYTES;
      buffer.memory.set(this.#bytes.subarray(at, at + buffer.length), buffer.offset);
    }
    this.#own = (this.#own + 1) | 0;
  }

  /** The places of what was taken are free. */
  release(): void {
    Atomics.store(this.#words, TAKEN, this.#own);
  }

  #slot(index: number): number {
    return HEAD_BYTES + (index & (SLOTS - 1)) * (LENGTH_BYTES + this.#frameBytes);
  }
}
