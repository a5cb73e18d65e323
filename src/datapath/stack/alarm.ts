/**
 * Wakes a thread that sleeps in Node's event loop when the stack's next timer is due: for links that sleep in real time.
 * It touches one timeout of the event loop, and re-arms it only when the deadline has come nearer.
 */
export class Alarm {
  readonly #onDue: () => void;
  readonly #now: () => number;
  #timeout: ReturnType<typeof setTimeout> | null = null;
  #at = Number.POSITIVE_INFINITY;

  /** @param now the clock of the deadlines, in ms */
  constructor(now: () => number, onDue: () => void) {
    this.#now = now;
    this.#onDue = onDue;
  }

  /** Wakes at `deadline` (Infinity: not at all), or sooner where an earlier one was set before: a spurious wake is harmless. */
  set(deadline: number): void {
    if (deadline >= this.#at) return;
    this.clear();
    this.#at = deadline;
    const ms = Math.min(Math.max(0, Math.ceil(deadline - this.#now())), 0x7fffffff);
    this.#timeout = setTimeout(() => {
      this.#timeout = null;
      this.#at = Number.POSITIVE_INFINITY;
      this.#onDue();
    }, ms);
    // Whether the process lives on is said by the host, through its watch.
    this.#timeout.unref();
  }

  clear(): void {
    if (this.#timeout !== null) clearTimeout(this.#timeout);
    this.#timeout = null;
    this.#at = Number.POSITIVE_INFINITY;
  }
}
