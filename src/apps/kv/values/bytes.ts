/**
 * Byte strings named by (buffer, start, length): compare and copy without making an object.
 * Pure; everything under values/ stands on it.
 */

/** A byte string inside a larger buffer; filled by readers, so that a loop needs only one of them. */
export class Slice {
  bytes: Uint8Array = EMPTY;
  at = 0;
  length = 0;
}

export const EMPTY = new Uint8Array(0);

/** Below this a plain loop beats making the view that `set` needs. */
const LOOP_LIMIT = 64;

/** Copies `length` bytes; the two buffers may be one, but then the ranges must not overlap. */
export function copyBytes(to: Uint8Array, toAt: number, from: Uint8Array, fromAt: number, length: number): void {
  if (length <= LOOP_LIMIT) {
    for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!;
  } else {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
  }
}

/** True when the two strings, already known to be `length` bytes long each, are the same. */
export function equalBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  // From the end, because names often begin alike.
  for (let i = length - 1; i >= 0; i--) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

/** memcmp order, the shorter first when one is a prefix of the other: negative, zero or positive. */
export function compareBytes(
  a: Uint8Array,
  aAt: number,
  aLength: number,
  b: Uint8Array,
  bAt: number,
  bLength: number,
): number {
  const shorter = Math.min(aLength, bLength);
  for (let i = 0; i < shorter; i++) {
    const difference = a[aAt + i]! - b[bAt + i]!;
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}
