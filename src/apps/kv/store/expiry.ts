/**
 * The keys of one database that expire: a dense list of (entry, time), so that one can be drawn at random in constant time.
 * Pure; each entry holds its own place in this list (see Keyspace), and the list tells which entry moved.
 */

const PAGE_SHIFT = 12;
const PAGE = 1 << PAGE_SHIFT;

/** Pages instead of one array: growing copies nothing. */
export class ExpiryList {
  count = 0;
  readonly #entries: Int32Array[] = [];
  readonly #times: Float64Array[] = [];

  get bytes(): number {
    return this.#entries.length * PAGE * 12;
  }

  /** Add an entry; gives its place. `time` is Unix milliseconds. */
  add(entry: number, time: number): number {
    const at = this.count++;
    const page = at >>> PAGE_SHIFT;
    if (page === this.#entries.length) {
      this.#entries.push(new Int32Array(PAGE));
      this.#times.push(new Float64Array(PAGE));
    }
    this.#entries[page]![at & (PAGE - 1)] = entry;
    this.#times[page]![at & (PAGE - 1)] = time;
    return at;
  }

  entry(at: number): number {
    return this.#entries[at >>> PAGE_SHIFT]![at & (PAGE - 1)]!;
  }

  time(at: number): number {
    return this.#times[at >>> PAGE_SHIFT]![at & (PAGE - 1)]!;
  }

  setEntry(at: number, entry: number): void {
    this.#entries[at >>> PAGE_SHIFT]![at & (PAGE - 1)] = entry;
  }

  setTime(at: number, time: number): void {
    this.#times[at >>> PAGE_SHIFT]![at & (PAGE - 1)] = time;
  }

  /** Remove a place. The last one moves into it: gives the entry that now lives at `at`, 0 if none moved. */
  remove(at: number): number {
    const last = --this.count;
    let moved = 0;
    if (at !== last) {
      moved = this.entry(last);
      this.setEntry(at, moved);
      this.setTime(at, this.time(last));
    }
    // one empty page stays, so that a count at a page's edge does not allocate again and again
    const needed = ((last + PAGE - 1) >>> PAGE_SHIFT) + 1;
    if (this.#entries.length > needed) {
      this.#entries.length = needed;
      this.#times.length = needed;
    }
    return moved;
  }
}
