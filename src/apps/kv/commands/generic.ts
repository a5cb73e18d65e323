/**
 * Keys of any type: delete, exist, rename, copy, move, list, scan.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { globMatch } from '../glob.ts';
import { ERR_NO_SUCH_KEY, ERR_NOT_INTEGER, ERR_SAME_OBJECT, ERR_SYNTAX } from '../resp/errors.ts';
import { scanDict } from '../store/dict-walk.ts';
import type { Keyspace } from '../store/keyspace.ts';
import { TYPE_NAMES, TYPE_STRING } from '../store/value.ts';
import { ALL_KEYS, family, NO_KEYS, ONE_KEY, TWO_KEYS } from './declare.ts';
import { parseCursor, parseScanOptions, scanMatches } from './scan-options.ts';

const EMPTY = new Uint8Array(0);

function peek(c: CommandContext, i: number): number {
  return c.db.peek(c.input, c.off[i]!, c.len[i]!);
}

function sameArgument(c: CommandContext, a: number, b: number): boolean {
  return Buffer.compare(c.view(a), c.view(b)) === 0;
}

function del(c: CommandContext): void {
  let removed = 0;
  for (let i = 1; i < c.argc; i++) if (c.remove(i)) removed++;
  c.reply.int(removed);
}

function exists(c: CommandContext): void {
  let found = 0;
  for (let i = 1; i < c.argc; i++) if (c.db.lookupRead(c.input, c.off[i]!, c.len[i]!) !== 0) found++;
  c.reply.int(found);
}

function type(c: CommandContext): void {
  const entry = peek(c, 1);
  c.reply.simple(entry === 0 ? 'none' : TYPE_NAMES[c.db.typeOf(entry)]!);
}

/**
 * Give the value in `entry` of the selected database, with its expiry and use, to key i of `target`, over what is there.
 * `copy` leaves the old key its value; otherwise the old key is removed.
 */
function transfer(c: CommandContext, entry: number, target: Keyspace, i: number, copy: boolean): void {
  const { db } = c;
  const { dict } = db;
  const key = c.input;
  const offset = c.off[i]!;
  const length = c.len[i]!;
  const expiry = db.expiryOf(entry);
  const use = db.useOf(entry);
  let next: number;
  if (db.typeOf(entry) === TYPE_STRING) {
    next = target.putString(
      key,
      offset,
      length,
      dict.chunk(entry),
      dict.valueStart(entry),
      dict.valueLength(entry),
      false,
    );
    if (db.isRaw(entry)) target.setRaw(next);
    if (db.isText(entry)) target.setText(next);
    if (!copy) db.removeEntry(entry);
  } else {
    const value = copy ? db.objectOf(entry).clone() : null;
    // the new entry first: there may be no memory for it, and then nothing has changed
    target.putString(key, offset, length, EMPTY, 0, 0, false);
    next = target.putObject(key, offset, length, value ?? db.takeObject(entry));
  }
  target.setUse(next, use);
  if (expiry >= 0) target.setExpiry(next, expiry);
  c.engine.dirty++;
  c.engine.touched(target, key, offset, length);
}

function rename(c: CommandContext, onlyNew: boolean): void {
  const entry = peek(c, 1);
  if (entry === 0) {
    c.reply.error(ERR_NO_SUCH_KEY);
    return;
  }
  if (sameArgument(c, 1, 2)) {
    if (onlyNew) c.reply.int(0);
    else c.reply.ok();
    return;
  }
  if (onlyNew && peek(c, 2) !== 0) {
    c.reply.int(0);
    return;
  }
  transfer(c, entry, c.db, 2, false);
  c.engine.touched(c.db, c.input, c.off[1]!, c.len[1]!);
  if (onlyNew) c.reply.int(1);
  else c.reply.ok();
}

/** The database numbered in argument i; null if there is none, and the error has been replied. */
function database(c: CommandContext, i: number, notInteger: string): Keyspace | null {
  const id = c.intOrError(i, notInteger);
  if (Number.isNaN(id)) return null;
  const { keyspaces } = c.engine.store;
  if (id >= 0 && id < keyspaces.length) return keyspaces[id]!;
  c.reply.error('ERR DB index is out of range');
  return null;
}

function copy(c: CommandContext): void {
  let target = c.db;
  let replace = false;
  for (let i = 3; i < c.argc; i++) {
    if (c.is(i, 'replace')) replace = true;
    else if (c.is(i, 'db') && i + 1 < c.argc) {
      const db = database(c, ++i, ERR_NOT_INTEGER);
      if (db === null) return;
      target = db;
    } else {
      c.reply.error(ERR_SYNTAX);
      return;
    }
  }
  if (target === c.db && sameArgument(c, 1, 2)) {
    c.reply.error(ERR_SAME_OBJECT);
    return;
  }
  const entry = c.db.lookupRead(c.input, c.off[1]!, c.len[1]!);
  if (entry === 0 || (!replace && target.peek(c.input, c.off[2]!, c.len[2]!) !== 0)) {
    c.reply.int(0);
    return;
  }
  transfer(c, entry, target, 2, true);
  c.reply.int(1);
}

function move(c: CommandContext): void {
  const target = database(c, 2, ERR_NOT_INTEGER);
  if (target === null) return;
  if (target === c.db) {
    c.reply.error(ERR_SAME_OBJECT);
    return;
  }
  const entry = peek(c, 1);
  if (entry === 0 || target.peek(c.input, c.off[1]!, c.len[1]!) !== 0) {
    c.reply.int(0);
    return;
  }
  transfer(c, entry, target, 1, false);
  c.engine.touched(c.db, c.input, c.off[1]!, c.len[1]!);
  c.reply.int(1);
}

function replyKey(c: CommandContext, entry: number): void {
  const { dict } = c.db;
  c.reply.bulk(dict.chunk(entry), dict.keyStart(entry), dict.keyLength(entry));
}

function expired(c: CommandContext, entry: number): boolean {
  const time = c.db.expiryOf(entry);
  return time >= 0 && c.now > time;
}

function keys(c: CommandContext): void {
  const { dict } = c.db;
  const found: number[] = [];
  const all = c.len[1] === 1 && c.first(1) === 42;
  for (let slot = dict.first(); slot >= 0; slot = dict.next(slot)) {
    const entry = dict.entryAt(slot);
    if (expired(c, entry)) continue;
    if (all || globMatch(c.input, c.off[1]!, c.len[1]!, dict.chunk(entry), dict.keyStart(entry), dict.keyLength(entry)))
      found.push(entry);
  }
  c.reply.array(found.length);
  for (const entry of found) replyKey(c, entry);
}

function scan(c: CommandContext): void {
  let cursor = parseCursor(c, 1);
  if (Number.isNaN(cursor)) return;
  const options = parseScanOptions(c, 2, true);
  if (options === null) return;
  const { db } = c;
  const { dict } = db;
  const visited: number[] = [];
  const visit = (entry: number): void => {
    visited.push(entry);
  };
  let rounds = options.count * 10;
  do cursor = scanDict(dict, cursor, visit);
  while (cursor !== 0 && --rounds > 0 && visited.length < options.count);
  const wanted = options.type < 0 ? -2 : TYPE_NAMES.findIndex((name) => c.is(options.type, name));
  const found = visited.filter((entry) => {
    if (!scanMatches(c, options, dict.chunk(entry), dict.keyStart(entry), dict.keyLength(entry))) return false;
    if (expired(c, entry)) {
      db.expire(entry);
      return false;
    }
    return wanted === -2 || db.typeOf(entry) === wanted;
  });
  c.reply.array(2);
  c.reply.intBulk(cursor);
  c.reply.array(found.length);
  for (const entry of found) replyKey(c, entry);
}

function randomkey(c: CommandContext): void {
  const entry = c.db.random();
  if (entry === 0) c.reply.nil();
  else replyKey(c, entry);
}

const command = family('generic');
const W = FLAG.WRITE;
const R = FLAG.READONLY;
const FAST = FLAG.FAST;

export const genericCommands: readonly CommandSpec[] = [
  command('del', -2, W, ALL_KEYS, del, 'Deletes one or more keys.'),
  command('unlink', -2, W | FAST, ALL_KEYS, del, 'Asynchronously deletes one or more keys.'),
  command('exists', -2, R | FAST, ALL_KEYS, exists, 'Determines whether one or more keys exist.'),
  command(
    'touch',
    -2,
    R | FAST,
    ALL_KEYS,
    exists,
    'Returns the number of existing keys out of those specified after updating the time they were last accessed.',
  ),
  command('type', 2, R | FAST, ONE_KEY, type, 'Determines the type of value stored at a key.'),
  command('rename', 3, W, TWO_KEYS, (c) => rename(c, false), 'Renames a key and overwrites the destination.'),
  command(
    'renamenx',
    3,
    W | FAST,
    TWO_KEYS,
    (c) => rename(c, true),
    "Renames a key only when the target key name doesn't exist.",
  ),
  command('copy', -3, W | FLAG.DENYOOM, TWO_KEYS, copy, 'Copies the value of a key to a new key.'),
  command('move', 3, W | FAST, ONE_KEY, move, 'Moves a key to another database.'),
  command('keys', 2, R, NO_KEYS, keys, 'Returns all key names that match a pattern.'),
  command('scan', -2, R, NO_KEYS, scan, 'Iterates over the key names in the database.'),
  command('randomkey', 1, R, NO_KEYS, randomkey, 'Returns a random key name from the database.'),
];
