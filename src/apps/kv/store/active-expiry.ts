/**
 * Removes keys whose time has passed though nobody asks for them, a bounded number per call.
 * Pure; as redis's active expire cycle it samples, and goes on in a database while many of the samples had expired.
 */
import type { Store } from './store.ts';

const SAMPLES = 20;
/** Of SAMPLES; at or under this the rest of the database may wait (redis: 10 %). */
const FEW = 2;
/** Samples per call in all: well under a millisecond. */
const ROUND_MAX = 2000;

export class ActiveExpiry {
  readonly #store: Store;
  #nextDb = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Sample the keys that expire, database by database, and remove those whose time has passed. */
  cycle(): void {
    const { keyspaces, now, random } = this.#store;
    let left = ROUND_MAX;
    for (let i = 0; i < keyspaces.length && left > 0; i++) {
      const keyspace = keyspaces[this.#nextDb]!;
      const { expiry } = keyspace;
      for (;;) {
        let expired = 0;
        const samples = Math.min(SAMPLES, expiry.count);
        for (let j = 0; j < samples && expiry.count > 0; j++) {
          const at = Math.floor(((random() >>> 0) / 4294967296) * expiry.count);
          if (expiry.time(at) >= now) continue;
          keyspace.expire(expiry.entry(at));
          expired++;
        }
        left -= samples;
        if (expired <= FEW && !(expired > 0 && expiry.count < SAMPLES)) break;
        // out of budget in the middle of a database: the next call goes on here
        if (left <= 0) return;
      }
      this.#nextDb = (this.#nextDb + 1) % keyspaces.length;
    }
  }
}
