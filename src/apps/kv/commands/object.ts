/**
 * What can be asked about a key's value: OBJECT and MEMORY.
 * Pure: handlers over the command context.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX } from '../resp/errors.ts';
import { parseInt64 } from '../resp/number.ts';
import type { Keyspace } from '../store/keyspace.ts';
import { TYPE_STRING } from '../store/value.ts';
import { family, type Keys, NO_KEYS } from './declare.ts';

const EMBEDDED_MAX = 44;
const SHARED_INTEGERS = 10000;
const SHARED_COUNT = 2147483647;

/** Entry of key i, without marking it as used; 0, and nil replied, if there is none. */
function find(c: CommandContext, i: number): number {
  const entry = c.db.peek(c.input, c.off[i]!, c.len[i]!);
  if (entry === 0) c.reply.nil();
  return entry;
}

/** The integer a string would be kept as, NaN if it would not. */
function integerIn(db: Keyspace, entry: number): number {
  if (db.typeOf(entry) !== TYPE_STRING || db.isRaw(entry) || db.isText(entry)) return Number.NaN;
  return parseInt64(db.dict.chunk(entry), db.dict.valueStart(entry), db.dict.valueLength(entry));
}

function encoding(c: CommandContext): void {
  const { db } = c;
  const entry = find(c, 2);
  if (entry === 0) return;
  if (db.typeOf(entry) !== TYPE_STRING) c.reply.text(db.objectOf(entry).encoding());
  else if (!Number.isNaN(integerIn(db, entry))) c.reply.text('int');
  else if (db.isRaw(entry) || db.dict.valueLength(entry) > EMBEDDED_MAX) c.reply.text('raw');
  else c.reply.text('embstr');
}

function refcount(c: CommandContext): void {
  const entry = find(c, 2);
  if (entry === 0) return;
  const { config } = c.engine;
  // redis shares the small integers unless each key needs its own record of use
  const shares = config.maxmemory === 0 || !/lru|lfu/.test(config.policy);
  const value = integerIn(c.db, entry);
  c.reply.int(shares && value >= 0 && value < SHARED_INTEGERS ? SHARED_COUNT : 1);
}

function idletime(c: CommandContext): void {
  const entry = find(c, 2);
  if (entry === 0) return;
  const { store } = c.engine;
  if (store.lfu) {
    c.reply.error(
      'ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.',
    );
  } else c.reply.int(store.idleSeconds(c.db.useOf(entry)));
}

function freq(c: CommandContext): void {
  const entry = find(c, 2);
  if (entry === 0) return;
  const { store } = c.engine;
  if (!store.lfu) {
    c.reply.error(
      'ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.',
    );
  } else c.reply.int(store.lfuCounter(c.db.useOf(entry)));
}

function usage(c: CommandContext): void {
  if (c.argc > 3) {
    const samples = c.argc === 5 && c.is(3, 'samples') ? c.intOrError(4) : -1;
    if (Number.isNaN(samples)) return;
    if (samples < 0) {
      c.reply.error(ERR_SYNTAX);
      return;
    }
  }
  const entry = find(c, 2);
  if (entry !== 0) c.reply.int(c.db.sizeOf(entry));
}

function stats(c: CommandContext): void {
  const { store } = c.engine;
  const pairs: [string, number][] = [
    ['total.allocated', store.arena.used + store.objectBytes],
    ['dataset.bytes', store.memory()],
    ['keys.count', store.keyspaces.reduce((sum, keyspace) => sum + keyspace.count, 0)],
    ['arena.used', store.arena.used],
    ['arena.committed', store.arena.committed],
    ['objects.count', store.objectCount],
    ['objects.bytes', store.objectBytes],
  ];
  c.reply.map(pairs.length);
  for (const [name, value] of pairs) {
    c.reply.text(name);
    c.reply.int(value);
  }
}

/** Give back what is waiting to be freed. */
function purge(c: CommandContext): void {
  c.engine.store.tidy(1 << 20);
  c.reply.ok();
}

const command = family('generic');
const server = family('server');
const KEY: Keys = [2, 2, 1];
const READ = FLAG.READONLY;

export const objectCommands: readonly CommandSpec[] = [
  command('object', -2, 0, NO_KEYS, () => {}, 'A container for object introspection commands.', [
    command('object|encoding', 3, READ, KEY, encoding, 'Returns the internal encoding of an object.'),
    command('object|refcount', 3, READ, KEY, refcount, 'Returns the reference count of a value of a key.'),
    command('object|idletime', 3, READ, KEY, idletime, 'Returns the time since the last access to an object.'),
    command('object|freq', 3, READ, KEY, freq, 'Returns the logarithmic access frequency counter of an object.'),
  ]),
  server('memory', -2, 0, NO_KEYS, () => {}, 'A container for memory diagnostics commands.', [
    server('memory|usage', -3, READ, KEY, usage, 'Estimates the memory usage of a key.'),
    server('memory|stats', 2, 0, NO_KEYS, stats, 'Returns details about memory usage.'),
    server('memory|purge', 2, 0, NO_KEYS, purge, 'Asks the allocator to release memory.'),
  ]),
];
