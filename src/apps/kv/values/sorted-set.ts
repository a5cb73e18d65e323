/**
 * The sorted set: members in the order of (score, member). Small ones are packed in that order (redis's listpack), larger
 * ones are a ByteTable of members with a B+ tree over it. Pure; a member found is named by its position: its rank in the
 * small form, its entry in the large one, good until the set changes.
 */
import type { Hasher } from '../store/hash.ts';
import { type StoredValue, TYPE_ZSET, type ValueType } from '../store/value.ts';
import { ByteTable } from './byte-table.ts';
import { compareBytes, copyBytes, EMPTY, equalBytes, Slice } from './bytes.ts';
import { PACKED_ENTRIES, PACKED_LENGTH, PACKED_OVERHEAD, shiftPacked } from './packed.ts';
import type { Positions } from './positions.ts';
import { OrderCursor } from './score-node.ts';
import { ScoreOrder } from './score-order.ts';

const NO_SCORES = new Float64Array(0);

/** The large form. */
interface Large {
  readonly table: ByteTable;
  readonly order: ScoreOrder;
}

/** A place in a sorted set while it does not change. */
export class SortedSetCursor {
  /** The member it stands on. */
  readonly member = new Slice();
  score = 0;
  position = 0;
  readonly #offsets = new Int32Array(PACKED_ENTRIES);
  readonly #order = new OrderCursor();
  #packed: Uint8Array = EMPTY;
  #scores: Float64Array = NO_SCORES;
  #size = 0;
  #table: ByteTable | null = null;

  /** For SortedSetValue.seek. */
  setPacked(packed: Uint8Array, scores: Float64Array, size: number, rank: number): void {
    this.#table = null;
    this.#packed = packed;
    this.#scores = scores;
    this.#size = size;
    let offset = 0;
    for (let i = 0; i < size; i++) {
      this.#offsets[i] = offset;
      offset += packed[offset]! + 1;
    }
    this.#stand(rank);
  }

  /** For SortedSetValue.seek. */
  setLarge(large: Large, rank: number): void {
    this.#table = large.table;
    large.order.seek(rank, this.#order);
    this.#standLarge(large.table);
  }

  /** Goes one member up; false past the end. */
  forward(): boolean {
    if (this.#table !== null) {
      if (!this.#order.forward()) return false;
      this.#standLarge(this.#table);
      return true;
    }
    if (this.position + 1 >= this.#size) return false;
    this.#stand(this.position + 1);
    return true;
  }

  /** Goes one member down; false past the beginning. */
  backward(): boolean {
    if (this.#table !== null) {
      if (!this.#order.backward()) return false;
      this.#standLarge(this.#table);
      return true;
    }
    if (this.position === 0) return false;
    this.#stand(this.position - 1);
    return true;
  }

  #stand(rank: number): void {
    const offset = this.#offsets[rank]!;
    this.position = rank;
    this.score = this.#scores[rank]!;
    this.member.bytes = this.#packed;
    this.member.at = offset + 1;
    this.member.length = this.#packed[offset]!;
  }

  #standLarge(table: ByteTable): void {
    this.position = this.#order.entry;
    this.score = this.#order.score;
    table.readKey(this.position, this.member);
  }
}

export class SortedSetValue implements StoredValue {
  size = 0;
  /** The keyspace's; see StoredValue. */
  slot = -1;
  readonly #hasher: Hasher;
  /** Small form: records [length, member] in order, and their scores. */
  #packed: Uint8Array = EMPTY;
  #used = 0;
  #scores: Float64Array = NO_SCORES;
  #large: Large | null = null;

  #stored: boolean;

  /** `stored` is false for a result under way: redis keeps negative zeros in those. */
  constructor(hasher: Hasher, stored = true) {
    this.#hasher = hasher;
    this.#stored = stored;
  }

  /** Makes a result ready to be stored. A listpack keeps whole scores as integers, which have no negative zero. */
  settle(): void {
    this.#stored = true;
    if (this.#large === null) for (let rank = 0; rank < this.size; rank++) this.#scores[rank]! += 0;
  }

  get type(): ValueType<SortedSetValue> {
    return ZSET;
  }

  get bytes(): number {
    const large = this.#large;
    if (large !== null) return 300 + large.table.bytes + large.order.bytes;
    return PACKED_OVERHEAD + 150 + this.#packed.length + 8 * this.#scores.length;
  }

  encoding(): string {
    return this.#large === null ? 'listpack' : 'skiplist';
  }

  /** Position of a member, or -1. */
  find(from: Uint8Array, at: number, length: number): number {
    const large = this.#large;
    if (large !== null) return large.table.find(large.table.hash(from, at, length), from, at, length);
    const packed = this.#packed;
    let offset = 0;
    for (let rank = 0; rank < this.size; rank++) {
      const size = packed[offset]!;
      if (size === length && equalBytes(packed, offset + 1, from, at, length)) return rank;
      offset += size + 1;
    }
    return -1;
  }

  /** Adds a member that is not there; the score must be a number. */
  add(score: number, from: Uint8Array, at: number, length: number): void {
    if (this.#large === null) {
      if (this.size < PACKED_ENTRIES && length <= PACKED_LENGTH) {
        this.#insertPacked(score, from, at, length);
        return;
      }
      this.#unpack();
    }
    const { table, order } = this.#large!;
    order.insert(table.add(table.hash(from, at, length), from, at, length), score);
    this.size++;
  }

  /** Gives the member at a position another score; positions are then no longer good. */
  update(position: number, score: number): void {
    if (this.#large !== null) {
      this.#large.order.update(position, score);
      return;
    }
    const offset = this.#offsetOf(position);
    const length = this.#packed[offset]!;
    for (let i = 0; i < length; i++) moving[i] = this.#packed[offset + 1 + i]!;
    this.removeAt(position);
    this.#insertPacked(score, moving, 0, length);
  }

  removeAt(position: number): void {
    this.size--;
    if (this.#large !== null) {
      const { table, order } = this.#large;
      order.remove(position);
      const last = table.remove(position);
      if (last !== position) order.renumber(last, position);
      return;
    }
    const offset = this.#offsetOf(position);
    const size = 1 + this.#packed[offset]!;
    shiftPacked(this.#packed, this.#used, offset, -size);
    this.#used -= size;
    this.#scores.copyWithin(position, position + 1, this.size + 1);
  }

  scoreAt(position: number): number {
    return this.#large === null ? this.#scores[position]! : this.#large.order.scoreOf(position);
  }

  /** How many members come before the one at a position. */
  rankAt(position: number): number {
    return this.#large === null ? position : this.#large.order.rankOf(position);
  }

  /** Points `member` at the member at a position; good until the set changes. */
  read(position: number, member: Slice): void {
    if (this.#large !== null) {
      this.#large.table.readKey(position, member);
      return;
    }
    const offset = this.#offsetOf(position);
    member.bytes = this.#packed;
    member.at = offset + 1;
    member.length = this.#packed[offset]!;
  }

  /** Sets the cursor on the member of a rank, 0 <= rank < size. */
  seek(rank: number, cursor: SortedSetCursor): void {
    if (this.#large !== null) cursor.setLarge(this.#large, rank);
    else cursor.setPacked(this.#packed, this.#scores, this.size, rank);
  }

  /** How many members have a score below this one, or not above it. */
  countBelowScore(score: number, inclusive: boolean): number {
    if (this.#large !== null) return this.#large.order.countBelowScore(score, inclusive);
    const scores = this.#scores;
    let rank = 0;
    while (rank < this.size && (scores[rank]! < score || (inclusive && scores[rank] === score))) rank++;
    return rank;
  }

  /** How many members sort before this one, or not after it; of use where all scores are the same. */
  countBelowMember(from: Uint8Array, at: number, length: number, inclusive: boolean): number {
    if (this.#large !== null) return this.#large.order.countBelowMember(from, at, length, inclusive);
    const packed = this.#packed;
    let offset = 0;
    let rank = 0;
    for (; rank < this.size; rank++) {
      const order = compareBytes(packed, offset + 1, packed[offset]!, from, at, length);
      if (order > 0 || (order === 0 && !inclusive)) break;
      offset += packed[offset]! + 1;
    }
    return rank;
  }

  /**
   * One step of a scan that began with cursor 0: collects about `count` positions, returns the next cursor, 0 at the
   * end. Every member that stays meanwhile is met; a small set gives all at once, as redis does.
   */
  scan(cursor: number, count: number, into: Positions): number {
    if (this.#large !== null) return into.descend(cursor, count, this.size);
    for (let position = 0; position < this.size; position++) into.push(position);
    return 0;
  }

  clone(): SortedSetValue {
    const copy = new SortedSetValue(this.#hasher);
    copy.size = this.size;
    copy.#packed = this.#packed.slice(0, this.#used);
    copy.#used = this.#used;
    copy.#scores = this.#scores.slice(0, this.#large === null ? this.size : 0);
    if (this.#large !== null) {
      const table = this.#large.table.clone();
      const order = new ScoreOrder(table);
      const cursor = new OrderCursor();
      this.#large.order.seek(0, cursor);
      do order.insert(cursor.entry, cursor.score);
      while (cursor.forward());
      copy.#large = { table, order };
    }
    return copy;
  }

  *elements(): Iterable<Uint8Array> {
    if (this.size === 0) return;
    const cursor = new SortedSetCursor();
    this.seek(0, cursor);
    do {
      const { bytes, at, length } = cursor.member;
      yield bytes.slice(at, at + length);
    } while (cursor.forward());
  }

  #offsetOf(rank: number): number {
    const packed = this.#packed;
    let offset = 0;
    for (; rank > 0; rank--) offset += packed[offset]! + 1;
    return offset;
  }

  #insertPacked(score: number, from: Uint8Array, at: number, length: number): void {
    if (this.#stored) score += 0;
    const size = this.size;
    let scores = this.#scores;
    let rank = size;
    while (rank > 0 && scores[rank - 1]! >= score) rank--;
    let offset = rank === size ? this.#used : this.#offsetOf(rank);
    while (rank < size && scores[rank] === score) {
      const other = this.#packed[offset]!;
      if (compareBytes(this.#packed, offset + 1, other, from, at, length) > 0) break;
      offset += other + 1;
      rank++;
    }
    if (size === scores.length) {
      scores = new Float64Array(size === 0 ? 2 : size * 2);
      scores.set(this.#scores);
      this.#scores = scores;
    }
    for (let i = size; i > rank; i--) scores[i] = scores[i - 1]!;
    scores[rank] = score;
    const packed = shiftPacked(this.#packed, this.#used, offset, length + 1);
    packed[offset] = length;
    copyBytes(packed, offset + 1, from, at, length);
    this.#packed = packed;
    this.#used += length + 1;
    this.size = size + 1;
  }

  #unpack(): void {
    const table = new ByteTable(this.#hasher, false);
    const order = new ScoreOrder(table);
    const packed = this.#packed;
    let offset = 0;
    for (let rank = 0; rank < this.size; rank++) {
      const length = packed[offset]!;
      order.insert(table.add(table.hash(packed, offset + 1, length), packed, offset + 1, length), this.#scores[rank]!);
      offset += length + 1;
    }
    this.#large = { table, order };
    this.#packed = EMPTY;
    this.#scores = NO_SCORES;
    this.#used = 0;
  }
}

/** A packed member on its way to another rank. */
const moving = new Uint8Array(PACKED_LENGTH);

export const ZSET: ValueType<SortedSetValue> = { id: TYPE_ZSET, name: 'zset' };
