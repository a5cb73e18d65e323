/**
 * A sorted array of 64-bit integers: the form of small sets whose members are all integers (redis's intset).
 * Pure; members come in and go out as decimal text, numbers stand as two 32-bit halves.
 */
import type { Slice } from './bytes.ts';

/** The most members of this form: redis's set-max-intset-entries default. */
export const INT_SET_ENTRIES = 512;

const TWO_32 = 2 ** 32;

/** The halves that the last `parseHalves` found. */
let high = 0;
let low = 0;

/** Reads a canonical decimal 64-bit integer (redis's string2ll: no plus, no leading zero, no blank) into the halves. */
function parseHalves(from: Uint8Array, at: number, length: number): boolean {
  if (length === 0 || length > 20) return false;
  const end = at + length;
  const negative = from[at] === 45;
  if (negative) at++;
  const digits = end - at;
  if (digits === 0) return false;
  const first = from[at]!;
  if (first < 49 || first > 57) {
    if (first !== 48 || digits !== 1 || negative) return false;
  }
  if (digits > 15) return parseLongHalves(from, at, end, negative);
  let value = 0;
  for (; at < end; at++) {
    const digit = from[at]! - 48;
    if (digit < 0 || digit > 9) return false;
    value = value * 10 + digit;
  }
  if (negative) value = -value;
  low = value | 0;
  high = Math.floor(value / TWO_32);
  return true;
}

function parseLongHalves(from: Uint8Array, at: number, end: number, negative: boolean): boolean {
  let text = '';
  for (; at < end; at++) {
    const digit = from[at]!;
    if (digit < 48 || digit > 57) return false;
    text += String.fromCharCode(digit);
  }
  const value = negative ? -BigInt(text) : BigInt(text);
  if (BigInt.asIntN(64, value) !== value) return false;
  low = Number(BigInt.asIntN(32, value));
  high = Number(BigInt.asIntN(32, value >> 32n));
  return true;
}

/** True if these bytes can be a member of an IntSet. */
export function isInteger(from: Uint8Array, at: number, length: number): boolean {
  return parseHalves(from, at, length);
}

/** Text of the member last read; one buffer serves all sets since a slice is good until the next read. */
const text = new Uint8Array(20);

export class IntSet {
  size = 0;
  /** High and low half of each member, ascending. */
  #halves = new Int32Array(4);

  get bytes(): number {
    return 200 + this.#halves.length * 4;
  }

  /** Index of a member, or -1. */
  find(from: Uint8Array, at: number, length: number): number {
    if (!parseHalves(from, at, length)) return -1;
    const index = this.#place();
    return index < this.size && this.#halves[2 * index] === high && this.#halves[2 * index + 1] === low ? index : -1;
  }

  /** Adds the integer in the text, which must be one; false if it is there already. */
  add(from: Uint8Array, at: number, length: number): boolean {
    parseHalves(from, at, length);
    const index = this.#place();
    let halves = this.#halves;
    if (index < this.size && halves[2 * index] === high && halves[2 * index + 1] === low) return false;
    if (2 * this.size === halves.length) {
      halves = new Int32Array(halves.length * 2);
      halves.set(this.#halves);
      this.#halves = halves;
    }
    if (index < this.size) halves.copyWithin(2 * index + 2, 2 * index, 2 * this.size);
    halves[2 * index] = high;
    halves[2 * index + 1] = low;
    this.size++;
    return true;
  }

  removeAt(index: number): void {
    this.#halves.copyWithin(2 * index, 2 * index + 2, 2 * this.size);
    this.size--;
  }

  /** Points `member` at the text of the member at an index; good until the next read of any IntSet. */
  read(index: number, member: Slice): void {
    const upper = this.#halves[2 * index]!;
    const lower = this.#halves[2 * index + 1]! >>> 0;
    let at = text.length;
    if (upper >= -0x200000 && upper < 0x200000) {
      const value = upper * TWO_32 + lower;
      let rest = Math.abs(value);
      do {
        const quotient = Math.floor(rest / 10);
        text[--at] = 48 + rest - quotient * 10;
        rest = quotient;
      } while (rest > 0);
      if (value < 0) text[--at] = 45;
    } else {
      const digits = ((BigInt(upper) << 32n) | BigInt(lower)).toString();
      at -= digits.length;
      for (let i = 0; i < digits.length; i++) text[at + i] = digits.charCodeAt(i);
    }
    member.bytes = text;
    member.at = at;
    member.length = text.length - at;
  }

  clone(): IntSet {
    const copy = new IntSet();
    copy.size = this.size;
    copy.#halves = this.#halves.slice();
    return copy;
  }

  /** Index of the first member not below the halves last parsed. */
  #place(): number {
    const halves = this.#halves;
    let from = 0;
    let to = this.size;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const upper = halves[2 * middle]!;
      if (upper < high || (upper === high && halves[2 * middle + 1]! >>> 0 < low >>> 0)) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
