/**
 * Open files: what a descriptor is to the view, and what its last close does (files removed while open).
 * It uses the view's server.
 */
import { ERRNO } from '../../errors.ts';
import type { Credential } from '../server.ts';
import { errnoOf } from './errors.ts';
import { nameBytes } from './names.ts';
import type { ViewNode } from './node.ts';
import type { View } from './view.ts';

/** Fields are plain: the loader and the read path change them for every read. */
export class OpenFile {
  readonly node: ViewNode;
  readonly flags: number;
  /** In whose name it was opened. */
  readonly credential: Credential | null;
  /** Where a sequential reader would go on, and how far to read ahead of it. */
  nextOffset = 0;
  aheadBytes = 0;
  /** Write errors of the file that this descriptor has been told of. */
  errorsSeen: number;

  constructor(node: ViewNode, flags: number, credential: Credential | null) {
    this.node = node;
    this.flags = flags;
    this.credential = credential;
    this.errorsSeen = node.data?.errors ?? 0;
  }

  /** The errno of a write that failed since this was last asked; 0: none did. */
  takeError(): number {
    const { data } = this.node;
    if (data === null || data.errors === this.errorsSeen) return 0;
    this.errorsSeen = data.errors;
    return data.lastErrno;
  }
}

export function openFile(node: ViewNode, flags: number, credential: Credential | null): OpenFile {
  node.opens++;
  return new OpenFile(node, flags, credential);
}

/** Ends an open file; never waits. What is still unwritten goes to the server in the background. */
export function closeFile(view: View, file: OpenFile): void {
  const { node } = file;
  node.opens--;
  removeIfUnused(view, node, file.credential);
  view.nodes.release(node);
}

/** Removes a silly name that nobody needs any more; one that is only assumed waits for the truth. */
export function removeIfUnused(view: View, node: ViewNode, credential: Credential | null): void {
  if (node.opens > 0 || node.silly === null || node.assumed > 0) return;
  const { directory } = node.silly;
  const leaving = removeSilly(view, node, credential).finally(() => directory.leaving.delete(leaving));
  directory.leaving.add(leaving);
}

/** A name for a file that is removed while it is open, as the Linux NFS client makes them. */
export function sillyName(node: ViewNode, number: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const { fileidHigh, fileidLow } = node.attributes;
  return `.nfs${hex(fileidHigh, 8)}${hex(fileidLow, 8)}${hex(number, 8)}`;
}

async function removeSilly(view: View, node: ViewNode, credential: Credential | null): Promise<void> {
  const { directory, name } = node.silly!;
  node.silly = null;
  view.writeBack.discard(node);
  view.ownBegins(directory);
  try {
    const handle = await view.handleOf(directory);
    const asked = view.ask();
    const { wcc } = await view.server.remove(handle, nameBytes(name), view.call(credential));
    view.acceptOwn(directory, wcc, asked);
    view.changeName(directory, name, null, null);
    view.expire(node); // it may have another name
  } catch (error) {
    // Somebody else removed it; anything else leaves the file behind, and its name says what it is.
    if (errnoOf(error) === ERRNO.ENOENT) view.doubtName(directory, name);
  } finally {
    view.ownEnds(directory);
    view.unpin(directory);
  }
}
