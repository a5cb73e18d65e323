/**
 * A third party in the simulation of two TCPs, by hand: segments in the name of others, and connections of its own that keep
 * to no rule. It touches the world it is given, whose server it speaks to.
 */
import { Flow } from '../../src/net/flow.ts';
import type { Connection } from '../../src/net/tcp/connection.ts';
import { TcpState } from '../../src/net/tcp/constants.ts';
import { Flag } from '../../src/net/wire/tcp.ts';
import { buildSegment, type SegmentFields } from './segment-tools.ts';
import type { Host, World } from './tcp-simulation.ts';

const ADDRESS = 0x0a000003;
const SERVER_PORT = 80;
const FIRST_PORT = 2000;

/** One connection of its own. */
interface Own {
  readonly port: number;
  /** The next sequence number of the server's stream; null until it has answered. */
  heard: number | null;
  /** The server's end, once accepted. */
  end: Connection | null;
}

export class Mallory {
  readonly own: Own[] = [];
  readonly #server: Host;

  constructor(world: World) {
    this.#server = world.server;
    world.onStray = ({ remotePort }, bytes) => this.#hear(remotePort, bytes);
    world.onStranger = (connection) => {
      const own = this.own.find(({ port }) => port === connection.flow.remotePort);
      if (own === undefined) connection.abort();
      else own.end = connection;
    };
  }

  /** The server's end of the honest connection while it is open. */
  get victim(): Connection | null {
    for (const c of this.#server.tcp.table) {
      const open = c.state >= TcpState.ESTABLISHED && c.state <= TcpState.FIN_WAIT_2;
      if (open && c.flow.remote3 === this.#server.peer.address) return c;
    }
    return null;
  }

  /** Says something to the server in the client's name; `length` bytes of rubbish follow. */
  forge(fields: Partial<SegmentFields>, length = 0): void {
    this.#give(this.#server.ends(new Flow()), fields.sourcePort ?? this.victim?.flow.remotePort ?? 1, fields, length);
  }

  /** Begins a connection of its own; the first word on it ends the handshake. */
  connect(window: number): Own {
    const own: Own = { port: FIRST_PORT + this.own.length, heard: null, end: null };
    this.own.push(own);
    this.#say(own, { flags: Flag.SYN, seq: -1, window });
    return own;
  }

  /** Says something on a connection of its own, whose data begins at 0. Everything heard is acknowledged. */
  say(own: Own, fields: Partial<SegmentFields>, length = 0): void {
    if (own.heard !== null) this.#say(own, { ack: own.heard, flags: Flag.ACK, ...fields }, length);
  }

  /** Gives up what it has, so that the simulation can end. */
  leave(): void {
    for (const { end } of this.own.splice(0)) end?.abort();
  }

  #say({ port }: Own, fields: Partial<SegmentFields>, length = 0): void {
    const flow = this.#server.ends(new Flow());
    flow.remote3 = ADDRESS;
    this.#give(flow, port, fields, length);
  }

  #give(flow: Flow, sourcePort: number, fields: Partial<SegmentFields>, length: number): void {
    const { heap, tcp } = this.#server;
    const all = { destinationPort: SERVER_PORT, seq: 0, ack: 0, flags: Flag.ACK, window: 1000, ...fields, sourcePort };
    const packet = buildSegment(heap, flow, all, length, () => 0xee);
    if (packet === null) return;
    tcp.input(packet, packet.offset, packet.length, flow);
    packet.release();
  }

  #hear(port: number, bytes: Uint8Array): void {
    const own = this.own.find((each) => each.port === port);
    if (own === undefined) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const flags = bytes[13]!;
    if ((flags & Flag.RST) !== 0) return;
    const seq = view.getUint32(4);
    const sequenced = (flags & Flag.SYN ? 1 : 0) + (flags & Flag.FIN ? 1 : 0);
    const next = (seq + bytes.length - (bytes[12]! >> 4) * 4 + sequenced) | 0;
    if (own.heard === null || ((next - own.heard) | 0) > 0) own.heard = next;
  }
}
