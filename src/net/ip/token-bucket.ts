/**
 * A limit on how often something is done: so many per second, with a burst (RFC 4443 2.4 (f) asks for this form).
 * Pure: time is passed in.
 */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  /** Tokens, and when they were last counted. An array, so that no number is boxed. */
  readonly #state = new Float64Array(2);

  constructor(perSecond: number, burst: number, now: number) {
    if (!(perSecond >= 0 && burst >= 0)) throw new RangeError(`bad rate: ${perSecond} per second, burst ${burst}`);
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#state[0] = burst;
    this.#state[1] = now;
  }

  /** Takes one token; false where there is none. */
  take(now: number): boolean {
    const state = this.#state;
    const elapsed = now - state[1]!;
    if (elapsed > 0) {
      state[0] = Math.min(this.#burst, state[0]! + (elapsed * this.#perSecond) / 1000);
      state[1] = now;
    }
    if (state[0]! < 1) return false;
    state[0] = state[0]! - 1;
    return true;
  }
}
