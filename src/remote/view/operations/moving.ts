/**
 * Operations that take names away or move them: unlink, rmdir, rename. A file that loses its name while it is open is renamed
 * to `.nfs…` until its last close, since NFS knows no open files.
 * They reach the world only through their view.
 */
import { ERRNO } from '../../../errors.ts';
import type { Attributes, ChangeResult, RenameResult, Operation as ServerOperation } from '../../server.ts';
import { FileType } from '../../server.ts';
import { sillyName } from '../files.ts';
import { nameBytes } from '../names.ts';
import type { ViewNode } from '../node.ts';
import { type Prediction, success } from '../operation.ts';
import { type AttributePatch, patched } from '../patch.ts';
import type { UndoLog } from '../undo.ts';
import type { Asked, View } from '../view.ts';
import { Changing, type Reference } from './changing.ts';
import { Lookup } from './lookup.ts';
import type { Caller } from './reading.ts';

const NOTHING = success(null);

/** Puts a silly name in the place of `name`, in the view. */
function applySilly(view: View, directory: ViewNode, silly: string, node: ViewNode, undo: UndoLog | null): void {
  view.changeName(directory, silly, node, undo);
  const old = node.silly;
  node.silly = { directory, name: silly };
  view.pin(directory); // until removeSilly
  undo?.push(() => {
    node.silly = old;
    view.unpin(directory);
  });
}

/** A file has lost a name for good. */
function lostName(view: View, node: ViewNode): void {
  view.expire(node);
  if (node.attributes.linkCount <= 1 && node.opens === 0) view.writeBack.discard(node);
}

/** The server has removed, replaced or moved it, and says nothing of the object itself: what was assumed of that is so. */
function acceptUnsaid(view: View, node: ViewNode, patch: AttributePatch): void {
  view.changedUnsaid(node);
  if (!node.patches.includes(patch)) return;
  view.unpatch(node, patch);
  view.say(node, patched(node.said, [patch]));
}

export class Remove extends Changing<null> {
  readonly kind: 'unlink' | 'rmdir';
  readonly directory: ViewNode;
  readonly name: string;
  /** The silly name that the file gets, if it is open. */
  #silly: string | null = null;
  readonly #patch: AttributePatch = { links: -1 };

  constructor(view: View, caller: Caller, kind: 'unlink' | 'rmdir', directory: ViewNode, name: string) {
    const node = view.nameOf(directory, name)?.node ?? null;
    super(view, caller, node === null ? [directory] : [directory, node]);
    this.kind = kind;
    this.directory = directory;
    this.name = name;
  }

  predict(): Prediction<null> | null {
    const node = this.view.nameOf(this.directory, this.name)?.node;
    if (!node || node.stale) return null;
    const isDirectory = node.attributes.type === FileType.directory;
    if (isDirectory !== (this.kind === 'rmdir')) return null;
    if (isDirectory && (!knownEmpty(node) || node.leaving.size > 0)) return null;
    return { outcome: NOTHING, invented: false };
  }

  protected override async prepare(): Promise<void> {
    // A file that was just closed is about to go: without it the directory may be empty.
    if (this.kind === 'rmdir') for (const node of this.touches) await Promise.all(node.leaving);
    else await known(this.view, this.caller, this.directory, this.name);
    this.#plan();
  }

  protected assumeNow(undo: UndoLog): null {
    this.#plan();
    const node = this.view.nameOf(this.directory, this.name)?.node ?? null;
    if (this.kind === 'rmdir') {
      this.view.patch(this.directory, this.#patch, undo);
      if (node !== null) removeAssumed(node, undo);
    } else if (node !== null && this.#silly === null) this.view.patch(node, this.#patch, undo);
    this.#change(undo);
    return null;
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const directory = reference(this.directory);
    const name = nameBytes(this.name);
    if (this.#silly !== null) {
      const toName = nameBytes(this.#silly);
      return [{ op: 'rename', fromDirectory: directory, fromName: name, toDirectory: directory, toName }];
    }
    return [{ op: this.kind === 'rmdir' ? 'rmdir' : 'remove', directory, name }];
  }

  protected apply(values: readonly unknown[], asked: Asked): null {
    const { view, directory } = this;
    const value = values[0] as ChangeResult | RenameResult;
    view.unpatch(directory, this.#patch);
    for (const node of this.touches) if (node !== directory) acceptUnsaid(view, node, this.#patch);
    view.acceptOwn(directory, 'to' in value ? value.to : value.wcc, asked);
    if (!this.assumed) this.#change(null);
    return null;
  }

  protected override refused(errno: number): void {
    if (errno === ERRNO.ENOENT || errno === ERRNO.ENOTDIR || errno === ERRNO.EISDIR) {
      this.view.doubtName(this.directory, this.name);
    }
  }

  #plan(): void {
    const node = this.view.nameOf(this.directory, this.name)?.node ?? null;
    if (this.kind === 'unlink' && node !== null && mustStay(this.view, node, this.name)) {
      this.#silly = sillyName(node, this.view.nextSillyNumber());
    }
  }

  #change(undo: UndoLog | null): void {
    const { view, directory, name } = this;
    const node = view.nameOf(directory, name)?.node ?? null;
    if (node !== null && this.#silly !== null) applySilly(view, directory, this.#silly, node, undo);
    else if (node !== null && undo === null) lostName(view, node);
    else if (node !== null) undo!.push(noUndo, () => lostName(view, node));
    view.changeName(directory, name, null, undo);
  }
}

function removeAssumed(node: ViewNode, undo: UndoLog): void {
  node.removed = true;
  undo.push(() => {
    node.removed = false;
  });
}

function noUndo(): void {}

/** Open, and without a silly name by which it lives on. */
function mustStay(view: View, node: ViewNode, name: string): boolean {
  return node.silly === null && view.isOpen(node, name);
}

/** Whether a name stands for an open file must be known; the kernel may remember names that were forgotten here. */
async function known(view: View, caller: Caller, directory: ViewNode, name: string): Promise<void> {
  if (view.nameOf(directory, name) === undefined) await new Lookup(view, caller, directory, name).perform();
}

function knownEmpty(directory: ViewNode): boolean {
  const { names } = directory;
  if (names === null || names.completeEpoch < 0) return false;
  for (const { node, listed } of names.names.values()) if (node !== null || listed !== null) return false;
  return true;
}

export class Rename extends Changing<null> {
  readonly kind = 'rename';
  readonly to: ViewNode;
  readonly toName: string;
  readonly #from: ViewNode;
  readonly #fromName: string;
  /** The silly name of an open file that is overwritten. */
  #silly: string | null = null;
  /** What the file that is overwritten loses. */
  readonly #patch: AttributePatch = { links: -1 };
  /** What moves, where it is looked at in the same breath before and after: its change time will be another one. */
  #watched: ViewNode | null = null;

  constructor(view: View, caller: Caller, from: ViewNode, fromName: string, to: ViewNode, toName: string) {
    const node = view.nameOf(from, fromName)?.node ?? null;
    const target = view.nameOf(to, toName)?.node ?? null;
    super(
      view,
      caller,
      [...new Set([from, to, node, target])].filter((each) => each !== null),
    );
    this.#from = from;
    this.#fromName = fromName;
    this.to = to;
    this.toName = toName;
  }

  predict(): Prediction<null> | null {
    const node = this.view.nameOf(this.#from, this.#fromName)?.node;
    if (!node || node.stale) return null;
    const entry = this.view.nameOf(this.to, this.toName);
    if (entry === undefined) {
      if ((this.to.names?.completeEpoch ?? -1) < 0) return null;
    } else if (entry.listed !== null) return null;
    else if (entry.node !== null) {
      // What may replace what is the server's to say, except in the plain case.
      if (entry.node === node || !isFile(entry.node) || !isFile(node)) return null;
    }
    if (node.attributes.type === FileType.directory && isBeneath(this.to, node)) return null;
    return { outcome: NOTHING, invented: false };
  }

  protected override async prepare(): Promise<void> {
    await known(this.view, this.caller, this.#from, this.#fromName);
    await known(this.view, this.caller, this.to, this.toName);
    this.#plan();
  }

  protected assumeNow(undo: UndoLog): null {
    this.#plan();
    const target = this.view.nameOf(this.to, this.toName)?.node ?? null;
    if (target !== null && this.#silly === null) this.view.patch(target, this.#patch, undo);
    if (this.view.server.info.maxBatch > 1) this.#watched = this.view.nameOf(this.#from, this.#fromName)?.node ?? null;
    this.#change(undo);
    return null;
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const toDirectory = reference(this.to);
    const toName = nameBytes(this.toName);
    const fromName = nameBytes(this.#fromName);
    const rename: ServerOperation = {
      op: 'rename',
      fromDirectory: reference(this.#from),
      fromName,
      toDirectory,
      toName,
    };
    const steps = [rename];
    if (this.#silly !== null) {
      const aside = nameBytes(this.#silly);
      steps.unshift({ op: 'rename', fromDirectory: toDirectory, fromName: toName, toDirectory, toName: aside });
    }
    if (this.#watched === null) return steps;
    const look: ServerOperation = { op: 'getattr', handle: reference(this.#watched) };
    return [look, ...steps, look];
  }

  protected apply(values: readonly unknown[], asked: Asked): null {
    const { view } = this;
    const renames = this.#watched === null ? values : values.slice(1, -1);
    const { from, to } = renames[renames.length - 1] as RenameResult;
    for (const node of this.touches) {
      if (node !== this.#from && node !== this.to && node !== this.#watched) acceptUnsaid(view, node, this.#patch);
    }
    if (this.#watched !== null) {
      const { changeHigh: high, changeLow: low } = values[0] as Attributes;
      const after = values[values.length - 1] as Attributes;
      view.acceptOwn(this.#watched, { before: { high, low }, after }, asked);
    }
    // After a step aside, "before" speaks of our own first step.
    const alone = renames.length === 1;
    view.acceptOwn(this.to, alone ? to : { before: null, after: to.after }, asked);
    if (this.#from !== this.to) view.acceptOwn(this.#from, from, asked);
    if (!this.assumed) this.#change(null);
    return null;
  }

  protected override refused(errno: number): void {
    if (errno === ERRNO.ENOENT) this.view.doubtName(this.#from, this.#fromName);
    // Perhaps only the step aside was taken.
    this.view.doubtName(this.to, this.toName);
  }

  #plan(): void {
    const node = this.view.nameOf(this.#from, this.#fromName)?.node ?? null;
    const target = this.view.nameOf(this.to, this.toName)?.node ?? null;
    // Where the server will refuse, nothing must be moved aside.
    if (target === null || target === node || !isFile(target) || node === null || !isFile(node)) return;
    if (mustStay(this.view, target, this.toName)) this.#silly = sillyName(target, this.view.nextSillyNumber());
  }

  #change(undo: UndoLog | null): void {
    const { view } = this;
    const node = view.nameOf(this.#from, this.#fromName)?.node ?? null;
    const target = view.nameOf(this.to, this.toName)?.node ?? null;
    // Two names of one object: rename does nothing.
    if (node !== null && node === target) return;
    if (target !== null) {
      if (this.#silly !== null) applySilly(view, this.to, this.#silly, target, undo);
      else if (undo === null) lostName(view, target);
      else undo.push(noUndo, () => lostName(view, target));
    }
    if (node === null) {
      // What moved is not known here; that it is there now is.
      view.nodes.removeName(this.to, this.toName);
      view.doubtName(this.to, this.toName);
    } else {
      view.pin(node);
      view.changeName(this.to, this.toName, node, undo);
      view.expire(node); // its change time
    }
    view.changeName(this.#from, this.#fromName, null, undo);
    if (node !== null) view.unpin(node);
  }
}

function isFile(node: ViewNode): boolean {
  return node.attributes.type !== FileType.directory;
}

function isBeneath(node: ViewNode | null, ancestor: ViewNode): boolean {
  for (let depth = 0; node !== null && depth < 4096; depth++) {
    if (node === ancestor) return true;
    node = node.parent;
  }
  return false;
}
