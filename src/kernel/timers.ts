/**
 * A hierarchical timer wheel (Varghese and Lauck, scheme 7): five levels of 64 slots, one tick per millisecond.
 * Pure: time is passed in, and it touches only its own arrays and the targets it was given.
 */
import { ERRNO, systemError } from '../errors.ts';

/** Who is told that a timer is due. The handle names no timer any more when this is called. */
export interface Timed {
  expired(timer: number): void;
}

export interface TimerWheelOptions {
  /** Most timers at once, up to 1,048,576 (the default). */
  readonly maxTimers?: number;
}

const LEVEL_BITS = 6;
const SLOTS = 1 << LEVEL_BITS;
const SLOT_MASK = SLOTS - 1;
const LEVELS = 5;
/** Farthest tick the wheel can hold; a later timer waits in the last slot and is put down again from there. */
const FARTHEST = 2 ** (LEVEL_BITS * LEVELS) - 1;

const INDEX_BITS = 20;
const INDEX_MASK = (1 << INDEX_BITS) - 1;
const GENERATION_MASK = 0x7ff;
const FIRST_CAPACITY = 256;

// Each list is circular around a sentinel, so that a timer can leave it without knowing which list it is in.
const DUE = LEVELS * SLOTS;
const FIRING = DUE + 1;
const FREE = DUE + 2;
const SENTINELS = DUE + 3;

const NOW = 0;
const NEXT = 1;

export class TimerWheel {
  readonly #max: number;
  #capacity: number;
  #size = 0;
  #next: Int32Array;
  #previous: Int32Array;
  #generations: Int32Array;
  /** Tick of each timer: doubles, because a wheel may run for longer than 2^31 ms. */
  #ticks: Float64Array;
  readonly #targets: (Timed | null)[] = [];
  /** Slots in use: two words per level. */
  readonly #occupied = new Int32Array(2 * LEVELS);
  /** The tick the wheel stands at, and the next one where it has work. An array, so that no number is boxed. */
  readonly #time = new Float64Array(2);

  /** @param now milliseconds of a monotonic clock, may be fractional */
  constructor(now: number, options: TimerWheelOptions = {}) {
    const max = options.maxTimers ?? 1 << INDEX_BITS;
    if (!(Number.isInteger(max) && max >= 1 && max <= 1 << INDEX_BITS)) throw new RangeError(`bad maxTimers: ${max}`);
    if (!Number.isFinite(now)) throw new RangeError(`not a time: ${now}`);
    this.#max = max;
    this.#capacity = 0;
    this.#next = new Int32Array(SENTINELS);
    this.#previous = new Int32Array(SENTINELS);
    for (let list = 0; list < SENTINELS; list++) this.#next[list] = this.#previous[list] = list;
    this.#generations = new Int32Array(0);
    this.#ticks = new Float64Array(0);
    this.#time[NOW] = Math.floor(now);
    this.#time[NEXT] = Number.POSITIVE_INFINITY;
    this.#grow();
  }

  /** Timers that have neither fired nor been cancelled. */
  get size(): number {
    return this.#size;
  }

  /**
   * Arms a timer. It fires in the first {@link advance} to `deadline` or later, rounded up to a whole millisecond;
   * one whose deadline the wheel has already reached fires in the next advance.
   * @param deadline milliseconds on the clock of the constructor
   * @returns a handle, at least 0, stale once the timer has fired or been cancelled
   * @throws RangeError where `deadline` is not finite; IsthmusError ENOBUFS at the bound
   */
  schedule(deadline: number, target: Timed): number {
    if (!Number.isFinite(deadline)) throw new RangeError(`not a deadline: ${deadline}`);
    if (this.#next[FREE] === FREE) this.#grow();
    const node = this.#next[FREE]!;
    this.#unlink(node);
    const index = node - SENTINELS;
    const tick = Math.ceil(deadline);
    this.#ticks[index] = tick;
    this.#targets[index] = target;
    this.#size++;
    const now = this.#time[NOW]!;
    if (tick > now) {
      const wanted = this.#place(node, tick, now);
      if (wanted < this.#time[NEXT]!) this.#time[NEXT] = wanted;
    } else {
      this.#append(DUE, node);
      this.#time[NEXT] = now;
    }
    return (this.#generations[index]! << INDEX_BITS) | index;
  }

  /** Disarms a timer; false where it has already fired or been cancelled. */
  cancel(timer: number): boolean {
    const index = timer & INDEX_MASK;
    if (timer < 0 || index >= this.#capacity) return false;
    if (timer >>> INDEX_BITS !== this.#generations[index] || this.#targets[index] === null) return false;
    const node = SENTINELS + index;
    const list = this.#unlink(node);
    if (list < DUE) this.#vacate(list);
    this.#release(node);
    return true;
  }

  /**
   * Moves time forward and fires what is due, tick by tick. Targets may schedule and cancel meanwhile; where one
   * throws, the others fire in the next call. A clock that went backwards changes nothing.
   * @returns how many timers fired
   */
  advance(now: number): number {
    const time = this.#time;
    if (now < time[NEXT]!) {
      // Nothing lies between, so that skipping slots is safe.
      if (now > time[NOW]!) time[NOW] = Math.floor(now);
      return 0;
    }
    const until = Math.floor(now);
    this.#splice(DUE, FIRING);
    let fired = this.#fire();
    for (;;) {
      const tick = this.#nextTick();
      if (tick > until) break;
      time[NOW] = tick;
      this.#cascade(tick);
      const slot = tick & SLOT_MASK;
      if (this.#next[slot] !== slot) {
        this.#splice(slot, FIRING);
        this.#vacate(slot);
        fired += this.#fire();
      }
    }
    if (until > time[NOW]!) time[NOW] = until;
    time[NEXT] = this.#next[DUE] === DUE ? this.#nextTick() : time[NOW]!;
    return fired;
  }

  /**
   * When the wheel wants to be advanced next, in milliseconds; Infinity when nothing is armed. It is never later than
   * the next timer (rounded up to its tick), but may be earlier: then that advance only moves timers closer.
   */
  nextDeadline(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#time[NEXT]!;
  }

  #fire(): number {
    let fired = 0;
    // Should a target throw, what is left in FIRING is found by the next advance.
    this.#time[NEXT] = this.#time[NOW]!;
    for (let node = this.#next[FIRING]!; node !== FIRING; node = this.#next[FIRING]!) {
      const index = node - SENTINELS;
      const timer = (this.#generations[index]! << INDEX_BITS) | index;
      const target = this.#targets[index]!;
      this.#unlink(node);
      this.#release(node);
      fired++;
      target.expired(timer);
    }
    return fired;
  }

  /** Puts a timer into the level whose slots are just fine enough for its distance; gives the tick its slot begins at. */
  #place(node: number, tick: number, now: number): number {
    const distance = tick - now;
    let level = 0;
    let at = tick;
    if (distance >= SLOTS) {
      if (distance < 1 << 12) level = 1;
      else if (distance < 1 << 18) level = 2;
      else if (distance < 1 << 24) level = 3;
      else {
        level = 4;
        if (distance > FARTHEST) at = now + FARTHEST;
      }
    }
    // Only the low 30 bits of the tick matter here, so that the shift's wrap at 2^32 is harmless.
    const shift = level * LEVEL_BITS;
    const slot = (at >>> shift) & SLOT_MASK;
    const word = 2 * level + (slot >> 5);
    this.#occupied[word] = this.#occupied[word]! | (1 << (slot & 31));
    this.#append(level * SLOTS + slot, node);
    return at - (at & ((1 << shift) - 1));
  }

  /** Moves the timers of every coarse slot that begins at `tick` to finer levels. */
  #cascade(tick: number): void {
    let level = LEVELS - 1;
    while (level > 0 && (tick & ((1 << (level * LEVEL_BITS)) - 1)) !== 0) level--;
    for (; level > 0; level--) {
      const list = level * SLOTS + ((tick >>> (level * LEVEL_BITS)) & SLOT_MASK);
      let node = this.#next[list]!;
      if (node === list) continue;
      const last = this.#previous[list]!;
      this.#next[list] = this.#previous[list] = list;
      this.#vacate(list);
      for (;;) {
        const following = this.#next[node]!;
        this.#place(node, this.#ticks[node - SENTINELS]!, tick);
        if (node === last) break;
        node = following;
      }
    }
  }

  /** First tick after now at which a slot is due to fire or to cascade. */
  #nextTick(): number {
    const now = this.#time[NOW]!;
    let first = Number.POSITIVE_INFINITY;
    for (let level = 0; level < LEVELS; level++) {
      const low = this.#occupied[2 * level]!;
      const high = this.#occupied[2 * level + 1]!;
      if ((low | high) === 0) continue;
      const shift = level * LEVEL_BITS;
      const slots = slotsAhead(low, high, (now >>> shift) & SLOT_MASK);
      const tick = now - (now & ((1 << shift) - 1)) + slots * 2 ** shift;
      if (tick < first) first = tick;
    }
    return first;
  }

  #append(list: number, node: number): void {
    const last = this.#previous[list]!;
    this.#next[last] = node;
    this.#previous[node] = last;
    this.#next[node] = list;
    this.#previous[list] = node;
  }

  /** Takes a node out of its list; gives that list where it is empty now, else a number of no meaning above DUE. */
  #unlink(node: number): number {
    const next = this.#next[node]!;
    const previous = this.#previous[node]!;
    this.#next[previous] = next;
    this.#previous[next] = previous;
    return next === previous ? next : SENTINELS;
  }

  /** Moves a whole list to the end of another. */
  #splice(from: number, to: number): void {
    const first = this.#next[from]!;
    if (first === from) return;
    const last = this.#previous[from]!;
    const end = this.#previous[to]!;
    this.#next[end] = first;
    this.#previous[first] = end;
    this.#next[last] = to;
    this.#previous[to] = last;
    this.#next[from] = this.#previous[from] = from;
  }

  /** Clears the bit of a slot that has become empty. */
  #vacate(list: number): void {
    const word = list >> 5;
    this.#occupied[word] = this.#occupied[word]! & ~(1 << (list & 31));
  }

  /** Frees a node. Free nodes are reused oldest first, which keeps stale handles stale for longest. */
  #release(node: number): void {
    const index = node - SENTINELS;
    this.#targets[index] = null;
    this.#generations[index] = (this.#generations[index]! + 1) & GENERATION_MASK;
    this.#size--;
    this.#append(FREE, node);
  }

  #grow(): void {
    const old = this.#capacity;
    const capacity = Math.min(this.#max, old === 0 ? FIRST_CAPACITY : old * 2);
    if (capacity === old) throw systemError(ERRNO.ENOBUFS, 'timer', undefined, `${old} timers are armed`);
    this.#next = grown(this.#next, SENTINELS + capacity);
    this.#previous = grown(this.#previous, SENTINELS + capacity);
    this.#generations = grown(this.#generations, capacity);
    const ticks = new Float64Array(capacity);
    ticks.set(this.#ticks);
    this.#ticks = ticks;
    this.#capacity = capacity;
    for (let index = old; index < capacity; index++) {
      this.#targets.push(null);
      this.#append(FREE, SENTINELS + index);
    }
  }
}

function grown(array: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}

/** How many slots after `slot` (1 … 64) the next set bit lies, going round; at least one bit must be set. */
function slotsAhead(low: number, high: number, slot: number): number {
  const start = (slot + 1) & SLOT_MASK;
  const mask = -1 << (start & 31);
  if (start < 32) {
    if ((low & mask) !== 0) return lowestBit(low & mask) - start + 1;
    if (high !== 0) return lowestBit(high) + 33 - start;
    return lowestBit(low) + 65 - start;
  }
  if ((high & mask) !== 0) return lowestBit(high & mask) + 33 - start;
  if (low !== 0) return lowestBit(low) + 65 - start;
  return lowestBit(high) + 97 - start;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
