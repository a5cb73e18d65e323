/**
 * The bytes an application has given to be sent, as the buffers it gave, from SND.UNA to the end of what is queued.
 * It holds one reference of each buffer and releases it when all its bytes are acknowledged; it touches nothing else.
 */
import type { HeapBuffer } from '../../ring/heap.ts';

const FIRST_CAPACITY = 4;
// Words per entry: sequence number of the first byte, offset in memory, length.
const STRIDE = 4;
const START = 0;
const OFFSET = 1;
const LENGTH = 2;

/** A ring of buffers. Offsets are kept here, because a header written in place moves the buffer's own. */
export class SendQueue {
  count = 0;
  #capacity = FIRST_CAPACITY;
  #head = 0;
  #buffers: (HeapBuffer | null)[] = [null, null, null, null];
  // Small integers in a plain array: half the memory of a small typed array, and most connections need no more.
  #words: number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  /** Where the last lookup ended, counted from the head: the next one is mostly there or one further. */
  #hint = 0;

  /** Adds a buffer whose first byte has sequence number `seq`; takes over the caller's reference. */
  push(buffer: HeapBuffer, seq: number): void {
    if (this.count === this.#capacity) this.#grow();
    const slot = (this.#head + this.count) & (this.#capacity - 1);
    this.#buffers[slot] = buffer;
    const at = slot * STRIDE;
    this.#words[at + START] = seq;
    this.#words[at + OFFSET] = buffer.offset;
    this.#words[at + LENGTH] = buffer.length;
    this.count++;
  }

  /** Releases what lies wholly before `una`. */
  acknowledge(una: number): void {
    const words = this.#words;
    while (this.count > 0) {
      const at = this.#head * STRIDE;
      if (((words[at + START]! + words[at + LENGTH]! - una) | 0) > 0) return;
      this.#drop();
    }
  }

  clear(): void {
    while (this.count > 0) this.#drop();
  }

  #drop(): void {
    const buffer = this.#buffers[this.#head]!;
    this.#buffers[this.#head] = null;
    this.#head = (this.#head + 1) & (this.#capacity - 1);
    this.count--;
    if (this.#hint > 0) this.#hint--;
    buffer.release();
  }

  /** The slot that holds the byte `seq`; -1 where none does. */
  find(seq: number): number {
    let place = this.#hint;
    if (place < this.count) {
      if (this.#holds(place, seq)) return this.#slot(place);
      if (place + 1 < this.count && this.#holds(place + 1, seq)) {
        this.#hint = place + 1;
        return this.#slot(place + 1);
      }
    }
    let low = 0;
    let high = this.count - 1;
    while (low <= high) {
      place = (low + high) >> 1;
      const at = this.#slot(place) * STRIDE;
      const distance = (seq - this.#words[at + START]!) | 0;
      if (distance < 0) high = place - 1;
      else if (distance >= this.#words[at + LENGTH]!) low = place + 1;
      else {
        this.#hint = place;
        return this.#slot(place);
      }
    }
    return -1;
  }

  #slot(place: number): number {
    return (this.#head + place) & (this.#capacity - 1);
  }

  #holds(place: number, seq: number): boolean {
    const at = this.#slot(place) * STRIDE;
    const distance = (seq - this.#words[at + START]!) | 0;
    return distance >= 0 && distance < this.#words[at + LENGTH]!;
  }

  next(slot: number): number {
    return (slot + 1) & (this.#capacity - 1);
  }

  buffer(slot: number): HeapBuffer {
    return this.#buffers[slot]!;
  }

  /** Sequence number of the first byte in a slot. */
  start(slot: number): number {
    return this.#words[slot * STRIDE + START]!;
  }

  offset(slot: number): number {
    return this.#words[slot * STRIDE + OFFSET]!;
  }

  length(slot: number): number {
    return this.#words[slot * STRIDE + LENGTH]!;
  }

  #grow(): void {
    const old = this.#capacity;
    const buffers: (HeapBuffer | null)[] = [];
    const words: number[] = [];
    for (let i = 0; i < 2 * old; i++) {
      const slot = (this.#head + i) & (old - 1);
      buffers.push(i < old ? this.#buffers[slot]! : null);
      for (let w = 0; w < STRIDE; w++) words.push(i < old ? this.#words[slot * STRIDE + w]! : 0);
    }
    this.#buffers = buffers;
    this.#words = words;
    this.#head = 0;
    this.#capacity = 2 * old;
  }
}
