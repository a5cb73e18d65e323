/**
 * The connection itself: PING, ECHO, SELECT, AUTH, HELLO, QUIT, RESET.
 * Pure: handlers over the command context; there are no passwords, so the default user is always logged in.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX, wrongArity } from '../resp/errors.ts';
import { setClientName } from './client.ts';
import { family, NO_KEYS } from './declare.ts';
import { endTransaction } from './transaction.ts';
import { REDIS_VERSION } from './version.ts';

const NO_PASSWORD =
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?';
const WRONG_PASSWORD = 'WRONGPASS invalid username-password pair or user is disabled.';

function ping(c: CommandContext): void {
  if (c.argc > 2) c.reply.error(wrongArity('ping'));
  else if (c.argc === 1) c.reply.simple('PONG');
  else c.reply.bulk(c.input, c.off[1]!, c.len[1]!);
}

function echo(c: CommandContext): void {
  c.reply.bulk(c.input, c.off[1]!, c.len[1]!);
}

function select(c: CommandContext): void {
  const id = c.intOrError(1, 'ERR value is not an integer or out of range');
  if (Number.isNaN(id)) return;
  if (id < 0 || id >= c.engine.store.keyspaces.length) {
    c.reply.error('ERR DB index is out of range');
    return;
  }
  c.session.db = id;
  c.db = c.engine.store.keyspaces[id]!;
  c.reply.ok();
}

/** The default user takes any password; there is no other user. */
function knownUser(c: CommandContext, i: number): boolean {
  return c.text(i) === 'default';
}

function auth(c: CommandContext): void {
  if (c.argc > 3) c.reply.error(ERR_SYNTAX);
  else if (c.argc === 2) c.reply.error(NO_PASSWORD);
  else if (knownUser(c, 1)) c.reply.ok();
  else c.reply.error(WRONG_PASSWORD);
}

function hello(c: CommandContext): void {
  const { session, reply } = c;
  let version = session.resp3 ? 3 : 2;
  if (c.argc > 1) {
    version = c.intOrError(1, 'ERR Protocol version is not an integer or out of range');
    if (Number.isNaN(version)) return;
    if (version !== 2 && version !== 3) {
      reply.error('NOPROTO unsupported protocol version');
      return;
    }
  }
  let user = -1;
  for (let i = 2; i < c.argc; i++) {
    if (c.is(i, 'auth') && i + 2 < c.argc) {
      user = i + 1;
      i += 2;
    } else if (c.is(i, 'setname') && i + 1 < c.argc) {
      if (!setClientName(c, ++i)) return;
    } else {
      reply.error(`ERR Syntax error in HELLO option '${c.shown(i)}'`);
      return;
    }
  }
  if (user >= 0 && !knownUser(c, user)) {
    reply.error(WRONG_PASSWORD);
    return;
  }
  session.resp3 = version === 3;
  reply.resp3 = session.resp3;
  reply.map(7);
  reply.text('server');
  reply.text('redis');
  reply.text('version');
  reply.text(REDIS_VERSION);
  reply.text('proto');
  reply.int(version);
  reply.text('id');
  reply.int(session.id);
  reply.text('mode');
  reply.text('standalone');
  reply.text('role');
  reply.text('master');
  reply.text('modules');
  reply.array(0);
}

function quit(c: CommandContext): void {
  c.reply.ok();
  c.session.closing = true;
}

function reset(c: CommandContext): void {
  endTransaction(c, c.session);
  c.session.reset();
  c.db = c.engine.store.keyspaces[0]!;
  c.engine.store.touching = true;
  c.reply.discard(false);
  c.reply.resp3 = false;
  c.reply.simple('RESET');
}

const command = family('connection');
const COMMON = FLAG.NOSCRIPT | FLAG.LOADING | FLAG.STALE | FLAG.FAST | FLAG.NO_AUTH | FLAG.ALLOW_BUSY;

export const connectionCommands: readonly CommandSpec[] = [
  command('ping', -1, FLAG.FAST, NO_KEYS, ping, "Returns the server's liveliness response."),
  command('echo', 2, FLAG.LOADING | FLAG.STALE | FLAG.FAST, NO_KEYS, echo, 'Returns the given string.'),
  command('select', 2, FLAG.LOADING | FLAG.STALE | FLAG.FAST, NO_KEYS, select, 'Changes the selected database.'),
  command('auth', -2, COMMON, NO_KEYS, auth, 'Authenticates the connection.'),
  command('hello', -1, COMMON, NO_KEYS, hello, 'Handshakes with the server.'),
  command('quit', -1, COMMON, NO_KEYS, quit, 'Closes the connection.'),
  command('reset', 1, COMMON, NO_KEYS, reset, 'Resets the connection.'),
];
