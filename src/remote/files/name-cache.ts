/**
 * What the server lately said about names: directory and name to object, bounded in number and in age.
 * Pure: the clock is given. Only components on the way to a path's end are ever taken from here.
 */
import { handleKey } from '../operation.ts';
import type { Handle, LookupResult, Name } from '../server.ts';

export interface CachedName {
  readonly handle: Handle;
  readonly attributes: LookupResult['attributes'];
  readonly at: number;
}

export class NameCache {
  readonly #limit: number;
  readonly #maxAgeMs: number;
  readonly #now: () => number;
  /** In order of use: the first is the one to go. */
  readonly #entries = new Map<string, CachedName>();

  constructor(limit: number, maxAgeMs: number, now: () => number) {
    this.#limit = limit;
    this.#maxAgeMs = maxAgeMs;
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(directory: Handle, name: Name): CachedName | null {
    const key = keyOf(directory, name);
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    this.#entries.delete(key);
    if (this.#now() - entry.at > this.#maxAgeMs) return null;
    this.#entries.set(key, entry);
    return entry;
  }

  set(directory: Handle, name: Name, { handle, attributes }: Pick<LookupResult, 'handle' | 'attributes'>): void {
    if (this.#limit === 0) return;
    const key = keyOf(directory, name);
    this.#entries.delete(key);
    this.#entries.set(key, { handle, attributes, at: this.#now() });
    if (this.#entries.size > this.#limit) this.#entries.delete(this.#entries.keys().next().value as string);
  }

  delete(directory: Handle, name: Name): void {
    this.#entries.delete(keyOf(directory, name));
  }

  clear(): void {
    this.#entries.clear();
  }
}

function keyOf(directory: Handle, name: Name): string {
  return `${handleKey(directory)}/${handleKey(name)}`;
}
