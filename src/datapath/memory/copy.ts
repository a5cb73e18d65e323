/**
 * Copies bytes between two mappings, quickly where there are few of them.
 * Pure.
 */
import type { Region } from '../../ring/region.ts';

/** Below this a loop over words is faster than a call of `set`, which makes a view first. */
const FEW = 256;

type Memory = Pick<Region, 'u8' | 'i32'>;

/** Copies exactly `bytes` bytes: not one of what lies behind them must reach the other process. */
export function copyBetween(from: Memory, at: number, to: Memory, place: number, bytes: number): void {
  if (bytes > FEW) {
    to.u8.set(from.u8.subarray(at, at + bytes), place);
    return;
  }
  let done = 0;
  if (((at | place) & 3) === 0) {
    const words = bytes >> 2;
    const source = from.i32;
    const target = to.i32;
    const first = at >> 2;
    const start = place >> 2;
    for (let i = 0; i < words; i++) target[start + i] = source[first + i]!;
    done = words << 2;
  }
  const source = from.u8;
  const target = to.u8;
  for (; done < bytes; done++) target[place + done] = source[at + done]!;
}

/** Into a window of `size` bytes (a power of two) at `base`, from its byte `position` on, around its end. */
export function copyIntoWindow(
  from: Memory,
  at: number,
  to: Memory,
  base: number,
  size: number,
  position: number,
  bytes: number,
): void {
  const start = position & (size - 1);
  const first = Math.min(bytes, size - start);
  copyBetween(from, at, to, base + start, first);
  if (first < bytes) copyBetween(from, at + first, to, base, bytes - first);
}

/** Out of a window, as {@link copyIntoWindow}. */
export function copyOutOfWindow(
  from: Memory,
  base: number,
  size: number,
  position: number,
  to: Memory,
  place: number,
  bytes: number,
): void {
  const start = position & (size - 1);
  const first = Math.min(bytes, size - start);
  copyBetween(from, base + start, to, place, first);
  if (first < bytes) copyBetween(from, base, to, place + first, bytes - first);
}
