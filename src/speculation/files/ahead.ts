/**
 * Looks ahead in the remote tree: lists the directories that a run begins to use, and those below, so that there is something to
 * predict from when their names are asked for. It only reads, within bounds, and what it learns is a cache like any other.
 */
import { FileType } from '../../remote/server.ts';
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
}

const DEFAULT_AHEAD: AheadLimits = { parallel: 32, listings: 5000, names: 200_000 };

export class LookAhead {
  readonly #view: View;
  readonly #limits: AheadLimits;
  /** Listed in this run, or about to be. */
  readonly #seen = new WeakSet<ViewNode>();
  readonly #queue: ViewNode[] = [];
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
    if (this.#closed || this.#seen.has(node) || node.attributes.type !== FileType.directory) return;
    this.#seen.add(node);
    this.#queue.unshift(node);
    this.#go();
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
    if (listing.answer !== null) {
      this.#names += listing.answer.entries.length;
      for (const { node: child } of listing.answer.entries) {
        if (child === null || child.attributes.type !== FileType.directory || this.#seen.has(child)) continue;
        this.#seen.add(child);
        this.#queue.push(child);
      }
    }
    this.#go();
  }
}
