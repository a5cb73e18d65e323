/** What `stat`, `readdir` and `statfs` give, shaped as in node:fs. Pure. */
import { type Attributes, type DirectoryEntry, FileType, type FsstatResult, type Time } from '../server.ts';

const TYPE_BITS: Readonly<Record<FileType, number>> = {
  [FileType.regular]: 0o100000,
  [FileType.directory]: 0o040000,
  [FileType.block]: 0o060000,
  [FileType.character]: 0o020000,
  [FileType.symlink]: 0o120000,
  [FileType.socket]: 0o140000,
  [FileType.fifo]: 0o010000,
};
const BLOCK = 4096;

/** Node's questions about a type. */
class Typed {
  readonly #type: FileType | null;

  constructor(type: FileType | null) {
    this.#type = type;
  }

  isFile(): boolean {
    return this.#type === FileType.regular;
  }
  isDirectory(): boolean {
    return this.#type === FileType.directory;
  }
  isBlockDevice(): boolean {
    return this.#type === FileType.block;
  }
  isCharacterDevice(): boolean {
    return this.#type === FileType.character;
  }
  isSymbolicLink(): boolean {
    return this.#type === FileType.symlink;
  }
  isFIFO(): boolean {
    return this.#type === FileType.fifo;
  }
  isSocket(): boolean {
    return this.#type === FileType.socket;
  }
}

/** As node:fs.Stats. There is no time of birth in NFSv3: `birthtime` is the ctime. */
export class RemoteStats extends Typed {
  readonly dev: number;
  /** As a double; where the server's number has more than 53 bits, `fileid` is the exact one. */
  readonly ino: number;
  readonly fileid: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize = BLOCK;
  /** Of 512 bytes, as stat(2) counts. */
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;

  constructor(attributes: Attributes) {
    super(attributes.type);
    const { fsidHigh, fsidLow, fileidHigh, fileidLow } = attributes;
    this.dev = (fsidHigh ^ fsidLow) >>> 0;
    this.ino = fileidHigh * 0x1_0000_0000 + fileidLow;
    this.fileid = (BigInt(fileidHigh) << 32n) | BigInt(fileidLow);
    this.mode = TYPE_BITS[attributes.type] | attributes.mode;
    this.nlink = attributes.linkCount;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.rdev = attributes.deviceMajor * 256 + attributes.deviceMinor;
    this.size = attributes.size;
    this.blocks = Math.ceil(attributes.used / 512);
    this.atimeNs = nanoseconds(attributes.atimeSeconds, attributes.atimeNanoseconds);
    this.mtimeNs = nanoseconds(attributes.mtimeSeconds, attributes.mtimeNanoseconds);
    this.ctimeNs = nanoseconds(attributes.ctimeSeconds, attributes.ctimeNanoseconds);
    this.atimeMs = attributes.atimeSeconds * 1000 + attributes.atimeNanoseconds / 1e6;
    this.mtimeMs = attributes.mtimeSeconds * 1000 + attributes.mtimeNanoseconds / 1e6;
    this.ctimeMs = attributes.ctimeSeconds * 1000 + attributes.ctimeNanoseconds / 1e6;
    this.birthtimeMs = this.ctimeMs;
  }

  get atime(): Date {
    return new Date(this.atimeMs);
  }
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
  get ctime(): Date {
    return new Date(this.ctimeMs);
  }
  get birthtime(): Date {
    return new Date(this.birthtimeMs);
  }
}

function nanoseconds(seconds: number, nanoseconds: number): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
}

/** As node:fs.Dirent; the name is a Buffer when `encoding: 'buffer'` was asked for. */
export class RemoteDirent<N extends string | Buffer = string> extends Typed {
  readonly name: N;
  readonly parentPath: string | Buffer;
  /** What the listing said beside the name, for who wants to spare a `stat`. */
  readonly stats: RemoteStats | null;

  constructor(name: N, parentPath: string | Buffer, attributes: Attributes | null) {
    super(attributes?.type ?? null);
    this.name = name;
    this.parentPath = parentPath;
    this.stats = attributes === null ? null : new RemoteStats(attributes);
  }
}

export function entryName(entry: DirectoryEntry, encoding: 'utf8' | 'buffer'): string | Buffer {
  const { buffer, byteOffset, byteLength } = entry.name;
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  return encoding === 'buffer' ? Buffer.from(bytes) : bytes.toString('utf8');
}

/** As node:fs.StatFs. */
export interface RemoteStatFs {
  readonly type: number;
  readonly bsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}

const NFS_SUPER_MAGIC = 0x6969;

export function toStatFs(result: FsstatResult): RemoteStatFs {
  return {
    type: NFS_SUPER_MAGIC,
    bsize: BLOCK,
    blocks: Math.floor(result.totalBytes / BLOCK),
    bfree: Math.floor(result.freeBytes / BLOCK),
    bavail: Math.floor(result.availableBytes / BLOCK),
    files: result.totalFiles,
    ffree: result.freeFiles,
  };
}

/** A time as node:fs takes it: seconds since 1970 (number, numeric text), or a Date. A TypeError for anything else. */
export function toTime(value: number | string | Date): Time {
  const milliseconds = value instanceof Date ? value.getTime() : Number(value) * 1000;
  if (!Number.isFinite(milliseconds)) throw new TypeError(`not a time: ${String(value)}`);
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.min(999_999_999, Math.round((milliseconds - seconds * 1000) * 1e6)) };
}
