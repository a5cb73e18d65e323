/**
 * One TCP connection that carries RPC records both ways: what is written in one turn of the event loop leaves in one write.
 * It may touch node:net and its sockets' descriptors; it knows records, not calls.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import { type XdrReader, XdrWriter } from '../xdr.ts';
import { sendDirectly } from './direct-send.ts';
import { RecordDecoder } from './record.ts';

/** What is longer goes straight into the memory of its record. */
const RECEIVE_BYTES = 64 * 1024;
/** Above this many bytes not yet taken by the kernel no new call is sent. */
const SEND_HIGH_WATER = 2 * 1024 * 1024;

export interface ConnectionEvents {
  onOpen(): void;
  /** A whole record; a `borrowed` reader is valid until this returns. */
  onRecord(reader: XdrReader): void;
  /** There is room again after `congested`. */
  onDrain(): void;
  /** Once, at the end; also when the connection never opened. */
  onClosed(error: Error | null): void;
}

export interface ConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** The port of our side, to be recognised by a server's duplicate-request cache; 0: any. */
  readonly localPort: number;
  readonly maxRecord: number;
  readonly connectTimeoutMs: number;
}

/** Opens at once; `onOpen` and `onClosed` say how it goes. */
export class RpcConnection {
  readonly writer = new XdrWriter(64 * 1024);
  bytesSent = 0;
  bytesReceived = 0;
  readonly #socket: Socket;
  readonly #connectTimer: NodeJS.Timeout;
  #recordStart = 0;
  #recordSpliced = 0;
  #recordSplices = 0;
  #flushArmed = false;
  #error: Error | null = null;
  #open = false;
  readonly #flush = (): void => this.#flushNow();

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    const records = new RecordDecoder(options.maxRecord, (reader) => events.onRecord(reader));
    const { host, port, localPort } = options;
    const received = new Uint8Array(RECEIVE_BYTES);
    this.#socket = connectSocket({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      ...(localPort === 0 ? {} : { localPort }),
      onread: {
        buffer: () => records.room ?? received,
        callback: (length, piece) => {
          this.bytesReceived += length;
          try {
            if (piece === received) records.push(piece, length);
            else records.pushInPlace(length);
          } catch (error) {
            this.destroy(error as Error);
          }
          return true;
        },
      },
    });
    this.#connectTimer = setTimeout(() => this.destroy(new Error('no connection in time')), options.connectTimeoutMs);
    this.#socket.on('connect', () => {
      clearTimeout(this.#connectTimer);
      this.#open = true;
      events.onOpen();
    });
    this.#socket.on('drain', () => events.onDrain());
    this.#socket.on('error', (error) => {
      this.#error ??= error;
    });
    this.#socket.on('end', () => this.#socket.destroy());
    this.#socket.on('close', () => {
      clearTimeout(this.#connectTimer);
      this.#open = false;
      events.onClosed(this.#error);
    });
  }

  get isOpen(): boolean {
    return this.#open;
  }

  get localPort(): number {
    return this.#socket.localPort ?? 0;
  }

  get congested(): boolean {
    return this.#socket.writableLength + this.writer.length + this.writer.spliced > SEND_HIGH_WATER;
  }

  /** Leaves room for the record mark; the record is what `writer` gets from here to `endRecord`. */
  beginRecord(): void {
    this.#recordStart = this.writer.length;
    this.#recordSpliced = this.writer.spliced;
    this.#recordSplices = this.writer.splices.length;
    this.writer.u32(0);
  }

  /** Ends the record and sees that it is sent; gives its length in bytes. */
  endRecord(): number {
    const { writer } = this;
    const length = writer.length - this.#recordStart - 4 + (writer.spliced - this.#recordSpliced);
    writer.view.setUint32(this.#recordStart, (0x8000_0000 | length) >>> 0);
    if (!this.#flushArmed) {
      this.#flushArmed = true;
      process.nextTick(this.#flush);
    }
    return length;
  }

  /** Takes the unfinished record back. */
  abandonRecord(): void {
    this.writer.rewind(this.#recordStart, this.#recordSplices);
  }

  /** Closes at once; `onClosed` follows with `error`. */
  destroy(error: Error | null): void {
    this.#error ??= error;
    this.#open = false;
    this.#socket.destroy();
  }

  #flushNow(): void {
    this.#flushArmed = false;
    const { writer } = this;
    if (writer.length === 0 || !this.#open) return;
    const { length, splices, bytes } = writer;
    this.bytesSent += length + writer.spliced;
    const socket = this.#socket;
    if (splices.length === 0) {
      const sent = sendDirectly(socket, bytes, length);
      if (sent < length) socket.write(Buffer.from(bytes.buffer, sent, length - sent));
    } else {
      socket.cork();
      let from = 0;
      for (const splice of splices) {
        if (splice.at > from) socket.write(Buffer.from(bytes.buffer, from, splice.at - from));
        socket.write(splice.bytes);
        from = splice.at;
      }
      if (length > from) socket.write(Buffer.from(bytes.buffer, from, length - from));
      socket.uncork();
    }
    // When the kernel has taken everything at once, as it nearly always has, the buffer is ours again.
    writer.reset(socket.writableLength === 0);
  }
}
