/**
 * The way down for a packet of a transport: source address, next hop, IP header, fragments where they are needed.
 * It sends through the neighbour cache or the link, and keeps packets to ourselves until they are drained.
 */
import { ERRNO } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import { type Flow, HEADROOM, type SegmentOutput } from '../flow.ts';
import { etherTypeOf, gather, transmitFrame } from '../link.ts';
import type { Neighbour } from '../neighbour.ts';
import type { Neighbours } from '../neighbours.ts';
import { BROADCAST_HI, BROADCAST_LO, groupMacHi, groupMacLo } from '../wire/ethernet.ts';
import { IPV4_DONT_FRAGMENT, IPV4_HEADER_BYTES, IPV4_MORE_FRAGMENTS, Protocol, putIpv4 } from '../wire/ipv4.ts';
import {
  IPV6_FRAGMENT_BYTES,
  IPV6_HEADER_BYTES,
  IPV6_MINIMUM_MTU,
  putAddress6,
  putFragmentHeader,
  putIpv6,
} from '../wire/ipv6.ts';
import { completePartial } from '../wire/partial.ts';
import { Reason } from '../wire/reason.ts';
import { UDP_CHECKSUM_AT } from '../wire/udp.ts';
import type { LocalAddresses } from './local-addresses.ts';
import { IPV4_MINIMUM_PATH_MTU, type PathMtu } from './path-mtu.ts';
import type { Routes } from './routes.ts';
import { isLoopback, isMulticast, isUnspecified } from './words.ts';

/** RFC 1700's 64, as everybody has it. */
export const DEFAULT_HOP_LIMIT = 64;
/** Packets to ourselves that wait to be taken in. */
export const MAX_LOOPBACK = 1024;
/** Largest packet to ourselves, where the heap has buffers for it. */
const LOOPBACK_MTU = 16_000;
/** Counters of identifications: a destination has one of these (RFC 7739 5.3). */
const IDENTIFICATIONS = 256;

/** Where a packet goes next, found for each packet whose flow does not remember a neighbour. */
const Hop = { NONE: 0, NEIGHBOUR: 1, STATION: 2, LOCAL: 3 } as const;

export class IpOutput implements SegmentOutput {
  readonly #context: NetContext;
  readonly #addresses: LocalAddresses;
  readonly #routes: Routes;
  readonly #paths: PathMtu;
  readonly #neighbours: Neighbours;
  readonly #loopback: HeapBuffer[] = [];
  readonly #identifications = new Int32Array(IDENTIFICATIONS);
  readonly #identificationKey: number;
  /** The next hop just found. Fields, so that finding it makes no object. */
  #neighbour: Neighbour | null = null;
  #macHi = 0;
  #macLo = 0;

  constructor(context: NetContext, addresses: LocalAddresses, routes: Routes, paths: PathMtu, neighbours: Neighbours) {
    this.#context = context;
    this.#addresses = addresses;
    this.#routes = routes;
    this.#paths = paths;
    this.#neighbours = neighbours;
    for (let i = 0; i < IDENTIFICATIONS; i++) this.#identifications[i] = context.random();
    this.#identificationKey = context.random() | 0;
  }

  // ---- For TCP -------------------------------------------------------------------------------------------------

  transmit(
    flow: Flow,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    this.send(flow, Protocol.TCP, packet, payload, payloadOffset, payloadLength);
  }

  /** The least of what the device and the list of packets to ourselves take. */
  room(): number {
    const loopback = MAX_LOOPBACK - this.#loopback.length;
    return loopback <= 0 ? 0 : this.#context.device.room();
  }

  mtu(flow: Flow): number {
    const { family, remote0, remote1, remote2, remote3 } = flow;
    if (this.#addresses.isLocal(family, remote0, remote1, remote2, remote3)) return this.#loopbackMtu();
    return this.#pathMtu(flow);
  }

  // ---- For everybody -------------------------------------------------------------------------------------------

  /**
   * Fills in the flow's local address where it has none. The route says which it is, else the address that fits the
   * next hop best ({@link LocalAddresses.sourceFor}); a host talks to itself from the address it talks to.
   * @returns 0, ENETUNREACH without a route, or EADDRNOTAVAIL without an address of the family
   */
  selectSource(flow: Flow): number {
    const { family, remote0, remote1, remote2, remote3 } = flow;
    if (!isUnspecified(flow.local0, flow.local1, flow.local2, flow.local3)) return 0;
    if (this.#addresses.isLocal(family, remote0, remote1, remote2, remote3)) {
      flow.local0 = remote0;
      flow.local1 = remote1;
      flow.local2 = remote2;
      flow.local3 = remote3;
      return 0;
    }
    const route = this.#routes.find(family, remote0, remote1, remote2, remote3);
    if (route === null && !this.#isToLink(flow)) return ERRNO.ENETUNREACH;
    const hop = route?.gateway ?? null;
    const source =
      route?.source ??
      (hop === null
        ? this.#addresses.sourceFor(family, remote0, remote1, remote2, remote3)
        : this.#addresses.sourceFor(family, hop.w0, hop.w1, hop.w2, hop.w3));
    if (source === null) return ERRNO.EADDRNOTAVAIL;
    flow.local0 = source.w0;
    flow.local1 = source.w1;
    flow.local2 = source.w2;
    flow.local3 = source.w3;
    return 0;
  }

  /** 0, or the errno with which a packet of this flow could not be sent: for a connect that is to fail at once. */
  check(flow: Flow): number {
    return this.#hop(flow) === Hop.NONE ? ERRNO.ENETUNREACH : 0;
  }

  /**
   * Sends a packet of a transport, whose header is at `packet.offset` with HEADROOM before it (or, of IPv4, 34 bytes).
   * The packet's reference passes; the payload is borrowed. TCP's packets are not fragmented (RFC 1191); others are,
   * where the path is too narrow.
   * @returns 0, or an errno where the packet was dropped here
   */
  send(
    flow: Flow,
    protocol: number,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
    hopLimit = DEFAULT_HOP_LIMIT,
  ): number {
    const remembered = flow.route >= 0 ? this.#neighbours.at(flow.route) : null;
    let hop: number = Hop.NEIGHBOUR;
    if (remembered !== null) this.#neighbour = remembered;
    else hop = this.#hop(flow);
    if (hop === Hop.NONE) {
      this.#context.counters.drop(Reason.NO_ROUTE);
      packet.release();
      return ERRNO.ENETUNREACH;
    }
    const length = packet.length + payloadLength;
    const total = length + (flow.family === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES);
    if (hop === Hop.LOCAL)
      return this.#sendLocal(flow, protocol, packet, payload, payloadOffset, payloadLength, total, hopLimit);
    if (total > (flow.family === 4 ? IPV4_MINIMUM_PATH_MTU : IPV6_MINIMUM_MTU)) {
      const mtu = protocol === Protocol.TCP ? this.#context.device.mtu : this.#pathMtu(flow);
      if (total > mtu) {
        return this.#sendLong(flow, protocol, packet, payload, payloadOffset, payloadLength, hop, mtu, hopLimit);
      }
    }
    // Which identification a packet has that is never fragmented says nothing (RFC 6864 4.1). ICMP may be fragmented:
    // nobody here would hear that it was too big.
    if (protocol === Protocol.ICMP)
      this.#putHeader(packet, flow, protocol, length, this.#identification(flow) & 0xffff, 0, hopLimit);
    else this.#putHeader(packet, flow, protocol, length, 0, IPV4_DONT_FRAGMENT, hopLimit);
    this.#dispatch(flow.family, hop, packet, payload, payloadOffset, payloadLength);
    return 0;
  }

  /** Takes back the next packet to ourselves: an IP packet, with one reference; null when there is none. */
  takeLoopback(): HeapBuffer | null {
    return this.#loopback.shift() ?? null;
  }

  /** Packets to ourselves that wait. */
  get looping(): number {
    return this.#loopback.length;
  }

  dispose(): void {
    for (const packet of this.#loopback.splice(0)) packet.release();
  }

  // ---- Next hop ------------------------------------------------------------------------------------------------

  #hop(flow: Flow): number {
    const { family, remote0, remote1, remote2, remote3 } = flow;
    if (this.#addresses.isLocal(family, remote0, remote1, remote2, remote3)) return Hop.LOCAL;
    // Loopback addresses never appear on a wire (RFC 1122 3.2.1.3, RFC 4291 2.5.3).
    if (isLoopback(family, flow.local0, flow.local1, flow.local2, flow.local3)) return Hop.NONE;
    if (isUnspecified(remote0, remote1, remote2, remote3)) return Hop.NONE;
    if (family === 4 && this.#addresses.isBroadcast(remote3)) {
      this.#macHi = BROADCAST_HI;
      this.#macLo = BROADCAST_LO;
      return Hop.STATION;
    }
    if (isMulticast(family, remote0, remote3)) {
      this.#macHi = groupMacHi(family);
      this.#macLo = groupMacLo(family, remote3);
      return Hop.STATION;
    }
    const route = this.#routes.find(family, remote0, remote1, remote2, remote3);
    if (route === null) return Hop.NONE;
    const { gateway } = route;
    this.#neighbour =
      gateway === null
        ? this.#neighbours.resolve(family, remote0, remote1, remote2, remote3)
        : this.#neighbours.resolve(family, gateway.w0, gateway.w1, gateway.w2, gateway.w3);
    if (this.#neighbour === null) return Hop.NONE;
    flow.route = this.#neighbour.route;
    return Hop.NEIGHBOUR;
  }

  /** A group or broadcast, which needs no route. */
  #isToLink(flow: Flow): boolean {
    if (flow.family === 4 && this.#addresses.isBroadcast(flow.remote3)) return true;
    return isMulticast(flow.family, flow.remote0, flow.remote3);
  }

  #dispatch(
    family: number,
    hop: number,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    if (hop === Hop.NEIGHBOUR) this.#neighbours.send(this.#neighbour!, packet, payload, payloadOffset, payloadLength);
    else {
      const type = etherTypeOf(family);
      transmitFrame(this.#context, this.#macHi, this.#macLo, type, packet, payload, payloadOffset, payloadLength);
    }
  }

  #pathMtu(flow: Flow): number {
    const { family, remote0, remote1, remote2, remote3 } = flow;
    let link = this.#context.device.mtu;
    const route = this.#routes.find(family, remote0, remote1, remote2, remote3);
    if (route !== null && route.mtu > 0 && route.mtu < link) link = route.mtu;
    return this.#paths.get(this.#context.now, family, remote0, remote1, remote2, remote3, link);
  }

  // ---- Headers and fragments -----------------------------------------------------------------------------------

  #putHeader(
    packet: HeapBuffer,
    flow: Flow,
    protocol: number,
    length: number,
    identification: number,
    fragment: number,
    hopLimit: number,
  ): void {
    const { view } = packet;
    if (flow.family === 4) {
      packet.offset -= IPV4_HEADER_BYTES;
      packet.length += IPV4_HEADER_BYTES;
      const { trafficClass, local3, remote3 } = flow;
      const total = IPV4_HEADER_BYTES + length;
      putIpv4(view, packet.offset, trafficClass, total, identification, fragment, hopLimit, protocol, local3, remote3);
      return;
    }
    packet.offset -= IPV6_HEADER_BYTES;
    packet.length += IPV6_HEADER_BYTES;
    const { offset } = packet;
    putIpv6(view, offset, flow.trafficClass, length, protocol, hopLimit);
    putAddress6(view, offset + 8, flow.local0, flow.local1, flow.local2, flow.local3);
    putAddress6(view, offset + 24, flow.remote0, flow.remote1, flow.remote2, flow.remote3);
  }

  /** A packet larger than the path takes: fragments, or for TCP a drop, since it was told and will send less. */
  #sendLong(
    flow: Flow,
    protocol: number,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
    hop: number,
    mtu: number,
    hopLimit: number,
  ): number {
    const length = packet.length + payloadLength;
    const longest = flow.family === 4 ? 65535 - IPV4_HEADER_BYTES : 65535;
    if (protocol === Protocol.TCP || length > longest) {
      this.#context.counters.drop(Reason.TOO_LONG);
      packet.release();
      return ERRNO.EMSGSIZE;
    }
    // One copy, so that a piece may begin anywhere in header and payload.
    let whole: HeapBuffer | null = packet;
    if (payload !== null) {
      whole = gather(this.#context, packet, payload, payloadOffset, payloadLength);
      packet.release();
    }
    if (whole === null) return ERRNO.ENOBUFS;
    // Of a datagram in pieces nobody below sees the whole.
    if (protocol === Protocol.UDP && this.#context.device.offloads.transmitPartial) {
      completePartial(whole.view, whole.offset, whole.length, UDP_CHECKSUM_AT);
    }
    const errno = this.#fragment(flow, protocol, whole, hop, mtu, hopLimit);
    whole.release();
    return errno;
  }

  #fragment(flow: Flow, protocol: number, whole: HeapBuffer, hop: number, mtu: number, hopLimit: number): number {
    const context = this.#context;
    const v4 = flow.family === 4;
    const headers = v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES + IPV6_FRAGMENT_BYTES;
    const step = (mtu - headers) & ~7;
    const identification = this.#identification(flow);
    const { memory } = whole;
    const count = Math.ceil(whole.length / step);
    if (context.device.room() < count) {
      context.counters.drop(Reason.DEVICE_FULL);
      return ERRNO.ENOBUFS;
    }
    for (let at = 0; at < whole.length; at += step) {
      const bytes = Math.min(step, whole.length - at);
      const more = at + bytes < whole.length;
      const piece = context.alloc(v4 ? bytes : bytes + IPV6_FRAGMENT_BYTES);
      if (piece === null) return ERRNO.ENOBUFS;
      const data = v4 ? piece.offset : piece.offset + IPV6_FRAGMENT_BYTES;
      if (memory === piece.memory) memory.copyWithin(data, whole.offset + at, whole.offset + at + bytes);
      else piece.memory.set(memory.subarray(whole.offset + at, whole.offset + at + bytes), data);
      if (v4) {
        const fragment = (at >> 3) | (more ? IPV4_MORE_FRAGMENTS : 0);
        this.#putHeader(piece, flow, protocol, bytes, identification & 0xffff, fragment, hopLimit);
      } else {
        putFragmentHeader(piece.view, piece.offset, protocol, at, more, identification);
        this.#putHeader(piece, flow, Protocol.FRAGMENT, piece.length, 0, 0, hopLimit);
      }
      context.counters.fragmentsOut++;
      this.#dispatch(flow.family, hop, piece, null, 0, 0);
    }
    return 0;
  }

  /** The next identification for this pair of addresses: unlike the last ones, and not to be guessed from others. */
  #identification(flow: Flow): number {
    let hash = Math.imul(this.#identificationKey ^ flow.remote3, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ flow.remote2 ^ flow.local3, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13) ^ flow.remote1, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 16) ^ flow.remote0, 0x27d4eb2f);
    const slot = (hash ^ (hash >>> 15)) & (IDENTIFICATIONS - 1);
    const next = (this.#identifications[slot]! + 1 + (this.#context.random() & 3)) | 0;
    this.#identifications[slot] = next;
    return next;
  }

  // ---- To ourselves --------------------------------------------------------------------------------------------

  #loopbackMtu(): number {
    return Math.min(LOOPBACK_MTU, this.#context.heap.largest - HEADROOM);
  }

  /**
   * What we send to ourselves is a copy, unless nobody else holds it: the sender may send its own buffer again, and the
   * receiver keeps what it gets.
   */
  #sendLocal(
    flow: Flow,
    protocol: number,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
    total: number,
    hopLimit: number,
  ): number {
    const { counters, heap } = this.#context;
    let errno = 0;
    if (total > 65535 || total + HEADROOM > heap.largest) errno = ERRNO.EMSGSIZE;
    else if (this.#loopback.length >= MAX_LOOPBACK) errno = ERRNO.ENOBUFS;
    if (errno !== 0) {
      counters.drop(errno === ERRNO.EMSGSIZE ? Reason.TOO_LONG : Reason.LOOPBACK_FULL);
      packet.release();
      return errno;
    }
    let copy: HeapBuffer | null = packet;
    if (payload !== null || packet.references > 1) {
      copy = gather(this.#context, packet, payload, payloadOffset, payloadLength);
      packet.release();
      if (copy === null) return ERRNO.ENOBUFS;
    }
    this.#putHeader(copy, flow, protocol, copy.length, 0, IPV4_DONT_FRAGMENT, hopLimit);
    counters.loopback++;
    this.#loopback.push(copy);
    return 0;
  }
}
