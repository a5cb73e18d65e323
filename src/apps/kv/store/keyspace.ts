/**
 * One database: keys with their values, types, expiry and use, over a dictionary in the arena.
 * Pure; everything the sixteen databases share (clock, policy, objects, counters) is in the Store.
 */
import { copyWords, viewOf } from '../bytes.ts';
import { intLength, writeInt } from '../resp/number.ts';
import type { ReplyWriter } from '../resp/reply.ts';
import { CHUNK_SHIFT, UNIT_MASK } from './arena.ts';
import { Dict } from './dict.ts';
import { randomEntry } from './dict-walk.ts';
import { ExpiryList } from './expiry.ts';
import type { Store } from './store.ts';
import { type StoredValue, TYPE_STRING } from './value.ts';

/** Extra words of an entry. META: flags in the low 8 bits, LRU clock or LFU counter in the upper 24. */
export const META = 0;
const PLACE = 1;
/** Where the key of an entry begins: three words of the dictionary's and two of ours. */
const KEY_OFFSET = 20;
/** Bits of the flags. */
const TYPE_MASK = 7;
/** A string changed in place, which OBJECT ENCODING calls raw whatever its length. */
const RAW = 8;
/** A string that is no integer to OBJECT ENCODING even if it looks like one: the sum of INCRBYFLOAT. */
const TEXT = 32;
/** The key expires; PLACE is its place in the expiry list. */
const VOLATILE = 16;

/** An entry is the dictionary's reference: it holds until the key is next written or removed. */
export class Keyspace {
  readonly store: Store;
  /** Number of the database; SWAPDB exchanges two. */
  id: number;
  dict: Dict;
  expiry = new ExpiryList();

  constructor(store: Store, id: number) {
    this.store = store;
    this.id = id;
    this.dict = new Dict(store.arena, store.hasher, 2);
  }

  get arena() {
    return this.store.arena;
  }

  get hasher() {
    return this.store.hasher;
  }

  get count(): number {
    return this.dict.count;
  }

  /** Bytes held, without those of objects. */
  get bytes(): number {
    return this.dict.bytes + this.expiry.bytes;
  }

  // --- looking up

  /** The entry of a key for a reading command, 0 if there is none: counts a hit or a miss, marks it used, ends expired keys. */
  lookupRead(key: Uint8Array, offset: number, length: number): number {
    const { dict, store } = this;
    const entry = dict.find(key, offset, length);
    if (entry !== 0) {
      const words = dict.arena.words[entry >>> CHUNK_SHIFT]!;
      const at = ((entry & UNIT_MASK) << 1) + 3;
      const meta = words[at]!;
      if ((meta & VOLATILE) === 0 || !this.#expired(entry)) {
        store.hits++;
        // an LRU clock changes once a second, an LFU counter by chance each time
        if (store.touching && (store.lfu || ((meta ^ store.freshUse) & ~0xff) !== 0)) words[at] = store.used(meta);
        return entry;
      }
    }
    store.misses++;
    return 0;
  }

  /** Reply the value of an entry as a bulk string; false, and nothing done, if it is no string. */
  replyString(entry: number, reply: ReplyWriter): boolean {
    const { arena } = this.dict;
    const chunk = entry >>> CHUNK_SHIFT;
    const unit = entry & UNIT_MASK;
    const words = arena.words[chunk]!;
    const at = unit << 1;
    if ((words[at + 3]! & TYPE_MASK) !== TYPE_STRING) return false;
    reply.bulkView(arena.bytes[chunk]!, arena.views[chunk]!, (unit << 3) + KEY_OFFSET + words[at + 1]!, words[at + 2]!);
    return true;
  }

  /** Write an integer of at most 2^53 over a string, in place where it fits. The expiry stays. */
  overwriteInt(entry: number, value: number): void {
    const next = this.resizeString(entry, intLength(value), 0, 0);
    const chunk = next >>> CHUNK_SHIFT;
    const { words, bytes } = this.arena;
    const at = (next & UNIT_MASK) << 1;
    words[chunk]![at + 3]! &= ~(RAW | TEXT);
    writeInt(bytes[chunk]!, (at << 2) + KEY_OFFSET + words[chunk]![at + 1]!, value);
  }

  /** As `lookupRead`, without the counts. */
  lookupWrite(key: Uint8Array, offset: number, length: number): number {
    const entry = this.peek(key, offset, length);
    if (entry !== 0 && this.store.touching) this.#use(entry, this.dict.extra(entry, META));
    return entry;
  }

  /** The entry of a key, 0 if there is none; ends it if it has expired, and leaves no other trace. */
  peek(key: Uint8Array, offset: number, length: number): number {
    const entry = this.dict.find(key, offset, length);
    if (entry === 0) return 0;
    return (this.dict.extra(entry, META) & VOLATILE) !== 0 && this.#expired(entry) ? 0 : entry;
  }

  #use(entry: number, meta: number): void {
    const next = this.store.used(meta);
    if (next !== meta) this.dict.setExtra(entry, META, next);
  }

  /** Remove an entry whose time has passed. */
  #expired(entry: number): boolean {
    if (this.store.now <= this.expiry.time(this.dict.extra(entry, PLACE))) return false;
    this.expire(entry);
    return true;
  }

  /** Remove an entry because its time has passed. */
  expire(entry: number): void {
    this.store.expiredKeys++;
    this.store.onRemoved(this, entry);
    this.removeEntry(entry);
  }

  // --- reading an entry

  typeOf(entry: number): number {
    return this.dict.extra(entry, META) & TYPE_MASK;
  }

  objectOf(entry: number): StoredValue {
    return this.store.objects[this.dict.valueLength(entry)]!;
  }

  isRaw(entry: number): boolean {
    return (this.dict.extra(entry, META) & RAW) !== 0;
  }

  /** Mark a string as changed in place. */
  setRaw(entry: number): void {
    this.dict.setExtra(entry, META, this.dict.extra(entry, META) | RAW);
  }

  isText(entry: number): boolean {
    return (this.dict.extra(entry, META) & TEXT) !== 0;
  }

  /** Mark a string as no integer whatever it looks like. */
  setText(entry: number): void {
    this.dict.setExtra(entry, META, this.dict.extra(entry, META) | TEXT);
  }

  /** The 24 bits of use: LRU clock in seconds, or LFU minutes and counter. */
  useOf(entry: number): number {
    return this.dict.extra(entry, META) >>> 8;
  }

  setUse(entry: number, use: number): void {
    this.dict.setExtra(entry, META, (this.dict.extra(entry, META) & 0xff) | (use << 8));
  }

  /** Unix time in milliseconds at which the key expires, -1 if it does not. */
  expiryOf(entry: number): number {
    return (this.dict.extra(entry, META) & VOLATILE) === 0 ? -1 : this.expiry.time(this.dict.extra(entry, PLACE));
  }

  /** Bytes of a key and its value. */
  sizeOf(entry: number): number {
    const object = this.typeOf(entry) === TYPE_STRING ? 0 : this.objectOf(entry).bytes;
    return this.arena.sizeOf(entry) + 16 + object + (this.expiryOf(entry) < 0 ? 0 : 12);
  }

  /** A copy of a string. */
  stringOf(entry: number): Uint8Array {
    const start = this.dict.valueStart(entry);
    return this.dict.chunk(entry).slice(start, start + this.dict.valueLength(entry));
  }

  /** A copy of the key. */
  keyOf(entry: number): Uint8Array {
    const start = this.dict.keyStart(entry);
    return this.dict.chunk(entry).slice(start, start + this.dict.keyLength(entry));
  }

  // --- writing

  /**
   * Store a string, over whatever was there; gives its entry. The expiry ends unless `keepExpiry`. Throws ArenaFullError, and
   * changes nothing then.
   */
  putString(
    key: Uint8Array,
    offset: number,
    length: number,
    value: Uint8Array,
    valueOffset: number,
    valueLength: number,
    keepExpiry: boolean,
  ): number {
    const { dict, store } = this;
    const entry = dict.find(key, offset, length);
    if (entry === 0) {
      const fresh = dict.insert(key, offset, length, valueLength);
      dict.fill(fresh, value, valueOffset, valueLength);
      dict.setExtra(fresh, META, store.freshUse);
      return fresh;
    }
    const { arena } = dict;
    const chunk = entry >>> CHUNK_SHIFT;
    const unit = entry & UNIT_MASK;
    const words = arena.words[chunk]!;
    const at = unit << 1;
    const meta = words[at + 3]!;
    const fixed = KEY_OFFSET + length;
    const room = (words[at]! & ~7) - fixed;
    if ((meta & 0xff) === TYPE_STRING && valueLength <= room && room <= valueLength + 64) {
      // the usual case, written out for speed: over a string that does not expire and has the room
      words[at + 2] = valueLength;
      if (meta !== store.freshUse) words[at + 3] = store.replacedUse(meta);
      copyWords(
        value,
        viewOf(value),
        valueOffset,
        valueLength,
        arena.bytes[chunk]!,
        arena.views[chunk]!,
        (unit << 3) + fixed,
      );
      return entry;
    }
    return this.#replace(entry, meta, value, valueOffset, valueLength, keepExpiry);
  }

  /** Put a string in the place of whatever an entry holds; gives the entry, which may be a new one. */
  #replace(
    entry: number,
    meta: number,
    value: Uint8Array,
    offset: number,
    length: number,
    keepExpiry: boolean,
  ): number {
    const { dict } = this;
    const object = (meta & TYPE_MASK) === TYPE_STRING ? -1 : dict.valueLength(entry);
    const next = this.#resize(entry, length, 0, 0);
    dict.fill(next, value, offset, length);
    if (object >= 0) this.store.dropObject(object);
    if (!keepExpiry) this.persist(next);
    dict.setExtra(next, META, this.store.replacedUse(meta) | (dict.extra(next, META) & VOLATILE));
    return next;
  }

  /** Give the value of a string entry a length, keeping its first `keep` bytes; gives the entry, which may be a new one. */
  resizeString(entry: number, length: number, keep: number, slack: number): number {
    return this.#resize(entry, length, keep, slack);
  }

  #resize(entry: number, length: number, keep: number, slack: number): number {
    const next = this.dict.resize(entry, length, keep, slack);
    if (next !== entry && (this.dict.extra(next, META) & VOLATILE) !== 0)
      this.expiry.setEntry(this.dict.extra(next, PLACE), next);
    return next;
  }

  /** Store an object, over whatever was there; an expiry ends unless `keepExpiry`. */
  putObject(key: Uint8Array, offset: number, length: number, value: StoredValue, keepExpiry = false): number {
    const dict = this.dict;
    let entry = dict.find(key, offset, length);
    let meta = this.store.freshUse;
    if (entry === 0) entry = dict.insert(key, offset, length, 0);
    else {
      meta = dict.extra(entry, META);
      if ((meta & TYPE_MASK) !== TYPE_STRING) {
        if (this.objectOf(entry) === value) return entry;
        this.store.dropObject(dict.valueLength(entry));
      } else entry = this.#resize(entry, 0, 0, 0);
      if (!keepExpiry) this.persist(entry);
      meta = this.store.replacedUse(meta) | (dict.extra(entry, META) & VOLATILE);
    }
    dict.setExtra(entry, META, meta | value.type.id);
    // an object's slot stands where a string's length stands
    this.arena.words[entry >>> CHUNK_SHIFT]![((entry & UNIT_MASK) << 1) + 2] = this.store.keepObject(value);
    return entry;
  }

  /** Count the memory of an object anew after it changed. */
  account(value: StoredValue): void {
    this.store.account(value);
  }

  /** Remove a key; false if there was none (or it had expired). */
  remove(key: Uint8Array, offset: number, length: number): boolean {
    const entry = this.peek(key, offset, length);
    if (entry === 0) return false;
    this.removeEntry(entry);
    return true;
  }

  /** Remove an entry with its object and expiry. */
  removeEntry(entry: number): void {
    const meta = this.dict.extra(entry, META);
    if ((meta & TYPE_MASK) !== TYPE_STRING) this.store.dropObject(this.dict.valueLength(entry));
    if ((meta & VOLATILE) !== 0) this.#leaveExpiry(this.dict.extra(entry, PLACE));
    this.dict.removeEntry(entry);
  }

  /** Take the object out of an entry without releasing it, and remove the entry: for RENAME and MOVE. */
  takeObject(entry: number): StoredValue {
    const value = this.objectOf(entry);
    this.store.forgetObject(this.dict.valueLength(entry));
    this.dict.setExtra(entry, META, this.dict.extra(entry, META) & ~TYPE_MASK);
    this.removeEntry(entry);
    return value;
  }

  #leaveExpiry(place: number): void {
    const moved = this.expiry.remove(place);
    if (moved !== 0) this.dict.setExtra(moved, PLACE, place);
  }

  /** Let a key expire at a Unix time in milliseconds. */
  setExpiry(entry: number, time: number): void {
    const meta = this.dict.extra(entry, META);
    if ((meta & VOLATILE) !== 0) {
      this.expiry.setTime(this.dict.extra(entry, PLACE), time);
      return;
    }
    this.dict.setExtra(entry, PLACE, this.expiry.add(entry, time));
    this.dict.setExtra(entry, META, meta | VOLATILE);
  }

  /** End a key's expiry; false if it had none. */
  persist(entry: number): boolean {
    const meta = this.dict.extra(entry, META);
    if ((meta & VOLATILE) === 0) return false;
    this.#leaveExpiry(this.dict.extra(entry, PLACE));
    this.dict.setExtra(entry, META, meta & ~VOLATILE);
    return true;
  }

  /** A key taken at random that has not expired, 0 if there is none. */
  random(): number {
    for (let tries = 0; tries < 100; tries++) {
      const entry = randomEntry(this.dict, this.store.random);
      if (entry === 0 || (this.dict.extra(entry, META) & VOLATILE) === 0 || !this.#expired(entry)) return entry;
    }
    return 0;
  }

  /** Remove everything; the memory comes back bit by bit. */
  flush(): void {
    const { dict, store } = this;
    for (let slot = dict.first(); slot >= 0 && store.objectCount > 0; slot = dict.next(slot)) {
      const entry = dict.entryAt(slot);
      if (this.typeOf(entry) !== TYPE_STRING) store.dropObject(dict.valueLength(entry));
    }
    dict.clear();
    this.expiry = new ExpiryList();
  }
}
