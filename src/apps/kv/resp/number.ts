/**
 * Numbers as redis reads and writes them: strict 64-bit integers, doubles as strtod takes them, `%.17g`.
 * Pure functions over bytes; integers beyond 2^53 are exact only through the bigint forms.
 */

const INT64_MAX = 9223372036854775807n;
const INT64_MIN = -9223372036854775808n;

/** True if the last `parseInt64` gave a number beyond ±(2^53-1), which is therefore rounded. */
export const lastInt64 = { rounded: false };

/**
 * The strict integer of redis's string2ll: no spaces, no plus, no leading zeros, within 64 bits signed. NaN if it is none.
 * Beyond ±(2^53-1) the number is rounded and `lastInt64.rounded` is true; `parseBigInt64` gives it exactly.
 */
export function parseInt64(bytes: Uint8Array, offset: number, length: number): number {
  if (length === 0 || length > 20) return Number.NaN;
  let at = offset;
  const end = offset + length;
  const negative = bytes[at] === 45;
  if (negative) at++;
  const digits = end - at;
  if (digits === 0) return Number.NaN;
  const first = bytes[at]! - 48;
  if (first === 0) {
    if (digits !== 1 || negative) return Number.NaN;
    lastInt64.rounded = false;
    return 0;
  }
  if (digits > 15) return parseLongInt64(bytes, offset, length);
  let value = 0;
  for (; at < end; at++) {
    const digit = bytes[at]! - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  lastInt64.rounded = false;
  return negative ? -value : value;
}

function parseLongInt64(bytes: Uint8Array, offset: number, length: number): number {
  const value = parseBigInt64(bytes, offset, length);
  if (value === null) return Number.NaN;
  const number = Number(value);
  lastInt64.rounded = !Number.isSafeInteger(number);
  return number;
}

/** As `parseInt64`, exact; null if it is no 64-bit integer. */
export function parseBigInt64(bytes: Uint8Array, offset: number, length: number): bigint | null {
  if (length === 0 || length > 20) return null;
  let text = '';
  for (let i = 0; i < length; i++) text += String.fromCharCode(bytes[offset + i]!);
  if (!/^(0|-?[1-9][0-9]*)$/.test(text)) return null;
  const value = BigInt(text);
  return value > INT64_MAX || value < INT64_MIN ? null : value;
}

/** True if a bigint fits in 64 bits signed. */
export function isInt64(value: bigint): boolean {
  return value <= INT64_MAX && value >= INT64_MIN;
}

const DECIMAL = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;
const HEXADECIMAL = /^([+-]?)0[xX]([0-9a-fA-F]*)\.?([0-9a-fA-F]*)(?:[pP]([+-]?[0-9]+))?$/;
const INFINITE = /^([+-]?)inf(?:inity)?$/i;

/** The double of redis's string2d (strtod over the whole text, no blanks, no NaN). NaN if it is none. */
export function parseDouble(bytes: Uint8Array, offset: number, length: number): number {
  if (length === 0 || length > 256) return Number.NaN;
  let value = 0;
  let at = offset;
  const end = offset + length;
  const negative = bytes[at] === 45;
  if (negative) at++;
  if (end - at <= 15 && at < end) {
    for (; at < end; at++) {
      const digit = bytes[at]! - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    if (at === end) return negative ? -value : value;
  }
  let text = '';
  for (let i = 0; i < length; i++) text += String.fromCharCode(bytes[offset + i]!);
  return parseDoubleText(text);
}

/** As `parseDouble`, from text. */
export function parseDoubleText(text: string): number {
  if (DECIMAL.test(text)) {
    const value = Number(text);
    // strtod says ERANGE where a finite text overflows, and redis then takes it for no number
    return Number.isFinite(value) ? value : Number.NaN;
  }
  const infinite = INFINITE.exec(text);
  if (infinite) return infinite[1] === '-' ? -Infinity : Infinity;
  const hex = HEXADECIMAL.exec(text);
  if (hex && (hex[2] !== '' || hex[3] !== '')) {
    const fraction = hex[3]!;
    const mantissa = Number.parseInt(`0${hex[2]}${fraction}`, 16);
    const value = mantissa * 2 ** (Number(hex[4] ?? 0) - 4 * fraction.length);
    return hex[1] === '-' ? -value : value;
  }
  return Number.NaN;
}

/** C's `%.17g`, with `inf`, `-inf` and `nan` as redis prints them. */
export function formatG17(value: number): string {
  if (Number.isSafeInteger(value)) return Object.is(value, -0) ? '-0' : String(value);
  if (value === Infinity) return 'inf';
  if (value === -Infinity) return '-inf';
  if (Number.isNaN(value)) return 'nan';
  const [mantissa, exponentText] = value.toExponential(16).split('e') as [string, string];
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < 17) return trimZeros(value.toPrecision(17));
  const sign = exponent < 0 ? '-' : '+';
  return `${trimZeros(mantissa)}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** Length of the decimal text of an integer of at most 2^53. */
export function intLength(value: number): number {
  let length = 1;
  if (value < 0) {
    length = 2;
    value = -value;
  }
  for (; value >= 0x7fffffff; value = Math.floor(value / 10)) length++;
  for (let limit = 10; value >= limit && limit <= 1000000000; limit *= 10) length++;
  return length;
}

/** Write the decimal text of an integer of at most 2^53; gives its length. */
export function writeInt(bytes: Uint8Array, offset: number, value: number): number {
  const length = intLength(value);
  let at = offset + length - 1;
  let big = value < 0 ? -value : value;
  for (; big >= 0x7fffffff; at--) {
    const q = Math.floor(big / 10);
    bytes[at] = 48 + (big - q * 10);
    big = q;
  }
  let rest = big | 0;
  do {
    const q = (rest / 10) | 0;
    bytes[at--] = 48 + rest - q * 10;
    rest = q;
  } while (rest > 0);
  if (value < 0) bytes[offset] = 45;
  return length;
}
