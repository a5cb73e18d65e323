/**
 * Connections by their two ends: open addressing over integers, keyed so that a peer cannot make slots collide.
 * It touches only its own arrays and the flows of the connections in it.
 */
import type { Flow } from '../flow.ts';
import type { Connection } from './connection.ts';
import { halfSipHash } from './siphash.ts';

const FIRST_SLOTS = 256;

export class ConnectionTable {
  size = 0;
  // How many connections each local port has, those in TIME_WAIT included: a bit says that it has any, another that it has
  // several, and only those have a number. A port is chosen by chance, so that its bits lie in the cache and a number does not.
  readonly #busyPorts = new Int32Array(65536 >> 5);
  readonly #sharedPorts = new Int32Array(65536 >> 5);
  readonly #onPort = new Int32Array(65536);
  readonly #key0: number;
  readonly #key1: number;
  #mask = FIRST_SLOTS - 1;
  #hashes = new Int32Array(FIRST_SLOTS);
  #connections: (Connection | null)[] = new Array<Connection | null>(FIRST_SLOTS).fill(null);

  constructor(key0: number, key1: number) {
    this.#key0 = key0;
    this.#key1 = key1;
  }

  hash(flow: Flow): number {
    const ports = (flow.remotePort << 16) | flow.localPort;
    if (flow.family === 4) return halfSipHash(this.#key0, this.#key1, ports, flow.remote3, flow.local3);
    const remote = halfSipHash(this.#key0, this.#key1, flow.remote0, flow.remote1, flow.remote2);
    const local = halfSipHash(this.#key1, this.#key0, flow.local0, flow.local1, flow.local2);
    return halfSipHash(remote, local, ports, flow.remote3, flow.local3);
  }

  find(flow: Flow): Connection | null {
    const hash = this.hash(flow);
    const mask = this.#mask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const connection = this.#connections[slot]!;
      if (connection === null) return null;
      if (this.#hashes[slot] === hash && connection.flow.equals(flow)) return connection;
    }
  }

  /** Adds a connection whose flow is not in the table yet. */
  add(connection: Connection): void {
    if (2 * this.size > this.#mask) this.#grow();
    const { flow } = connection;
    connection.hash = this.hash(flow);
    this.#put(connection, connection.hash);
    this.size++;
    this.countPort(flow.localPort, 1);
  }

  /** One connection more, or one less, has this local port. */
  countPort(port: number, change: 1 | -1): void {
    const word = port >> 5;
    const bit = 1 << (port & 31);
    if ((this.#sharedPorts[word]! & bit) !== 0) {
      const count = this.#onPort[port]! + change;
      this.#onPort[port] = count;
      if (count === 1) this.#sharedPorts[word] = this.#sharedPorts[word]! & ~bit;
    } else if (change < 0) this.#busyPorts[word] = this.#busyPorts[word]! & ~bit;
    else if ((this.#busyPorts[word]! & bit) === 0) this.#busyPorts[word] = this.#busyPorts[word]! | bit;
    else {
      this.#sharedPorts[word] = this.#sharedPorts[word]! | bit;
      this.#onPort[port] = 2;
    }
  }

  /** How many connections have this local port, those in TIME_WAIT included. */
  onPort(port: number): number {
    const word = port >> 5;
    const bit = 1 << (port & 31);
    if ((this.#sharedPorts[word]! & bit) !== 0) return this.#onPort[port]!;
    return (this.#busyPorts[word]! & bit) === 0 ? 0 : 1;
  }

  /** The first port without connections of those from `port` on whose bits lie in one word; -1 where each has some. */
  unusedPort(port: number): number {
    const free = ~this.#busyPorts[port >> 5]! & (-1 << (port & 31));
    return free === 0 ? -1 : (port & ~31) + 31 - Math.clz32(free & -free);
  }

  #put(connection: Connection, hash: number): void {
    let slot = hash & this.#mask;
    while (this.#connections[slot] !== null) slot = (slot + 1) & this.#mask;
    this.#connections[slot] = connection;
    this.#hashes[slot] = hash;
  }

  /** Takes a connection out; those after it move up, so that no marks of the dead pile up. */
  remove(connection: Connection): void {
    const mask = this.#mask;
    const { flow } = connection;
    let slot = connection.hash & mask;
    while (this.#connections[slot] !== connection) {
      if (this.#connections[slot] === null) return;
      slot = (slot + 1) & mask;
    }
    this.size--;
    this.countPort(flow.localPort, -1);
    for (let next = (slot + 1) & mask; this.#connections[next] !== null; next = (next + 1) & mask) {
      const home = this.#hashes[next]! & mask;
      if (((next - home) & mask) >= ((next - slot) & mask)) {
        this.#connections[slot] = this.#connections[next]!;
        this.#hashes[slot] = this.#hashes[next]!;
        slot = next;
      }
    }
    this.#connections[slot] = null;
  }

  *[Symbol.iterator](): Generator<Connection> {
    for (const connection of this.#connections) if (connection !== null) yield connection;
  }

  #grow(): void {
    const connections = this.#connections;
    const hashes = this.#hashes;
    const slots = 2 * connections.length;
    this.#mask = slots - 1;
    this.#hashes = new Int32Array(slots);
    this.#connections = new Array<Connection | null>(slots).fill(null);
    for (let i = 0; i < connections.length; i++) if (connections[i] !== null) this.#put(connections[i]!, hashes[i]!);
  }
}
