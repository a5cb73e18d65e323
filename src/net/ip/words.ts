/**
 * IP addresses as four 32-bit words, the form that the stack works with, and what kinds of address there are.
 * Pure: plain data and integers. An IPv4 address is in the last word.
 */
import { formatIp, parseIp } from '../../address/ip.ts';
import { putAddress6 } from '../wire/ipv6.ts';

export type IpFamily = 4 | 6;

/** An address outside of the hot path. */
export interface IpWords {
  readonly family: IpFamily;
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

/** @throws RangeError where `text` is no IP literal */
export function wordsOfText(text: string): IpWords {
  const ip = parseIp(text);
  if (ip === null) throw new RangeError(`not an IP address: ${text}`);
  return wordsOfBytes(ip.bytes);
}

/** From 4 or 16 bytes in network order. */
export function wordsOfBytes(bytes: Uint8Array): IpWords {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return { family: 4, w0: 0, w1: 0, w2: 0, w3: view.getInt32(0) };
  return { family: 6, w0: view.getInt32(0), w1: view.getInt32(4), w2: view.getInt32(8), w3: view.getInt32(12) };
}

export function textOfWords(family: number, w0: number, w1: number, w2: number, w3: number): string {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (family === 4) view.setInt32(0, w3);
  else putAddress6(view, 0, w0, w1, w2, w3);
  return formatIp(bytes);
}

/** The link-local address that goes with a MAC address (RFC 4291 appendix A, RFC 2464 5). */
export function linkLocalOf(macHi: number, macLo: number): IpWords {
  const w2 = ((macHi ^ 0x0200) << 16) | ((macLo >>> 24) << 8) | 0xff;
  return { family: 6, w0: 0xfe800000 | 0, w1: 0, w2, w3: (0xfe << 24) | (macLo & 0xffffff) };
}

export function isMulticast(family: number, w0: number, w3: number): boolean {
  return family === 4 ? w3 >>> 28 === 14 : w0 >>> 24 === 0xff;
}

export function isLoopback(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
  return family === 4 ? w3 >>> 24 === 127 : (w0 | w1 | w2) === 0 && w3 === 1;
}

export function isUnspecified(w0: number, w1: number, w2: number, w3: number): boolean {
  return (w0 | w1 | w2 | w3) === 0;
}

/** fe80::/10. */
export function isLinkLocal6(w0: number): boolean {
  return w0 >>> 22 === 0x3fa;
}

/** An address that a packet may not come from: a group, all hosts, or 0.0.0.0/8 and 240.0.0.0/4 (RFC 1122 3.2.1.3). */
export function isBadSource(family: number, w0: number, w3: number): boolean {
  if (family === 6) return w0 >>> 24 === 0xff;
  const first = w3 >>> 24;
  return first >= 224 || first === 0;
}

/** The word `index` (0 … 3) of the mask of a prefix; for IPv4 only word 3 counts, with `length` of 32. */
export function maskWord(family: number, length: number, index: number): number {
  const from = family === 4 ? 96 : 0;
  const bits = length + from - 32 * index;
  if (bits <= 0 || (family === 4 && index < 3)) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
