/**
 * Lists of pieces of memory (struct iovec) of a traced process.
 * It reads that process's memory only.
 */
import { readMemory } from '../../linux/process-memory.ts';
import type { Pid } from './backend.ts';

const VECTOR_BYTES = 16;
const MAX_VECTORS = 1024; // UIO_MAXIOV

export interface Piece {
  readonly address: number;
  readonly length: number;
}

/** Empty where the list is unusual: the call fails, or says so itself. @throws IsthmusError EFAULT */
export function readVectors(pid: Pid, address: number, count: number): Piece[] {
  if (count <= 0 || count > MAX_VECTORS) return [];
  const bytes = readMemory(pid, address, count * VECTOR_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength / VECTOR_BYTES }, (_, i) => ({
    address: Number(view.getBigUint64(i * VECTOR_BYTES, true)),
    length: Number(view.getBigUint64(i * VECTOR_BYTES + 8, true)),
  }));
}

/** Their lengths together; 0 where they cannot be read. */
export function vectorBytes(pid: Pid, address: number, count: number): number {
  try {
    return readVectors(pid, address, count).reduce((sum, { length }) => sum + length, 0);
  } catch {
    return 0;
  }
}
