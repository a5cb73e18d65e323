/**
 * An NFSv4.1 server of a few lines that does what a test tells it: sessions with slots and a reply cache, directories that are
 * made and removed, and faults on demand. It touches a socket of loopback.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { Op, Status } from '../../../src/remote/nfs41/constants.ts';
import { MessageType } from '../../../src/remote/rpc/message.ts';
import { RecordDecoder } from '../../../src/remote/rpc/record.ts';
import { type XdrReader, XdrWriter } from '../../../src/remote/xdr.ts';

/** What happens to one COMPOUND instead of the usual. */
export type Fault =
  /** Executed, the reply lost with the connection. */
  | { readonly kind: 'lose-reply' }
  /** Not executed, the connection cut. */
  | { readonly kind: 'lose-request' }
  /** Executed, the connection cut, and the server started anew. */
  | { readonly kind: 'crash-after' }
  /** Not executed, the connection cut, and the server started anew. */
  | { readonly kind: 'crash-before' }
  /** The operation of this number answers with a status. */
  | { readonly kind: 'status'; readonly op: number; readonly status: number }
  /** The reply is what the function makes of it. */
  | { readonly kind: 'mangle'; readonly mangle: (reply: Uint8Array) => Uint8Array }
  /** No reply, the connection stays. */
  | { readonly kind: 'silence' };

interface Slot {
  sequence: number;
  kept: Uint8Array | null;
}

interface SessionState {
  readonly client: number;
  readonly slots: Slot[];
}

const HANDLE = (id: number) => Uint8Array.of(0, 0, 0, id >> 8, id & 255);
const ROOT = 1;

export class FakeServer {
  port = 0;
  /** Names made and removed, in order, e.g. `+a`, `-a`. */
  readonly effects: string[] = [];
  /** Operation numbers of each COMPOUND received, those answered from the cache included. */
  readonly compounds: number[][] = [];
  /** Answers from the reply cache. */
  replays = 0;
  exchanges = 0;
  sessionsMade = 0;
  /** SEQUENCE's flags. */
  statusFlags = 0;
  maxOperations = 64;
  maxSlots = 8;
  maxKept = 65_536;
  minorVersions: readonly number[] = [1];
  /** The target_highest_slotid of SEQUENCE. */
  targetSlot: number | null = null;
  /** Whether `sa_cachethis` is honoured. */
  keeps = true;
  /** Decides about each COMPOUND by its operation numbers. */
  onCompound: (ops: readonly number[], index: number) => Fault | null = () => null;

  readonly names = new Map<string, number>();
  #nextId = 2;
  #clients = new Map<number, string>();
  #sessions = new Map<string, SessionState>();
  #nextSession = 1;
  #nextClient = 1;
  #sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket));
  }

  static async start(): Promise<FakeServer> {
    const fake = new FakeServer();
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve));
    fake.port = (fake.#server.address() as { port: number }).port;
    return fake;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Everything but the files is forgotten. */
  restart(): void {
    this.#clients.clear();
    this.#sessions.clear();
    this.cut();
  }

  forgetSessions(): void {
    this.#sessions.clear();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    const records = new RecordDecoder(1 << 22, (reader) => this.#onRecord(socket, reader));
    socket.on('data', (piece) => records.push(piece, piece.length));
  }

  #onRecord(socket: Socket, reader: XdrReader): void {
    const xid = reader.u32();
    reader.skip(12);
    reader.u32();
    const procedure = reader.u32();
    reader.u32();
    reader.opaque(400);
    reader.u32();
    reader.opaque(400);
    const head = new XdrWriter();
    head.halves(xid, MessageType.reply);
    head.halves(0, 0);
    head.halves(0, 0);
    if (procedure === 0) {
      send(socket, head.toBytes());
      return;
    }
    const { body, fault } = this.#compound(reader);
    if (fault?.kind === 'crash-after' || fault?.kind === 'crash-before') this.restart();
    if (fault?.kind === 'lose-reply' || fault?.kind === 'lose-request') socket.destroy();
    if (socket.destroyed || fault?.kind === 'silence') return;
    head.encoded(fault?.kind === 'mangle' ? fault.mangle(body) : body);
    send(socket, head.toBytes());
  }

  #compound(reader: XdrReader): { body: Uint8Array; fault: Fault | null } {
    reader.opaque(1024);
    const minor = reader.u32();
    const count = reader.u32();
    if (!this.minorVersions.includes(minor)) return { body: reply(Status.minorVersMismatch, []), fault: null };
    const ops = peekOps(reader, count);
    const fault = this.onCompound(ops, this.compounds.length);
    this.compounds.push(ops);
    if (fault?.kind === 'lose-request' || fault?.kind === 'crash-before') return { body: new Uint8Array(0), fault };
    const state: Running = { current: 0, saved: 0, session: null, slot: null, keep: false, fault };
    const results: Result[] = [];
    let status = 0;
    for (let i = 0; i < count && status === 0; i++) {
      const op = reader.u32();
      const writer = new XdrWriter();
      status = this.#run(op, reader, writer, state);
      if (state.slot?.kept && state.fault === REPLAY) return { body: state.slot.kept, fault: null };
      results.push({ op, status, body: writer.toBytes() });
    }
    const body = reply(status, results);
    if (state.slot !== null) state.slot.kept = state.keep && this.keeps ? body : null;
    return { body, fault };
  }

  #run(op: number, reader: XdrReader, writer: XdrWriter, state: Running): number {
    const { fault } = state;
    const forced = fault?.kind === 'status' && fault.op === op ? fault.status : 0;
    if (forced !== 0 && op === Op.sequence) return forced;
    switch (op) {
      case Op.exchangeId: {
        this.exchanges++;
        const verifier = Buffer.from(reader.fixed(8)).toString('hex');
        const owner = `${verifier}${Buffer.from(reader.opaque(1024)).toString()}`;
        reader.skip(12);
        let id = [...this.#clients].find(([, known]) => known === owner)?.[0];
        if (id === undefined) {
          id = this.#nextClient++;
          this.#clients.set(id, owner);
        }
        writer.halves(0, id);
        writer.halves(1, 0x10000);
        writer.u32(0);
        writer.halves(0, 0);
        writer.string('fake');
        writer.string('scope');
        writer.u32(0);
        return forced;
      }
      case Op.createSession: {
        reader.u32();
        const client = reader.u32();
        const sequence = reader.u32();
        reader.u32();
        const fore = [reader.u32(), reader.u32(), reader.u32(), reader.u32(), reader.u32(), reader.u32()];
        reader.u32();
        reader.skip(28 + 12);
        if (!this.#clients.has(client)) return Status.staleClientid;
        if (forced !== 0) return forced;
        this.sessionsMade++;
        const id = sessionId(this.#nextSession++);
        const slots = Math.min(fore[5]!, this.maxSlots);
        this.#sessions.set(key(id), {
          client,
          slots: Array.from({ length: slots }, () => ({ sequence: 0, kept: null })),
        });
        writer.fixed(id);
        writer.halves(sequence, 0);
        for (const value of [0, fore[1]!, fore[2]!, this.maxKept, Math.min(fore[4]!, this.maxOperations), slots, 0]) {
          writer.u32(value);
        }
        for (const value of [0, 4096, 4096, 0, 2, 1, 0]) writer.u32(value);
        return 0;
      }
      case Op.sequence: {
        const id = reader.fixed(16);
        const sequence = reader.u32();
        const slotId = reader.u32();
        reader.u32();
        state.keep = reader.bool();
        const session = this.#sessions.get(key(id));
        if (session === undefined) return Status.badSession;
        const slot = session.slots[slotId];
        if (slot === undefined) return Status.badSlot;
        if (sequence === slot.sequence && slot.sequence > 0) {
          if (slot.kept === null) return Status.retryUncachedRep;
          this.replays++;
          state.slot = slot;
          state.fault = REPLAY;
          return 0;
        }
        if (sequence !== slot.sequence + 1) return Status.seqMisordered;
        slot.sequence = sequence;
        state.slot = slot;
        state.session = session;
        writer.fixed(id);
        writer.halves(sequence, slotId);
        writer.u32(session.slots.length - 1);
        writer.u32(this.targetSlot ?? session.slots.length - 1);
        writer.u32(this.statusFlags);
        return 0;
      }
      case Op.destroySession:
        this.#sessions.delete(key(reader.fixed(16)));
        return 0;
      case Op.destroyClientid:
        reader.u32();
        this.#clients.delete(reader.u32());
        return 0;
      case Op.reclaimComplete:
        reader.u32();
        return forced;
      case Op.putrootfh:
        state.current = ROOT;
        return forced;
      case Op.putfh: {
        const handle = reader.opaque(128);
        state.current = handle[3]! * 256 + handle[4]!;
        return forced;
      }
      case Op.getfh:
        if (forced === 0) writer.opaque(HANDLE(state.current));
        return forced;
      case Op.savefh:
        state.saved = state.current;
        return forced;
      case Op.restorefh:
        state.current = state.saved;
        return forced;
      case Op.lookup: {
        const name = Buffer.from(reader.opaque(255)).toString();
        if (forced !== 0) return forced;
        if (name === 'export') return 0;
        const id = this.names.get(name);
        if (id === undefined) return Status.noent;
        state.current = id;
        return 0;
      }
      case Op.getattr: {
        const words = Array.from({ length: reader.u32() }, () => reader.u32());
        if (forced === 0) writeAttributes(writer, words, state.current, this.effects.length);
        return forced;
      }
      case Op.verify:
      case Op.nverify: {
        reader.skip(4 * reader.u32());
        reader.opaque(1024);
        return forced;
      }
      case Op.create: {
        reader.u32();
        const name = Buffer.from(reader.opaque(255)).toString();
        reader.skip(4 * reader.u32());
        reader.opaque(1024);
        if (forced !== 0) return forced;
        if (this.names.has(name)) return Status.exist;
        state.current = this.#nextId++;
        this.names.set(name, state.current);
        this.effects.push(`+${name}`);
        changeInfo(writer);
        writer.u32(0);
        return 0;
      }
      case Op.remove: {
        const name = Buffer.from(reader.opaque(255)).toString();
        if (forced !== 0) return forced;
        if (!this.names.delete(name)) return Status.noent;
        this.effects.push(`-${name}`);
        changeInfo(writer);
        return 0;
      }
      default:
        throw new Error(`the fake server does not know operation ${op}`);
    }
  }
}

interface Running {
  current: number;
  saved: number;
  session: SessionState | null;
  slot: Slot | null;
  keep: boolean;
  fault: Fault | null;
}

interface Result {
  readonly op: number;
  readonly status: number;
  readonly body: Uint8Array;
}

const REPLAY: Fault = { kind: 'silence' };

function reply(status: number, results: readonly Result[]): Uint8Array {
  const writer = new XdrWriter();
  writer.u32(status);
  writer.u32(0);
  writer.u32(results.length);
  for (const { op, status: each, body } of results) {
    writer.halves(op, each);
    if (each === 0) writer.encoded(body);
  }
  return writer.toBytes();
}

/** The operation numbers, found by a parse that only knows lengths. */
function peekOps(reader: XdrReader, count: number): number[] {
  const at = reader.offset;
  const ops: number[] = [];
  const skip: Record<number, () => void> = {
    [Op.exchangeId]: () => {
      reader.skip(8);
      reader.opaque(1024);
      reader.skip(12);
    },
    [Op.createSession]: () => reader.skip(16 + 56 + 12),
    [Op.sequence]: () => reader.skip(32),
    [Op.destroySession]: () => reader.skip(16),
    [Op.destroyClientid]: () => reader.skip(8),
    [Op.reclaimComplete]: () => reader.skip(4),
    [Op.putfh]: () => reader.opaque(128),
    [Op.lookup]: () => reader.opaque(255),
    [Op.remove]: () => reader.opaque(255),
    [Op.getattr]: () => reader.skip(4 * reader.u32()),
    [Op.verify]: () => {
      reader.skip(4 * reader.u32());
      reader.opaque(1024);
    },
    [Op.create]: () => {
      reader.u32();
      reader.opaque(255);
      reader.skip(4 * reader.u32());
      reader.opaque(1024);
    },
  };
  skip[Op.nverify] = skip[Op.verify]!;
  for (let i = 0; i < count; i++) {
    const op = reader.u32();
    ops.push(op);
    skip[op]?.();
  }
  reader.offset = at;
  return ops;
}

function changeInfo(writer: XdrWriter): void {
  writer.u32(1);
  writer.halves(0, 7);
  writer.halves(0, 8);
}

/** Whatever is asked, with plausible values; only the fixed-size and owner attributes the client asks for are known. */
function writeAttributes(writer: XdrWriter, words: readonly number[], id: number, change: number): void {
  const body = new XdrWriter();
  words.forEach((word, i) => {
    for (let bit = 0; bit < 32; bit++) {
      if (((word >>> bit) & 1) === 1) writeAttribute(body, i * 32 + bit, id, change);
    }
  });
  writer.u32(words.length);
  for (const word of words) writer.u32(word);
  writer.opaque(body.toBytes());
}

function writeAttribute(writer: XdrWriter, attribute: number, id: number, change: number): void {
  const size4 = new Map([
    [1, 2],
    [10, 90],
    [16, 0],
    [28, 100],
    [29, 255],
    [33, 0o755],
    [35, 2],
  ]);
  const four = size4.get(attribute);
  if (four !== undefined) writer.u32(four);
  else if (attribute === 3) writer.halves(0, change);
  else if (attribute === 19) writer.opaque(HANDLE(id));
  else if (attribute === 8) {
    writer.halves(0, 1);
    writer.halves(0, 2);
  } else if (attribute === 36 || attribute === 37) writer.string('0');
  else if (attribute === 41) writer.halves(0, 0);
  else if (attribute === 47 || attribute === 52 || attribute === 53) {
    writer.halves(0, 1000);
    writer.u32(5);
  } else if (attribute === 30 || attribute === 31) writer.halves(0, 65_536);
  else writer.halves(0, id);
}

function sessionId(number: number): Uint8Array {
  const id = new Uint8Array(16);
  id[15] = number;
  return id;
}

function key(id: Uint8Array): string {
  return Buffer.from(id).toString('hex');
}

function send(socket: Socket, bytes: Uint8Array): void {
  const mark = Buffer.alloc(4);
  mark.writeUInt32BE((0x8000_0000 | bytes.length) >>> 0);
  socket.write(Buffer.concat([mark, bytes]));
}
