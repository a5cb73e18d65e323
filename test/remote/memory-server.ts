/**
 * A RemoteServer over a tree in memory: with delays, failures, restarts and other clients, from a seed, in simulated time.
 * Requests under way at the same time are executed in any order, as real servers do. It touches only the clock it is given.
 */
import { ERRNO } from '../../src/errors.ts';
import { batchOneByOne, resolveHandle, runOperation } from '../../src/remote/operation.ts';
import { NfsCode, RemoteError } from '../../src/remote/remote-error.ts';
import {
  type AccessResult,
  type BatchResult,
  type CallOptions,
  type ChangeResult,
  type CommitResult,
  type CreateMode,
  type Device,
  type DirectoryEntry,
  type DirectoryPosition,
  FileType,
  type FsstatResult,
  type Handle,
  type LinkResult,
  type LookupResult,
  type MakeResult,
  type Name,
  type Operation,
  type OperationResult,
  type ReaddirResult,
  type ReadlinkResult,
  type ReadResult,
  type RemoteServer,
  type RenameResult,
  type ServerCounters,
  type ServerInfo,
  type SetAttributes,
  type Stability,
  type U64,
  type Wcc,
  type WriteResult,
} from '../../src/remote/server.ts';
import type { Clock } from '../../src/remote/view/clock.ts';
import { nameBytes, nameText } from '../../src/remote/view/names.ts';
import { type Inode, MemoryTree, TreeError } from './memory-tree.ts';

export interface MemoryServerOptions {
  readonly clock: Clock;
  readonly tree?: MemoryTree;
  /** Milliseconds one way; asked for every request and every answer. Default 5. */
  readonly delay?: () => number;
  /** Runs batches in one round trip, as NFSv4.1 does. Default 1: one after the other. */
  readonly maxBatch?: number;
  readonly maxRead?: number;
  readonly maxWrite?: number;
  /** Entries of one page of a listing. Default 100. */
  readonly pageEntries?: number;
  /** Changes of directories say what was before. Default true. */
  readonly vouches?: boolean;
  /** Called when a request is executed: an errno refuses it. */
  readonly fail?: (call: string) => number;
}

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

export class MemoryServer implements RemoteServer {
  readonly description = 'memory://';
  readonly info: ServerInfo;
  readonly counters: ServerCounters = { calls: 0, replays: 0, reconnects: 0, bytesSent: 0, bytesReceived: 0 };
  readonly tree: MemoryTree;
  /** Requests by name. */
  readonly calls: Record<string, number> = {};
  readonly #options: MemoryServerOptions;
  #verifier = 1;
  /** Requests wait while it is down. */
  #down: (() => void)[] | null = null;

  constructor(options: MemoryServerOptions) {
    this.#options = options;
    this.tree = options.tree ?? new MemoryTree();
    this.info = {
      version: (options.maxBatch ?? 1) > 1 ? '4.1' : '3',
      maxRead: options.maxRead ?? 1 << 20,
      maxWrite: options.maxWrite ?? 1 << 20,
      preferredReaddir: 65536,
      maxFileSize: 2 ** 53 - 1,
      maxName: 255,
      maxLinks: 1000,
      caseInsensitive: false,
      maxBatch: options.maxBatch ?? 1,
    };
  }

  get root(): Handle {
    return handleOf(this.tree.root);
  }

  /** Loses everything uncommitted, and is up again at once. */
  restart(): void {
    this.tree.crash();
    this.#verifier++;
  }

  /** Answers nobody until {@link resume}. */
  pause(): void {
    this.#down ??= [];
  }

  resume(): void {
    const waiting = this.#down ?? [];
    this.#down = null;
    for (const go of waiting) go();
  }

  ping(options?: CallOptions): Promise<void> {
    return this.#call('ping', options, () => {});
  }

  getattr(handle: Handle, options?: CallOptions) {
    return this.#call('getattr', options, () => this.tree.attributes(this.#inode(handle)));
  }

  setattr(handle: Handle, set: SetAttributes, guard?: U64, options?: CallOptions): Promise<ChangeResult> {
    return this.#call('setattr', options, () => {
      const inode = this.#inode(handle);
      const before = this.#change(inode);
      if (guard !== undefined && (guard.high !== before.high || guard.low !== before.low)) throw notSync();
      this.tree.set(inode, set);
      return { wcc: this.#wcc(inode, before) };
    });
  }

  lookup(directory: Handle, name: Name, options?: CallOptions): Promise<LookupResult> {
    return this.#call('lookup', options, () => {
      const parent = this.#inode(directory);
      const inode = this.tree.lookup(parent, nameText(name));
      return { ...this.#found(inode), directory: this.tree.attributes(parent) };
    });
  }

  access(handle: Handle, bits: number, options?: CallOptions): Promise<AccessResult> {
    return this.#call('access', options, () => ({
      granted: bits,
      attributes: this.tree.attributes(this.#inode(handle)),
    }));
  }

  readlink(handle: Handle, options?: CallOptions): Promise<ReadlinkResult> {
    return this.#call('readlink', options, () => {
      const inode = this.#inode(handle);
      if (inode.type !== FileType.symlink) throw new TreeError(ERRNO.EINVAL);
      return { target: nameBytes(inode.target), attributes: this.tree.attributes(inode) };
    });
  }

  read(handle: Handle, offset: number, length: number, options?: CallOptions): Promise<ReadResult> {
    return this.#call('read', options, () => {
      const inode = this.#inode(handle);
      const data = this.tree.read(inode, offset, Math.min(length, this.info.maxRead));
      const eof = offset + data.byteLength >= inode.data.byteLength;
      return { data, eof, attributes: this.tree.attributes(inode) };
    });
  }

  write(
    handle: Handle,
    offset: number,
    data: Uint8Array,
    stability: Stability,
    options?: CallOptions,
  ): Promise<WriteResult> {
    if (data.byteLength > this.info.maxWrite) throw new RangeError('a write of more than maxWrite');
    return this.#call('write', options, () => {
      const inode = this.#inode(handle);
      this.tree.write(inode, offset, data, stability !== 'unstable');
      return {
        count: data.byteLength,
        committed: stability,
        verifier: this.#writeVerifier(),
        wcc: { before: null, after: this.tree.attributes(inode) },
      };
    });
  }

  commit(handle: Handle, _offset: number, _length: number, options?: CallOptions): Promise<CommitResult> {
    return this.#call('commit', options, () => {
      const inode = this.#inode(handle);
      const before = this.#change(inode);
      this.tree.commit(inode);
      return { verifier: this.#writeVerifier(), wcc: this.#wcc(inode, before) };
    });
  }

  create(
    directory: Handle,
    name: Name,
    mode: CreateMode,
    set: SetAttributes,
    verifier?: U64,
    options?: CallOptions,
  ): Promise<MakeResult> {
    return this.#call('create', options, () => {
      const parent = this.#inode(directory);
      const before = this.#change(parent);
      const text = nameText(name);
      const key = verifier === undefined ? '' : `${verifier.high}.${verifier.low}`;
      const old = parent.entries.get(text);
      if (old !== undefined) {
        if (mode === 'guarded' || (mode === 'exclusive' && old.verifier !== key)) throw new TreeError(ERRNO.EEXIST);
        if (old.type === FileType.directory) throw new TreeError(ERRNO.EISDIR);
        if (mode === 'unchecked' && set.size !== undefined) this.tree.set(old, { size: set.size });
        return { ...this.#found(old), wcc: this.#wcc(parent, before) };
      }
      const inode = this.tree.add(parent, text, FileType.regular, set);
      inode.verifier = key;
      return { ...this.#found(inode), wcc: this.#wcc(parent, before) };
    });
  }

  mkdir(directory: Handle, name: Name, set: SetAttributes, options?: CallOptions): Promise<MakeResult> {
    return this.#make('mkdir', directory, name, FileType.directory, set, options);
  }

  symlink(directory: Handle, name: Name, target: Name, set: SetAttributes, options?: CallOptions): Promise<MakeResult> {
    return this.#make('symlink', directory, name, FileType.symlink, { ...set, mode: 0o777 }, options, (inode) => {
      inode.target = nameText(target);
    });
  }

  mknod(directory: Handle, name: Name, device: Device, set: SetAttributes, options?: CallOptions): Promise<MakeResult> {
    return this.#make('mknod', directory, name, device.type, set, options, (inode) => {
      if (!('major' in device)) return;
      inode.major = device.major;
      inode.minor = device.minor;
    });
  }

  link(handle: Handle, directory: Handle, name: Name, options?: CallOptions): Promise<LinkResult> {
    return this.#call('link', options, () => {
      const inode = this.#inode(handle);
      const parent = this.#inode(directory);
      const before = this.#change(parent);
      this.tree.link(inode, parent, nameText(name));
      return { attributes: this.tree.attributes(inode), wcc: this.#wcc(parent, before) };
    });
  }

  remove(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult> {
    return this.#call('remove', options, () => {
      const parent = this.#inode(directory);
      const before = this.#change(parent);
      this.tree.unlink(parent, nameText(name));
      return { wcc: this.#wcc(parent, before) };
    });
  }

  rmdir(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult> {
    return this.#call('rmdir', options, () => {
      const parent = this.#inode(directory);
      const before = this.#change(parent);
      this.tree.rmdir(parent, nameText(name));
      return { wcc: this.#wcc(parent, before) };
    });
  }

  rename(
    fromDirectory: Handle,
    fromName: Name,
    toDirectory: Handle,
    toName: Name,
    options?: CallOptions,
  ): Promise<RenameResult> {
    return this.#call('rename', options, () => {
      const from = this.#inode(fromDirectory);
      const to = this.#inode(toDirectory);
      const fromBefore = this.#change(from);
      const toBefore = this.#change(to);
      this.tree.rename(from, nameText(fromName), to, nameText(toName));
      return { from: this.#wcc(from, fromBefore), to: this.#wcc(to, toBefore) };
    });
  }

  readdir(
    directory: Handle,
    position: DirectoryPosition | null,
    plus: boolean,
    options?: CallOptions,
  ): Promise<ReaddirResult> {
    return this.#call('readdir', options, () => {
      const parent = this.#inode(directory);
      if (parent.type !== FileType.directory) throw new TreeError(ERRNO.ENOTDIR);
      // Cookies are inode numbers in order of making: stable while names come and go.
      const after = position?.cookie.low ?? 0;
      const all = [...parent.entries].map(([name, inode], i) => ({ name, inode, cookie: i + 1 }));
      const page = all.slice(after, after + (this.#options.pageEntries ?? 100));
      const entries = page.map(
        ({ name, inode, cookie }): DirectoryEntry => ({
          name: nameBytes(name),
          fileidHigh: 0,
          fileidLow: inode.ino,
          cookie: { high: 0, low: cookie },
          attributes: plus ? this.tree.attributes(inode) : null,
          handle: plus ? handleOf(inode) : null,
        }),
      );
      const last = page[page.length - 1]?.cookie ?? after;
      return {
        entries,
        eof: after + page.length >= all.length,
        next: { cookie: { high: 0, low: last }, verifier: { high: 0, low: 0 } },
        attributes: this.tree.attributes(parent),
      };
    });
  }

  fsstat(_handle: Handle, options?: CallOptions): Promise<FsstatResult> {
    return this.#call('fsstat', options, () => {
      const freeBytes = Math.min(this.tree.capacity, 2 ** 40) - this.tree.used;
      return {
        totalBytes: 2 ** 40,
        freeBytes,
        availableBytes: freeBytes,
        totalFiles: 1e6,
        freeFiles: 1e6,
        availableFiles: 1e6,
      };
    });
  }

  async batch(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult[]> {
    if (this.info.maxBatch <= 1) return batchOneByOne(this, operations, options);
    const results: BatchResult[] = [];
    for (let at = 0; at < operations.length; at += this.info.maxBatch) {
      const part = operations.slice(at, at + this.info.maxBatch);
      await this.#travel('batch', options);
      // In one go, without anybody coming in between requests: stricter than a real server, never looser.
      let failed = false;
      for (const operation of part) {
        const result = await this.#now(operation, results);
        results.push(result);
        failed = !result.ok;
        if (failed) break;
      }
      await this.#back();
      if (failed) break;
    }
    return results;
  }

  async close(): Promise<void> {}

  #immediate = false;

  async #now(operation: Operation, results: readonly BatchResult[]): Promise<BatchResult> {
    this.#immediate = true;
    let call: Promise<OperationResult>;
    try {
      call = runOperation(this, operation, (ref) => resolveHandle(ref, results));
    } finally {
      this.#immediate = false;
    }
    return call.then(
      (value): BatchResult => ({ ok: true, value }),
      (error: Error): BatchResult => ({ ok: false, error }),
    );
  }

  #make(
    call: string,
    directory: Handle,
    name: Name,
    type: FileType,
    set: SetAttributes,
    options: CallOptions | undefined,
    fill: (inode: Inode) => void = () => {},
  ): Promise<MakeResult> {
    return this.#call(call, options, () => {
      const parent = this.#inode(directory);
      const before = this.#change(parent);
      const inode = this.tree.add(parent, nameText(name), type, set);
      fill(inode);
      return { ...this.#found(inode), wcc: this.#wcc(parent, before) };
    });
  }

  /** A request: there, executed, and back. */
  async #call<Result>(call: string, options: CallOptions | undefined, execute: () => Result): Promise<Result> {
    if (this.#immediate) return this.#execute(call, execute);
    await this.#travel(call, options);
    let result: Result | null = null;
    let failed: unknown = null;
    try {
      result = this.#execute(call, execute);
    } catch (error) {
      failed = error;
    }
    await this.#back();
    if (failed !== null) throw failed;
    options?.signal?.throwIfAborted();
    return result as Result;
  }

  #execute<Result>(call: string, execute: () => Result): Result {
    this.calls[call] = (this.calls[call] ?? 0) + 1;
    const errno = this.#options.fail?.(call) ?? 0;
    try {
      if (errno !== 0) throw new TreeError(errno);
      return execute();
    } catch (error) {
      throw error instanceof TreeError ? remoteError(call, error.errno) : error;
    }
  }

  async #travel(_call: string, options?: CallOptions): Promise<void> {
    options?.signal?.throwIfAborted();
    this.counters.calls++;
    await this.#wait();
    while (this.#down !== null) {
      const { promise, resolve } = deferred();
      this.#down.push(resolve);
      await promise;
    }
  }

  async #back(): Promise<void> {
    await this.#wait();
  }

  #wait(): Promise<void> {
    const { promise, resolve } = deferred();
    this.#options.clock.after(this.#options.delay?.() ?? 5, resolve);
    return promise;
  }

  #inode(handle: Handle): Inode {
    const inode = this.tree.inode(new DataView(handle.buffer, handle.byteOffset).getUint32(0));
    if (inode === undefined) throw new TreeError(ERRNO.ESTALE);
    return inode;
  }

  #found(inode: Inode) {
    return { handle: handleOf(inode), attributes: this.tree.attributes(inode) };
  }

  #change(inode: Inode): U64 {
    return { high: inode.ctime.seconds, low: inode.ctime.nanoseconds };
  }

  #wcc(inode: Inode, before: U64): Wcc {
    return { before: (this.#options.vouches ?? true) ? before : null, after: this.tree.attributes(inode) };
  }

  #writeVerifier(): U64 {
    return { high: 0, low: this.#verifier };
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

function handleOf(inode: Inode): Handle {
  const handle = new Uint8Array(8);
  new DataView(handle.buffer).setUint32(0, inode.ino);
  return handle;
}

function remoteError(call: string, errno: number): RemoteError {
  const code = NAMES.get(errno) ?? `E${errno}`;
  return new RemoteError(`${code}, ${call}`, { code, errno: -errno, procedure: call.toUpperCase() });
}

function notSync(): RemoteError {
  return new RemoteError('not in sync', { code: NfsCode.notSync, procedure: 'SETATTR' });
}
