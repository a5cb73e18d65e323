/**
 * COMMAND: what commands there are, their flags, keys and documentation, from their declarations.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import type { Command } from '../dispatch.ts';
import { globMatchText } from '../glob.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { family, NO_KEYS } from './declare.ts';

/** Names of the flags in the order in which redis lists them. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [FLAG.WRITE, 'write'],
  [FLAG.READONLY, 'readonly'],
  [FLAG.DENYOOM, 'denyoom'],
  [FLAG.ADMIN, 'admin'],
  [FLAG.NOSCRIPT, 'noscript'],
  [FLAG.LOADING, 'loading'],
  [FLAG.STALE, 'stale'],
  [FLAG.SKIP_MONITOR, 'skip_monitor'],
  [FLAG.SKIP_SLOWLOG, 'skip_slowlog'],
  [FLAG.FAST, 'fast'],
  [FLAG.NO_AUTH, 'no_auth'],
  [FLAG.NO_ASYNC_LOADING, 'no_async_loading'],
  [FLAG.NO_MULTI, 'no_multi'],
  [FLAG.MOVABLEKEYS, 'movablekeys'],
  [FLAG.ALLOW_BUSY, 'allow_busy'],
  [FLAG.TOUCHES_ARBITRARY_KEYS, 'touches_arbitrary_keys'],
  [FLAG.NO_MANDATORY_KEYS, 'no_mandatory_keys'],
];

const GROUP_CATEGORIES: Readonly<Record<string, string>> = {
  generic: 'keyspace',
  transactions: 'transaction',
  'sorted-set': 'sortedset',
  server: '',
};

/** Categories that do not follow from the flags and the group. */
const EXTRA_CATEGORIES: Readonly<Record<string, readonly string[]>> = {
  keys: ['@dangerous'],
  sort: ['@set', '@sortedset', '@list', '@dangerous'],
  sort_ro: ['@set', '@sortedset', '@list', '@dangerous'],
  dbsize: ['@keyspace'],
  flushdb: ['@keyspace', '@dangerous'],
  flushall: ['@keyspace', '@dangerous'],
  swapdb: ['@keyspace', '@dangerous'],
  role: ['@admin', '@dangerous'],
  info: ['@dangerous'],
  command: ['@connection'],
};

/** ACL categories: most follow from the flags and the group. */
function categories({ name, flags, group, subcommands }: CommandSpec): string[] {
  const names: string[] = [...(EXTRA_CATEGORIES[name] ?? [])];
  if ((flags & FLAG.WRITE) !== 0) names.push('@write');
  if ((flags & FLAG.READONLY) !== 0) names.push('@read');
  const own = GROUP_CATEGORIES[group] ?? group;
  // containers belong to no family, nor does SORT
  if (own !== '' && subcommands === undefined && !name.startsWith('sort')) names.push(`@${own}`);
  if ((flags & FLAG.ADMIN) !== 0) names.push('@admin', '@dangerous');
  names.push((flags & FLAG.FAST) !== 0 ? '@fast' : '@slow');
  return names;
}

function flagNames(flags: number): string[] {
  return FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

function replyStatusSet(c: CommandContext, names: readonly string[]): void {
  c.reply.set(names.length);
  for (const name of names) c.reply.simple(name);
}

function replyInfo(c: CommandContext, command: Command | null): void {
  const { reply } = c;
  if (command === null) {
    reply.nil();
    return;
  }
  const { spec } = command;
  reply.array(10);
  reply.text(spec.name);
  reply.int(spec.arity);
  replyStatusSet(c, flagNames(spec.flags));
  reply.int(spec.first);
  reply.int(spec.last);
  reply.int(spec.step);
  replyStatusSet(c, categories(spec));
  reply.array(0);
  reply.array(0);
  const subcommands = command.subcommands === null ? [] : [...command.subcommands.values()];
  reply.array(subcommands.length);
  for (const sub of subcommands) replyInfo(c, sub);
}

function all(c: CommandContext): void {
  const { commands } = c.engine.table;
  c.reply.array(commands.length);
  for (const command of commands) replyInfo(c, command);
}

function commandInfo(c: CommandContext): void {
  if (c.argc === 2) {
    all(c);
    return;
  }
  c.reply.array(c.argc - 2);
  for (let i = 2; i < c.argc; i++) replyInfo(c, c.engine.table.byName(c.text(i).toLowerCase()));
}

function replyDocs(c: CommandContext, command: Command): void {
  const { reply } = c;
  const { spec } = command;
  reply.text(spec.name);
  const subcommands = command.subcommands === null ? [] : [...command.subcommands.values()];
  reply.map(subcommands.length > 0 ? 4 : 3);
  reply.text('summary');
  reply.text(spec.summary);
  reply.text('since');
  reply.text('1.0.0');
  reply.text('group');
  reply.text(spec.group);
  if (subcommands.length === 0) return;
  reply.text('subcommands');
  reply.map(subcommands.length);
  for (const sub of subcommands) replyDocs(c, sub);
}

function docs(c: CommandContext): void {
  const { table } = c.engine;
  let commands: readonly Command[] = table.commands;
  if (c.argc > 2) {
    const named: Command[] = [];
    for (let i = 2; i < c.argc; i++) {
      const command = table.byName(c.text(i).toLowerCase());
      if (command !== null) named.push(command);
    }
    commands = named;
  }
  c.reply.map(commands.length);
  for (const command of commands) replyDocs(c, command);
}

function list(c: CommandContext): void {
  // with the subcommands, as redis does
  const every = c.engine.table.commands.flatMap((each) => [each, ...(each.subcommands?.values() ?? [])]);
  let names = every.map(({ name }) => name);
  if (c.argc === 5 && c.is(2, 'filterby') && c.is(3, 'pattern')) {
    const pattern = c.view(4);
    names = names.filter((name) => globMatchText(pattern, name, true));
  } else if (c.argc === 5 && c.is(2, 'filterby') && c.is(3, 'aclcat')) {
    const category = `@${c.text(4).toLowerCase()}`;
    names = every.filter(({ spec }) => categories(spec).includes(category)).map(({ name }) => name);
  } else if (c.argc === 5 && c.is(2, 'filterby') && c.is(3, 'module')) names = [];
  else if (c.argc !== 2) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  c.reply.array(names.length);
  for (const name of names) c.reply.text(name);
}

function getkeys(c: CommandContext): void {
  const command = c.engine.table.find(c.input, c.off[2]!, c.len[2]!);
  if (command === null) {
    c.reply.error('ERR Invalid command specified');
    return;
  }
  const { first, last, step, arity } = command.spec;
  const argc = c.argc - 2;
  if (first === 0) {
    c.reply.error('ERR The command has no key arguments');
    return;
  }
  if (arity > 0 ? argc !== arity : argc < -arity) {
    c.reply.error('ERR Invalid number of arguments specified for command');
    return;
  }
  const end = last < 0 ? argc + last : last;
  c.reply.array(Math.floor((end - first) / step) + 1);
  for (let i = first; i <= end; i += step) c.reply.bulk(c.input, c.off[i + 2]!, c.len[i + 2]!);
}

const command = family('server');
const COMMON = FLAG.LOADING | FLAG.STALE;

export const introspectionCommands: readonly CommandSpec[] = [
  command('command', -1, COMMON, NO_KEYS, all, 'Returns detailed information about all commands.', [
    command(
      'command|count',
      2,
      COMMON,
      NO_KEYS,
      (c) => c.reply.int(c.engine.table.commands.length),
      'Returns a count of commands.',
    ),
    command(
      'command|info',
      -2,
      COMMON,
      NO_KEYS,
      commandInfo,
      'Returns information about one, multiple or all commands.',
    ),
    command(
      'command|docs',
      -2,
      COMMON,
      NO_KEYS,
      docs,
      'Returns documentary information about one, multiple or all commands.',
    ),
    command('command|list', -2, COMMON, NO_KEYS, list, 'Returns a list of command names.'),
    command('command|getkeys', -4, COMMON, NO_KEYS, getkeys, 'Extracts the key names from an arbitrary command.'),
  ]),
];
