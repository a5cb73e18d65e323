/**
 * A histogram of latencies with the layout of HdrHistogram: exact below 2048 units, three significant digits above.
 * Pure: one array of counts, made once.
 *
 * It is our own because hdr-histogram-js takes 30 ns (32-bit buckets, the only size without a string or a bigint in it)
 * to 95 ns for a recording and 45 ms to import; this one takes 1.5 ns. The buckets are the same, so that a finished
 * histogram passes into theirs without loss (hdr-file.ts).
 */

/** Values are recorded in units of 100 ns: 31 bits of them reach 214 s. */
export const UNITS_PER_US = 10;
export const LARGEST_UNITS = 0x7fffffff;

/** HdrHistogram's subBucketCount for 3 digits is 2048: half of it per power of two. */
const HALF_BITS = 10;
const HALF = 1 << HALF_BITS;
const BUCKETS = (31 - HALF_BITS + 1) * HALF;

/** Index of the counter of a value, 0 … 2^31 - 1. */
function indexOf(value: number): number {
  const shift = 31 - HALF_BITS - Math.clz32(value | (2 * HALF - 1));
  return (shift << HALF_BITS) + (value >> shift);
}

/** Smallest value that is counted at `index`, and how many values share it. */
function lowestAt(index: number): number {
  if (index < 2 * HALF) return index;
  const shift = (index >> HALF_BITS) - 1;
  return (HALF + (index & (HALF - 1))) * 2 ** shift;
}

function widthAt(index: number): number {
  return index < 2 * HALF ? 1 : 2 ** ((index >> HALF_BITS) - 1);
}

/** Milliseconds as whole units: a fraction given to `record` would be put into a box for each message. */
export function unitsOf(ms: number): number {
  const units = ms * (UNITS_PER_US * 1000);
  return units < LARGEST_UNITS ? units | 0 : LARGEST_UNITS;
}

export class LatencyHistogram {
  /** Doubles count exactly to 2^53 and need no overflow check. */
  readonly #counts = new Float64Array(BUCKETS);
  #total = 0;
  #sum = 0;
  #least = LARGEST_UNITS;
  #most = 0;

  /** Counts `count` messages that took `units` × 100 ns each. Values out of range count as the nearest in it. */
  record(units: number, count: number): void {
    let value = units;
    if (!(value >= 0)) value = 0;
    else if (value > LARGEST_UNITS) value = LARGEST_UNITS;
    value |= 0;
    const index = indexOf(value);
    this.#counts[index] = this.#counts[index]! + count;
    this.#total += count;
    this.#sum += value * count;
    if (value < this.#least) this.#least = value;
    if (value > this.#most) this.#most = value;
  }

  get count(): number {
    return this.#total;
  }

  /** Mean, in µs. */
  get meanUs(): number {
    return this.#total === 0 ? 0 : this.#sum / this.#total / UNITS_PER_US;
  }

  get minUs(): number {
    return this.#total === 0 ? 0 : this.#least / UNITS_PER_US;
  }

  get maxUs(): number {
    return this.#most / UNITS_PER_US;
  }

  /** The value that `percentile` percent of the messages did not exceed, in µs, as HdrHistogram has it (highest equivalent). */
  percentileUs(percentile: number): number {
    if (this.#total === 0) return 0;
    const wanted = Math.max(1, Math.ceil((Math.min(100, percentile) / 100) * this.#total - 1e-9));
    let seen = 0;
    for (let index = 0; index < BUCKETS; index++) {
      seen += this.#counts[index]!;
      if (seen >= wanted) return Math.min(lowestAt(index) + widthAt(index) - 1, this.#most) / UNITS_PER_US;
    }
    return this.maxUs;
  }

  reset(): void {
    this.#counts.fill(0);
    this.#total = 0;
    this.#sum = 0;
    this.#least = LARGEST_UNITS;
    this.#most = 0;
  }

  /** Every counter in use, in ascending order: its middle value in units of 100 ns, and its count. */
  *entries(): Generator<{ units: number; count: number }, void, void> {
    for (let index = 0; index < BUCKETS; index++) {
      const count = this.#counts[index]!;
      if (count > 0) yield { units: lowestAt(index) + Math.floor(widthAt(index) / 2), count };
    }
  }
}
