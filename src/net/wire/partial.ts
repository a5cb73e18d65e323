/**
 * Partial checksums of TCP and UDP (Linux's CHECKSUM_PARTIAL): the field holds the sum of the pseudo header with the length,
 * folded and not complemented, and whoever completes it sums all from the transport's header on. Pure: bytes in, bytes out.
 */
import { checksum, fold, wordSum } from './checksum.ts';
import { ETHERNET_HEADER_BYTES, EtherType } from './ethernet.ts';
import { IPV4_HEADER_BYTES, Protocol } from './ipv4.ts';
import { IPV6_HEADER_BYTES } from './ipv6.ts';
import { TCP_CHECKSUM_AT } from './tcp.ts';
import { UDP_CHECKSUM_AT } from './udp.ts';

const UPPER4 = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
const UPPER6 = ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES;

/**
 * Where the partial checksum of an Ethernet frame is: the transport's header from the frame's start, and the field from there
 * in the upper 16 bits. 0 where there is none: it is whole, or the frame has another protocol, is a piece of a datagram,
 * has IPv4 options or IPv6 extension headers.
 */
export function partialChecksum(view: DataView, at: number, length: number): number {
  if (length < UPPER4) return 0;
  const ip = at + ETHERNET_HEADER_BYTES;
  const type = view.getUint16(at + 12);
  let upper: number;
  let bytes: number;
  let protocol: number;
  let sum: number;
  if (type === EtherType.IPV4) {
    if (view.getUint8(ip) !== 0x45 || (view.getUint16(ip + 6) & 0x3fff) !== 0) return 0;
    upper = UPPER4;
    bytes = view.getUint16(ip + 2) - IPV4_HEADER_BYTES;
    protocol = view.getUint8(ip + 9);
    sum = wordSum(view.getInt32(ip + 12)) + wordSum(view.getInt32(ip + 16));
  } else if (type === EtherType.IPV6 && length >= UPPER6) {
    upper = UPPER6;
    bytes = view.getUint16(ip + 4);
    protocol = view.getUint8(ip + 6);
    sum = 0;
    for (let word = ip + 8; word < ip + IPV6_HEADER_BYTES; word += 4) sum += wordSum(view.getInt32(word));
  } else return 0;
  let field: number;
  if (protocol === Protocol.TCP) field = TCP_CHECKSUM_AT;
  else if (protocol === Protocol.UDP) field = UDP_CHECKSUM_AT;
  else return 0;
  if (upper + bytes > length || field + 2 > bytes) return 0;
  return view.getUint16(at + upper + field) === fold(sum + protocol + bytes) ? upper | (field << 16) : 0;
}

/** Completes the checksum of a transport's packet: `length` bytes at `at`, with the field at `field` of them. */
export function completePartial(view: DataView, at: number, length: number, field: number): void {
  // 0 would say of UDP that there is none, and all ones is the same number.
  view.setUint16(at + field, ~checksum(view, at, length) & 0xffff || 0xffff);
}

/** Completes the checksum of an Ethernet frame where it is partial. */
export function completeFrame(view: DataView, at: number, length: number): void {
  const place = partialChecksum(view, at, length);
  if (place === 0) return;
  const upper = place & 0xffff;
  const ip = at + ETHERNET_HEADER_BYTES;
  const bytes = upper === UPPER4 ? view.getUint16(ip + 2) - IPV4_HEADER_BYTES : view.getUint16(ip + 4);
  completePartial(view, at + upper, bytes, place >> 16);
}
