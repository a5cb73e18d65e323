/**
 * The list commands, the blocking ones excepted.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_INDEX_RANGE, ERR_NO_SUCH_KEY, ERR_SYNTAX, wrongArity } from '../resp/errors.ts';
import { equalBytes, Slice } from '../values/bytes.ts';
import { LIST, ListValue } from '../values/list.ts';
import { ListCursor } from '../values/list-block.ts';
import { atLeast, clampRange, countArgument, countAtEnd, range, replySlice } from './collection.ts';
import { family, NO_KEYS, ONE_KEY, TWO_KEYS } from './declare.ts';

const HEAD = 0;
const TAIL = 1;
const NOWHERE = -1;

const item = new Slice();
const cursor = new ListCursor();

function push(list: ListValue, where: number, from: Uint8Array, at: number, length: number): void {
  if (where === HEAD) list.pushHead(from, at, length);
  else list.pushTail(from, at, length);
}

function pushAll(c: CommandContext, where: number, existing: boolean): void {
  const found = c.write(1, LIST);
  if (found === undefined) return;
  if (found === null && existing) {
    c.reply.int(0);
    return;
  }
  const list = found ?? new ListValue();
  for (let i = 2; i < c.argc; i++) push(list, where, c.input, c.off[i]!, c.len[i]!);
  if (found === null) c.put(1, list);
  else c.changed(1, list, c.argc - 2);
  c.reply.int(list.size);
}

function drop(list: ListValue, where: number): void {
  if (where === HEAD) list.dropHead();
  else list.dropTail();
}

function read(list: ListValue, where: number): void {
  if (where === HEAD) list.readHead(item);
  else list.readTail(item);
}

/** Replies and removes up to `count` items from one end, as an array. Returns how many. */
function popRange(c: CommandContext, list: ListValue, where: number, count: number): number {
  const popped = Math.min(count, list.size);
  c.reply.array(popped);
  for (let i = 0; i < popped; i++) {
    read(list, where);
    replySlice(c.reply, item);
    drop(list, where);
  }
  return popped;
}

function pop(c: CommandContext, where: number, name: string): void {
  if (c.argc > 3) {
    c.reply.error(wrongArity(name));
    return;
  }
  const count = c.argc === 3 ? countArgument(c, 2) : -1;
  if (Number.isNaN(count)) return;
  const list = c.write(1, LIST);
  if (list === undefined) return;
  if (list === null) {
    if (count < 0) c.reply.nil();
    else c.reply.nilArray();
    return;
  }
  if (count < 0) {
    read(list, where);
    replySlice(c.reply, item);
    drop(list, where);
    c.changed(1, list, 1);
  } else if (count === 0) {
    c.reply.array(0);
  } else {
    c.changed(1, list, popRange(c, list, where, count));
  }
}

function llen(c: CommandContext): void {
  const list = c.read(1, LIST);
  if (list !== undefined) c.reply.int(list === null ? 0 : list.size);
}

function lrange(c: CommandContext): void {
  const start = c.intOrError(2);
  if (Number.isNaN(start)) return;
  const stop = c.intOrError(3);
  if (Number.isNaN(stop)) return;
  const list = c.read(1, LIST);
  if (list === undefined) return;
  clampRange(start, stop, list === null ? 0 : list.size);
  const count = range.to - range.from;
  const { reply } = c;
  reply.array(count);
  if (count === 0) return;
  list!.seek(range.from, cursor);
  for (let i = 0; i < count; i++) {
    replySlice(reply, cursor.item);
    cursor.forward();
  }
}

/** Sets the cursor on the item that argument i counts to; false if it is no item. */
function seek(list: ListValue, index: number): boolean {
  if (index < 0) index += list.size;
  if (index < 0 || index >= list.size) return false;
  list.seek(index, cursor);
  return true;
}

function lindex(c: CommandContext): void {
  const list = c.read(1, LIST);
  if (list === undefined) return;
  if (list === null) {
    c.reply.nil();
    return;
  }
  const index = c.intOrError(2);
  if (Number.isNaN(index)) return;
  if (seek(list, index)) replySlice(c.reply, cursor.item);
  else c.reply.nil();
}

function lset(c: CommandContext): void {
  const list = c.write(1, LIST);
  if (list === undefined) return;
  if (list === null) {
    c.reply.error(ERR_NO_SUCH_KEY);
    return;
  }
  const index = c.intOrError(2);
  if (Number.isNaN(index)) return;
  if (!seek(list, index)) {
    c.reply.error(ERR_INDEX_RANGE);
    return;
  }
  list.replace(cursor, c.input, c.off[3]!, c.len[3]!);
  c.changed(1, list, 1);
  c.reply.ok();
}

/** The item under the cursor equals argument i. */
function equals(c: CommandContext, i: number): boolean {
  const { bytes, at, length } = cursor.item;
  return length === c.len[i] && equalBytes(bytes, at, c.input, c.off[i]!, length);
}

function linsert(c: CommandContext): void {
  const behind = c.is(2, 'after');
  if (!behind && !c.is(2, 'before')) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const list = c.write(1, LIST);
  if (list === undefined) return;
  if (list === null) {
    c.reply.int(0);
    return;
  }
  list.seek(0, cursor);
  do {
    if (!equals(c, 3)) continue;
    list.insert(cursor, behind, c.input, c.off[4]!, c.len[4]!);
    c.changed(1, list, 1);
    c.reply.int(list.size);
    return;
  } while (cursor.forward());
  c.reply.int(-1);
}

function lrem(c: CommandContext): void {
  const count = c.intOrError(2);
  if (Number.isNaN(count)) return;
  const list = c.write(1, LIST);
  if (list === undefined) return;
  const removed = list === null ? 0 : list.removeEqual(count, c.input, c.off[3]!, c.len[3]!);
  if (removed > 0) c.changed(1, list!, removed);
  c.reply.int(removed);
}

function ltrim(c: CommandContext): void {
  const start = c.intOrError(2);
  if (Number.isNaN(start)) return;
  const stop = c.intOrError(3);
  if (Number.isNaN(stop)) return;
  const list = c.write(1, LIST);
  if (list === undefined) return;
  if (list !== null) {
    const { size } = list;
    clampRange(start, stop, size);
    if (range.from === range.to) list.trim(size, 0);
    else list.trim(range.from, size - range.to);
    c.changed(1, list, size - list.size);
  }
  c.reply.ok();
}

const ERR_RANK =
  "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... " +
  'or use negative to start from the end of the list';

function lpos(c: CommandContext): void {
  let rank = 1;
  let count = -1;
  let most = 0;
  for (let i = 3; i < c.argc; i += 2) {
    const more = i + 1 < c.argc;
    if (more && c.is(i, 'rank')) {
      rank = c.intOrError(i + 1);
      if (Number.isNaN(rank)) return;
      if (rank === 0) {
        c.reply.error(ERR_RANK);
        return;
      }
    } else if (more && c.is(i, 'count')) {
      count = atLeast(c, i + 1, 0, "ERR COUNT can't be negative");
      if (Number.isNaN(count)) return;
    } else if (more && c.is(i, 'maxlen')) {
      most = atLeast(c, i + 1, 0, "ERR MAXLEN can't be negative");
      if (Number.isNaN(most)) return;
    } else {
      c.reply.error(ERR_SYNTAX);
      return;
    }
  }
  const list = c.read(1, LIST);
  if (list === undefined) return;
  const wanted = count < 0 ? 1 : count === 0 ? Number.POSITIVE_INFINITY : count;
  const matches = list === null ? [] : positionsOf(c, list, rank, wanted, most);
  if (count < 0) {
    if (matches.length === 0) c.reply.nil();
    else c.reply.int(matches[0]!);
    return;
  }
  c.reply.array(matches.length);
  for (const index of matches) c.reply.int(index);
}

/** Indexes of items equal to argument 2, from the |rank|-th match on, looking at `most` items at most (0: all). */
function positionsOf(c: CommandContext, list: ListValue, rank: number, wanted: number, most: number): number[] {
  const matches: number[] = [];
  const { size } = list;
  const backwards = rank < 0;
  const looks = most === 0 ? size : Math.min(most, size);
  let skip = Math.abs(rank) - 1;
  list.seek(backwards ? size - 1 : 0, cursor);
  for (let i = 0; i < looks && matches.length < wanted; i++) {
    if (equals(c, 2) && skip-- <= 0) matches.push(backwards ? size - 1 - i : i);
    if (backwards) cursor.backward();
    else cursor.forward();
  }
  return matches;
}

/** LEFT or RIGHT in argument i; NOWHERE if it is neither, and the error has been replied. */
function endArgument(c: CommandContext, i: number): number {
  if (c.is(i, 'left')) return HEAD;
  if (c.is(i, 'right')) return TAIL;
  c.reply.error(ERR_SYNTAX);
  return NOWHERE;
}

function move(c: CommandContext, from: number, to: number): void {
  const source = c.write(1, LIST);
  if (source === undefined) return;
  if (source === null) {
    c.reply.nil();
    return;
  }
  const target = c.write(2, LIST);
  if (target === undefined) return;
  read(source, from);
  if (target === source) {
    // Pushing may move the bytes that the item still points at.
    const bytes = item.bytes.slice(item.at, item.at + item.length);
    drop(source, from);
    push(source, to, bytes, 0, bytes.length);
    c.changed(1, source, 1);
    c.reply.bytesBulk(bytes);
    return;
  }
  const list = target ?? new ListValue();
  push(list, to, item.bytes, item.at, item.length);
  if (target === null) c.put(2, list);
  else c.changed(2, list, 0);
  replySlice(c.reply, item);
  drop(source, from);
  c.changed(1, source, 1);
}

function lmove(c: CommandContext): void {
  const from = endArgument(c, 3);
  if (from === NOWHERE) return;
  const to = endArgument(c, 4);
  if (to !== NOWHERE) move(c, from, to);
}

function lmpop(c: CommandContext): void {
  const keys = atLeast(c, 1, 1, 'ERR numkeys should be greater than 0');
  if (Number.isNaN(keys)) return;
  const whereAt = keys + 2;
  if (whereAt >= c.argc) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const where = endArgument(c, whereAt);
  if (where === NOWHERE) return;
  const count = countAtEnd(c, whereAt + 1);
  if (Number.isNaN(count)) return;
  for (let i = 2; i < whereAt; i++) {
    const list = c.write(i, LIST);
    if (list === undefined) return;
    if (list === null) continue;
    c.reply.array(2);
    c.reply.bulk(c.input, c.off[i]!, c.len[i]!);
    c.changed(i, list, popRange(c, list, where, count));
    return;
  }
  c.reply.nilArray();
}

const command = family('list');
const WRITE = FLAG.WRITE | FLAG.DENYOOM;
const PUSH = WRITE | FLAG.FAST;
const POP = FLAG.WRITE | FLAG.FAST;
const READ = FLAG.READONLY;

export const listCommands: readonly CommandSpec[] = [
  command('lpush', -3, PUSH, ONE_KEY, (c) => pushAll(c, HEAD, false), 'Puts elements at the head of a list.'),
  command('rpush', -3, PUSH, ONE_KEY, (c) => pushAll(c, TAIL, false), 'Puts elements at the tail of a list.'),
  command(
    'lpushx',
    -3,
    PUSH,
    ONE_KEY,
    (c) => pushAll(c, HEAD, true),
    'Puts elements at the head of a list that exists.',
  ),
  command(
    'rpushx',
    -3,
    PUSH,
    ONE_KEY,
    (c) => pushAll(c, TAIL, true),
    'Puts elements at the tail of a list that exists.',
  ),
  command('lpop', -2, POP, ONE_KEY, (c) => pop(c, HEAD, 'lpop'), 'Removes and returns elements at the head of a list.'),
  command('rpop', -2, POP, ONE_KEY, (c) => pop(c, TAIL, 'rpop'), 'Removes and returns elements at the tail of a list.'),
  command('llen', 2, READ | FLAG.FAST, ONE_KEY, llen, 'Returns the length of a list.'),
  command('lrange', 4, READ, ONE_KEY, lrange, 'Returns a range of elements of a list.'),
  command('lindex', 3, READ, ONE_KEY, lindex, 'Returns an element of a list by its index.'),
  command('lset', 4, WRITE, ONE_KEY, lset, 'Replaces an element of a list by its index.'),
  command('linsert', 5, WRITE, ONE_KEY, linsert, 'Puts an element before or behind another of a list.'),
  command('lrem', 4, FLAG.WRITE, ONE_KEY, lrem, 'Removes equal elements of a list.'),
  command('ltrim', 4, FLAG.WRITE, ONE_KEY, ltrim, 'Removes elements from both ends of a list.'),
  command('lpos', -3, READ, ONE_KEY, lpos, 'Returns the indexes of equal elements of a list.'),
  command('lmove', 5, WRITE, TWO_KEYS, lmove, 'Moves an element from one end of a list to one end of another.'),
  command(
    'rpoplpush',
    3,
    WRITE,
    TWO_KEYS,
    (c) => move(c, TAIL, HEAD),
    'Moves the last element of a list to the head of another.',
  ),
  command(
    'lmpop',
    -4,
    FLAG.WRITE | FLAG.MOVABLEKEYS,
    NO_KEYS,
    lmpop,
    'Removes and returns elements of the first list that is not empty.',
  ),
];
