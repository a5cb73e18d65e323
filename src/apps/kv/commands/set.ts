/**
 * The set commands.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { Slice } from '../values/bytes.ts';
import { SET, SetValue } from '../values/set.ts';
import {
  atLeast,
  beginScan,
  chooseDifferent,
  chosen,
  countArgument,
  randomCount,
  removeElements,
  replySlice,
} from './collection.ts';
import { ALL_KEYS, family, NO_KEYS, ONE_KEY, TWO_KEYS } from './declare.ts';
import { type ScanOptions, scanMatches } from './scan-options.ts';

const member = new Slice();

/** Position of the member that argument i names, -1 if the set has none. */
function find(c: CommandContext, set: SetValue, i: number): number {
  return set.find(c.input, c.off[i]!, c.len[i]!);
}

function replyAt(c: CommandContext, set: SetValue, position: number): void {
  set.read(position, member);
  replySlice(c.reply, member);
}

function replyAll(c: CommandContext, set: SetValue): void {
  for (let position = set.first(); position >= 0; position = set.next(position)) replyAt(c, set, position);
}

function sadd(c: CommandContext): void {
  const found = c.write(1, SET);
  if (found === undefined) return;
  const set = found ?? new SetValue(c.db.hasher);
  let added = 0;
  for (let i = 2; i < c.argc; i++) if (set.add(c.input, c.off[i]!, c.len[i]!)) added++;
  if (found === null) c.put(1, set);
  else if (added > 0) c.changed(1, set, added);
  c.reply.int(added);
}

function smembers(c: CommandContext): void {
  const set = c.read(1, SET);
  if (set === undefined) return;
  c.reply.set(set === null ? 0 : set.size);
  if (set !== null) replyAll(c, set);
}

function sismember(c: CommandContext): void {
  const set = c.read(1, SET);
  if (set !== undefined) c.reply.int(set !== null && find(c, set, 2) >= 0 ? 1 : 0);
}

function smismember(c: CommandContext): void {
  const set = c.read(1, SET);
  if (set === undefined) return;
  c.reply.array(c.argc - 2);
  for (let i = 2; i < c.argc; i++) c.reply.int(set !== null && find(c, set, i) >= 0 ? 1 : 0);
}

function scard(c: CommandContext): void {
  const set = c.read(1, SET);
  if (set !== undefined) c.reply.int(set === null ? 0 : set.size);
}

function popRandom(c: CommandContext, set: SetValue): void {
  const position = set.nth(c.randomBelow(set.size));
  replyAt(c, set, position);
  set.removeAt(position);
}

function spop(c: CommandContext): void {
  if (c.argc > 3) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const count = c.argc === 3 ? countArgument(c, 2) : -1;
  if (Number.isNaN(count)) return;
  const set = c.write(1, SET);
  if (set === undefined) return;
  if (set === null || count === 0) {
    if (count < 0) c.reply.nil();
    else c.reply.set(0);
    return;
  }
  if (count < 0) {
    popRandom(c, set);
    c.changed(1, set, 1);
    return;
  }
  const { size } = set;
  if (count >= size) {
    c.reply.set(size);
    replyAll(c, set);
    c.remove(1);
    return;
  }
  c.reply.set(count);
  for (let i = 0; i < count; i++) popRandom(c, set);
  c.changed(1, set, count);
}

function srandmember(c: CommandContext): void {
  if (c.argc > 3) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const count = c.argc === 3 ? randomCount(c, 2) : 0;
  if (Number.isNaN(count)) return;
  const set = c.read(1, SET);
  if (set === undefined) return;
  if (c.argc === 2) {
    if (set === null) c.reply.nil();
    else replyAt(c, set, set.nth(c.randomBelow(set.size)));
    return;
  }
  if (set === null || count === 0) {
    c.reply.array(0);
    return;
  }
  const { size } = set;
  if (count >= size) {
    c.reply.array(size);
    replyAll(c, set);
    return;
  }
  const replies = Math.abs(count);
  c.reply.array(replies);
  if (count > 0) chooseDifferent(c, count, size);
  // A peer whose output is over its limit gets no more of what may be a very long reply.
  for (let i = 0; i < replies && !c.reply.overflowed; i++) {
    replyAt(c, set, set.nth(count < 0 ? c.randomBelow(size) : chosen.items[i]!));
  }
}

function smove(c: CommandContext): void {
  const source = c.write(1, SET);
  if (source === undefined) return;
  if (source === null) {
    c.reply.int(0);
    return;
  }
  const found = c.write(2, SET);
  if (found === undefined) return;
  const position = find(c, source, 3);
  if (source === found || position < 0) {
    c.reply.int(position < 0 ? 0 : 1);
    return;
  }
  source.removeAt(position);
  c.changed(1, source, 1);
  const target = found ?? new SetValue(c.db.hasher);
  const added = target.add(c.input, c.off[3]!, c.len[3]!);
  if (found === null) c.put(2, target);
  else if (added) c.changed(2, target, 1);
  c.reply.int(1);
}

// --- several sets

/** The sets under keys first..last, null where there is none; undefined if one key holds another type. */
function readSets(c: CommandContext, first: number, last: number): (SetValue | null)[] | undefined {
  const sets: (SetValue | null)[] = [];
  for (let i = first; i <= last; i++) {
    const set = c.read(i, SET);
    if (set === undefined) return undefined;
    sets.push(set);
  }
  return sets;
}

/** Puts the positions in `set` of members that all (or none, as `wanted` says) of `others` have into `chosen`. */
function choose(set: SetValue, others: readonly (SetValue | null)[], wanted: boolean, limit: number): void {
  chosen.clear();
  for (let position = set.first(); position >= 0 && chosen.length < limit; position = set.next(position)) {
    set.read(position, member);
    let keep = true;
    for (let i = 0; i < others.length && keep; i++) {
      const other = others[i];
      keep = wanted === (other != null && other.find(member.bytes, member.at, member.length) >= 0);
    }
    if (keep) chosen.push(position);
  }
}

/** Chooses the intersection in the smallest set, which is returned; null if one is missing, and so nothing is chosen. */
function intersect(sets: readonly (SetValue | null)[], limit: number): SetValue | null {
  chosen.clear();
  let smallest: SetValue | null = null;
  for (const set of sets) {
    if (set === null) return null;
    if (smallest === null || set.size < smallest.size) smallest = set;
  }
  const others = sets.filter((set) => set !== smallest);
  choose(smallest!, others, true, limit);
  return smallest;
}

/** Chooses what the first set has and no other; returns the first. */
function subtract(sets: readonly (SetValue | null)[]): SetValue | null {
  chosen.clear();
  const [first, ...others] = sets;
  if (first != null) choose(first, others, false, Number.POSITIVE_INFINITY);
  return first ?? null;
}

function unite(c: CommandContext, sets: readonly (SetValue | null)[]): SetValue {
  const union = new SetValue(c.db.hasher);
  for (const set of sets) {
    if (set === null) continue;
    for (let position = set.first(); position >= 0; position = set.next(position)) {
      set.read(position, member);
      union.add(member.bytes, member.at, member.length);
    }
  }
  return union;
}

function replyChosen(c: CommandContext, set: SetValue | null): void {
  c.reply.set(chosen.length);
  for (let i = 0; i < chosen.length; i++) replyAt(c, set!, chosen.items[i]!);
}

/** A set of the chosen members of another. */
function copyChosen(c: CommandContext, from: SetValue | null): SetValue {
  const copy = new SetValue(c.db.hasher);
  for (let i = 0; i < chosen.length; i++) {
    from!.read(chosen.items[i]!, member);
    copy.add(member.bytes, member.at, member.length);
  }
  return copy;
}

/** Stores a result under key 1, or removes the key if the result is empty. */
function store(c: CommandContext, set: SetValue): void {
  const { size } = set;
  if (size === 0) c.remove(1);
  else c.put(1, set);
  c.reply.int(size);
}

function sinter(c: CommandContext): void {
  const sets = readSets(c, 1, c.argc - 1);
  if (sets !== undefined) replyChosen(c, intersect(sets, Number.POSITIVE_INFINITY));
}

function sinterstore(c: CommandContext): void {
  const sets = readSets(c, 2, c.argc - 1);
  if (sets !== undefined) store(c, copyChosen(c, intersect(sets, Number.POSITIVE_INFINITY)));
}

function sintercard(c: CommandContext): void {
  const keys = atLeast(c, 1, 1, 'ERR numkeys should be greater than 0');
  if (Number.isNaN(keys)) return;
  if (keys > c.argc - 2) {
    c.reply.error("ERR Number of keys can't be greater than number of args");
    return;
  }
  let limit = 0;
  for (let i = keys + 2; i < c.argc; i += 2) {
    if (i + 1 >= c.argc || !c.is(i, 'limit')) {
      c.reply.error(ERR_SYNTAX);
      return;
    }
    limit = atLeast(c, i + 1, 0, "ERR LIMIT can't be negative");
    if (Number.isNaN(limit)) return;
  }
  const sets = readSets(c, 2, keys + 1);
  if (sets === undefined) return;
  intersect(sets, limit === 0 ? Number.POSITIVE_INFINITY : limit);
  c.reply.int(chosen.length);
}

function sunion(c: CommandContext): void {
  const sets = readSets(c, 1, c.argc - 1);
  if (sets === undefined) return;
  const union = unite(c, sets);
  c.reply.set(union.size);
  replyAll(c, union);
}

function sunionstore(c: CommandContext): void {
  const sets = readSets(c, 2, c.argc - 1);
  if (sets !== undefined) store(c, unite(c, sets));
}

function sdiff(c: CommandContext): void {
  const sets = readSets(c, 1, c.argc - 1);
  if (sets !== undefined) replyChosen(c, subtract(sets));
}

function sdiffstore(c: CommandContext): void {
  const sets = readSets(c, 2, c.argc - 1);
  if (sets !== undefined) store(c, copyChosen(c, subtract(sets)));
}

function memberMatches(c: CommandContext, options: ScanOptions, set: SetValue, position: number): boolean {
  set.read(position, member);
  return scanMatches(c, options, member.bytes, member.at, member.length);
}

function readSet(c: CommandContext): SetValue | null | undefined {
  return c.read(1, SET);
}

function sscan(c: CommandContext): void {
  const set = beginScan(c, readSet, memberMatches);
  if (set === null) return;
  c.reply.array(chosen.length);
  for (let i = 0; i < chosen.length; i++) replyAt(c, set, chosen.items[i]!);
}

const command = family('set');
const { WRITE, DENYOOM, FAST, MOVABLEKEYS } = FLAG;
const READ = FLAG.READONLY;
const STORE = WRITE | DENYOOM;

export const setCommands: readonly CommandSpec[] = [
  command('sadd', -3, STORE | FAST, ONE_KEY, sadd, 'Adds members to a set.'),
  command('srem', -3, WRITE | FAST, ONE_KEY, (c) => removeElements(c, SET), 'Removes members of a set.'),
  command('smembers', 2, READ, ONE_KEY, smembers, 'Returns all members of a set.'),
  command('sismember', 3, READ | FAST, ONE_KEY, sismember, 'Tells whether a set has a member.'),
  command('smismember', -3, READ | FAST, ONE_KEY, smismember, 'Tells which of the given members a set has.'),
  command('scard', 2, READ | FAST, ONE_KEY, scard, 'Returns the number of members of a set.'),
  command('spop', -2, WRITE | FAST, ONE_KEY, spop, 'Removes and returns random members of a set.'),
  command('srandmember', -2, READ, ONE_KEY, srandmember, 'Returns random members of a set.'),
  command('smove', 4, WRITE | FAST, TWO_KEYS, smove, 'Moves a member from one set to another.'),
  command('sinter', -2, READ, ALL_KEYS, sinter, 'Returns the intersection of sets.'),
  command('sinterstore', -3, STORE, ALL_KEYS, sinterstore, 'Stores the intersection of sets.'),
  command('sintercard', -3, READ | MOVABLEKEYS, NO_KEYS, sintercard, 'Counts the members of an intersection of sets.'),
  command('sunion', -2, READ, ALL_KEYS, sunion, 'Returns the union of sets.'),
  command('sunionstore', -3, STORE, ALL_KEYS, sunionstore, 'Stores the union of sets.'),
  command('sdiff', -2, READ, ALL_KEYS, sdiff, 'Returns the members of a set that no other set has.'),
  command('sdiffstore', -3, STORE, ALL_KEYS, sdiffstore, 'Stores the members of a set that no other set has.'),
  command('sscan', -3, READ, ONE_KEY, sscan, 'Walks over the members of a set, step by step.'),
];
