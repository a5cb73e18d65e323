/**
 * Requests about names and attributes: from each opcode to the view operation it means, and from the answer to the reply.
 * It uses the session it belongs to.
 */
import { ERRNO } from '../../errors.ts';
import type { Device, SetAttributes, Time } from '../server.ts';
import { FileType } from '../server.ts';
import type { ViewNode } from '../view/node.ts';
import { Lookup } from '../view/operations/lookup.ts';
import { Link, Make, type Making } from '../view/operations/making.ts';
import { Remove, Rename } from '../view/operations/moving.ts';
import { Getattr, Readlink, Statfs } from '../view/operations/reading.ts';
import { Setattr } from '../view/operations/writing.ts';
import { GETATTR_FH, SetattrValid } from './abi.ts';
import type { FileHandler } from './file-handler.ts';
import { Handler } from './handler.ts';
import { deviceMajor, deviceMinor } from './reply.ts';
import type { FuseSession } from './session.ts';

const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const S_IFMT = 0o170000;
const STATFS_BLOCK_BYTES = 4096;
/** As the Linux NFS client: programs expect no longer names, and servers name limits that their file system does not have. */
const NAME_MAX = 255;

export class NameHandler extends Handler {
  readonly #files: FileHandler;

  constructor(session: FuseSession, files: FileHandler) {
    super(session);
    this.#files = files;
  }

  lookup(directory: ViewNode): void {
    const { pid } = this.reader;
    const name = this.name(0);
    if (name === null) return;
    const caller = this.caller(pid);
    let counted: ViewNode | null = null;
    this.session.run(
      () => new Lookup(this.view, caller, directory, name),
      (answer) => {
        counted = this.entry(answer);
      },
      () => this.uncount(counted),
    );
  }

  getattr(node: ViewNode): void {
    // With a descriptor it is the kernel's own question, before it reads or appends; stat(2) comes without.
    const sizeOnly = (this.reader.u32(0) & GETATTR_FH) !== 0;
    const caller = this.caller();
    this.session.run(
      () => new Getattr(this.view, caller, node, sizeOnly),
      (answer) => this.attributes(answer),
    );
  }

  setattr(node: ViewNode): void {
    const attributes = this.#setAttributes();
    const caller = this.caller();
    if (attributes.size !== undefined && attributes.size > this.view.server.info.maxFileSize) {
      this.session.refuse(ERRNO.EFBIG);
      return;
    }
    if (Object.keys(attributes).length === 0) {
      this.session.run(
        () => new Getattr(this.view, caller, node),
        (answer) => this.attributes(answer),
      );
      return;
    }
    this.session.run(
      () => new Setattr(this.view, caller, node, attributes),
      (answer) => this.attributes(answer),
    );
  }

  #setAttributes(): SetAttributes {
    const reader = this.reader;
    const valid = reader.u32(0);
    const set: { -readonly [Key in keyof SetAttributes]: SetAttributes[Key] } = {};
    if (valid & SetattrValid.MODE) set.mode = reader.u32(68) & 0o7777;
    if (valid & SetattrValid.UID) set.uid = reader.u32(76);
    if (valid & SetattrValid.GID) set.gid = reader.u32(80);
    if (valid & SetattrValid.SIZE) set.size = reader.u64(16);
    if (valid & SetattrValid.ATIME) set.atime = valid & SetattrValid.ATIME_NOW ? 'server' : this.#time(32, 56);
    if (valid & SetattrValid.MTIME) set.mtime = valid & SetattrValid.MTIME_NOW ? 'server' : this.#time(40, 60);
    return set;
  }

  #time(seconds: number, nanoseconds: number): Time {
    return { seconds: this.reader.i64(seconds), nanoseconds: this.reader.u32(nanoseconds) };
  }

  readlink(node: ViewNode): void {
    const caller = this.caller();
    this.session.run(
      () => new Readlink(this.view, caller, node),
      (target) => this.reply.bytes(target.subarray(0, 4095)),
    );
  }

  statfs(): void {
    const caller = this.caller();
    this.session.run(
      () => new Statfs(this.view, caller),
      (result) => this.reply.statfs(result, STATFS_BLOCK_BYTES, Math.min(NAME_MAX, this.view.server.info.maxName)),
    );
  }

  create(directory: ViewNode): void {
    const reader = this.reader;
    const flags = reader.u32(0);
    const mode = reader.u32(4) & 0o7777;
    const name = this.name(16);
    if (name === null) return;
    const caller = this.caller();
    const making: Making = {
      kind: 'create',
      mode,
      exclusive: (flags & O_EXCL) !== 0,
      truncate: (flags & O_TRUNC) !== 0,
    };
    let counted: ViewNode | null = null;
    let opened = 0;
    this.session.run(
      () => new Make(this.view, caller, directory, name, making),
      (answer) => {
        counted = this.entry(answer);
        opened = this.#files.opened(answer.node!, flags, caller.credential, true);
      },
      () => {
        this.uncount(counted);
        this.#files.closed(opened);
      },
    );
  }

  mknod(directory: ViewNode): void {
    const mode = this.reader.u32(0);
    const device = this.reader.u32(4);
    this.make(directory, 16, () => {
      const permissions = mode & 0o7777;
      const numbers = { major: deviceMajor(device), minor: deviceMinor(device) };
      const special = (made: Device): Making => ({ kind: 'mknod', mode: permissions, device: made });
      switch (mode & S_IFMT) {
        case 0o100000:
          return { kind: 'create', mode: permissions, exclusive: true, truncate: false };
        case 0o010000:
          return special({ type: FileType.fifo });
        case 0o140000:
          return special({ type: FileType.socket });
        case 0o060000:
          return special({ type: FileType.block, ...numbers });
        case 0o020000:
          return special({ type: FileType.character, ...numbers });
        default:
          return null;
      }
    });
  }

  /** Makes what is described, under the name at `offset`. */
  make(directory: ViewNode, offset: number, describe: () => Making | null): void {
    const name = this.name(offset);
    if (name === null) return;
    const making = describe();
    if (making === null) {
      this.session.refuse(ERRNO.EINVAL);
      return;
    }
    const caller = this.caller();
    let counted: ViewNode | null = null;
    this.session.run(
      () => new Make(this.view, caller, directory, name, making),
      (answer) => {
        counted = this.entry(answer);
      },
      () => this.uncount(counted),
    );
  }

  link(directory: ViewNode): void {
    const node = this.session.node(this.reader.u64(0));
    const name = this.name(8);
    if (name === null) return;
    if (node === undefined) {
      this.session.refuse(ERRNO.ESTALE);
      return;
    }
    const caller = this.caller();
    let counted: ViewNode | null = null;
    this.session.run(
      () => new Link(this.view, caller, node, directory, name),
      (answer) => {
        counted = this.entry(answer);
      },
      () => this.uncount(counted),
    );
  }

  remove(directory: ViewNode, kind: 'unlink' | 'rmdir'): void {
    const name = this.name(0);
    if (name === null) return;
    const caller = this.caller();
    this.session.run(
      () => new Remove(this.view, caller, kind, directory, name),
      () => {},
    );
  }

  rename(from: ViewNode, offset: number): void {
    const to = this.session.node(this.reader.u64(0));
    const fromName = this.name(offset);
    if (fromName === null) return;
    const toName = this.name(this.reader.afterName);
    if (toName === null) return;
    if (to === undefined) {
      this.session.refuse(ERRNO.ESTALE);
      return;
    }
    const caller = this.caller();
    this.session.run(
      () => new Rename(this.view, caller, from, fromName, to, toName),
      () => {},
    );
  }

  mkdir(directory: ViewNode): void {
    this.make(directory, 8, () => ({ kind: 'mkdir', mode: this.reader.u32(0) & 0o7777 }));
  }

  symlink(directory: ViewNode): void {
    this.make(directory, 0, () => {
      const target = this.reader.target(this.reader.afterName);
      return target === null ? null : { kind: 'symlink', target };
    });
  }
}
