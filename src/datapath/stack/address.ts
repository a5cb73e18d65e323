/**
 * Addresses of PDPIX calls to and from the words that the stack works with, by the rules of ip(7) and ipv6(7).
 * Pure: text and flows.
 */

import { formatIp, parseIp } from '../../address/ip.ts';
import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, Family } from '../../kernel/datapath.ts';
import type { Flow } from '../../net/flow.ts';
import { type IpWords, textOfWords, wordsOfBytes } from '../../net/ip/words.ts';

/** An endpoint as words; an IPv4 address within IPv6 is IPv4 here. */
export interface Endpoint {
  readonly words: IpWords;
  readonly port: number;
}

// The last address written and the last one read: a client connects to the same place again and again.
let writtenHost = '';
let writtenPort = -1;
let written = '';
let readHost = '';
let read: IpWords | null = null;

/** How an address reads in a message: `127.0.0.1:80`, `[::1]:80`, a path. */
export function textOf(address: Address): string {
  if ('path' in address) return address.path.replace(/^\0/, '@');
  const { host, port } = address;
  if (host !== writtenHost || port !== writtenPort) {
    written = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    writtenHost = host;
    writtenPort = port;
  }
  return written;
}

/** The words of an IP literal, null where it is none. */
function wordsOf(host: string): IpWords | null {
  if (read === null || host !== readHost) {
    const ip = parseIp(host);
    read = ip === null ? null : unmapped(wordsOfBytes(ip.bytes));
    readHost = host;
  }
  return read;
}

/** Reads an address for a socket of this family. @throws IsthmusError EINVAL, EAFNOSUPPORT */
export function readEndpoint(family: Family, address: Address, call: string): Endpoint {
  const about = textOf(address);
  if ('path' in address) throw systemError(ERRNO.EAFNOSUPPORT, call, about, 'this datapath has no Unix sockets');
  const words = wordsOf(address.host);
  if (words === null) throw systemError(ERRNO.EINVAL, call, about, 'not an IP address');
  const { port } = address;
  if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) {
    throw systemError(ERRNO.EINVAL, call, about, 'a port is 0 to 65535');
  }
  if (words.family === 6 && family !== Family.INET6) throw systemError(ERRNO.EAFNOSUPPORT, call, about);
  return { words, port };
}

/** ::ffff:a.b.c.d is IPv4. */
function unmapped(words: IpWords): IpWords {
  const mapped = words.family === 6 && (words.w0 | words.w1) === 0 && words.w2 === 0xffff;
  return mapped ? { family: 4, w0: 0, w1: 0, w2: 0, w3: words.w3 } : words;
}

export function isAny({ w0, w1, w2, w3 }: IpWords): boolean {
  return (w0 | w1 | w2 | w3) === 0;
}

/** An address as a socket of this family names it. */
export function named(family: Family, words: IpWords, port: number): IpAddress {
  const { w0, w1, w2, w3 } = words;
  if (words.family === 6 || family !== Family.INET6) return { host: textOfWords(words.family, w0, w1, w2, w3), port };
  if (w3 === 0) return { host: '::', port };
  const mapped = new Uint8Array(16);
  mapped.set([255, 255, w3 >>> 24, w3 >>> 16, w3 >>> 8, w3], 10);
  return { host: formatIp(mapped), port };
}

export function localOf(flow: Flow): IpWords {
  const { family, local0, local1, local2, local3 } = flow;
  return { family: family === 6 ? 6 : 4, w0: local0, w1: local1, w2: local2, w3: local3 };
}

export function remoteOf(flow: Flow): IpWords {
  const { family, remote0, remote1, remote2, remote3 } = flow;
  return { family: family === 6 ? 6 : 4, w0: remote0, w1: remote1, w2: remote2, w3: remote3 };
}

export function setLocal(flow: Flow, { family, w0, w1, w2, w3 }: IpWords, port: number): void {
  flow.family = family;
  flow.local0 = w0;
  flow.local1 = w1;
  flow.local2 = w2;
  flow.local3 = w3;
  flow.localPort = port | 0;
}

export function setRemote(flow: Flow, { family, w0, w1, w2, w3 }: IpWords, port: number): void {
  flow.family = family;
  flow.remote0 = w0;
  flow.remote1 = w1;
  flow.remote2 = w2;
  flow.remote3 = w3;
  flow.remotePort = port | 0;
}
