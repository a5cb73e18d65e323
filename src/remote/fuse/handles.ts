/**
 * Open files and directories by the number that the kernel keeps for them.
 * Plain state.
 */
import type { OpenFile } from '../view/files.ts';
import type { ListedName, View } from '../view/view.ts';

/** An open directory: the listing as it was at the first read, so that what comes and goes meanwhile moves no offsets. */
export class OpenDirectory {
  readonly file: OpenFile;
  readonly #view: View;
  #entries: readonly ListedName[] | null = null;

  constructor(view: View, file: OpenFile) {
    this.#view = view;
    this.file = file;
  }

  get entries(): readonly ListedName[] | null {
    return this.#entries;
  }

  /** Takes a listing; its nodes stay as long as it does. */
  take(entries: readonly ListedName[] | null): void {
    const old = this.#entries;
    for (const { node } of entries ?? []) if (node !== null) this.#view.pin(node);
    this.#entries = entries;
    for (const { node } of old ?? []) if (node !== null) this.#view.unpin(node);
  }
}

export class HandleTable<Open> {
  readonly #byNumber = new Map<number, Open>();
  #next = 1;

  get size(): number {
    return this.#byNumber.size;
  }

  add(open: Open): number {
    const number = this.#next++;
    this.#byNumber.set(number, open);
    return number;
  }

  get(number: number): Open | undefined {
    return this.#byNumber.get(number);
  }

  take(number: number): Open | undefined {
    const open = this.#byNumber.get(number);
    this.#byNumber.delete(number);
    return open;
  }

  all(): IterableIterator<Open> {
    return this.#byNumber.values();
  }
}
