/**
 * The slots of a session: each carries one request at a time, and its sequence id makes a retransmission recognisable.
 * Pure (RFC 8881 section 2.10.6).
 */
import { transportError } from '../remote-error.ts';

export interface Slot {
  readonly id: number;
  /** Of the last request the server has seen on this slot. */
  sequenceId: number;
}

interface Waiter {
  resolve(slot: Slot): void;
  reject(error: Error): void;
}

/** Above this many requests waiting for a slot the next one fails with `ENOBUFS`. */
const MAX_WAITING = 65_536;

export class SlotTable {
  readonly #slots: Slot[];
  readonly #free: boolean[];
  readonly #waiting: Waiter[] = [];
  #waitingHead = 0;
  /** Slots from here on are not to be used: the server wants fewer. */
  #limit: number;
  readonly #inDoubt: boolean[];
  /** The highest slot ever used, which every request tells. */
  highestUsed = 0;

  constructor(count: number) {
    this.#slots = Array.from({ length: count }, (_, id) => ({ id, sequenceId: 0 }));
    this.#free = this.#slots.map(() => true);
    this.#inDoubt = this.#slots.map(() => false);
    this.#limit = count;
  }

  /** Half of the slots that the server wants in use are in doubt: time for another session. */
  get worn(): boolean {
    let inDoubt = 0;
    for (let id = 0; id < this.#limit; id++) if (this.#inDoubt[id]) inDoubt++;
    return inDoubt * 2 >= this.#limit;
  }

  /** A free slot, or null: then `wait`. */
  take(): Slot | null {
    for (let id = 0; id < this.#limit; id++) {
      if (!this.#free[id]) continue;
      this.#free[id] = false;
      if (id > this.highestUsed) this.highestUsed = id;
      return this.#slots[id]!;
    }
    return null;
  }

  wait(): Promise<Slot> {
    if (this.#waiting.length - this.#waitingHead >= MAX_WAITING) {
      return Promise.reject(transportError('ENOBUFS', 'SEQUENCE', 'too many requests wait for a slot'));
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  release(slot: Slot): void {
    this.#free[slot.id] = true;
    this.#serve();
  }

  /** The server may or may not have seen the slot's last request, so it cannot be used any more. */
  retire({ id }: Slot): void {
    this.#inDoubt[id] = true;
  }

  /** The server wants `count` slots in use. Gives whether that is news. */
  limit(count: number): boolean {
    const limit = Math.max(1, Math.min(count, this.#slots.length));
    if (limit === this.#limit) return false;
    this.#limit = limit;
    this.#serve();
    return true;
  }

  /** Whoever waits is told: a new session has come, or none will. */
  dismiss(error: Error): void {
    for (const waiter of this.#waiting.splice(0).slice(this.#waitingHead)) waiter.reject(error);
    this.#waitingHead = 0;
  }

  #serve(): void {
    while (this.#waitingHead < this.#waiting.length) {
      const slot = this.take();
      if (slot === null) return;
      this.#waiting[this.#waitingHead++]!.resolve(slot);
    }
    if (this.#waitingHead > 0) {
      this.#waiting.length = 0;
      this.#waitingHead = 0;
    }
  }
}
