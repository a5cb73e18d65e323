/**
 * A clock for simulations: time passes only when nothing else is left to be done, and then at once.
 * It touches nothing but the event loop's queue of immediates.
 */
import type { Cancel, Clock } from '../../src/remote/view/clock.ts';

interface Event {
  readonly at: number;
  readonly order: number;
  readonly action: () => void;
  cancelled: boolean;
}

export class SimulatedClock implements Clock {
  #now = 1000;
  #order = 0;
  readonly #events: Event[] = [];

  now(): number {
    return this.#now;
  }

  wall(): number {
    return 1_700_000_000_000 + this.#now;
  }

  after(ms: number, action: () => void): Cancel {
    const event: Event = { at: this.#now + Math.max(0, ms), order: this.#order++, action, cancelled: false };
    let i = this.#events.length;
    while (i > 0 && later(this.#events[i - 1]!, event)) i--;
    this.#events.splice(i, 0, event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Lets time pass by itself (nobody does anything). */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      await settled();
      const next = this.#events[0];
      if (next === undefined || next.at > until) break;
      this.#step();
    }
    this.#now = until;
  }

  /** Runs until the promise is settled. Throws when nothing is planned any more and it still is not. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const mark = (): void => {
      done = true;
    };
    promise.then(mark, mark);
    for (;;) {
      await settled();
      if (done) return promise;
      if (this.#events.length === 0) throw new Error('nothing is planned any more, and the promise waits');
      this.#step();
    }
  }

  #step(): void {
    const event = this.#events.shift()!;
    this.#now = Math.max(this.#now, event.at);
    if (!event.cancelled) event.action();
  }
}

function later(a: Event, b: Event): boolean {
  return a.at > b.at || (a.at === b.at && a.order > b.order);
}

/** All promises that can go on have gone on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
