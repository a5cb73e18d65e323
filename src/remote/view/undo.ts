/**
 * What it takes to undo changes of the view, newest first.
 * Pure; whoever assumes a mutation keeps its log until the truth is known.
 */

/** Entries an undo log holds at most; beyond it nothing more may be assumed. */
export const UNDO_ENTRIES_MAX = 65536;

interface Entry {
  readonly undo: () => void;
  readonly keep: (() => void) | undefined;
}

export class UndoLog {
  readonly #entries: Entry[] = [];
  /** Bytes of file data that the log keeps, for bounds. */
  bytes = 0;

  get length(): number {
    return this.#entries.length;
  }

  /**
   * Remembers how to take one change back. `bytes`: of file data kept for it. `keep` runs instead when the change stays.
   * @throws RangeError when the log is full
   */
  push(undo: () => void, keep?: () => void, bytes = 0): void {
    if (this.#entries.length >= UNDO_ENTRIES_MAX) throw new RangeError('the undo log is full');
    this.#entries.push({ undo, keep });
    this.bytes += bytes;
  }

  /** Takes every change back, newest first. The log is empty after. */
  run(): void {
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) entry.undo();
    this.bytes = 0;
  }

  /** The changes stay: forgets how to undo them. Call it after `settle`. */
  clear(): void {
    for (const entry of this.#entries) entry.keep?.();
    this.#entries.length = 0;
    this.bytes = 0;
  }
}
