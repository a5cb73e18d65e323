/**
 * Makes room under maxmemory by the sampled policies of redis: LRU, LFU, TTL with a pool of candidates, and random.
 * Pure; a call does bounded work, and says when there is more to do or nothing left to evict.
 */
import type { Config, Policy } from '../config.ts';
import { randomEntry } from './dict-walk.ts';
import { type Keyspace, META } from './keyspace.ts';
import type { Store } from './store.ts';

const POOL = 16;
/** Keys removed by one call: at about a microsecond each the pause stays short (redis: maxmemory-eviction-tenacity). */
const ROUND_MAX = 512;

export const ROOM = 0;
/** Still over the limit, but the next call goes on. */
export const MORE = 1;
/** Still over the limit, and the policy finds nothing to remove. */
export const NOTHING = 2;
export type EvictionResult = typeof ROOM | typeof MORE | typeof NOTHING;

/** Candidates in rising order of score: the best to evict is the last. Each may be gone by the time it is drawn. */
export class Evictor {
  readonly #store: Store;
  readonly #config: Config;
  readonly #score = new Float64Array(POOL);
  readonly #entry = new Int32Array(POOL);
  readonly #hash = new Int32Array(POOL);
  readonly #db = new Int32Array(POOL);
  #count = 0;
  #policy: Policy = 'noeviction';
  #nextDb = 0;

  constructor(store: Store, config: Config) {
    this.#store = store;
    this.#config = config;
  }

  /** Remove keys until the data is within `maxmemory`, or for as many keys as one call may. */
  makeRoom(): EvictionResult {
    const { maxmemory, policy } = this.#config;
    const store = this.#store;
    if (maxmemory === 0 || store.memory() <= maxmemory) return ROOM;
    if (policy === 'noeviction') return NOTHING;
    if (policy !== this.#policy) {
      this.#policy = policy;
      this.#count = 0;
    }
    const random = policy === 'allkeys-random' || policy === 'volatile-random';
    for (let round = 0; round < ROUND_MAX; round++) {
      if (!(random ? this.#evictRandom() : this.#evictBest())) return NOTHING;
      if (store.memory() <= maxmemory) return ROOM;
    }
    return MORE;
  }

  #evict(keyspace: Keyspace, entry: number): void {
    this.#store.evictedKeys++;
    this.#store.onRemoved(keyspace, entry);
    keyspace.removeEntry(entry);
  }

  #evictRandom(): boolean {
    const volatileOnly = this.#policy === 'volatile-random';
    const { keyspaces } = this.#store;
    for (let i = 0; i < keyspaces.length; i++) {
      const keyspace = keyspaces[this.#nextDb]!;
      this.#nextDb = (this.#nextDb + 1) % keyspaces.length;
      const entry = this.#draw(keyspace, volatileOnly);
      if (entry === 0) continue;
      this.#evict(keyspace, entry);
      return true;
    }
    return false;
  }

  #draw(keyspace: Keyspace, volatileOnly: boolean): number {
    if (!volatileOnly) return randomEntry(keyspace.dict, this.#store.random);
    const { count } = keyspace.expiry;
    return count === 0 ? 0 : keyspace.expiry.entry(Math.floor(((this.#store.random() >>> 0) / 4294967296) * count));
  }

  #evictBest(): boolean {
    for (let tries = 0; tries < 64; tries++) {
      let candidates = 0;
      for (const keyspace of this.#store.keyspaces) candidates += this.#sample(keyspace);
      if (candidates === 0) return false;
      while (this.#count > 0) {
        const last = --this.#count;
        const keyspace = this.#store.keyspaces[this.#db[last]!]!;
        const entry = this.#entry[last]!;
        // the entry may have been removed, and its place taken by another key, since it was sampled
        if (!keyspace.dict.holds(this.#hash[last]!, entry)) continue;
        if (this.#policy.startsWith('volatile') && keyspace.expiryOf(entry) < 0) continue;
        this.#evict(keyspace, entry);
        return true;
      }
    }
    return false;
  }

  /** Offer some keys of a database to the pool; gives the number of keys it could choose among. */
  #sample(keyspace: Keyspace): number {
    const volatileOnly = this.#policy.startsWith('volatile');
    const choice = volatileOnly ? keyspace.expiry.count : keyspace.count;
    if (choice === 0) return 0;
    const samples = Math.min(this.#config.samples, 64);
    for (let i = 0; i < samples; i++) {
      const entry = this.#draw(keyspace, volatileOnly);
      if (entry !== 0) this.#offer(keyspace, entry);
    }
    return choice;
  }

  #scoreOf(keyspace: Keyspace, entry: number): number {
    const store = this.#store;
    const use = keyspace.dict.extra(entry, META) >>> 8;
    if (this.#policy === 'volatile-ttl') return -keyspace.expiryOf(entry);
    return store.lfu ? 255 - store.lfuCounter(use) : store.idleSeconds(use);
  }

  #offer(keyspace: Keyspace, entry: number): void {
    const score = this.#scoreOf(keyspace, entry);
    const { dict } = keyspace;
    const hash = dict.hasher.hash(dict.chunk(entry), dict.keyStart(entry), dict.keyLength(entry));
    let at = 0;
    for (; at < this.#count; at++) if (this.#entry[at] === entry && this.#hash[at] === hash) return;
    at = 0;
    while (at < this.#count && this.#score[at]! < score) at++;
    if (this.#count < POOL) {
      this.#move(at, at + 1, this.#count - at);
      this.#count++;
    } else {
      if (at === 0) return;
      this.#move(1, 0, at - 1);
      at--;
    }
    this.#score[at] = score;
    this.#entry[at] = entry;
    this.#hash[at] = hash;
    this.#db[at] = keyspace.id;
  }

  #move(from: number, to: number, count: number): void {
    this.#score.copyWithin(to, from, from + count);
    this.#entry.copyWithin(to, from, from + count);
    this.#hash.copyWithin(to, from, from + count);
    this.#db.copyWithin(to, from, from + count);
  }
}
