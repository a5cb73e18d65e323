/**
 * The simulator's only source of chance: xoshiro128** (Blackman and Vigna, 2018), the same numbers for the same seed.
 * Pure: no clock and no other randomness reaches a simulation.
 */
export class Random {
  readonly #state = new Int32Array(4);

  /** @param seed any integer; its low 32 bits count */
  constructor(seed: number) {
    // splitmix32, as the authors advise, so that neighbouring seeds have nothing in common.
    let z = seed | 0;
    for (let i = 0; i < 4; i++) {
      z = (z + 0x9e3779b9) | 0;
      let x = z;
      x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
      x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
      this.#state[i] = x ^ (x >>> 15);
    }
  }

  /** 32 random bits, unsigned. */
  next(): number {
    const s = this.#state;
    const s1 = s[1]!;
    const product = Math.imul(s1, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const s2 = s[2]! ^ s[0]!;
    const s3 = s[3]! ^ s1;
    s[1] = s1 ^ s2;
    s[0] = s[0]! ^ s3;
    s[2] = s2 ^ (s1 << 9);
    s[3] = (s3 << 11) | (s3 >>> 21);
    return result;
  }

  /** At least 0, below 1. */
  unit(): number {
    return this.next() / 2 ** 32;
  }

  /** An integer from 0 to `bound` - 1. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound);
  }

  /** An integer from `range[0]` to `range[1]`, both included. */
  between(range: readonly [number, number]): number {
    return range[0] + this.below(range[1] - range[0] + 1);
  }

  /** True with this probability. Where it is 0 nothing is drawn, so that an unused fault changes nothing. */
  chance(probability: number): boolean {
    return probability > 0 && this.unit() < probability;
  }
}
