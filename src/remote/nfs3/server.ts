/**
 * A mounted NFSv3 export as a RemoteServer: each method is one procedure (RFC 1813), or two where the server left out what we promise.
 * It may touch the network through its RPC client.
 */
import { randomBytes } from 'node:crypto';
import { batchOneByOne } from '../operation.ts';
import type { RpcPool } from '../rpc/pool.ts';
import type {
  AccessResult,
  Attributes,
  BatchResult,
  CallOptions,
  ChangeResult,
  CommitResult,
  CreateMode,
  Device,
  DirectoryPosition,
  FsstatResult,
  Handle,
  LinkResult,
  LookupResult,
  MakeResult,
  Name,
  Operation,
  ReaddirResult,
  ReadlinkResult,
  ReadResult,
  RemoteServer,
  RenameResult,
  ServerCounters,
  ServerInfo,
  SetAttributes,
  Stability,
  U64,
  WriteResult,
} from '../server.ts';
import { FileType } from '../server.ts';
import { FSSTAT } from './file-system.ts';
import * as nfs from './procedures.ts';
import { isEcho, lookupOrNull, madeJustNow } from './replayed.ts';

const NO_WCC = { before: null, after: null };

export interface Nfs3ServerParts {
  readonly rpc: RpcPool;
  readonly root: Handle;
  readonly description: string;
  readonly info: ServerInfo;
  /** Tells the server's mount table good-bye, best effort. */
  readonly unmount: () => Promise<void>;
}

export class Nfs3Server implements RemoteServer {
  readonly description: string;
  readonly info: ServerInfo;
  readonly root: Handle;
  readonly #rpc: RpcPool;
  readonly #unmount: () => Promise<void>;

  constructor(parts: Nfs3ServerParts) {
    this.description = parts.description;
    this.info = parts.info;
    this.root = parts.root;
    this.#rpc = parts.rpc;
    this.#unmount = parts.unmount;
  }

  get counters(): Readonly<ServerCounters> {
    return this.#rpc.counters;
  }

  ping(options?: CallOptions): Promise<void> {
    return this.#rpc.call(nfs.NULL, null, options);
  }

  getattr(handle: Handle, options?: CallOptions): Promise<Attributes> {
    return this.#rpc.call(nfs.GETATTR, handle, options);
  }

  setattr(handle: Handle, attributes: SetAttributes, guard?: U64, options?: CallOptions): Promise<ChangeResult> {
    return this.#rpc.call(nfs.SETATTR, { handle, attributes, guard }, options);
  }

  async lookup(directory: Handle, name: Name, options?: CallOptions): Promise<LookupResult> {
    const found = await this.#rpc.call(nfs.LOOKUP, { directory, name }, options);
    const attributes = found.attributes ?? (await this.getattr(found.handle, options));
    return { handle: found.handle, attributes, directory: found.directory };
  }

  access(handle: Handle, bits: number, options?: CallOptions): Promise<AccessResult> {
    return this.#rpc.call(nfs.ACCESS, { handle, bits }, options);
  }

  readlink(handle: Handle, options?: CallOptions): Promise<ReadlinkResult> {
    return this.#rpc.call(nfs.READLINK, handle, options);
  }

  read(handle: Handle, offset: number, length: number, options?: CallOptions): Promise<ReadResult> {
    return this.#rpc.call(nfs.READ, { handle, offset, length }, options);
  }

  write(
    handle: Handle,
    offset: number,
    data: Uint8Array,
    stability: Stability,
    options?: CallOptions,
  ): Promise<WriteResult> {
    return this.#rpc.call(nfs.WRITE, { handle, offset, data, stability }, options);
  }

  commit(handle: Handle, offset: number, length: number, options?: CallOptions): Promise<CommitResult> {
    return this.#rpc.call(nfs.COMMIT, { handle, offset, length }, options);
  }

  async create(
    directory: Handle,
    name: Name,
    mode: CreateMode,
    attributes: SetAttributes,
    verifier?: U64,
    options?: CallOptions,
  ): Promise<MakeResult> {
    if (mode === 'exclusive') verifier ??= randomVerifier();
    const args = { directory, name, mode, attributes, verifier };
    const type = mode === 'guarded' ? FileType.regular : null;
    const made = await this.#make(args, type, () => this.#rpc.call(nfs.CREATE, args, options), options);
    if (mode !== 'exclusive') return made;
    // The server may keep the verifier in the times: they are always set anew.
    const wanted: SetAttributes = { atime: 'server', mtime: 'server', ...attributes };
    const { wcc } = await this.setattr(made.handle, wanted, undefined, options);
    return { ...made, attributes: wcc.after ?? (await this.getattr(made.handle, options)) };
  }

  mkdir(directory: Handle, name: Name, attributes: SetAttributes, options?: CallOptions): Promise<MakeResult> {
    const args = { directory, name, attributes };
    return this.#make(args, FileType.directory, () => this.#rpc.call(nfs.MKDIR, args, options), options);
  }

  symlink(
    directory: Handle,
    name: Name,
    target: Name,
    attributes: SetAttributes,
    options?: CallOptions,
  ): Promise<MakeResult> {
    const args = { directory, name, target, attributes };
    return this.#make(args, FileType.symlink, () => this.#rpc.call(nfs.SYMLINK, args, options), options, target);
  }

  mknod(
    directory: Handle,
    name: Name,
    device: Device,
    attributes: SetAttributes,
    options?: CallOptions,
  ): Promise<MakeResult> {
    const args = { directory, name, device, attributes };
    return this.#make(args, device.type, () => this.#rpc.call(nfs.MKNOD, args, options), options);
  }

  async link(handle: Handle, directory: Handle, name: Name, options?: CallOptions): Promise<LinkResult> {
    try {
      return await this.#rpc.call(nfs.LINK, { handle, directory, name }, options);
    } catch (error) {
      if (!isEcho(error, 'EEXIST')) throw error;
      const [found, attributes] = await Promise.all([
        lookupOrNull(this, directory, name, options),
        this.getattr(handle, options),
      ]);
      if (found === null || !sameObject(found.attributes, attributes)) throw error;
      return { attributes, wcc: { before: null, after: found.directory } };
    }
  }

  remove(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult> {
    return goneIsDone(this.#rpc.call(nfs.REMOVE, { directory, name }, options));
  }

  rmdir(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult> {
    return goneIsDone(this.#rpc.call(nfs.RMDIR, { directory, name }, options));
  }

  async rename(
    fromDirectory: Handle,
    fromName: Name,
    toDirectory: Handle,
    toName: Name,
    options?: CallOptions,
  ): Promise<RenameResult> {
    try {
      return await this.#rpc.call(nfs.RENAME, { fromDirectory, fromName, toDirectory, toName }, options);
    } catch (error) {
      if (!isEcho(error, 'ENOENT')) throw error;
      const moved = await madeJustNow(this, toDirectory, toName, null, options);
      if (moved === null) throw error;
      return { from: NO_WCC, to: { before: null, after: moved.directory } };
    }
  }

  readdir(
    directory: Handle,
    position: DirectoryPosition | null,
    plus: boolean,
    options?: CallOptions,
  ): Promise<ReaddirResult> {
    const bytes = this.info.preferredReaddir;
    const args = { directory, position, nameBytes: bytes >>> 1, bytes };
    return this.#rpc.call(plus ? nfs.READDIRPLUS : nfs.READDIR, args, options);
  }

  fsstat(handle: Handle, options?: CallOptions): Promise<FsstatResult> {
    return this.#rpc.call(FSSTAT, handle, options);
  }

  batch(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult[]> {
    return batchOneByOne(this, operations, options);
  }

  async close(): Promise<void> {
    await this.#unmount();
    await this.#rpc.close();
  }

  /** A creating call, with handle and attributes looked up where the server gave none. */
  async #make(
    { directory, name }: nfs.NameArgs,
    type: FileType | null,
    call: () => Promise<nfs.Made>,
    options: CallOptions | undefined,
    target?: Name,
  ): Promise<MakeResult> {
    try {
      const made = await call();
      if (made.handle !== null && made.attributes !== null) return made as MakeResult;
      if (made.handle !== null) {
        return { handle: made.handle, attributes: await this.getattr(made.handle, options), wcc: made.wcc };
      }
      const { handle, attributes } = await this.lookup(directory, name, options);
      return { handle, attributes, wcc: made.wcc };
    } catch (error) {
      if (type === null || !isEcho(error, 'EEXIST')) throw error;
      const found =
        target === undefined
          ? await madeJustNow(this, directory, name, type, options)
          : await this.#linkTo(directory, name, target, options);
      if (found === null) throw error;
      return { handle: found.handle, attributes: found.attributes, wcc: { before: null, after: found.directory } };
    }
  }

  async #linkTo(directory: Handle, name: Name, target: Name, options?: CallOptions): Promise<LookupResult | null> {
    const found = await lookupOrNull(this, directory, name, options);
    if (found?.attributes.type !== FileType.symlink) return null;
    const link = await this.readlink(found.handle, options);
    return Buffer.compare(link.target, target) === 0 ? found : null;
  }
}

async function goneIsDone(change: Promise<ChangeResult>): Promise<ChangeResult> {
  try {
    return await change;
  } catch (error) {
    if (isEcho(error, 'ENOENT')) return { wcc: NO_WCC };
    throw error;
  }
}

function sameObject(a: Attributes, b: Attributes): boolean {
  return (
    a.fileidHigh === b.fileidHigh && a.fileidLow === b.fileidLow && a.fsidHigh === b.fsidHigh && a.fsidLow === b.fsidLow
  );
}

function randomVerifier(): U64 {
  const bytes = randomBytes(8);
  return { high: bytes.readUInt32BE(0), low: bytes.readUInt32BE(4) };
}
