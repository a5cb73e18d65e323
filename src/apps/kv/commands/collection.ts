/**
 * What the commands on hashes, lists, sets and sorted sets share: ranges, counts, random picks, replies from slices.
 * Pure: helpers over the command context. Each list of positions here is used by one command at a time.
 */
import type { CommandContext } from '../command.ts';
import { ERR_NOT_INTEGER, ERR_NOT_POSITIVE, ERR_OUT_OF_RANGE, ERR_SYNTAX } from '../resp/errors.ts';
import { lastInt64 } from '../resp/number.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import type { StoredValue, ValueType } from '../store/value.ts';
import type { Slice } from '../values/bytes.ts';
import { Positions } from '../values/positions.ts';
import { parseCursor, parseScanOptions, type ScanOptions } from './scan-options.ts';

const ERR_RANDOM_RANGE = 'ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807';

/** Positions that a command has chosen. */
export const chosen = new Positions();

/** Replies what a slice points at. */
export function replySlice(reply: ReplyWriter, slice: Slice): void {
  const { length } = slice;
  if (length > 99 || reply.end - reply.pos < 106) {
    reply.bulk(slice.bytes, slice.at, length);
    return;
  }
  // Short elements are the most frequent; this is `bulk` in one piece.
  const { bytes } = reply;
  const from = slice.bytes;
  const { at } = slice;
  let pos = reply.pos;
  bytes[pos++] = 36;
  if (length > 9) {
    const tens = (length * 205) >> 11;
    bytes[pos++] = 48 + tens;
    bytes[pos++] = 48 + length - 10 * tens;
  } else {
    bytes[pos++] = 48 + length;
  }
  bytes[pos++] = 13;
  bytes[pos++] = 10;
  for (let i = 0; i < length; i++) bytes[pos + i] = from[at + i]!;
  pos += length;
  bytes[pos] = 13;
  bytes[pos + 1] = 10;
  reply.pos = pos + 2;
}

/** Argument i as an integer of at least `min`; NaN if it is none, and `error` has been replied. */
export function atLeast(c: CommandContext, i: number, min: number, error: string): number {
  const value = c.int(i);
  if (value >= min) return value;
  c.reply.error(error);
  return Number.NaN;
}

/** Argument i as a count of elements, not negative; NaN if it is none, and the error has been replied. */
export function countArgument(c: CommandContext, i: number): number {
  return atLeast(c, i, 0, ERR_NOT_POSITIVE);
}

/** The `[COUNT count]` that may end a command at argument i; 1 without one, NaN if it is wrong and the error has been replied. */
export function countAtEnd(c: CommandContext, i: number): number {
  if (i >= c.argc) return 1;
  if (i + 1 >= c.argc || !c.is(i, 'count')) {
    c.reply.error(ERR_SYNTAX);
    return Number.NaN;
  }
  const count = atLeast(c, i + 1, 1, 'ERR count should be greater than 0');
  if (Number.isNaN(count) || i + 2 === c.argc) return count;
  c.reply.error(ERR_SYNTAX);
  return Number.NaN;
}

/** A value whose elements are found by their bytes. */
interface Searchable extends StoredValue {
  /** The position of an element, negative where there is none. */
  find(bytes: Uint8Array, at: number, length: number): number;
  removeAt(position: number): void;
}

/** HDEL, SREM, ZREM: takes what the arguments name out of the value at key 1, and replies how many were there. */
export function removeElements<V extends Searchable>(c: CommandContext, type: ValueType<V>): void {
  const value = c.write(1, type);
  if (value === undefined) return;
  let removed = 0;
  if (value !== null) {
    for (let i = 2; i < c.argc && value.size > 0; i++) {
      const position = value.find(c.input, c.off[i]!, c.len[i]!);
      if (position < 0) continue;
      value.removeAt(position);
      removed++;
    }
    if (removed > 0) c.changed(1, value, removed);
  }
  c.reply.int(removed);
}

/** The count of HRANDFIELD, SRANDMEMBER and ZRANDMEMBER; NaN if it is none, and the error has been replied. */
export function randomCount(c: CommandContext, i: number): number {
  const count = c.intOrError(i, ERR_NOT_INTEGER);
  if (count === -(2 ** 63) && lastInt64.rounded && c.text(i) === '-9223372036854775808') {
    c.reply.error(ERR_RANDOM_RANGE);
    return Number.NaN;
  }
  return count;
}

/** As `randomCount` where each element is replied with its value, which halves the range. */
export function randomCountOfPairs(c: CommandContext, count: number): boolean {
  if (Math.abs(count) <= 2 ** 62) return true;
  c.reply.error(ERR_OUT_OF_RANGE);
  return false;
}

/** Bounds of a range of indexes after `clampRange`: [from, to), empty if from === to. */
export const range = { from: 0, to: 0 };

/** Puts indexes that may count from the end, both inclusive, into `range`. */
export function clampRange(start: number, stop: number, size: number): void {
  if (start < 0) start = Math.max(0, start + size);
  if (stop < 0) stop += size;
  if (stop >= size) stop = size - 1;
  range.from = start > stop ? 0 : start;
  range.to = start > stop ? 0 : stop + 1;
}

/** Chooses `count` different indexes below `size` into `chosen`, in random order; `count` at most `size`. */
export function chooseDifferent(c: CommandContext, count: number, size: number): void {
  chosen.clear();
  if (count * 3 < size) {
    const taken = new Set<number>();
    while (taken.size < count) {
      const index = c.randomBelow(size);
      if (taken.has(index)) continue;
      taken.add(index);
      chosen.push(index);
    }
    return;
  }
  for (let index = 0; index < size; index++) chosen.push(index);
  const { items } = chosen;
  for (let i = 0; i < count; i++) {
    const other = i + c.randomBelow(size - i);
    const index = items[other]!;
    items[other] = items[i]!;
    items[i] = index;
  }
  chosen.length = count;
}

/** A collection that HSCAN, SSCAN and ZSCAN can walk. */
interface Scannable {
  scan(cursor: number, count: number, into: Positions): number;
}

/**
 * The common part of HSCAN, SSCAN and ZSCAN: replies errors, the empty scan and the cursor, and gives the options; null if the
 * reply is complete. The positions to reply are then in `chosen`, less those that `matches` (given a position) refuses.
 */
export function beginScan<V extends Scannable>(
  c: CommandContext,
  value: (c: CommandContext) => V | null | undefined,
  matches: (c: CommandContext, options: ScanOptions, value: V, position: number) => boolean,
): V | null {
  const cursor = parseCursor(c, 2);
  if (Number.isNaN(cursor)) return null;
  const found = value(c);
  if (found === undefined) return null;
  if (found === null) {
    c.reply.array(2);
    c.reply.intBulk(0);
    c.reply.array(0);
    return null;
  }
  const options = parseScanOptions(c, 3);
  if (options === null) return null;
  chosen.clear();
  const next = found.scan(cursor, options.count, chosen);
  if (options.pattern >= 0) {
    let kept = 0;
    for (let i = 0; i < chosen.length; i++) {
      const position = chosen.items[i]!;
      if (matches(c, options, found, position)) chosen.items[kept++] = position;
    }
    chosen.length = kept;
  }
  c.reply.array(2);
  c.reply.intBulk(next);
  return found;
}
