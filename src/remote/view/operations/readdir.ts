/**
 * `readdir`: the whole listing of a directory, with attributes and handles as far as the server gives them.
 * It reaches the world only through its view.
 */
import { listDirectory } from '../../listing.ts';
import type { DirectoryEntry, Handle } from '../../server.ts';
import { nameText } from '../names.ts';
import type { ViewNode } from '../node.ts';
import { type Outcome, type Prediction, success } from '../operation.ts';
import type { Asked, ListedName, ListingStart, View } from '../view.ts';
import { type Caller, mustBeDirectory, Reading } from './reading.ts';

/** What every kernel takes as a name in a listing (FUSE_NAME_MAX): with a longer one it would refuse all of it. */
const NAME_BYTES_MAX = 1024;

export interface ListingAnswer {
  readonly entries: readonly ListedName[];
}

export class Readdir extends Reading<ListingAnswer> {
  readonly kind = 'readdir';
  readonly #directory: ViewNode;

  /** From its beginning: what follows is read from the same answer. */
  constructor(view: View, caller: Caller, directory: ViewNode) {
    super(view, caller, [directory]);
    this.#directory = directory;
  }

  lookLocal(): Outcome<ListingAnswer> | null {
    const directory = this.#directory;
    return directory.handle === null && !directory.removed && this.view.complete(directory)
      ? success(this.#known())
      : null;
  }

  predict(): Prediction<ListingAnswer> | null {
    const { names } = this.#directory;
    if (names === null || names.completeEpoch < 0) return null;
    const answer = this.#known();
    const invented = answer.entries.some(({ node }) => node !== null && node.handle === null);
    return { outcome: success(answer), invented };
  }

  agrees(predicted: Outcome<ListingAnswer>, truth: Outcome<ListingAnswer>): boolean {
    if (predicted.answer === null || truth.answer === null) return predicted.errno === truth.errno;
    const a = predicted.answer.entries;
    // In whatever order: a listing that is known by what was made here has the order of making, without speculation too.
    const b = new Map(truth.answer.entries.map((entry) => [entry.name, entry]));
    return a.length === b.size && a.every((entry) => sameIno(entry, b.get(entry.name)));
  }

  protected async ask(signal?: AbortSignal): Promise<ListingAnswer> {
    const { view } = this;
    const directory = this.#directory;
    mustBeDirectory(directory);
    // Before anything is awaited: the next request of the same program may be assumed before this one is sent.
    const start: ListingStart = { epoch: directory.epoch, changes: view.changesOf(directory) };
    const handle = await view.handleOf(directory);
    await Promise.all(directory.leaving);
    if (directory.names?.completeEpoch === directory.epoch && this.#attributesFresh()) {
      const asked = view.ask();
      view.accept(directory, await view.server.getattr(handle, view.call(this.credential, signal)), asked);
      // Changes assumed before or since are not what was asked for.
      const unchanged = start.changes >= 0 && view.changesOf(directory) === start.changes;
      if (unchanged && view.complete(directory)) return this.#known();
    }
    return { entries: await this.#list(handle, start, signal) };
  }

  /** Whether the attributes of what is in it are mostly still vouched for: else a listing that brings them is cheaper. */
  #attributesFresh(): boolean {
    let fresh = 0;
    let nodes = 0;
    for (const { node } of this.#directory.names!.names.values()) {
      if (node === null) continue;
      nodes++;
      if (this.view.attributesMs(node) > 0) fresh++;
    }
    return fresh * 2 >= nodes;
  }

  #known(): ListingAnswer {
    const entries: ListedName[] = [];
    for (const [name, { node, listed }] of this.#directory.names!.names) {
      if (node !== null) {
        entries.push({ name, node, ino: { high: node.inoHigh, low: node.inoLow }, type: node.attributes.type });
      } else if (listed !== null) entries.push({ name, node, ino: listed, type: 0 });
    }
    this.view.nodes.touched(this.#directory);
    return { entries };
  }

  async #list(handle: Handle, start: ListingStart, signal?: AbortSignal): Promise<ListedName[]> {
    const { view } = this;
    const directory = this.#directory;
    const options = { ...view.call(this.credential, signal), plus: true, limit: view.options.listing };
    const pages = listDirectory(view.server, handle, options);
    const entries: ListedName[] = [];
    for (;;) {
      const asked = view.ask();
      const { value: page, done } = await pages.next();
      if (done) break;
      view.accept(directory, page.attributes, asked);
      for (const entry of page.entries)
        if (entry.name.length <= NAME_BYTES_MAX) entries.push(this.#listed(entry, asked));
    }
    view.learnListing(directory, entries, start);
    return entries;
  }

  #listed(entry: DirectoryEntry, asked: Asked): ListedName {
    const name = nameText(entry.name);
    const { handle, attributes } = entry;
    if (handle === null || attributes === null) {
      const ino = { high: entry.fileidHigh, low: entry.fileidLow };
      return { name, node: null, ino, type: attributes?.type ?? 0 };
    }
    const node = this.view.found(handle, attributes, asked);
    return { name, node, ino: { high: node.inoHigh, low: node.inoLow }, type: node.attributes.type };
  }
}

function sameIno(a: ListedName, b: ListedName | undefined): boolean {
  return b !== undefined && a.ino.high === b.ino.high && a.ino.low === b.ino.low;
}
