/**
 * Middleware of a datapath's specification as a stack takes it: the capture's file is opened, lines go to standard error.
 * It writes that file and that stream.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { systemError } from '../errors.ts';
import type { MiddlewareSpec } from './spec.ts';
import type { MiddlewareOptions } from './stack/middleware.ts';

/** A capture is written in pieces of this size: a call for each frame would cost more than the frame. */
const PIECE_BYTES = 1 << 16;
/** Milliseconds after which what was captured is in the file, whatever its size. */
const WRITE_MS = 200;

/** @throws IsthmusError ENOENT, EACCES … where the capture's file cannot be written */
export function openMiddleware({ faults, pcap, trace }: MiddlewareSpec): MiddlewareOptions {
  const file = pcap === '' ? null : new CaptureFile(pcap);
  return {
    ...(faults !== null && { faults }),
    ...(file !== null && { pcap: (bytes) => file.append(bytes), close: () => file.close() }),
    ...(trace && { trace: (line) => process.stderr.write(`${line}\n`) }),
  };
}

class CaptureFile {
  readonly #fd: number;
  readonly #piece = new Uint8Array(PIECE_BYTES);
  readonly #timer: ReturnType<typeof setInterval>;
  #filled = 0;
  #open = true;

  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'w', 0o600);
    } catch (error) {
      throw systemError((error as NodeJS.ErrnoException).errno ?? 5, 'open', path);
    }
    this.#timer = setInterval(() => this.#write(), WRITE_MS).unref();
    process.once('exit', this.#onExit);
  }

  readonly #onExit = (): void => this.close();

  append(bytes: Uint8Array): void {
    if (!this.#open) return;
    if (this.#filled + bytes.length > PIECE_BYTES) this.#write();
    if (bytes.length > PIECE_BYTES) writeSync(this.#fd, bytes);
    else {
      this.#piece.set(bytes, this.#filled);
      this.#filled += bytes.length;
    }
  }

  #write(): void {
    for (let at = 0; at < this.#filled; ) at += writeSync(this.#fd, this.#piece, at, this.#filled - at);
    this.#filled = 0;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#write();
    clearInterval(this.#timer);
    process.off('exit', this.#onExit);
    closeSync(this.#fd);
  }
}
