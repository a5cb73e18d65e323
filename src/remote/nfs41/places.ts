/**
 * Where a COMPOUND stands while it is being built: which object is current and which saved, and how to get to the others.
 * Pure: it only decides which steps to add.
 */
import { handleKey } from '../operation.ts';
import type { Handle, HandleRef, Name } from '../server.ts';
import { lookup, putfh, RESTOREFH, SAVEFH } from './file-steps.ts';
import type { Step } from './step.ts';

/** An object: `h` and its handle, or `o` and the number of the operation of this batch that finds or makes it. */
export type Place = string;

/** A name in a directory, by which an object can be looked up whose handle is not known yet. */
interface Location {
  directory: HandleRef;
  name: Name;
}

export class Places {
  readonly #emit: (step: Step<void>) => void;
  /** Handles of objects that earlier COMPOUNDs of the batch found or made, by operation. */
  readonly #known: readonly (Handle | undefined)[];
  #locations = new Map<number, Location>();
  current: Place | null = null;
  saved: Place | null = null;

  /** `emit` adds a step; `known` may fill up meanwhile. */
  constructor(emit: (step: Step<void>) => void, known: readonly (Handle | undefined)[]) {
    this.#emit = emit;
    this.#known = known;
  }

  place(ref: HandleRef): Place {
    const handle = this.handle(ref);
    return handle !== null ? `h${handleKey(handle)}` : `o${(ref as { from: number }).from}`;
  }

  handle(ref: HandleRef): Handle | null {
    return ref instanceof Uint8Array ? ref : (this.#known[ref.from] ?? null);
  }

  /** Whether `goTo` finds ways to these, one after the other, the first being saved before the way to the second. */
  reachable(refs: readonly HandleRef[]): boolean {
    const [first, second] = refs;
    if (first === undefined || !this.#hasWay(first, this.current, this.saved)) return false;
    const saved = this.place(first);
    return second === undefined || this.#hasWay(second, saved, saved);
  }

  #hasWay(ref: HandleRef, current: Place | null, saved: Place | null): boolean {
    const place = this.place(ref);
    if (place === current || place === saved || this.handle(ref) !== null) return true;
    const location = this.#locations.get((ref as { from: number }).from);
    return location !== undefined && this.#hasWay(location.directory, current, saved);
  }

  /** Adds the steps that make the object current. There must be a way. */
  goTo(ref: HandleRef): void {
    const place = this.place(ref);
    if (place === this.current) return;
    const handle = this.handle(ref);
    if (handle !== null) {
      this.#emit(putfh(handle));
    } else if (place === this.saved) {
      this.#emit(RESTOREFH);
    } else {
      const location = this.#locations.get((ref as { from: number }).from);
      if (location === undefined) throw new Error('a COMPOUND was planned without a way to its object');
      this.goTo(location.directory);
      this.#emit(lookup(location.name));
    }
    this.current = place;
  }

  save(): void {
    if (this.saved === this.current) return;
    this.#emit(SAVEFH);
    this.saved = this.current;
  }

  /** Operation `index` has made an object, now the current one, with this name in this directory. */
  arriveNew(index: number, directory: HandleRef, name: Name): void {
    this.forget(directory, name);
    this.arrive(index, directory, name);
  }

  /** Operation `index` has found the object of this name, now the current one. */
  arrive(index: number, directory: HandleRef, name: Name): void {
    this.#locations.set(index, { directory, name });
    this.current = `o${index}`;
  }

  /** The name is gone, or means another object now. */
  forget(directory: HandleRef, name: Name): void {
    const place = this.place(directory);
    for (const [index, location] of this.#named(name)) {
      if (mayBeSame(place, this.place(location.directory))) this.#locations.delete(index);
    }
  }

  /** What had the one name has the other now. */
  move(fromDirectory: HandleRef, fromName: Name, toDirectory: HandleRef, toName: Name): void {
    const from = this.place(fromDirectory);
    const moved = this.#named(fromName).filter(([, { directory }]) => this.place(directory) === from);
    this.forget(fromDirectory, fromName);
    this.forget(toDirectory, toName);
    for (const [index] of moved) {
      // The server refuses to move a directory below itself; a way in a circle must not come of it.
      if (!this.#isBelow(toDirectory, index)) this.#locations.set(index, { directory: toDirectory, name: toName });
    }
  }

  /** Whether the way to `ref` leads through what operation `index` found or made. */
  #isBelow(ref: HandleRef, index: number): boolean {
    for (let at: HandleRef | undefined = ref; at !== undefined && !(at instanceof Uint8Array); ) {
      if (at.from === index) return true;
      at = this.#locations.get(at.from)?.directory;
    }
    return false;
  }

  #named(name: Name): [number, Location][] {
    if (this.#locations.size === 0) return [];
    return [...this.#locations].filter(([, location]) => sameName(location.name, name));
  }
}

/** Two handles that differ are two directories; one that is known only by how it was found may be any. */
function mayBeSame(a: Place, b: Place): boolean {
  return a === b || a.startsWith('o') || b.startsWith('o');
}

function sameName(a: Name, b: Name): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
