/**
 * Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 * Pure: a queued command holds copies of its arguments, EXEC puts them in the context one after another.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_EXECABORT } from '../resp/errors.ts';
import type { Session } from '../session.ts';
import { WATCHED_MAX } from '../watch.ts';
import { ALL_KEYS, family, NO_KEYS } from './declare.ts';

function multi(c: CommandContext): void {
  if (c.session.queue !== null) {
    c.reply.error('ERR MULTI calls can not be nested');
    return;
  }
  c.session.queue = [];
  c.session.refresh();
  c.reply.ok();
}

/** End the transaction and the watches of a session. */
export function endTransaction(c: CommandContext, session: Session): void {
  session.queue = null;
  session.queueBytes = 0;
  session.abortExec = false;
  session.dirtyWatch = false;
  c.engine.watchers.unwatch(session);
  session.refresh();
}

function discard(c: CommandContext): void {
  if (c.session.queue === null) {
    c.reply.error('ERR DISCARD without MULTI');
    return;
  }
  endTransaction(c, c.session);
  c.reply.ok();
}

function exec(c: CommandContext): void {
  const { session, reply, engine } = c;
  const { queue } = session;
  if (queue === null) {
    reply.error('ERR EXEC without MULTI');
    return;
  }
  // a watched key whose time has passed goes now, which marks the session
  for (const { db, bytes } of session.watched) engine.store.keyspaces[db]!.peek(bytes, 0, bytes.length);
  const { abortExec, dirtyWatch } = session;
  endTransaction(c, session);
  if (abortExec) {
    reply.error(ERR_EXECABORT);
    return;
  }
  if (dirtyWatch) {
    reply.nilArray();
    return;
  }
  reply.array(queue.length);
  for (const { command, bytes, off, len } of queue) {
    if (off.length > c.off.length) {
      c.off = new Int32Array(off.length);
      c.len = new Int32Array(off.length);
    }
    c.input = bytes;
    c.argc = off.length;
    for (let i = 0; i < off.length; i++) {
      c.off[i] = off[i]!;
      c.len[i] = len[i]!;
    }
    engine.call(c, command);
  }
}

function watch(c: CommandContext): void {
  const { session, engine } = c;
  if (session.queue !== null) {
    c.reply.error('ERR WATCH inside MULTI is not allowed');
    return;
  }
  for (let i = 1; i < c.argc && !session.dirtyWatch; i++) {
    c.db.peek(c.input, c.off[i]!, c.len[i]!);
    if (!engine.watchers.watch(session, session.db, c.input, c.off[i]!, c.len[i]!)) {
      c.reply.error(`ERR a client may watch at most ${WATCHED_MAX} keys`);
      return;
    }
  }
  c.reply.ok();
}

function unwatch(c: CommandContext): void {
  c.engine.watchers.unwatch(c.session);
  c.session.dirtyWatch = false;
  c.reply.ok();
}

const command = family('transactions');
const BASE = FLAG.NOSCRIPT | FLAG.LOADING | FLAG.STALE;
const COMMON = BASE | FLAG.ALLOW_BUSY;

export const transactionCommands: readonly CommandSpec[] = [
  command('multi', 1, COMMON | FLAG.FAST, NO_KEYS, multi, 'Starts a transaction.'),
  command('exec', 1, BASE | FLAG.SKIP_SLOWLOG, NO_KEYS, exec, 'Executes all commands in a transaction.'),
  command('discard', 1, COMMON | FLAG.FAST, NO_KEYS, discard, 'Discards a transaction.'),
  command(
    'watch',
    -2,
    COMMON | FLAG.FAST,
    ALL_KEYS,
    watch,
    'Monitors changes to keys to determine the execution of a transaction.',
  ),
  command('unwatch', 1, COMMON | FLAG.FAST, NO_KEYS, unwatch, 'Forgets about watched keys of a transaction.'),
];
