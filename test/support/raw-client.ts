/**
 * A client of raw bytes over node:net: sends what it is told and keeps what it gets.
 * It touches one socket.
 */
import { connect, type Socket } from 'node:net';

export class RawClient {
  readonly socket: Socket;
  /** All bytes received. */
  received = 0;
  /** The peer has ended or broken the connection. */
  closed = false;
  errorCode = '';
  #parts: Buffer[] = [];
  #changed: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (part: Buffer) => {
      this.received += part.length;
      this.#parts.push(part);
      this.#changed();
    });
    socket.on('end', () => this.#close(''));
    socket.on('close', () => this.#close(''));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#close(error.code ?? 'error'));
  }

  #close(code: string): void {
    this.closed = true;
    if (code !== '') this.errorCode = code;
    this.#changed();
  }

  /** Connects to a port of 127.0.0.1, or to the path of a Unix socket. */
  static open(where: number | string): Promise<RawClient> {
    const socket = connect({
      ...(typeof where === 'number' ? { port: where, host: '127.0.0.1' } : { path: where }),
      noDelay: true,
      allowHalfOpen: true,
    });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RawClient(socket));
      });
    });
  }

  /** Fulfilled when the bytes are with the kernel, or the connection has broken. */
  send(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve();
      else this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, () => resolve());
    });
  }

  /** What has arrived and was not taken, a character per byte. */
  take(): string {
    const text = Buffer.concat(this.#parts).toString('latin1');
    this.#parts = [];
    return text;
  }

  /** Waits until `length` bytes in all have arrived, or the end. */
  async until(length: number): Promise<void> {
    await this.#wait(() => this.received >= length || this.closed, `${length} bytes`);
  }

  /** Waits for the end of the connection; gives what had arrived. */
  async end(): Promise<string> {
    await this.#wait(() => this.closed, 'the end');
    return this.take();
  }

  /** Sends a request and waits for a reply of one line, which it gives without its line break. */
  async ask(request: string): Promise<string> {
    await this.send(request);
    let text = '';
    await this.#wait(() => {
      text = Buffer.concat(this.#parts).toString('latin1');
      return text.includes('\r\n') || this.closed;
    }, 'a line');
    const line = text.slice(0, Math.max(0, text.indexOf('\r\n')));
    this.#parts = [Buffer.from(text.slice(line.length + 2), 'latin1')];
    return line;
  }

  #wait(condition: () => boolean, what: string, ms = 30_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}, got ${this.received} bytes`)), ms);
      this.#changed = () => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#changed = () => {};
        resolve();
      };
      this.#changed();
    });
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** A request as clients send it; a character per byte. */
export function request(...words: string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`;
}
