/**
 * `lookup`: what a name in a directory stands for.
 * It reaches the world only through its view.
 */
import { ERRNO } from '../../../errors.ts';
import type { Attributes } from '../../server.ts';
import { errnoOf } from '../errors.ts';
import { nameBytes } from '../names.ts';
import type { NameEntry, ViewNode } from '../node.ts';
import { type Outcome, type Prediction, success } from '../operation.ts';
import type { View } from '../view.ts';
import { type Caller, mustBeDirectory, Reading, sameKind } from './reading.ts';

export interface LookupAnswer {
  /** Null: there is no such name. */
  readonly node: ViewNode | null;
  readonly attributes: Attributes | null;
  /** Milliseconds for which the name is good. */
  readonly nameMs: number;
  readonly attributesMs: number;
}

export class Lookup extends Reading<LookupAnswer> {
  readonly kind = 'lookup';
  readonly directory: ViewNode;
  readonly name: string;

  constructor(view: View, caller: Caller, directory: ViewNode, name: string) {
    super(view, caller, [directory]);
    this.directory = directory;
    this.name = name;
  }

  lookLocal(): Outcome<LookupAnswer> | null {
    const { view, directory } = this;
    const entry = view.nameOf(directory, this.name);
    if (entry !== undefined && entry.listed === null && view.vouched(directory, entry) && !entry.node?.stale) {
      return success(this.#answer(entry.node, view.nameMs(directory, entry)));
    }
    if (entry === undefined && view.complete(directory)) return success(this.#answer(null, view.completeMs(directory)));
    return null;
  }

  predict(): Prediction<LookupAnswer> | null {
    const entry = this.#guess();
    if (entry === undefined) {
      // A listing that was complete once.
      const { names } = this.directory;
      if (names === null || names.completeEpoch < 0) return null;
      return { outcome: success(this.#answer(null, 0)), invented: false };
    }
    return { outcome: success(this.#answer(entry.node, 0)), invented: false };
  }

  agrees(predicted: Outcome<LookupAnswer>, truth: Outcome<LookupAnswer>): boolean {
    if (predicted.answer === null || truth.answer === null) return predicted.errno === truth.errno;
    const a = predicted.answer;
    const b = truth.answer;
    if (a.node !== b.node) return false;
    return a.attributes === null || b.attributes === null || sameKind(a.attributes, b.attributes);
  }

  protected async ask(signal?: AbortSignal): Promise<LookupAnswer> {
    const { view, directory, name } = this;
    mustBeDirectory(directory);
    // Before anything is awaited: the next request of the same program may be assumed before this one is sent.
    const changesBefore = view.changesOf(directory);
    const epochBefore = directory.epoch;
    const handle = await view.handleOf(directory);
    const options = view.call(this.credential, signal);
    const asked = view.ask();
    // "No such name" comes without the directory's attributes, and they are what lets it be kept.
    const alsoDirectory = !view.directoryVouched(directory) && !this.#guess()?.node;
    const directoryKnown = alsoDirectory ? view.server.getattr(handle, options).catch(() => null) : null;
    let said: ViewNode | null = null;
    try {
      const found = await view.server.lookup(handle, nameBytes(name), options);
      const node = view.found(found.handle, found.attributes, asked);
      said = node;
      view.accept(directory, found.directory, asked);
      view.learnName(directory, name, node, epochBefore, changesBefore);
      view.nodes.release(node);
      node.lookedUpBy = this.caller.thread;
      node.lookedUpAt = view.clock.now();
    } catch (error) {
      if (errnoOf(error) !== ERRNO.ENOENT) throw error;
      if (directoryKnown !== null) view.accept(directory, await directoryKnown, asked);
      view.learnName(directory, name, null, epochBefore, changesBefore);
    }
    // Changes assumed since then are not what was asked for.
    if (view.changesOf(directory) !== changesBefore || changesBefore < 0) return this.#said(said);
    if (said !== null && said.assumed > 0) return this.#said(said);
    const entry = view.nameOf(directory, name);
    return this.#answer(entry?.node ?? null, entry === undefined ? 0 : view.nameMs(directory, entry));
  }

  #guess(): NameEntry | undefined {
    const entry = this.view.nameOf(this.directory, this.name);
    return entry === undefined || entry.listed !== null || entry.node?.stale ? undefined : entry;
  }

  /** What the server said, without what is assumed since. */
  #said(node: ViewNode | null): LookupAnswer {
    return { node, attributes: node?.said ?? null, nameMs: 0, attributesMs: 0 };
  }

  #answer(node: ViewNode | null, nameMs: number): LookupAnswer {
    if (node === null) return { node, attributes: null, nameMs, attributesMs: 0 };
    return { node, attributes: node.attributes, nameMs, attributesMs: this.view.keepMs(node) };
  }
}
