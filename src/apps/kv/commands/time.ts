/**
 * Expiry times as the commands give them: seconds or milliseconds, absolute or from now, checked for overflow as redis does.
 * Pure arithmetic; times beyond 2^53 ms are rounded.
 */

const INT64_MAX = 2 ** 63;

/** Unix milliseconds of `amount` after `base` (0: absolute). NaN if 64 bits do not hold it. */
export function absoluteTime(amount: number, seconds: boolean, base: number): number {
  const time = seconds ? amount * 1000 : amount;
  return Math.abs(time) > INT64_MAX || time + base > INT64_MAX ? Number.NaN : time + base;
}

export function expireTimeError(command: string): string {
  return `ERR invalid expire time in '${command}' command`;
}
