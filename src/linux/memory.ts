/**
 * Mapped memory with one owner and an explicit end of life: arenas for rings and packet buffers, shared files, devices.
 * It may call mmap and its kin; it never touches V8's heap.
 *
 * The end of life. V8 could detach a view (a byte stream's `enqueue` does it), but on Node 20 the first detach in an
 * isolate switches off an assumption of the compiler, and every hot loop over typed arrays in that thread is slower for
 * ever (measured: 2.8 to 3.9 ns per iteration; no difference on Node 24). So `close` does not detach. It maps fresh
 * anonymous pages, not backed by anything, over the same addresses: physical memory goes back at once, and a stale view
 * reads zeros, harms nobody and reaches no data. The addresses are unmapped when the collector reports no view left.
 */
import { systemError } from '../errors.ts';
import { lastErrno, libcFunction, orThrow, viewMemory } from './libc.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_POPULATE = 0x8000;
const MAP_FIXED_NOREPLACE = 0x100000;
const MADV_DONTFORK = 10;
const MADV_HUGEPAGE = 14;
const MADV_POPULATE_WRITE = 23;
const MFD_CLOEXEC = 1;
const EEXIST = 17;
const WORD = 2 ** 32;

/** Offsets into one mapping are non-negative 32-bit integers, so that hot code never leaves small integers. */
export const MAX_MAPPING_BYTES = 2 ** 31 - 4096;

const mmap = libcFunction<[address: number, length: number, prot: number, flags: number, fd: number, offset: number]>(
  'mmap',
  ['long', 'long', 'int', 'int', 'int', 'long'],
  'long',
);
const munmap = libcFunction<[address: number, length: number]>('munmap', ['long', 'long']);
const madvise = libcFunction<[address: number, length: number, advice: number]>('madvise', ['long', 'long', 'int']);
const cMemfdCreate = libcFunction<[name: number, flags: number]>('memfd_create', ['long', 'int']);
const cFtruncate = libcFunction<[fd: number, length: number]>('ftruncate', ['int', 'long']);
const getpagesize = libcFunction<[]>('getpagesize', []);

/** Bytes in a page of this machine. */
export const PAGE_BYTES = getpagesize();

/** Rounds up to whole pages. */
export function pages(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

interface Extent {
  readonly address: number;
  readonly byteLength: number;
  retired: boolean;
}

// Keeps the extent, not the mapping; fires once no ArrayBuffer, and so no typed array, can reach the addresses.
const unreachable = new FinalizationRegistry<Extent>((extent) => {
  if (extent.retired) munmap(extent.address, extent.byteLength);
});

/**
 * A range of mapped memory and its views. Fields are plain because hot code of other folders reads them.
 * For an arena `addressLow` is 0: the low word of a pointer into it is the byte offset, the high word `addressHigh`.
 */
export class MappedMemory {
  readonly address: number;
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly byteLength: number;
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly #extent: Extent;
  readonly #owned: boolean;

  /** Made by the functions of this file. */
  constructor(address: number, byteLength: number, owned: boolean, collectable: boolean) {
    this.address = address;
    this.addressHigh = Math.floor(address / WORD);
    this.addressLow = address % WORD;
    this.byteLength = byteLength;
    this.buffer = viewMemory(address, byteLength);
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.#owned = owned;
    this.#extent = { address, byteLength, retired: false };
    if (owned && collectable) unreachable.register(this.buffer, this.#extent);
  }

  get closed(): boolean {
    return this.#extent.retired;
  }

  /**
   * Ends the mapping: its memory goes back to the system, its views read zeros from now on. Idempotent.
   * The kernel must have no operation in flight on it (close the ring first). A borrowed mapping is only forgotten.
   */
  close(): void {
    if (this.#extent.retired) return;
    if (this.#owned) {
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
      orThrow(mmap(this.address, this.byteLength, PROT_READ | PROT_WRITE, flags, -1, 0), 'mmap', 'retire');
      madvise(this.address, this.byteLength, MADV_DONTFORK);
    }
    this.#extent.retired = true;
  }
}

export interface ArenaOptions {
  /** Ask for transparent huge pages; without them the arena is mapped all the same. Default false. */
  huge?: boolean;
  /** Back every page with memory now, so that no fault comes later. Default true. */
  populate?: boolean;
  /** Other threads will `borrowMemory` it: its addresses are then never unmapped, only emptied. Default false. */
  crossThread?: boolean;
}

/**
 * Private anonymous memory at an address whose low 32 bits are zero. Children of this process do not inherit it.
 * @param bytes rounded up to whole pages; at most {@link MAX_MAPPING_BYTES}
 * @throws IsthmusError ENOMEM when there is no memory or no free address
 */
export function mapArena(bytes: number, options: ArenaOptions = {}): MappedMemory {
  const byteLength = checkedLength(bytes);
  const populate = options.populate ?? true;
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | (populate && !options.huge ? MAP_POPULATE : 0);
  const address = mapAtZeroLowWord(byteLength, flags, -1, 0);
  madvise(address, byteLength, MADV_DONTFORK);
  if (options.huge) {
    madvise(address, byteLength, MADV_HUGEPAGE);
    if (populate) madvise(address, byteLength, MADV_POPULATE_WRITE);
  }
  return new MappedMemory(address, byteLength, true, !options.crossThread);
}

export interface FileMappingOptions {
  /** Byte offset in the file; whole pages. Default 0. */
  offset?: number;
  populate?: boolean;
  /** Let the kernel choose the address (io_uring's own mappings insist); `addressLow` is then not 0. Default false. */
  anywhere?: boolean;
  crossThread?: boolean;
}

/** Maps `bytes` of a file or device shared with whoever else maps it (MAP_SHARED). The descriptor may be closed after. */
export function mapShared(fd: number, bytes: number, options: FileMappingOptions = {}): MappedMemory {
  const byteLength = checkedLength(bytes);
  const flags = MAP_SHARED | ((options.populate ?? true) ? MAP_POPULATE : 0);
  const offset = options.offset ?? 0;
  const address = options.anywhere
    ? orThrow(mmap(0, byteLength, PROT_READ | PROT_WRITE, flags, fd, offset), 'mmap', `descriptor ${fd}`)
    : mapAtZeroLowWord(byteLength, flags, fd, offset);
  return new MappedMemory(address, byteLength, true, !options.crossThread);
}

/**
 * Views of memory that another thread of this process mapped with `crossThread` and still owns.
 * `close` only forgets it; after the owner's `close` these views, too, read zeros.
 */
export function borrowMemory(address: number, byteLength: number): MappedMemory {
  return new MappedMemory(address, byteLength, false, false);
}

/** A memory file of `bytes` (memfd_create(2)): gives its descriptor, closed on exec. */
export function createMemoryFile(bytes: number): number {
  const name = mapArena(PAGE_BYTES);
  name.u8.set([0x69, 0x73, 0x74, 0x68, 0x6d, 0x75, 0x73]); // "isthmus", seen in /proc/PID/maps
  try {
    const fd = orThrow(cMemfdCreate(name.address, MFD_CLOEXEC), 'memfd_create');
    orThrow(cFtruncate(fd, pages(bytes)), 'ftruncate');
    return fd;
  } finally {
    name.close();
  }
}

function checkedLength(bytes: number): number {
  if (!Number.isInteger(bytes) || bytes <= 0) throw new RangeError(`a mapping of ${bytes} bytes`);
  const byteLength = pages(bytes);
  if (byteLength > MAX_MAPPING_BYTES) throw new RangeError(`a mapping is at most ${MAX_MAPPING_BYTES} bytes`);
  return byteLength;
}

// High words of arenas. The first window lies between nothing and nothing on 47-bit and 48-bit address spaces; the
// second serves arm64 with 39 bits. The place is random, so that threads that map at once seldom meet; if they do, retry.
const WINDOWS = [
  [0x2000, 0x5000],
  [0x08, 0x60],
] as const;
const TRIES = 64;

function mapAtZeroLowWord(byteLength: number, flags: number, fd: number, offset: number): number {
  let errno = 0;
  for (const [first, end] of WINDOWS) {
    for (let i = 0; i < TRIES; i++) {
      const wanted = (first + Math.floor(Math.random() * (end - first))) * WORD;
      const address = mmap(wanted, byteLength, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, fd, offset);
      if (address === wanted) return address;
      if (address === -1) {
        errno = lastErrno();
        if (errno !== EEXIST) break;
      } else {
        munmap(address, byteLength); // a kernel before 4.17 takes the address for a hint
      }
    }
  }
  throw systemError(errno, 'mmap', `${byteLength} bytes`);
}
