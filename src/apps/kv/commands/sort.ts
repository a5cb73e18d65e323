/**
 * SORT and SORT_RO over lists, sets and sorted sets, by the elements or by other keys.
 * Pure: handlers over the command context. The elements are copied first, as redis does.
 */
import { type CommandContext, type CommandSpec, FLAG } from '../command.ts';
import { ERR_SYNTAX, ERR_WRONG_TYPE } from '../resp/errors.ts';
import { parseDouble } from '../resp/number.ts';
import { type StoredValue, TYPE_HASH, TYPE_SET, TYPE_STRING } from '../store/value.ts';
import type { HashValue } from '../values/hash.ts';
import { ListValue } from '../values/list.ts';
import { family, ONE_KEY } from './declare.ts';

const EMPTY = new Uint8Array(0);
const STAR = 42;
const HASH_SIGN = 35;

interface Options {
  by: Uint8Array | null;
  get: Uint8Array[];
  offset: number;
  count: number;
  descending: boolean;
  alpha: boolean;
  /** Argument that names the destination, -1 if there is none. */
  store: number;
}

/** An element with what it is sorted by; `key` is null where a key to sort by does not exist. */
interface Item {
  readonly element: Uint8Array;
  score: number;
  key: Uint8Array | null;
}

function readOptions(c: CommandContext, storing: boolean): Options | null {
  const options: Options = { by: null, get: [], offset: 0, count: -1, descending: false, alpha: false, store: -1 };
  for (let i = 2; i < c.argc; i++) {
    const left = c.argc - i - 1;
    if (c.is(i, 'asc')) options.descending = false;
    else if (c.is(i, 'desc')) options.descending = true;
    else if (c.is(i, 'alpha')) options.alpha = true;
    else if (c.is(i, 'limit') && left >= 2) {
      options.offset = c.intOrError(i + 1);
      if (Number.isNaN(options.offset)) return null;
      options.count = c.intOrError(i + 2);
      if (Number.isNaN(options.count)) return null;
      i += 2;
    } else if (storing && c.is(i, 'store') && left >= 1) options.store = ++i;
    else if (c.is(i, 'by') && left >= 1) options.by = c.copy(++i);
    else if (c.is(i, 'get') && left >= 1) options.get.push(c.copy(++i));
    else {
      c.reply.error(ERR_SYNTAX);
      return null;
    }
  }
  return options;
}

/** The string or hash field that a pattern names with an element in the place of its star; null if there is none. */
function lookup(c: CommandContext, pattern: Uint8Array, element: Uint8Array): Uint8Array | null {
  if (pattern.length === 1 && pattern[0] === HASH_SIGN) return element;
  const star = pattern.indexOf(STAR);
  if (star < 0) return null;
  const text = Buffer.from(pattern.buffer, pattern.byteOffset, pattern.length);
  const arrow = text.indexOf('->', star + 1, 'latin1');
  // an arrow with nothing behind it belongs to the key
  const fielded = arrow >= 0 && arrow + 2 < pattern.length;
  const end = fielded ? arrow : pattern.length;
  const key = Buffer.concat([pattern.subarray(0, star), element, pattern.subarray(star + 1, end)]);
  const entry = c.db.lookupRead(key, 0, key.length);
  if (entry === 0) return null;
  const type = c.db.typeOf(entry);
  if (!fielded) return type === TYPE_STRING ? c.db.stringOf(entry) : null;
  if (type !== TYPE_HASH) return null;
  const hash = c.db.objectOf(entry) as HashValue;
  const position = hash.find(pattern, arrow + 2, pattern.length - arrow - 2);
  if (position < 0) return null;
  const slice = { bytes: EMPTY, at: 0, length: 0 };
  hash.readValue(position, slice);
  return slice.bytes.slice(slice.at, slice.at + slice.length);
}

function compare(a: Item, b: Item, alpha: boolean): number {
  if (!alpha && a.score !== b.score) return a.score < b.score ? -1 : 1;
  if (alpha) {
    if (a.key === null || b.key === null) {
      if (a.key !== b.key) return a.key === null ? -1 : 1;
    } else {
      const order = Buffer.compare(a.key, b.key);
      if (order !== 0) return order;
    }
  }
  return Buffer.compare(a.element, b.element);
}

/** Find what each item is sorted by; false, and the error replied, if a number is wanted and there is none. */
function score(c: CommandContext, items: readonly Item[], options: Options): boolean {
  for (const item of items) {
    item.key = options.by === null ? item.element : lookup(c, options.by, item.element);
    if (options.alpha || item.key === null) continue;
    item.score = parseDouble(item.key, 0, item.key.length);
    if (Number.isNaN(item.score)) {
      c.reply.error("ERR One or more scores can't be converted into double");
      return false;
    }
  }
  return true;
}

/** The elements in order; null if an error has been replied. */
function sorted(c: CommandContext, value: StoredValue, options: Options): Uint8Array[] | null {
  const items: Item[] = [];
  for (const element of value.elements?.() ?? []) items.push({ element: element.slice(), score: 0, key: null });
  let unsorted = options.by !== null && !options.by.includes(STAR);
  if (unsorted && value.type.id === TYPE_SET && options.store >= 0) {
    // a set has no order: what is stored is sorted all the same, so that it is the same each time
    unsorted = false;
    options.by = null;
    options.alpha = true;
  }
  if (unsorted) {
    // what has an order of its own may be walked backwards
    if (value.type.id !== TYPE_SET && options.descending) items.reverse();
  } else {
    if (!score(c, items, options)) return null;
    const direction = options.descending ? -1 : 1;
    items.sort((a, b) => direction * compare(a, b, options.alpha));
  }
  const start = Math.min(Math.max(options.offset, 0), items.length);
  const end = options.count < 0 ? items.length : Math.min(start + options.count, items.length);
  return items.slice(start, end).map(({ element }) => element);
}

function sort(c: CommandContext, storing: boolean): void {
  const options = readOptions(c, storing);
  if (options === null) return;
  const entry = c.db.lookupRead(c.input, c.off[1]!, c.len[1]!);
  let elements: Uint8Array[] | null = [];
  if (entry !== 0) {
    const type = c.db.typeOf(entry);
    if (type === TYPE_STRING || type === TYPE_HASH) {
      c.reply.error(ERR_WRONG_TYPE);
      return;
    }
    elements = sorted(c, c.db.objectOf(entry), options);
    if (elements === null) return;
  }
  const { get } = options;
  const output: (Uint8Array | null)[] = [];
  for (const element of elements) {
    if (get.length === 0) output.push(element);
    else for (const pattern of get) output.push(lookup(c, pattern, element));
  }
  if (options.store < 0) {
    c.reply.array(output.length);
    for (const bytes of output) {
      if (bytes === null) c.reply.nil();
      else c.reply.bytesBulk(bytes);
    }
    return;
  }
  const list = new ListValue();
  for (const bytes of output) list.pushTail(bytes ?? EMPTY, 0, bytes?.length ?? 0);
  if (list.size > 0) c.put(options.store, list);
  else c.remove(options.store);
  c.reply.int(list.size);
}

const command = family('generic');
const SUMMARY = 'Sorts the elements in a list, a set, or a sorted set';

export const sortCommands: readonly CommandSpec[] = [
  command(
    'sort',
    -2,
    FLAG.WRITE | FLAG.DENYOOM | FLAG.MOVABLEKEYS,
    ONE_KEY,
    (c) => sort(c, true),
    `${SUMMARY}, optionally storing the result.`,
  ),
  command('sort_ro', -2, FLAG.READONLY | FLAG.MOVABLEKEYS, ONE_KEY, (c) => sort(c, false), `${SUMMARY}, read-only.`),
];
