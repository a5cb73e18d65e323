/**
 * io_uring(7) as typed arrays: a submission queue to fill, one `enter` per turn, a completion queue to read.
 * It owns the ring's descriptor and memory; operations are written by uring-prep.ts, buffers lie in arenas of others.
 *
 * One thread makes a ring and uses it. With DEFER_TASKRUN the kernel touches the queues only inside `enter`, on this
 * thread, so plain loads and stores of head and tail are enough on every processor.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import { close, libcFunction, orErrno } from './libc.ts';
import type { MappedMemory } from './memory.ts';
import { reserveScratch, scratchAddress, scratchHigh, scratchI32, scratchU8 } from './scratch.ts';
import {
  ASYNC_CANCEL_ALL,
  ASYNC_CANCEL_ANY,
  CQ_EVENTFD_DISABLED,
  ENTER_EXT_ARG,
  ENTER_GETEVENTS,
  ENTER_NO_IOWAIT,
  ENTER_REGISTERED_RING,
  Feature,
  Register,
  RSRC_REGISTER_SPARSE,
  SQ_CQ_OVERFLOW,
  SQ_TASKRUN,
  SYS_IO_URING_ENTER,
  SYS_IO_URING_REGISTER,
} from './uring-abi.ts';
import { type RingOptions, setupRing } from './uring-setup.ts';

// Integers only: the cheapest way in.
const enter = libcFunction<
  [number: number, fd: number, submit: number, minComplete: number, flags: number, argument: number, size: number]
>('syscall', ['int', 'int', 'int', 'int', 'int', 'int', 'int']);
const enterWithArgument = libcFunction<
  [number: number, fd: number, submit: number, minComplete: number, flags: number, argument: number, size: number]
>('syscall', ['int', 'int', 'int', 'int', 'int', 'long', 'int']);
const register = libcFunction<[number: number, fd: number, opcode: number, argument: number, count: number]>(
  'syscall',
  ['int', 'int', 'int', 'long', 'int'],
);

const waitOffset = reserveScratch(64); // struct io_uring_getevents_arg (24 bytes), then a timespec
const WAIT_ARGUMENT_BYTES = 24;
const WAIT = waitOffset >> 2;
const TIMESPEC = (waitOffset + 32) >> 2;
const waitAddress = scratchAddress + waitOffset;
scratchI32[WAIT + 4] = waitOffset + 32; // ts; scratch is an arena, so its low word is the offset
scratchI32[WAIT + 5] = scratchHigh;

const PROBED_OPS = 128;
const argumentOffset = reserveScratch(16 + PROBED_OPS * 8);
const argumentAddress = scratchAddress + argumentOffset;
const A = argumentOffset >> 2;

/** A piece of memory to register: high and low word of its address, and bytes. */
export type MemoryPiece = readonly [high: number, low: number, byteLength: number];

/**
 * A ring. Its fields are plain and their use is part of the interface, since hot loops read them in place:
 *
 *     let head = ring.head
 *     const tail = ring.words[ring.cqTail]
 *     for (; head !== tail; head = (head + 1) | 0) {
 *       const c = ring.cqes + ((head & ring.cqMask) << 2)   // words: user data low, high; result; flags
 *     }
 *     ring.head = head                                      // given back to the kernel by the next submit
 */
export class Ring {
  readonly fd: number;
  /** Setup flags in force (Setup in uring-abi.ts) and features of the kernel. */
  readonly flags: number;
  readonly features: number;
  readonly entries: number;
  readonly completions: number;
  /** Queue heads, tails, flags and completions; the indices below are into it. */
  readonly words: Int32Array;
  /** Submission entries, 16 words each; {@link sqe} gives indices into it. */
  readonly sqes: Int32Array;
  readonly sqeBase: number;
  readonly sqMask: number;
  readonly sqHead: number;
  readonly sqTail: number;
  readonly sqFlags: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqFlags: number;
  readonly cqOverflow: number;
  readonly cqes: number;
  readonly cqMask: number;
  /** Next entry to fill, and the first that the kernel has not taken. 32-bit, wrapping. */
  tail = 0;
  submitted = 0;
  /** Next completion to read. 32-bit, wrapping; the reader advances it. */
  head = 0;
  /** Calls of io_uring_enter so far. */
  enters = 0;
  readonly #mappings: readonly MappedMemory[];
  /** What `enter` calls the ring, the descriptor or the number it is registered under, and the flags that go with it. */
  readonly #name: number;
  readonly #enterFlags: number;
  #filesRegistered = false;
  #closed = false;

  /** @throws IsthmusError ENOSYS or EPERM where io_uring is missing or forbidden, with what to do; ENOMEM, EMFILE */
  constructor(options: RingOptions = {}) {
    const made = setupRing(options);
    this.fd = made.fd;
    this.flags = made.flags;
    this.features = made.features;
    this.entries = made.entries;
    this.completions = made.completions;
    this.words = made.words;
    this.sqes = made.sqes;
    this.sqeBase = made.sqeBase;
    this.sqMask = made.entries - 1;
    this.sqHead = made.sqHead;
    this.sqTail = made.sqTail;
    this.sqFlags = made.sqFlags;
    this.cqHead = made.cqHead;
    this.cqTail = made.cqTail;
    this.cqFlags = made.cqFlags;
    this.cqOverflow = made.cqOverflow;
    this.cqes = made.cqes;
    this.cqMask = made.completions - 1;
    this.#mappings = made.mappings;
    const index = this.#registerSelf();
    const noIowait = made.features & Feature.NO_IOWAIT ? ENTER_NO_IOWAIT : 0;
    this.#name = index < 0 ? this.fd : index;
    this.#enterFlags = index < 0 ? noIowait : noIowait | ENTER_REGISTERED_RING;
  }

  /** A registered ring is not looked up at each call (5.18; 16 for each thread). @returns its number, or −errno */
  #registerSelf(): number {
    this.#describeSelf(-1);
    const result = this.register(Register.RING_FDS, argumentAddress, 1);
    return result < 0 ? result : scratchI32[A]!;
  }

  #describeSelf(index: number): void {
    scratchI32[A] = index; // struct io_uring_rsrc_update
    scratchI32[A + 1] = 0;
    scratchI32[A + 2] = index < 0 ? this.fd : 0;
    scratchI32[A + 3] = 0;
  }

  /**
   * The word index in `sqes` of the next submission entry. The caller writes words 0 to 11, all of them; 12 to 15 are
   * zero and stay so. A full queue is handed to the kernel first. Entries that LINK must fit before the queue is full:
   * see {@link room}.
   */
  sqe(): number {
    if (((this.tail - this.submitted) | 0) >= this.entries) this.flush();
    const k = this.sqeBase + ((this.tail & this.sqMask) << 4);
    this.tail = (this.tail + 1) | 0;
    return k;
  }

  /** Entries that can be filled before the queue is handed over. */
  get room(): number {
    return this.entries - ((this.tail - this.submitted) | 0);
  }

  /** Completions that can be read now without a call. */
  get available(): number {
    return (this.words[this.cqTail]! - this.head) | 0;
  }

  /** Entries filled and not yet handed over. */
  get pending(): number {
    return (this.tail - this.submitted) | 0;
  }

  /** Hands the filled entries over without looking for completions. */
  flush(): void {
    this.words[this.sqTail] = this.tail;
    this.enters++;
    const count = (this.tail - this.submitted) | 0;
    const result = enter(SYS_IO_URING_ENTER, this.#name, count, 0, this.#enterFlags, 0, 0);
    this.submitted = this.words[this.sqHead]!;
    if (result === -1) this.#complain(orErrno(result));
    if (((this.tail - this.submitted) | 0) >= this.entries) throw systemError(ERRNO.EAGAIN, 'io_uring_enter');
  }

  /**
   * The one call of a turn: gives read completions back, hands filled entries over, lets the kernel do its work, and
   * waits until at least `minComplete` completions are there (0: does not wait). Gives how many can be read now.
   * A signal may end the wait early. Completions that found the queue full are brought in by the next call.
   * @throws IsthmusError only for what cannot pass: a bad ring, completions lost for want of memory
   */
  submit(minComplete: number): number {
    const words = this.words;
    words[this.cqHead] = this.head;
    words[this.sqTail] = this.tail;
    this.enters++;
    const count = (this.tail - this.submitted) | 0;
    const flags = ENTER_GETEVENTS | this.#enterFlags;
    const result = enter(SYS_IO_URING_ENTER, this.#name, count, minComplete, flags, 0, 0);
    if (result === -1) this.#complain(orErrno(result));
    this.submitted = words[this.sqHead]!;
    return (words[this.cqTail]! - this.head) | 0;
  }

  /**
   * As {@link submit}, waiting at most `timeoutUs` microseconds (0: only looks; negative: no limit).
   * With `gatherUs`, fewer completions than `minComplete` are enough when so many microseconds have passed
   * (IORING_FEAT_MIN_TIMEOUT, 6.12; needs a time limit).
   * Gives how many completions can be read: 0 when the time was up.
   */
  submitAndWait(minComplete: number, timeoutUs: number, gatherUs = 0): number {
    if (timeoutUs < 0) return this.submit(minComplete);
    if (timeoutUs === 0) return this.submit(0);
    const words = this.words;
    words[this.cqHead] = this.head;
    words[this.sqTail] = this.tail;
    const seconds = Math.floor(timeoutUs / 1e6);
    scratchI32[TIMESPEC] = seconds;
    scratchI32[TIMESPEC + 1] = 0;
    scratchI32[TIMESPEC + 2] = (timeoutUs - seconds * 1e6) * 1000;
    scratchI32[TIMESPEC + 3] = 0;
    scratchI32[WAIT + 3] = gatherUs; // min_wait_usec
    this.enters++;
    const count = (this.tail - this.submitted) | 0;
    const flags = ENTER_GETEVENTS | ENTER_EXT_ARG | this.#enterFlags;
    const result = enterWithArgument(
      SYS_IO_URING_ENTER,
      this.#name,
      count,
      minComplete,
      flags,
      waitAddress,
      WAIT_ARGUMENT_BYTES,
    );
    if (result === -1) this.#complain(orErrno(result));
    this.submitted = words[this.sqHead]!;
    return (words[this.cqTail]! - this.head) | 0;
  }

  /** Completions wait inside the kernel because the queue was full; the next submit brings some in. */
  get overflowing(): boolean {
    return (this.words[this.sqFlags]! & SQ_CQ_OVERFLOW) !== 0;
  }

  /** With `taskrunFlag`: the kernel has work that the next submit would do, so completions are to be expected. */
  get workWaiting(): boolean {
    return (this.words[this.sqFlags]! & (SQ_TASKRUN | SQ_CQ_OVERFLOW)) !== 0;
  }

  /** Completions lost for want of kernel memory; stays 0 on every kernel that has IORING_FEAT_NODROP (5.5). */
  get lost(): number {
    return this.words[this.cqOverflow]!;
  }

  /** Errors of `enter` that pass by themselves are no news: the entries are still there, the next submit takes them. */
  #complain(errno: number): void {
    if (errno === -ERRNO.EINTR || errno === -ERRNO.ETIME || errno === -ERRNO.EAGAIN || errno === -ERRNO.EBUSY) return;
    throw systemError(errno, 'io_uring_enter');
  }

  /**
   * A table of `slots` descriptors, all empty: accept and socket operations put new ones into free slots.
   * @throws IsthmusError EMFILE when `slots` exceeds RLIMIT_NOFILE
   */
  registerFiles(slots: number): void {
    scratchI32.fill(0, A, A + 8);
    scratchI32[A] = slots;
    scratchI32[A + 1] = RSRC_REGISTER_SPARSE;
    this.#register(Register.FILES2, argumentAddress, 32, `${slots} registered files`);
    this.#filesRegistered = true;
  }

  /** Puts `fd` (the table takes its own reference) into `slot`, or empties it (`fd` −1). */
  updateFile(slot: number, fd: number): void {
    scratchI32[A] = slot;
    scratchI32[A + 1] = 0;
    scratchI32[A + 2] = argumentOffset + 16;
    scratchI32[A + 3] = scratchHigh;
    scratchI32[A + 4] = fd;
    this.#register(Register.FILES_UPDATE, argumentAddress, 1, `slot ${slot}`);
  }

  /** Free slots are taken only from `first` to `first + count − 1`; the rest is for {@link updateFile}. */
  reserveSlots(first: number, count: number): void {
    scratchI32.fill(0, A, A + 4);
    scratchI32[A] = first;
    scratchI32[A + 1] = count;
    this.#register(Register.FILE_ALLOC_RANGE, argumentAddress, 0, 'slot range');
  }

  /** Pins memory for operations with fixed buffers; piece i gets buffer index i. */
  registerBuffers(pieces: readonly MemoryPiece[]): void {
    if (pieces.length > 64) throw new RangeError('at most 64 registered buffers');
    pieces.forEach(([high, low, byteLength], i) => {
      scratchI32[A + 4 * i] = low;
      scratchI32[A + 4 * i + 1] = high;
      scratchI32[A + 4 * i + 2] = byteLength;
      scratchI32[A + 4 * i + 3] = 0;
    });
    this.#register(Register.BUFFERS, argumentAddress, pieces.length, 'buffers');
  }

  /** The kernel signals `fd` (an eventfd) when a completion, or work for `submit`, arrives. One per ring. */
  registerEventfd(fd: number): void {
    scratchI32[A] = fd;
    this.#register(Register.EVENTFD, argumentAddress, 1, 'eventfd');
  }

  unregisterEventfd(): void {
    this.#register(Register.UNREGISTER_EVENTFD, 0, 0, 'eventfd');
  }

  /** Turns the signals of the registered eventfd on or off: one store, no call. */
  setEventfdEnabled(enabled: boolean): void {
    if (enabled) this.words[this.cqFlags]! &= ~CQ_EVENTFD_DISABLED;
    else this.words[this.cqFlags]! |= CQ_EVENTFD_DISABLED;
  }

  /** Which operations (Op in uring-abi.ts) this kernel knows. */
  probe(): { supports(op: number): boolean } {
    const bytes = 16 + PROBED_OPS * 8;
    scratchU8.fill(0, argumentOffset, argumentOffset + bytes);
    this.#register(Register.PROBE, argumentAddress, PROBED_OPS, 'probe');
    const supported = new Set<number>();
    for (let i = 0; i < scratchU8[argumentOffset + 1]!; i++) {
      const at = argumentOffset + 16 + i * 8;
      if (scratchU8[at + 2]! & 1) supported.add(scratchU8[at]!);
    }
    return { supports: (op) => supported.has(op) };
  }

  /**
   * Cancels everything in flight and waits until it has ended, at most a second. Their completions are not read.
   * Gives false where the kernel is too old to do so (before 6.0).
   */
  cancelAll(): boolean {
    scratchI32.fill(0, A, A + 16);
    scratchI32[A + 2] = -1;
    scratchI32[A + 3] = ASYNC_CANCEL_ALL | ASYNC_CANCEL_ANY;
    scratchI32[A + 4] = 1; // timeout: 1 s
    const result = orErrno(register(SYS_IO_URING_REGISTER, this.fd, Register.SYNC_CANCEL, argumentAddress, 1));
    return result >= 0 || result === -ERRNO.ENOENT;
  }

  /** io_uring_register(2) with an argument in scratch memory or an arena. For uring-buffers.ts. */
  register(opcode: number, argument: number, count: number): number {
    return orErrno(register(SYS_IO_URING_REGISTER, this.fd, opcode, argument, count));
  }

  #register(opcode: number, argument: number, count: number, about: string): void {
    const result = this.register(opcode, argument, count);
    if (result < 0) throw systemError(result, 'io_uring_register', about);
  }

  /** Ends the ring: operations in flight are cancelled, registered files let go, memory given back. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.cancelAll();
    if (this.#filesRegistered) this.register(Register.UNREGISTER_FILES, 0, 0);
    if (this.#enterFlags & ENTER_REGISTERED_RING) {
      this.#describeSelf(this.#name); // it holds the ring as the descriptor does
      this.register(Register.UNREGISTER_RING_FDS, argumentAddress, 1);
    }
    close(this.fd);
    for (const mapping of this.#mappings) mapping.close();
  }

  get closed(): boolean {
    return this.#closed;
  }
}

/** Says whether a ring can be made here, and if not why. Makes one and closes it. */
export function uringRefusal(): IsthmusError | null {
  try {
    new Ring({ entries: 8 }).close();
    return null;
  } catch (error) {
    if (error instanceof IsthmusError) return error;
    throw error;
  }
}
