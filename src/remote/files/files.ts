/**
 * A remote tree with an API like node:fs/promises, over any RemoteServer. It asks the server; nothing local is touched.
 *
 * What one may rely on (docs/design/remote.md says it in full): `stat` and `open` always ask the server about the name they are
 * given; after `close` (or `sync`) the data is on the server's stable storage and everybody who opens the file then sees it.
 */
import { constants } from 'node:fs';
import { ERRNO, systemError } from '../../errors.ts';
import { handleKey } from '../operation.ts';
import { RemoteError } from '../remote-error.ts';
import { AccessBit, type CallOptions, FileType, type RemoteServer, type SetAttributes } from '../server.ts';
import { type Content, type ContentSource, RemoteFile, type TimeLike } from './file.ts';
import { type OpenFlags, parseFlags } from './flags.ts';
import { type Budget, Inode } from './inode.ts';
import { NameCache } from './name-cache.ts';
import { asFileCall, type Path, parsePath, pathOf } from './path.ts';
import { type ReaddirOptions, readDirectory } from './readdir.ts';
import { forEach, removeTree } from './remove.ts';
import { type RemoteDirent, type RemoteStatFs, RemoteStats, toStatFs, toTime } from './stats.ts';
import { RemoteReadStream, RemoteWriteStream, type StreamOptions } from './streams.ts';
import { existing, type Found, type Place, Walker } from './walk.ts';

const { R_OK, W_OK, X_OK } = constants;
const OPEN_RETRIES = 8;
const KEEP_UNCOMMITTED = 64 * 1024 * 1024;

export interface RemoteFilesOptions {
  /** How long a directory on the way to a path's end may be believed. Default 3000; 0: never. */
  readonly nameCacheMs?: number | undefined;
  /** Names remembered at most. Default 10000. */
  readonly nameCacheSize?: number | undefined;
  /** Bytes of acknowledged but uncommitted data kept at most; at the bound they are committed first. Default 64 MiB. */
  readonly maxUncommitted?: number | undefined;
  /** Bits taken from the mode of what is made. Default: this process's umask. */
  readonly umask?: number | undefined;
}

export interface FileOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface OpenOptions extends FileOptions {
  readonly flag?: string | number | undefined;
  readonly mode?: number | undefined;
}

type NameOf<O> = O extends { encoding: 'buffer' } ? Buffer : string;
type EntryOf<O> = O extends { withFileTypes: true } ? RemoteDirent<NameOf<O>> : NameOf<O>;

/** Methods reject with a FileError: `code`, `errno`, `syscall`, `path` and `dest` as in node:fs. */
export class RemoteFiles {
  readonly server: RemoteServer;
  readonly #walker: Walker;
  readonly #names: NameCache;
  readonly #inodes = new Map<string, Inode>();
  readonly #budget: Budget;
  readonly #umask: number;
  #temporary = 0;

  constructor(server: RemoteServer, options: RemoteFilesOptions = {}) {
    this.server = server;
    this.#names = new NameCache(options.nameCacheSize ?? 10_000, options.nameCacheMs ?? 3000, () => performance.now());
    this.#walker = new Walker(server, this.#names);
    this.#budget = { limit: options.maxUncommitted ?? KEEP_UNCOMMITTED, inodes: new Set() };
    this.#umask = options.umask ?? process.umask();
  }

  /** Opens a file. `mode` (less the umask) is for a file that is made. */
  open(path: Path, flags: string | number = 'r', mode = 0o666, options?: FileOptions): Promise<RemoteFile> {
    const parsed = parseFlags(flags);
    return asFileCall('open', path, undefined, async () => {
      for (let attempt = 0; ; attempt++) {
        try {
          const found = await this.#walker.at(path, 'open', !parsed.noFollow && !parsed.exclusive, options, (place) =>
            this.#openAt(place, parsed, mode, options),
          );
          return this.#openFile(found, parsed, path, options);
        } catch (error) {
          // Somebody made it between our looking and our making: look again.
          const raced = error instanceof RemoteError && error.code === 'EEXIST' && !parsed.exclusive;
          if (!raced || attempt >= OPEN_RETRIES) throw error;
        }
      }
    });
  }

  async #openAt(place: Place, flags: OpenFlags, mode: number, options?: CallOptions): Promise<Found> {
    const { found, directory, name } = place;
    if (found === null) {
      if (!flags.create) throw systemError(ERRNO.ENOENT, 'open');
      if (place.wantsDirectory) throw systemError(ERRNO.EISDIR, 'open');
      if (directory === null || name === null) throw systemError(ERRNO.EISDIR, 'open');
      const attributes = { mode: mode & ~this.#umask & 0o7777 };
      const how = flags.exclusive ? 'exclusive' : 'guarded';
      return this.server.create(directory, name, how, attributes, undefined, options);
    }
    if (flags.exclusive) throw systemError(ERRNO.EEXIST, 'open');
    const { type } = found.attributes;
    if (type === FileType.symlink) throw systemError(ERRNO.ELOOP, 'open');
    if (flags.directory && type !== FileType.directory) throw systemError(ERRNO.ENOTDIR, 'open');
    if (type === FileType.directory && (flags.write || flags.truncate)) throw systemError(ERRNO.EISDIR, 'open');
    if (type !== FileType.directory && type !== FileType.regular) throw systemError(ERRNO.ENXIO, 'open');
    const wanted = (flags.read ? AccessBit.read : 0) | (flags.write ? AccessBit.modify : 0);
    const { granted } = await this.server.access(found.handle, wanted, options);
    if (granted !== wanted) throw systemError(ERRNO.EACCES, 'open');
    if (flags.truncate && flags.write) await this.#inode(found).truncate(0, options);
    return found;
  }

  stat(path: Path, options?: FileOptions): Promise<RemoteStats> {
    return this.#stat('stat', path, true, options);
  }

  lstat(path: Path, options?: FileOptions): Promise<RemoteStats> {
    return this.#stat('lstat', path, false, options);
  }

  #stat(syscall: string, path: Path, follow: boolean, options?: FileOptions): Promise<RemoteStats> {
    return this.#atObject(syscall, path, follow, options, async ({ attributes }) => new RemoteStats(attributes));
  }

  /** Checks permissions as the server sees them (ACCESS); `mode` of fs.constants. EACCES where not granted. */
  access(path: Path, mode: number = constants.F_OK, options?: FileOptions): Promise<void> {
    return this.#atObject('access', path, true, options, async ({ handle, attributes }) => {
      if (mode === constants.F_OK) return;
      const isDirectory = attributes.type === FileType.directory;
      const bits =
        (mode & R_OK ? AccessBit.read : 0) |
        (mode & W_OK ? AccessBit.modify | AccessBit.extend : 0) |
        (mode & X_OK ? (isDirectory ? AccessBit.lookup : AccessBit.execute) : 0);
      const { granted } = await this.server.access(handle, bits, options);
      if (granted !== bits) throw systemError(ERRNO.EACCES, 'access');
    });
  }

  /** The listing: names, or Dirents (with `stats` from READDIRPLUS). In the server's order. */
  readdir<O extends ReaddirOptions = ReaddirOptions>(path: Path, options?: O): Promise<EntryOf<O>[]> {
    return asFileCall('scandir', path, undefined, async () => {
      const entries = await readDirectory(this.server, this.#walker, path, options ?? {});
      return entries as EntryOf<O>[];
    });
  }

  /** Makes a directory; with `recursive` those above too, and gives the first one made (undefined: none). */
  mkdir(
    path: Path,
    options: (FileOptions & { mode?: number; recursive?: boolean }) | number = {},
  ): Promise<string | undefined> {
    const { mode = 0o777, recursive = false, signal } = typeof options === 'number' ? { mode: options } : options;
    const bits = mode & ~this.#umask & 0o7777;
    return asFileCall('mkdir', path, undefined, async () => {
      if (recursive) return this.#makeTree(parsePath(path, 'mkdir').components, bits, { signal });
      await this.#mkdir(path, bits, { signal });
      return undefined;
    });
  }

  #mkdir(path: Path, mode: number, options: FileOptions): Promise<unknown> {
    return this.#walker.inDirectory(path, 'mkdir', options, (directory, name) =>
      this.server.mkdir(directory, name, { mode }, options),
    );
  }

  /** Makes a directory, and first what is missing above; gives the path of the first one made. */
  async #makeTree(components: readonly Uint8Array[], mode: number, options: FileOptions): Promise<string | undefined> {
    if (components.length === 0) return undefined;
    const path = pathOf(components);
    try {
      await this.#mkdir(path, mode, options);
      return path.toString('utf8');
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === 'ENOENT' && components.length > 1) {
        const first = await this.#makeTree(components.slice(0, -1), mode, options);
        return (await this.#makeTree(components, mode, options)) === undefined
          ? first
          : (first ?? path.toString('utf8'));
      }
      // EBUSY: a path that ends in `..` is there if the walk to it ends.
      if (code !== 'EEXIST' && code !== 'EBUSY') throw error;
      const place = await this.#walker.at(path, 'mkdir', true, options, async ({ found }) => found);
      if (place?.attributes.type !== FileType.directory) throw systemError(ERRNO.EEXIST, 'mkdir');
      return undefined;
    }
  }

  rmdir(path: Path, options?: FileOptions): Promise<void> {
    return asFileCall('rmdir', path, undefined, () =>
      this.#walker.inDirectory(path, 'rmdir', options, async (directory, name) => {
        await this.server.rmdir(directory, name, options);
        this.#names.delete(directory, name);
      }),
    );
  }

  unlink(path: Path, options?: FileOptions): Promise<void> {
    return asFileCall('unlink', path, undefined, () =>
      this.#walker.inDirectory(path, 'unlink', options, async (directory, name, wantsDirectory) => {
        if (wantsDirectory) throw systemError(ERRNO.ENOTDIR, 'unlink');
        await this.server.remove(directory, name, options);
        this.#names.delete(directory, name);
      }),
    );
  }

  /** Removes a file, or with `recursive` a tree; with `force` what is not there is no error. */
  rm(path: Path, options: FileOptions & { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    const { recursive = false, force = false } = options;
    return asFileCall('rm', path, undefined, () =>
      this.#walker.at(path, 'rm', false, options, async ({ found, directory, name }) => {
        if (found === null && force) return;
        if (found === null) throw systemError(ERRNO.ENOENT, 'rm');
        if (directory === null || name === null) throw systemError(ERRNO.EBUSY, 'rm');
        this.#names.delete(directory, name);
        if (found.attributes.type !== FileType.directory) await this.server.remove(directory, name, options);
        else if (recursive) await removeTree(this.server, directory, name, found.handle, options);
        else throw systemError(ERRNO.EISDIR, 'rm');
      }),
    );
  }

  rename(from: Path, to: Path, options?: FileOptions): Promise<void> {
    return asFileCall('rename', from, to, () =>
      this.#walker.inDirectories(from, to, 'rename', options, async (a, b) => {
        await this.server.rename(a.directory, a.name, b.directory, b.name, options);
        this.#names.delete(a.directory, a.name);
        this.#names.delete(b.directory, b.name);
      }),
    );
  }

  /** A second name for a file; a symbolic link is linked itself. */
  link(existingPath: Path, newPath: Path, options?: FileOptions): Promise<void> {
    return asFileCall('link', existingPath, newPath, () =>
      this.#walker.at(existingPath, 'link', false, options, async (place) => {
        const { handle } = existing(place, 'link');
        await this.#walker.inDirectory(newPath, 'link', options, (directory, name) =>
          this.server.link(handle, directory, name, options),
        );
      }),
    );
  }

  /** A symbolic link at `path` whose text is `target`. */
  symlink(target: Path, path: Path, options?: FileOptions): Promise<void> {
    return asFileCall('symlink', target, path, () =>
      this.#walker.inDirectory(path, 'symlink', options, async (directory, name) => {
        const bytes = typeof target === 'string' ? Buffer.from(target, 'utf8') : target;
        await this.server.symlink(directory, name, bytes, { mode: 0o777 }, options);
      }),
    );
  }

  readlink(path: Path, options: FileOptions & { encoding: 'buffer' }): Promise<Buffer>;
  readlink(path: Path, options?: FileOptions & { encoding?: 'utf8' }): Promise<string>;
  readlink(path: Path, options: FileOptions & { encoding?: 'utf8' | 'buffer' } = {}): Promise<string | Buffer> {
    return this.#atObject('readlink', path, false, options, async ({ handle, attributes }) => {
      if (attributes.type !== FileType.symlink) throw systemError(ERRNO.EINVAL, 'readlink');
      const target = Buffer.from((await this.server.readlink(handle, options)).target);
      return options.encoding === 'buffer' ? target : target.toString('utf8');
    });
  }

  truncate(path: Path, size = 0, options?: FileOptions): Promise<void> {
    return this.#atObject('truncate', path, true, options, async (found) => {
      if (found.attributes.type === FileType.directory) throw systemError(ERRNO.EISDIR, 'truncate');
      await this.#inode(found).truncate(size, options);
    });
  }

  chmod(path: Path, mode: number, options?: FileOptions): Promise<void> {
    return this.#set('chmod', path, true, { mode: mode & 0o7777 }, options);
  }

  chown(path: Path, uid: number, gid: number, options?: FileOptions): Promise<void> {
    return this.#set('chown', path, true, { uid, gid }, options);
  }

  lchown(path: Path, uid: number, gid: number, options?: FileOptions): Promise<void> {
    return this.#set('lchown', path, false, { uid, gid }, options);
  }

  utimes(path: Path, atime: TimeLike, mtime: TimeLike, options?: FileOptions): Promise<void> {
    return this.#set('utimes', path, true, { atime: toTime(atime), mtime: toTime(mtime) }, options);
  }

  lutimes(path: Path, atime: TimeLike, mtime: TimeLike, options?: FileOptions): Promise<void> {
    return this.#set('lutimes', path, false, { atime: toTime(atime), mtime: toTime(mtime) }, options);
  }

  #set(syscall: string, path: Path, follow: boolean, attributes: SetAttributes, options?: FileOptions): Promise<void> {
    return this.#atObject(syscall, path, follow, options, async ({ handle }) => {
      await this.server.setattr(handle, attributes, undefined, options);
    });
  }

  statfs(path: Path = '/', options?: FileOptions): Promise<RemoteStatFs> {
    return this.#atObject('statfs', path, true, options, async ({ handle }) =>
      toStatFs(await this.server.fsstat(handle, options)),
    );
  }

  readFile(path: Path, options: (OpenOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(path: Path, options?: (OpenOptions & { encoding?: null }) | null): Promise<Buffer>;
  async readFile(
    path: Path,
    options?: (OpenOptions & { encoding?: BufferEncoding | null }) | BufferEncoding | null,
  ): Promise<Buffer | string> {
    const {
      encoding = null,
      flag = 'r',
      signal,
    } = typeof options === 'string' ? { encoding: options } : (options ?? {});
    const file = await this.open(path, flag, 0o666, { signal });
    try {
      return await file.readFile(encoding);
    } finally {
      await file.close();
    }
  }

  /** Replaces the contents (or what `flag` says). Stable when it is done. */
  async writeFile(
    path: Path,
    data: ContentSource,
    options: (OpenOptions & { encoding?: BufferEncoding | undefined }) | BufferEncoding = {},
  ): Promise<void> {
    const {
      encoding,
      flag = 'w',
      mode = 0o666,
      signal,
    } = typeof options === 'string' ? { encoding: options } : options;
    const file = await this.open(path, flag, mode, { signal });
    try {
      await file.writeFile(data, encoding);
    } finally {
      await file.close();
    }
  }

  appendFile(
    path: Path,
    data: Content,
    options: (OpenOptions & { encoding?: BufferEncoding | undefined }) | BufferEncoding = {},
  ): Promise<void> {
    const given = typeof options === 'string' ? { encoding: options } : options;
    return this.writeFile(path, data, { flag: 'a', ...given });
  }

  /** Makes a directory with a name of its own, beginning with `prefix`. */
  async mkdtemp(prefix: string, options?: FileOptions): Promise<string> {
    for (;;) {
      const unique = `${process.pid.toString(36)}${Date.now().toString(36)}${(this.#temporary++).toString(36)}`;
      const path = `${prefix}${unique}`;
      try {
        await this.mkdir(path, { mode: 0o700, ...options });
        return path;
      } catch (error) {
        if ((error as { code?: string }).code !== 'EEXIST') throw error;
      }
    }
  }

  createReadStream(path: Path, options: StreamOptions & { flags?: string } = {}): RemoteReadStream {
    const { signal } = options;
    return new RemoteReadStream(this.open(path, options.flags ?? 'r', 0o666, { signal }), options);
  }

  createWriteStream(path: Path, options: StreamOptions & { flags?: string; mode?: number } = {}): RemoteWriteStream {
    const { signal } = options;
    return new RemoteWriteStream(this.open(path, options.flags ?? 'w', options.mode, { signal }), options);
  }

  /** Commits what open files have written and closes the connection. */
  async close(): Promise<void> {
    try {
      await forEach([...this.#budget.inodes], (inode) => inode.flush());
    } finally {
      await this.server.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #atObject<T>(
    syscall: string,
    path: Path,
    follow: boolean,
    options: FileOptions | undefined,
    work: (found: Found) => Promise<T>,
  ): Promise<T> {
    return asFileCall(syscall, path, undefined, () =>
      this.#walker.at(path, syscall, follow, options, (place) => work(existing(place, syscall))),
    );
  }

  /** The inode of an open file, or a passing one. */
  #inode({ handle }: Found): Inode {
    const key = handleKey(handle);
    return this.#inodes.get(key) ?? new Inode(this.server, Uint8Array.from(handle), key, this.#budget);
  }

  #openFile(found: Found, flags: OpenFlags, path: Path, options: FileOptions | undefined): RemoteFile {
    const inode = this.#inode(found);
    inode.references++;
    this.#inodes.set(inode.key, inode);
    const onClose = () => {
      if (--inode.references > 0) return;
      inode.abandon();
      this.#inodes.delete(inode.key);
    };
    const call = options?.signal === undefined ? undefined : { signal: options.signal };
    return new RemoteFile({ server: this.server, inode, flags, path, options: call, onClose });
  }
}
