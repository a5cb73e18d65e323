/**
 * The IPv6 header and its extension headers (RFC 8200): a checked view and emitters. Pure: it reads and writes the
 * bytes it is given. An address is four 32-bit words.
 */
import { fold, wordSum } from './checksum.ts';
import { Protocol } from './ipv4.ts';
import { Reason } from './reason.ts';

export const IPV6_HEADER_BYTES = 40;
export const IPV6_FRAGMENT_BYTES = 8;
/** Every link carries packets of this size (RFC 8200 5). */
export const IPV6_MINIMUM_MTU = 1280;
/** Extension headers walked; a packet with more is dropped (RFC 8504 5.3 allows a limit). */
export const MAX_EXTENSION_HEADERS = 8;
/** Options in one header, for the same reason. */
const MAX_OPTIONS = 16;

/** What a dropped packet's sender is to be told: parameter problem codes (RFC 4443 3.4); -1 for nothing. */
export const ParameterProblem = { NONE: -1, FIELD: 0, NEXT_HEADER: 1, OPTION: 2 } as const;

export class Ipv6Packet {
  trafficClass = 0;
  flowLabel = 0;
  /** Header, extension headers and payload. */
  totalLength = 0;
  hopLimit = 0;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** The upper protocol; in a fragment (unless it is a whole packet), the fragment header's next header. */
  protocol = 0;
  /** Where the byte with `protocol` is, from the start of the packet. */
  protocolOffset = 0;
  payloadAt = 0;
  payloadLength = 0;
  hasFragment = false;
  moreFragments = false;
  /** Bytes. */
  fragmentOffset = 0;
  identification = 0;
  /** Start of the fragment header and the byte that names it, from the start of the packet. */
  fragmentHeaderOffset = 0;
  fragmentNameOffset = 0;
  /** For a packet refused: the parameter problem's code and pointer. */
  problem: number = ParameterProblem.NONE;
  problemPointer = 0;

  /** Reads `length` bytes at `at`, of which the last may be a link's padding. */
  parse(view: DataView, at: number, length: number): Reason {
    this.problem = ParameterProblem.NONE;
    if (length < IPV6_HEADER_BYTES) return Reason.IP_SHORT;
    const first = view.getInt32(at);
    if (first >>> 28 !== 6) return Reason.IP_VERSION;
    const totalLength = IPV6_HEADER_BYTES + view.getUint16(at + 4);
    if (totalLength > length) return Reason.IP_TOTAL_LENGTH;
    this.trafficClass = (first >>> 20) & 0xff;
    this.flowLabel = first & 0xfffff;
    this.totalLength = totalLength;
    this.hopLimit = view.getUint8(at + 7);
    this.source0 = view.getInt32(at + 8);
    this.source1 = view.getInt32(at + 12);
    this.source2 = view.getInt32(at + 16);
    this.source3 = view.getInt32(at + 20);
    this.destination0 = view.getInt32(at + 24);
    this.destination1 = view.getInt32(at + 28);
    this.destination2 = view.getInt32(at + 32);
    this.destination3 = view.getInt32(at + 36);
    this.hasFragment = false;
    this.moreFragments = false;
    this.fragmentOffset = 0;
    const next = view.getUint8(at + 6);
    this.protocol = next;
    this.protocolOffset = 6;
    this.payloadAt = at + IPV6_HEADER_BYTES;
    this.payloadLength = totalLength - IPV6_HEADER_BYTES;
    if (next === Protocol.TCP || next === Protocol.UDP || next === Protocol.ICMPV6) return Reason.OK;
    return this.#walk(view, at, at + totalLength);
  }

  #walk(view: DataView, start: number, end: number): Reason {
    let at = start + IPV6_HEADER_BYTES;
    let next = this.protocol;
    let named = 6;
    for (let count = 0; isExtension(next); count++) {
      if (count === MAX_EXTENSION_HEADERS || at + 8 > end) return Reason.IP_EXTENSION;
      const headerAt = at;
      if (next === Protocol.FRAGMENT) {
        if (this.hasFragment) return Reason.IP_EXTENSION;
        const word = view.getUint16(at + 2);
        this.hasFragment = true;
        this.moreFragments = (word & 1) !== 0;
        this.fragmentOffset = word & 0xfff8;
        this.identification = view.getInt32(at + 4);
        this.fragmentHeaderOffset = at - start;
        this.fragmentNameOffset = named;
        at += IPV6_FRAGMENT_BYTES;
      } else {
        const bytes = (view.getUint8(at + 1) + 1) << 3;
        if (at + bytes > end) return Reason.IP_EXTENSION;
        const reason = this.#checkHeader(view, start, at, bytes, next, count, named);
        if (reason !== Reason.OK) return reason;
        at += bytes;
      }
      named = headerAt - start;
      next = view.getUint8(headerAt);
      // What follows a fragment header is only whole in a packet of one fragment (RFC 6946).
      if (this.hasFragment && (this.moreFragments || this.fragmentOffset !== 0)) break;
    }
    this.protocol = next;
    this.protocolOffset = named;
    this.payloadAt = at;
    this.payloadLength = end - at;
    return Reason.OK;
  }

  #checkHeader(
    view: DataView,
    start: number,
    at: number,
    bytes: number,
    kind: number,
    count: number,
    named: number,
  ): Reason {
    if (kind === Protocol.ROUTING) {
      if (view.getUint8(at + 3) === 0) return Reason.OK;
      return this.#refuse(Reason.IP_ROUTING, ParameterProblem.FIELD, at + 2 - start);
    }
    // Hop-by-hop options are the first header or none (RFC 8200 4.1).
    if (kind === Protocol.HOP_BY_HOP && count !== 0) {
      return this.#refuse(Reason.IP_EXTENSION, ParameterProblem.NEXT_HEADER, named);
    }
    return this.#checkOptions(view, start, at + 2, at + bytes);
  }

  /** None of the options is known here, so their two highest bits say what to do (RFC 8200 4.2). */
  #checkOptions(view: DataView, start: number, at: number, end: number): Reason {
    for (let count = 0; at < end; ) {
      const type = view.getUint8(at);
      if (type === 0) {
        at++;
        continue;
      }
      if (at + 2 > end) return Reason.IP_OPTION;
      const length = 2 + view.getUint8(at + 1);
      if (at + length > end) return Reason.IP_OPTION;
      if (type !== 1) {
        if (++count > MAX_OPTIONS) return Reason.IP_OPTION;
        const action = type >> 6;
        if (action === 1) return Reason.IP_OPTION;
        if (action === 2) return this.#refuse(Reason.IP_OPTION, ParameterProblem.OPTION, at - start);
        // Action 3 tells only senders to one host; whoever sends the error checks that for every code.
        if (action === 3) return this.#refuse(Reason.IP_OPTION, ParameterProblem.OPTION, at - start);
      }
      at += length;
    }
    return Reason.OK;
  }

  #refuse(reason: Reason, problem: number, pointer: number): Reason {
    this.problem = problem;
    this.problemPointer = pointer;
    return reason;
  }
}

function isExtension(next: number): boolean {
  return (
    next === Protocol.HOP_BY_HOP || next === Protocol.ROUTING || next === Protocol.FRAGMENT || next === Protocol.OPTIONS
  );
}

/** Writes version, traffic class, flow label 0, lengths and limits; the addresses are written by {@link putAddress6}. */
export function putIpv6(
  view: DataView,
  at: number,
  trafficClass: number,
  payloadLength: number,
  nextHeader: number,
  hopLimit: number,
): void {
  view.setInt32(at, 0x60000000 | (trafficClass << 20));
  view.setUint16(at + 4, payloadLength);
  view.setUint8(at + 6, nextHeader);
  view.setUint8(at + 7, hopLimit);
}

/** Writes 16 bytes. */
export function putAddress6(view: DataView, at: number, w0: number, w1: number, w2: number, w3: number): void {
  view.setInt32(at, w0);
  view.setInt32(at + 4, w1);
  view.setInt32(at + 8, w2);
  view.setInt32(at + 12, w3);
}

/** Writes a fragment header of 8 bytes; `offset` in bytes, a multiple of 8. */
export function putFragmentHeader(
  view: DataView,
  at: number,
  nextHeader: number,
  offset: number,
  more: boolean,
  identification: number,
): void {
  view.setUint8(at, nextHeader);
  view.setUint8(at + 1, 0);
  view.setUint16(at + 2, offset | (more ? 1 : 0));
  view.setInt32(at + 4, identification);
}

/** Sum of the pseudo header without the length (RFC 8200 8.1), from the 32 bytes of both addresses, folded. */
export function pseudoSum6(
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  protocol: number,
): number {
  const source = wordSum(s0) + wordSum(s1) + wordSum(s2) + wordSum(s3);
  return fold(source + wordSum(d0) + wordSum(d1) + wordSum(d2) + wordSum(d3) + protocol);
}
