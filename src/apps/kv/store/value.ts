/**
 * What a value that is not a string must offer to be stored under a key: its type, its size and the memory it holds.
 * Types only, and the list of the types; it touches nothing.
 */

/** A kind of value. `V` is the class that holds it, so that lookups by type give the right class. */
export interface ValueType<V extends StoredValue = StoredValue> {
  /** Number kept in the key's entry; 0 is the string. */
  readonly id: number;
  /** Name as TYPE and SCAN … TYPE know it. */
  readonly name: string;
  /** Never set: it ties `V` to the descriptor for the type checker. */
  readonly holds?: V;
}

/** A hash, list, set or sorted set. One object is stored under at most one key. */
export interface StoredValue {
  readonly type: ValueType;
  /** Where the keyspace keeps the value; -1 while it is stored nowhere. Begins as -1; only the keyspace writes it. */
  slot: number;
  /** Number of elements. A value with none is deleted by `CommandContext.changed`. */
  readonly size: number;
  /** Estimate of the memory held, in bytes. Kept up to date by the value; read after each change for `maxmemory`. */
  readonly bytes: number;
  /** Name for OBJECT ENCODING. */
  encoding(): string;
  /** Deep copy for COPY. */
  clone(): StoredValue;
  /** Elements for SORT: list items, set members, sorted set members in order. Hashes leave it out. */
  elements?(): Iterable<Uint8Array>;
  /** Called once when the key is deleted, overwritten, expired or evicted: give back what the collector cannot. */
  release?(): void;
}

export const TYPE_STRING = 0;
export const TYPE_LIST = 1;
export const TYPE_SET = 2;
export const TYPE_ZSET = 3;
export const TYPE_HASH = 4;

/** Names by type id. */
export const TYPE_NAMES = ['string', 'list', 'set', 'zset', 'hash'] as const;
