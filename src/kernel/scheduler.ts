/**
 * The coroutine scheduler: one generator per task, ready bits in two-level bitmaps, one pair per class (Demikernel 5.4).
 * Pure: it resumes generators and knows nothing of queues, time or I/O.
 */
import { ERRNO, systemError } from '../errors.ts';

/** Application coroutines run first, then background work, then the fast path that polls. */
export const CoroutineClass = { APPLICATION: 0, BACKGROUND: 1, FAST_PATH: 2 } as const;
export type CoroutineClass = (typeof CoroutineClass)[keyof typeof CoroutineClass];
const CLASSES = 3;
/** `finally` blocks, one in the other, that a coroutine ended at once can still wait in. */
const MOST_FINALLY_BLOCKS = 100;

/** A coroutine waits with `yield*` of an operation, and gives way to the others with a plain `yield`. */
export type Coroutine<T = void> = Generator<unknown, T, unknown>;

/** Told when a coroutine ends: with its value, or with the error that escaped from it. */
export type Ended = (id: number, value: unknown, error: Error | null) => void;

/** What a plain `yield` gives, for {@link Scheduler.giveWay}. */
const GIVE_WAY = { done: false, value: undefined } as const;

// Every generator function has a prototype of its own, so that a call of `generator.next` by name is megamorphic where
// coroutines are of many kinds (28 against 17 ns). The method itself is one and the same.
const resumeGenerator = (Object.getPrototypeOf(function* () {}) as GeneratorFunction).prototype.next;

class Bitmap {
  words: Int32Array;
  summary: Int32Array;
  count = 0;

  constructor(capacity: number) {
    this.words = new Int32Array(capacity >> 5);
    this.summary = new Int32Array((capacity >> 10) + 1);
  }

  grow(capacity: number): void {
    const words = new Int32Array(capacity >> 5);
    words.set(this.words);
    this.words = words;
    const summary = new Int32Array((capacity >> 10) + 1);
    summary.set(this.summary);
    this.summary = summary;
  }
}

export interface SchedulerOptions {
  /** Most coroutines alive at once; default 1,048,576. */
  readonly maxCoroutines?: number;
}

export class Scheduler {
  /** The coroutine that runs now, -1 outside. */
  current = -1;
  /** Coroutines alive. */
  alive = 0;
  /** Resumptions since the start. */
  switches = 0;
  onEnded: Ended = () => {};
  readonly #max: number;
  #capacity = 1024;
  #generators: (Coroutine<unknown> | null)[] = [];
  #classOf = new Uint8Array(this.#capacity);
  readonly #ready: Bitmap[] = [];
  readonly #free: number[] = [];
  /** Coroutines that are running and in the middle of cancelling another. */
  readonly #cancelling: number[] = [];

  constructor(options: SchedulerOptions = {}) {
    this.#max = options.maxCoroutines ?? 1 << 20;
    for (let c = 0; c < CLASSES; c++) this.#ready.push(new Bitmap(this.#capacity));
  }

  /** Coroutines that would run now. */
  get ready(): number {
    return this.#ready[0]!.count + this.#ready[1]!.count + this.#ready[2]!.count;
  }

  /** Adds a coroutine, ready to run. Its id is valid until {@link onEnded} names it. */
  spawn(generator: Coroutine<unknown>, coroutineClass: CoroutineClass = CoroutineClass.APPLICATION): number {
    if (this.alive >= this.#max) throw systemError(ERRNO.ENOBUFS, 'spawn', undefined, `${this.alive} coroutines alive`);
    const id = this.#free.pop() ?? this.#generators.length;
    if (id >= this.#capacity) this.#grow();
    this.#generators[id] = generator;
    this.#classOf[id] = coroutineClass;
    this.alive++;
    this.wake(id);
    return id;
  }

  #grow(): void {
    this.#capacity *= 2;
    const classOf = new Uint8Array(this.#capacity);
    classOf.set(this.#classOf);
    this.#classOf = classOf;
    for (const bitmap of this.#ready) bitmap.grow(this.#capacity);
  }

  /** Sets a coroutine's ready bit; setting it twice is harmless. */
  wake(id: number): void {
    const bitmap = this.#ready[this.#classOf[id]!]!;
    const bit = 1 << (id & 31);
    const word = bitmap.words[id >> 5]!;
    if ((word & bit) !== 0) return;
    bitmap.words[id >> 5] = word | bit;
    bitmap.summary[id >> 10] = bitmap.summary[id >> 10]! | (1 << ((id >> 5) & 31));
    bitmap.count++;
  }

  /**
   * Runs every coroutine that is ready now, class by class. One made ready meanwhile may still get its turn, or waits
   * for the next call; none runs twice.
   * @returns how many were resumed
   */
  run(): number {
    const before = this.switches;
    const outer = this.current;
    for (let c = 0; c < CLASSES; c++) {
      const bitmap = this.#ready[c]!;
      if (bitmap.count !== 0) this.#runClass(bitmap);
    }
    this.current = outer;
    return this.switches - before;
  }

  #runClass(bitmap: Bitmap): void {
    const summaries = bitmap.summary.length;
    for (let s = 0; s < summaries; s++) {
      let summary = bitmap.summary[s]!;
      if (summary === 0) continue;
      bitmap.summary[s] = 0;
      do {
        const w = (s << 5) + (31 - Math.clz32(summary & -summary));
        summary &= summary - 1;
        this.#runWord(bitmap, w);
      } while (summary !== 0);
    }
  }

  /** Resumes the coroutines of one word of ready bits. This is the hot loop: it keeps everything it can in locals. */
  #runWord(bitmap: Bitmap, w: number): void {
    let word = bitmap.words[w]!;
    bitmap.words[w] = 0;
    const count = bitsIn(word);
    bitmap.count -= count;
    this.switches += count;
    const generators = this.#generators;
    // Bits of those that gave way are set together at the end, not one by one through wake.
    let again = 0;
    while (word !== 0) {
      const bit = word & -word;
      word ^= bit;
      const id = (w << 5) + 31 - Math.clz32(bit);
      const generator = generators[id]!;
      if (generator === null) continue; // ended by cancel while its bit was set
      this.current = id;
      let result: IteratorResult<unknown, unknown>;
      try {
        result = resumeGenerator.call(generator);
      } catch (error) {
        this.#end(id, undefined, error as Error);
        continue;
      }
      if (result.done === true) this.#end(id, result.value, null);
      // An operation that is waited for is its own iterator result, and wakes the coroutine when it is done.
      else if ((result as { token?: number }).token !== undefined) continue;
      else if (result.value === undefined) again |= bit;
      else this.#misuse(id, generator);
    }
    if (again === 0) return;
    const others = bitmap.words[w]!;
    bitmap.count += bitsIn(again & ~others);
    bitmap.words[w] = others | again;
    bitmap.summary[w >> 5] = bitmap.summary[w >> 5]! | (1 << (w & 31));
  }

  #misuse(id: number, generator: Coroutine<unknown>): void {
    const misused = new TypeError('a coroutine waits with yield*, not yield (a plain yield without a value gives way)');
    this.current = id;
    let value: unknown;
    let failure: Error | null = null;
    try {
      const result = generator.throw(misused);
      value = result.value;
      if (result.done !== true) {
        failure = misused;
        generator.return(undefined);
      }
    } catch (error) {
      failure = error as Error;
    }
    if (this.#generators[id] === generator) this.#end(id, value, failure);
  }

  #end(id: number, value: unknown, error: Error | null): void {
    this.#generators[id] = null;
    this.current = -1;
    this.alive--;
    this.#free.push(id);
    this.onEnded(id, value, error);
  }

  /**
   * Ends a coroutine from outside: what it waits for is withdrawn, its `finally` blocks run. One that waits in a
   * `finally` block lives on until that is through, unless `atOnce`. A coroutine that is running cannot be cancelled.
   */
  cancel(id: number, atOnce = false): void {
    const generator = this.#generators[id];
    if (generator === null || generator === undefined || id === this.current || this.#cancelling.includes(id)) return;
    const outer = this.current;
    this.#cancelling.push(outer);
    this.current = id;
    let failure: Error | null = null;
    let result: IteratorResult<unknown, unknown> | null = null;
    try {
      result = generator.return(undefined);
      for (let blocks = 0; atOnce && result.done !== true && blocks < MOST_FINALLY_BLOCKS; blocks++) {
        result = generator.return(undefined);
      }
    } catch (error) {
      failure = error as Error;
    }
    this.#cancelling.pop();
    if (this.#generators[id] === generator) {
      if (failure !== null || atOnce || result!.done === true) this.#end(id, undefined, failure);
      else if ((result as { token?: number }).token === undefined) {
        if (result!.value === undefined) this.wake(id);
        else this.#misuse(id, generator);
      }
    }
    this.current = outer;
  }

  /** `yield* scheduler.giveWay()`: lets every other ready coroutine run first, as a plain `yield` does for less. */
  giveWay(): Iterable<unknown> {
    return new GiveWay() as Iterable<unknown>;
  }
}

/** How many bits of a word are set. */
function bitsIn(word: number): number {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

class GiveWay {
  #given = false;

  next(): IteratorResult<unknown> {
    if (this.#given) return { done: true, value: undefined };
    this.#given = true;
    return GIVE_WAY as IteratorResult<unknown>;
  }

  [Symbol.iterator](): this {
    return this;
  }
}
