/**
 * Socket addresses as the kernel takes them (sockaddr_in, sockaddr_in6, sockaddr_un) to and from {@link Address} objects.
 * For set-up code; it may look an interface's name up, and touches nothing else but the bytes it is given.
 */

import { type Address, parseIp } from '../address/ip.ts';
import { decodeSockaddr, encodeSockaddr } from '../address/sockaddr.ts';
import { IsthmusError, systemError } from '../errors.ts';
import { libcFunction } from './libc.ts';
import { reserveScratch, writeCString } from './scratch.ts';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
/** Room for every address family here: sockaddr_un is 110 bytes. */
export const SOCKADDR_MAX_BYTES = 128;
const UNIX_PATH_BYTES = 108;
const ENAMETOOLONG = 36;
const ENODEV = 19;
const EINVAL = 22;

const ifNameToIndex = libcFunction<[name: number]>('if_nametoindex', ['long']);
const nameOffset = reserveScratch(64);
const decoder = new TextDecoder();

/** How an address reads in a message: `127.0.0.1:80`, `[::1]:80`, a path, `@name` for an abstract one. */
export function addressText(address: Address): string {
  if ('path' in address) return address.path.replace(/^\0/, '@');
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** The family an address belongs to. Throws EINVAL for a host that is no IP address. */
export function addressFamily(address: Address): number {
  if ('path' in address) return AF_UNIX;
  const ip = parseIp(address.host);
  if (ip === null) throw badHost(address.host, 'socket');
  return ip.family === 6 ? AF_INET6 : AF_INET;
}

/**
 * Writes the address at `at`, which must have {@link SOCKADDR_MAX_BYTES} of room; gives its length in bytes.
 * @throws IsthmusError EINVAL (no IP address, bad port), ENAMETOOLONG (path), ENODEV (unknown IPv6 zone)
 */
export function writeSockaddr(address: Address, into: Uint8Array, at: number, syscall: string): number {
  if ('path' in address) return writeUnix(address.path, into, at, syscall);
  const ip = parseIp(address.host);
  if (ip === null) throw badHost(address.host, syscall);
  const { port } = address;
  if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) {
    throw systemError(EINVAL, syscall, `port ${port}`, 'a port is 0 to 65535');
  }
  if (ip.zone === undefined || ip.scope !== undefined) return encodeSockaddr({ host: address.host, port }, into, at);
  const bare = address.host.slice(0, address.host.indexOf('%'));
  return encodeSockaddr({ host: `${bare}%${interfaceIndex(ip.zone, address.host, syscall)}`, port }, into, at);
}

/** Reads the `length` bytes of an address that the kernel wrote. An unnamed Unix socket gives `{ path: '' }`. */
export function readSockaddr(from: Uint8Array, at: number, length: number): Address {
  const family = length < 2 ? AF_UNIX : from[at]! | (from[at + 1]! << 8);
  if (family === AF_UNIX) {
    const path = decoder.decode(from.slice(at + 2, at + Math.max(2, length)));
    const end = path.indexOf('\0', 1); // an abstract name begins with NUL and is not ended by one
    return {
      path: path.startsWith('\0') && length > 3 ? path : path.slice(0, end < 0 ? undefined : end).replace('\0', ''),
    };
  }
  const address = decodeSockaddr(from, at);
  if (address === null) throw new IsthmusError(`address family ${family}`, { code: 'EAFNOSUPPORT', errno: -97 });
  return { host: address.host, port: address.port };
}

/** The number of a network interface. Throws ENODEV if there is none of that name. */
export function interfaceIndex(name: string, about = name, syscall = 'if_nametoindex'): number {
  const index = name.length < 16 ? ifNameToIndex(writeCString(nameOffset, 64, name)) : 0;
  if (index <= 0) throw systemError(ENODEV, syscall, about, `no network interface '${name}'`);
  return index;
}

function writeUnix(path: string, into: Uint8Array, at: number, syscall: string): number {
  const bytes = new TextEncoder().encode(path);
  const abstract = bytes[0] === 0;
  if (!abstract && (bytes.length === 0 || bytes.includes(0))) {
    throw systemError(EINVAL, syscall, JSON.stringify(path), 'a path is not empty and holds no NUL');
  }
  if (bytes.length > UNIX_PATH_BYTES - (abstract ? 0 : 1)) {
    throw systemError(ENAMETOOLONG, syscall, addressText({ path }), `at most ${UNIX_PATH_BYTES - 1} bytes`);
  }
  into.fill(0, at, at + SOCKADDR_MAX_BYTES);
  into[at] = AF_UNIX;
  into.set(bytes, at + 2);
  return 2 + bytes.length + (abstract ? 0 : 1);
}

function badHost(host: string, syscall: string): IsthmusError {
  return systemError(EINVAL, syscall, host, 'not an IP address; names are resolved before, e.g. by node:dns');
}
