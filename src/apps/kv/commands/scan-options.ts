/**
 * What SCAN, HSCAN, SSCAN and ZSCAN have in common: the cursor, MATCH, COUNT and TYPE.
 * Pure: reads arguments, replies errors in redis's words.
 */
import type { CommandContext } from '../command.ts';
import { globMatch } from '../glob.ts';
import { ERR_INVALID_CURSOR, ERR_SYNTAX } from '../resp/errors.ts';

export interface ScanOptions {
  /** About how many elements to visit. */
  readonly count: number;
  /** Argument that holds the pattern, -1 if all match. */
  readonly pattern: number;
  /** Argument that holds the type, -1 if any will do. */
  readonly type: number;
}

/** The cursor in argument i; NaN if it is none, and the error has been replied. Cursors of ours have 32 bits. */
export function parseCursor(c: CommandContext, i: number): number {
  if (c.len[i]! <= 20) {
    const match = /^([+-]?)([0-9]+)$/.exec(c.text(i));
    if (match === null && c.len[i] === 0) return 0;
    // as strtoul: a minus wraps around
    const value = match === null ? -1n : BigInt(match[2]!);
    if (value >= 0n && value <= 0xffffffffffffffffn)
      return Number(BigInt.asUintN(32, match![1] === '-' ? -value : value));
  }
  c.reply.error(ERR_INVALID_CURSOR);
  return Number.NaN;
}

/** Options from argument `from` on; null if they are wrong, and the error has been replied. TYPE only where `typed`. */
export function parseScanOptions(c: CommandContext, from: number, typed = false): ScanOptions | null {
  let count = 10;
  let pattern = -1;
  let type = -1;
  for (let i = from; i < c.argc; i += 2) {
    const more = i + 1 < c.argc;
    if (more && c.is(i, 'count')) {
      count = c.intOrError(i + 1);
      if (Number.isNaN(count)) return null;
      if (count >= 1) continue;
      c.reply.error(ERR_SYNTAX);
      return null;
    }
    if (more && c.is(i, 'match')) pattern = c.len[i + 1] === 1 && c.first(i + 1) === 42 ? -1 : i + 1;
    else if (more && typed && c.is(i, 'type')) type = i + 1;
    else {
      c.reply.error(ERR_SYNTAX);
      return null;
    }
  }
  return { count, pattern, type };
}

/** Do these bytes match the pattern of the options? */
export function scanMatches(
  c: CommandContext,
  options: ScanOptions,
  bytes: Uint8Array,
  offset: number,
  length: number,
): boolean {
  const i = options.pattern;
  return i < 0 || globMatch(c.input, c.off[i]!, c.len[i]!, bytes, offset, length);
}
