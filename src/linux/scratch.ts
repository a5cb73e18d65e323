/**
 * A little mapped memory per thread for the structures that system calls take by pointer; fixed places, handed out once.
 * What a structure points at must lie here or in an arena, never in V8's heap, where things move.
 */
import { mapArena } from './memory.ts';

const SCRATCH_BYTES = 1 << 17;
const memory = mapArena(SCRATCH_BYTES, { populate: false });
let used = 0;

export const scratchAddress = memory.address;
export const scratchHigh = memory.addressHigh;
export const scratchU8 = memory.u8;
export const scratchU16 = memory.u16;
export const scratchI32 = memory.i32;
export const scratchU32 = memory.u32;
export const scratchView = new DataView(memory.buffer);

/**
 * Reserves `bytes` for the life of the thread and gives their offset, 64-byte aligned and zero-filled.
 * Only for set-up; a caller that comes and goes returns its piece to {@link releaseScratch}.
 */
export function reserveScratch(bytes: number): number {
  const size = (bytes + 63) & ~63;
  const reusable = free.get(size)?.pop();
  if (reusable !== undefined) {
    scratchU8.fill(0, reusable, reusable + size);
    return reusable;
  }
  if (used + size > SCRATCH_BYTES) throw new RangeError('scratch memory is used up');
  const offset = used;
  used += size;
  return offset;
}

const free = new Map<number, number[]>();

/** Gives a reserved piece back, to be reserved again by the same size. */
export function releaseScratch(offset: number, bytes: number): void {
  const size = (bytes + 63) & ~63;
  const list = free.get(size);
  if (list === undefined) free.set(size, [offset]);
  else list.push(offset);
}

/** Writes text and its closing zero at `offset`; gives the address, for a `const char *`. */
export function writeCString(offset: number, limit: number, text: string): number {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length >= limit) throw new RangeError(`text of ${bytes.length} bytes; at most ${limit - 1}`);
  scratchU8.set(bytes, offset);
  scratchU8[offset + bytes.length] = 0;
  return scratchAddress + offset;
}
