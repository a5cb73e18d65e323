/**
 * The thread of a delay line: reads frames from two tap devices and writes each to the other one when its time has come.
 * A worker's program; it touches the two descriptors it is given, and owns a ring of frames for each direction.
 */
import { workerData } from 'node:worker_threads';
import type { DelayLineThread } from './delay-line.ts';
import { libcFunction, orErrno } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { PollSet } from './poll.ts';

const FRAME_BYTES = 2048;
/** Frames on their way in one direction, at most; then they wait in the device, whose queue drops at its own bound. */
const FRAMES = 8192;
/** Longest sleep, so that the end is noticed. */
const LOOK_US = 100_000;

const cRead = libcFunction<[fd: number, buffer: number, length: number]>('read', ['int', 'long', 'long'], 'long');
const cWrite = libcFunction<[fd: number, buffer: number, length: number]>('write', ['int', 'long', 'long'], 'long');

/** One direction: frames in the order in which they came, each with the time when it is due. */
class Direction {
  readonly #from: number;
  readonly #to: number;
  readonly #delayMs: number;
  readonly #memory: MappedMemory = mapArena(FRAMES * FRAME_BYTES, { populate: false });
  readonly #due = new Float64Array(FRAMES);
  readonly #length = new Int32Array(FRAMES);
  #first = 0;
  #count = 0;

  constructor(from: number, to: number, delayMs: number) {
    this.#from = from;
    this.#to = to;
    this.#delayMs = delayMs;
  }

  /** When the first frame is due, in ms; Infinity for none. */
  get next(): number {
    return this.#count === 0 ? Number.POSITIVE_INFINITY : this.#due[this.#first]!;
  }

  get full(): boolean {
    return this.#count === FRAMES;
  }

  take(): void {
    while (this.#count < FRAMES) {
      const slot = (this.#first + this.#count) % FRAMES;
      const length = orErrno(cRead(this.#from, this.#memory.address + slot * FRAME_BYTES, FRAME_BYTES));
      if (length <= 0) return;
      this.#length[slot] = length;
      this.#due[slot] = performance.now() + this.#delayMs;
      this.#count++;
    }
  }

  /** A frame that the other side does not take is lost, as on any line. */
  give(now: number): void {
    while (this.#count > 0 && this.#due[this.#first]! <= now) {
      cWrite(this.#to, this.#memory.address + this.#first * FRAME_BYTES, this.#length[this.#first]!);
      this.#first = (this.#first + 1) % FRAMES;
      this.#count--;
    }
  }
}

function run({ descriptors: [a, b], delayMs, stop }: DelayLineThread): void {
  const there = new Direction(a, b, delayMs);
  const back = new Direction(b, a, delayMs);
  const both = new PollSet(2);
  both.add(a);
  both.add(b);
  const none = new PollSet(1);
  while (Atomics.load(stop, 0) === 0) {
    const wait = Math.min(there.next, back.next) - performance.now();
    const us = Math.max(0, Math.min(LOOK_US, Math.round(wait * 1000)));
    // Where a direction is full its device stays readable: then only the time counts.
    (there.full || back.full ? none : both).wait(us);
    there.take();
    back.take();
    const now = performance.now();
    there.give(now);
    back.give(now);
  }
  both.close();
  none.close();
}

if (workerData !== null) run(workerData as DelayLineThread);
