/**
 * Setting up AF_XDP sockets (linux/if_xdp.h): numbers, the registration of memory, where the rings are, and binding to a
 * queue. It calls setsockopt, getsockopt and bind on the socket it is given, and nothing else.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { RingOffsets } from './af-xdp-ring.ts';
import { libcFunction, orErrno } from './libc.ts';
import { PAGE_BYTES } from './memory.ts';
import { releaseScratch, reserveScratch, scratchAddress, scratchI32, scratchU16, scratchU32 } from './scratch.ts';
import { getsockoptBytes, setsockopt, setsockoptBytes } from './socket.ts';

export const AF_XDP = 44;
export const SOL_XDP = 283;
export const Option = {
  MMAP_OFFSETS: 1,
  RX_RING: 2,
  TX_RING: 3,
  UMEM_REG: 4,
  FILL_RING: 5,
  COMPLETION_RING: 6,
  STATISTICS: 7,
  OPTIONS: 8,
  MAX_TX_BUDGET: 9,
} as const;
/** Where each ring is mapped. */
export const PAGE_OFFSET = { receive: 0, transmit: 0x80000000, fill: 0x100000000, completion: 0x180000000 } as const;
/** Flags of a bind. */
export const FLAG_SHARED_UMEM = 1;
export const FLAG_COPY = 2;
export const FLAG_ZEROCOPY = 4;
export const FLAG_NEED_WAKEUP = 8;
/** Flag of a UMEM: there are so many bytes of metadata before each frame to be sent (kernel 6.11). */
const UMEM_TX_METADATA_LEN = 4;
/** Bit of the option OPTIONS. */
export const OPTIONS_ZEROCOPY = 1;
/** A queue's last socket is taken apart in the background; binding again waits for that, at most so long. */
const BUSY_RETRY_MS = 500;

const cBind = libcFunction<[fd: number, address: number, length: number]>('bind', ['int', 'long', 'int']);
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Memory for frames: a region of the heap (ring/region.ts), or any mapping (memory.ts). */
export interface FrameMemory {
  readonly addressHigh: number;
  /** 0 for a region. */
  readonly addressLow?: number;
  readonly byteLength: number;
}

export function addressOf(memory: FrameMemory): number {
  return memory.addressHigh * 2 ** 32 + (memory.addressLow ?? 0);
}

/**
 * Registers `bytes` of memory at `address` as the UMEM of a socket.
 * @param metadataBytes before each frame to be sent, 0 for none
 * @throws IsthmusError ENOBUFS beyond RLIMIT_MEMLOCK, EINVAL also where the kernel knows no metadata of this length
 */
export function registerUmem(
  fd: number,
  address: number,
  bytes: number,
  frameBytes: number,
  metadataBytes: number,
): void {
  const at = reserveScratch(64);
  const word = at >> 2; // struct xdp_umem_reg
  scratchU32[word] = address % 2 ** 32;
  scratchU32[word + 1] = Math.floor(address / 2 ** 32);
  scratchU32[word + 2] = bytes;
  scratchU32[word + 4] = frameBytes;
  scratchU32[word + 6] = metadataBytes === 0 ? 0 : UMEM_TX_METADATA_LEN;
  scratchU32[word + 7] = metadataBytes;
  try {
    setsockoptBytes(fd, SOL_XDP, Option.UMEM_REG, scratchAddress + at, 32);
  } catch (error) {
    if (!(error instanceof IsthmusError) || error.errno !== -ERRNO.ENOBUFS) throw error;
    const hint = 'more locked memory than ulimit -l allows; raise it or give CAP_IPC_LOCK';
    throw systemError(ERRNO.ENOBUFS, 'setsockopt', `UMEM of ${bytes} bytes`, hint);
  } finally {
    releaseScratch(at, 64);
  }
}

/** Binds a socket to a queue. `sharedFd`: the socket whose UMEM it uses, with FLAG_SHARED_UMEM alone. */
export function bindXdp(fd: number, interfaceIndex: number, queue: number, flags: number, sharedFd: number): void {
  const at = reserveScratch(64); // struct sockaddr_xdp
  scratchU16[at >> 1] = AF_XDP;
  scratchU16[(at >> 1) + 1] = flags;
  scratchU32[(at >> 2) + 1] = interfaceIndex;
  scratchU32[(at >> 2) + 2] = queue;
  scratchI32[(at >> 2) + 3] = sharedFd;
  try {
    const deadline = performance.now() + BUSY_RETRY_MS;
    for (;;) {
      const result = orErrno(cBind(fd, scratchAddress + at, 16));
      if (result >= 0) return;
      if (result !== -ERRNO.EBUSY || performance.now() > deadline) {
        throw systemError(
          result,
          'bind',
          `AF_XDP queue ${queue} of interface ${interfaceIndex}`,
          bindHint(result, flags),
        );
      }
      Atomics.wait(pause, 0, 0, 2);
    }
  } finally {
    releaseScratch(at, 64);
  }
}

function bindHint(errno: number, flags: number): string | undefined {
  if (errno === -ERRNO.EBUSY) return 'another AF_XDP socket has this queue';
  if (errno === -ERRNO.EINVAL) return 'no such queue, or rings and UMEM do not go together';
  if (errno === -ERRNO.EOPNOTSUPP && (flags & FLAG_ZEROCOPY) !== 0) return 'the driver has no zero copy';
  return undefined;
}

/** @throws RangeError for a UMEM that no kernel would take */
export function checkUmem(memory: FrameMemory, base: number, bytes: number, frameBytes: number): void {
  if (frameBytes < 2048 || frameBytes > PAGE_BYTES || (frameBytes & (frameBytes - 1)) !== 0) {
    throw new RangeError(`frames of ${frameBytes} bytes; 2048 to ${PAGE_BYTES}, a power of two`);
  }
  const aligned = base >= 0 && (addressOf(memory) + base) % PAGE_BYTES === 0 && base % frameBytes === 0;
  if (!aligned) throw new RangeError(`a UMEM starts at a page, not at ${base}`);
  if (bytes <= 0 || bytes % frameBytes !== 0 || base + bytes > memory.byteLength) {
    throw new RangeError(`a UMEM of ${bytes} bytes at ${base} in ${memory.byteLength}`);
  }
}

/** For receive, transmit, fill and completion ring, in this order. */
export function ringOffsets(fd: number): RingOffsets[] {
  const words = readOption(fd, Option.MMAP_OFFSETS, 32);
  if (words.length < 32) throw systemError(ERRNO.ENOSYS, 'getsockopt', 'AF_XDP rings', 'kernel 5.4 or later');
  return [0, 8, 16, 24].map((at) => ({
    producer: words[at]!,
    consumer: words[at + 2]!,
    descriptors: words[at + 4]!,
    flags: words[at + 6]!,
  }));
}

/** `words` 32-bit words of an option, or as many as the kernel has. */
export function readOption(fd: number, option: number, words: number): Uint32Array {
  const at = reserveScratch(words * 4);
  try {
    const bytes = getsockoptBytes(fd, SOL_XDP, option, scratchAddress + at, words * 4);
    return scratchU32.slice(at >> 2, (at + bytes) >> 2);
  } finally {
    releaseScratch(at, words * 4);
  }
}

export function trySetOption(fd: number, level: number, option: number, value: number): boolean {
  try {
    setsockopt(fd, level, option, value);
    return true;
  } catch {
    return false;
  }
}
