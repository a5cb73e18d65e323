/**
 * Whether speculating pays: weighs the wait it saves against what checkpoints and rollbacks cost, from what was measured so far.
 * Pure: durations are handed in, in microseconds; there is no clock and no randomness.
 */

/** Weight of the newest sample in the running means. */
const GAIN = 1 / 16;
/** What a checkpoint costs in all, for the time that it takes: its process stops at every call until it is released. */
const CHECKPOINT_COST = 1.5;
/** Below this many outcomes of a class the answer is an optimistic yes; below this many checkpoints their cost is not known. */
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

/** The shortest of the newest samples, of which there are at least a window: the others waited for one another, or for a processor. */
class Shortest {
  readonly #window: number;
  #samples = 0;
  #now = Infinity;
  #before = Infinity;

  constructor(window: number) {
    this.#window = window;
  }

  get samples(): number {
    return this.#samples;
  }

  /** Infinity where there are none. */
  get value(): number {
    return Math.min(this.#now, this.#before);
  }

  add(sample: number): void {
    if (this.#samples++ % this.#window === 0) {
      this.#before = this.#now;
      this.#now = sample;
    } else this.#now = Math.min(this.#now, sample);
  }
}

interface ClassRecord {
  hits: number;
  misses: number;
  /** Running share of predictions that were right. */
  hitRate: number;
  refused: number;
}

export class Judgement {
  readonly #roundTrip = new Shortest(64);
  readonly #checkpoint = new Shortest(16);
  readonly #assumedCheckpointUs: number;
  /** Predictions that a checkpoint has served: running mean, and the present one's. */
  #served = 1;
  #servedNow = 0;
  #rollbackUs: number;
  readonly #minimumGainUs: number;
  readonly #classes = new Map<string, ClassRecord>();

  constructor({ checkpointUs = 600, rollbackUs = 6000, minimumGainUs = 100 }: JudgementOptions = {}) {
    this.#assumedCheckpointUs = checkpointUs;
    this.#rollbackUs = rollbackUs;
    this.#minimumGainUs = minimumGainUs;
  }

  get roundTripUs(): number {
    return this.#roundTrip.samples === 0 ? 0 : this.#roundTrip.value;
  }

  get checkpointUs(): number {
    // The first ones are slow: the tracer's code is not compiled yet.
    return CHECKPOINT_COST * (this.#checkpoint.samples < ENOUGH ? this.#assumedCheckpointUs : this.#checkpoint.value);
  }

  roundTrip(us: number): void {
    this.#roundTrip.add(us);
  }

  checkpoint(us: number): void {
    this.#checkpoint.add(us);
  }

  /** A checkpoint has been taken: the predictions from here on need it. */
  checkpointTaken(): void {
    if (this.#servedNow > 0) this.#served = mean(this.#served, this.#servedNow);
    this.#servedNow = 0;
  }

  /** A prediction is being used. */
  predicted(): void {
    this.#servedNow++;
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
    const { roundTripUs, checkpointUs } = this;
    // A wrong prediction loses the checkpoint, the rollback and the work done since, which is at most about one round trip.
    const cost = (newCheckpoint ? checkpointUs : 0) + (1 - record.hitRate) * (this.#rollbackUs + roundTripUs);
    const gain = record.hitRate * roundTripUs * (newCheckpoint ? this.#served : 1) - cost;
    if (gain >= (newCheckpoint ? this.#minimumGainUs : 0)) return true;
    if (record.hits + record.misses < ENOUGH && roundTripUs >= checkpointUs + this.#minimumGainUs) return true;
    record.refused++;
    return record.refused % RETRY_EVERY === 0;
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
