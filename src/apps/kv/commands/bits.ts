/**
 * Bits of strings: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP.
 * Pure: handlers over the command context. Bit 0 is the highest of the first byte.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX, ERR_WRONG_TYPE } from '../resp/errors.ts';
import { TYPE_STRING } from '../store/value.ts';
import { family, ONE_KEY } from './declare.ts';
import { growString, readString, writeString } from './string.ts';

const ERR_OFFSET = 'ERR bit offset is not an integer or out of range';
const ERR_BIT = 'ERR bit is not an integer or out of range';

const ONES = new Uint8Array(256);
for (let i = 1; i < 256; i++) ONES[i] = ONES[i >> 1]! + (i & 1);

/** Bit offset in argument i, -1 with the error replied if it is none. */
function bitOffset(c: CommandContext, i: number): number {
  const offset = c.int(i);
  if (offset >= 0 && Math.floor(offset / 8) < c.engine.config.bulkMax) return offset;
  c.reply.error(ERR_OFFSET);
  return -1;
}

function setbit(c: CommandContext): void {
  const offset = bitOffset(c, 2);
  if (offset < 0) return;
  const bit = c.int(3);
  if (bit !== 0 && bit !== 1) {
    c.reply.error(ERR_BIT);
    return;
  }
  const entry = writeString(c, 1);
  if (entry < 0) return;
  const at = Math.floor(offset / 8);
  const { dict } = c.db;
  const grows = entry === 0 || dict.valueLength(entry) <= at;
  const next = growString(c, 1, entry, at + 1);
  const bytes = dict.chunk(next);
  const start = dict.valueStart(next) + at;
  const shift = 7 - (offset % 8);
  const old = bytes[start]!;
  bytes[start] = (old & ~(1 << shift)) | (bit << shift);
  if (grows || bytes[start] !== old) c.signal(1);
  c.reply.int((old >> shift) & 1);
}

function getbit(c: CommandContext): void {
  const offset = bitOffset(c, 2);
  if (offset < 0) return;
  const entry = readString(c, 1);
  if (entry < 0) return;
  const { dict } = c.db;
  const at = Math.floor(offset / 8);
  if (entry === 0 || at >= dict.valueLength(entry)) c.reply.int(0);
  else c.reply.int((dict.chunk(entry)[dict.valueStart(entry) + at]! >> (7 - (offset % 8))) & 1);
}

function countOnes(bytes: Uint8Array, start: number, end: number): number {
  let ones = 0;
  for (let i = start; i < end; i++) ones += ONES[bytes[i]!]!;
  return ones;
}

/** A range as read by `readStart`, `readEnd` and `readUnit`: `[start, end]` in bytes or bits; empty if `start > end`. */
const range = { start: 0, end: 0, bits: false };

/** Read BYTE or BIT from argument i, if there is one; false, and the error replied, if it is neither. */
function readUnit(c: CommandContext, i: number): boolean {
  range.bits = i < c.argc && c.is(i, 'bit');
  if (range.bits || i >= c.argc || c.is(i, 'byte')) return true;
  c.reply.error(ERR_SYNTAX);
  return false;
}

/** Read the start of a range from argument i; false, and the error replied, if it is none. */
function readStart(c: CommandContext, i: number): boolean {
  range.start = c.intOrError(i);
  return !Number.isNaN(range.start);
}

/** Read the end of a range from argument i, if there is one; false, and the error replied, if it is none. */
function readEnd(c: CommandContext, i: number): boolean {
  range.end = i < c.argc ? c.intOrError(i) : -1;
  return !Number.isNaN(range.end);
}

/** Count from the end where negative, and keep within `length` bytes. */
function clampRange(length: number): void {
  const total = range.bits ? length * 8 : length;
  range.start = Math.max(0, range.start < 0 ? total + range.start : range.start);
  range.end = Math.max(0, range.end < 0 ? total + range.end : range.end);
  range.end = Math.min(range.end, total - 1);
}

function bitcount(c: CommandContext): void {
  const entry = readString(c, 1);
  if (entry < 0) return;
  if (entry === 0) {
    c.reply.int(0);
    return;
  }
  if (c.argc === 3 || c.argc > 5) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const { dict } = c.db;
  const length = dict.valueLength(entry);
  const bytes = dict.chunk(entry);
  const base = dict.valueStart(entry);
  range.start = 0;
  range.end = -1;
  range.bits = false;
  if (c.argc > 2) {
    if (!readStart(c, 2) || !readEnd(c, 3)) return;
    // a range that runs backwards from the end is empty whatever follows it
    if (range.start < 0 && range.end < 0 && range.start > range.end) {
      c.reply.int(0);
      return;
    }
    if (!readUnit(c, 4)) return;
  }
  clampRange(length);
  if (range.start > range.end) {
    c.reply.int(0);
    return;
  }
  let first = range.start;
  let last = range.end;
  let ones = 0;
  if (range.bits) {
    const headMask = first % 8 === 0 ? 0 : (0xff << (8 - (first % 8))) & 0xff;
    const tailMask = (1 << (7 - (last % 8))) - 1;
    first = Math.floor(first / 8);
    last = Math.floor(last / 8);
    ones -= ONES[bytes[base + first]! & headMask]! + ONES[bytes[base + last]! & tailMask]!;
  }
  c.reply.int(ones + countOnes(bytes, base + first, base + last + 1));
}

/** Bits `[start, end]`: the first that is `bit`, -1 if none is. */
function findBit(bytes: Uint8Array, base: number, start: number, end: number, bit: number): number {
  const skip = bit === 1 ? 0 : 0xff;
  for (let at = start; at <= end; ) {
    const byte = bytes[base + Math.floor(at / 8)]!;
    if (at % 8 === 0 && byte === skip) {
      at += 8;
      continue;
    }
    if (((byte >> (7 - (at % 8))) & 1) === bit) return at;
    at++;
  }
  return -1;
}

function bitpos(c: CommandContext): void {
  const bit = c.intOrError(2);
  if (Number.isNaN(bit)) return;
  if (bit !== 0 && bit !== 1) {
    c.reply.error('ERR The bit argument must be 1 or 0.');
    return;
  }
  const entry = readString(c, 1);
  if (entry < 0) return;
  if (entry === 0) {
    c.reply.int(bit === 1 ? -1 : 0);
    return;
  }
  if (c.argc > 6) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const { dict } = c.db;
  const length = dict.valueLength(entry);
  range.start = 0;
  range.end = -1;
  range.bits = false;
  if (c.argc > 3 && !(readStart(c, 3) && readUnit(c, 5) && readEnd(c, 4))) return;
  const endGiven = c.argc > 4;
  clampRange(length);
  if (range.start > range.end) {
    c.reply.int(-1);
    return;
  }
  const first = range.bits ? range.start : range.start * 8;
  const last = range.bits ? range.end : range.end * 8 + 7;
  const position = findBit(dict.chunk(entry), dict.valueStart(entry), first, last, bit);
  // without an end a string is followed by zeros without end
  if (position < 0 && bit === 0 && !endGiven) c.reply.int(last + 1);
  else c.reply.int(position);
}

function bitop(c: CommandContext): void {
  const and = c.is(1, 'and');
  const or = c.is(1, 'or');
  const xor = c.is(1, 'xor');
  const not = c.is(1, 'not');
  if (!and && !or && !xor && !not) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  if (not && c.argc !== 4) {
    c.reply.error('ERR BITOP NOT must be called with a single source key.');
    return;
  }
  const { db } = c;
  const { dict } = db;
  const sources: { bytes: Uint8Array; start: number; length: number }[] = [];
  let length = 0;
  for (let i = 3; i < c.argc; i++) {
    const entry = db.lookupRead(c.input, c.off[i]!, c.len[i]!);
    if (entry === 0) {
      sources.push({ bytes: new Uint8Array(0), start: 0, length: 0 });
      continue;
    }
    if (db.typeOf(entry) !== TYPE_STRING) {
      c.reply.error(ERR_WRONG_TYPE);
      return;
    }
    const source = { bytes: dict.chunk(entry), start: dict.valueStart(entry), length: dict.valueLength(entry) };
    sources.push(source);
    length = Math.max(length, source.length);
  }
  if (length === 0) {
    c.remove(2);
    c.reply.int(0);
    return;
  }
  const result = new Uint8Array(length);
  const head = sources[0]!;
  result.set(head.bytes.subarray(head.start, head.start + head.length));
  for (const { bytes, start, length: have } of sources.slice(1)) {
    if (and) for (let i = 0; i < length; i++) result[i]! &= i < have ? bytes[start + i]! : 0;
    else if (or) for (let i = 0; i < have; i++) result[i]! |= bytes[start + i]!;
    else for (let i = 0; i < have; i++) result[i]! ^= bytes[start + i]!;
  }
  if (not) for (let i = 0; i < length; i++) result[i] = ~result[i]!;
  db.setRaw(db.putString(c.input, c.off[2]!, c.len[2]!, result, 0, length, false));
  c.signal(2);
  c.reply.int(length);
}

const command = family('bitmap');
const WRITE = FLAG.WRITE | FLAG.DENYOOM;
const READ = FLAG.READONLY;

export const bitCommands: readonly CommandSpec[] = [
  command(
    'setbit',
    4,
    WRITE,
    ONE_KEY,
    setbit,
    'Sets or clears the bit at offset of the string value. Creates the key if needed.',
  ),
  command('getbit', 3, READ | FLAG.FAST, ONE_KEY, getbit, 'Returns a bit value by offset.'),
  command('bitcount', -2, READ, ONE_KEY, bitcount, 'Counts the number of set bits (population counting) in a string.'),
  command('bitpos', -3, READ, ONE_KEY, bitpos, 'Finds the first set (1) or clear (0) bit in a string.'),
  command(
    'bitop',
    -4,
    WRITE,
    [2, -1, 1],
    bitop,
    'Performs bitwise operations on multiple strings, and stores the result.',
  ),
];
