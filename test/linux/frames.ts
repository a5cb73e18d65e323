/** For tests: Ethernet frames of the kinds that an XDP filter tells apart, with correct checksums. Pure. */
import { parseIp } from '../../src/address/ip.ts';

export const TCP = 6;
export const UDP = 17;

export interface Ends {
  readonly fromMac?: string;
  readonly toMac?: string;
  readonly from: string;
  readonly to: string;
  /** Tag control information of an 802.1Q tag. */
  readonly tag?: number;
}

function bytesOf(...parts: (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function be16(value: number): number[] {
  return [(value >> 8) & 255, value & 255];
}

function be32(value: number): number[] {
  return [...be16(value >>> 16), ...be16(value & 0xffff)];
}

export function macBytes(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}

export function ipOf(text: string): Uint8Array {
  const ip = parseIp(text);
  if (ip === null) throw new TypeError(text);
  return ip.bytes;
}

export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function ethernet(type: number, ends: Ends, payload: Uint8Array): Uint8Array {
  const tag = ends.tag === undefined ? [] : [...be16(0x8100), ...be16(ends.tag)];
  const to = macBytes(ends.toMac ?? '02:00:00:00:00:01');
  return bytesOf(to, macBytes(ends.fromMac ?? '02:00:00:00:00:02'), tag, be16(type), payload);
}

export interface IpDetails {
  /** IPv4: bytes of options, a multiple of 4. */
  readonly options?: number;
  readonly id?: number;
  /** In bytes, a multiple of 8. */
  readonly offset?: number;
  readonly more?: boolean;
}

export function ipv4(ends: Ends, protocol: number, payload: Uint8Array, details: IpDetails = {}): Uint8Array {
  const { options = 0, id = 7, offset = 0, more = false } = details;
  const length = 20 + options;
  const header = bytesOf(
    [0x40 | (length >> 2), 0],
    be16(length + payload.length),
    be16(id),
    be16((more ? 0x2000 : 0) | (offset >> 3)),
    [64, protocol, 0, 0],
    ipOf(ends.from),
    ipOf(ends.to),
    new Uint8Array(options).fill(1),
  );
  header.set(be16(checksum(header)), 10);
  return bytesOf(header, payload);
}

export function ipv6(ends: Ends, next: number, payload: Uint8Array): Uint8Array {
  return bytesOf([0x60, 0, 0, 0], be16(payload.length), [next, 64], ipOf(ends.from), ipOf(ends.to), payload);
}

/** An IPv6 fragment header and what follows it. */
export function fragment6(next: number, id: number, offset: number, more: boolean, payload: Uint8Array): Uint8Array {
  return bytesOf([next, 0], be16(offset | (more ? 1 : 0)), be32(id), payload);
}

function pseudo(ends: Ends, protocol: number, length: number): Uint8Array {
  return bytesOf(ipOf(ends.from), ipOf(ends.to), be32(length), be32(protocol));
}

function withChecksum(ends: Ends, protocol: number, segment: Uint8Array, at: number): Uint8Array {
  segment.set(be16(checksum(bytesOf(pseudo(ends, protocol, segment.length), segment)) || 0xffff), at);
  return segment;
}

export function udp(ends: Ends, fromPort: number, toPort: number, data: Uint8Array): Uint8Array {
  const segment = bytesOf(be16(fromPort), be16(toPort), be16(8 + data.length), [0, 0], data);
  return withChecksum(ends, UDP, segment, 6);
}

export function tcpSyn(ends: Ends, fromPort: number, toPort: number): Uint8Array {
  const segment = bytesOf(be16(fromPort), be16(toPort), be32(1000), be32(0), [0x50, 2], be16(1024), [0, 0, 0, 0]);
  return withChecksum(ends, TCP, segment, 16);
}

/** ICMP of IPv4. */
export function icmp(type: number, code: number, rest: Uint8Array): Uint8Array {
  const message = bytesOf([type, code, 0, 0], rest);
  message.set(be16(checksum(message)), 2);
  return message;
}

export function icmp6(ends: Ends, type: number, code: number, rest: Uint8Array): Uint8Array {
  return withChecksum(ends, 58, bytesOf([type, code, 0, 0], rest), 2);
}

/** An IP packet of either family in a frame. */
export function ipFrame(ends: Ends, protocol: number, payload: Uint8Array, details?: IpDetails): Uint8Array {
  if (ends.to.includes(':')) return ethernet(0x86dd, ends, ipv6(ends, protocol, payload));
  return ethernet(0x0800, ends, ipv4(ends, protocol, payload, details));
}

export function udpFrame(ends: Ends, fromPort: number, toPort: number, data: Uint8Array): Uint8Array {
  return ipFrame(ends, UDP, udp(ends, fromPort, toPort, data));
}

export function arpRequest(ends: Ends): Uint8Array {
  const mac = macBytes(ends.fromMac ?? '02:00:00:00:00:02');
  const request = bytesOf([0, 1, 8, 0, 6, 4, 0, 1], mac, ipOf(ends.from), new Uint8Array(6), ipOf(ends.to));
  return ethernet(0x0806, ends, request);
}

/** A neighbour solicitation by multicast. */
export function solicitation(ends: Ends): Uint8Array {
  const target = ipOf(ends.to);
  const group = bytesOf([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff], target.subarray(13));
  const to = Array.from({ length: 8 }, (_, i) => ((group[2 * i]! << 8) | group[2 * i + 1]!).toString(16)).join(':');
  const multicast = { ...ends, to };
  return ipFrame(multicast, 58, icmp6(multicast, 135, 0, bytesOf([0, 0, 0, 0], target)));
}
