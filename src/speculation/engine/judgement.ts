/**
 * Whether speculating pays: weighs the wait it saves against what checkpoints and rollbacks cost, from what was measured so far.
 * Pure: durations are handed in, in microseconds; there is no clock and no randomness.
 */

/** Weight of the newest sample in the running means. */
const GAIN = 1 / 16;
/** Below this many outcomes of a class the answer is an optimistic yes. */
const ENOUGH = 8;
/** Where it does not pay, every so many-th chance is taken all the same, since the world may have changed. */
const RETRY_EVERY = 64;

export interface JudgementOptions {
  /** Cost of a checkpoint and its later release, before any was measured. */
  readonly checkpointUs?: number;
  /** Cost of a rollback, not counting the work done again. */
  readonly rollbackUs?: number;
  /** A saving smaller than this is not worth the trouble. */
  readonly minimumGainUs?: number;
}

interface ClassRecord {
  hits: number;
  misses: number;
  /** Running share of predictions that were right. */
  hitRate: number;
  refused: number;
}

export class Judgement {
  #roundTripUs = 0;
  #checkpointUs: number;
  #rollbackUs: number;
  readonly #minimumGainUs: number;
  readonly #classes = new Map<string, ClassRecord>();

  constructor({ checkpointUs = 300, rollbackUs = 6000, minimumGainUs = 100 }: JudgementOptions = {}) {
    this.#checkpointUs = checkpointUs;
    this.#rollbackUs = rollbackUs;
    this.#minimumGainUs = minimumGainUs;
  }

  get roundTripUs(): number {
    return this.#roundTripUs;
  }

  get checkpointUs(): number {
    return this.#checkpointUs;
  }

  roundTrip(us: number): void {
    this.#roundTripUs = this.#roundTripUs === 0 ? us : mean(this.#roundTripUs, us);
  }

  checkpoint(us: number): void {
    this.#checkpointUs = mean(this.#checkpointUs, us);
  }

  rollback(us: number): void {
    this.#rollbackUs = mean(this.#rollbackUs, us);
  }

  /** What became of a prediction of this class, e.g. `getattr` or `create`. */
  outcome(name: string, right: boolean): void {
    const record = this.#class(name);
    if (right) record.hits++;
    else record.misses++;
    record.hitRate = mean(record.hitRate, right ? 1 : 0);
  }

  hitRate(name: string): number {
    return this.#class(name).hitRate;
  }

  /**
   * Should a prediction of this class be used rather than the truth awaited?
   * `newCheckpoint`: it would need one; joining an interval that exists costs next to nothing.
   */
  pays(name: string, newCheckpoint: boolean): boolean {
    const record = this.#class(name);
    // A wrong prediction loses the checkpoint, the rollback and the work done since, which is at most about one round trip.
    const cost =
      (newCheckpoint ? this.#checkpointUs : 0) + (1 - record.hitRate) * (this.#rollbackUs + this.#roundTripUs);
    const gain = record.hitRate * this.#roundTripUs - cost;
    if (gain >= (newCheckpoint ? this.#minimumGainUs : 0)) return true;
    if (record.hits + record.misses < ENOUGH && this.#roundTripUs >= this.#checkpointUs + this.#minimumGainUs)
      return true;
    record.refused++;
    return record.refused % RETRY_EVERY === 0 && this.#roundTripUs > this.#checkpointUs;
  }

  #class(name: string): ClassRecord {
    let record = this.#classes.get(name);
    if (record === undefined) {
      record = { hits: 0, misses: 0, hitRate: 1, refused: 0 };
      this.#classes.set(name, record);
    }
    return record;
  }
}

function mean(old: number, sample: number): number {
  return old + (sample - old) * GAIN;
}
