/**
 * Operations that make an object: create, mkdir, symlink, mknod; and link, which makes a name.
 * They reach the world only through their view.
 */
import { ERRNO } from '../../../errors.ts';
import type {
  Attributes,
  Device,
  LinkResult,
  MakeResult,
  Operation as ServerOperation,
  SetAttributes,
  U64,
} from '../../server.ts';
import { FileType } from '../../server.ts';
import { nameBytes } from '../names.ts';
import type { ViewNode } from '../node.ts';
import { type OperationKind, type Outcome, type Prediction, success } from '../operation.ts';
import type { AttributePatch } from '../patch.ts';
import type { UndoLog } from '../undo.ts';
import type { Asked, View } from '../view.ts';
import { Changing, type Reference } from './changing.ts';
import type { LookupAnswer } from './lookup.ts';
import type { Caller } from './reading.ts';

/** What to make. */
export type Making =
  | { readonly kind: 'create'; readonly mode: number; readonly exclusive: boolean; readonly truncate: boolean }
  | { readonly kind: 'mkdir'; readonly mode: number }
  /** `target`: a character per byte. */
  | { readonly kind: 'symlink'; readonly target: string }
  | { readonly kind: 'mknod'; readonly mode: number; readonly device: Device };

/** File numbers of nodes that the server does not know yet; they cannot meet the server's, which are smaller. */
const INVENTED_INO_HIGH = 0x7fff0000;

export class Make extends Changing<LookupAnswer> {
  readonly kind: OperationKind;
  readonly directory: ViewNode;
  readonly name: string;
  readonly #making: Making;
  #made: ViewNode | null = null;
  /** A directory gets a link from each directory in it. */
  readonly #patch: AttributePatch = { links: 1 };

  constructor(view: View, caller: Caller, directory: ViewNode, name: string, making: Making) {
    super(view, caller, [directory]);
    this.kind = making.kind;
    this.directory = directory;
    this.name = name;
    this.#making = making;
  }

  override get makes(): { readonly step: number; readonly node: ViewNode } | null {
    return this.#made === null ? null : { step: 0, node: this.#made };
  }

  predict(): Prediction<LookupAnswer> | null {
    const { names } = this.directory;
    const entry = this.view.nameOf(this.directory, this.name);
    // It is there: whether it is the same that was asked for is for the server to say.
    if (entry !== undefined ? entry.node !== null || entry.listed !== null : (names?.completeEpoch ?? -1) < 0)
      return null;
    return { outcome: success({ node: null, attributes: null, nameMs: 0, attributesMs: 0 }), invented: false };
  }

  protected assumeNow(undo: UndoLog): LookupAnswer {
    const { view } = this;
    const made = view.nodes.add(null, this.#likelyAttributes());
    made.inoHigh = INVENTED_INO_HIGH;
    made.inoLow = made.id;
    made.pins++;
    let resolve = (): void => {};
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    made.pending = { promise, resolve };
    if (this.#making.kind === 'mkdir') {
      view.learnEmpty(made);
      view.patch(this.directory, this.#patch, undo);
    }
    if (this.#making.kind === 'symlink') {
      made.target = nameBytes(this.#making.target);
      made.targetEpoch = made.epoch;
    }
    this.#made = made;
    const end = (): void => {
      resolve();
      view.unpin(made);
    };
    undo.push(() => {
      made.pending = null;
      made.stale = true;
      view.writeBack.discard(made);
      end();
    }, end);
    view.changeName(this.directory, this.name, made, undo);
    return this.#answer(made);
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const directory = reference(this.directory);
    const name = nameBytes(this.name);
    const making = this.#making;
    switch (making.kind) {
      case 'create': {
        if (making.exclusive) {
          const attributes = { mode: making.mode };
          return [{ op: 'create', directory, name, mode: 'exclusive', attributes, verifier: randomU64() }];
        }
        // What was assumed to be new must be new.
        const mode = this.assumed ? 'guarded' : 'unchecked';
        const attributes = making.truncate ? { mode: making.mode, size: 0 } : { mode: making.mode };
        return [{ op: 'create', directory, name, mode, attributes }];
      }
      case 'mkdir':
        return [{ op: 'mkdir', directory, name, attributes: { mode: making.mode } }];
      case 'symlink':
        return [{ op: 'symlink', directory, name, target: nameBytes(making.target), attributes: {} }];
      case 'mknod': {
        const attributes: SetAttributes = { mode: making.mode };
        return [{ op: 'mknod', directory, name, device: making.device, attributes }];
      }
    }
  }

  protected apply(values: readonly unknown[], asked: Asked): LookupAnswer {
    const { view, directory } = this;
    const { handle, attributes, wcc } = values[0] as MakeResult;
    let node = this.#made;
    if (node === null) node = view.found(handle, attributes, asked);
    else {
      view.nodes.settle(node, handle);
      node.pending = null;
      view.acceptMade(node, attributes, asked);
    }
    view.unpatch(directory, this.#patch);
    view.acceptOwn(directory, wcc, asked);
    // What was assumed is there already, and what was assumed later may have moved it.
    if (!this.assumed) view.changeName(directory, this.name, node, null);
    const making = this.#making;
    if (making.kind === 'mkdir' && node.names === null) view.learnEmpty(node);
    if (making.kind === 'symlink') {
      node.target = nameBytes(making.target);
      node.targetEpoch = node.epoch;
    }
    // An existing file that was opened by `create` may have data that was cached before.
    if (making.kind === 'create' && making.truncate && !this.assumed) node.data?.truncate(0);
    return this.#answer(node);
  }

  protected override refused(errno: number): void {
    if (errno === ERRNO.EEXIST) this.view.doubtName(this.directory, this.name);
  }

  #answer(node: ViewNode): LookupAnswer {
    const { view, directory } = this;
    const entry = view.nameOf(directory, this.name);
    const nameMs = entry === undefined ? 0 : view.nameMs(directory, entry);
    return { node, attributes: node.attributes, nameMs, attributesMs: view.keepMs(node) };
  }

  #likelyAttributes(): Attributes {
    const making = this.#making;
    const { attributes: parent } = this.directory;
    const wall = this.view.clock.wall();
    const seconds = Math.floor(wall / 1000);
    const nanoseconds = Math.floor((wall % 1000) * 1e6);
    const setGid = (parent.mode & 0o2000) !== 0;
    const isDirectory = making.kind === 'mkdir';
    const mode = making.kind === 'symlink' ? 0o777 : making.mode & 0o7777;
    const owner = this.credential ?? this.view.options.owner;
    return {
      type: typeOf(making),
      mode: isDirectory && setGid ? mode | 0o2000 : mode,
      linkCount: isDirectory ? 2 : 1,
      uid: owner.uid,
      gid: setGid ? parent.gid : owner.gid,
      size: making.kind === 'symlink' ? making.target.length : 0,
      used: 0,
      deviceMajor: making.kind === 'mknod' && 'major' in making.device ? making.device.major : 0,
      deviceMinor: making.kind === 'mknod' && 'minor' in making.device ? making.device.minor : 0,
      fsidHigh: parent.fsidHigh,
      fsidLow: parent.fsidLow,
      fileidHigh: 0,
      fileidLow: 0,
      atimeSeconds: seconds,
      atimeNanoseconds: nanoseconds,
      mtimeSeconds: seconds,
      mtimeNanoseconds: nanoseconds,
      ctimeSeconds: seconds,
      ctimeNanoseconds: nanoseconds,
      changeHigh: 0,
      changeLow: 0,
    };
  }
}

function typeOf(making: Making): FileType {
  switch (making.kind) {
    case 'create':
      return FileType.regular;
    case 'mkdir':
      return FileType.directory;
    case 'symlink':
      return FileType.symlink;
    case 'mknod':
      return making.device.type;
  }
}

/** Unique to one attempt at an exclusive create; it only has to differ from others', so this is random enough. */
function randomU64(): U64 {
  return { high: Math.floor(Math.random() * 2 ** 31), low: Math.floor(Math.random() * 2 ** 32) };
}

/** A further name for an object. */
export class Link extends Changing<LookupAnswer> {
  readonly kind = 'link';
  readonly #node: ViewNode;
  readonly #directory: ViewNode;
  readonly #name: string;
  readonly #patch: AttributePatch = { links: 1 };

  constructor(view: View, caller: Caller, node: ViewNode, directory: ViewNode, name: string) {
    super(view, caller, [node, directory]);
    this.#node = node;
    this.#directory = directory;
    this.#name = name;
  }

  predict(): Prediction<LookupAnswer> | null {
    const entry = this.view.nameOf(this.#directory, this.#name);
    const complete = (this.#directory.names?.completeEpoch ?? -1) >= 0;
    if (entry !== undefined ? entry.node !== null || entry.listed !== null : !complete) return null;
    return { outcome: this.#answer(), invented: false };
  }

  protected assumeNow(undo: UndoLog): LookupAnswer {
    const node = this.#node;
    this.view.patch(node, this.#patch, undo);
    this.view.expire(node);
    this.view.changeName(this.#directory, this.#name, node, undo);
    return this.#answer().answer!;
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const name = nameBytes(this.#name);
    return [{ op: 'link', handle: reference(this.#node), directory: reference(this.#directory), name }];
  }

  protected apply(values: readonly unknown[], asked: Asked): LookupAnswer {
    const { attributes, wcc } = values[0] as LinkResult;
    this.view.unpatch(this.#node, this.#patch);
    this.view.acceptOwn(this.#node, { before: null, after: attributes }, asked);
    this.view.acceptOwn(this.#directory, wcc, asked);
    if (!this.assumed) this.view.changeName(this.#directory, this.#name, this.#node, null);
    return this.#answer().answer!;
  }

  protected override refused(errno: number): void {
    if (errno === ERRNO.EEXIST) this.view.doubtName(this.#directory, this.#name);
  }

  #answer(): Outcome<LookupAnswer> {
    const { view } = this;
    const node = this.#node;
    const entry = view.nameOf(this.#directory, this.#name);
    const nameMs = entry === undefined ? 0 : view.nameMs(this.#directory, entry);
    return success({ node, attributes: node.attributes, nameMs, attributesMs: view.keepMs(node) });
  }
}
