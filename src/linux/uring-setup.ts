/**
 * Making an io_uring: tries the newest set of flags and steps down to what the running kernel takes.
 * It calls io_uring_setup and maps the rings; uring.ts runs them.
 */
import { errnoName, IsthmusError } from '../errors.ts';
import { close, libcFunction, orErrno } from './libc.ts';
import { type MappedMemory, mapArena, mapShared, PAGE_BYTES, pages } from './memory.ts';
import { reserveScratch, scratchAddress, scratchI32 } from './scratch.ts';
import { Feature, Setup, SYS_IO_URING_SETUP } from './uring-abi.ts';

const OFF_CQ_AND_SQ_RING = 0;
const OFF_SQES = 0x10000000;
const SQE_BYTES = 64;
const CQE_BYTES = 16;
const EINVAL = 22;
const PARAMS_BYTES = 120;

const setup = libcFunction<[number: number, entries: number, params: number]>(
  'syscall',
  ['long', 'long', 'long'],
  'long',
);
const paramsOffset = reserveScratch(PARAMS_BYTES);
const P = paramsOffset >> 2;

const BASE = Setup.CQSIZE | Setup.CLAMP;
const MODERN = BASE | Setup.SUBMIT_ALL | Setup.COOP_TASKRUN | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN;

/**
 * What is tried in turn while the kernel answers EINVAL. NO_MMAP (6.5; of any size since 6.10) puts the rings into one
 * arena of ours; NO_SQARRAY (6.6) drops an indirection; DEFER_TASKRUN (6.1) makes the kernel work only inside `enter`,
 * worth a third of the throughput; the last ones serve 5.19 and 5.5.
 */
export const SETUP_STEPS: readonly number[] = [
  MODERN | Setup.NO_SQARRAY | Setup.NO_MMAP,
  MODERN | Setup.NO_SQARRAY,
  MODERN,
  BASE | Setup.SUBMIT_ALL | Setup.COOP_TASKRUN,
  BASE,
];

export interface RingOptions {
  /** Submissions queued between two enters; a power of two. Default 1024. */
  entries?: number;
  /** Completions held by the shared queue; more wait in the kernel. A power of two ≥ entries. Default 4 × entries. */
  completions?: number;
  /** Let the kernel flag pending work in shared memory ({@link Setup.TASKRUN_FLAG}), for a loop that spins. Default false. */
  taskrunFlag?: boolean;
  /** Flag sets to try, for tests of older kernels' ways. */
  steps?: readonly number[];
}

/** A set-up ring: word indices are into `words` (rings) and `sqes`. */
export interface RingLayout {
  readonly fd: number;
  readonly flags: number;
  readonly features: number;
  readonly entries: number;
  readonly completions: number;
  readonly words: Int32Array;
  readonly sqes: Int32Array;
  /** Where the first submission entry lies in `sqes`. */
  readonly sqeBase: number;
  readonly sqHead: number;
  readonly sqTail: number;
  readonly sqFlags: number;
  readonly sqDropped: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqFlags: number;
  readonly cqOverflow: number;
  readonly cqes: number;
  readonly mappings: readonly MappedMemory[];
}

/** @throws IsthmusError ENOSYS, EPERM, ENOMEM, EMFILE …, saying what to do where something can be done */
export function setupRing(options: RingOptions): RingLayout {
  const entries = options.entries ?? 1024;
  const completions = options.completions ?? entries * 4;
  for (const n of [entries, completions]) {
    if (!(Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0 && n <= 65536)) {
      throw new RangeError(`a ring of ${n} entries: it takes a power of two up to 65536`);
    }
  }
  if (completions < entries) throw new RangeError('a completion queue is at least as long as the submission queue');
  let errno = EINVAL;
  for (const step of options.steps ?? SETUP_STEPS) {
    const flags = step | (options.taskrunFlag && step & Setup.COOP_TASKRUN ? Setup.TASKRUN_FLAG : 0);
    const made =
      flags & Setup.NO_MMAP ? inArena(entries, completions, flags) : inKernelMemory(entries, completions, flags);
    if (typeof made !== 'number') return made;
    errno = -made;
    if (errno !== EINVAL) break;
  }
  throw setupError(errno);
}

/** The rings in an arena of ours: the SQEs, then the ring words (io_uring_setup(2), IORING_SETUP_NO_MMAP). */
function inArena(entries: number, completions: number, flags: number): RingLayout | number {
  const sqeBytes = pages(entries * SQE_BYTES);
  const arena = mapArena(sqeBytes + pages(completions * CQE_BYTES + PAGE_BYTES));
  clearParams(flags, completions);
  scratchI32[P + 18] = 0; // sq_off.user_addr: the SQEs
  scratchI32[P + 19] = arena.addressHigh;
  scratchI32[P + 28] = sqeBytes; // cq_off.user_addr: both rings
  scratchI32[P + 29] = arena.addressHigh;
  const fd = orErrno(setup(SYS_IO_URING_SETUP, entries, scratchAddress + paramsOffset));
  if (fd < 0) {
    arena.close();
    return fd;
  }
  return layout(fd, arena.i32, sqeBytes >> 2, arena.i32, 0, [arena]);
}

/** The kernel's own memory, mapped: one mapping for both rings (5.4), one for the SQEs. */
function inKernelMemory(entries: number, completions: number, flags: number): RingLayout | number {
  clearParams(flags, completions);
  const fd = orErrno(setup(SYS_IO_URING_SETUP, entries, scratchAddress + paramsOffset));
  if (fd < 0) return fd;
  const mappings: MappedMemory[] = [];
  try {
    if (!(scratchI32[P + 5]! & Feature.SINGLE_MMAP)) throw setupError(38);
    const cqEnd = scratchI32[P + 25]! + scratchI32[P + 1]! * CQE_BYTES;
    const sqEnd = scratchI32[P + 16]! + (flags & Setup.NO_SQARRAY ? 0 : scratchI32[P]! * 4);
    const ringBytes = Math.max(cqEnd, sqEnd);
    const rings = mapShared(fd, ringBytes, { offset: OFF_CQ_AND_SQ_RING, anywhere: true });
    mappings.push(rings);
    const sqes = mapShared(fd, scratchI32[P]! * SQE_BYTES, { offset: OFF_SQES, anywhere: true });
    mappings.push(sqes);
    if (!(flags & Setup.NO_SQARRAY)) {
      const array = scratchI32[P + 16]! >> 2;
      for (let i = 0; i < scratchI32[P]!; i++) rings.i32[array + i] = i; // entry i is always SQE i
    }
    return layout(fd, rings.i32, 0, sqes.i32, 0, mappings);
  } catch (error) {
    close(fd);
    for (const mapping of mappings) mapping.close();
    throw error;
  }
}

function clearParams(flags: number, completions: number): void {
  scratchI32.fill(0, P, P + PARAMS_BYTES / 4);
  scratchI32[P + 1] = completions;
  scratchI32[P + 2] = flags;
}

/** Reads io_uring_params as the kernel filled it in: sq_off at word 10, cq_off at word 20. */
function layout(
  fd: number,
  words: Int32Array,
  base: number,
  sqes: Int32Array,
  sqeBase: number,
  mappings: readonly MappedMemory[],
): RingLayout {
  const at = (word: number): number => base + (scratchI32[P + word]! >> 2);
  return {
    fd,
    flags: scratchI32[P + 2]!,
    features: scratchI32[P + 5]!,
    entries: scratchI32[P]!,
    completions: scratchI32[P + 1]!,
    words,
    sqes,
    sqeBase,
    sqHead: at(10),
    sqTail: at(11),
    sqFlags: at(14),
    sqDropped: at(15),
    cqHead: at(20),
    cqTail: at(21),
    cqOverflow: at(24),
    cqes: at(25),
    cqFlags: at(26),
    mappings,
  };
}

const HINTS: Record<string, string> = {
  ENOSYS: 'this kernel has no io_uring, or a sandbox hides it; use --datapath kernel',
  EPERM:
    'io_uring is forbidden here: see sysctl kernel.io_uring_disabled (0 allows it) or the seccomp profile of the container; use --datapath kernel',
  ENOMEM: 'not enough memory, or RLIMIT_MEMLOCK is too low',
  EMFILE: 'raise the limit of open files (ulimit -n)',
  EINVAL: 'io_uring of this kernel is too old; use --datapath kernel',
};

function setupError(errno: number): IsthmusError {
  const code = errnoName(errno);
  const hint = HINTS[code];
  return new IsthmusError(`${code}: cannot set up io_uring${hint ? `: ${hint}` : ''}`, {
    code,
    errno: -errno,
    syscall: 'io_uring_setup',
  });
}
