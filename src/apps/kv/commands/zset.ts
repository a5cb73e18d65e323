/**
 * The sorted set commands on members: adding, removing, scores and ranks, popping, random members, scanning.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_NOT_FLOAT, ERR_NOT_POSITIVE, ERR_SYNTAX } from '../resp/errors.ts';
import { Slice } from '../values/bytes.ts';
import { SortedSetCursor, SortedSetValue, ZSET } from '../values/sorted-set.ts';
import {
  atLeast,
  beginScan,
  chooseDifferent,
  chosen,
  countAtEnd,
  randomCount,
  randomCountOfPairs,
  removeElements,
  replySlice,
} from './collection.ts';
import { family, NO_KEYS, ONE_KEY } from './declare.ts';
import { type ScanOptions, scanMatches } from './scan-options.ts';
import { replyScannedScore, replyScore } from './score.ts';
import { zsetCombineCommands } from './zset-combine.ts';
import { zsetRangeCommands } from './zset-range.ts';

const NX = 1;
const XX = 2;
const GT = 4;
const LT = 8;
const CH = 16;
const INCR = 32;

const ERR_NAN = 'ERR resulting score is not a number (NaN)';

const member = new Slice();
const cursor = new SortedSetCursor();
/** Scores of the ZADD under way. */
let scores = new Float64Array(16);

/** Position of the member that argument i names, -1 if the set has none. */
function find(c: CommandContext, set: SortedSetValue, i: number): number {
  return set.find(c.input, c.off[i]!, c.len[i]!);
}

/** The flag that option i of ZADD stands for, 0 if it is none. */
function addFlag(c: CommandContext, i: number): number {
  const length = c.len[i]!;
  if (length === 2) {
    if (c.is(i, 'nx')) return NX;
    if (c.is(i, 'xx')) return XX;
    if (c.is(i, 'ch')) return CH;
    if (c.is(i, 'gt')) return GT;
    if (c.is(i, 'lt')) return LT;
    return 0;
  }
  return length === 4 && c.is(i, 'incr') ? INCR : 0;
}

function zadd(c: CommandContext): void {
  let flags = 0;
  let first = 2;
  for (let flag = addFlag(c, 2); flag !== 0; flag = first < c.argc ? addFlag(c, first) : 0) {
    flags |= flag;
    first++;
  }
  add(c, first, flags);
}

/** ZADD and ZINCRBY with pairs of score and member from argument `first` on. */
function add(c: CommandContext, first: number, flags: number): void {
  const pairs = (c.argc - first) / 2;
  const problem = addProblem(pairs, flags);
  if (problem !== null) {
    c.reply.error(problem);
    return;
  }
  if (pairs > scores.length) scores = new Float64Array(2 * pairs);
  for (let i = 0; i < pairs; i++) {
    const score = c.doubleOrError(first + 2 * i, ERR_NOT_FLOAT);
    if (Number.isNaN(score)) return;
    scores[i] = score;
  }
  const found = c.write(1, ZSET);
  if (found === undefined) return;
  if (found === null && (flags & XX) !== 0) {
    if ((flags & INCR) !== 0) c.reply.nil();
    else c.reply.int(0);
    return;
  }
  const set = found ?? new SortedSetValue(c.db.hasher);
  const { size } = set;
  let updated = 0;
  let skipped = 0;
  for (let i = 0; i < pairs; i++) {
    const at = first + 2 * i + 1;
    const position = find(c, set, at);
    if (position < 0) {
      if ((flags & XX) === 0) set.add(scores[i]!, c.input, c.off[at]!, c.len[at]!);
      else skipped++;
      continue;
    }
    if ((flags & NX) !== 0) {
      skipped++;
      continue;
    }
    const old = set.scoreAt(position);
    if ((flags & INCR) !== 0) scores[i]! += old;
    const score = scores[i]!;
    if (Number.isNaN(score)) {
      c.reply.error(ERR_NAN);
      return;
    }
    if (((flags & LT) !== 0 && score >= old) || ((flags & GT) !== 0 && score <= old)) {
      skipped++;
    } else if (score !== old) {
      set.update(position, score);
      updated++;
    }
  }
  const added = set.size - size;
  if (found === null) c.put(1, set);
  else if (added + updated > 0) c.changed(1, set, added + updated);
  if ((flags & INCR) === 0) c.reply.int((flags & CH) !== 0 ? added + updated : added);
  else if (skipped > 0) c.reply.nil();
  else replyScore(c.reply, scores[0]!);
}

/** What is wrong with the options of ZADD, in the order in which redis looks; null if nothing. */
function addProblem(pairs: number, flags: number): string | null {
  if (pairs === 0 || !Number.isInteger(pairs)) return ERR_SYNTAX;
  if ((flags & (NX | XX)) === (NX | XX)) return 'ERR XX and NX options at the same time are not compatible';
  const order = flags & (GT | LT);
  if (order === (GT | LT) || (order !== 0 && (flags & NX) !== 0)) {
    return 'ERR GT, LT, and/or NX options at the same time are not compatible';
  }
  if ((flags & INCR) !== 0 && pairs > 1) return 'ERR INCR option supports a single increment-element pair';
  return null;
}

function replyScoreOf(c: CommandContext, set: SortedSetValue | null, i: number): void {
  const position = set === null ? -1 : find(c, set, i);
  if (position < 0) c.reply.nil();
  else replyScore(c.reply, set!.scoreAt(position));
}

function zscore(c: CommandContext): void {
  const set = c.read(1, ZSET);
  if (set !== undefined) replyScoreOf(c, set, 2);
}

function zmscore(c: CommandContext): void {
  const set = c.read(1, ZSET);
  if (set === undefined) return;
  c.reply.array(c.argc - 2);
  for (let i = 2; i < c.argc; i++) replyScoreOf(c, set, i);
}

function zcard(c: CommandContext): void {
  const set = c.read(1, ZSET);
  if (set !== undefined) c.reply.int(set === null ? 0 : set.size);
}

function rank(c: CommandContext, reverse: boolean): void {
  const set = c.read(1, ZSET);
  if (set === undefined) return;
  const position = set === null ? -1 : find(c, set, 2);
  if (position < 0) {
    c.reply.nil();
    return;
  }
  const below = set!.rankAt(position);
  c.reply.int(reverse ? set!.size - 1 - below : below);
}

/** Replies and removes `count` members from one end, which there are. */
function popRange(c: CommandContext, set: SortedSetValue, highest: boolean, count: number, nested: boolean): void {
  c.reply.array(nested ? count : 2 * count);
  for (let i = 0; i < count; i++) {
    set.seek(highest ? set.size - 1 : 0, cursor);
    if (nested) c.reply.array(2);
    replySlice(c.reply, cursor.member);
    replyScore(c.reply, cursor.score);
    set.removeAt(cursor.position);
  }
}

function pop(c: CommandContext, highest: boolean): void {
  if (c.argc > 3) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const count = c.argc === 3 ? atLeast(c, 2, 0, ERR_NOT_POSITIVE) : 1;
  if (Number.isNaN(count)) return;
  const set = c.write(1, ZSET);
  if (set === undefined) return;
  if (set === null || count === 0) {
    c.reply.array(0);
    return;
  }
  const popped = Math.min(count, set.size);
  popRange(c, set, highest, popped, c.argc === 3 && c.reply.resp3);
  c.changed(1, set, popped);
}

function zmpop(c: CommandContext): void {
  const keys = atLeast(c, 1, 1, 'ERR numkeys should be greater than 0');
  if (Number.isNaN(keys)) return;
  const whereAt = keys + 2;
  const highest = whereAt < c.argc && c.is(whereAt, 'max');
  if (whereAt >= c.argc || (!highest && !c.is(whereAt, 'min'))) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const count = countAtEnd(c, whereAt + 1);
  if (Number.isNaN(count)) return;
  for (let i = 2; i < whereAt; i++) {
    const set = c.write(i, ZSET);
    if (set === undefined) return;
    if (set === null) continue;
    const popped = Math.min(count, set.size);
    c.reply.array(2);
    c.reply.bulk(c.input, c.off[i]!, c.len[i]!);
    popRange(c, set, highest, popped, true);
    c.changed(i, set, popped);
    return;
  }
  c.reply.nilArray();
}

function replyAt(c: CommandContext, set: SortedSetValue, position: number, withScores: boolean): void {
  if (withScores && c.reply.resp3) c.reply.array(2);
  set.read(position, member);
  replySlice(c.reply, member);
  if (withScores) replyScore(c.reply, set.scoreAt(position));
}

function zrandmember(c: CommandContext): void {
  if (c.argc === 2) {
    const set = c.read(1, ZSET);
    if (set === undefined) return;
    if (set === null) c.reply.nil();
    else replyAt(c, set, c.randomBelow(set.size), false);
    return;
  }
  const count = randomCount(c, 2);
  if (Number.isNaN(count)) return;
  if (c.argc > 4 || (c.argc === 4 && !c.is(3, 'withscores'))) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const withScores = c.argc === 4;
  if (withScores && !randomCountOfPairs(c, count)) return;
  const set = c.read(1, ZSET);
  if (set === undefined) return;
  if (set === null || count === 0) {
    c.reply.array(0);
    return;
  }
  const { size } = set;
  const replies = count < 0 ? -count : Math.min(count, size);
  c.reply.array(withScores && !c.reply.resp3 ? 2 * replies : replies);
  if (count >= size) {
    // All of them, in order as redis gives them.
    set.seek(0, cursor);
    do replyAt(c, set, cursor.position, withScores);
    while (cursor.forward());
    return;
  }
  if (count > 0) chooseDifferent(c, count, size);
  // A peer whose output is over its limit gets no more of what may be a very long reply.
  for (let i = 0; i < replies && !c.reply.overflowed; i++) {
    replyAt(c, set, count < 0 ? c.randomBelow(size) : chosen.items[i]!, withScores);
  }
}

function memberMatches(c: CommandContext, options: ScanOptions, set: SortedSetValue, position: number): boolean {
  set.read(position, member);
  return scanMatches(c, options, member.bytes, member.at, member.length);
}

function readSet(c: CommandContext): SortedSetValue | null | undefined {
  return c.read(1, ZSET);
}

function zscan(c: CommandContext): void {
  const set = beginScan(c, readSet, memberMatches);
  if (set === null) return;
  const packed = set.encoding() === 'listpack';
  c.reply.array(2 * chosen.length);
  for (let i = 0; i < chosen.length; i++) {
    const position = chosen.items[i]!;
    set.read(position, member);
    replySlice(c.reply, member);
    replyScannedScore(c.reply, set.scoreAt(position), packed);
  }
}

const command = family('sorted-set');
const { WRITE, FAST } = FLAG;
const ADD = WRITE | FLAG.DENYOOM | FAST;
const READ = FLAG.READONLY | FAST;

export const zsetCommands: readonly CommandSpec[] = [
  command('zadd', -4, ADD, ONE_KEY, zadd, 'Adds members to a sorted set, or changes their scores.'),
  command('zincrby', 4, ADD, ONE_KEY, (c) => add(c, 2, INCR), 'Adds to the score of a member of a sorted set.'),
  command('zrem', -3, WRITE | FAST, ONE_KEY, (c) => removeElements(c, ZSET), 'Removes members of a sorted set.'),
  command('zscore', 3, READ, ONE_KEY, zscore, 'Returns the score of a member of a sorted set.'),
  command('zmscore', -3, READ, ONE_KEY, zmscore, 'Returns the scores of members of a sorted set.'),
  command('zcard', 2, READ, ONE_KEY, zcard, 'Returns the number of members of a sorted set.'),
  command('zrank', 3, READ, ONE_KEY, (c) => rank(c, false), 'Returns how many members come before one.'),
  command('zrevrank', 3, READ, ONE_KEY, (c) => rank(c, true), 'Returns how many members come behind one.'),
  command('zpopmin', -2, WRITE | FAST, ONE_KEY, (c) => pop(c, false), 'Removes and returns the lowest members.'),
  command('zpopmax', -2, WRITE | FAST, ONE_KEY, (c) => pop(c, true), 'Removes and returns the highest members.'),
  command(
    'zmpop',
    -4,
    WRITE | FLAG.MOVABLEKEYS,
    NO_KEYS,
    zmpop,
    'Removes and returns members of the first sorted set that is not empty.',
  ),
  command('zrandmember', -2, FLAG.READONLY, ONE_KEY, zrandmember, 'Returns random members of a sorted set.'),
  command('zscan', -3, FLAG.READONLY, ONE_KEY, zscan, 'Walks over the members of a sorted set, step by step.'),
  ...zsetRangeCommands,
  ...zsetCombineCommands,
];
