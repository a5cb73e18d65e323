/**
 * What operations that only read have in common, and the small ones: getattr, readlink, open, statfs.
 * They reach the world only through their view.
 */
import { ERRNO } from '../../../errors.ts';
import type { Attributes, Credential, FsstatResult, Name } from '../../server.ts';
import { AccessBit, FileType } from '../../server.ts';
import { ErrnoError, errnoOf } from '../errors.ts';
import type { ViewNode } from '../node.ts';
import {
  failure,
  type OperationKind,
  type Outcome,
  type Prediction,
  success,
  type ViewOperation,
} from '../operation.ts';
import type { View } from '../view.ts';

/** In whose name, and for which thread. */
export interface Caller {
  /** Null: as the mount itself. */
  readonly credential: Credential | null;
  /** 0: nobody in particular. */
  readonly thread: number;
}

/** How long after a lookup at the server the same thread may open without asking again, milliseconds. */
export const LOOKUP_COUNTS_MS = 2;

export abstract class Reading<Answer> implements ViewOperation<Answer> {
  abstract readonly kind: OperationKind;
  readonly changes = false;
  readonly credential: Credential | null;
  readonly touches: readonly ViewNode[];
  protected readonly view: View;
  protected readonly caller: Caller;

  constructor(view: View, caller: Caller, touches: readonly ViewNode[]) {
    this.view = view;
    this.caller = caller;
    this.credential = caller.credential;
    this.touches = touches;
  }

  abstract lookLocal(): Outcome<Answer> | null;
  abstract predict(): Prediction<Answer> | null;
  abstract agrees(predicted: Outcome<Answer>, truth: Outcome<Answer>): boolean;
  protected abstract ask(signal?: AbortSignal): Promise<Answer>;

  async perform(signal?: AbortSignal): Promise<Outcome<Answer>> {
    for (const node of this.touches) this.view.pin(node);
    try {
      return success(await this.ask(signal));
    } catch (error) {
      const errno = error instanceof ErrnoError ? error.errno : errnoOf(error);
      if (errno === ERRNO.ESTALE) for (const node of this.touches) this.view.markStale(node);
      return failure(errno);
    } finally {
      for (const node of this.touches) this.view.unpin(node);
    }
  }
}

export interface AttributesAnswer {
  readonly node: ViewNode;
  /** As they were when the answer was made. */
  readonly attributes: Attributes;
  readonly size: number;
  readonly validMs: number;
}

export class Getattr extends Reading<AttributesAnswer> {
  readonly kind = 'getattr';
  readonly #node: ViewNode;
  readonly #sizeOnly: boolean;

  /** @param sizeOnly the kernel asks for itself (to read, to append): unwritten data need not be sent first */
  constructor(view: View, caller: Caller, node: ViewNode, sizeOnly = false) {
    super(view, caller, [node]);
    this.#node = node;
    this.#sizeOnly = sizeOnly;
  }

  lookLocal(): Outcome<AttributesAnswer> | null {
    const node = this.#node;
    if (
      node.removed ||
      this.view.attributesMs(node) > 0 ||
      (this.#sizeOnly && (node.handle === null || node.data?.unsent))
    ) {
      return success(this.#answer());
    }
    return null;
  }

  predict(): Prediction<AttributesAnswer> | null {
    const node = this.#node;
    // Times that the server has yet to choose, or to say.
    const unsaid = node.unsaid || node.ownInFlight > 0;
    const invented = node.assumed > 0 || node.handle === null || node.data?.unsent === true || unsaid;
    return { outcome: success(this.#answer()), invented };
  }

  agrees(predicted: Outcome<AttributesAnswer>, truth: Outcome<AttributesAnswer>): boolean {
    if (predicted.answer === null || truth.answer === null) return predicted.errno === truth.errno;
    return (
      predicted.answer.size === truth.answer.size && sameShown(predicted.answer.attributes, truth.answer.attributes)
    );
  }

  protected async ask(signal?: AbortSignal): Promise<AttributesAnswer> {
    const { view } = this;
    const node = this.#node;
    const handle = await view.handleOf(node);
    if (node.data?.unsent) await view.writeBack.send(node);
    if (view.attributesMs(node) <= 0) {
      const asked = view.ask();
      const said = await view.server.getattr(handle, view.call(this.credential, signal));
      if (!view.accept(node, said, asked)) {
        return { node, attributes: said, size: Math.max(said.size, node.writeEnd), validMs: 0 };
      }
      // Changes assumed since then are not what was asked for.
      if (node.assumed > 0) return { node, attributes: node.said, size: node.said.size, validMs: 0 };
    }
    return this.#answer();
  }

  #answer(): AttributesAnswer {
    const node = this.#node;
    return { node, attributes: node.attributes, size: node.size, validMs: this.view.keepMs(node) };
  }
}

/** Everything `stat` shows but the access time, which no cache keeps exact. */
export function sameShown(a: Attributes, b: Attributes): boolean {
  return (
    sameKind(a, b) &&
    a.linkCount === b.linkCount &&
    a.size === b.size &&
    a.used === b.used &&
    a.mtimeSeconds === b.mtimeSeconds &&
    a.mtimeNanoseconds === b.mtimeNanoseconds &&
    a.ctimeSeconds === b.ctimeSeconds &&
    a.ctimeNanoseconds === b.ctimeNanoseconds
  );
}

/** What walking over an object shows of it. */
export function sameKind(a: Attributes, b: Attributes): boolean {
  return (
    a.type === b.type &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.fileidLow === b.fileidLow &&
    a.fileidHigh === b.fileidHigh
  );
}

export class Readlink extends Reading<Name> {
  readonly kind = 'readlink';
  readonly #node: ViewNode;

  constructor(view: View, caller: Caller, node: ViewNode) {
    super(view, caller, [node]);
    this.#node = node;
  }

  lookLocal(): Outcome<Name> | null {
    const { target, targetEpoch, epoch, handle } = this.#node;
    if (target === null || targetEpoch !== epoch) return null;
    return handle === null || this.view.attributesMs(this.#node) > 0 ? success(target) : null;
  }

  predict(): Prediction<Name> | null {
    const { target } = this.#node;
    return target === null ? null : { outcome: success(target), invented: false };
  }

  agrees(predicted: Outcome<Name>, truth: Outcome<Name>): boolean {
    if (predicted.answer === null || truth.answer === null) return predicted.errno === truth.errno;
    return Buffer.compare(predicted.answer, truth.answer) === 0;
  }

  protected async ask(signal?: AbortSignal): Promise<Name> {
    const { view } = this;
    const node = this.#node;
    const handle = await view.handleOf(node);
    const asked = view.ask();
    const { target, attributes } = await view.server.readlink(handle, view.call(this.credential, signal));
    view.accept(node, attributes, asked);
    node.target = target.slice();
    node.targetEpoch = node.epoch;
    return target;
  }
}

export interface OpenAnswer {
  readonly node: ViewNode;
  /** Which state of the file was opened. */
  readonly attributes: Attributes;
}

/** `open` of a file that exists, without truncation: asks the server for permission and whether cached data is still good. */
export class Open extends Reading<OpenAnswer> {
  readonly kind = 'open';
  readonly #node: ViewNode;
  /** Of the sets in here one must be granted: AccessBit. */
  readonly #wanted: readonly number[];

  constructor(view: View, caller: Caller, node: ViewNode, wanted: readonly number[]) {
    super(view, caller, [node]);
    this.#node = node;
    this.#wanted = wanted;
  }

  lookLocal(): Outcome<OpenAnswer> | null {
    const node = this.#node;
    if (node.handle === null) return success(this.#answer());
    const { thread } = this.caller;
    const lookedUp = thread !== 0 && node.lookedUpBy === thread;
    if (!lookedUp || this.view.clock.now() - node.lookedUpAt > LOOKUP_COUNTS_MS) return null;
    node.lookedUpBy = 0; // good for one open
    return success(this.#answer());
  }

  predict(): Prediction<OpenAnswer> | null {
    return { outcome: success(this.#answer()), invented: this.#node.unsaid };
  }

  agrees(predicted: Outcome<OpenAnswer>, truth: Outcome<OpenAnswer>): boolean {
    if (predicted.answer === null || truth.answer === null) return predicted.errno === truth.errno;
    const a = predicted.answer.attributes;
    const b = truth.answer.attributes;
    return a.changeHigh === b.changeHigh && a.changeLow === b.changeLow && a.size === b.size;
  }

  protected async ask(signal?: AbortSignal): Promise<OpenAnswer> {
    const { view } = this;
    const node = this.#node;
    const handle = await view.handleOf(node);
    let bits = 0;
    for (const set of this.#wanted) bits |= set;
    const options = view.call(this.credential, signal);
    const asked = view.ask();
    const answered = view.server.access(handle, bits, options);
    // Who opens a small file only to read it will do so: the data comes with the permission.
    if ((bits & ~(AccessBit.read | AccessBit.execute)) === 0) view.loader.prefetch(node, this.credential);
    const { granted, attributes } = await answered;
    if (!this.#wanted.some((set) => (granted & set) === set)) throw new ErrnoError(ERRNO.EACCES);
    const again = attributes === null ? view.ask() : asked;
    const said = attributes ?? (await view.server.getattr(handle, options));
    return view.accept(node, said, again) ? this.#answer() : { node, attributes: said };
  }

  #answer(): OpenAnswer {
    return { node: this.#node, attributes: this.#node.said };
  }
}

const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_RDWR = 2;
const FMODE_EXEC = 0x20;

/** What must be granted for the flags of `open`: one of these sets of AccessBit. */
export function wantedAccess(flags: number): readonly number[] {
  // The server may know writing as modifying, as extending, or as both.
  const writing = [AccessBit.modify, AccessBit.extend];
  if (flags & FMODE_EXEC) return [AccessBit.read, AccessBit.execute];
  if ((flags & O_ACCMODE) === O_WRONLY) return writing;
  if ((flags & O_ACCMODE) === O_RDWR) return writing.map((bit) => bit | AccessBit.read);
  return [AccessBit.read];
}

export class Statfs extends Reading<FsstatResult> {
  readonly kind = 'statfs';

  constructor(view: View, caller: Caller) {
    super(view, caller, [view.root]);
  }

  lookLocal(): Outcome<FsstatResult> | null {
    return null;
  }

  predict(): Prediction<FsstatResult> | null {
    return null;
  }

  agrees(): boolean {
    return false;
  }

  protected ask(signal?: AbortSignal): Promise<FsstatResult> {
    return this.view.server.fsstat(this.view.server.root, this.view.call(this.credential, signal));
  }
}

/** @throws ErrnoError ENOTDIR; ENOENT as the kernel says in a directory that it knows to be removed */
export function mustBeDirectory(node: ViewNode): void {
  if (node.removed) throw new ErrnoError(ERRNO.ENOENT);
  if (node.attributes.type !== FileType.directory) throw new ErrnoError(ERRNO.ENOTDIR);
}
