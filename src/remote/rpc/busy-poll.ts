/**
 * Keeps the event loop from sleeping while the only call outstanding is expected back within microseconds: falling asleep
 * and being woken can cost more than a near server's answer takes. It touches the event loop and the clock.
 *
 * Whether that pays is measured and not assumed: on a busy machine a polling loop takes the processor from a server beside it.
 * Calls go in windows, polled or slept through, and the better way gets the long ones. A server further away than the
 * limit is never polled for.
 */

/** Calls in a window that tries the other way, and in one that does the better. */
const TRIAL = 16;
const LONG = 256;
/** Polling must be better by this factor, since it costs processor time. */
const WORTH_IT = 0.9;
/** How far beyond the limit an answer may be before the loop is allowed to sleep. */
const PATIENCE = 2;

export class BusyPoll {
  readonly #limitMs: number;
  /** What a call took lately, slept through and polled for; NaN: not tried. */
  #sleptMs = Number.NaN;
  #polledMs = Number.NaN;
  #polling = false;
  #trying = true;
  #left = TRIAL;
  #count = 0;
  #sumMs = 0;
  #sentAt = 0;
  #until = 0;
  #turning = false;
  readonly #turn = (): void => {
    if (performance.now() < this.#until) setImmediate(this.#turn);
    else this.#turning = false;
  };

  /** `limitMs`: the longest average round trip that is polled for; 0: never. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** Whether the present window is polled for. */
  get polling(): boolean {
    return this.#polling;
  }

  /** The only outstanding call was sent. */
  sent(now: number): void {
    this.#sentAt = now;
    if (!this.#polling) return;
    this.#until = now + PATIENCE * this.#limitMs;
    if (this.#turning) return;
    this.#turning = true;
    setImmediate(this.#turn);
  }

  /** The reply of the call that was sent alone has come, and it is still the only one. */
  received(now: number): void {
    if (this.#limitMs === 0) return;
    this.#until = 0;
    this.#sumMs += now - this.#sentAt;
    this.#count++;
    if (--this.#left === 0) this.#nextWindow();
  }

  #nextWindow(): void {
    const meanMs = this.#sumMs / this.#count;
    this.#sumMs = 0;
    this.#count = 0;
    if (this.#polling) this.#polledMs = meanMs;
    else this.#sleptMs = meanMs;
    const mayPoll = this.#sleptMs <= this.#limitMs;
    const better = mayPoll && !(this.#polledMs > this.#sleptMs * WORTH_IT);
    // After a long window the other way is tried shortly, for the machine and the server may have changed.
    this.#trying = !this.#trying;
    this.#polling = this.#trying ? mayPoll && !better : better;
    this.#left = this.#trying ? TRIAL : LONG;
  }
}
