/**
 * The hash: fields with values. Small ones are packed in one buffer (redis's listpack), larger ones are a ByteTable.
 * Pure; a field found is named by its position, good until the hash changes.
 */

import type { Hasher } from '../store/hash.ts';
import { type StoredValue, TYPE_HASH, type ValueType } from '../store/value.ts';
import { ByteTable } from './byte-table.ts';
import { copyBytes, EMPTY, type Slice } from './bytes.ts';
import { findPackedPair, PACKED_ENTRIES, PACKED_LENGTH, PACKED_OVERHEAD, shiftPacked } from './packed.ts';
import type { Positions } from './positions.ts';

/** Up to here OBJECT ENCODING says listpack: redis's hash-max-listpack-entries default. */
const LISTPACK_ENTRIES = 512;

export class HashValue implements StoredValue {
  size = 0;
  /** The keyspace's; see StoredValue. */
  slot = -1;
  readonly #hasher: Hasher;
  #packed: Uint8Array = EMPTY;
  #used = 0;
  #table: ByteTable | null = null;
  /** Redis would still have it as a listpack, whose limit is higher there. */
  #listpack = true;

  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  get type(): ValueType<HashValue> {
    return HASH;
  }

  get bytes(): number {
    return this.#table === null ? PACKED_OVERHEAD + this.#packed.length : 80 + this.#table.bytes;
  }

  encoding(): string {
    return this.#listpack ? 'listpack' : 'hashtable';
  }

  /** Position of a field, or -1. */
  find(from: Uint8Array, at: number, length: number): number {
    const table = this.#table;
    if (table === null) return findPackedPair(this.#packed, this.#used, from, at, length);
    return table.find(table.hash(from, at, length), from, at, length);
  }

  /** Sets a field; true if it is new. */
  set(
    from: Uint8Array,
    at: number,
    length: number,
    valueFrom: Uint8Array,
    valueAt: number,
    valueLength: number,
  ): boolean {
    if (this.#table === null) {
      const position = findPackedPair(this.#packed, this.#used, from, at, length);
      if (position >= 0) {
        this.#replace(position, valueFrom, valueAt, valueLength);
        return false;
      }
      if (this.size < PACKED_ENTRIES && length <= PACKED_LENGTH && valueLength <= PACKED_LENGTH) {
        this.#append(from, at, length, valueFrom, valueAt, valueLength);
        return true;
      }
      this.#unpack();
    }
    if (length > PACKED_LENGTH || valueLength > PACKED_LENGTH) this.#listpack = false;
    const table = this.#table!;
    const hash = table.hash(from, at, length);
    const entry = table.find(hash, from, at, length);
    if (entry >= 0) {
      table.setValue(entry, valueFrom, valueAt, valueLength);
      return false;
    }
    table.addPair(hash, from, at, length, valueFrom, valueAt, valueLength);
    this.size = table.size;
    if (this.size > LISTPACK_ENTRIES) this.#listpack = false;
    return true;
  }

  /** Removes the field at a position. */
  removeAt(position: number): void {
    this.size--;
    if (this.#table !== null) {
      this.#table.remove(position);
      return;
    }
    const size = 2 + this.#packed[position]! + this.#packed[position + 1]!;
    shiftPacked(this.#packed, this.#used, position, -size);
    this.#used -= size;
  }

  readField(position: number, field: Slice): void {
    if (this.#table !== null) {
      this.#table.readKey(position, field);
      return;
    }
    field.bytes = this.#packed;
    field.at = position + 2;
    field.length = this.#packed[position]!;
  }

  readValue(position: number, value: Slice): void {
    if (this.#table !== null) {
      this.#table.readValue(position, value);
      return;
    }
    value.bytes = this.#packed;
    value.at = position + 2 + this.#packed[position]!;
    value.length = this.#packed[position + 1]!;
  }

  /** The first position of a walk over all fields; they follow by `next`. -1 when there is none. */
  first(): number {
    return this.size === 0 ? -1 : 0;
  }

  next(position: number): number {
    if (this.#table !== null) return position + 1 < this.size ? position + 1 : -1;
    const next = position + 2 + this.#packed[position]! + this.#packed[position + 1]!;
    return next < this.#used ? next : -1;
  }

  /** Position of the field that a walk meets after `index` others. */
  nth(index: number): number {
    if (this.#table !== null) return index;
    let position = 0;
    for (; index > 0; index--) position = this.next(position);
    return position;
  }

  /**
   * One step of a scan that began with cursor 0: collects about `count` positions, returns the next cursor, 0 at the
   * end. Every field that stays meanwhile is met; a small hash gives all at once, as redis does.
   */
  scan(cursor: number, count: number, into: Positions): number {
    if (!this.#listpack) return into.descend(cursor, count, this.size);
    for (let position = this.first(); position >= 0; position = this.next(position)) into.push(position);
    return 0;
  }

  clone(): HashValue {
    const copy = new HashValue(this.#hasher);
    copy.size = this.size;
    copy.#packed = this.#packed.slice(0, this.#used);
    copy.#used = this.#used;
    copy.#listpack = this.#listpack;
    copy.#table = this.#table === null ? null : this.#table.clone();
    return copy;
  }

  #append(
    from: Uint8Array,
    at: number,
    length: number,
    valueFrom: Uint8Array,
    valueAt: number,
    valueLength: number,
  ): void {
    const used = this.#used;
    const packed = shiftPacked(this.#packed, used, used, 2 + length + valueLength);
    packed[used] = length;
    packed[used + 1] = valueLength;
    copyBytes(packed, used + 2, from, at, length);
    copyBytes(packed, used + 2 + length, valueFrom, valueAt, valueLength);
    this.#packed = packed;
    this.#used = used + 2 + length + valueLength;
    this.size++;
  }

  #replace(position: number, from: Uint8Array, at: number, length: number): void {
    const fieldLength = this.#packed[position]!;
    if (length > PACKED_LENGTH) {
      this.#listpack = false;
      const packed = this.#packed;
      this.#unpack();
      const table = this.#table!;
      const hash = table.hash(packed, position + 2, fieldLength);
      table.setValue(table.find(hash, packed, position + 2, fieldLength), from, at, length);
      return;
    }
    const value = position + 2 + fieldLength;
    const growth = length - this.#packed[position + 1]!;
    if (growth !== 0) {
      this.#packed = shiftPacked(this.#packed, this.#used, value, growth);
      this.#packed[position + 1] = length;
      this.#used += growth;
    }
    copyBytes(this.#packed, value, from, at, length);
  }

  #unpack(): void {
    const table = new ByteTable(this.#hasher, true);
    const packed = this.#packed;
    for (let at = 0; at < this.#used; ) {
      const length = packed[at]!;
      const valueLength = packed[at + 1]!;
      const key = at + 2;
      table.addPair(table.hash(packed, key, length), packed, key, length, packed, key + length, valueLength);
      at = key + length + valueLength;
    }
    this.#table = table;
    this.#packed = EMPTY;
    this.#used = 0;
  }
}

export const HASH: ValueType<HashValue> = { id: TYPE_HASH, name: 'hash' };
