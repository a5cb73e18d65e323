/**
 * Names of sockets as programs give them and as they are told, by the rules of ip(7), ipv6(7) and unix(7).
 * Pure functions.
 */

import { formatIp, parseIp } from '../../address/ip.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, Family } from '../../kernel/datapath.ts';

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

export function isLoopback(host: string): boolean {
  return host === '::1' || host.startsWith('127.');
}

/** One text for each address; an IPv4 address inside IPv6 becomes IPv4. Null for what is no address. */
export function canonical(host: string): string | null {
  const ip = parseIp(host);
  if (ip === null) return null;
  const { bytes } = ip;
  if (ip.family === 6 && bytes[10] === 255 && bytes[11] === 255 && bytes.subarray(0, 10).every((byte) => byte === 0)) {
    return formatIp(bytes.subarray(12));
  }
  return formatIp(bytes, ip.scope ?? ip.zone);
}

/** The address as a socket of this family names it: IPv4 inside IPv6 is written `::ffff:a.b.c.d`. */
export function namedIn(family: Family, host: string, port: number): Address {
  if (family !== Family.INET6 || host.includes(':')) return { host, port };
  return { host: host === '0.0.0.0' ? '::' : formatIp(parseIp(`::ffff:${host}`)!.bytes), port };
}

/** Reads an address for a socket of this family. @throws IsthmusError EINVAL, EAFNOSUPPORT */
export function readAddress(family: Family, address: Address, call: string): Address {
  if ('path' in address) {
    if (family !== Family.UNIX) throw systemError(ERRNO.EAFNOSUPPORT, call, address.path);
    if (address.path.length === 0) throw systemError(ERRNO.EINVAL, call, "''");
    if (address.path.length > 107) throw systemError(ERRNO.ENAMETOOLONG, call, address.path);
    return address;
  }
  const host = canonical(address.host);
  const about = `${address.host}:${address.port}`;
  if (host === null) throw systemError(ERRNO.EINVAL, call, about, 'not an IP address');
  if (!(Number.isInteger(address.port) && address.port >= 0 && address.port <= 65535)) {
    throw systemError(ERRNO.EINVAL, call, about, 'not a port');
  }
  if (family === Family.UNIX || (family === Family.INET && host.includes(':'))) {
    throw systemError(ERRNO.EAFNOSUPPORT, call, about);
  }
  return { host, port: address.port };
}

export function describe(address: Address): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}
