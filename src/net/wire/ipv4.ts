/**
 * The IPv4 header (RFC 791, RFC 1122 3.2.1): a checked view and an emitter. Pure: it reads and writes the bytes it is
 * given. Options are skipped; none is ever sent.
 */
import { checksum, fold, wordSum } from './checksum.ts';
import { Reason } from './reason.ts';

export const IPV4_HEADER_BYTES = 20;
export const IPV4_DONT_FRAGMENT = 0x4000;
export const IPV4_MORE_FRAGMENTS = 0x2000;

export const Protocol = {
  HOP_BY_HOP: 0,
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ROUTING: 43,
  FRAGMENT: 44,
  ICMPV6: 58,
  NONE: 59,
  OPTIONS: 60,
} as const;

export class Ipv4Packet {
  headerLength = 0;
  /** Type of service: DSCP and ECN. */
  typeOfService = 0;
  totalLength = 0;
  identification = 0;
  dontFragment = false;
  moreFragments = false;
  /** Bytes. */
  fragmentOffset = 0;
  timeToLive = 0;
  protocol = 0;
  source = 0;
  destination = 0;
  payloadAt = 0;
  payloadLength = 0;

  /** Reads `length` bytes at `at`, of which the last may be a link's padding. */
  parse(view: DataView, at: number, length: number): Reason {
    if (length < IPV4_HEADER_BYTES) return Reason.IP_SHORT;
    const first = view.getInt32(at);
    if (first >>> 28 !== 4) return Reason.IP_VERSION;
    const headerLength = (first >>> 22) & 0x3c;
    if (headerLength < IPV4_HEADER_BYTES || headerLength > length) return Reason.IP_HEADER_LENGTH;
    const totalLength = first & 0xffff;
    if (totalLength < headerLength || totalLength > length) return Reason.IP_TOTAL_LENGTH;
    const second = view.getInt32(at + 4);
    const third = view.getInt32(at + 8);
    const source = view.getInt32(at + 12);
    const destination = view.getInt32(at + 16);
    let sum = wordSum(first) + wordSum(second) + wordSum(third) + wordSum(source) + wordSum(destination);
    if (headerLength > IPV4_HEADER_BYTES) {
      sum += checksum(view, at + IPV4_HEADER_BYTES, headerLength - IPV4_HEADER_BYTES);
    }
    if (fold(sum) !== 0xffff) return Reason.IP_CHECKSUM;
    this.headerLength = headerLength;
    this.typeOfService = (first >>> 16) & 0xff;
    this.totalLength = totalLength;
    this.identification = second >>> 16;
    this.dontFragment = (second & IPV4_DONT_FRAGMENT) !== 0;
    this.moreFragments = (second & IPV4_MORE_FRAGMENTS) !== 0;
    this.fragmentOffset = (second & 0x1fff) << 3;
    this.timeToLive = third >>> 24;
    this.protocol = (third >>> 16) & 0xff;
    this.source = source;
    this.destination = destination;
    this.payloadAt = at + headerLength;
    this.payloadLength = totalLength - headerLength;
    return Reason.OK;
  }
}

/** Writes a header of 20 bytes with its checksum. `fragment` is the 16-bit word of flags and offset. */
export function putIpv4(
  view: DataView,
  at: number,
  typeOfService: number,
  totalLength: number,
  identification: number,
  fragment: number,
  timeToLive: number,
  protocol: number,
  source: number,
  destination: number,
): void {
  const first = 0x4500 | typeOfService;
  const life = (timeToLive << 8) | protocol;
  const sum = fold(first + totalLength + identification + fragment + life + wordSum(source) + wordSum(destination));
  view.setInt32(at, (first << 16) | totalLength);
  view.setInt32(at + 4, (identification << 16) | fragment);
  view.setInt32(at + 8, (life << 16) | (~sum & 0xffff));
  view.setInt32(at + 12, source);
  view.setInt32(at + 16, destination);
}

/** Sum of the pseudo header without the length (RFC 768, RFC 9293 3.1), folded. */
export function pseudoSum4(source: number, destination: number, protocol: number): number {
  return fold(wordSum(source) + wordSum(destination) + protocol);
}
