/**
 * An open remote file, shaped as node:fs/promises' FileHandle: a position and an access mode over a shared inode.
 * It asks the server.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { CallOptions, RemoteServer, SetAttributes } from '../server.ts';
import type { OpenFlags } from './flags.ts';
import type { Inode } from './inode.ts';
import { asFileCall, type Path } from './path.ts';
import { RemoteStats, toTime } from './stats.ts';
import { RemoteReadStream, RemoteWriteStream, type StreamOptions } from './streams.ts';

export type Content = string | Uint8Array;
export type TimeLike = number | string | Date;
/** Where the bytes come from: a content, or pieces one after the other. */
export type ContentSource = Content | Iterable<Content> | AsyncIterable<Content>;

export interface ReadOptions {
  readonly buffer?: Uint8Array;
  readonly offset?: number;
  readonly length?: number;
  /** null: from the file's position, which moves on. */
  readonly position?: number | null;
}

const READ_DEFAULT = 16 * 1024;
const READ_FILE_PIECE = 4 * 1024 * 1024;
/** As node:fs: what is larger has to be read in parts. */
const READ_FILE_MOST = 2 ** 31 - 1;

export interface FileParts {
  readonly server: RemoteServer;
  readonly inode: Inode;
  readonly flags: OpenFlags;
  readonly path: Path;
  readonly options: CallOptions | undefined;
  readonly onClose: () => void;
}

/** Every method rejects with a FileError (EBADF after `close` and against the access mode), and with the signal's reason after an abort. */
export class RemoteFile {
  readonly #parts: FileParts;
  #position = 0;
  #closed = false;
  /** The last operation on the shared position: they take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: FileParts) {
    this.#parts = parts;
  }

  /** Reads into a buffer; `bytesRead` is less than asked only at the end of the file, where it is 0. */
  read<B extends Uint8Array = Buffer>(
    bufferOrOptions?: B | ReadOptions,
    offset?: number,
    length?: number,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffer: B }> {
    const options: ReadOptions =
      bufferOrOptions instanceof Uint8Array
        ? { buffer: bufferOrOptions, ...defined({ offset, length, position }) }
        : (bufferOrOptions ?? {});
    const buffer = (options.buffer ?? Buffer.alloc(READ_DEFAULT)) as B;
    const start = options.offset ?? 0;
    const into = slice(buffer, start, options.length ?? buffer.length - start);
    return this.#call('read', 'read', async ({ inode, options: call }) => {
      const bytesRead = await this.#positioned(options.position ?? null, async (at) => {
        const count = await inode.read(into, at, call);
        return { value: count, moved: count };
      });
      return { bytesRead, buffer };
    });
  }

  /** Writes all of it; settled when the server has it (stable after `sync` or `close`). */
  write<B extends Content>(
    data: B,
    offsetOrPosition?: number | null,
    lengthOrEncoding?: number | BufferEncoding | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: B }> {
    let bytes: Uint8Array;
    let at: number | null;
    if (typeof data === 'string') {
      bytes = Buffer.from(data, (lengthOrEncoding as BufferEncoding | null) ?? 'utf8');
      at = offsetOrPosition ?? null;
    } else {
      const start = offsetOrPosition ?? 0;
      bytes = slice(data, start, (lengthOrEncoding as number | null) ?? data.length - start);
      at = position ?? null;
    }
    return this.#call('write', 'write', async () => {
      await this.#write(bytes, at, false);
      return { bytesWritten: bytes.length, buffer: data };
    });
  }

  /** From the position to the end. */
  readFile(encoding: BufferEncoding): Promise<string>;
  readFile(encoding?: null): Promise<Buffer>;
  readFile(encoding?: BufferEncoding | null): Promise<Buffer | string>;
  readFile(encoding?: BufferEncoding | null): Promise<Buffer | string> {
    return this.#call('read', 'read', async ({ inode, options }) => {
      const { size } = await inode.attributes(options);
      if (size - this.#position > READ_FILE_MOST) throw systemError(ERRNO.EFBIG, 'read');
      const buffer = await this.#positioned(null, async (at) => {
        const value = await readToEnd(inode, at, Math.max(0, size - at), options);
        return { value, moved: value.length };
      });
      return encoding ? buffer.toString(encoding) : buffer;
    });
  }

  /** Writes at the position, without cutting off what is behind. Stable when it is done. */
  writeFile(data: ContentSource, encoding?: BufferEncoding): Promise<void> {
    return this.#call('write', 'write', async ({ inode }) => {
      if (typeof data === 'string' || data instanceof Uint8Array) {
        await this.#write(toBytes(data, encoding), null, true);
      } else {
        for await (const piece of data) await this.#write(toBytes(piece, encoding), null, false);
      }
      await inode.flush();
    });
  }

  appendFile(data: ContentSource, encoding?: BufferEncoding): Promise<void> {
    return this.writeFile(data, encoding);
  }

  stat(): Promise<RemoteStats> {
    return this.#call('stat', null, async ({ inode, options }) => new RemoteStats(await inode.attributes(options)));
  }

  truncate(size = 0): Promise<void> {
    return this.#call('ftruncate', 'write', async ({ inode, options }) => {
      await inode.truncate(size, options);
    });
  }

  chmod(mode: number): Promise<void> {
    return this.#set('fchmod', { mode: mode & 0o7777 });
  }

  chown(uid: number, gid: number): Promise<void> {
    return this.#set('fchown', { uid, gid });
  }

  utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    return this.#set('futimes', { atime: toTime(atime), mtime: toTime(mtime) });
  }

  /** Settled when all data written through any handle of this mount to this file is on stable storage. */
  sync(): Promise<void> {
    return this.#call('fsync', null, ({ inode }) => inode.flush());
  }

  datasync(): Promise<void> {
    return this.#call('fdatasync', null, ({ inode }) => inode.flush());
  }

  /** Commits what was written and closes; a failed commit is reported here, and the file is closed all the same. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { inode, flags, onClose, path } = this.#parts;
    try {
      await this.#turn.catch(() => {});
      if (flags.write) await asFileCall('close', path, undefined, () => inode.flush());
    } finally {
      onClose();
    }
  }

  createReadStream(options?: StreamOptions): RemoteReadStream {
    return new RemoteReadStream(Promise.resolve(this), options);
  }

  createWriteStream(options?: StreamOptions): RemoteWriteStream {
    return new RemoteWriteStream(Promise.resolve(this), options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #set(syscall: string, attributes: SetAttributes): Promise<void> {
    return this.#call(syscall, null, async ({ server, inode, options }) => {
      await server.setattr(inode.handle, attributes, undefined, options);
    });
  }

  async #write(bytes: Uint8Array, position: number | null, borrowed: boolean): Promise<void> {
    const { inode, flags, options } = this.#parts;
    if (flags.append) {
      await this.#positioned(null, async () => {
        this.#position = await inode.append(bytes, borrowed, options);
        return { value: undefined, moved: bytes.length };
      });
    } else {
      await this.#positioned(position, async (at) => {
        await inode.write(bytes, at, borrowed, options);
        return { value: undefined, moved: bytes.length };
      });
    }
    if (flags.sync) await inode.flush();
  }

  /** Works at a given position, or at the file's own, which moves on; there one waits for the other. */
  async #positioned<T>(
    position: number | null,
    work: (at: number) => Promise<{ value: T; moved: number }>,
  ): Promise<T> {
    if (position !== null && position >= 0) return (await work(position)).value;
    const turn = this.#turn
      .catch(() => {})
      .then(async () => {
        const { value, moved } = await work(this.#position);
        this.#position += moved;
        return value;
      });
    this.#turn = turn;
    return turn;
  }

  #call<T>(syscall: string, needs: 'read' | 'write' | null, work: (parts: FileParts) => Promise<T>): Promise<T> {
    return asFileCall(syscall, this.#parts.path, undefined, async () => {
      const { flags } = this.#parts;
      if (this.#closed || (needs !== null && !flags[needs])) throw systemError(ERRNO.EBADF, syscall);
      return work(this.#parts);
    });
  }
}

/** Reads `expected` bytes from `at` and then whatever has been added since. */
async function readToEnd(inode: Inode, at: number, expected: number, options?: CallOptions): Promise<Buffer> {
  const pieces: Buffer[] = [];
  // One byte more than expected: the end of the file shows in the same request.
  for (let length = expected + 1, offset = at; ; length = READ_FILE_PIECE) {
    const buffer = Buffer.allocUnsafeSlow(length);
    const count = await inode.read(buffer, offset, options);
    if (count > 0) pieces.push(buffer.subarray(0, count));
    offset += count;
    if (count < length) break;
  }
  return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
}

export function toBytes(content: Content, encoding?: BufferEncoding): Uint8Array {
  return typeof content === 'string' ? Buffer.from(content, encoding ?? 'utf8') : content;
}

function slice(buffer: Uint8Array, offset: number, length: number): Uint8Array {
  if (!(offset >= 0 && length >= 0 && offset + length <= buffer.length)) {
    throw new RangeError(`${length} bytes from ${offset} are not inside a buffer of ${buffer.length}`);
  }
  return buffer.subarray(offset, offset + length);
}

/** Only the fields that are given. */
function defined(options: {
  offset: number | undefined;
  length: number | undefined;
  position: number | null | undefined;
}) {
  const { offset, length, position } = options;
  return {
    ...(offset === undefined ? {} : { offset }),
    ...(length === undefined ? {} : { length }),
    ...(position === undefined ? {} : { position }),
  };
}
