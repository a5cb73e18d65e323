/**
 * An RPC server whose answers a test writes: it gets each call with its connection and answers when and how it likes.
 * It listens on loopback in this process.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { RecordDecoder } from '../../../src/remote/rpc/record.ts';
import { type XdrReader, XdrWriter } from '../../../src/remote/xdr.ts';

export interface FakeCall {
  readonly xid: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  /** The credential's flavour and body. */
  readonly flavour: number;
  readonly credential: Uint8Array;
  readonly args: XdrReader;
  readonly socket: Socket;
  /** Number of the connection, from 1. */
  readonly connection: number;
  /** An accepted, successful reply with these results, as one record of one fragment. */
  reply(results: (writer: XdrWriter) => void): void;
}

/** A successful reply without its record mark. */
export function successReply(xid: number, results: (writer: XdrWriter) => void): Uint8Array {
  const writer = new XdrWriter();
  writer.halves(xid, 1);
  writer.halves(0, 0);
  writer.halves(0, 0);
  results(writer);
  return writer.toBytes();
}

/** A record cut into fragments of at most `size` bytes. */
export function toRecord(message: Uint8Array, size = Number.POSITIVE_INFINITY): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length || at === 0; at += size) {
    const piece = message.subarray(at, Math.min(message.length, at + size));
    const mark = Buffer.alloc(4);
    mark.writeUInt32BE(((at + size >= message.length ? 0x8000_0000 : 0) | piece.length) >>> 0);
    parts.push(mark, Buffer.from(piece));
    if (message.length === 0) break;
  }
  return Buffer.concat(parts);
}

export class FakeServer {
  readonly port: number;
  connections = 0;
  readonly calls: FakeCall[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  onCall: (call: FakeCall) => void;

  private constructor(server: Server, port: number, onCall: (call: FakeCall) => void) {
    this.#server = server;
    this.port = port;
    this.onCall = onCall;
    server.on('connection', (socket) => this.#serve(socket));
  }

  static async start(t: TestContext, onCall: (call: FakeCall) => void): Promise<FakeServer> {
    const server = createServer({ noDelay: true });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const fake = new FakeServer(server, (server.address() as { port: number }).port, onCall);
    t.after(() => fake.close());
    return fake;
  }

  /** Resets every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** No new connections until `listen`; with `cut` (the default) the others end too. */
  async stopListening({ cut = true } = {}): Promise<void> {
    this.#server.close();
    if (!cut) return;
    this.cut();
    await once(this.#server, 'close');
  }

  async listen(): Promise<void> {
    await once(this.#server.listen(this.port, '127.0.0.1'), 'listening');
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    const connection = ++this.connections;
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    const records = new RecordDecoder(16 * 1024 * 1024, (reader) => {
      const xid = reader.u32();
      reader.skip(8); // a call, of RPC version 2
      const [program, version, procedure] = [reader.u32(), reader.u32(), reader.u32()];
      const flavour = reader.u32();
      const credential = Uint8Array.from(reader.opaque(400));
      reader.u32();
      reader.opaque(400);
      const reply = (results: (writer: XdrWriter) => void) => socket.write(toRecord(successReply(xid, results)));
      // What the test sees must stay as it is.
      const args = Object.assign(reader, { borrowed: true });
      const call = { xid, program, version, procedure, flavour, credential, args, socket, connection, reply };
      this.calls.push(call);
      this.onCall(call);
    });
    socket.on('data', (piece: Buffer) => records.push(piece, piece.length));
  }
}
