/**
 * epoll(7): one interest list and a mapped array of events read as typed-array words.
 * It owns one descriptor and one page or more of memory.
 */
import { close, libcFunction, orErrno, orThrow } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { reserveScratch, scratchAddress, scratchI32 } from './scratch.ts';

export const EPOLLIN = 0x001;
export const EPOLLPRI = 0x002;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLEXCLUSIVE = 1 << 28;
export const EPOLLONESHOT = 1 << 30;
export const EPOLLET = 1 << 31;

const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;
const EPOLL_CLOEXEC = 0o2000000;
const EINTR = 4;

// struct epoll_event is packed on x86-64 only: 12 bytes there, 16 with padding after the mask elsewhere.
const EVENT_WORDS = process.arch === 'x64' ? 3 : 4;
const DATA_WORD = process.arch === 'x64' ? 1 : 2;

const cCreate = libcFunction<[flags: number]>('epoll_create1', ['int']);
const cCtl = libcFunction<[epoll: number, operation: number, fd: number, event: number]>('epoll_ctl', [
  'int',
  'int',
  'int',
  'long',
]);
const cWait = libcFunction<[epoll: number, events: number, count: number, timeoutMs: number]>('epoll_wait', [
  'int',
  'long',
  'int',
  'int',
]);

const controlOffset = reserveScratch(64);
const controlAddress = scratchAddress + controlOffset;
const controlIndex = controlOffset >> 2;

/** An epoll instance. `fd` may itself be watched: it is readable while events are pending. */
export class Epoll {
  readonly fd: number;
  readonly capacity: number;
  readonly #memory: MappedMemory;
  readonly #events: Int32Array;
  readonly #address: number;

  /** @param capacity the most events one wait gives */
  constructor(capacity = 256) {
    this.capacity = capacity;
    this.fd = orThrow(cCreate(EPOLL_CLOEXEC), 'epoll_create1');
    this.#memory = mapArena(capacity * EVENT_WORDS * 4);
    this.#events = this.#memory.i32;
    this.#address = this.#memory.address;
  }

  /** Starts to watch `fd`; `data` (a 32-bit integer) comes back with each event. 0 or −errno. */
  add(fd: number, events: number, data: number): number {
    return this.#control(CTL_ADD, fd, events, data);
  }

  /** Changes what `fd` is watched for. 0 or −errno. */
  modify(fd: number, events: number, data: number): number {
    return this.#control(CTL_MOD, fd, events, data);
  }

  /** Stops watching `fd`. Closing the last descriptor of a file does the same. 0 or −errno. */
  remove(fd: number): number {
    return orErrno(cCtl(this.fd, CTL_DEL, fd, controlAddress));
  }

  #control(operation: number, fd: number, events: number, data: number): number {
    scratchI32[controlIndex] = events;
    scratchI32[controlIndex + DATA_WORD] = data;
    scratchI32[controlIndex + DATA_WORD + 1] = 0;
    return orErrno(cCtl(this.fd, operation, fd, controlAddress));
  }

  /**
   * Waits for at most `timeoutMs` (0: only looks, −1: no limit): how many events there are, or −errno.
   * A signal counts as no event. Hot.
   */
  wait(timeoutMs: number): number {
    const count = orErrno(cWait(this.fd, this.#address, this.capacity, timeoutMs));
    return count === -EINTR ? 0 : count;
  }

  /** Of the last wait: what is ready (EPOLLIN …). */
  events(i: number): number {
    return this.#events[i * EVENT_WORDS]!;
  }

  /** Of the last wait: the `data` given with the descriptor. */
  data(i: number): number {
    return this.#events[i * EVENT_WORDS + DATA_WORD]!;
  }

  close(): void {
    if (this.#memory.closed) return;
    close(this.fd);
    this.#memory.close();
  }
}
