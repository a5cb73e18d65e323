/**
 * The hash commands.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_NOT_FLOAT, ERR_OVERFLOW, ERR_SYNTAX, wrongArity } from '../resp/errors.ts';
import { addLongDoubleTexts, parseLongDouble } from '../resp/long-double.ts';
import { isInt64, lastInt64, parseBigInt64, parseInt64, writeInt } from '../resp/number.ts';
import { Slice } from '../values/bytes.ts';
import { HASH, HashValue } from '../values/hash.ts';
import {
  beginScan,
  chooseDifferent,
  chosen,
  randomCount,
  randomCountOfPairs,
  removeElements,
  replySlice,
} from './collection.ts';
import { family, ONE_KEY } from './declare.ts';
import { type ScanOptions, scanMatches } from './scan-options.ts';

const FIELDS = 1;
const VALUES = 2;

/** The longest text that redis takes for a long double. */
const LONG_DOUBLE_TEXT = 5119;

const field = new Slice();
const value = new Slice();
/** Numbers on their way into a hash. */
const digits = new Uint8Array(32);

/** Position of the field that argument i names, -1 if the hash has none. */
function find(c: CommandContext, hash: HashValue, i: number): number {
  return hash.find(c.input, c.off[i]!, c.len[i]!);
}

function setFields(c: CommandContext): number {
  const found = c.write(1, HASH);
  if (found === undefined) return -1;
  const hash = found ?? new HashValue(c.db.hasher);
  let added = 0;
  for (let i = 2; i < c.argc; i += 2) {
    if (hash.set(c.input, c.off[i]!, c.len[i]!, c.input, c.off[i + 1]!, c.len[i + 1]!)) added++;
  }
  if (found === null) c.put(1, hash);
  else c.changed(1, hash, (c.argc - 2) / 2);
  return added;
}

function hset(c: CommandContext): void {
  if (c.argc % 2 === 1) {
    c.reply.error(wrongArity('hset'));
    return;
  }
  const added = setFields(c);
  if (added >= 0) c.reply.int(added);
}

function hmset(c: CommandContext): void {
  if (c.argc % 2 === 1) {
    c.reply.error(wrongArity('hmset'));
    return;
  }
  if (setFields(c) >= 0) c.reply.ok();
}

function hsetnx(c: CommandContext): void {
  const hash = c.write(1, HASH);
  if (hash === undefined) return;
  if (hash !== null && find(c, hash, 2) >= 0) c.reply.int(0);
  else if (setFields(c) >= 0) c.reply.int(1);
}

function replyValue(c: CommandContext, hash: HashValue | null, i: number): void {
  const position = hash === null ? -1 : find(c, hash, i);
  if (position < 0) {
    c.reply.nil();
    return;
  }
  hash!.readValue(position, value);
  replySlice(c.reply, value);
}

function hget(c: CommandContext): void {
  const hash = c.read(1, HASH);
  if (hash !== undefined) replyValue(c, hash, 2);
}

function hmget(c: CommandContext): void {
  const hash = c.read(1, HASH);
  if (hash === undefined) return;
  c.reply.array(c.argc - 2);
  for (let i = 2; i < c.argc; i++) replyValue(c, hash, i);
}

function replyAll(c: CommandContext, what: number): void {
  const hash = c.read(1, HASH);
  if (hash === undefined) return;
  const size = hash === null ? 0 : hash.size;
  if (what === FIELDS + VALUES) c.reply.map(size);
  else c.reply.array(size);
  if (hash === null) return;
  for (let position = hash.first(); position >= 0; position = hash.next(position)) replyAt(c, hash, position, what);
}

function replyAt(c: CommandContext, hash: HashValue, position: number, what: number): void {
  if ((what & FIELDS) !== 0) {
    hash.readField(position, field);
    replySlice(c.reply, field);
  }
  if ((what & VALUES) !== 0) {
    hash.readValue(position, value);
    replySlice(c.reply, value);
  }
}

function hlen(c: CommandContext): void {
  const hash = c.read(1, HASH);
  if (hash !== undefined) c.reply.int(hash === null ? 0 : hash.size);
}

function hstrlen(c: CommandContext): void {
  const hash = c.read(1, HASH);
  if (hash === undefined) return;
  const position = hash === null ? -1 : find(c, hash, 2);
  if (position >= 0) hash!.readValue(position, value);
  c.reply.int(position < 0 ? 0 : value.length);
}

function hexists(c: CommandContext): void {
  const hash = c.read(1, HASH);
  if (hash !== undefined) c.reply.int(hash !== null && find(c, hash, 2) >= 0 ? 1 : 0);
}

/** Sets the field that argument 2 names to the first `length` bytes of `digits`. */
function setDigits(c: CommandContext, hash: HashValue | null, length: number): void {
  const stored = hash ?? new HashValue(c.db.hasher);
  stored.set(c.input, c.off[2]!, c.len[2]!, digits, 0, length);
  if (hash === null) c.put(1, stored);
  else c.changed(1, stored, 1);
}

function writeText(text: string): number {
  for (let i = 0; i < text.length; i++) digits[i] = text.charCodeAt(i);
  return text.length;
}

function hincrby(c: CommandContext): void {
  const delta = c.intOrError(3);
  if (Number.isNaN(delta)) return;
  let exact = delta !== 0 && lastInt64.rounded;
  const hash = c.write(1, HASH);
  if (hash === undefined) return;
  const position = hash === null ? -1 : find(c, hash, 2);
  let old = 0;
  if (position >= 0) {
    hash!.readValue(position, value);
    old = parseInt64(value.bytes, value.at, value.length);
    if (Number.isNaN(old)) {
      c.reply.error('ERR hash value is not an integer');
      return;
    }
    exact ||= lastInt64.rounded;
  }
  const sum = old + delta;
  if (!exact && Number.isSafeInteger(sum)) {
    setDigits(c, hash, writeInt(digits, 0, sum));
    c.reply.int(sum);
    return;
  }
  const oldExactly = position < 0 ? 0n : parseBigInt64(value.bytes, value.at, value.length)!;
  const sumExactly = oldExactly + parseBigInt64(c.input, c.off[3]!, c.len[3]!)!;
  if (!isInt64(sumExactly)) {
    c.reply.error(ERR_OVERFLOW);
    return;
  }
  setDigits(c, hash, writeText(sumExactly.toString()));
  c.reply.bigint(sumExactly);
}

function hincrbyfloat(c: CommandContext): void {
  const increment = c.len[3]! <= LONG_DOUBLE_TEXT ? c.text(3) : '';
  if (parseLongDouble(increment) === null) {
    c.reply.error(/^[+-]?inf(inity)?$/i.test(increment) ? 'ERR value is NaN or Infinity' : ERR_NOT_FLOAT);
    return;
  }
  const hash = c.write(1, HASH);
  if (hash === undefined) return;
  const position = hash === null ? -1 : find(c, hash, 2);
  let old = '0';
  if (position >= 0) {
    hash!.readValue(position, value);
    old = '';
    if (value.length <= LONG_DOUBLE_TEXT) {
      for (let i = 0; i < value.length; i++) old += String.fromCharCode(value.bytes[value.at + i]!);
    }
  }
  const sum = addLongDoubleTexts(old, increment);
  if ('error' in sum) {
    c.reply.error(
      sum.error === 'range' ? 'ERR increment would produce NaN or Infinity' : 'ERR hash value is not a float',
    );
    return;
  }
  const bytes = Buffer.from(sum.text, 'latin1');
  const stored = hash ?? new HashValue(c.db.hasher);
  stored.set(c.input, c.off[2]!, c.len[2]!, bytes, 0, bytes.length);
  if (hash === null) c.put(1, stored);
  else c.changed(1, stored, 1);
  c.reply.bytesBulk(bytes);
}

function fieldMatches(c: CommandContext, options: ScanOptions, hash: HashValue, position: number): boolean {
  hash.readField(position, field);
  return scanMatches(c, options, field.bytes, field.at, field.length);
}

function readHash(c: CommandContext): HashValue | null | undefined {
  return c.read(1, HASH);
}

function hscan(c: CommandContext): void {
  const hash = beginScan(c, readHash, fieldMatches);
  if (hash === null) return;
  c.reply.array(2 * chosen.length);
  for (let i = 0; i < chosen.length; i++) replyAt(c, hash, chosen.items[i]!, FIELDS + VALUES);
}

function hrandfield(c: CommandContext): void {
  if (c.argc === 2) {
    const hash = c.read(1, HASH);
    if (hash === undefined) return;
    if (hash === null) c.reply.nil();
    else replyAt(c, hash, hash.nth(c.randomBelow(hash.size)), FIELDS);
    return;
  }
  const count = randomCount(c, 2);
  if (Number.isNaN(count)) return;
  if (c.argc > 4 || (c.argc === 4 && !c.is(3, 'withvalues'))) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const what = c.argc === 4 ? FIELDS + VALUES : FIELDS;
  if (what !== FIELDS && !randomCountOfPairs(c, count)) return;
  const hash = c.read(1, HASH);
  if (hash === undefined) return;
  if (hash === null || count === 0) {
    c.reply.array(0);
    return;
  }
  const { size } = hash;
  const replies = count < 0 ? -count : Math.min(count, size);
  const nested = what !== FIELDS && c.reply.resp3;
  c.reply.array(what === FIELDS || nested ? replies : 2 * replies);
  if (count >= size) {
    for (let position = hash.first(); position >= 0; position = hash.next(position)) {
      if (nested) c.reply.array(2);
      replyAt(c, hash, position, what);
    }
    return;
  }
  if (count > 0) chooseDifferent(c, count, size);
  // A peer whose output is over its limit gets no more of what may be a very long reply.
  for (let i = 0; i < replies && !c.reply.overflowed; i++) {
    if (nested) c.reply.array(2);
    replyAt(c, hash, hash.nth(count < 0 ? c.randomBelow(size) : chosen.items[i]!), what);
  }
}

const command = family('hash');
const WRITE = FLAG.WRITE | FLAG.DENYOOM | FLAG.FAST;
const READ = FLAG.READONLY;
const READ_FAST = FLAG.READONLY | FLAG.FAST;

export const hashCommands: readonly CommandSpec[] = [
  command('hset', -4, WRITE, ONE_KEY, hset, 'Sets fields of a hash to values.'),
  command('hmset', -4, WRITE, ONE_KEY, hmset, 'Sets fields of a hash to values.'),
  command('hsetnx', 4, WRITE, ONE_KEY, hsetnx, 'Sets a field of a hash if it does not exist.'),
  command('hget', 3, READ_FAST, ONE_KEY, hget, 'Returns the value of a field of a hash.'),
  command('hmget', -3, READ_FAST, ONE_KEY, hmget, 'Returns the values of the given fields of a hash.'),
  command('hgetall', 2, READ, ONE_KEY, (c) => replyAll(c, FIELDS + VALUES), 'Returns all fields and values of a hash.'),
  command('hdel', -3, FLAG.WRITE | FLAG.FAST, ONE_KEY, (c) => removeElements(c, HASH), 'Removes fields of a hash.'),
  command('hlen', 2, READ_FAST, ONE_KEY, hlen, 'Returns the number of fields of a hash.'),
  command('hstrlen', 3, READ_FAST, ONE_KEY, hstrlen, 'Returns the length of the value of a field of a hash.'),
  command('hexists', 3, READ_FAST, ONE_KEY, hexists, 'Tells whether a hash has a field.'),
  command('hkeys', 2, READ, ONE_KEY, (c) => replyAll(c, FIELDS), 'Returns all fields of a hash.'),
  command('hvals', 2, READ, ONE_KEY, (c) => replyAll(c, VALUES), 'Returns all values of a hash.'),
  command('hincrby', 4, WRITE, ONE_KEY, hincrby, 'Adds an integer to the value of a field of a hash.'),
  command('hincrbyfloat', 4, WRITE, ONE_KEY, hincrbyfloat, 'Adds a decimal number to the value of a field of a hash.'),
  command('hscan', -3, READ, ONE_KEY, hscan, 'Walks over the fields and values of a hash, step by step.'),
  command('hrandfield', -2, READ, ONE_KEY, hrandfield, 'Returns random fields of a hash.'),
];
