/**
 * The set: integers only while small (redis's intset), else packed in one buffer, else a ByteTable without values.
 * Pure; a member found is named by its position, good until the set changes.
 */
import type { Hasher } from '../store/hash.ts';
import { type StoredValue, TYPE_SET, type ValueType } from '../store/value.ts';
import { ByteTable } from './byte-table.ts';
import { copyBytes, EMPTY, Slice } from './bytes.ts';
import { INT_SET_ENTRIES, IntSet, isInteger } from './int-set.ts';
import { findPacked, PACKED_ENTRIES, PACKED_LENGTH, PACKED_OVERHEAD, shiftPacked } from './packed.ts';
import type { Positions } from './positions.ts';

/** For the walks inside this file; readers elsewhere bring their own. */
const member = new Slice();

export class SetValue implements StoredValue {
  size = 0;
  /** The keyspace's; see StoredValue. */
  slot = -1;
  readonly #hasher: Hasher;
  /** At most one of these two is there; without either the members are packed. */
  #integers: IntSet | null = null;
  #table: ByteTable | null = null;
  #packed: Uint8Array = EMPTY;
  #used = 0;

  /** An empty set, which holds integers only until another member is added. */
  constructor(hasher: Hasher) {
    this.#hasher = hasher;
  }

  get type(): ValueType<SetValue> {
    return SET;
  }

  get bytes(): number {
    if (this.#table !== null) return 100 + this.#table.bytes;
    return PACKED_OVERHEAD + this.#packed.length + (this.#integers === null ? 0 : this.#integers.bytes);
  }

  /** Redis 7.0 has no packed form of sets, so that one passes for a hash table. */
  encoding(): string {
    return this.#integers !== null ? 'intset' : 'hashtable';
  }

  /** Position of a member, or -1. */
  find(from: Uint8Array, at: number, length: number): number {
    const table = this.#table;
    if (table !== null) return table.find(table.hash(from, at, length), from, at, length);
    if (this.#integers !== null) return this.#integers.find(from, at, length);
    return findPacked(this.#packed, this.#used, from, at, length);
  }

  /** Adds a member; false if it is there already. */
  add(from: Uint8Array, at: number, length: number): boolean {
    if (this.#table === null) {
      if (this.size === 0 && isInteger(from, at, length)) this.#integers ??= new IntSet();
      if (this.#integers !== null) {
        if (this.#integers.find(from, at, length) >= 0) return false;
        if (this.size < INT_SET_ENTRIES && isInteger(from, at, length)) {
          this.#integers.add(from, at, length);
          this.size++;
          return true;
        }
        this.#leaveIntegers();
      }
    }
    if (this.#table === null) {
      if (findPacked(this.#packed, this.#used, from, at, length) >= 0) return false;
      if (this.size < PACKED_ENTRIES && length <= PACKED_LENGTH) {
        this.#append(from, at, length);
        return true;
      }
      this.#unpack();
    }
    const table = this.#table!;
    const hash = table.hash(from, at, length);
    if (table.find(hash, from, at, length) >= 0) return false;
    table.add(hash, from, at, length);
    this.size++;
    return true;
  }

  /** Removes the member at a position. */
  removeAt(position: number): void {
    this.size--;
    if (this.#table !== null) {
      this.#table.remove(position);
    } else if (this.#integers !== null) {
      this.#integers.removeAt(position);
    } else {
      const size = 1 + this.#packed[position]!;
      shiftPacked(this.#packed, this.#used, position, -size);
      this.#used -= size;
    }
  }

  /** Points `into` at the member; good until the set changes or the next read of a set of integers. */
  read(position: number, into: Slice): void {
    if (this.#table !== null) {
      this.#table.readKey(position, into);
    } else if (this.#integers !== null) {
      this.#integers.read(position, into);
    } else {
      into.bytes = this.#packed;
      into.at = position + 1;
      into.length = this.#packed[position]!;
    }
  }

  /** The first position of a walk over all members; they follow by `next`. -1 when there is none. */
  first(): number {
    return this.size === 0 ? -1 : 0;
  }

  next(position: number): number {
    if (this.#table !== null || this.#integers !== null) return position + 1 < this.size ? position + 1 : -1;
    const next = position + 1 + this.#packed[position]!;
    return next < this.#used ? next : -1;
  }

  /** Position of the member that a walk meets after `index` others: with a random index, a fair random member. */
  nth(index: number): number {
    if (this.#table !== null || this.#integers !== null) return index;
    let position = 0;
    for (; index > 0; index--) position += 1 + this.#packed[position]!;
    return position;
  }

  /**
   * One step of a scan that began with cursor 0: collects about `count` positions, returns the next cursor, 0 at the
   * end. Every member that stays meanwhile is met; a small set gives all at once.
   */
  scan(cursor: number, count: number, into: Positions): number {
    if (this.#table !== null) return into.descend(cursor, count, this.size);
    for (let position = this.first(); position >= 0; position = this.next(position)) into.push(position);
    return 0;
  }

  clone(): SetValue {
    const copy = new SetValue(this.#hasher);
    copy.size = this.size;
    copy.#integers = this.#integers === null ? null : this.#integers.clone();
    copy.#table = this.#table === null ? null : this.#table.clone();
    copy.#packed = this.#packed.slice(0, this.#used);
    copy.#used = this.#used;
    return copy;
  }

  *elements(): Iterable<Uint8Array> {
    const each = new Slice();
    for (let position = this.first(); position >= 0; position = this.next(position)) {
      this.read(position, each);
      yield each.bytes.slice(each.at, each.at + each.length);
    }
  }

  #leaveIntegers(): void {
    const integers = this.#integers!;
    this.#integers = null;
    if (integers.size > PACKED_ENTRIES) this.#table = new ByteTable(this.#hasher, false);
    this.size = 0;
    for (let index = 0; index < integers.size; index++) {
      integers.read(index, member);
      if (this.#table === null) {
        this.#append(member.bytes, member.at, member.length);
      } else {
        this.#table.add(
          this.#table.hash(member.bytes, member.at, member.length),
          member.bytes,
          member.at,
          member.length,
        );
        this.size++;
      }
    }
  }

  #append(from: Uint8Array, at: number, length: number): void {
    const used = this.#used;
    const packed = shiftPacked(this.#packed, used, used, 1 + length);
    packed[used] = length;
    copyBytes(packed, used + 1, from, at, length);
    this.#packed = packed;
    this.#used = used + 1 + length;
    this.size++;
  }

  #unpack(): void {
    const table = new ByteTable(this.#hasher, false);
    const packed = this.#packed;
    for (let at = 0; at < this.#used; ) {
      const length = packed[at]!;
      table.add(table.hash(packed, at + 1, length), packed, at + 1, length);
      at += 1 + length;
    }
    this.#table = table;
    this.#packed = EMPTY;
    this.#used = 0;
  }
}

export const SET: ValueType<SetValue> = { id: TYPE_SET, name: 'set' };
