/**
 * The server as a whole: sizes, flushes, time, and honest answers for the logs that it does not keep.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import type { Keyspace } from '../store/keyspace.ts';
import { family, NO_KEYS } from './declare.ts';
import { REDIS_VERSION } from './version.ts';

function dbsize(c: CommandContext): void {
  c.reply.int(c.db.count);
}

/** `[ASYNC|SYNC]`; false, and the error replied, for anything else. */
function flushMode(c: CommandContext): boolean {
  if (c.argc === 1 || (c.argc === 2 && (c.is(1, 'async') || c.is(1, 'sync')))) return true;
  c.reply.error(ERR_SYNTAX);
  return false;
}

function flush(c: CommandContext, keyspace: Keyspace): void {
  if (c.engine.watchers.any) c.engine.watchers.touchAll(keyspace, null);
  c.engine.dirty += keyspace.count;
  keyspace.flush();
}

function flushdb(c: CommandContext): void {
  if (!flushMode(c)) return;
  flush(c, c.db);
  c.reply.ok();
}

function flushall(c: CommandContext): void {
  if (!flushMode(c)) return;
  const { store } = c.engine;
  for (const keyspace of store.keyspaces) flush(c, keyspace);
  // nothing is left in the arena but what was waiting to be freed
  store.arena.reset();
  c.reply.ok();
}

function swapdb(c: CommandContext): void {
  const a = c.intOrError(1, 'ERR invalid first DB index');
  if (Number.isNaN(a)) return;
  const b = c.intOrError(2, 'ERR invalid second DB index');
  if (Number.isNaN(b)) return;
  const { engine } = c;
  const { keyspaces } = engine.store;
  if (a < 0 || a >= keyspaces.length || b < 0 || b >= keyspaces.length) {
    c.reply.error('ERR DB index is out of range');
    return;
  }
  if (a !== b) {
    if (engine.watchers.any) {
      engine.watchers.touchAll(keyspaces[a]!, keyspaces[b]!);
      engine.watchers.touchAll(keyspaces[b]!, keyspaces[a]!);
    }
    engine.store.swap(a, b);
    c.db = keyspaces[c.session.db]!;
  }
  engine.dirty++;
  c.reply.ok();
}

function time(c: CommandContext): void {
  const now = c.engine.options.now();
  c.reply.array(2);
  c.reply.intBulk(Math.floor(now / 1000));
  c.reply.intBulk(Math.floor((now % 1000) * 1000));
}

function lolwut(c: CommandContext): void {
  c.reply.verbatim(`A narrow neck of land between two seas.\nRedis ver. ${REDIS_VERSION}\n`);
}

function debug(c: CommandContext): void {
  // refused, not queued
  if (c.session.queue !== null) c.session.abortExec = true;
  c.reply.error(
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.',
  );
}

function role(c: CommandContext): void {
  c.reply.array(3);
  c.reply.text('master');
  c.reply.int(0);
  c.reply.array(0);
}

/** No command is timed, so the log of slow ones is always empty. */
function slowlogGet(c: CommandContext): void {
  if (c.argc > 3) {
    c.reply.error("ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.");
    return;
  }
  if (c.argc === 3 && !(c.int(2) >= -1)) {
    c.reply.error('ERR count should be greater than or equal to -1');
    return;
  }
  c.reply.array(0);
}

const command = family('server');
const COMMON = FLAG.LOADING | FLAG.STALE;
const ADMIN = FLAG.ADMIN | COMMON;

export const serverCommands: readonly CommandSpec[] = [
  command('dbsize', 1, FLAG.READONLY | FLAG.FAST, NO_KEYS, dbsize, 'Returns the number of keys in the database.'),
  command('flushdb', -1, FLAG.WRITE, NO_KEYS, flushdb, 'Removes all keys from the current database.'),
  command('flushall', -1, FLAG.WRITE, NO_KEYS, flushall, 'Removes all keys from all databases.'),
  command('swapdb', 3, FLAG.WRITE | FLAG.FAST, NO_KEYS, swapdb, 'Swaps two Redis databases.'),
  command('time', 1, COMMON | FLAG.FAST, NO_KEYS, time, 'Returns the server time.'),
  command('lolwut', -1, FLAG.READONLY | FLAG.FAST, NO_KEYS, lolwut, 'Displays a line of text and the version.'),
  command('role', 1, FLAG.NOSCRIPT | COMMON | FLAG.FAST, NO_KEYS, role, 'Returns the replication role.'),
  command('debug', -2, FLAG.ADMIN | FLAG.NOSCRIPT | COMMON, NO_KEYS, debug, 'A container for debugging commands.'),
  command('slowlog', -2, 0, NO_KEYS, () => {}, 'A container for slow log commands.', [
    command('slowlog|get', -2, ADMIN, NO_KEYS, slowlogGet, "Returns the slow log's entries."),
    command('slowlog|len', 2, ADMIN, NO_KEYS, (c) => c.reply.int(0), 'Returns the number of entries in the slow log.'),
    command('slowlog|reset', 2, ADMIN, NO_KEYS, (c) => c.reply.ok(), 'Clears all entries from the slow log.'),
  ]),
  command('latency', -2, 0, NO_KEYS, () => {}, 'A container for latency diagnostics commands.', [
    command(
      'latency|latest',
      2,
      ADMIN | FLAG.NOSCRIPT,
      NO_KEYS,
      (c) => c.reply.array(0),
      'Returns the latest latency samples for all events.',
    ),
    command(
      'latency|history',
      3,
      ADMIN | FLAG.NOSCRIPT,
      NO_KEYS,
      (c) => c.reply.array(0),
      'Returns timestamp-latency samples for an event.',
    ),
    command(
      'latency|reset',
      -2,
      ADMIN | FLAG.NOSCRIPT,
      NO_KEYS,
      (c) => c.reply.int(0),
      'Resets the latency data for one or more events.',
    ),
  ]),
  command('acl', -2, 0, NO_KEYS, () => {}, 'A container for Access List Control commands.', [
    command(
      'acl|whoami',
      2,
      FLAG.NOSCRIPT | COMMON,
      NO_KEYS,
      (c) => c.reply.text('default'),
      'Returns the user of the connection.',
    ),
  ]),
];
