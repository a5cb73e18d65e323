/**
 * The two windows of a stream end: bytes that it writes for its peer, and bytes that its peer writes for it.
 * Each touches its own window of the link's memory. What the peer says about them is checked against what is known here.
 */
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { copyIntoWindow, copyOutOfWindow } from './copy.ts';
import { CREDIT_STEP, type End, Kind, WINDOW, windowOffset, windowStart } from './layout.ts';
import type { Link } from './link.ts';

/** Most bytes that one pop gives. */
const LARGEST_POP = 1 << 16;

// Plain fields in both: they are read and written for every message.
export class InWindow {
  /** Bytes that stand there. */
  available = 0;
  /** Bytes copied out since the connection began, modulo 2^32; and of them told to the peer. */
  read = 0;
  told = 0;
  #slot = 0;
  #base = 0;
  /** Where the next byte is. */
  #at = 0;

  attach(link: Link, slot: number): void {
    this.#slot = slot;
    this.#base = windowOffset((1 - link.end) as End, slot);
  }

  /** So much was copied out that the peer should hear of it by a message of its own. */
  get creditDue(): boolean {
    return ((this.read - this.told) | 0) >= CREDIT_STEP;
  }

  /**
   * The peer says that `bytes` more stand there, at the window's start where `anew` is not 0.
   * @returns false where that cannot be
   */
  grow(bytes: number, anew: number): boolean {
    // What it may have under way is the window; it knows of no more room than we have told.
    if (bytes <= 0 || bytes > WINDOW - this.available - ((this.read - this.told) | 0)) return false;
    if (anew !== 0) {
      if (this.available > 0) return false;
      this.#at = windowStart(this.#slot);
    }
    this.available += bytes;
    return true;
  }

  /** Copies bytes out into a buffer of the heap; null where the heap is used up. */
  take(link: Link, heap: Heap): HeapBuffer | null {
    const wanted = Math.min(this.available, LARGEST_POP, heap.largest);
    const buffer = heap.tryAlloc(wanted) ?? heap.tryAlloc(1);
    if (buffer === null) return null;
    const bytes = Math.min(wanted, buffer.base + buffer.capacity - buffer.offset);
    buffer.length = bytes;
    copyOutOfWindow(link.memory, this.#base, WINDOW, this.#at, heap.region, buffer.offset, bytes);
    this.#at = (this.#at + bytes) & (WINDOW - 1);
    this.available -= bytes;
    this.read = (this.read + bytes) | 0;
    return buffer;
  }
}

export class OutWindow {
  /** Bytes sent that the peer has not copied out. */
  unacked = 0;
  #slot = 0;
  #base = 0;
  /** Where the next byte goes. */
  #at = 0;
  /** What the peer said it has copied out, modulo 2^32. */
  #acked = 0;

  attach(link: Link, slot: number): void {
    this.#slot = slot;
    this.#base = windowOffset(link.end, slot);
  }

  get room(): number {
    return WINDOW - this.unacked;
  }

  /** Writes a name where the first bytes will stand: it is read before they come. */
  putName(link: Link, name: string): void {
    for (let i = 0; i < name.length; i++) link.memory.u8[this.#base + i] = name.charCodeAt(i);
  }

  /** Copies bytes in, for which there must be room, and tells of them; false where the ring is full. */
  write(link: Link, other: InWindow, buffer: HeapBuffer, offset: number, bytes: number): boolean {
    // A window that is empty at both ends begins anew: requests and replies stay in the same few cache lines.
    const anew = this.unacked === 0;
    const at = anew ? windowStart(this.#slot) : this.#at;
    // Nobody sees these bytes before the message that tells of them is published.
    copyIntoWindow(buffer.heap.region, offset, link.memory, this.#base, WINDOW, at, bytes);
    if (!link.send(Kind.DATA, this.#slot, bytes, other.read, anew ? 1 : 0)) return false;
    other.told = other.read;
    this.#at = (at + bytes) & (WINDOW - 1);
    this.unacked += bytes;
    return true;
  }

  /**
   * The peer says how many bytes it has copied out so far: no fewer than before, and no more than were sent.
   * @returns how many that are more, −1 where it cannot be
   */
  heard(read: number): number {
    const bytes = (read - this.#acked) | 0;
    if (bytes < 0 || bytes > this.unacked) return -1;
    this.#acked = read;
    this.unacked -= bytes;
    return bytes;
  }
}
