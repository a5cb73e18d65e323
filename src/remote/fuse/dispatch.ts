/**
 * From each opcode to the method that handles it.
 * It uses the session it belongs to.
 */
import { ERRNO } from '../../errors.ts';
import type { OpenFile } from '../view/files.ts';
import type { ViewNode } from '../view/node.ts';
import { Opcode } from './abi.ts';
import { FileHandler } from './file-handler.ts';
import { NameHandler } from './name-handler.ts';
import type { FuseSession } from './session.ts';

type OnNode = (node: ViewNode) => void;

export class Dispatch {
  readonly #session: FuseSession;
  readonly #files: FileHandler;
  /** Requests that name a node. */
  readonly #onNode = new Map<number, OnNode>();
  /** Requests that name an open file, or nothing. */
  readonly #plain = new Map<number, () => void>();

  constructor(session: FuseSession) {
    this.#session = session;
    const files = new FileHandler(session);
    const names = new NameHandler(session, files);
    this.#files = files;
    const { reader } = session;
    const done = (): void => session.refuse(0);
    this.#plain
      .set(Opcode.READ, () => files.read())
      .set(Opcode.WRITE, () => files.write())
      .set(Opcode.FLUSH, () => files.flush())
      .set(Opcode.FSYNC, () => files.flush())
      .set(Opcode.RELEASE, () => files.release())
      .set(Opcode.READDIR, () => files.readdir(false))
      .set(Opcode.READDIRPLUS, () => files.readdir(true))
      .set(Opcode.RELEASEDIR, () => files.releaseDirectory())
      .set(Opcode.STATFS, () => names.statfs())
      .set(Opcode.FSYNCDIR, done) // NFS changes directories on stable storage
      .set(Opcode.DESTROY, done)
      .set(Opcode.ACCESS, () => session.refuse(ERRNO.ENOSYS)); // default_permissions
    this.#onNode
      .set(Opcode.LOOKUP, (node) => names.lookup(node))
      .set(Opcode.GETATTR, (node) => names.getattr(node))
      .set(Opcode.SETATTR, (node) => names.setattr(node))
      .set(Opcode.READLINK, (node) => names.readlink(node))
      .set(Opcode.CREATE, (node) => names.create(node))
      .set(Opcode.MKDIR, (node) => names.mkdir(node))
      .set(Opcode.MKNOD, (node) => names.mknod(node))
      .set(Opcode.SYMLINK, (node) => names.symlink(node))
      .set(Opcode.LINK, (node) => names.link(node))
      .set(Opcode.UNLINK, (node) => names.remove(node, 'unlink'))
      .set(Opcode.RMDIR, (node) => names.remove(node, 'rmdir'))
      .set(Opcode.RENAME, (node) => names.rename(node, 8))
      .set(Opcode.RENAME2, (node) => {
        // No flag can be kept safely over NFS; the Linux client refuses them alike.
        if (reader.u32(8) === 0) names.rename(node, 16);
        else session.refuse(ERRNO.EINVAL);
      })
      .set(Opcode.OPEN, (node) => files.open(node, reader.u32(0)))
      .set(Opcode.OPENDIR, (node) => files.openDirectory(node));
  }

  openFiles(): OpenFile[] {
    return this.#files.openFiles();
  }

  /** Handles the request that the reader holds. */
  handle(): void {
    const session = this.#session;
    const { opcode, nodeId } = session.reader;
    const plain = this.#plain.get(opcode);
    if (plain !== undefined) {
      plain();
      return;
    }
    const onNode = this.#onNode.get(opcode);
    if (onNode === undefined) {
      session.refuse(ERRNO.ENOSYS);
      return;
    }
    const node = session.node(nodeId);
    if (node === undefined) session.refuse(ERRNO.ESTALE);
    else onNode(node);
  }
}
