/**
 * What is sent on a stream and what counts as its answer: the messages of an echo.
 * It touches buffers of the kernel's heap; connections are streams.ts's.
 */
import type { HeapBuffer, Kernel, Sga } from '../../index.ts';
import type { LoadConfig } from './config.ts';
import type { Run } from './run.ts';

/** One kind of conversation, for all connections of a load; `slot` says which of them. */
export interface Exchange {
  /** Buffers with the next `count` messages; their references are the caller's. */
  compose(slot: number, count: number): Sga;
  /** Takes what arrived, and the caller's hold on it; gives how many messages it answered, or -1 for nonsense. */
  absorb(slot: number, buffer: HeapBuffer): number;
  /** A new connection begins on the slot. */
  restart(slot: number): void;
  /** Gives its own buffers back. Closing twice is harmless. */
  close(): void;
}

/** Largest piece that messages are put into: bigger ones cost memory and gain nothing. */
const PIECE_BYTES = 65536;

/** So many connections at most have an answer kept for them: the frames of a datapath are some thousand, for everything. */
const MOST_KEPT = 1024;

/** Byte `at` of every message of a slot; differs between neighbouring slots, so that answers that went astray show. */
export function patternByte(slot: number, at: number): number {
  return (at * 7 + slot * 31 + 97) & 0xff;
}

export class EchoExchange implements Exchange {
  readonly #k: Kernel;
  readonly #run: Run;
  readonly #size: number;
  readonly #depth: number;
  readonly #batchBytes: number;
  readonly #verify: boolean;
  /** Bytes of the message that is being answered. */
  readonly #partial: Int32Array;
  /** One batch that all connections may send again and again: nothing is allocated per message. */
  #batch: readonly HeapBuffer[];
  /**
   * Of each slot an answer that is a batch by itself. It is sent as the next one, headers in front of it in place, as an echo
   * server does: the shared batch has to be copied behind its headers.
   */
  readonly #answers: (HeapBuffer | null)[];

  constructor(k: Kernel, run: Run, config: LoadConfig) {
    this.#k = k;
    this.#run = run;
    this.#size = config.size;
    this.#depth = config.depth;
    this.#batchBytes = config.size * config.depth;
    this.#verify = config.verify;
    this.#partial = new Int32Array(config.connections);
    const keeps = !config.verify && config.connections <= MOST_KEPT;
    this.#answers = new Array<HeapBuffer | null>(keeps ? config.connections : 0).fill(null);
    this.#batch = this.#verify ? [] : pieces(k, this.#batchBytes, config.size, 0);
  }

  compose(slot: number, count: number): Sga {
    if (this.#verify || count !== this.#depth) return pieces(this.#k, count * this.#size, this.#size, slot);
    const answer = this.#answers.length > 0 ? this.#answers[slot]! : null;
    if (answer !== null) {
      this.#answers[slot] = null;
      return answer;
    }
    const batch = this.#batch;
    if (batch.length === 1) return batch[0]!.retain();
    for (let i = 0; i < batch.length; i++) batch[i]!.retain();
    return batch;
  }

  absorb(slot: number, buffer: HeapBuffer): number {
    const before = this.#partial[slot]!;
    const { length } = buffer;
    if (this.#verify) this.#compare(slot, before, buffer);
    const isBatch = before === 0 && length === this.#batchBytes;
    if (isBatch && this.#answers.length > 0 && this.#answers[slot] === null) this.#answers[slot] = buffer;
    else buffer.release();
    if (isBatch) return this.#depth;
    const bytes = before + length;
    const count = (bytes / this.#size) | 0;
    this.#partial[slot] = bytes - count * this.#size;
    return count;
  }

  #compare(slot: number, before: number, { memory, offset, length }: HeapBuffer): void {
    const size = this.#size;
    let wrong = -1;
    for (let i = 0; i < length; i++) {
      const at = (before + i) % size;
      if (memory[offset + i] === patternByte(slot, at)) continue;
      const message = (before + i - at) / size;
      if (message !== wrong) this.#run.errors.wrong++;
      wrong = message;
    }
  }

  restart(slot: number): void {
    this.#partial[slot] = 0;
  }

  close(): void {
    for (const answer of this.#answers) answer?.release();
    this.#answers.fill(null);
    for (const buffer of this.#batch) buffer.release();
    this.#batch = [];
  }
}

/** Buffers that hold `bytes` bytes of messages of `size` bytes. @throws IsthmusError ENOMEM */
function pieces(k: Kernel, bytes: number, size: number, slot: number): HeapBuffer[] {
  const buffers: HeapBuffer[] = [];
  const largest = Math.min(k.heap.largest, PIECE_BYTES);
  try {
    for (let done = 0; done < bytes; ) {
      const length = Math.min(largest, bytes - done);
      const buffer = k.alloc(length);
      buffers.push(buffer);
      for (let i = 0; i < length; i++) buffer.memory[buffer.offset + i] = patternByte(slot, (done + i) % size);
      done += length;
    }
  } catch (error) {
    for (const buffer of buffers) buffer.release();
    throw error;
  }
  return buffers;
}
