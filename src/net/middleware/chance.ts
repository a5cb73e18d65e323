/**
 * Chance by seed (xoshiro128**, Blackman and Vigna), for faults that can be had again. Pure.
 */
export class Chance {
  readonly #state = new Int32Array(4);

  constructor(seed: number) {
    // SplitMix32 fills the state, so that seeds that differ by one bit begin far apart.
    let z = seed | 0;
    for (let i = 0; i < 4; i++) {
      z = (z + 0x9e3779b9) | 0;
      let word = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
      this.#state[i] = word ^ (word >>> 15);
    }
  }

  /** 32 bits, as a signed integer. */
  readonly next = (): number => {
    const s = this.#state;
    const five = Math.imul(s[1]!, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9);
    const shifted = s[1]! << 9;
    s[2] = s[2]! ^ s[0]!;
    s[3] = s[3]! ^ s[1]!;
    s[1] = s[1]! ^ s[2]!;
    s[0] = s[0]! ^ s[3]!;
    s[2] = s[2]! ^ shifted;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result | 0;
  };

  /** True with this probability. */
  happens(probability: number): boolean {
    return probability > 0 && (this.next() >>> 0) / 2 ** 32 < probability;
  }

  /** An integer, 0 … n - 1. */
  below(n: number): number {
    return (this.next() >>> 0) % n;
  }
}
