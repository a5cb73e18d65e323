/**
 * Who may go at the same time on one file: reads of anything together, writes of different ranges together, nothing past a
 * write it overlaps. Pure. Servers run what they receive together in any order, so this order can be kept only here.
 */

interface Waiter {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  /** Lets it go; null once it went. */
  go: (() => void) | null;
}

export class RangeGate {
  /** Those inside and those waiting, in order of arrival. Short: it holds what is outstanding on one file. */
  #line: Waiter[] = [];

  get busy(): number {
    return this.#line.length;
  }

  /** Runs `work` once nothing that came before and overlaps is left, unless all are reads. `end` may be Infinity. */
  async run<T>(start: number, end: number, exclusive: boolean, work: () => Promise<T>): Promise<T> {
    const waiter: Waiter = { start, end, exclusive, go: null };
    this.#line.push(waiter);
    try {
      if (this.#isBlocked(waiter, this.#line.length - 1)) {
        await new Promise<void>((resolve) => {
          waiter.go = resolve;
        });
      }
      return await work();
    } finally {
      this.#line.splice(this.#line.indexOf(waiter), 1);
      this.#letGo();
    }
  }

  #letGo(): void {
    for (let i = 0; i < this.#line.length; i++) {
      const waiter = this.#line[i] as Waiter;
      if (waiter.go === null || this.#isBlocked(waiter, i)) continue;
      const { go } = waiter;
      waiter.go = null;
      go();
    }
  }

  #isBlocked(waiter: Waiter, position: number): boolean {
    for (let i = 0; i < position; i++) {
      const earlier = this.#line[i] as Waiter;
      const overlaps = earlier.start < waiter.end && waiter.start < earlier.end;
      if (overlaps && (earlier.exclusive || waiter.exclusive)) return true;
    }
    return false;
  }
}
