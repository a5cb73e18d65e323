/**
 * File data on its way from the server: what is missing is read in large pieces, once, and ahead of sequential readers.
 * It uses the view's server; the data goes into the nodes' cached blocks.
 */
import { giveBack } from '../record-memory.ts';
import { type Credential, FileType } from '../server.ts';
import { BLOCK_BYTES } from './file-data.ts';
import type { OpenFile } from './files.ts';
import type { ViewNode } from './node.ts';
import type { View } from './view.ts';

/** The first step of reading ahead; it doubles up to the view's option. */
const AHEAD_START_BYTES = 256 << 10;
/** Requests of read-ahead outstanding per file at most. */
const AHEAD_LOADS_MAX = 8;
/** The largest file that is read at open. */
const PREFETCH_BYTES = 128 << 10;
/** How far from the expected place a read may be and still count as sequential: the kernel sends two at a time. */
const NEAR_BYTES = 512 << 10;

interface Load {
  readonly start: number;
  readonly end: number;
  /** Where the server's file ended before `end`, else Infinity. */
  readonly promise: Promise<number>;
}

export class Loader {
  readonly #view: View;
  readonly #loads = new Map<ViewNode, Set<Load>>();

  /** Reads begin and end at multiples of this. */
  readonly #unit: number;

  constructor(view: View) {
    this.#view = view;
    this.#unit = Math.min(BLOCK_BYTES, view.server.info.maxRead);
  }

  /**
   * Resolves when everything in the range that was missing has been asked for and has come, with the place where the file
   * turned out to end (Infinity: not within the range). Rejects with the server's error.
   */
  async load(
    node: ViewNode,
    start: number,
    end: number,
    credential: Credential | null,
    large: boolean,
  ): Promise<number> {
    return Math.min(...(await Promise.all(this.#start(node, start, end, credential, large))));
  }

  /**
   * Reads a small file while its `open` is still being answered. If the answer says that the file has changed, what this
   * brought in is dropped with the rest.
   */
  prefetch(node: ViewNode, credential: Credential | null): void {
    const { type, size } = node.attributes;
    if (type !== FileType.regular || size > PREFETCH_BYTES || node.data?.unwritten || isResized(node)) return;
    for (const wait of this.#start(node, 0, size, credential, true)) wait.catch(() => {});
  }

  /** Notes where a reader is, and reads ahead of it if it goes forward. */
  advance(file: OpenFile, start: number, end: number): void {
    const { readAheadBytes } = this.#view.options;
    const forward = start >= file.nextOffset - NEAR_BYTES && start <= file.nextOffset + NEAR_BYTES;
    if (!forward) file.aheadBytes = 0;
    else if (end > file.nextOffset) {
      file.aheadBytes = Math.min(readAheadBytes, Math.max(AHEAD_START_BYTES, file.aheadBytes * 2));
    }
    file.nextOffset = forward ? Math.max(file.nextOffset, end) : end;
    if (file.aheadBytes === 0) return;
    const { node } = file;
    const limit = Math.min(file.nextOffset + file.aheadBytes, node.attributes.size);
    const { maxRead } = this.#view.server.info;
    for (let at = file.nextOffset; at < limit; at += maxRead) {
      if ((this.#loads.get(node)?.size ?? 0) >= AHEAD_LOADS_MAX) return;
      // Nobody waits for these; whoever reads there later asks again and is told.
      for (const wait of this.#start(node, at, Math.min(limit, at + maxRead), file.credential, true))
        wait.catch(() => {});
    }
  }

  #start(node: ViewNode, start: number, end: number, credential: Credential | null, large: boolean): Promise<number>[] {
    const data = this.#view.dataOf(node);
    const waits: Promise<number>[] = [];
    let loads = this.#loads.get(node);
    for (const gap of data.valid.gaps(start, end)) {
      let at = gap.start;
      while (at < gap.end) {
        const under = findLoad(loads, at);
        if (under !== null) {
          waits.push(under.promise);
          at = under.end;
          continue;
        }
        const from = at - (at % this.#unit);
        const to = this.#endOf(node, from, gap.end, large, loads);
        if (loads === undefined) {
          loads = new Set();
          this.#loads.set(node, loads);
        }
        const load = this.#read(node, from, to, credential, loads);
        waits.push(load.promise);
        at = to;
      }
    }
    return waits;
  }

  /** Where a read from `from` ends: whole blocks, no more than the server gives at once, not into what is on its way. */
  #endOf(node: ViewNode, from: number, wanted: number, large: boolean, loads: Set<Load> | undefined): number {
    const { maxRead } = this.#view.server.info;
    const blocks = Math.ceil((large ? from + maxRead : wanted) / this.#unit) * this.#unit;
    let end = Math.min(blocks, from + maxRead);
    // Past the end there is nothing, but what is asked for is asked for: the file may have grown.
    end = Math.min(end, Math.max(node.size, wanted));
    for (const load of loads ?? []) if (load.start > from && load.start < end) end = load.start;
    return end;
  }

  #read(node: ViewNode, start: number, end: number, credential: Credential | null, loads: Set<Load>): Load {
    const view = this.#view;
    view.pin(node);
    const promise = this.#fetch(node, start, end, credential).finally(() => {
      loads.delete(load);
      if (loads.size === 0 && this.#loads.get(node) === loads) this.#loads.delete(node);
      view.unpin(node);
    });
    const load: Load = { start, end, promise };
    loads.add(load);
    return load;
  }

  async #fetch(node: ViewNode, start: number, end: number, credential: Credential | null): Promise<number> {
    const view = this.#view;
    const handle = await view.handleOf(node);
    const { epoch } = node;
    for (let at = start; at < end; ) {
      const asked = view.ask();
      const wroteBefore = node.ownDoneAt;
      const { data, eof, attributes } = await view.server.read(handle, at, end - at, view.call(credential));
      view.accept(node, attributes, asked);
      // Data of a state that is gone, or read while our own WRITE was under way: not to be kept. The reader looks again. Nor is
      // data kept that an assumed change of the size will cut off: it would be there again when the file grows.
      if (node.epoch !== epoch || node.ownDoneAt !== wroteBefore || isResized(node)) return Infinity;
      const cached = view.dataOf(node);
      cached.fill(at, data);
      giveBack(data);
      at += data.byteLength;
      if (eof || data.byteLength === 0) {
        // What only we have written beyond the server's end leaves a hole of zeros before it.
        if (at >= end) return Infinity;
        if (node.writeEnd <= at) return at;
        cached.fillZeros(at, Math.min(end, node.writeEnd));
        return Infinity;
      }
    }
    return Infinity;
  }
}

/** Whether a change of its size is assumed that the server may not have made yet. */
function isResized({ patches }: ViewNode): boolean {
  return patches.some(({ size }) => size !== undefined);
}

function findLoad(loads: Set<Load> | undefined, at: number): Load | null {
  if (loads === undefined) return null;
  for (const load of loads) if (load.start <= at && at < load.end) return load;
  return null;
}
