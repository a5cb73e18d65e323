/**
 * The calls that wait for a place on the wire, in their order; bounded.
 * Pure.
 */
import type { PendingCall } from './pending.ts';

/** So many that have left are taken out of the array at once. */
const COMPACT_AT = 1024;

export class CallQueue {
  readonly #limit: number;
  #calls: PendingCall[] = [];
  #head = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Calls that wait, with those that were given up since the last {@link dropSettled}. */
  get length(): number {
    return this.#calls.length - this.#head;
  }

  /** False where it is full. */
  push(call: PendingCall): boolean {
    if (this.length >= this.#limit) return false;
    this.#calls.push(call);
    return true;
  }

  /** The one that has waited longest; the queue must not be empty. */
  shift(): PendingCall {
    const call = this.#calls[this.#head++] as PendingCall;
    if (this.#head === this.#calls.length || this.#head > COMPACT_AT) {
      this.#calls.splice(0, this.#head);
      this.#head = 0;
    }
    return call;
  }

  /** Those that were not given up. */
  waiting(): PendingCall[] {
    return this.#calls.slice(this.#head).filter((call) => !call.settled);
  }

  dropSettled(): void {
    this.#calls = this.waiting();
    this.#head = 0;
  }
}
