/**
 * One poll of a descriptor that, when it ends, signals an eventfd: Linux AIO's IOCB_CMD_POLL (kernel 4.18, io_submit(2)).
 * It owns an AIO context, or has it of a poll that ended. Where AIO is missing (some sandboxes), a timer looks instead.
 */
import { isMainThread } from 'node:worker_threads';
import { ERRNO, systemError } from '../errors.ts';
import { signalEventfd } from './eventfd.ts';
import { libcFunction, orErrno } from './libc.ts';
import { releaseScratch, reserveScratch, scratchAddress, scratchHigh, scratchI32, scratchU16 } from './scratch.ts';

// The calls have no wrapper in libc, and their numbers differ between architectures.
const [SYS_IO_SETUP, SYS_IO_DESTROY, SYS_IO_GETEVENTS, SYS_IO_SUBMIT, SYS_IO_CANCEL] =
  process.arch === 'x64' ? ([206, 207, 208, 209, 210] as const) : ([0, 1, 4, 2, 3] as const);
const IOCB_CMD_POLL = 5;
const IOCB_FLAG_RESFD = 1;
const POLLIN = 1;
/** Without AIO: how often a timer looks. */
const LOOK_EVERY_MS = 1;
/** A poll that was cancelled has its event at once. */
const CANCEL_NS = 10_000_000;
/** io_destroy makes the thread wait for a grace period of RCU, some 30 ms: so contexts without a poll are kept for the next. */
const idleContexts: number[] = [];
/** A worker keeps none: they belong to the process, and a worker that is terminated could not give them back. */
const MAX_IDLE_CONTEXTS = isMainThread ? 8 : 0;

const syscall = libcFunction<[number: number, a: number, b: number, c: number, d: number, e: number]>(
  'syscall',
  ['long', 'long', 'long', 'long', 'long', 'long'],
  'long',
);
const cPoll = libcFunction<[fds: number, count: number, timeoutMs: number]>('poll', ['long', 'long', 'int']);

// In this watch's scratch: iocb, a pointer to it, the context, one io_event, a timespec of zero, a pollfd, a timespec.
const IOCB = 0;
const POINTER = 64;
const CONTEXT = 72;
const EVENT = 80;
const NO_TIME = 112;
const POLLFD = 128;
const CANCEL_TIME = 144;
const BYTES = 192;

/** A poll for "readable". It runs from the start; when it has ended, `rearm` starts it again. */
export class AioPoll {
  readonly #eventfd: number;
  readonly #scratch = reserveScratch(BYTES);
  #context = 0;
  #timer: NodeJS.Timeout | null = null;
  #looking = true;
  #closed = false;

  /**
   * @param lookByTimer as if there were no AIO; for tests
   * @throws IsthmusError where the descriptor cannot be polled
   */
  constructor(fd: number, eventfd: number, lookByTimer = false) {
    this.#eventfd = eventfd;
    const iocb = (this.#scratch + IOCB) >> 2;
    scratchU16[(iocb << 1) + 8] = IOCB_CMD_POLL;
    scratchI32[iocb + 5] = fd;
    scratchI32[iocb + 6] = POLLIN;
    scratchI32[iocb + 14] = IOCB_FLAG_RESFD;
    scratchI32[iocb + 15] = eventfd;
    const pointer = (this.#scratch + POINTER) >> 2;
    scratchI32[pointer] = this.#scratch + IOCB;
    scratchI32[pointer + 1] = scratchHigh;
    const pollfd = (this.#scratch + POLLFD) >> 2;
    scratchI32[pollfd] = fd;
    scratchI32[pollfd + 1] = POLLIN;
    scratchI32[((this.#scratch + CANCEL_TIME) >> 2) + 2] = CANCEL_NS;
    if (!lookByTimer && this.#setup()) return;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** Has a context and starts the poll; false where AIO is missing or cannot poll. */
  #setup(): boolean {
    this.#context = idleContexts.pop() ?? this.#newContext();
    if (this.#context === 0) return false;
    const started = this.#submit();
    if (started >= 0) return true;
    this.#giveBack(true);
    if (started === -ERRNO.EINVAL || started === -ERRNO.ENOSYS) return false;
    releaseScratch(this.#scratch, BYTES);
    throw systemError(started, 'io_submit', `poll of descriptor ${scratchI32[(this.#scratch + POLLFD) >> 2]}`);
  }

  /** Zero where AIO is missing. */
  #newContext(): number {
    if (orErrno(syscall(SYS_IO_SETUP, 1, this.#address(CONTEXT), 0, 0, 0)) < 0) return 0;
    const at = (this.#scratch + CONTEXT) >> 2;
    return scratchI32[at + 1]! * 2 ** 32 + (scratchI32[at]! >>> 0);
  }

  #giveBack(isIdle: boolean): void {
    if (isIdle && idleContexts.length < MAX_IDLE_CONTEXTS) idleContexts.push(this.#context);
    else syscall(SYS_IO_DESTROY, this.#context, 0, 0, 0, 0);
    this.#context = 0;
  }

  /** Ends the poll, if it has not ended, and takes its event; false where there was none. */
  #cancel(): boolean {
    syscall(SYS_IO_CANCEL, this.#context, this.#address(IOCB), this.#address(EVENT), 0, 0);
    const [event, time] = [this.#address(EVENT), this.#address(CANCEL_TIME)];
    return syscall(SYS_IO_GETEVENTS, this.#context, 1, 1, event, time) === 1;
  }

  #address(offset: number): number {
    return scratchAddress + this.#scratch + offset;
  }

  #submit(): number {
    return orErrno(syscall(SYS_IO_SUBMIT, this.#context, 1, this.#address(POINTER), 0, 0));
  }

  /** Polls once more; ends, and signals, at once if the descriptor is readable now. Does nothing after `close`. */
  rearm(): void {
    if (this.#closed) return;
    this.#looking = true;
    if (this.#context === 0) return;
    // The context's few places for events fill up unless they are taken.
    syscall(SYS_IO_GETEVENTS, this.#context, 0, 1, this.#address(EVENT), this.#address(NO_TIME));
    const result = this.#submit();
    if (result < 0) throw systemError(result, 'io_submit', 'poll');
  }

  #look(): void {
    if (!this.#looking || cPoll(this.#address(POLLFD), 1, 0) <= 0) return;
    this.#looking = false;
    signalEventfd(this.#eventfd);
  }

  /** Ends the poll; the eventfd is not signalled any more. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#context !== 0) this.#giveBack(MAX_IDLE_CONTEXTS > 0 && this.#cancel());
    releaseScratch(this.#scratch, BYTES);
  }
}
