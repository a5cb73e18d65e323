/**
 * The directories that a COMPOUND changes: by which of its steps, and who gets the attributes that each has in the end.
 * Pure.
 */
import type { HandleRef } from '../server.ts';
import type { Place } from './places.ts';
import type { ChangedDirectory, InfoOf, Planned } from './planned.ts';

export class ChangedDirectories {
  #byPlace = new Map<Place, ChangedDirectory>();

  get size(): number {
    return this.#byPlace.size;
  }

  [Symbol.iterator](): IterableIterator<ChangedDirectory> {
    return this.#byPlace.values();
  }

  /** `by` changes the directory, which stands at `place`, with its own step. */
  add(place: Place, ref: HandleRef, by: Planned, info: InfoOf): ChangedDirectory {
    let directory = this.#byPlace.get(place);
    if (directory === undefined) {
      directory = { ref, changes: [], last: by, attributes: -1 };
      this.#byPlace.set(place, directory);
    }
    directory.changes.push({ step: by.main, info });
    directory.last = by;
    return directory;
  }

  /** Gives what takes everything back that is added from now on. */
  mark(): () => void {
    const before = [...this.#byPlace].map(([place, directory]) => {
      const { changes, last } = directory;
      return { place, directory, count: changes.length, last };
    });
    return () => {
      this.#byPlace = new Map();
      for (const { place, directory, count, last } of before) {
        directory.changes.length = count;
        directory.last = last;
        this.#byPlace.set(place, directory);
      }
    };
  }
}
