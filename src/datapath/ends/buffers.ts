/**
 * What ends do with buffers.
 * It touches only the buffers it is given.
 */
import { ERRNO } from '../../errors.ts';
import type { Heap, HeapBuffer, Sga } from '../../ring/heap.ts';

export function copyBytes(from: HeapBuffer, offset: number, bytes: number, to: HeapBuffer, at: number): void {
  if (from.memory === to.memory) to.memory.copyWithin(at, offset, offset + bytes);
  else to.memory.set(from.memory.subarray(offset, offset + bytes), at);
}

export function releaseEach(sga: Sga): void {
  if ('references' in sga) sga.release();
  else for (const buffer of sga) buffer.release();
}

export function totalLength(sga: Sga): number {
  if ('references' in sga) return sga.length;
  let bytes = 0;
  for (const buffer of sga) bytes += buffer.length;
  return bytes;
}

/** All buffers of a push in one, for a datagram; their references are taken over. An errno where there is no room for it. */
export function gather(sga: Sga, heap: Heap, longest: number): HeapBuffer | number {
  if ('references' in sga) return sga;
  const bytes = totalLength(sga);
  const whole = bytes > heap.largest ? null : heap.tryAlloc(bytes);
  if (whole !== null) {
    let at = whole.offset;
    for (const buffer of sga) {
      copyBytes(buffer, buffer.offset, buffer.length, whole, at);
      at += buffer.length;
    }
  }
  releaseEach(sga);
  return whole ?? (bytes > Math.min(longest, heap.largest) ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS);
}
