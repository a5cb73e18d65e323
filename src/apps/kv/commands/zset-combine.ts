/**
 * Unions, intersections and differences of sorted sets and sets.
 * Pure: handlers over the command context; a set counts as a sorted set in which every score is 1.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX, ERR_WRONG_TYPE } from '../resp/errors.ts';
import { type StoredValue, TYPE_STRING } from '../store/value.ts';
import { Slice } from '../values/bytes.ts';
import { SetValue } from '../values/set.ts';
import { SortedSetCursor, SortedSetValue } from '../values/sorted-set.ts';
import { atLeast, replySlice } from './collection.ts';
import { family, type Keys, NO_KEYS, ONE_KEY } from './declare.ts';
import { replyScore } from './score.ts';

const UNION = 0;
const INTER = 1;
const DIFF = 2;

const SUM = 0;
const MIN = 1;
const MAX = 2;

/** What a command does with its result. */
const REPLY = 0;
const STORE = 1;
const COUNT = 2;

/** One input of a combination, walked from its first member to its last. */
class Source {
  readonly member = new Slice();
  score = 1;
  weight = 1;
  readonly value: SetValue | SortedSetValue;
  readonly #cursor = new SortedSetCursor();
  #position = -1;

  constructor(value: SetValue | SortedSetValue) {
    this.value = value;
  }

  get size(): number {
    return this.value.size;
  }

  /** Goes to the first member; false if there is none. */
  begin(): boolean {
    if (this.value.size === 0) return false;
    if (this.value instanceof SetValue) {
      this.#position = this.value.first();
      this.value.read(this.#position, this.member);
    } else {
      this.value.seek(0, this.#cursor);
      this.#take();
    }
    return true;
  }

  /** Goes to the next member; false past the end. */
  next(): boolean {
    if (this.value instanceof SetValue) {
      this.#position = this.value.next(this.#position);
      if (this.#position < 0) return false;
      this.value.read(this.#position, this.member);
      return true;
    }
    if (!this.#cursor.forward()) return false;
    this.#take();
    return true;
  }

  /** The score of a member, NaN if it is not here. */
  scoreOf(member: Slice): number {
    const position = this.value.find(member.bytes, member.at, member.length);
    if (position < 0) return Number.NaN;
    return this.value instanceof SetValue ? 1 : this.value.scoreAt(position);
  }

  #take(): void {
    const { member } = this.#cursor;
    this.member.bytes = member.bytes;
    this.member.at = member.at;
    this.member.length = member.length;
    this.score = this.#cursor.score;
  }
}

/** Infinity minus infinity and zero times infinity count as 0. */
function orZero(score: number): number {
  return Number.isNaN(score) ? 0 : score;
}

function aggregate(how: number, score: number, other: number): number {
  if (how === SUM) return orZero(score + other);
  // Not Math.min and Math.max: here a NaN leaves the score as it is.
  const better = how === MIN ? other < score : other > score;
  return better ? other : score;
}

function unite(sources: readonly Source[], how: number, result: SortedSetValue): void {
  for (const source of sources) {
    if (!source.begin()) continue;
    do {
      const { bytes, at, length } = source.member;
      const score = orZero(source.weight * source.score);
      const position = result.find(bytes, at, length);
      if (position < 0) result.add(score, bytes, at, length);
      else result.update(position, aggregate(how, result.scoreAt(position), score));
    } while (source.next());
  }
}

/** Intersects; without a result it only counts, up to `limit` (0: all). `sources` begin with the smallest. */
function intersect(
  sources: readonly (Source | null)[],
  how: number,
  result: SortedSetValue | null,
  limit: number,
): number {
  const first = sources[0] ?? null;
  let found = 0;
  if (first === null || sources.includes(null) || !first.begin()) return 0;
  do {
    let score = orZero(first.weight * first.score);
    let everywhere = true;
    for (let i = 1; i < sources.length && everywhere; i++) {
      const source = sources[i]!;
      const other = source.value === first.value ? first.score : source.scoreOf(first.member);
      if (Number.isNaN(other)) everywhere = false;
      else score = aggregate(how, score, other * source.weight);
    }
    if (!everywhere) continue;
    found++;
    if (result !== null) result.add(score, first.member.bytes, first.member.at, first.member.length);
    else if (found === limit) break;
  } while (first.next());
  return found;
}

function subtract(sources: readonly (Source | null)[], result: SortedSetValue): void {
  const first = sources[0] ?? null;
  if (first === null || !first.begin()) return;
  do {
    let elsewhere = false;
    for (let i = 1; i < sources.length && !elsewhere; i++) {
      const source = sources[i];
      elsewhere = source != null && !Number.isNaN(source.scoreOf(first.member));
    }
    if (!elsewhere) result.add(first.score, first.member.bytes, first.member.at, first.member.length);
  } while (first.next());
}

/** The inputs under `keys` keys from argument `first` on; null if one holds another type, and the error has been replied. */
function readSources(c: CommandContext, first: number, keys: number): (Source | null)[] | null {
  const sources: (Source | null)[] = [];
  for (let i = first; i < first + keys; i++) {
    const value: StoredValue | null = c.objectAt(i);
    if (value instanceof SortedSetValue || value instanceof SetValue) {
      sources.push(new Source(value));
    } else if (value === null && c.typeAt(i) !== TYPE_STRING) {
      sources.push(null);
    } else {
      c.reply.error(ERR_WRONG_TYPE);
      return null;
    }
  }
  return sources;
}

/** The options of a combination. */
interface Options {
  how: number;
  withScores: boolean;
  limit: number;
}

/** Reads options from argument `i` on, weights into the sources; null if they are wrong, and the error has been replied. */
function parseOptions(
  c: CommandContext,
  i: number,
  operation: number,
  use: number,
  sources: readonly (Source | null)[],
): Options | null {
  const options: Options = { how: SUM, withScores: false, limit: 0 };
  const scored = operation !== DIFF && use !== COUNT;
  while (i < c.argc) {
    const left = c.argc - i;
    if (scored && left >= sources.length + 1 && c.is(i, 'weights')) {
      i++;
      for (const source of sources) {
        const weight = c.doubleOrError(i++, 'ERR weight value is not a float');
        if (Number.isNaN(weight)) return null;
        if (source !== null) source.weight = weight;
      }
    } else if (scored && left >= 2 && c.is(i, 'aggregate') && howOf(c, i + 1) >= 0) {
      options.how = howOf(c, i + 1);
      i += 2;
    } else if (use === REPLY && c.is(i, 'withscores')) {
      options.withScores = true;
      i++;
    } else if (use === COUNT && left >= 2 && c.is(i, 'limit')) {
      options.limit = atLeast(c, i + 1, 0, "ERR LIMIT can't be negative");
      if (Number.isNaN(options.limit)) return null;
      i += 2;
    } else {
      c.reply.error(ERR_SYNTAX);
      return null;
    }
  }
  return options;
}

function howOf(c: CommandContext, i: number): number {
  return c.is(i, 'sum') ? SUM : c.is(i, 'min') ? MIN : c.is(i, 'max') ? MAX : -1;
}

function combine(c: CommandContext, operation: number, use: number, name: string): void {
  const keysAt = use === STORE ? 2 : 1;
  const keys = c.intOrError(keysAt);
  if (Number.isNaN(keys)) return;
  if (keys < 1) {
    c.reply.error(`ERR at least 1 input key is needed for '${name}' command`);
    return;
  }
  if (keys > c.argc - keysAt - 1) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const sources = readSources(c, keysAt + 1, keys);
  if (sources === null) return;
  const options = parseOptions(c, keysAt + 1 + keys, operation, use, sources);
  if (options === null) return;
  // The order decides how sums are rounded.
  if (operation !== DIFF) sources.sort((a, b) => (a === null ? 0 : a.size) - (b === null ? 0 : b.size));
  if (use === COUNT) {
    c.reply.int(intersect(sources, SUM, null, options.limit));
    return;
  }
  const result = new SortedSetValue(c.db.hasher, false);
  if (operation === UNION) {
    unite(
      sources.filter((source) => source !== null),
      options.how,
      result,
    );
  } else if (operation === INTER) {
    intersect(sources, options.how, result, 0);
  } else {
    subtract(sources, result);
  }
  if (use === STORE) {
    const { size } = result;
    result.settle();
    if (size === 0) c.remove(1);
    else c.put(1, result);
    c.reply.int(size);
  } else {
    replyResult(c, result, options.withScores);
  }
}

function replyResult(c: CommandContext, result: SortedSetValue, withScores: boolean): void {
  const { reply } = c;
  const nested = withScores && reply.resp3;
  reply.array(withScores && !nested ? 2 * result.size : result.size);
  if (result.size === 0) return;
  const cursor = new SortedSetCursor();
  result.seek(0, cursor);
  do {
    if (nested) reply.array(2);
    replySlice(reply, cursor.member);
    if (withScores) replyScore(reply, cursor.score);
  } while (cursor.forward());
}

const family_ = family('sorted-set');
const READ = FLAG.READONLY | FLAG.MOVABLEKEYS;
const WRITE = FLAG.WRITE | FLAG.DENYOOM | FLAG.MOVABLEKEYS;

function command(name: string, operation: number, use: number, summary: string): CommandSpec {
  const keys: Keys = use === STORE ? ONE_KEY : NO_KEYS;
  const run = (c: CommandContext) => combine(c, operation, use, name);
  return family_(name, use === STORE ? -4 : -3, use === STORE ? WRITE : READ, keys, run, summary);
}

export const zsetCombineCommands: readonly CommandSpec[] = [
  command('zunion', UNION, REPLY, 'Returns the union of sorted sets.'),
  command('zinter', INTER, REPLY, 'Returns the intersection of sorted sets.'),
  command('zdiff', DIFF, REPLY, 'Returns the members of a sorted set that no other has.'),
  command('zunionstore', UNION, STORE, 'Stores the union of sorted sets.'),
  command('zinterstore', INTER, STORE, 'Stores the intersection of sorted sets.'),
  command('zdiffstore', DIFF, STORE, 'Stores the members of a sorted set that no other has.'),
  command('zintercard', INTER, COUNT, 'Counts the members of an intersection of sorted sets.'),
];
