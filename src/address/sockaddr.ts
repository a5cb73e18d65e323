/**
 * Socket addresses in the byte layout of Linux's sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)), packed and unpacked.
 * Pure: it reads and writes the bytes it is given, so that a peer's address can travel beside a buffer without an object.
 */
import { formatIp, parseIp } from './ip.ts';

/** An Internet endpoint. `host` is an IPv4 or IPv6 literal (IPv6 may carry a numeric `%scope`). */
export interface IpAddress {
  readonly host: string;
  readonly port: number;
}

/** Bytes kept for one address: sockaddr_in6 is 28, rounded up to half a cache line. */
export const SOCKADDR_BYTES = 32;
const AF_INET = 2;
const AF_INET6 = 10;

/** Writes `address` at `at`; gives its length: 16 (IPv4) or 28 (IPv6). Throws RangeError where host is no IP literal. */
export function encodeSockaddr(address: IpAddress, into: Uint8Array, at: number): number {
  const ip = parseIp(address.host);
  if (ip === null) throw new RangeError(`not an IP address: ${address.host}`);
  const { port } = address;
  if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) throw new RangeError(`not a port: ${port}`);
  const v6 = ip.family === 6;
  const length = v6 ? 28 : 16;
  into.fill(0, at, at + length);
  into[at] = v6 ? AF_INET6 : AF_INET;
  into[at + 2] = port >> 8;
  into[at + 3] = port & 255;
  into.set(ip.bytes, at + (v6 ? 8 : 4));
  const scope = ip.scope ?? 0;
  if (v6) for (let i = 0; i < 4; i++) into[at + 24 + i] = (scope >>> (8 * i)) & 255;
  return length;
}

/** Reads an address written by the kernel or by {@link encodeSockaddr}; null for another family. */
export function decodeSockaddr(from: Uint8Array, at: number): IpAddress | null {
  const family = from[at]! | (from[at + 1]! << 8);
  const port = (from[at + 2]! << 8) | from[at + 3]!;
  if (family === AF_INET) return { host: formatIp(from.subarray(at + 4, at + 8)), port };
  if (family !== AF_INET6) return null;
  const scope = from[at + 24]! | (from[at + 25]! << 8) | (from[at + 26]! << 16) | (from[at + 27]! << 24);
  const host = formatIp(from.subarray(at + 8, at + 24));
  return { host: scope === 0 ? host : `${host}%${scope >>> 0}`, port };
}
