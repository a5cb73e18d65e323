/**
 * Processes that stand before a call which waits for the truth: which, why, and for how long.
 * It counts into the statistics it is given.
 */
import type { Pid } from '../process/backend.ts';
import type { HoldSum } from './statistics.ts';

export class Holds {
  readonly #sums: Record<string, HoldSum>;
  readonly #now: () => number;
  readonly #open = new Map<Pid, { readonly reason: string; readonly sinceMs: number }>();

  constructor(sums: Record<string, HoldSum>, now: () => number) {
    this.#sums = sums;
    this.#now = now;
  }

  begin(pid: Pid, reason: string): void {
    this.#open.set(pid, { reason, sinceMs: this.#now() });
  }

  /** If it was held, it is not any more. */
  end(pid: Pid): void {
    const hold = this.#open.get(pid);
    if (hold === undefined) return;
    this.#open.delete(pid);
    const { count, ms } = this.#sums[hold.reason] ?? { count: 0, ms: 0 };
    this.#sums[hold.reason] = { count: count + 1, ms: ms + this.#now() - hold.sinceMs };
  }
}
