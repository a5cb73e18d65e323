/**
 * Strings: SET with all its options, GET and its relatives, ranges, several keys at once.
 * Pure: handlers over the command context.
 */
import { copyBytes } from '../bytes.ts';
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_STRING_TOO_LONG, ERR_SYNTAX, ERR_WRONG_TYPE, wrongArity } from '../resp/errors.ts';
import { TYPE_STRING } from '../store/value.ts';
import { ALL_KEYS, family, ONE_KEY } from './declare.ts';
import { absoluteTime, expireTimeError } from './time.ts';

const NX = 1;
const XX = 2;
const GET = 4;
const KEEP_TTL = 8;
const PERSIST = 16;

const EMPTY = new Uint8Array(0);
/** Room left behind a string that grows in place: as much again, at most this (redis: SDS_MAX_PREALLOC). */
const SLACK_MAX = 1048576;

// --- helpers shared with the counters and the bit commands

/** Entry of the string under key i for reading; 0 if there is none; -1 if it is no string, and the error has been replied. */
export function readString(c: CommandContext, i: number): number {
  const entry = c.db.lookupRead(c.input, c.off[i]!, c.len[i]!);
  return entry === 0 ? 0 : checkString(c, entry);
}

/** As `readString`, for writing. */
export function writeString(c: CommandContext, i: number): number {
  const entry = c.db.lookupWrite(c.input, c.off[i]!, c.len[i]!);
  return entry === 0 ? 0 : checkString(c, entry);
}

function checkString(c: CommandContext, entry: number): number {
  if (c.db.typeOf(entry) === TYPE_STRING) return entry;
  c.reply.error(ERR_WRONG_TYPE);
  return -1;
}

/** Reply the string in an entry. */
export function replyString(c: CommandContext, entry: number): void {
  const { dict } = c.db;
  c.reply.bulk(dict.chunk(entry), dict.valueStart(entry), dict.valueLength(entry));
}

/** Store argument `value` under key i. */
function putArgument(c: CommandContext, i: number, value: number, keepExpiry: boolean): number {
  return c.db.putString(c.input, c.off[i]!, c.len[i]!, c.input, c.off[value]!, c.len[value]!, keepExpiry);
}

/**
 * Make the string under key i (`entry`, 0 if there is none) at least `length` bytes long, the new bytes zero, to be changed in
 * place. Gives the entry.
 */
export function growString(c: CommandContext, i: number, entry: number, length: number): number {
  const { db } = c;
  const { dict } = db;
  let have = 0;
  if (entry === 0) entry = db.putString(c.input, c.off[i]!, c.len[i]!, EMPTY, 0, 0, false);
  else have = dict.valueLength(entry);
  if (length > have) {
    entry = db.resizeString(entry, length, have, have === 0 ? 0 : Math.min(length, SLACK_MAX));
    const start = dict.valueStart(entry);
    dict.chunk(entry).fill(0, start + have, start + length);
  }
  db.setRaw(entry);
  return entry;
}

/** False, and the error replied, if a string of this length is not allowed. */
export function lengthAllowed(c: CommandContext, length: number): boolean {
  if (length <= c.engine.config.bulkMax) return true;
  c.reply.error(ERR_STRING_TOO_LONG);
  return false;
}

// --- GET and SET

export function get(c: CommandContext): void {
  const entry = c.db.lookupRead(c.input, c.off[1]!, c.len[1]!);
  if (entry === 0) c.reply.nil();
  else if (!c.db.replyString(entry, c.reply)) c.reply.error(ERR_WRONG_TYPE);
}

/** SET key value, without options: the engine calls it directly. */
export function setPlain(c: CommandContext): void {
  putArgument(c, 1, 2, false);
  c.signal(1);
  c.reply.ok();
}

/** Options of SET and GETEX as read by `readOptions`. */
const options = { flags: 0, unit: '', amount: 0 };

/** Read options from argument `from` on; false, and the error replied, if they make no sense. */
function readOptions(c: CommandContext, from: number, getex: boolean): boolean {
  options.flags = 0;
  options.unit = '';
  for (let i = from; i < c.argc; i++) {
    let flag = 0;
    if (!getex && c.is(i, 'nx') && (options.flags & XX) === 0) flag = NX;
    else if (!getex && c.is(i, 'xx') && (options.flags & NX) === 0) flag = XX;
    else if (!getex && c.is(i, 'get')) flag = GET;
    else if (!getex && c.is(i, 'keepttl') && options.unit === '') flag = KEEP_TTL;
    else if (getex && c.is(i, 'persist') && options.unit === '') flag = PERSIST;
    if (flag !== 0) {
      options.flags |= flag;
      continue;
    }
    const unit = c.is(i, 'ex') ? 'ex' : c.is(i, 'px') ? 'px' : c.is(i, 'exat') ? 'exat' : c.is(i, 'pxat') ? 'pxat' : '';
    const taken = (options.unit !== '' && options.unit !== unit) || (options.flags & (KEEP_TTL | PERSIST)) !== 0;
    if (unit === '' || taken || i + 1 === c.argc) {
      c.reply.error(ERR_SYNTAX);
      return false;
    }
    options.unit = unit;
    options.amount = ++i;
  }
  return true;
}

/** The time the options give, 0 if they give none; NaN if it is wrong, and the error has been replied. */
function expiryOption(c: CommandContext, command: string): number {
  const { unit } = options;
  if (unit === '') return 0;
  const amount = c.intOrError(options.amount);
  if (Number.isNaN(amount)) return Number.NaN;
  const seconds = unit === 'ex' || unit === 'exat';
  const time = absoluteTime(amount, seconds, unit === 'ex' || unit === 'px' ? c.now : 0);
  if (amount > 0 && !Number.isNaN(time)) return time;
  c.reply.error(expireTimeError(command));
  return Number.NaN;
}

function set(c: CommandContext): void {
  if (c.argc === 3) {
    setPlain(c);
    return;
  }
  if (!readOptions(c, 3, false)) return;
  const { flags } = options;
  const time = expiryOption(c, 'set');
  if (Number.isNaN(time)) return;
  if ((flags & GET) !== 0) {
    const old = readString(c, 1);
    if (old < 0) return;
    if (old === 0) c.reply.nil();
    else replyString(c, old);
  }
  if ((flags & (NX | XX)) !== 0) {
    const exists = c.db.lookupWrite(c.input, c.off[1]!, c.len[1]!) !== 0;
    if (exists === ((flags & NX) !== 0)) {
      if ((flags & GET) === 0) c.reply.nil();
      return;
    }
  }
  const keep = (flags & KEEP_TTL) !== 0;
  // a key that had expired is gone, and its time with it
  if (keep) c.db.peek(c.input, c.off[1]!, c.len[1]!);
  const entry = putArgument(c, 1, 2, keep || time !== 0);
  if (time !== 0) c.db.setExpiry(entry, time);
  c.signal(1);
  if ((flags & GET) === 0) c.reply.ok();
}

function setExpiring(c: CommandContext, command: string, seconds: boolean): void {
  const amount = c.intOrError(2);
  if (Number.isNaN(amount)) return;
  const time = absoluteTime(amount, seconds, c.now);
  if (amount <= 0 || Number.isNaN(time)) {
    c.reply.error(expireTimeError(command));
    return;
  }
  c.db.setExpiry(putArgument(c, 1, 3, true), time);
  c.signal(1);
  c.reply.ok();
}

function setnx(c: CommandContext): void {
  if (c.db.lookupWrite(c.input, c.off[1]!, c.len[1]!) !== 0) {
    c.reply.int(0);
    return;
  }
  putArgument(c, 1, 2, false);
  c.signal(1);
  c.reply.int(1);
}

function getset(c: CommandContext): void {
  const entry = readString(c, 1);
  if (entry < 0) return;
  if (entry === 0) c.reply.nil();
  else replyString(c, entry);
  putArgument(c, 1, 2, false);
  c.signal(1);
}

function getdel(c: CommandContext): void {
  const entry = readString(c, 1);
  if (entry < 0) return;
  if (entry === 0) {
    c.reply.nil();
    return;
  }
  replyString(c, entry);
  c.db.removeEntry(entry);
  c.signal(1);
}

function getex(c: CommandContext): void {
  if (!readOptions(c, 2, true)) return;
  const { flags } = options;
  const entry = readString(c, 1);
  if (entry < 0) return;
  if (entry === 0) {
    c.reply.nil();
    return;
  }
  const time = expiryOption(c, 'getex');
  if (Number.isNaN(time)) return;
  replyString(c, entry);
  if (time !== 0) {
    if (time <= c.now) c.db.removeEntry(entry);
    else c.db.setExpiry(entry, time);
    c.signal(1);
  } else if ((flags & PERSIST) !== 0 && c.db.persist(entry)) c.signal(1);
}

// --- several keys

function mget(c: CommandContext): void {
  c.reply.array(c.argc - 1);
  for (let i = 1; i < c.argc; i++) {
    const entry = c.db.lookupRead(c.input, c.off[i]!, c.len[i]!);
    if (entry === 0 || c.db.typeOf(entry) !== TYPE_STRING) c.reply.nil();
    else replyString(c, entry);
  }
}

function mset(c: CommandContext): void {
  if ((c.argc & 1) === 0) {
    c.reply.error(wrongArity('mset'));
    return;
  }
  for (let i = 1; i < c.argc; i += 2) {
    putArgument(c, i, i + 1, false);
    c.signal(i);
  }
  c.reply.ok();
}

function msetnx(c: CommandContext): void {
  if ((c.argc & 1) === 0) {
    c.reply.error(wrongArity('msetnx'));
    return;
  }
  for (let i = 1; i < c.argc; i += 2) {
    if (c.db.lookupWrite(c.input, c.off[i]!, c.len[i]!) !== 0) {
      c.reply.int(0);
      return;
    }
  }
  for (let i = 1; i < c.argc; i += 2) {
    putArgument(c, i, i + 1, false);
    c.signal(i);
  }
  c.reply.int(1);
}

// --- parts of a string

function append(c: CommandContext): void {
  const entry = writeString(c, 1);
  if (entry < 0) return;
  const added = c.len[2]!;
  if (entry === 0) {
    putArgument(c, 1, 2, false);
    c.signal(1);
    c.reply.int(added);
    return;
  }
  const { dict } = c.db;
  const length = dict.valueLength(entry);
  if (!lengthAllowed(c, length + added)) return;
  const slack = Math.min(length + added, SLACK_MAX);
  const next = c.db.resizeString(entry, length + added, length, slack);
  copyBytes(c.input, c.off[2]!, added, dict.chunk(next), dict.valueStart(next) + length);
  c.db.setRaw(next);
  c.signal(1);
  c.reply.int(length + added);
}

function strlen(c: CommandContext): void {
  const entry = readString(c, 1);
  if (entry >= 0) c.reply.int(entry === 0 ? 0 : c.db.dict.valueLength(entry));
}

function getrange(c: CommandContext): void {
  let start = c.intOrError(2);
  if (Number.isNaN(start)) return;
  let end = c.intOrError(3);
  if (Number.isNaN(end)) return;
  const entry = readString(c, 1);
  if (entry < 0) return;
  const { dict } = c.db;
  const length = entry === 0 ? 0 : dict.valueLength(entry);
  const backwards = start < 0 && end < 0 && start > end;
  start = Math.max(0, start < 0 ? length + start : start);
  end = Math.max(0, end < 0 ? length + end : end);
  end = Math.min(end, length - 1);
  if (backwards || length === 0 || start > end) c.reply.bulk(EMPTY, 0, 0);
  else c.reply.bulk(dict.chunk(entry), dict.valueStart(entry) + start, end - start + 1);
}

function setrange(c: CommandContext): void {
  const offset = c.intOrError(2);
  if (Number.isNaN(offset)) return;
  if (offset < 0) {
    c.reply.error('ERR offset is out of range');
    return;
  }
  const entry = writeString(c, 1);
  if (entry < 0) return;
  const { dict } = c.db;
  const length = entry === 0 ? 0 : dict.valueLength(entry);
  const added = c.len[3]!;
  if (added === 0) {
    c.reply.int(length);
    return;
  }
  if (!lengthAllowed(c, offset + added)) return;
  const next = growString(c, 1, entry, offset + added);
  copyBytes(c.input, c.off[3]!, added, dict.chunk(next), dict.valueStart(next) + offset);
  c.signal(1);
  c.reply.int(dict.valueLength(next));
}

const command = family('string');
const W = FLAG.WRITE;
const R = FLAG.READONLY;
const OOM = FLAG.DENYOOM;
const FAST = FLAG.FAST;

export const stringCommands: readonly CommandSpec[] = [
  command('get', 2, R | FAST, ONE_KEY, get, 'Returns the string value of a key.'),
  command(
    'set',
    -3,
    W | OOM,
    ONE_KEY,
    set,
    'Sets the string value of a key, ignoring its type. The key is created if it does not exist.',
  ),
  command(
    'setex',
    4,
    W | OOM,
    ONE_KEY,
    (c) => setExpiring(c, 'setex', true),
    'Sets the string value and expiration time of a key.',
  ),
  command(
    'psetex',
    4,
    W | OOM,
    ONE_KEY,
    (c) => setExpiring(c, 'psetex', false),
    'Sets value and expiration time in milliseconds of a key.',
  ),
  command(
    'setnx',
    3,
    W | OOM | FAST,
    ONE_KEY,
    setnx,
    'Sets the string value of a key only when the key does not exist.',
  ),
  command(
    'getset',
    3,
    W | OOM | FAST,
    ONE_KEY,
    getset,
    'Returns the previous string value of a key after setting it to a new value.',
  ),
  command('getdel', 2, W | FAST, ONE_KEY, getdel, 'Returns the string value of a key after deleting the key.'),
  command(
    'getex',
    -2,
    W | FAST,
    ONE_KEY,
    getex,
    'Returns the string value of a key after setting its expiration time.',
  ),
  command('mget', -2, R | FAST, ALL_KEYS, mget, 'Returns the string values of one or more keys.'),
  command('mset', -3, W | OOM, [1, -1, 2], mset, 'Creates or modifies the string values of one or more keys.'),
  command(
    'msetnx',
    -3,
    W | OOM,
    [1, -1, 2],
    msetnx,
    'Sets the values of one or more keys only when all keys do not exist.',
  ),
  command(
    'append',
    3,
    W | OOM | FAST,
    ONE_KEY,
    append,
    'Appends a string to the value of a key. Creates the key if it does not exist.',
  ),
  command('strlen', 2, R | FAST, ONE_KEY, strlen, 'Returns the length of a string value.'),
  command('getrange', 4, R, ONE_KEY, getrange, 'Returns a substring of the string stored at a key.'),
  command('substr', 4, R, ONE_KEY, getrange, 'Returns a substring from a string value.'),
  command(
    'setrange',
    4,
    W | OOM,
    ONE_KEY,
    setrange,
    'Overwrites a part of a string value. Creates the key if it does not exist.',
  ),
];
