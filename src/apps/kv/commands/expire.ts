/**
 * Expiry of keys: EXPIRE and its relatives, TTL and its relatives, PERSIST.
 * Pure: handlers over the command context; times are Unix milliseconds.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { family, ONE_KEY } from './declare.ts';
import { absoluteTime, expireTimeError } from './time.ts';

const NX = 1;
const XX = 2;
const GT = 4;
const LT = 8;

/** The condition of an EXPIRE; -1 if it is wrong, and the error has been replied. */
function condition(c: CommandContext): number {
  let flags = 0;
  for (let i = 3; i < c.argc; i++) {
    const flag = c.is(i, 'nx') ? NX : c.is(i, 'xx') ? XX : c.is(i, 'gt') ? GT : c.is(i, 'lt') ? LT : 0;
    if (flag === 0) {
      c.reply.error(`ERR Unsupported option ${c.shown(i)}`);
      return -1;
    }
    flags |= flag;
  }
  if ((flags & NX) !== 0 && (flags & ~NX) !== 0) {
    c.reply.error('ERR NX and XX, GT or LT options at the same time are not compatible');
    return -1;
  }
  if ((flags & GT) !== 0 && (flags & LT) !== 0) {
    c.reply.error('ERR GT and LT options at the same time are not compatible');
    return -1;
  }
  return flags;
}

function expire(c: CommandContext, name: string, seconds: boolean, relative: boolean): void {
  const flags = condition(c);
  if (flags < 0) return;
  const amount = c.intOrError(2);
  if (Number.isNaN(amount)) return;
  const time = absoluteTime(amount, seconds, relative ? c.now : 0);
  if (Number.isNaN(time)) {
    c.reply.error(expireTimeError(name));
    return;
  }
  const { db } = c;
  const entry = db.lookupWrite(c.input, c.off[1]!, c.len[1]!);
  if (entry === 0) {
    c.reply.int(0);
    return;
  }
  const current = db.expiryOf(entry);
  const refused =
    ((flags & NX) !== 0 && current >= 0) ||
    ((flags & XX) !== 0 && current < 0) ||
    ((flags & GT) !== 0 && (current < 0 || time <= current)) ||
    ((flags & LT) !== 0 && current >= 0 && time >= current);
  if (refused) {
    c.reply.int(0);
    return;
  }
  if (time <= c.now) db.removeEntry(entry);
  else db.setExpiry(entry, time);
  c.signal(1);
  c.reply.int(1);
}

function ttl(c: CommandContext, seconds: boolean, absolute: boolean): void {
  const entry = c.db.peek(c.input, c.off[1]!, c.len[1]!);
  if (entry === 0) {
    c.engine.store.misses++;
    c.reply.int(-2);
    return;
  }
  c.engine.store.hits++;
  const time = c.db.expiryOf(entry);
  if (time < 0) {
    c.reply.int(-1);
    return;
  }
  const value = absolute ? time : Math.max(0, time - c.now);
  c.reply.int(seconds ? Math.floor((value + 500) / 1000) : value);
}

function persist(c: CommandContext): void {
  const entry = c.db.lookupWrite(c.input, c.off[1]!, c.len[1]!);
  if (entry === 0 || !c.db.persist(entry)) {
    c.reply.int(0);
    return;
  }
  c.signal(1);
  c.reply.int(1);
}

const command = family('generic');
const WRITE = FLAG.WRITE | FLAG.FAST;
const READ = FLAG.READONLY | FLAG.FAST;

export const expireCommands: readonly CommandSpec[] = [
  command(
    'expire',
    -3,
    WRITE,
    ONE_KEY,
    (c) => expire(c, 'expire', true, true),
    'Sets the expiration time of a key in seconds.',
  ),
  command(
    'pexpire',
    -3,
    WRITE,
    ONE_KEY,
    (c) => expire(c, 'pexpire', false, true),
    'Sets the expiration time of a key in milliseconds.',
  ),
  command(
    'expireat',
    -3,
    WRITE,
    ONE_KEY,
    (c) => expire(c, 'expireat', true, false),
    'Sets the expiration time of a key to a Unix timestamp.',
  ),
  command(
    'pexpireat',
    -3,
    WRITE,
    ONE_KEY,
    (c) => expire(c, 'pexpireat', false, false),
    'Sets the expiration time of a key to a Unix milliseconds timestamp.',
  ),
  command('ttl', 2, READ, ONE_KEY, (c) => ttl(c, true, false), 'Returns the expiration time in seconds of a key.'),
  command(
    'pttl',
    2,
    READ,
    ONE_KEY,
    (c) => ttl(c, false, false),
    'Returns the expiration time in milliseconds of a key.',
  ),
  command(
    'expiretime',
    2,
    READ,
    ONE_KEY,
    (c) => ttl(c, true, true),
    'Returns the expiration time of a key as a Unix timestamp.',
  ),
  command(
    'pexpiretime',
    2,
    READ,
    ONE_KEY,
    (c) => ttl(c, false, true),
    'Returns the expiration time of a key as a Unix milliseconds timestamp.',
  ),
  command('persist', 2, WRITE, ONE_KEY, persist, 'Removes the expiration time of a key.'),
];
