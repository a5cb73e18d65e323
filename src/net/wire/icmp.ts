/**
 * ICMP for IPv4 (RFC 792): a checked view and an emitter. Pure: it reads and writes the bytes it is given.
 * The packet quoted in an error is read by wire/quoted.ts.
 */
import { checksum } from './checksum.ts';
import { Reason } from './reason.ts';

export const ICMP_HEADER_BYTES = 8;

export const IcmpType = {
  ECHO_REPLY: 0,
  UNREACHABLE: 3,
  SOURCE_QUENCH: 4,
  REDIRECT: 5,
  ECHO: 8,
  TIME_EXCEEDED: 11,
  PARAMETER_PROBLEM: 12,
} as const;

/** Codes of UNREACHABLE (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1). */
export const IcmpUnreachable = {
  NET: 0,
  HOST: 1,
  PROTOCOL: 2,
  PORT: 3,
  TOO_BIG: 4,
  SOURCE_ROUTE: 5,
  NET_UNKNOWN: 6,
  HOST_UNKNOWN: 7,
  NET_PROHIBITED: 9,
  HOST_PROHIBITED: 10,
  PROHIBITED: 13,
} as const;

/** Code of TIME_EXCEEDED: not all fragments came in time. */
export const ICMP_REASSEMBLY = 1;

export class IcmpMessage {
  type = 0;
  code = 0;
  /** The second word: identifier and sequence number, a pointer, or the next hop's MTU in its last 16 bits (RFC 1191). */
  word = 0;
  bodyAt = 0;
  bodyLength = 0;

  /** Reads `length` bytes at `at`; `pseudo` is 0, or for ICMPv6 the sum of the pseudo header with the length. */
  parse(view: DataView, at: number, length: number, pseudo: number): Reason {
    if (length < ICMP_HEADER_BYTES) return Reason.ICMP_SHORT;
    const sum = checksum(view, at, length) + pseudo;
    if ((sum & 0xffff) + (sum >>> 16) !== 0xffff) return Reason.ICMP_CHECKSUM;
    this.type = view.getUint8(at);
    this.code = view.getUint8(at + 1);
    this.word = view.getInt32(at + 4);
    this.bodyAt = at + ICMP_HEADER_BYTES;
    this.bodyLength = length - ICMP_HEADER_BYTES;
    return Reason.OK;
  }

  /** An error about another packet: no error is ever sent about it (RFC 1122 3.2.2). */
  get isError(): boolean {
    return isIcmpError(this.type);
  }
}

export function isIcmpError(type: number): boolean {
  return type !== IcmpType.ECHO && type !== IcmpType.ECHO_REPLY && (type < 13 || type > 18);
}

/** Writes the first 8 bytes, with no checksum. */
export function putIcmp(view: DataView, at: number, type: number, code: number, word: number): void {
  view.setUint8(at, type);
  view.setUint8(at + 1, code);
  view.setUint16(at + 2, 0);
  view.setInt32(at + 4, word);
}

/** Completes a message of `length` bytes at `at`: `pseudo` as in {@link IcmpMessage.parse}. */
export function sealIcmp(view: DataView, at: number, length: number, pseudo: number): void {
  view.setUint16(at + 2, 0);
  const sum = checksum(view, at, length) + pseudo;
  view.setUint16(at + 2, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
}
