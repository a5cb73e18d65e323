/**
 * Splits an inline request into its arguments, with the quotes and escapes of redis's sdssplitargs.
 * Pure; it rewrites the line in place, for an argument is never longer than what stands for it.
 */

function isSpace(byte: number): boolean {
  return byte === 32 || (byte >= 9 && byte <= 13);
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  byte |= 32;
  return byte >= 97 && byte <= 102 ? byte - 87 : -1;
}

const ESCAPES: Readonly<Record<number, number>> = { 110: 10, 114: 13, 116: 9, 98: 8, 97: 7 };

/**
 * Split `bytes[start .. end)`. Calls `add(offset, length)` for each argument, whose bytes then lie in `bytes`. False if a quote
 * is not closed, or closed in the middle of a word. A NUL ends the line.
 */
export function splitInline(
  bytes: Uint8Array,
  start: number,
  end: number,
  add: (offset: number, length: number) => void,
): boolean {
  const at = (i: number): number => (i < end ? bytes[i]! : 0);
  let p = start;
  let w = start;
  for (;;) {
    while (isSpace(at(p))) p++;
    if (at(p) === 0) return true;
    const from = w;
    let quote = 0;
    for (;;) {
      const byte = at(p);
      if (quote === 0) {
        if (byte === 0 || byte === 32 || byte === 10 || byte === 13 || byte === 9) break;
        if (byte === 34 || byte === 39) quote = byte;
        else bytes[w++] = byte;
      } else if (byte === 0) return false;
      else if (byte === quote) {
        const after = at(p + 1);
        if (after !== 0 && !isSpace(after)) return false;
        p++;
        break;
      } else if (byte === 92 && quote === 39 && at(p + 1) === 39) {
        bytes[w++] = 39;
        p++;
      } else if (
        byte === 92 &&
        quote === 34 &&
        at(p + 1) === 120 &&
        hexDigit(at(p + 2)) >= 0 &&
        hexDigit(at(p + 3)) >= 0
      ) {
        bytes[w++] = hexDigit(at(p + 2)) * 16 + hexDigit(at(p + 3));
        p += 3;
      } else if (byte === 92 && quote === 34 && at(p + 1) !== 0) {
        const escaped = at(p + 1);
        bytes[w++] = ESCAPES[escaped] ?? escaped;
        p++;
      } else bytes[w++] = byte;
      p++;
    }
    add(from, w - from);
  }
}
