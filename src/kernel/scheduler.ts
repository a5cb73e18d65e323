/**
 * The coroutine scheduler: one generator per task, ready bits in two-level bitmaps, one pair per class (Demikernel 5.4).
 * Pure: it resumes generators and knows nothing of queues, time or I/O.
 */
import { ERRNO, systemError } from '../errors.ts';

/** Application coroutines run first, then background work, then the fast path that polls. */
export const CoroutineClass = { APPLICATION: 0, BACKGROUND: 1, FAST_PATH: 2 } as const;
export type CoroutineClass = (typeof CoroutineClass)[keyof typeof CoroutineClass];
const CLASSES = 3;

/** What a coroutine yields: an operation (through `yield*`), or the scheduler's own marks. */
export type Coroutine<T = void> = Generator<unknown, T, unknown>;

/** Told when a coroutine ends: with its value, or with the error that escaped from it. */
export type Ended = (id: number, value: unknown, error: Error | null) => void;

/** Yielded (through {@link Scheduler.giveWay}) by a coroutine that wants to run again after the others. */
const GIVE_WAY = { done: false, value: undefined } as const;

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
   * Runs every coroutine that is ready now, class by class; those made ready meanwhile wait for the next call.
   * @returns how many were resumed
   */
  run(): number {
    const before = this.switches;
    for (let c = 0; c < CLASSES; c++) {
      const bitmap = this.#ready[c]!;
      if (bitmap.count !== 0) this.#runClass(bitmap);
    }
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
        let word = bitmap.words[w]!;
        bitmap.words[w] = 0;
        while (word !== 0) {
          const id = (w << 5) + (31 - Math.clz32(word & -word));
          word &= word - 1;
          bitmap.count--;
          this.#resume(id);
        }
      } while (summary !== 0);
    }
  }

  #resume(id: number): void {
    const generator = this.#generators[id];
    if (generator === null || generator === undefined) return; // ended by cancel while its bit was set
    this.switches++;
    const outer = this.current;
    this.current = id;
    let result: IteratorResult<unknown, unknown>;
    try {
      result = generator.next();
    } catch (error) {
      this.current = outer;
      this.#end(id, undefined, error as Error);
      return;
    }
    this.current = outer;
    if (result.done === true) this.#end(id, result.value, null);
    else if (result === (GIVE_WAY as IteratorResult<unknown>)) this.wake(id);
    else if ((result as { token?: number }).token === undefined) this.#misuse(id, generator);
  }

  #misuse(id: number, generator: Coroutine<unknown>): void {
    try {
      generator.throw(new TypeError('a coroutine must wait with yield*, not yield'));
    } catch (error) {
      this.#end(id, undefined, error as Error);
      return;
    }
    this.#end(id, undefined, null);
  }

  #end(id: number, value: unknown, error: Error | null): void {
    this.#generators[id] = null;
    this.alive--;
    this.#free.push(id);
    this.onEnded(id, value, error);
  }

  /** Ends a coroutine from outside: what it waits for is withdrawn, its `finally` blocks run. */
  cancel(id: number): void {
    const generator = this.#generators[id];
    if (generator === null || generator === undefined || id === this.current) return;
    const outer = this.current;
    this.current = id;
    let failure: Error | null = null;
    try {
      generator.return(undefined);
    } catch (error) {
      failure = error as Error;
    }
    this.current = outer;
    if (this.#generators[id] === generator) this.#end(id, undefined, failure);
  }

  /** `yield* scheduler.giveWay()`: lets every other ready coroutine run first. */
  giveWay(): Iterable<unknown> {
    return new GiveWay() as Iterable<unknown>;
  }
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
