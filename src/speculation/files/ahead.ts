/**
 * Looks ahead in the remote tree: lists the directories that a run begins to use, and those below, so that there is something to
 * predict from when their names are asked for; and reads small files beside those that are read. It only reads, within bounds,
 * and what it learns is a cache like any other.
 */
import { type Credential, FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import { Readdir } from '../../remote/view/operations/readdir.ts';
import type { View } from '../../remote/view/view.ts';

export interface AheadLimits {
  /** Listings under way at one time. */
  readonly parallel: number;
  /** Listings in a run. */
  readonly listings: number;
  /** Names that may become known by it. */
  readonly names: number;
  /** Bytes of files read in a run. */
  readonly bytes: number;
}

const DEFAULT_AHEAD: AheadLimits = { parallel: 32, listings: 5000, names: 200_000, bytes: 32 << 20 };
/** Files read ahead are no larger than this. */
const SMALL_BYTES = 64 << 10;
/** Of one kind (directory and ending) so many are read at a time; the next ones when one of them is missed. */
const SIBLINGS = 64;
/** After so many of one kind were waited for, the others are read ahead. */
const MISSES = 2;

export class LookAhead {
  readonly #view: View;
  readonly #limits: AheadLimits;
  /** Listed in this run, or about to be, in this epoch. */
  readonly #seen = new WeakMap<ViewNode, number>();
  readonly #queue: ViewNode[] = [];
  /** Waited for so far, by directory and ending. */
  readonly #misses = new WeakMap<ViewNode, Map<string, number>>();
  #bytes = 0;
  #running = 0;
  #listings = 0;
  #names = 0;
  #closed = false;

  constructor(view: View, limits: AheadLimits = DEFAULT_AHEAD) {
    this.#view = view;
    this.#limits = limits;
  }

  get listings(): number {
    return this.#listings;
  }

  /** A directory is being used of which not everything is known. */
  directory(node: ViewNode): void {
    if (this.#closed || this.#seen.get(node) === node.epoch || node.attributes.type !== FileType.directory) return;
    this.#seen.set(node, node.epoch);
    this.#queue.unshift(node);
    this.#go();
  }

  /** A file's data has to be waited for: if it is one of many, the others beside it will be wanted, too. */
  data(node: ViewNode, credential: Credential | null): void {
    const entries = node.parent?.names?.names;
    if (this.#closed || entries === undefined || this.#bytes >= this.#limits.bytes) return;
    const all = [...entries];
    const at = all.findIndex(([, entry]) => entry.node === node);
    if (at < 0) return;
    const ending = endingOf(all[at]![0]);
    const misses = this.#misses.get(node.parent!) ?? new Map<string, number>();
    this.#misses.set(node.parent!, misses);
    const count = (misses.get(ending) ?? 0) + 1;
    misses.set(ending, count);
    if (count < MISSES) return;
    let left = SIBLINGS;
    // From here on, and then from the beginning: programs mostly go through a directory in one direction.
    for (const [name, { node: sibling }] of [...all.slice(at + 1), ...all.slice(0, at)]) {
      if (sibling === null || endingOf(name) !== ending || !isSmall(sibling) || sibling.data !== null) continue;
      this.#bytes += sibling.attributes.size;
      this.#view.loader.prefetch(sibling, credential);
      if (--left === 0 || this.#bytes >= this.#limits.bytes) return;
    }
  }

  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
  }

  #go(): void {
    while (this.#running < this.#limits.parallel && this.#listings < this.#limits.listings) {
      const node = this.#queue.shift();
      if (node === undefined || this.#names >= this.#limits.names) return;
      // What is made here only is known anyway.
      if (node.handle === null || node.stale) continue;
      this.#running++;
      this.#listings++;
      void this.#list(node);
    }
  }

  async #list(node: ViewNode): Promise<void> {
    const listing = await new Readdir(this.#view, { credential: null, thread: 0 }, node).perform();
    this.#running--;
    if (this.#closed) return;
    // Changes of ours came in between: it may be listed again.
    if (node.names === null || node.names.completeEpoch < 0) this.#seen.delete(node);
    if (listing.answer !== null) {
      this.#names += listing.answer.entries.length;
      for (const { node: child } of listing.answer.entries) {
        if (child === null || child.attributes.type !== FileType.directory || this.#seen.has(child)) continue;
        this.#seen.set(child, child.epoch);
        this.#queue.push(child);
      }
    }
    this.#go();
  }
}

function isSmall({ handle, stale, attributes: { type, size } }: ViewNode): boolean {
  return handle !== null && !stale && type === FileType.regular && size > 0 && size <= SMALL_BYTES;
}

function endingOf(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1 || name.length);
}
