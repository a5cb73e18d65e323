/**
 * The small form of collections: records one behind the other in one small buffer, found by walking it.
 * Pure functions over the buffer; a member here has at most 64 bytes, so every length is one byte.
 */
import { equalBytes } from './bytes.ts';

/** The most entries of the small form, and the most bytes of each string in it: redis's for sorted sets. */
export const PACKED_ENTRIES = 128;
export const PACKED_LENGTH = 64;

/** What a small value costs beside its packed bytes: its object and the head of the buffer. */
export const PACKED_OVERHEAD = 300;

/** Offset of the record `[length, bytes]` with these bytes, or -1. */
export function findPacked(packed: Uint8Array, used: number, from: Uint8Array, at: number, length: number): number {
  for (let offset = 0; offset < used; ) {
    const size = packed[offset]!;
    if (size === length && equalBytes(packed, offset + 1, from, at, length)) return offset;
    offset += size + 1;
  }
  return -1;
}

/** As {@link findPacked} for records `[key length, value length, key, value]`, by key. */
export function findPackedPair(packed: Uint8Array, used: number, from: Uint8Array, at: number, length: number): number {
  for (let offset = 0; offset < used; ) {
    const size = packed[offset]!;
    if (size === length && equalBytes(packed, offset + 2, from, at, length)) return offset;
    offset += size + packed[offset + 1]! + 2;
  }
  return -1;
}

/**
 * Makes what lies at `at` longer by `growth` bytes (shorter if negative: then `-growth` bytes at `at` go away).
 * Returns the buffer, a larger one if there was no room.
 */
export function shiftPacked(packed: Uint8Array, used: number, at: number, growth: number): Uint8Array {
  if (growth <= 0) {
    packed.copyWithin(at, at - growth, used);
    return packed;
  }
  const need = used + growth;
  if (need > packed.length) {
    // Up to 64 bytes V8 keeps a typed array's bytes in its own heap, which is much cheaper to make.
    const larger = new Uint8Array(need <= 64 ? (need + 15) & ~15 : (need + (need >> 1) + 31) & ~31);
    larger.set(at === used ? packed : packed.subarray(0, at));
    if (at < used) larger.set(packed.subarray(at, used), at + growth);
    return larger;
  }
  if (at < used) packed.copyWithin(at + growth, at, used);
  return packed;
}
