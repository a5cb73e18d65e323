/**
 * CONFIG: parameters read by pattern and set, several at once or none.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { globMatchText } from '../glob.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { family, NO_KEYS } from './declare.ts';

function configGet(c: CommandContext): void {
  const found = new Map<string, string>();
  for (let i = 2; i < c.argc; i++) {
    const pattern = c.view(i);
    for (const [name, parameter] of c.engine.config.parameters) {
      if (globMatchText(pattern, name, true)) found.set(name, parameter.get());
    }
  }
  c.reply.map(found.size);
  for (const [name, value] of found) {
    c.reply.text(name);
    c.reply.text(value);
  }
}

function configSet(c: CommandContext): void {
  if ((c.argc & 1) !== 0) {
    c.reply.error(ERR_SYNTAX);
    return;
  }
  const { config } = c.engine;
  const before = new Map<string, string>();
  for (let i = 2; i < c.argc; i += 2) {
    const name = c.text(i).toLowerCase();
    const parameter = config.parameters.get(name);
    if (parameter === undefined) {
      c.reply.error(`ERR Unknown option or number of arguments for CONFIG SET - '${c.shown(i)}'`);
      return;
    }
    if (before.has(name)) {
      c.reply.error(`ERR CONFIG SET failed (possibly related to argument '${c.shown(i)}') - duplicate parameter`);
      return;
    }
    before.set(name, parameter.get());
  }
  for (let i = 2; i < c.argc; i += 2) {
    const name = c.text(i).toLowerCase();
    const refusal = config.set(name, c.text(i + 1));
    if (refusal === null) continue;
    // all or none: put back what was set before the refusal
    for (const [done, value] of before) {
      if (done === name) break;
      config.set(done, value);
    }
    c.reply.error(`ERR CONFIG SET failed (possibly related to argument '${name}') - ${refusal}`);
    return;
  }
  config.onChange();
  c.reply.ok();
}

function resetStat(c: CommandContext): void {
  const { engine } = c;
  const { store } = engine;
  store.hits = 0;
  store.misses = 0;
  store.expiredKeys = 0;
  store.evictedKeys = 0;
  engine.commandsProcessed = 0;
  engine.sessionsCreated = 0;
  engine.errorReplies = 0;
  engine.inputBytes = 0;
  for (const command of engine.table.commands) {
    for (const counted of [command, ...(command.subcommands?.values() ?? [])]) {
      counted.calls = 0;
      counted.rejected = 0;
      counted.failed = 0;
    }
  }
  c.reply.ok();
}

function rewrite(c: CommandContext): void {
  c.reply.error('ERR The server is running without a config file');
}

const command = family('server');
const ADMIN = FLAG.ADMIN | FLAG.NOSCRIPT | FLAG.LOADING | FLAG.STALE;

export const configCommands: readonly CommandSpec[] = [
  command('config', -2, 0, NO_KEYS, () => {}, 'A container for server configuration commands.', [
    command('config|get', -3, ADMIN, NO_KEYS, configGet, 'Returns the effective values of configuration parameters.'),
    command('config|set', -4, ADMIN, NO_KEYS, configSet, 'Sets configuration parameters in-flight.'),
    command('config|resetstat', 2, ADMIN, NO_KEYS, resetStat, "Resets the server's statistics."),
    command('config|rewrite', 2, ADMIN, NO_KEYS, rewrite, 'Persists the effective configuration to file.'),
  ]),
];
