/**
 * The contract between the engine and a family of commands: how a command is declared and what its handler may use.
 * Pure: a handler touches the context, the keyspace behind it and the reply writer, nothing else.
 */
import type { Engine } from './engine.ts';
import { ERR_NOT_FLOAT, ERR_NOT_INTEGER, ERR_WRONG_TYPE } from './resp/errors.ts';
import { parseDouble, parseInt64 } from './resp/number.ts';
import type { ReplyWriter } from './resp/reply.ts';
import type { Session } from './session.ts';
import type { Keyspace } from './store/keyspace.ts';
import { type StoredValue, TYPE_STRING, type ValueType } from './store/value.ts';

/** Command flags; the names are those COMMAND INFO shows. */
export const FLAG = {
  WRITE: 1 << 0,
  READONLY: 1 << 1,
  DENYOOM: 1 << 2,
  ADMIN: 1 << 3,
  FAST: 1 << 4,
  NOSCRIPT: 1 << 5,
  LOADING: 1 << 6,
  STALE: 1 << 7,
  NO_AUTH: 1 << 8,
  NO_MULTI: 1 << 9,
  MOVABLEKEYS: 1 << 10,
  ALLOW_BUSY: 1 << 11,
  SKIP_SLOWLOG: 1 << 12,
  NO_ASYNC_LOADING: 1 << 13,
  NO_MANDATORY_KEYS: 1 << 14,
  TOUCHES_ARBITRARY_KEYS: 1 << 15,
  SKIP_MONITOR: 1 << 16,
} as const;

export type CommandHandler = (c: CommandContext) => void;

/** One command, declared as data. */
export interface CommandSpec {
  /** Lower case. A subcommand is named `container|sub`. */
  readonly name: string;
  /** As in redis: the exact number of arguments with the name, or minus the least number. */
  readonly arity: number;
  /** Sum of FLAG bits. */
  readonly flags: number;
  /** Positions of keys: first, last (negative counts from the end), step. All 0 where there are none. */
  readonly first: number;
  readonly last: number;
  readonly step: number;
  /** Group and one line for COMMAND DOCS. */
  readonly group: string;
  readonly summary: string;
  readonly run: CommandHandler;
  readonly subcommands?: readonly CommandSpec[];
}

/** What a handler is given. One per engine, reused for each command: keep nothing of it beyond the call. */
export class CommandContext {
  readonly engine: Engine;
  reply: ReplyWriter;
  /** The bytes that hold the arguments: argument i is `input[off[i] .. off[i]+len[i])`; 0 is the command's name. */
  input: Uint8Array = new Uint8Array(0);
  argc = 0;
  off: Int32Array = new Int32Array(1024);
  len: Int32Array = new Int32Array(1024);
  session: Session;
  /** The selected database. */
  db: Keyspace;
  /** Unix time in milliseconds, fixed during a command. */
  now = 0;

  constructor(engine: Engine, reply: ReplyWriter, session: Session, db: Keyspace) {
    this.engine = engine;
    this.reply = reply;
    this.session = session;
    this.db = db;
  }

  // --- arguments

  /** Argument i equals `word` (lower case ASCII), whatever its case. Makes no string. */
  is(i: number, word: string): boolean {
    const n = word.length;
    if (this.len[i] !== n) return false;
    const input = this.input;
    const at = this.off[i]!;
    for (let j = 0; j < n; j++) {
      let byte = input[at + j]!;
      if (byte >= 65 && byte <= 90) byte |= 32;
      if (byte !== word.charCodeAt(j)) return false;
    }
    return true;
  }

  /** First byte of argument i, or 0 if it is empty. */
  first(i: number): number {
    return this.len[i] === 0 ? 0 : this.input[this.off[i]!]!;
  }

  /** Argument i as a 64-bit integer (rounded beyond 2^53), NaN if it is none. Replies nothing. */
  int(i: number): number {
    return parseInt64(this.input, this.off[i]!, this.len[i]!);
  }

  /** As `int`; where it gives NaN the error has been replied. */
  intOrError(i: number, error: string = ERR_NOT_INTEGER): number {
    const value = parseInt64(this.input, this.off[i]!, this.len[i]!);
    if (Number.isNaN(value)) this.reply.error(error);
    return value;
  }

  /** Argument i as a double, NaN if it is none. Replies nothing. */
  double(i: number): number {
    return parseDouble(this.input, this.off[i]!, this.len[i]!);
  }

  /** As `double`; where it gives NaN the error has been replied. */
  doubleOrError(i: number, error: string = ERR_NOT_FLOAT): number {
    const value = parseDouble(this.input, this.off[i]!, this.len[i]!);
    if (Number.isNaN(value)) this.reply.error(error);
    return value;
  }

  /** Argument i as a copy that may be kept. */
  copy(i: number): Uint8Array {
    return this.input.slice(this.off[i]!, this.off[i]! + this.len[i]!);
  }

  /** Argument i as a view; valid during the command only. */
  view(i: number): Uint8Array {
    return this.input.subarray(this.off[i]!, this.off[i]! + this.len[i]!);
  }

  /** Argument i as text, a character per byte. Not for hot paths. */
  text(i: number): string {
    let text = '';
    const at = this.off[i]!;
    for (let j = 0; j < this.len[i]!; j++) text += String.fromCharCode(this.input[at + j]!);
    return text;
  }

  /** Argument i as C's `%.*s` prints it in an error: up to a NUL, at most `max` characters. */
  shown(i: number, max = 128): string {
    const text = this.text(i);
    const nul = text.indexOf('\0');
    return text.slice(0, nul >= 0 && nul < max ? nul : max);
  }

  // --- values under keys; `i` is the argument that names the key

  /**
   * The value under key i for a reading command: null if there is no such key; undefined if it holds another type, and then
   * the error has been replied. Counts a hit or a miss and marks the key as used.
   */
  read<V extends StoredValue>(i: number, type: ValueType<V>): V | null | undefined {
    const db = this.db;
    const entry = db.lookupRead(this.input, this.off[i]!, this.len[i]!);
    if (entry === 0) return null;
    if (db.typeOf(entry) === type.id) return db.objectOf(entry) as V;
    this.reply.error(ERR_WRONG_TYPE);
    return undefined;
  }

  /** As `read`, for a command that will change the value: does not count hits and misses. */
  write<V extends StoredValue>(i: number, type: ValueType<V>): V | null | undefined {
    const db = this.db;
    const entry = db.lookupWrite(this.input, this.off[i]!, this.len[i]!);
    if (entry === 0) return null;
    if (db.typeOf(entry) === type.id) return db.objectOf(entry) as V;
    this.reply.error(ERR_WRONG_TYPE);
    return undefined;
  }

  /** Type id of the value under key i (see store/value.ts), -1 if there is none. For commands that take several types. */
  typeAt(i: number): number {
    const entry = this.db.lookupWrite(this.input, this.off[i]!, this.len[i]!);
    return entry === 0 ? -1 : this.db.typeOf(entry);
  }

  /** The object under key i whatever its type; null if there is none or it is a string. */
  objectAt(i: number): StoredValue | null {
    const entry = this.db.lookupRead(this.input, this.off[i]!, this.len[i]!);
    return entry === 0 || this.db.typeOf(entry) === TYPE_STRING ? null : this.db.objectOf(entry);
  }

  /**
   * Store a new value under key i, over whatever was there; an expiry of the key ends.
   * The value must not be empty. Counts as a change: call `changed` only for changes made afterwards.
   */
  put(i: number, value: StoredValue): void {
    this.db.putObject(this.input, this.off[i]!, this.len[i]!, value);
    this.signal(i);
  }

  /**
   * The value under key i (got from `read`, `write` or `put`) was changed: accounts its memory, deletes the key if the value
   * is empty, tells watchers. `changes` is added to the count of changes (`rdb_changes_since_last_save`).
   */
  changed(i: number, value: StoredValue, changes = 1): void {
    this.engine.dirty += changes;
    if (value.size === 0) this.db.remove(this.input, this.off[i]!, this.len[i]!);
    else this.db.account(value);
    this.engine.touched(this.db, this.input, this.off[i]!, this.len[i]!);
  }

  /** Delete key i; false if there was none. */
  remove(i: number): boolean {
    if (!this.db.remove(this.input, this.off[i]!, this.len[i]!)) return false;
    this.signal(i);
    return true;
  }

  /** Count one change and tell those who watch key i. `put`, `changed` and `remove` do it themselves. */
  signal(i: number): void {
    this.engine.dirty++;
    this.engine.touched(this.db, this.input, this.off[i]!, this.len[i]!);
  }

  // --- randomness

  /** A random integer in [0, n), n at most 2^31. */
  randomBelow(n: number): number {
    return this.engine.randomBelow(n);
  }
}
