/**
 * The one interface of a remote file server: low-level operations on opaque file handles, whatever the protocol version.
 * Types, and the protocol's numbers: NFSv3, NFSv4.1 and the in-memory server of the tests implement it; the cache, the mount and speculation use it.
 *
 * Rules for every method:
 * - It is one request (where the protocol allows) and is sent at once. **Two calls made without waiting in between may be
 *   executed in any order**: whoever needs an order awaits the first or uses `batch`.
 * - It rejects with a `RemoteError` (remote-error.ts): `code`/`errno` are POSIX's (`ENOENT`, `ESTALE`, …); where POSIX has
 *   no word: `ERR_NFS_NOT_SYNC`, `ERR_NFS_BAD_COOKIE`, `ERR_NFS_BAD_HANDLE`. No answer in time is `ETIMEDOUT`, a lost and not
 *   regained connection `ECONNRESET`/`ECONNREFUSED`, nonsense from the server `EPROTO`. After an abort: the signal's reason.
 * - Byte arrays given in must not change until the promise settles. Byte arrays given back belong to the caller and never
 *   change, but may be views of larger memory: copy what is kept for long.
 */

/** An opaque file handle, at most 64 (v3) or 128 (v4.1) bytes. Equal bytes mean the same object; `handleKey` makes a map key. */
export type Handle = Uint8Array;

/** A name or a symlink target: raw bytes, not necessarily UTF-8; a name holds neither `/` nor NUL. */
export type Name = Uint8Array;

/** A 64-bit number as two unsigned 32-bit halves. */
export interface U64 {
  readonly high: number;
  readonly low: number;
}

/** A moment: seconds since 1970 (may be negative on v4.1) and nanoseconds 0–999999999. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** File types, numbered as `ftype3` (RFC 1813 section 2.5). */
export const FileType = { regular: 1, directory: 2, block: 3, character: 4, symlink: 5, socket: 6, fifo: 7 } as const;
export type FileType = (typeof FileType)[keyof typeof FileType];

/** Bits of `access`, numbered as ACCESS3_* (RFC 1813 section 3.3.4); the same in v4.1. */
export const AccessBit = { read: 1, lookup: 2, modify: 4, extend: 8, delete: 16, execute: 32 } as const;

/** What the server says about an object. */
export interface Attributes {
  readonly type: FileType;
  /** Permission bits only (07777); the type is in `type`. */
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes, exact up to 2^53 − 1 (more is refused with `EOVERFLOW`). */
  readonly size: number;
  /** Bytes of storage in use. */
  readonly used: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** The file system, folded to 64 bits on v4.1. */
  readonly fsidHigh: number;
  readonly fsidLow: number;
  /** The object within its file system. */
  readonly fileidHigh: number;
  readonly fileidLow: number;
  readonly atimeSeconds: number;
  readonly atimeNanoseconds: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly ctimeSeconds: number;
  readonly ctimeNanoseconds: number;
  /** Differs after every change of data or attributes: v4.1's `change`; on v3 the ctime (seconds, nanoseconds). Compare for equality only. */
  readonly changeHigh: number;
  readonly changeLow: number;
}

/** Weak cache consistency: how an object changed over an operation (RFC 1813 section 2.6). */
export interface Wcc {
  /** Change id just before, when the server vouches that before, operation and after are atomic. Equal to the cached id: nobody else changed it. */
  readonly before: U64 | null;
  readonly after: Attributes | null;
}

/** What `setattr` and the creating operations set; absent is left alone. `'server'` is the server's clock. */
export interface SetAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Time | 'server';
  readonly mtime?: Time | 'server';
}

/** `unchecked`: an existing file is opened (and truncated if `size: 0`); `guarded`: EEXIST; `exclusive`: EEXIST unless it was made with this verifier. */
export type CreateMode = 'unchecked' | 'guarded' | 'exclusive';

/** `unstable` may be lost in a server crash until committed; `dataSync` has data on stable storage; `fileSync` metadata too. */
export type Stability = 'unstable' | 'dataSync' | 'fileSync';

/** Who asks, as AUTH_SYS says it; at most 16 supplementary groups are sent. */
export interface Credential {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export interface CallOptions {
  /** Ends the wait with the signal's reason; the request may still be executed. */
  readonly signal?: AbortSignal | undefined;
  /** Instead of the connection's own. */
  readonly credential?: Credential | undefined;
  /** Instead of the connection's time limit for one call, retries included. */
  readonly timeoutMs?: number | undefined;
}

/** An object found or made: always with its handle and attributes (an implementation asks again if the server left them out). */
export interface FoundResult {
  readonly handle: Handle;
  readonly attributes: Attributes;
}

export interface LookupResult extends FoundResult {
  readonly directory: Attributes | null;
}

export interface MakeResult extends FoundResult {
  /** Of the directory. */
  readonly wcc: Wcc;
}

export interface AccessResult {
  /** The bits asked for that are granted. */
  readonly granted: number;
  readonly attributes: Attributes | null;
}

export interface ReadlinkResult {
  readonly target: Name;
  readonly attributes: Attributes | null;
}

export interface ReadResult {
  /** May be shorter than asked; empty with `eof` at or after the end. */
  readonly data: Uint8Array;
  readonly eof: boolean;
  readonly attributes: Attributes | null;
}

export interface WriteResult {
  /** Bytes written, from 1 to the length given (0 for an empty write). */
  readonly count: number;
  readonly committed: Stability;
  /** Changes when the server may have lost uncommitted data: then write again whatever is not committed. */
  readonly verifier: U64;
  readonly wcc: Wcc;
}

export interface CommitResult {
  /** Data written under the same verifier is stable. */
  readonly verifier: U64;
  readonly wcc: Wcc;
}

/** The result of setattr (of the object), remove and rmdir (of the directory). */
export interface ChangeResult {
  readonly wcc: Wcc;
}

export interface RenameResult {
  readonly from: Wcc;
  readonly to: Wcc;
}

export interface LinkResult {
  /** Of the object linked. */
  readonly attributes: Attributes | null;
  readonly wcc: Wcc;
}

/** Where a listing goes on. `start` = null; a page gives the next one. */
export interface DirectoryPosition {
  readonly cookie: U64;
  readonly verifier: U64;
}

export interface DirectoryEntry {
  readonly name: Name;
  readonly fileidHigh: number;
  readonly fileidLow: number;
  /** Position just after this entry. */
  readonly cookie: U64;
  /** With `plus`, where the server gave them. */
  readonly attributes: Attributes | null;
  readonly handle: Handle | null;
}

/** One page. `.` and `..` are left out by every implementation (so a page may be empty before `eof`). */
export interface ReaddirResult {
  readonly entries: readonly DirectoryEntry[];
  readonly eof: boolean;
  /** Give it to the next `readdir`. */
  readonly next: DirectoryPosition;
  readonly attributes: Attributes | null;
}

export interface FsstatResult {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly availableBytes: number;
  readonly totalFiles: number;
  readonly freeFiles: number;
  readonly availableFiles: number;
}

/** What is fixed for a connection (FSINFO and PATHCONF of the root; v4.1 session limits). Sizes in bytes. */
export interface ServerInfo {
  readonly version: '3' | '4.1';
  /** Largest and preferred read, write and listing. */
  readonly maxRead: number;
  readonly maxWrite: number;
  readonly preferredReaddir: number;
  /** At most 2^53 − 1 is usable. */
  readonly maxFileSize: number;
  readonly maxName: number;
  readonly maxLinks: number;
  readonly caseInsensitive: boolean;
  /** How many operations of one `batch` may travel in one round trip; 1: no batching (v3). */
  readonly maxBatch: number;
}

/** Counters since `connect`. */
export interface ServerCounters {
  calls: number;
  /** Requests sent again after a reconnect or a time-out. */
  replays: number;
  reconnects: number;
  bytesSent: number;
  bytesReceived: number;
}

/** A handle, or "the handle that operation number `from` of this batch found or made". */
export type HandleRef = Handle | { readonly from: number };

/** One operation of a batch; the fields are the arguments of the method of the same name. */
export type Operation =
  | { readonly op: 'getattr'; readonly handle: HandleRef }
  | {
      readonly op: 'setattr';
      readonly handle: HandleRef;
      readonly attributes: SetAttributes;
      readonly guard?: U64 | undefined;
    }
  | { readonly op: 'lookup'; readonly directory: HandleRef; readonly name: Name }
  | { readonly op: 'access'; readonly handle: HandleRef; readonly bits: number }
  | { readonly op: 'readlink'; readonly handle: HandleRef }
  | { readonly op: 'read'; readonly handle: HandleRef; readonly offset: number; readonly length: number }
  | {
      readonly op: 'write';
      readonly handle: HandleRef;
      readonly offset: number;
      readonly data: Uint8Array;
      readonly stability: Stability;
    }
  | { readonly op: 'commit'; readonly handle: HandleRef; readonly offset: number; readonly length: number }
  | {
      readonly op: 'create';
      readonly directory: HandleRef;
      readonly name: Name;
      readonly mode: CreateMode;
      readonly attributes: SetAttributes;
      readonly verifier?: U64 | undefined;
    }
  | { readonly op: 'mkdir'; readonly directory: HandleRef; readonly name: Name; readonly attributes: SetAttributes }
  | {
      readonly op: 'symlink';
      readonly directory: HandleRef;
      readonly name: Name;
      readonly target: Name;
      readonly attributes: SetAttributes;
    }
  | {
      readonly op: 'mknod';
      readonly directory: HandleRef;
      readonly name: Name;
      readonly device: Device;
      readonly attributes: SetAttributes;
    }
  | { readonly op: 'link'; readonly handle: HandleRef; readonly directory: HandleRef; readonly name: Name }
  | { readonly op: 'remove'; readonly directory: HandleRef; readonly name: Name }
  | { readonly op: 'rmdir'; readonly directory: HandleRef; readonly name: Name }
  | {
      readonly op: 'rename';
      readonly fromDirectory: HandleRef;
      readonly fromName: Name;
      readonly toDirectory: HandleRef;
      readonly toName: Name;
    }
  | {
      readonly op: 'readdir';
      readonly directory: HandleRef;
      readonly position: DirectoryPosition | null;
      readonly plus: boolean;
    }
  /** A hypothesis: fails with `ERR_NFS_NOT_SYNC` if the object's change id, or its size, is another one now. */
  | {
      readonly op: 'verify';
      readonly handle: HandleRef;
      readonly change?: U64 | undefined;
      readonly size?: number | undefined;
    };

/** What each operation gives. */
export interface ResultByName {
  getattr: Attributes;
  setattr: ChangeResult;
  lookup: LookupResult;
  access: AccessResult;
  readlink: ReadlinkResult;
  read: ReadResult;
  write: WriteResult;
  commit: CommitResult;
  create: MakeResult;
  mkdir: MakeResult;
  symlink: MakeResult;
  mknod: MakeResult;
  link: LinkResult;
  remove: ChangeResult;
  rmdir: ChangeResult;
  rename: RenameResult;
  readdir: ReaddirResult;
  verify: Attributes;
}

export type OperationResult<O extends Operation = Operation> = ResultByName[O['op']];

/** The outcome of one operation of a batch. */
export type BatchResult<O extends Operation = Operation> =
  | { readonly ok: true; readonly value: OperationResult<O> }
  | { readonly ok: false; readonly error: Error };

/** What `mknod` makes; a device carries its numbers. */
export type Device =
  | { readonly type: typeof FileType.fifo | typeof FileType.socket }
  | {
      readonly type: typeof FileType.block | typeof FileType.character;
      readonly major: number;
      readonly minor: number;
    };

/** A mounted export of a remote file server. */
export interface RemoteServer {
  /** `nfs://host:port/path?version=3`, for messages. */
  readonly description: string;
  readonly info: ServerInfo;
  readonly root: Handle;
  readonly counters: Readonly<ServerCounters>;

  /** A request that does nothing: the round-trip time. */
  ping(options?: CallOptions): Promise<void>;
  getattr(handle: Handle, options?: CallOptions): Promise<Attributes>;
  /** With `guard`, only if the change id is this one, else `ERR_NFS_NOT_SYNC`. */
  setattr(handle: Handle, attributes: SetAttributes, guard?: U64, options?: CallOptions): Promise<ChangeResult>;
  lookup(directory: Handle, name: Name, options?: CallOptions): Promise<LookupResult>;
  access(handle: Handle, bits: number, options?: CallOptions): Promise<AccessResult>;
  readlink(handle: Handle, options?: CallOptions): Promise<ReadlinkResult>;
  /** At most `info.maxRead` bytes. */
  read(handle: Handle, offset: number, length: number, options?: CallOptions): Promise<ReadResult>;
  /** At most `info.maxWrite` bytes. */
  write(
    handle: Handle,
    offset: number,
    data: Uint8Array,
    stability: Stability,
    options?: CallOptions,
  ): Promise<WriteResult>;
  /** `length` 0: from `offset` to the end. */
  commit(handle: Handle, offset: number, length: number, options?: CallOptions): Promise<CommitResult>;
  /**
   * `exclusive` sets only the mode it can and wants `verifier` (unique to this attempt); on v3 the attributes of an exclusive create
   * are set by a second request that the implementation sends.
   */
  create(
    directory: Handle,
    name: Name,
    mode: CreateMode,
    attributes: SetAttributes,
    verifier?: U64,
    options?: CallOptions,
  ): Promise<MakeResult>;
  mkdir(directory: Handle, name: Name, attributes: SetAttributes, options?: CallOptions): Promise<MakeResult>;
  symlink(
    directory: Handle,
    name: Name,
    target: Name,
    attributes: SetAttributes,
    options?: CallOptions,
  ): Promise<MakeResult>;
  mknod(
    directory: Handle,
    name: Name,
    device: Device,
    attributes: SetAttributes,
    options?: CallOptions,
  ): Promise<MakeResult>;
  link(handle: Handle, directory: Handle, name: Name, options?: CallOptions): Promise<LinkResult>;
  /** Anything but a directory. */
  remove(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult>;
  rmdir(directory: Handle, name: Name, options?: CallOptions): Promise<ChangeResult>;
  rename(
    fromDirectory: Handle,
    fromName: Name,
    toDirectory: Handle,
    toName: Name,
    options?: CallOptions,
  ): Promise<RenameResult>;
  /** One page from `position` (null: the start), with attributes and handles if `plus`. `ERR_NFS_BAD_COOKIE`: start again. */
  readdir(
    directory: Handle,
    position: DirectoryPosition | null,
    plus: boolean,
    options?: CallOptions,
  ): Promise<ReaddirResult>;
  fsstat(handle: Handle, options?: CallOptions): Promise<FsstatResult>;

  /**
   * Runs the operations in this order and stops at the first failure: the answer has one result for each operation up to and
   * including the failed one. v4.1: COMPOUNDs of up to `info.maxBatch` operations, one round trip each; v3: one after the other.
   * A lost connection is a failure of the operation it happened to (`RemoteError.indeterminate`: it may have been done).
   * Rejects only for a wrong argument; an abort is a failure of the operation it happened to.
   */
  batch(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult[]>;

  /** Unmounts and closes; calls still outstanding reject with `ECANCELED`. */
  close(): Promise<void>;
}
