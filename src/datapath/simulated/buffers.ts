/**
 * What the ends of simulated connections do with buffers.
 * It touches only the buffers it is given.
 */
import type { HeapBuffer, Sga } from '../../ring/heap.ts';

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
