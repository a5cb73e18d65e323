/**
 * A file tree in memory with the semantics of a POSIX file server: what MemoryServer serves, what another client changes
 * behind its back, and the model that tests compare with. Pure; every operation is synchronous and atomic.
 */
import { ERRNO } from '../../src/errors.ts';
import { type Attributes, FileType, type SetAttributes, type Time } from '../../src/remote/server.ts';

export class TreeError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export interface Inode {
  readonly ino: number;
  readonly type: FileType;
  mode: number;
  uid: number;
  gid: number;
  links: number;
  data: Uint8Array;
  /** What a crash leaves of `data`; null: all of it. */
  stable: Uint8Array | null;
  target: string;
  major: number;
  minor: number;
  readonly entries: Map<string, Inode>;
  parent: Inode | null;
  atime: Time;
  mtime: Time;
  ctime: Time;
  /** The verifier it was exclusively created with. */
  verifier: string;
}

export class MemoryTree {
  readonly root: Inode;
  readonly #inodes = new Map<number, Inode>();
  #nextIno = 2;
  #ticks = 0;
  /** Bytes of file data; more is ENOSPC. */
  capacity = Infinity;
  /** The clock of the server stands still for this many operations. */
  operationsPerTick = 1;

  constructor() {
    this.root = this.#make(FileType.directory, 0o755, 0, 0, null);
    this.root.links = 2;
  }

  inode(ino: number): Inode | undefined {
    return this.#inodes.get(ino);
  }

  now(): Time {
    const tick = Math.floor(++this.#ticks / this.operationsPerTick);
    return { seconds: 1_600_000_000 + Math.floor(tick / 1e6), nanoseconds: (tick % 1e6) * 1000 };
  }

  attributes(inode: Inode): Attributes {
    const { ino, mtime, atime, ctime } = inode;
    const directory = inode.type === FileType.directory;
    const size = directory ? 4096 : inode.type === FileType.symlink ? inode.target.length : inode.data.byteLength;
    return {
      type: inode.type,
      mode: inode.mode,
      linkCount: inode.links,
      uid: inode.uid,
      gid: inode.gid,
      size,
      used: size,
      deviceMajor: inode.major,
      deviceMinor: inode.minor,
      fsidHigh: 0,
      fsidLow: 7,
      fileidHigh: 0,
      fileidLow: ino,
      atimeSeconds: atime.seconds,
      atimeNanoseconds: atime.nanoseconds,
      mtimeSeconds: mtime.seconds,
      mtimeNanoseconds: mtime.nanoseconds,
      ctimeSeconds: ctime.seconds,
      ctimeNanoseconds: ctime.nanoseconds,
      changeHigh: ctime.seconds,
      changeLow: ctime.nanoseconds,
    };
  }

  lookup(directory: Inode, name: string): Inode {
    const found = entriesOf(directory).get(name);
    if (found === undefined) throw new TreeError(ERRNO.ENOENT);
    return found;
  }

  add(directory: Inode, name: string, type: FileType, set: SetAttributes): Inode {
    const entries = entriesOf(directory);
    if (entries.has(name)) throw new TreeError(ERRNO.EEXIST);
    if (name.length > 255) throw new TreeError(ERRNO.ENAMETOOLONG);
    const inode = this.#make(type, set.mode ?? 0o644, set.uid ?? 0, set.gid ?? 0, directory);
    if (type === FileType.directory) {
      inode.links = 2;
      directory.links++;
    } else inode.links = 1;
    entries.set(name, inode);
    this.#touch(directory);
    return inode;
  }

  link(inode: Inode, directory: Inode, name: string): void {
    const entries = entriesOf(directory);
    if (inode.type === FileType.directory) throw new TreeError(ERRNO.EPERM);
    if (entries.has(name)) throw new TreeError(ERRNO.EEXIST);
    entries.set(name, inode);
    inode.links++;
    inode.ctime = this.now();
    this.#touch(directory);
  }

  unlink(directory: Inode, name: string): void {
    const inode = this.lookup(directory, name);
    if (inode.type === FileType.directory) throw new TreeError(ERRNO.EISDIR);
    directory.entries.delete(name);
    this.#unlinked(inode);
    this.#touch(directory);
  }

  rmdir(directory: Inode, name: string): void {
    const inode = this.lookup(directory, name);
    if (inode.type !== FileType.directory) throw new TreeError(ERRNO.ENOTDIR);
    if (inode.entries.size > 0) throw new TreeError(ERRNO.ENOTEMPTY);
    directory.entries.delete(name);
    directory.links--;
    this.#inodes.delete(inode.ino);
    this.#touch(directory);
  }

  rename(from: Inode, fromName: string, to: Inode, toName: string): void {
    const inode = this.lookup(from, fromName);
    const target = entriesOf(to).get(toName);
    if (target === inode) return;
    const isDirectory = inode.type === FileType.directory;
    for (let up: Inode | null = to; isDirectory && up !== null; up = up.parent) {
      if (up === inode) throw new TreeError(ERRNO.EINVAL);
    }
    if (target !== undefined) {
      const targetIsDirectory = target.type === FileType.directory;
      if (isDirectory && !targetIsDirectory) throw new TreeError(ERRNO.ENOTDIR);
      if (!isDirectory && targetIsDirectory) throw new TreeError(ERRNO.EISDIR);
      if (target.entries.size > 0) throw new TreeError(ERRNO.ENOTEMPTY);
      to.entries.delete(toName);
      if (targetIsDirectory) {
        to.links--;
        this.#inodes.delete(target.ino);
      } else this.#unlinked(target);
    }
    from.entries.delete(fromName);
    to.entries.set(toName, inode);
    inode.parent = to;
    if (isDirectory && from !== to) {
      from.links--;
      to.links++;
    }
    inode.ctime = this.now();
    this.#touch(from);
    this.#touch(to);
  }

  read(inode: Inode, offset: number, length: number): Uint8Array {
    if (inode.type !== FileType.regular)
      throw new TreeError(inode.type === FileType.directory ? ERRNO.EISDIR : ERRNO.EINVAL);
    return inode.data.slice(offset, offset + length);
  }

  write(inode: Inode, offset: number, bytes: Uint8Array, stable = true): void {
    if (inode.type !== FileType.regular) throw new TreeError(ERRNO.EINVAL);
    const end = offset + bytes.byteLength;
    if (end > inode.data.byteLength) this.#resize(inode, end);
    if (!stable && inode.stable === null) inode.stable = inode.data.slice(0, inode.data.byteLength);
    inode.data.set(bytes, offset);
    if (stable) inode.stable = null;
    inode.mtime = inode.ctime = this.now();
  }

  commit(inode: Inode): void {
    inode.stable = null;
  }

  /** What was never committed is gone; sizes stay. */
  crash(): void {
    for (const inode of this.#inodes.values()) {
      if (inode.stable === null) continue;
      const data = new Uint8Array(inode.data.byteLength);
      data.set(inode.stable.subarray(0, data.byteLength));
      inode.data = data;
      inode.stable = null;
    }
  }

  set(inode: Inode, set: SetAttributes): void {
    if (set.size !== undefined) {
      if (inode.type !== FileType.regular) throw new TreeError(ERRNO.EINVAL);
      this.#resize(inode, set.size);
      inode.stable = null;
      inode.mtime = this.now();
    }
    if (set.mode !== undefined) inode.mode = set.mode & 0o7777;
    if (set.uid !== undefined) inode.uid = set.uid;
    if (set.gid !== undefined) inode.gid = set.gid;
    if (set.mtime !== undefined) inode.mtime = set.mtime === 'server' ? this.now() : set.mtime;
    if (set.atime !== undefined) inode.atime = set.atime === 'server' ? this.now() : set.atime;
    inode.ctime = this.now();
  }

  /** Bytes in use. */
  get used(): number {
    let sum = 0;
    for (const { data } of this.#inodes.values()) sum += data.byteLength;
    return sum;
  }

  /** The object at a path from the root; names by `/`. */
  at(path: string): Inode {
    let inode = this.root;
    for (const name of path.split('/')) if (name !== '') inode = this.lookup(inode, name);
    return inode;
  }

  /** The whole tree as text, for comparing: types, modes, link counts, contents. */
  describe(inode: Inode = this.root, path = ''): string[] {
    const lines: string[] = [];
    for (const [name, child] of [...inode.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const at = `${path}/${name}`;
      const mode = child.mode.toString(8);
      if (child.type === FileType.directory) lines.push(`${at}/ ${mode}`, ...this.describe(child, at));
      else if (child.type === FileType.symlink) lines.push(`${at} -> ${child.target}`);
      else lines.push(`${at} ${mode} ${child.links} ${Buffer.from(child.data).toString('hex')}`);
    }
    return lines;
  }

  #resize(inode: Inode, size: number): void {
    if (size > inode.data.byteLength && this.used + size - inode.data.byteLength > this.capacity) {
      throw new TreeError(ERRNO.ENOSPC);
    }
    const data = new Uint8Array(size);
    data.set(inode.data.subarray(0, size));
    inode.data = data;
  }

  #touch(directory: Inode): void {
    directory.mtime = directory.ctime = this.now();
  }

  #unlinked(inode: Inode): void {
    inode.links--;
    inode.ctime = this.now();
    if (inode.links === 0) this.#inodes.delete(inode.ino);
  }

  #make(type: FileType, mode: number, uid: number, gid: number, parent: Inode | null): Inode {
    const now = this.now();
    const ino = parent === null ? 1 : this.#nextIno++;
    const inode: Inode = {
      ino,
      type,
      mode: mode & 0o7777,
      uid,
      gid,
      links: 1,
      data: new Uint8Array(0),
      stable: null,
      target: '',
      major: 0,
      minor: 0,
      entries: new Map(),
      parent,
      atime: now,
      mtime: now,
      ctime: now,
      verifier: '',
    };
    this.#inodes.set(ino, inode);
    return inode;
  }
}

function entriesOf(directory: Inode): Map<string, Inode> {
  if (directory.type !== FileType.directory) throw new TreeError(ERRNO.ENOTDIR);
  return directory.entries;
}
