/**
 * Ranges of sorted sets: the ZRANGE family, counting in ranges, removing ranges.
 * Pure: every range becomes an interval of ranks first.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { SortedSetCursor, SortedSetValue, ZSET } from '../values/sorted-set.ts';
import { clampRange, range, replySlice } from './collection.ts';
import { family, ONE_KEY, TWO_KEYS } from './declare.ts';
import { type MemberBound, parseMemberBound, parseScoreBound, replyScore, type ScoreBound } from './score.ts';

const ANY = 0;
const BY_RANK = 1;
const BY_SCORE = 2;
const BY_LEX = 3;

const ERR_SCORE_RANGE = 'ERR min or max is not a float';
const ERR_LEX_RANGE = 'ERR min or max not valid string range item';
const ERR_LIMIT = 'ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX';
const ERR_LEX_SCORES = 'ERR syntax error, WITHSCORES not supported in combination with BYLEX';

const cursor = new SortedSetCursor();
/** What `parseRange` has read, for `findRange`. */
const minScore: ScoreBound = { score: 0, exclusive: false };
const maxScore: ScoreBound = { score: 0, exclusive: false };
const minMember: MemberBound = { infinite: 0, exclusive: false, argument: 0 };
const maxMember: MemberBound = { infinite: 0, exclusive: false, argument: 0 };
let start = 0;
let stop = 0;

/** Reads the ends of a range from arguments `min` and `max`; false if they are none, and the error has been replied. */
function parseRange(c: CommandContext, by: number, min: number, max: number): boolean {
  if (by === BY_RANK) {
    start = c.intOrError(min);
    if (Number.isNaN(start)) return false;
    stop = c.intOrError(max);
    return !Number.isNaN(stop);
  }
  if (by === BY_SCORE) {
    if (parseScoreBound(c, min, minScore) && parseScoreBound(c, max, maxScore)) return true;
    c.reply.error(ERR_SCORE_RANGE);
    return false;
  }
  if (parseMemberBound(c, min, minMember) && parseMemberBound(c, max, maxMember)) return true;
  c.reply.error(ERR_LEX_RANGE);
  return false;
}

function rankOf(c: CommandContext, set: SortedSetValue, bound: MemberBound, inclusive: boolean): number {
  if (bound.infinite !== 0) return bound.infinite < 0 ? 0 : set.size;
  const i = bound.argument;
  return set.countBelowMember(c.input, c.off[i]! + 1, c.len[i]! - 1, inclusive);
}

/** Puts the ranks of the range last read into `range`. */
function findRange(c: CommandContext, by: number, reverse: boolean, set: SortedSetValue): void {
  if (by === BY_RANK) {
    clampRange(start, stop, set.size);
    if (!reverse) return;
    const { from } = range;
    range.from = set.size - range.to;
    range.to = set.size - from;
    return;
  }
  if (by === BY_SCORE) {
    range.from = set.countBelowScore(minScore.score, minScore.exclusive);
    range.to = set.countBelowScore(maxScore.score, !maxScore.exclusive);
  } else {
    range.from = rankOf(c, set, minMember, minMember.exclusive);
    range.to = rankOf(c, set, maxMember, !maxMember.exclusive);
  }
  if (range.to < range.from) range.to = range.from;
}

/** Narrows `range` to what LIMIT leaves. */
function limitRange(reverse: boolean, offset: number, limit: number): void {
  if (offset < 0) offset = range.to - range.from;
  if (reverse) {
    range.to = Math.max(range.from, range.to - offset);
    if (limit >= 0) range.from = Math.max(range.from, range.to - limit);
  } else {
    range.from = Math.min(range.to, range.from + offset);
    if (limit >= 0) range.to = Math.min(range.to, range.from + limit);
  }
}

function replyRange(c: CommandContext, set: SortedSetValue, reverse: boolean, withScores: boolean): void {
  const { reply } = c;
  const count = range.to - range.from;
  const nested = withScores && reply.resp3;
  reply.array(withScores && !nested ? 2 * count : count);
  if (count === 0) return;
  set.seek(reverse ? range.to - 1 : range.from, cursor);
  for (let i = 0; i < count; i++) {
    if (nested) reply.array(2);
    replySlice(reply, cursor.member);
    if (withScores) replyScore(reply, cursor.score);
    if (reverse) cursor.backward();
    else cursor.forward();
  }
}

function storeRange(c: CommandContext, set: SortedSetValue | null): void {
  const count = set === null ? 0 : range.to - range.from;
  if (count === 0) {
    c.remove(1);
    c.reply.int(0);
    return;
  }
  const result = new SortedSetValue(c.db.hasher);
  set!.seek(range.from, cursor);
  for (let i = 0; i < count; i++) {
    const { bytes, at, length } = cursor.member;
    result.add(cursor.score, bytes, at, length);
    cursor.forward();
  }
  c.put(1, result);
  c.reply.int(count);
}

/**
 * The whole family. `key` is the argument with the sorted set, two bounds and the options follow; what `by` and `reverse` leave
 * open (ANY, undefined) the options may say. `key` 2 means ZRANGESTORE.
 */
function rangeCommand(c: CommandContext, key: number, by: number, reverse: boolean | undefined): void {
  const store = key === 2;
  const auto = by === ANY;
  let withScores = false;
  let offset = 0;
  let limit = -1;
  for (let i = key + 3; i < c.argc; i++) {
    if (!store && c.is(i, 'withscores')) {
      withScores = true;
    } else if (c.is(i, 'limit') && i + 2 < c.argc) {
      offset = c.intOrError(i + 1);
      if (Number.isNaN(offset)) return;
      limit = c.intOrError(i + 2);
      if (Number.isNaN(limit)) return;
      i += 2;
    } else if (reverse === undefined && c.is(i, 'rev')) {
      reverse = true;
    } else if (auto && by === ANY && c.is(i, 'bylex')) {
      by = BY_LEX;
    } else if (auto && by === ANY && c.is(i, 'byscore')) {
      by = BY_SCORE;
    } else {
      c.reply.error(ERR_SYNTAX);
      return;
    }
  }
  if (by === ANY) by = BY_RANK;
  const backwards = reverse === true;
  if (limit !== -1 && by === BY_RANK) {
    c.reply.error(ERR_LIMIT);
    return;
  }
  if (withScores && by === BY_LEX) {
    c.reply.error(ERR_LEX_SCORES);
    return;
  }
  const swapped = backwards && by !== BY_RANK;
  if (!parseRange(c, by, swapped ? key + 2 : key + 1, swapped ? key + 1 : key + 2)) return;
  const set = c.read(key, ZSET);
  if (set === undefined) return;
  if (set !== null) {
    findRange(c, by, backwards, set);
    if (by !== BY_RANK) limitRange(backwards, offset, limit);
  }
  if (store) storeRange(c, set);
  else if (set === null) c.reply.array(0);
  else replyRange(c, set, backwards, withScores);
}

function count(c: CommandContext, by: number): void {
  if (!parseRange(c, by, 2, 3)) return;
  const set = c.read(1, ZSET);
  if (set === undefined) return;
  if (set !== null) findRange(c, by, false, set);
  c.reply.int(set === null ? 0 : range.to - range.from);
}

function remove(c: CommandContext, by: number): void {
  if (!parseRange(c, by, 2, 3)) return;
  const set = c.write(1, ZSET);
  if (set === undefined) return;
  if (set === null) {
    c.reply.int(0);
    return;
  }
  findRange(c, by, false, set);
  const removed = range.to - range.from;
  if (removed === set.size) {
    c.remove(1);
  } else if (removed > 0) {
    for (let i = 0; i < removed; i++) {
      set.seek(range.from, cursor);
      set.removeAt(cursor.position);
    }
    c.changed(1, set, removed);
  }
  c.reply.int(removed);
}

const command = family('sorted-set');
const READ = FLAG.READONLY;
const READ_FAST = FLAG.READONLY | FLAG.FAST;

export const zsetRangeCommands: readonly CommandSpec[] = [
  command(
    'zrange',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, ANY, undefined),
    'Returns a range of members of a sorted set.',
  ),
  command(
    'zrangestore',
    -5,
    FLAG.WRITE | FLAG.DENYOOM,
    TWO_KEYS,
    (c) => rangeCommand(c, 2, ANY, undefined),
    'Stores a range of members of a sorted set.',
  ),
  command(
    'zrevrange',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, BY_RANK, true),
    'Returns a range of members of a sorted set by rank, from the highest down.',
  ),
  command(
    'zrangebyscore',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, BY_SCORE, false),
    'Returns a range of members of a sorted set by score.',
  ),
  command(
    'zrevrangebyscore',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, BY_SCORE, true),
    'Returns a range of members of a sorted set by score, from the highest down.',
  ),
  command(
    'zrangebylex',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, BY_LEX, false),
    'Returns a range of members of a sorted set of equal scores by member.',
  ),
  command(
    'zrevrangebylex',
    -4,
    READ,
    ONE_KEY,
    (c) => rangeCommand(c, 1, BY_LEX, true),
    'Returns a range of members of a sorted set of equal scores by member, from the last up.',
  ),
  command('zcount', 4, READ_FAST, ONE_KEY, (c) => count(c, BY_SCORE), 'Counts members of a sorted set by score.'),
  command('zlexcount', 4, READ_FAST, ONE_KEY, (c) => count(c, BY_LEX), 'Counts members of a sorted set by member.'),
  command(
    'zremrangebyrank',
    4,
    FLAG.WRITE,
    ONE_KEY,
    (c) => remove(c, BY_RANK),
    'Removes a range of members of a sorted set by rank.',
  ),
  command(
    'zremrangebyscore',
    4,
    FLAG.WRITE,
    ONE_KEY,
    (c) => remove(c, BY_SCORE),
    'Removes a range of members of a sorted set by score.',
  ),
  command(
    'zremrangebylex',
    4,
    FLAG.WRITE,
    ONE_KEY,
    (c) => remove(c, BY_LEX),
    'Removes a range of members of a sorted set by member.',
  ),
];
