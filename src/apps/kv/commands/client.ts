/**
 * CLIENT: names, lists and kills of sessions, and what replies a session wants.
 * Pure: it changes session state; the server closes the connections of killed sessions.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { REPLY_OFF, REPLY_ON, REPLY_SKIP_NEXT, type Session } from '../session.ts';
import { family, NO_KEYS } from './declare.ts';

/** Printable, no spaces: what names and library names may hold. */
function printable(c: CommandContext, i: number): boolean {
  for (let j = 0; j < c.len[i]!; j++) {
    const byte = c.input[c.off[i]! + j]!;
    if (byte < 33 || byte > 126) return false;
  }
  return true;
}

/** Set the session's name from argument i; false, and the error replied, if it is no name. */
export function setClientName(c: CommandContext, i: number): boolean {
  if (!printable(c, i)) {
    c.reply.error('ERR Client names cannot contain spaces, newlines or special characters.');
    return false;
  }
  c.session.name = c.text(i);
  return true;
}

/** A line of CLIENT LIST. */
function describe(c: CommandContext, session: Session): string {
  const held = session.pending === null ? 0 : session.pending.held;
  const unread = c.engine.options.unread?.(session) ?? 0;
  const fields: [string, string | number][] = [
    ['id', session.id],
    ['addr', session.addr],
    ['laddr', session.laddr],
    ['fd', session.fd],
    ['name', session.name],
    ['age', Math.floor((c.now - session.createdAt) / 1000)],
    ['idle', Math.floor(Math.max(0, c.now - session.lastActiveAt) / 1000)],
    [
      'flags',
      `${session.queue === null ? '' : 'x'}${session.dirtyWatch ? 'd' : ''}${session.closing ? 'c' : ''}${session.noEvict ? 'e' : ''}` ||
        'N',
    ],
    ['db', session.db],
    ['sub', 0],
    ['psub', 0],
    ['ssub', 0],
    ['multi', session.queue === null ? -1 : session.queue.length],
    ['qbuf', held],
    ['qbuf-free', 0],
    ['argv-mem', 0],
    ['multi-mem', session.queueBytes],
    ['rbs', 0],
    ['rbp', 0],
    ['obl', 0],
    ['oll', 0],
    ['omem', unread],
    ['tot-mem', held + session.queueBytes + unread],
    ['events', 'r'],
    ['cmd', session.lastCommand],
    ['user', 'default'],
    ['redir', -1],
    ['resp', session.resp3 ? 3 : 2],
    ['lib-name', session.libName],
    ['lib-ver', session.libVersion],
  ];
  return fields.map(([name, value]) => `${name}=${value}`).join(' ');
}

const TYPES = ['normal', 'master', 'replica', 'slave', 'pubsub'];

function list(c: CommandContext): void {
  let sessions = [...c.engine.sessions.values()];
  if (c.argc === 4 && c.is(2, 'type')) {
    const type = c.text(3).toLowerCase();
    if (!TYPES.includes(type)) {
      c.reply.error(`ERR Unknown client type '${c.shown(3)}'`);
      return;
    }
    if (type !== 'normal') sessions = [];
  } else if (c.argc > 3 && c.is(2, 'id')) {
    const wanted: Session[] = [];
    for (let i = 3; i < c.argc; i++) {
      const id = c.int(i);
      if (!(id > 0)) {
        c.reply.error('ERR Invalid client ID');
        return;
      }
      const session = c.engine.sessions.get(id);
      if (session !== undefined) wanted.push(session);
    }
    sessions = wanted;
  } else if (c.argc !== 2) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  c.reply.verbatim(sessions.map((session) => `${describe(c, session)}\n`).join(''));
}

function info(c: CommandContext): void {
  c.reply.verbatim(`${describe(c, c.session)}\n`);
}

/** Which sessions a CLIENT KILL means. */
interface Filter {
  id: number;
  addr: string | null;
  laddr: string | null;
  normal: boolean;
  user: string | null;
  skipMe: boolean;
}

function readFilter(c: CommandContext): Filter | null {
  const filter: Filter = { id: 0, addr: null, laddr: null, normal: true, user: null, skipMe: true };
  for (let i = 2; i < c.argc; i += 2) {
    if (i + 1 === c.argc) {
      c.reply.error(ERR_SYNTAX);
      return null;
    }
    const value = c.text(i + 1);
    if (c.is(i, 'id')) {
      const id = c.int(i + 1);
      if (!(id > 0)) {
        c.reply.error('ERR client-id should be greater than 0');
        return null;
      }
      filter.id = id;
    } else if (c.is(i, 'type')) {
      if (!TYPES.includes(value.toLowerCase())) {
        c.reply.error(`ERR Unknown client type '${value}'`);
        return null;
      }
      filter.normal = value.toLowerCase() === 'normal';
    } else if (c.is(i, 'addr')) filter.addr = value;
    else if (c.is(i, 'laddr')) filter.laddr = value;
    else if (c.is(i, 'user')) {
      if (value !== 'default') {
        c.reply.error(`ERR No such user '${value}'`);
        return null;
      }
      filter.user = value;
    } else if (c.is(i, 'skipme') && (c.is(i + 1, 'yes') || c.is(i + 1, 'no'))) filter.skipMe = c.is(i + 1, 'yes');
    else {
      c.reply.error(ERR_SYNTAX);
      return null;
    }
  }
  return filter;
}

function kill(c: CommandContext): void {
  const old = c.argc === 3;
  let filter: Filter | null;
  if (old) filter = { id: 0, addr: c.text(2), laddr: null, normal: true, user: null, skipMe: false };
  else filter = readFilter(c);
  if (filter === null) return;
  let killed = 0;
  for (const session of [...c.engine.sessions.values()]) {
    if (filter.addr !== null && session.addr !== filter.addr) continue;
    if (filter.laddr !== null && session.laddr !== filter.laddr) continue;
    if (filter.id !== 0 && session.id !== filter.id) continue;
    if (!filter.normal || (filter.skipMe && session === c.session)) continue;
    session.closing = true;
    if (session !== c.session) c.engine.options.onKill?.(session);
    killed++;
  }
  if (!old) c.reply.int(killed);
  else if (killed > 0) c.reply.ok();
  else c.reply.error('ERR No such client');
}

function setname(c: CommandContext): void {
  if (setClientName(c, 2)) c.reply.ok();
}

function getname(c: CommandContext): void {
  if (c.session.name === '') c.reply.nil();
  else c.reply.text(c.session.name);
}

function setinfo(c: CommandContext): void {
  const isName = c.is(2, 'lib-name');
  if (!isName && !c.is(2, 'lib-ver')) {
    c.reply.error(`ERR Unrecognized option '${c.shown(2)}'`);
    return;
  }
  if (!printable(c, 3)) {
    c.reply.error(`ERR ${isName ? 'lib-name' : 'lib-ver'} cannot contain spaces, newlines or special characters.`);
    return;
  }
  if (isName) c.session.libName = c.text(3);
  else c.session.libVersion = c.text(3);
  c.reply.ok();
}

function replyMode(c: CommandContext): void {
  const { session } = c;
  if (c.is(2, 'on')) {
    session.replyMode = REPLY_ON;
    c.reply.discard(false);
    c.reply.ok();
  } else if (c.is(2, 'off')) {
    session.replyMode = REPLY_OFF;
    c.reply.discard(true);
  } else if (c.is(2, 'skip')) {
    if (session.replyMode !== REPLY_OFF) session.replyMode = REPLY_SKIP_NEXT;
  } else c.reply.error(ERR_SYNTAX);
}

/** Read ON or OFF in argument 2; null, and the error replied, if it is neither. */
function onOff(c: CommandContext): boolean | null {
  if (c.is(2, 'on')) return true;
  if (c.is(2, 'off')) return false;
  c.reply.error(ERR_SYNTAX);
  return null;
}

function noEvict(c: CommandContext): void {
  const on = onOff(c);
  if (on === null) return;
  c.session.noEvict = on;
  c.reply.ok();
}

function noTouch(c: CommandContext): void {
  const on = onOff(c);
  if (on === null) return;
  c.session.noTouch = on;
  c.engine.store.touching = !on;
  c.session.refresh();
  c.reply.ok();
}

const command = family('connection');
const COMMON = FLAG.NOSCRIPT | FLAG.LOADING | FLAG.STALE;
const ADMIN = COMMON | FLAG.ADMIN;

const subcommands: readonly CommandSpec[] = [
  command(
    'client|id',
    2,
    COMMON,
    NO_KEYS,
    (c) => c.reply.int(c.session.id),
    'Returns the unique client ID of the connection.',
  ),
  command('client|getname', 2, COMMON, NO_KEYS, getname, 'Returns the name of the connection.'),
  command('client|setname', 3, COMMON, NO_KEYS, setname, 'Sets the connection name.'),
  command('client|setinfo', 4, COMMON, NO_KEYS, setinfo, 'Sets information specific to the client or connection.'),
  command('client|list', -2, ADMIN, NO_KEYS, list, 'Lists open connections.'),
  command('client|info', 2, COMMON, NO_KEYS, info, 'Returns information about the connection.'),
  command('client|kill', -3, ADMIN, NO_KEYS, kill, 'Terminates open connections.'),
  command('client|reply', 3, COMMON, NO_KEYS, replyMode, 'Instructs the server whether to reply to commands.'),
  command('client|no-evict', 3, ADMIN, NO_KEYS, noEvict, 'Sets the client eviction mode of the connection.'),
  command(
    'client|no-touch',
    3,
    COMMON,
    NO_KEYS,
    noTouch,
    'Controls whether commands sent by the client affect the LRU/LFU of accessed keys.',
  ),
  command(
    'client|getredir',
    2,
    COMMON,
    NO_KEYS,
    (c) => c.reply.int(-1),
    "Returns the client ID to which the connection's tracking notifications are redirected.",
  ),
];

export const clientCommands: readonly CommandSpec[] = [
  command('client', -2, 0, NO_KEYS, () => {}, 'A container for client connection commands.', subcommands),
];
