/**
 * Counters: INCR and its relatives on strings that hold integers or decimals.
 * Pure; integers within 2^53 take a path without bigint, the others are exact to 64 bits.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_NOT_FLOAT, ERR_NOT_INTEGER, ERR_OVERFLOW } from '../resp/errors.ts';
import { addLongDoubleTexts, TEXT_MAX } from '../resp/long-double.ts';
import { isInt64, lastInt64, parseBigInt64, parseInt64, writeInt } from '../resp/number.ts';
import { family, ONE_KEY } from './declare.ts';
import { writeString } from './string.ts';

const digits = new Uint8Array(32);

/** Store the first `length` bytes of `digits` under key 1, its expiry kept. */
function putDigits(c: CommandContext, length: number): void {
  c.db.putString(c.input, c.off[1]!, c.len[1]!, digits, 0, length, true);
  c.signal(1);
}

function putText(c: CommandContext, text: string): void {
  for (let i = 0; i < text.length; i++) digits[i] = text.charCodeAt(i);
  putDigits(c, text.length);
}

/** Add `delta`, an integer within 2^53, to the counter under key 1. */
function increment(c: CommandContext, delta: number): void {
  const entry = writeString(c, 1);
  if (entry < 0) return;
  let value = 0;
  if (entry !== 0) {
    const { dict } = c.db;
    value = parseInt64(dict.chunk(entry), dict.valueStart(entry), dict.valueLength(entry));
    if (Number.isNaN(value)) {
      c.reply.error(ERR_NOT_INTEGER);
      return;
    }
    if (value !== 0 && lastInt64.rounded) {
      incrementExactly(c, entry, BigInt(delta));
      return;
    }
  }
  const sum = value + delta;
  if (!Number.isSafeInteger(sum)) {
    incrementExactly(c, entry, BigInt(delta));
    return;
  }
  if (entry === 0) putDigits(c, writeInt(digits, 0, sum));
  else {
    c.db.overwriteInt(entry, sum);
    c.signal(1);
  }
  c.reply.int(sum);
}

/** As `increment`, where 2^53 does not hold the numbers; `entry` is 0 or holds a 64-bit integer. */
function incrementExactly(c: CommandContext, entry: number, delta: bigint): void {
  const { dict } = c.db;
  const value = entry === 0 ? 0n : parseBigInt64(dict.chunk(entry), dict.valueStart(entry), dict.valueLength(entry))!;
  const sum = value + delta;
  if (!isInt64(sum)) {
    c.reply.error(ERR_OVERFLOW);
    return;
  }
  putText(c, sum.toString());
  c.reply.bigint(sum);
}

function incrementBy(c: CommandContext, sign: 1 | -1): void {
  const amount = c.intOrError(2);
  if (Number.isNaN(amount)) return;
  if (!lastInt64.rounded) {
    // `0 - x` and not `-x`: minus zero is no integer
    increment(c, sign === 1 ? amount : 0 - amount);
    return;
  }
  const exact = parseBigInt64(c.input, c.off[2]!, c.len[2]!)!;
  if (sign === -1 && !isInt64(-exact)) {
    c.reply.error('ERR decrement would overflow');
    return;
  }
  const entry = writeString(c, 1);
  if (entry < 0) return;
  const { dict } = c.db;
  if (entry !== 0 && parseBigInt64(dict.chunk(entry), dict.valueStart(entry), dict.valueLength(entry)) === null) {
    c.reply.error(ERR_NOT_INTEGER);
    return;
  }
  incrementExactly(c, entry, sign === 1 ? exact : -exact);
}

function incrbyfloat(c: CommandContext): void {
  const entry = writeString(c, 1);
  if (entry < 0) return;
  const { dict } = c.db;
  let old = '0';
  if (entry !== 0) {
    if (dict.valueLength(entry) >= TEXT_MAX) {
      c.reply.error(ERR_NOT_FLOAT);
      return;
    }
    const start = dict.valueStart(entry);
    old = Buffer.from(dict.chunk(entry).buffer, start, dict.valueLength(entry)).toString('latin1');
  }
  const sum = addLongDoubleTexts(old, c.text(2));
  if ('error' in sum) {
    c.reply.error(sum.error === 'range' ? 'ERR increment would produce NaN or Infinity' : ERR_NOT_FLOAT);
    return;
  }
  const bytes = Buffer.from(sum.text, 'latin1');
  const next = c.db.putString(c.input, c.off[1]!, c.len[1]!, bytes, 0, bytes.length, true);
  c.db.setText(next);
  c.signal(1);
  c.reply.bytesBulk(bytes);
}

const command = family('string');
const WRITE = FLAG.WRITE | FLAG.DENYOOM | FLAG.FAST;

export const counterCommands: readonly CommandSpec[] = [
  command('incr', 2, WRITE, ONE_KEY, (c) => increment(c, 1), 'Increments the integer value of a key by one.'),
  command('decr', 2, WRITE, ONE_KEY, (c) => increment(c, -1), 'Decrements the integer value of a key by one.'),
  command('incrby', 3, WRITE, ONE_KEY, (c) => incrementBy(c, 1), 'Increments the integer value of a key by a number.'),
  command(
    'decrby',
    3,
    WRITE,
    ONE_KEY,
    (c) => incrementBy(c, -1),
    'Decrements a number from the integer value of a key.',
  ),
  command('incrbyfloat', 3, WRITE, ONE_KEY, incrbyfloat, 'Increments the floating point value of a key by a number.'),
];
