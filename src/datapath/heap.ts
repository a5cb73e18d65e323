/**
 * The buffer heap of a datapath whose buffers the kernel reads and writes: mapped memory, touched only as it is used.
 * It maps one arena; the datapath that owns the heap closes it through `heap.region`.
 */
import { mapArena } from '../linux/memory.ts';
import { Heap, type HeapOptions, heapBytes, type SizeClass } from '../ring/heap.ts';

/**
 * Sizes of the buffers, 74 MiB of addresses. They are an odd number of cache lines long, so that the first bytes of many
 * of them do not compete for the same few places of the cache (4 % of an echo's processor time).
 */
const SIZE_CLASSES: readonly SizeClass[] = [
  { bytes: 320, count: 8192 },
  { bytes: 2112, count: 8192 },
  { bytes: 16576, count: 2048 },
  { bytes: 65600, count: 256 },
  { bytes: 1 << 20, count: 8 },
];

/** @throws IsthmusError ENOMEM where the memory cannot be mapped */
export function mapHeap(options: HeapOptions = {}): Heap {
  const sizeClasses = options.sizeClasses ?? SIZE_CLASSES;
  const region = mapArena(heapBytes(sizeClasses), { populate: false });
  return new Heap(region, { ...options, sizeClasses });
}
