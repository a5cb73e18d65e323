/**
 * ppoll(2) on a few descriptors: to sleep until one is readable, with a limit in microseconds.
 * It owns a little memory and no descriptor; nothing stays registered with the descriptors between calls.
 */
import { libcFunction, orErrno } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';

const POLLIN = 1;
const EINTR = 4;
const POLLFD_WORDS = 2;

const cPpoll = libcFunction<[fds: number, count: number, timeout: number, mask: number]>('ppoll', [
  'long',
  'long',
  'long',
  'long',
]);

export class PollSet {
  readonly #memory: MappedMemory;
  readonly #capacity: number;
  readonly #timeout: number;
  #count = 0;

  /** @param capacity the most descriptors */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#timeout = capacity * POLLFD_WORDS;
    this.#timeout += this.#timeout & 1;
    this.#memory = mapArena((this.#timeout + 4) * 4);
  }

  /** Adds a descriptor; gives its place. */
  add(fd: number): number {
    if (this.#count === this.#capacity) throw new RangeError(`more than ${this.#capacity} descriptors`);
    const { i32 } = this.#memory;
    i32[this.#count * POLLFD_WORDS] = fd;
    i32[this.#count * POLLFD_WORDS + 1] = POLLIN;
    return this.#count++;
  }

  /**
   * Sleeps until a descriptor is readable or broken, for at most `timeoutUs` (0: only looks, −1: no limit): how many are, or
   * −errno. A signal counts as none. Hot.
   */
  wait(timeoutUs: number): number {
    const { i32, address } = this.#memory;
    let timeout = 0;
    if (timeoutUs >= 0) {
      const seconds = Math.floor(timeoutUs / 1e6);
      i32[this.#timeout] = seconds;
      i32[this.#timeout + 2] = (timeoutUs - seconds * 1e6) * 1000;
      timeout = address + this.#timeout * 4;
    }
    const count = orErrno(cPpoll(address, this.#count, timeout, 0));
    return count === -EINTR ? 0 : count;
  }

  /** Of the last wait: the descriptor at this place is readable, or broken. */
  ready(place: number): boolean {
    return this.#memory.i32[place * POLLFD_WORDS + 1]! >>> 16 !== 0;
  }

  close(): void {
    this.#memory.close();
  }
}
