/**
 * Glob patterns as KEYS, SCAN MATCH and CONFIG GET take them (redis: stringmatchlen), over bytes.
 * Pure; a pattern of many stars costs at most pattern times string, not more.
 */

const STAR = 42;
const QUESTION = 63;
const OPEN = 91;
const CLOSE = 93;
const CARET = 94;
const BACKSLASH = 92;
const DASH = 45;

function lower(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte | 32 : byte;
}

/** Where the item of a pattern that begins at `at` ends. */
function itemEnd(pattern: Uint8Array, at: number, end: number): number {
  if (pattern[at] === BACKSLASH && at + 1 < end) return at + 2;
  if (pattern[at] !== OPEN) return at + 1;
  at++;
  if (at < end && pattern[at] === CARET) at++;
  for (;;) {
    if (at >= end) return end;
    if (pattern[at] === BACKSLASH && at + 1 < end) at += 2;
    else if (pattern[at] === CLOSE) return at + 1;
    else if (at + 2 < end && pattern[at + 1] === DASH) at += 3;
    else at++;
  }
}

/** Does the item at `at` (no star) match one byte? */
function itemMatches(pattern: Uint8Array, at: number, end: number, byte: number, fold: boolean): boolean {
  const first = pattern[at]!;
  if (first === QUESTION) return true;
  if (first === BACKSLASH && at + 1 < end) return same(pattern[at + 1]!, byte, fold);
  if (first !== OPEN) return same(first, byte, fold);
  at++;
  const not = at < end && pattern[at] === CARET;
  if (not) at++;
  let match = false;
  for (;;) {
    if (at >= end || pattern[at] === CLOSE) break;
    if (pattern[at] === BACKSLASH && at + 1 < end) {
      if (pattern[at + 1] === byte) match = true;
      at += 2;
    } else if (at + 2 < end && pattern[at + 1] === DASH) {
      let low = pattern[at]!;
      let high = pattern[at + 2]!;
      if (low > high) [low, high] = [high, low];
      if (fold) {
        low = lower(low);
        high = lower(high);
      }
      const folded = fold ? lower(byte) : byte;
      if (folded >= low && folded <= high) match = true;
      at += 3;
    } else {
      if (same(pattern[at]!, byte, fold)) match = true;
      at++;
    }
  }
  return match !== not;
}

function same(a: number, b: number, fold: boolean): boolean {
  return fold ? lower(a) === lower(b) : a === b;
}

/** Does the pattern match the whole of the string? `fold` ignores ASCII case. */
export function globMatch(
  pattern: Uint8Array,
  patternStart: number,
  patternLength: number,
  string: Uint8Array,
  start: number,
  length: number,
  fold = false,
): boolean {
  const patternEnd = patternStart + patternLength;
  const end = start + length;
  let p = patternStart;
  let s = start;
  let starAt = -1;
  let resume = 0;
  for (;;) {
    if (p < patternEnd && pattern[p] === STAR) {
      starAt = ++p;
      resume = s;
      if (p === patternEnd) return true;
    } else if (p < patternEnd && s < end && itemMatches(pattern, p, patternEnd, string[s]!, fold)) {
      p = itemEnd(pattern, p, patternEnd);
      s++;
    } else if (p === patternEnd && s === end) return true;
    else if (starAt >= 0 && resume < end) {
      // give the last star one byte more: earlier stars need not be tried again
      p = starAt;
      s = ++resume;
    } else return false;
  }
}

/** Glob over text, for CONFIG GET and the like. */
export function globMatchText(pattern: Uint8Array, text: string, fold = false): boolean {
  const bytes = Buffer.from(text, 'latin1');
  return globMatch(pattern, 0, pattern.length, bytes, 0, bytes.length, fold);
}
