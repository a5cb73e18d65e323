/**
 * Streams over remote files: reading ahead and writing behind by a few pieces, so that a far server's bandwidth is used.
 * They touch the file they are given.
 */
import { Readable, Writable } from 'node:stream';
import type { RemoteFile } from './file.ts';

export interface StreamOptions {
  /** First byte; default 0. */
  readonly start?: number | undefined;
  /** Last byte, inclusive as in node:fs (reading only). */
  readonly end?: number | undefined;
  /** Bytes of a piece. Default 256 KiB. */
  readonly highWaterMark?: number | undefined;
  /** Close the file at the end; default true. */
  readonly autoClose?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

const PIECE = 256 * 1024;
/** Pieces under way at once. */
const WINDOW = 8;

export class RemoteReadStream extends Readable {
  readonly #file: Promise<RemoteFile>;
  readonly #piece: number;
  readonly #end: number;
  readonly #autoClose: boolean;
  #next: number;
  /** Reads under way, in the order of their places. */
  #ahead: Promise<Buffer>[] = [];
  #reading = false;
  #ended = false;
  bytesRead = 0;

  constructor(file: Promise<RemoteFile>, options: StreamOptions = {}) {
    super({ highWaterMark: options.highWaterMark ?? PIECE, ...(options.signal ? { signal: options.signal } : {}) });
    this.#file = file;
    this.#piece = options.highWaterMark ?? PIECE;
    this.#next = options.start ?? 0;
    this.#end = (options.end ?? Number.POSITIVE_INFINITY) + 1;
    this.#autoClose = options.autoClose ?? true;
    file.catch((error) => this.destroy(error));
  }

  override _read(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.#pull().catch((error) => this.destroy(error));
  }

  /** Pushes pieces until the reader has enough. */
  async #pull(): Promise<void> {
    const file = await this.#file;
    for (;;) {
      while (!this.#ended && this.#ahead.length < WINDOW && this.#next < this.#end) this.#readAhead(file);
      const piece = await (this.#ahead.shift() ?? Buffer.alloc(0));
      if (piece.length < this.#piece) this.#ended = true;
      this.bytesRead += piece.length;
      const more = piece.length === 0 ? true : this.push(piece);
      if (this.#ended || (this.#ahead.length === 0 && this.#next >= this.#end)) {
        for (const rest of this.#ahead.splice(0)) rest.catch(() => {});
        this.push(null);
        return;
      }
      if (!more || this.destroyed) {
        // At once: the next _read comes as soon as the reader has taken something.
        this.#reading = false;
        return;
      }
    }
  }

  #readAhead(file: RemoteFile): void {
    const length = Math.min(this.#piece, this.#end - this.#next);
    const buffer = Buffer.allocUnsafeSlow(length);
    const read = file
      .read(buffer, 0, length, this.#next)
      .then(({ bytesRead }) => (bytesRead === length ? buffer : buffer.subarray(0, bytesRead)));
    read.catch(() => {});
    this.#next += length;
    this.#ahead.push(read);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    finishWith(this.#file, this.#autoClose, error, callback);
  }
}

export class RemoteWriteStream extends Writable {
  readonly #file: Promise<RemoteFile>;
  readonly #autoClose: boolean;
  readonly #underWay = new Set<Promise<unknown>>();
  #next: number;
  #failure: Error | null = null;
  bytesWritten = 0;

  constructor(file: Promise<RemoteFile>, options: StreamOptions = {}) {
    super({ highWaterMark: options.highWaterMark ?? PIECE, ...(options.signal ? { signal: options.signal } : {}) });
    this.#file = file;
    this.#next = options.start ?? 0;
    this.#autoClose = options.autoClose ?? true;
    file.catch((error) => this.destroy(error));
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#start(chunk).then(() => callback(this.#failure), callback);
  }

  /** Starts a write; settled when another may be started. */
  async #start(chunk: Buffer): Promise<void> {
    const file = await this.#file;
    const write = file
      .write(chunk, 0, chunk.length, this.#next)
      .catch((error: Error) => {
        this.#failure ??= error;
      })
      .finally(() => this.#underWay.delete(write));
    this.#next += chunk.length;
    this.bytesWritten += chunk.length;
    this.#underWay.add(write);
    while (this.#underWay.size >= WINDOW) await Promise.race(this.#underWay);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#finish().then(() => callback(this.#failure), callback);
  }

  async #finish(): Promise<void> {
    await Promise.all(this.#underWay);
    if (this.#failure === null) await (await this.#file).sync();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    finishWith(this.#file, this.#autoClose, error, callback);
  }
}

function finishWith(
  file: Promise<RemoteFile>,
  close: boolean,
  error: Error | null,
  callback: (error?: Error | null) => void,
): void {
  file
    .then((open) => (close ? open.close() : undefined))
    .then(
      () => callback(error),
      (failure: Error) => callback(error ?? failure),
    );
}
