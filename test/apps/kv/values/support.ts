/**
 * What the tests of the value structures share: seeded random numbers and byte strings in a larger buffer.
 * Pure.
 */

import { Hasher } from '../../../../src/apps/kv/store/hash.ts';
import type { Slice } from '../../../../src/apps/kv/values/bytes.ts';

export const hasher = new Hasher(0x01234567, 0x89abcdef);

/** Whole numbers below `n` from a seed (xorshift32). */
export function randomFrom(seed: number): (n: number) => number {
  let state = seed | 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/** A text as bytes that begin at `AT` of a buffer, so that forgotten offsets show. */
export const AT = 3;
export function put(text: string): Uint8Array {
  const bytes = new Uint8Array(AT + text.length + 2).fill(0x7a);
  for (let i = 0; i < text.length; i++) bytes[AT + i] = text.charCodeAt(i);
  return bytes;
}

/** What a slice points at, as text. */
export function textOf(slice: Slice): string {
  return Buffer.from(slice.bytes.buffer, slice.bytes.byteOffset + slice.at, slice.length).toString('latin1');
}

/** Lengths that matter to the structures: short ones, both sides of each limit, now and then a large one. */
export function randomLength(random: (n: number) => number, large: boolean): number {
  const pick = random(large ? 400 : 40);
  if (pick === 0) return 0;
  if (pick < 4) return 62 + random(5);
  if (large && pick === 5) return 250 + random(8);
  if (large && pick === 6) return 65530 + random(10);
  if (large && pick === 7) return 1000 + random(9000);
  return 1 + random(12);
}

/** A text of that length which the number chooses. */
export function textFor(number: number, length: number): string {
  const digits = number.toString(36);
  return length <= digits.length ? digits.slice(0, length) : digits + 'x'.repeat(length - digits.length);
}
