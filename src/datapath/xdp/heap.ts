/**
 * The buffer heap of an AF_XDP datapath: its buffers are the frames that the kernel reads and writes in place.
 * It maps one arena; the datapath that owns the heap closes it through `heap.region`.
 */
import { XDP_PACKET_HEADROOM } from '../../linux/af-xdp.ts';
import { mapArena, PAGE_BYTES } from '../../linux/memory.ts';
import { Heap, type HeapOptions, heapBytes, type SizeClass } from '../../ring/heap.ts';
import { LINK_HEADROOM } from '../stack/link.ts';

/** The Ethernet header with a tag. */
const LINK_HEADER_BYTES = 18;

/** Buffers for headers, acknowledgements and small messages; eight of them or more share a chunk of the UMEM. */
export const SMALL_BYTES = 256;

/**
 * Up to the size of a frame powers of two, so that no buffer crosses a border of a chunk. These are last in the region, and
 * they alone are the UMEM: what is sent from a larger buffer is copied into frames. Larger ones hold a power of two behind
 * the headroom.
 */
function sizeClasses(frameBytes: number): readonly SizeClass[] {
  return [
    { bytes: SMALL_BYTES, count: 8192 },
    { bytes: frameBytes, count: 8192 },
    { bytes: 16576, count: 1024 },
    { bytes: 65728, count: 256 },
    { bytes: 1 << 20, count: 8 },
  ];
}

/** Largest IP packet in a frame of so many bytes. */
export function largestMtu(frameBytes: number): number {
  return frameBytes - XDP_PACKET_HEADROOM - LINK_HEADER_BYTES;
}

export interface FrameHeap {
  readonly heap: Heap;
  readonly frameBytes: number;
  /** Buffers of the size of a frame. */
  readonly count: number;
  /** The part of the region that is the UMEM. */
  readonly offset: number;
  readonly byteLength: number;
}

/**
 * @param frameBytes 2048 or 4096
 * @throws RangeError for classes that do not fit frames, or have none; IsthmusError ENOMEM
 */
export function mapFrameHeap(frameBytes: number, options: HeapOptions = {}): FrameHeap {
  const classes = [...(options.sizeClasses ?? sizeClasses(frameBytes))].sort((a, b) => a.bytes - b.bytes);
  let offset = 0;
  let byteLength = 0;
  for (const { bytes, count } of classes) {
    if (bytes > frameBytes) {
      offset += bytes * count;
      continue;
    }
    if (bytes < SMALL_BYTES || (bytes & (bytes - 1)) !== 0) {
      throw new RangeError(`buffers of at most a frame are powers of two from ${SMALL_BYTES} on, not ${bytes} bytes`);
    }
    byteLength += bytes * count;
  }
  if (offset % PAGE_BYTES !== 0) throw new RangeError(`the larger buffers are no whole pages: ${offset} bytes`);
  const count = classes.find(({ bytes }) => bytes === frameBytes)?.count;
  if (count === undefined) {
    throw new RangeError(`an xdp datapath needs buffers of ${frameBytes} bytes, one for each frame`);
  }
  byteLength = Math.floor(byteLength / frameBytes) * frameBytes;
  const region = mapArena(heapBytes(classes), { populate: false });
  const heap = new Heap(region, { headroom: LINK_HEADROOM, ...options, sizeClasses: classes });
  return { heap, frameBytes, count, offset, byteLength };
}
