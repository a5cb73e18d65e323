/**
 * `Nfs41Server`: an export of an NFSv4.1 server as a `RemoteServer`, whose `batch` is one round trip.
 * It touches the network through its session.
 *
 * Every method is a batch of one. Reads and writes carry the anonymous stateid and so need no OPEN, as on NFSv3: there is no
 * state at the server that could be lost. Files that are to be held open, or locked, are opened with `open` (open-file.ts).
 */
import type { RpcOptions } from '../rpc/client.ts';
import type {
  BatchResult,
  CallOptions,
  CreateMode,
  Credential,
  Device,
  DirectoryPosition,
  FsstatResult,
  Handle,
  Name,
  Operation,
  RemoteServer,
  ResultByName,
  ServerCounters,
  ServerInfo,
  SetAttributes,
  Stability,
  U64,
} from '../server.ts';
import { type FileAttributes, SERVER_ATTRIBUTES, SPACE_ATTRIBUTES } from './attributes.ts';
import { type BatchCounters, BatchRunner } from './batch.ts';
import { Compound, type Reply } from './compound.ts';
import { GETFH, getattr, lookup, PUTROOTFH, putfh } from './file-steps.ts';
import { type OpenFile, OpenFiles, type OpenRequest } from './open-file.ts';
import { Session, type SessionOptions } from './session.ts';
import { statusError4 } from './status.ts';

export interface Nfs41Options extends Omit<SessionOptions, keyof RpcOptions>, Partial<RpcOptions> {
  readonly host: string;
  /** Default 2049. */
  readonly port?: number | undefined;
  /** The export's path in the server's name space, `/` for its root. */
  readonly path: string;
  /** Default: this process's. */
  readonly credential?: Credential | undefined;
}

const DEFAULT_PORT = 2049;
const DEFAULT_TIMEOUT_MS = 60_000;
const READDIR_BYTES = 65_536;
/** What READ and WRITE put around the data in a message, with everything else in that COMPOUND. */
const DATA_OVERHEAD = 4096;
/** Steps of an average operation of a batch, its part of the tail included. */
const STEPS_PER_OPERATION = 5;

export class Nfs41Server implements RemoteServer {
  readonly description: string;
  readonly info: ServerInfo;
  readonly root: Handle;
  readonly session: Session;
  readonly #runner: BatchRunner;
  readonly #opens: OpenFiles;

  private constructor(description: string, session: Session, found: RootInfo, timeoutMs: number) {
    this.description = description;
    this.session = session;
    this.root = found.root;
    this.info = serverInfo(found.attributes, session);
    this.#runner = new BatchRunner(session, timeoutMs, this.info.preferredReaddir);
    this.#opens = new OpenFiles(session);
  }

  /**
   * Connects, makes a session and finds the export. Rejects with `EOPNOTSUPP` or `EPROTONOSUPPORT` where the server does not
   * speak NFSv4.1, `ENOENT` where the path does not exist, and as the RPC client does where there is no server.
   */
  static async connect(options: Nfs41Options, signal?: AbortSignal): Promise<Nfs41Server> {
    const port = options.port ?? DEFAULT_PORT;
    const credential = options.credential ?? ownCredential();
    const session = await Session.connect({ ...options, port, credential }, signal);
    try {
      const found = await findRoot(session, options.path, signal);
      if (found.attributes.leaseSeconds > 0) session.setLease(found.attributes.leaseSeconds);
      const description = `nfs://${options.host}:${port}${options.path}?version=4.1`;
      return new Nfs41Server(description, session, found, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  get counters(): ServerCounters {
    return this.session.counters;
  }

  /** COMPOUNDs and operations so far: how many operations a round trip carried. */
  get batchCounters(): Readonly<BatchCounters> {
    return this.#runner.counters;
  }

  batch(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult[]> {
    return this.#runner.run(operations, options);
  }

  async #one<O extends Operation['op']>(
    operation: Extract<Operation, { op: O }>,
    options?: CallOptions,
  ): Promise<ResultByName[O]> {
    const [result] = await this.#runner.run([operation], options);
    if (result!.ok) return result!.value as ResultByName[O];
    throw result!.error;
  }

  ping(options?: CallOptions): Promise<void> {
    return this.session.ping(options);
  }

  getattr(handle: Handle, options?: CallOptions) {
    return this.#one<'getattr'>({ op: 'getattr', handle }, options);
  }

  setattr(handle: Handle, attributes: SetAttributes, guard?: U64, options?: CallOptions) {
    return this.#one<'setattr'>({ op: 'setattr', handle, attributes, guard }, options);
  }

  lookup(directory: Handle, name: Name, options?: CallOptions) {
    return this.#one<'lookup'>({ op: 'lookup', directory, name }, options);
  }

  access(handle: Handle, bits: number, options?: CallOptions) {
    return this.#one<'access'>({ op: 'access', handle, bits }, options);
  }

  readlink(handle: Handle, options?: CallOptions) {
    return this.#one<'readlink'>({ op: 'readlink', handle }, options);
  }

  read(handle: Handle, offset: number, length: number, options?: CallOptions) {
    return this.#one<'read'>({ op: 'read', handle, offset, length }, options);
  }

  write(handle: Handle, offset: number, data: Uint8Array, stability: Stability, options?: CallOptions) {
    return this.#one<'write'>({ op: 'write', handle, offset, data, stability }, options);
  }

  commit(handle: Handle, offset: number, length: number, options?: CallOptions) {
    return this.#one<'commit'>({ op: 'commit', handle, offset, length }, options);
  }

  create(
    directory: Handle,
    name: Name,
    mode: CreateMode,
    attributes: SetAttributes,
    verifier?: U64,
    options?: CallOptions,
  ) {
    return this.#one<'create'>({ op: 'create', directory, name, mode, attributes, verifier }, options);
  }

  mkdir(directory: Handle, name: Name, attributes: SetAttributes, options?: CallOptions) {
    return this.#one<'mkdir'>({ op: 'mkdir', directory, name, attributes }, options);
  }

  symlink(directory: Handle, name: Name, target: Name, attributes: SetAttributes, options?: CallOptions) {
    return this.#one<'symlink'>({ op: 'symlink', directory, name, target, attributes }, options);
  }

  mknod(directory: Handle, name: Name, device: Device, attributes: SetAttributes, options?: CallOptions) {
    return this.#one<'mknod'>({ op: 'mknod', directory, name, device, attributes }, options);
  }

  link(handle: Handle, directory: Handle, name: Name, options?: CallOptions) {
    return this.#one<'link'>({ op: 'link', handle, directory, name }, options);
  }

  remove(directory: Handle, name: Name, options?: CallOptions) {
    return this.#one<'remove'>({ op: 'remove', directory, name }, options);
  }

  rmdir(directory: Handle, name: Name, options?: CallOptions) {
    return this.#one<'rmdir'>({ op: 'rmdir', directory, name }, options);
  }

  rename(fromDirectory: Handle, fromName: Name, toDirectory: Handle, toName: Name, options?: CallOptions) {
    return this.#one<'rename'>({ op: 'rename', fromDirectory, fromName, toDirectory, toName }, options);
  }

  readdir(directory: Handle, position: DirectoryPosition | null, plus: boolean, options?: CallOptions) {
    return this.#one<'readdir'>({ op: 'readdir', directory, position, plus }, options);
  }

  async fsstat(handle: Handle, options?: CallOptions): Promise<FsstatResult> {
    const compound = Compound.inSession();
    compound.add(putfh(handle));
    const at = compound.add(getattr(SPACE_ATTRIBUTES));
    const space = (await whole(this.session, compound, options)).value<FileAttributes>(at);
    return {
      totalBytes: space.totalBytes,
      freeBytes: space.freeBytes,
      availableBytes: space.availableBytes,
      totalFiles: space.totalFiles,
      freeFiles: space.freeFiles,
      availableFiles: space.availableFiles,
    };
  }

  /** Opens a file and keeps it open at the server, over restarts too: see `OpenFile`. */
  open(request: OpenRequest, options?: CallOptions): Promise<OpenFile> {
    return this.#opens.open(request, options);
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

interface RootInfo {
  readonly root: Handle;
  readonly attributes: FileAttributes;
}

async function findRoot(session: Session, path: string, signal?: AbortSignal): Promise<RootInfo> {
  const compound = Compound.inSession();
  compound.add(PUTROOTFH);
  const names = path.split('/').filter((name) => name !== '');
  for (const name of names) compound.add(lookup(new TextEncoder().encode(name)));
  const handle = compound.add(GETFH);
  const attributes = compound.add(getattr(SERVER_ATTRIBUTES));
  const reply = await whole(session, compound, { signal });
  return { root: reply.value<Handle>(handle), attributes: reply.value<FileAttributes>(attributes) };
}

/** A COMPOUND of which every step has to succeed. */
async function whole(session: Session, compound: Compound, options?: CallOptions): Promise<Reply> {
  const reply = await session.run(compound, options);
  if (reply.status !== 0) throw statusError4(reply.failedName, reply.status);
  return reply;
}

function serverInfo(attributes: FileAttributes, { limits }: Session): ServerInfo {
  const most = 0x7fff_ffff;
  return {
    version: '4.1',
    maxRead: Math.min(attributes.maxRead || most, limits.maxReply - DATA_OVERHEAD),
    maxWrite: Math.min(attributes.maxWrite || most, limits.maxRequest - DATA_OVERHEAD),
    preferredReaddir: Math.min(READDIR_BYTES, limits.maxReply - DATA_OVERHEAD),
    maxFileSize: attributes.maxFileSize || Number.MAX_SAFE_INTEGER,
    maxName: attributes.maxName || 255,
    maxLinks: attributes.maxLinks || 32_000,
    caseInsensitive: attributes.caseInsensitive,
    maxBatch: Math.max(1, Math.floor((limits.maxOperations - 2) / STEPS_PER_OPERATION)),
  };
}

function ownCredential(): Credential {
  return {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    groups: process.getgroups?.() ?? [],
  };
}
