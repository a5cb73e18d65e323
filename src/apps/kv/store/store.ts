/**
 * What the databases share: the arena, the objects, the clock, how use is recorded, the counters.
 * Pure; time and randomness come from outside.
 */
import { Arena } from './arena.ts';
import { Hasher } from './hash.ts';
import { Keyspace } from './keyspace.ts';
import type { StoredValue } from './value.ts';

/** Databases where nobody says how many. */
export const DATABASES = 16;

/** LFU counters of new keys, and how counters grow and decay (redis: lfu-log-factor, lfu-decay-time in minutes). */
const LFU_INITIAL = 5;

export class Store {
  readonly arena = new Arena();
  readonly hasher: Hasher;
  /** 32 random bits. */
  readonly random: () => number;
  readonly keyspaces: Keyspace[] = [];
  /** Objects by slot; entries of keys that are no strings hold the slot. */
  readonly objects: (StoredValue | null)[] = [];
  /** Bytes of each object as last accounted. */
  readonly #objectBytes: number[] = [];
  readonly #freeSlots: number[] = [];
  objectCount = 0;
  objectBytes = 0;
  /** Unix time in milliseconds. */
  now = 0;
  /** Reads mark keys as used; off while a CLIENT NO-TOUCH session is served. */
  touching = true;
  /** Use is recorded as an LFU counter instead of an LRU clock. */
  lfu = false;
  lfuLogFactor = 10;
  lfuDecayMinutes = 1;
  /** META word of a new string. */
  freshUse = 0;
  hits = 0;
  misses = 0;
  expiredKeys = 0;
  evictedKeys = 0;
  /** Called before an entry is removed by expiry or eviction. */
  onRemoved: (keyspace: Keyspace, entry: number) => void = () => {};

  constructor(random: () => number, databases: number = DATABASES) {
    this.random = random;
    this.hasher = new Hasher(random(), random());
    for (let id = 0; id < databases; id++) this.keyspaces.push(new Keyspace(this, id));
  }

  /** Set the clock. */
  setTime(now: number): void {
    this.now = now;
    this.#refreshUse();
  }

  /** Record use as LFU counters or as LRU clocks from now on. */
  setLfu(lfu: boolean): void {
    this.lfu = lfu;
    this.#refreshUse();
  }

  #refreshUse(): void {
    this.freshUse = (this.lfu ? (this.#lfuMinutes() << 16) | (LFU_INITIAL << 8) : (this.now / 1000) << 8) | 0;
  }

  #lfuMinutes(): number {
    return Math.floor(this.now / 60000) & 0xffff;
  }

  /** LRU clock: seconds, 24 bits. */
  get lruClock(): number {
    return Math.floor(this.now / 1000) & 0xffffff;
  }

  /** META word of a key that is used now. */
  used(meta: number): number {
    if (!this.lfu) return this.freshUse | (meta & 0xff);
    let counter = this.lfuCounter(meta >>> 8);
    if (counter < 255) {
      const above = counter < LFU_INITIAL ? 0 : counter - LFU_INITIAL;
      if ((this.random() >>> 0) / 4294967296 < 1 / (above * this.lfuLogFactor + 1)) counter++;
    }
    return (this.#lfuMinutes() << 16) | (counter << 8) | (meta & 0xff);
  }

  /** META word, flags clear, of a key whose value is replaced: an LFU counter lives on. */
  replacedUse(meta: number): number {
    return this.lfu ? this.used(meta) & ~0xff : this.freshUse;
  }

  /** The LFU counter in the 24 bits of use, after its decay. */
  lfuCounter(use: number): number {
    const counter = use & 0xff;
    const elapsed = (this.#lfuMinutes() - (use >>> 8)) & 0xffff;
    const periods = this.lfuDecayMinutes === 0 ? 0 : Math.floor(elapsed / this.lfuDecayMinutes);
    return periods > counter ? 0 : counter - periods;
  }

  /** Seconds since a key was used, from its 24 bits of use as LRU clock. */
  idleSeconds(use: number): number {
    return (this.lruClock - use) & 0xffffff;
  }

  // --- memory

  /** Bytes of the data: entries, tables, expiry and objects. What maxmemory bounds. */
  memory(): number {
    let bytes = this.objectBytes;
    for (let i = 0; i < this.keyspaces.length; i++) bytes += this.keyspaces[i]!.bytes;
    return bytes;
  }

  // --- objects

  /** Keep an object; gives its slot. */
  keepObject(value: StoredValue): number {
    const slot = this.#freeSlots.length > 0 ? this.#freeSlots.pop()! : this.objects.length;
    this.objects[slot] = value;
    this.#objectBytes[slot] = value.bytes;
    this.objectBytes += value.bytes;
    this.objectCount++;
    value.slot = slot;
    return slot;
  }

  /** Take the bytes of an object anew. */
  account(value: StoredValue): void {
    const slot = value.slot;
    const bytes = value.bytes;
    this.objectBytes += bytes - this.#objectBytes[slot]!;
    this.#objectBytes[slot] = bytes;
  }

  /** Let go of an object and release what it holds. */
  dropObject(slot: number): void {
    const value = this.objects[slot]!;
    this.forgetObject(slot);
    value.release?.();
  }

  /** Let go of an object that lives on elsewhere. */
  forgetObject(slot: number): void {
    this.objects[slot]!.slot = -1;
    this.objects[slot] = null;
    this.objectBytes -= this.#objectBytes[slot]!;
    this.#objectBytes[slot] = 0;
    this.objectCount--;
    this.#freeSlots.push(slot);
  }

  // --- upkeep

  /** Exchange two databases. */
  swap(a: number, b: number): void {
    const first = this.keyspaces[a]!;
    const second = this.keyspaces[b]!;
    first.id = b;
    second.id = a;
    this.keyspaces[a] = second;
    this.keyspaces[b] = first;
  }

  /** Some steps of the rehashes under way and of freeing what was discarded; true while there is more to do. */
  tidy(slots: number): boolean {
    let more = this.arena.reap(slots);
    for (const keyspace of this.keyspaces)
      if (keyspace.dict.old !== null && keyspace.dict.rehashStep(slots)) more = true;
    return more;
  }
}
