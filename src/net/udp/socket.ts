/**
 * One UDP socket: where it is bound and connected, and the datagrams that wait to be read. The calls that send are thin;
 * the work is in udp.ts.
 */
import { ERRNO } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import { Flow } from '../flow.ts';
import { type IpWords, isMulticast } from '../ip/words.ts';
import { readPeer, setRemote, writePeer } from './peer.ts';
import type { Udp } from './udp.ts';

export const UdpEvent = { READABLE: 1, ERROR: 2 } as const;

export interface UdpSocketLimits {
  /** Datagrams that wait to be read; one more is dropped. */
  readonly datagrams: number;
  /** Bytes of them. */
  readonly bytes: number;
}

export const DEFAULT_UDP_LIMITS: UdpSocketLimits = { datagrams: 512, bytes: 1 << 20 };

export class UdpSocket {
  readonly udp: Udp;
  /** Local side as bound (zeros: any address) and, where connected, the remote side. */
  readonly flow = new Flow();
  readonly family: 4 | 6;
  /** An IPv6 socket that takes IPv4 too. */
  readonly dual: boolean;
  /** Whatever its owner likes. */
  user: unknown = null;
  /** Shares its port with others that have this set; before it is bound. */
  reusePort = false;
  connected = false;
  bound = false;
  closed = false;
  /** What ICMP has said of a connected socket's datagrams; {@link UdpSocket.takeError}. */
  error = 0;
  /** Datagrams dropped because the queue was full. */
  dropped = 0;
  /** For Udp's lists. */
  next: UdpSocket | null = null;
  nextReady: UdpSocket | null = null;
  isReady = false;
  events = 0;
  /** The flow of the last datagram sent: keeps what IP remembers of the way. */
  readonly way = new Flow();
  readonly #limits: UdpSocketLimits;
  /** A ring. */
  readonly #queue: (HeapBuffer | null)[] = [];
  #head = 0;
  #count = 0;
  #bytes = 0;

  constructor(udp: Udp, family: 4 | 6, dual: boolean, limits: UdpSocketLimits) {
    this.udp = udp;
    this.family = family;
    this.dual = dual;
    this.#limits = limits;
    this.flow.family = family;
  }

  /** Datagrams that wait to be read. */
  get readable(): number {
    return this.#count;
  }

  /** @throws IsthmusError EADDRINUSE, EADDRNOTAVAIL, EINVAL where it is bound already. Port 0 chooses one. */
  bind(address: IpWords | null, port: number): void {
    this.udp.bind(this, address, port);
  }

  /** Only datagrams of this peer are read, and {@link UdpSocket.send} goes to it. @throws IsthmusError ENETUNREACH … */
  connect(address: IpWords, port: number): void {
    this.udp.connect(this, address, port);
  }

  /** The next datagram, its peer written beside it, with one reference; null where there is none. */
  read(): HeapBuffer | null {
    if (this.#count === 0) return null;
    const buffer = this.#queue[this.#head]!;
    this.#queue[this.#head] = null;
    this.#head = this.#head + 1 === this.#limits.datagrams ? 0 : this.#head + 1;
    this.#count--;
    this.#bytes -= buffer.length;
    return buffer;
  }

  /**
   * Sends a datagram to the connected peer. The buffer's reference passes, but where the answer is EAGAIN (the device
   * has no room now) it stays with the caller, who tries again after a flush.
   * @returns 0 or an errno: EAGAIN, EDESTADDRREQ, EMSGSIZE, ENETUNREACH, EADDRNOTAVAIL, ENOBUFS
   */
  send(buffer: HeapBuffer): number {
    if (!this.connected) {
      buffer.release();
      return ERRNO.EDESTADDRREQ;
    }
    return this.udp.transmit(this, this.flow, buffer);
  }

  /** Sends a datagram to the peer written beside it: as {@link UdpSocket.send}. */
  reply(buffer: HeapBuffer): number {
    if (!readPeer(buffer, this.way)) {
      buffer.release();
      return ERRNO.EDESTADDRREQ;
    }
    return this.#transmitTo(buffer);
  }

  /** Sends a datagram to an address: as {@link UdpSocket.send}. */
  sendTo(buffer: HeapBuffer, to: IpWords, port: number): number {
    const mapped = to.family === 6 && (to.w0 | to.w1) === 0 && to.w2 === 0xffff;
    if (mapped) setRemote(this.way, 4, 0, 0, 0, to.w3, port, 0);
    else setRemote(this.way, to.family, to.w0, to.w1, to.w2, to.w3, port, 0);
    return this.#transmitTo(buffer);
  }

  #transmitTo(buffer: HeapBuffer): number {
    const { flow, way } = this;
    if (way.family !== this.family && !(this.dual && way.family === 4)) {
      buffer.release();
      return ERRNO.EAFNOSUPPORT;
    }
    way.localPort = flow.localPort;
    way.trafficClass = flow.trafficClass;
    // Chosen anew for each datagram where the socket is bound to any address: the peer may be another.
    // A group that it is bound to is no source either.
    const any = isMulticast(flow.family, flow.local0, flow.local3);
    way.local0 = any ? 0 : flow.local0;
    way.local1 = any ? 0 : flow.local1;
    way.local2 = any ? 0 : flow.local2;
    way.local3 = any ? 0 : flow.local3;
    return this.udp.transmit(this, way, buffer);
  }

  /** The pending error, which is forgotten. */
  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }

  takeEvents(): number {
    const { events } = this;
    this.events = 0;
    return events;
  }

  /** The program knows that the peer answers: its neighbour need not be probed (RFC 4861 7.3.1). */
  confirm(): void {
    this.udp.confirm(this.connected ? this.flow : this.way);
  }

  /** Ends it; datagrams that wait are dropped. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.events = 0;
    this.udp.remove(this);
    for (let buffer = this.read(); buffer !== null; buffer = this.read()) buffer.release();
  }

  /** For Udp: keeps a received datagram (its buffer is retained); false where there is no room. */
  accept(packet: HeapBuffer, at: number, length: number, flow: Flow): boolean {
    const { datagrams, bytes } = this.#limits;
    if (this.#count >= datagrams || this.#bytes + length > bytes) {
      this.dropped++;
      return false;
    }
    packet.retain();
    packet.offset = at;
    packet.length = length;
    writePeer(packet, flow, this.family === 6);
    const tail = this.#head + this.#count;
    this.#queue[tail >= datagrams ? tail - datagrams : tail] = packet;
    this.#count++;
    this.#bytes += length;
    return true;
  }
}
