/**
 * What a program may choose about the io_uring datapath, and what it gets if it chooses nothing.
 * Pure: numbers and the heap's size classes.
 */
import type { HeapClassStats, HeapOptions, SizeClass } from '../../ring/heap.ts';

export interface UringOptions {
  /** The heap whose buffers are received into and sent from. Its size classes default to {@link URING_SIZE_CLASSES}. */
  readonly heap?: HeapOptions;
  /** Unsent bytes of one queue above which a push completes only when half of them have gone. Default 1 MiB. */
  readonly sendLimit?: number;
  /** Submissions handed over at once; a power of two. Default 1024. */
  readonly entries?: number;
  /** Completions that fit in shared memory; a power of two, at least `entries`. Default 8 times `entries`. */
  readonly completions?: number;
  /** Most accepted connections. Default 65536, or what RLIMIT_NOFILE allows. */
  readonly maxConnections?: number;
  /** Buffers that wait in the kernel for bytes of streams, all connections together; a power of two. Default 256. */
  readonly receiveBuffers?: number;
  /** The same for datagrams; used once the first datagram socket is made. Default 128. */
  readonly datagramBuffers?: number;
  /** Most buffers received for one queue and not yet popped; above it the queue stops receiving. Default 64. */
  readonly heldLimit?: number;
  /** Accepted connections live in the ring's own table instead of as file descriptors. Default: where Linux is 6.8 or later. */
  readonly fixedFiles?: boolean;
  /**
   * With many connections talking, a sleep may wait some 30 to 80 µs for several messages: less processor time for each,
   * for a later answer (uring/gathering.ts). Default: where Linux is 6.12 or later.
   */
  readonly gather?: boolean;
}

export interface UringCounters {
  /** Calls of io_uring_enter. */
  readonly enters: number;
  /** Sends of which the kernel did not take all bytes at once, because the peer or the network was slower. */
  readonly shortSends: number;
  /** Receives that found no buffer and had to wait for one. */
  readonly starvedReceives: number;
  /** Datagrams that the kernel refused to send. */
  readonly refusedDatagrams: number;
  /** Datagrams cut because no buffer of the heap was long enough. */
  readonly truncatedDatagrams: number;
  /** Connections lost because they came faster than places came free. */
  readonly lostConnections: number;
}

/** Room for a message of 16 KiB and the framing around it. */
const STREAM_BUFFER_BYTES = 16384;
/** io_uring_recvmsg_out, then the sender's address: they precede a datagram in its buffer. */
export const DATAGRAM_HEADER_BYTES = 16;
export const DATAGRAM_NAME_BYTES = 32;
const DATAGRAM_BUFFER_BYTES = 65535 + DATAGRAM_HEADER_BYTES + DATAGRAM_NAME_BYTES;

/**
 * Sizes of the buffers. The received ones are an odd number of cache lines long, so that the first bytes of many of
 * them do not compete for the same few places of the cache.
 */
export const URING_SIZE_CLASSES: readonly SizeClass[] = [
  { bytes: 256, count: 8192 },
  { bytes: 2048, count: 8192 },
  { bytes: 16576, count: 2048 },
  { bytes: 65600, count: 512 },
  { bytes: 1 << 20, count: 8 },
];

/** Which buffers of the heap are received into, and how many. */
export interface PoolShape {
  readonly bytes: number;
  /** Most that lie ready in the kernel; a power of two. */
  readonly count: number;
  /** Kept for pops that wait while others hold the rest; a power of two, or 0 where there are too few. */
  readonly reserve: number;
  /** Most that lie ready or are held for queues whose programs do not pop. */
  readonly most: number;
}

const MAX_RESERVE = 64;

export function streamShape(classes: readonly HeapClassStats[], wanted = 256): PoolShape {
  return shape(classes, STREAM_BUFFER_BYTES, wanted);
}

export function datagramShape(classes: readonly HeapClassStats[], wanted = 128): PoolShape {
  return shape(classes, DATAGRAM_BUFFER_BYTES, wanted);
}

/** The smallest class that is large enough, else the largest; at most a quarter of it, so that programs have buffers too. */
function shape(classes: readonly HeapClassStats[], bytes: number, wanted: number): PoolShape {
  if (!(Number.isInteger(wanted) && wanted > 0 && (wanted & (wanted - 1)) === 0 && wanted <= 32768)) {
    throw new RangeError(`${wanted} receive buffers: it takes a power of two up to 32768`);
  }
  const chosen = classes.find((sizeClass) => sizeClass.bytes >= bytes) ?? classes[classes.length - 1]!;
  const reserve = Math.min(MAX_RESERVE, powerOfTwo(chosen.count >> 3));
  const count = Math.min(wanted, Math.max(1, powerOfTwo(chosen.count >> 2)));
  return { bytes: chosen.bytes, count, reserve, most: chosen.count - reserve };
}

/** The largest power of two that is not larger; 0 for 0. */
function powerOfTwo(n: number): number {
  return n <= 0 ? 0 : 1 << (31 - Math.clz32(n));
}
