/**
 * UDP (RFC 768): the table of ports, datagrams in and out. It touches its sockets and what it is given: the context and
 * the IP output.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import { Flow, pseudoSum } from '../flow.ts';
import type { Arrival } from '../ip/arrival.ts';
import type { LocalAddresses } from '../ip/local-addresses.ts';
import type { IpOutput } from '../ip/output.ts';
import { type IpWords, isMulticast, isUnspecified, textOfWords } from '../ip/words.ts';
import type { Neighbours } from '../neighbours.ts';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.ts';
import { IPV4_HEADER_BYTES, Protocol } from '../wire/ipv4.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import { Reason } from '../wire/reason.ts';
import { payloadSum, putUdp, UDP_HEADER_BYTES, UdpDatagram } from '../wire/udp.ts';
import { DEFAULT_UDP_LIMITS, UdpEvent, UdpSocket, type UdpSocketLimits } from './socket.ts';

export const MAX_UDP_SOCKETS = 16_384;
/** RFC 6335 6. */
const FIRST_EPHEMERAL_PORT = 49_152;
const EPHEMERAL_PORTS = 65_536 - FIRST_EPHEMERAL_PORT;
/** Chains of the port table; a power of two. */
const CHAINS = 4096;

const LOWER_HEADERS_4 = UDP_HEADER_BYTES + IPV4_HEADER_BYTES + ETHERNET_HEADER_BYTES;
const LOWER_HEADERS_6 = UDP_HEADER_BYTES + IPV6_HEADER_BYTES + ETHERNET_HEADER_BYTES;

export interface UdpSocketOptions {
  /** An IPv6 socket that takes IPv4 too, whose peers are then ::ffff:a.b.c.d. */
  readonly dual?: boolean;
  readonly limits?: UdpSocketLimits;
}

export class Udp {
  /** Checksums of what comes in may be partial (wire/partial.ts). */
  acceptsPartial = false;
  /** Sockets that exist. */
  size = 0;
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #output: IpOutput;
  readonly #neighbours: Neighbours;
  readonly #chains: (UdpSocket | null)[] = new Array<UdpSocket | null>(CHAINS).fill(null);
  readonly #datagram = new UdpDatagram();
  #readyHead: UdpSocket | null = null;
  #readyTail: UdpSocket | null = null;

  constructor(context: NetContext, addresses: LocalAddresses, output: IpOutput, neighbours: Neighbours) {
    this.#context = context;
    this.#addresses = addresses;
    this.#output = output;
    this.#neighbours = neighbours;
  }

  /** A socket. @throws IsthmusError ENOBUFS at the bound */
  open(family: 4 | 6, options: UdpSocketOptions = {}): UdpSocket {
    if (this.size >= MAX_UDP_SOCKETS) throw systemError(ERRNO.ENOBUFS, 'socket', undefined, `${this.size} UDP sockets`);
    this.size++;
    return new UdpSocket(this, family, family === 6 && (options.dual ?? false), options.limits ?? DEFAULT_UDP_LIMITS);
  }

  // ---- Up ------------------------------------------------------------------------------------------------------

  /** Takes a datagram. False where no socket wants it, so that its sender can be told. */
  input(arrival: Arrival): boolean {
    const { counters } = this.#context;
    const { flow } = arrival;
    const packet = arrival.packet!;
    const datagram = this.#datagram;
    counters.udpIn++;
    const v4 = flow.family === 4;
    const pseudo = pseudoSum(flow, Protocol.UDP);
    const reason = datagram.parse(packet.view, arrival.at, arrival.length, pseudo, v4, this.acceptsPartial);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      return true;
    }
    flow.localPort = datagram.destinationPort;
    flow.remotePort = datagram.sourcePort;
    const socket = this.find(flow);
    if (socket === null) {
      counters.drop(Reason.UDP_PORT);
      return false;
    }
    if (!socket.accept(packet, datagram.payloadAt, datagram.payloadLength, flow)) counters.drop(Reason.UDP_QUEUE_FULL);
    else this.#raise(socket, UdpEvent.READABLE);
    return true;
  }

  /** The socket that a datagram is for: the connected one before the one bound to its address before one bound to any. */
  find(flow: Flow): UdpSocket | null {
    let best: UdpSocket | null = null;
    let bestScore = 0;
    for (let socket = this.#chains[flow.localPort & (CHAINS - 1)]!; socket !== null; socket = socket.next!) {
      const score = match(socket, flow);
      if (score > bestScore) {
        best = socket;
        bestScore = score;
      }
    }
    return best?.reusePort ? this.#oneOf(flow, bestScore) : best;
  }

  /** Of those that share a port, the one that a remote side belongs to as long as none comes or goes. */
  #oneOf(flow: Flow, score: number): UdpSocket {
    const matching: UdpSocket[] = [];
    for (let socket = this.#chains[flow.localPort & (CHAINS - 1)]!; socket !== null; socket = socket.next!) {
      if (match(socket, flow) === score) matching.push(socket);
    }
    const mixed = Math.imul(flow.remotePort ^ Math.imul(flow.remote3, 0x9e3779b1), 0x85ebca6b) >>> 16;
    return matching[mixed % matching.length]!;
  }

  /** True where a datagram of this flow may have come from here: a connected socket, or one that is bound. */
  sends(flow: Flow): boolean {
    return this.find(flow) !== null;
  }

  /** ICMP says that a datagram did not arrive. A socket that is not connected hears nothing (RFC 1122 4.1.3.3, as Linux). */
  unreachable(flow: Flow, errno: number): void {
    const socket = this.find(flow);
    if (socket === null || !socket.connected) return;
    socket.error = errno;
    this.#raise(socket, UdpEvent.ERROR);
  }

  /** True while {@link Udp.nextReady} may give a socket. */
  get pending(): boolean {
    return this.#readyHead !== null;
  }

  /** The next socket on which something has happened ({@link UdpSocket.takeEvents}), or null. */
  nextReady(): UdpSocket | null {
    for (;;) {
      const socket = this.#readyHead;
      if (socket === null) return null;
      this.#readyHead = socket.nextReady;
      if (this.#readyHead === null) this.#readyTail = null;
      socket.nextReady = null;
      socket.isReady = false;
      if (socket.events !== 0) return socket;
    }
  }

  #raise(socket: UdpSocket, event: number): void {
    socket.events |= event;
    if (socket.isReady) return;
    socket.isReady = true;
    if (this.#readyTail === null) this.#readyHead = socket;
    else this.#readyTail.nextReady = socket;
    this.#readyTail = socket;
  }

  // ---- Down ----------------------------------------------------------------------------------------------------

  /** For sockets: sends a datagram to the flow's remote side. */
  transmit(socket: UdpSocket, flow: Flow, buffer: HeapBuffer): number {
    const { counters } = this.#context;
    if (this.#output.room() <= 0) return ERRNO.EAGAIN;
    const errno = this.#prepare(socket, flow, buffer.length);
    if (errno !== 0) {
      buffer.release();
      return errno;
    }
    const { view, offset, length } = buffer;
    const partial = this.#context.device.offloads.transmitPartial;
    const pseudo = pseudoSum(flow, Protocol.UDP);
    const sum = partial ? pseudo : payloadSum(view, offset, length, pseudo);
    const headers = flow.family === 4 ? LOWER_HEADERS_4 : LOWER_HEADERS_6;
    counters.udpOut++;
    if (buffer.references === 1 && offset - buffer.base >= headers) {
      buffer.offset -= UDP_HEADER_BYTES;
      buffer.length += UDP_HEADER_BYTES;
      putUdp(view, buffer.offset, flow.localPort, flow.remotePort, length, sum, partial);
      return this.#output.send(flow, Protocol.UDP, buffer, null, 0, 0);
    }
    const header = this.#context.alloc(UDP_HEADER_BYTES);
    if (header === null) {
      buffer.release();
      return ERRNO.ENOBUFS;
    }
    putUdp(header.view, header.offset, flow.localPort, flow.remotePort, length, sum, partial);
    const sent = this.#output.send(flow, Protocol.UDP, header, buffer, offset, length);
    buffer.release();
    return sent;
  }

  #prepare(socket: UdpSocket, flow: Flow, length: number): number {
    if (length > 65_535 - UDP_HEADER_BYTES - (flow.family === 4 ? IPV4_HEADER_BYTES : 0)) return ERRNO.EMSGSIZE;
    if (flow.remotePort === 0) return ERRNO.EINVAL;
    if (!socket.bound) {
      const errno = this.#bindEphemeral(socket);
      if (errno !== 0) return errno;
      flow.localPort = socket.flow.localPort;
    }
    return this.#output.selectSource(flow);
  }

  confirm(flow: Flow): void {
    this.#neighbours.confirm(flow.route);
  }

  // ---- Ports ---------------------------------------------------------------------------------------------------

  /** @throws IsthmusError EADDRINUSE, EADDRNOTAVAIL, EINVAL */
  bind(socket: UdpSocket, address: IpWords | null, port: number): void {
    const { flow } = socket;
    if (socket.bound || socket.closed) throw systemError(ERRNO.EINVAL, 'bind', `port ${port}`);
    if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) throw new RangeError(`not a port: ${port}`);
    if (address !== null) {
      const { family, w0, w1, w2, w3 } = address;
      const any = isUnspecified(w0, w1, w2, w3);
      if (family !== socket.family) throw systemError(ERRNO.EAFNOSUPPORT, 'bind', textOfWords(family, w0, w1, w2, w3));
      const group = isMulticast(family, w0, w3);
      if (!any && !group && !this.#addresses.isLocal(family, w0, w1, w2, w3)) {
        throw systemError(ERRNO.EADDRNOTAVAIL, 'bind', textOfWords(family, w0, w1, w2, w3));
      }
      flow.local0 = w0;
      flow.local1 = w1;
      flow.local2 = w2;
      flow.local3 = w3;
    }
    if (port === 0) {
      const errno = this.#bindEphemeral(socket);
      if (errno !== 0) throw systemError(errno, 'bind');
      return;
    }
    if (this.#isTaken(socket, port)) throw systemError(ERRNO.EADDRINUSE, 'bind', `port ${port}`);
    this.#insert(socket, port);
  }

  /** @throws IsthmusError EAFNOSUPPORT, ENETUNREACH, EADDRNOTAVAIL */
  connect(socket: UdpSocket, address: IpWords, port: number): void {
    const { flow } = socket;
    const { w0, w1, w2, w3 } = address;
    const mapped = socket.dual && address.family === 6 && (w0 | w1) === 0 && w2 === 0xffff;
    const family = mapped ? 4 : address.family;
    const about = `${textOfWords(address.family, w0, w1, w2, w3)} port ${port}`;
    if (family !== socket.family && !(socket.dual && family === 4))
      throw systemError(ERRNO.EAFNOSUPPORT, 'connect', about);
    if (!(Number.isInteger(port) && port >= 1 && port <= 65_535)) throw new RangeError(`not a port: ${port}`);
    // A copy first, so that a socket stays as it was where this fails.
    const ends = new Flow().copy(flow);
    ends.family = family;
    ends.remote0 = mapped ? 0 : w0;
    ends.remote1 = mapped ? 0 : w1;
    ends.remote2 = mapped ? 0 : w2;
    ends.remote3 = w3;
    ends.remotePort = port;
    ends.route = -1;
    let errno = this.#output.selectSource(ends);
    if (errno === 0) errno = this.#output.check(ends);
    if (errno === 0 && !socket.bound) errno = this.#bindEphemeral(socket);
    if (errno !== 0) throw systemError(errno, 'connect', about);
    ends.localPort = flow.localPort;
    flow.copy(ends);
    socket.connected = true;
  }

  /** For sockets: takes one out of the table. */
  remove(socket: UdpSocket): void {
    this.size--;
    if (!socket.bound) return;
    const chain = socket.flow.localPort & (CHAINS - 1);
    let before: UdpSocket | null = null;
    for (let here = this.#chains[chain]!; here !== socket; here = here.next!) before = here;
    if (before === null) this.#chains[chain] = socket.next;
    else before.next = socket.next;
    socket.next = null;
    socket.bound = false;
  }

  #bindEphemeral(socket: UdpSocket): number {
    const start = ((this.#context.random() >>> 0) % EPHEMERAL_PORTS) | 0;
    for (let i = 0; i < EPHEMERAL_PORTS; i++) {
      const port = FIRST_EPHEMERAL_PORT + ((start + i) % EPHEMERAL_PORTS);
      if (this.#isTaken(socket, port)) continue;
      this.#insert(socket, port);
      return 0;
    }
    return ERRNO.EADDRNOTAVAIL;
  }

  #insert(socket: UdpSocket, port: number): void {
    const chain = port & (CHAINS - 1);
    socket.flow.localPort = port;
    socket.next = this.#chains[chain]!;
    this.#chains[chain] = socket;
    socket.bound = true;
  }

  /** Another socket has this port on the same address, or one of the two is for any. */
  #isTaken(socket: UdpSocket, port: number): boolean {
    const { flow } = socket;
    for (let other = this.#chains[port & (CHAINS - 1)]!; other !== null; other = other.next!) {
      if (other.flow.localPort !== port || other === socket || (other.reusePort && socket.reusePort)) continue;
      if (other.family !== socket.family && !other.dual && !socket.dual) continue;
      if (isAny(other.flow) || isAny(flow)) return true;
      if (sameLocal(other.flow, flow)) return true;
    }
    return false;
  }

  /** Ends every socket. */
  dispose(): void {
    for (const first of this.#chains) {
      for (let socket = first; socket !== null; ) {
        const { next }: UdpSocket = socket;
        socket.close();
        socket = next;
      }
    }
  }
}

/** How well a socket fits a datagram: 0 not at all. */
function match(socket: UdpSocket, flow: Flow): number {
  const own = socket.flow;
  if (own.localPort !== flow.localPort) return 0;
  if (flow.family !== socket.family && !(socket.dual && flow.family === 4)) return 0;
  let score = 1;
  if (!isAny(own)) {
    if (!sameLocal(own, flow)) return 0;
    score = 2;
  }
  if (!socket.connected) return score;
  const same =
    own.remotePort === flow.remotePort &&
    own.remote3 === flow.remote3 &&
    own.remote2 === flow.remote2 &&
    own.remote1 === flow.remote1 &&
    own.remote0 === flow.remote0;
  return same ? score + 2 : 0;
}

function isAny(flow: Flow): boolean {
  return (flow.local0 | flow.local1 | flow.local2 | flow.local3) === 0;
}

function sameLocal(a: Flow, b: Flow): boolean {
  return a.local3 === b.local3 && a.local2 === b.local2 && a.local1 === b.local1 && a.local0 === b.local0;
}
