/**
 * Sums of decimal numbers as redis makes them for INCRBYFLOAT and HINCRBYFLOAT: in x87 long doubles of 64 bits of mantissa,
 * printed with `%.17Lf` and without trailing zeros. Pure; by bigint, as JavaScript has no such numbers.
 */

const MANTISSA_BITS = 64;
/** Least exponent of the last bit (denormals), and the greatest of the first. */
const MIN_EXPONENT = -16445;
const MAX_EXPONENT = 16384;
/** Texts with larger decimal exponents overflow anyway; the bound keeps the bigints small. */
const DECIMAL_EXPONENT_MAX = 5100;

/** Texts as long as this are no numbers (redis: MAX_LONG_DOUBLE_CHARS). */
export const TEXT_MAX = 5120;

/** `mantissa * 2^exponent`, the mantissa of at most 64 bits. */
export interface LongDouble {
  readonly mantissa: bigint;
  readonly exponent: number;
}

const HEXADECIMAL = /^([+-]?)0[xX]([0-9a-fA-F]*)\.?([0-9a-fA-F]*)(?:[pP]([+-]?[0-9]{1,5}))?$/;
const DECIMAL = /^([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,9}))?$/;

function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}

/** Round `numerator / denominator * 2^exponent` (both positive) to the nearest, ties to even. Null if it is too large. */
function round(numerator: bigint, denominator: bigint, exponent: number, negative: boolean): LongDouble | null {
  if (numerator === 0n) return { mantissa: 0n, exponent: 0 };
  let shift = MANTISSA_BITS - (bitLength(numerator) - bitLength(denominator)) + 1;
  if (exponent - shift < MIN_EXPONENT) shift = exponent - MIN_EXPONENT;
  let quotient: bigint;
  let exact: boolean;
  const scaledNumerator = shift > 0 ? numerator << BigInt(shift) : numerator;
  const scaledDenominator = shift < 0 ? denominator << BigInt(-shift) : denominator;
  quotient = scaledNumerator / scaledDenominator;
  exact = quotient * scaledDenominator === scaledNumerator;
  let result = exponent - shift;
  for (let extra = bitLength(quotient) - MANTISSA_BITS; extra > 0; extra = bitLength(quotient) - MANTISSA_BITS) {
    const unit = 1n << BigInt(extra);
    const rest = quotient & (unit - 1n);
    const half = unit >> 1n;
    quotient >>= BigInt(extra);
    if (rest > half || (rest === half && (!exact || (quotient & 1n) === 1n))) quotient += 1n;
    exact = true;
    result += extra;
  }
  if (bitLength(quotient) + result > MAX_EXPONENT) return null;
  return { mantissa: negative ? -quotient : quotient, exponent: result };
}

/** The long double of a decimal text (strtold); null if it is none, or too large. Infinities are none here. */
export function parseLongDouble(text: string): LongDouble | null {
  if (text.length >= TEXT_MAX) return null;
  const hex = HEXADECIMAL.exec(text);
  if (hex !== null) {
    const fraction = hex[3]!;
    if (hex[2] === '' && fraction === '') return null;
    return round(BigInt(`0x0${hex[2]}${fraction}`), 1n, Number(hex[4] ?? 0) - 4 * fraction.length, hex[1] === '-');
  }
  const match = DECIMAL.exec(text);
  if (match === null) return null;
  const fraction = match[3] ?? '';
  if (match[2] === '' && fraction === '') return null;
  const digits = BigInt(`0${match[2]}${fraction}`);
  const power = Number(match[4] ?? 0) - fraction.length;
  if (power > DECIMAL_EXPONENT_MAX && digits !== 0n) return null;
  // far below the least denormal: strtold gives zero and ERANGE, which redis takes for no number
  if (power < -DECIMAL_EXPONENT_MAX - 256 && digits !== 0n) return null;
  const numerator = power > 0 ? digits * 10n ** BigInt(power) : digits;
  const denominator = power < 0 && digits !== 0n ? 10n ** BigInt(-power) : 1n;
  return round(numerator, denominator, 0, match[1] === '-');
}

/** The sum, rounded; null if it is too large. */
export function addLongDoubles(a: LongDouble, b: LongDouble): LongDouble | null {
  const exponent = Math.min(a.exponent, b.exponent);
  const sum = (a.mantissa << BigInt(a.exponent - exponent)) + (b.mantissa << BigInt(b.exponent - exponent));
  return round(sum < 0n ? -sum : sum, 1n, exponent, sum < 0n);
}

/** `%.17Lf` without trailing zeros, as redis's ld2string for people. */
export function formatLongDouble(value: LongDouble): string {
  const negative = value.mantissa < 0n;
  const mantissa = negative ? -value.mantissa : value.mantissa;
  const scaled = mantissa * 10n ** 17n;
  let digits: bigint;
  if (value.exponent >= 0) digits = scaled << BigInt(value.exponent);
  else {
    const shift = BigInt(-value.exponent);
    const half = 1n << (shift - 1n);
    const rest = scaled & ((1n << shift) - 1n);
    digits = scaled >> shift;
    if (rest > half || (rest === half && (digits & 1n) === 1n)) digits += 1n;
  }
  const text = digits.toString().padStart(18, '0');
  const whole = text.slice(0, -17);
  const fraction = text.slice(-17).replace(/0+$/, '');
  const out = fraction === '' ? whole : `${whole}.${fraction}`;
  return negative && out !== '0' ? `-${out}` : out;
}

const INFINITE = /^[+-]?inf(?:inity)?$/i;

/**
 * Add two decimal texts: the text of the sum, or the reason why not: `value` or `increment` is no number, `range` the sum is
 * not finite. The value is read first.
 */
export function addLongDoubleTexts(
  value: string,
  increment: string,
): { text: string } | { error: 'value' | 'increment' | 'range' } {
  const a = parseLongDouble(value);
  if (a === null && !INFINITE.test(value)) return { error: 'value' };
  const b = parseLongDouble(increment);
  if (b === null && !INFINITE.test(increment)) return { error: 'increment' };
  const sum = a === null || b === null ? null : addLongDoubles(a, b);
  return sum === null ? { error: 'range' } : { text: formatLongDouble(sum) };
}
