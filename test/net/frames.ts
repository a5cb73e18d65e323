/**
 * Whole frames for tests, built with the emitters, and a reader that says what a frame is in one line.
 */

import { textOfWords, wordsOfText } from '../../src/net/ip/words.ts';
import { putArp } from '../../src/net/wire/arp.ts';
import { checksum, fold } from '../../src/net/wire/checksum.ts';
import { EtherType, putEthernet } from '../../src/net/wire/ethernet.ts';
import { sealIcmp } from '../../src/net/wire/icmp.ts';
import { Protocol, pseudoSum4, putIpv4 } from '../../src/net/wire/ipv4.ts';
import { pseudoSum6, putAddress6, putIpv6 } from '../../src/net/wire/ipv6.ts';
import { putTcpHeader } from '../../src/net/wire/tcp.ts';
import { payloadSum, putUdp } from '../../src/net/wire/udp.ts';
import { viewOf } from './view.ts';

export interface Ends {
  /** Last octet of the MAC addresses 02:00:5e:00:00:XX. */
  readonly fromMac: number;
  readonly toMac: number | 'all';
  readonly from: string;
  readonly to: string;
}

function frame(ends: Ends, type: number, bytes: number): Uint8Array {
  const memory = new Uint8Array(14 + bytes);
  const [hi, lo] = ends.toMac === 'all' ? [0xffff, -1] : [0x0200, 0x5e000000 | ends.toMac];
  putEthernet(viewOf(memory), 0, hi, lo, 0x0200, 0x5e000000 | ends.fromMac, type);
  return memory;
}

/** An IP packet with any payload. `fragment` is IPv4's word of flags and offset. */
export function ipFrame(
  ends: Ends,
  protocol: number,
  payload: Uint8Array,
  { fragment = 0, id = 1, hops = 64 } = {},
): Uint8Array {
  const from = wordsOfText(ends.from);
  const to = wordsOfText(ends.to);
  if (from.family === 4) {
    const bytes = frame(ends, EtherType.IPV4, 20 + payload.length);
    putIpv4(viewOf(bytes), 14, 0, 20 + payload.length, id, fragment, hops, protocol, from.w3, to.w3);
    bytes.set(payload, 34);
    return bytes;
  }
  const bytes = frame(ends, EtherType.IPV6, 40 + payload.length);
  putIpv6(viewOf(bytes), 14, 0, payload.length, protocol, hops);
  putAddress6(viewOf(bytes), 22, from.w0, from.w1, from.w2, from.w3);
  putAddress6(viewOf(bytes), 38, to.w0, to.w1, to.w2, to.w3);
  bytes.set(payload, 54);
  return bytes;
}

export function pseudo(ends: Ends, protocol: number): number {
  const s = wordsOfText(ends.from);
  const d = wordsOfText(ends.to);
  if (s.family === 4) return pseudoSum4(s.w3, d.w3, protocol);
  return pseudoSum6(s.w0, s.w1, s.w2, s.w3, d.w0, d.w1, d.w2, d.w3, protocol);
}

export function udpBytes(ends: Ends, fromPort: number, toPort: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  bytes.set(payload, 8);
  putUdp(
    viewOf(bytes),
    0,
    fromPort,
    toPort,
    payload.length,
    payloadSum(viewOf(bytes), 8, payload.length, pseudo(ends, Protocol.UDP)),
  );
  return bytes;
}

export function udpFrame(ends: Ends, fromPort: number, toPort: number, payload: Uint8Array): Uint8Array {
  return ipFrame(ends, Protocol.UDP, udpBytes(ends, fromPort, toPort, payload));
}

export function tcpFrame(ends: Ends, fromPort: number, toPort: number, flags: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(20 + data.length);
  bytes.set(data, 20);
  putTcpHeader(viewOf(bytes), 0, fromPort, toPort, 1, 2, 20, flags, 1000);
  const sum = pseudo(ends, Protocol.TCP) + bytes.length + checksum(viewOf(bytes), 0, bytes.length);
  viewOf(bytes).setUint16(16, ~fold(sum));
  return ipFrame(ends, Protocol.TCP, bytes);
}

/** An ICMP or ICMPv6 message, by the family of the ends. */
export function icmpFrame(
  ends: Ends,
  type: number,
  code: number,
  word: number,
  body: Uint8Array,
  hops = 64,
): Uint8Array {
  const bytes = new Uint8Array(8 + body.length);
  bytes[0] = type;
  bytes[1] = code;
  new DataView(bytes.buffer).setInt32(4, word);
  bytes.set(body, 8);
  const v4 = !ends.from.includes(':');
  const protocol = v4 ? Protocol.ICMP : Protocol.ICMPV6;
  sealIcmp(viewOf(bytes), 0, bytes.length, v4 ? 0 : fold(pseudo(ends, protocol) + bytes.length));
  return ipFrame(ends, protocol, bytes, { hops });
}

export function arpFrame(ends: Ends, operation: number, targetMac: number): Uint8Array {
  const bytes = frame(ends, EtherType.ARP, 28);
  const target = targetMac === 0 ? [0, 0] : [0x0200, 0x5e000000 | targetMac];
  const sender = 0x5e000000 | ends.fromMac;
  putArp(
    viewOf(bytes),
    14,
    operation,
    0x0200,
    sender,
    wordsOfText(ends.from).w3,
    target[0]!,
    target[1]!,
    wordsOfText(ends.to).w3,
  );
  return bytes;
}

/** A frame in one line: `arp request 10.0.0.1 > 10.0.0.2`, `icmp 3/3 10.0.0.2 > 10.0.0.1`, `udp …`, `ip6 frag …`. */
export function describe(bytes: Uint8Array): string {
  const type = viewOf(bytes).getUint16(12);
  if (type === EtherType.ARP) {
    const kind = viewOf(bytes).getUint16(20) === 1 ? 'request' : 'reply';
    return `arp ${kind} ${textOfWords(4, 0, 0, 0, viewOf(bytes).getInt32(28))} > ${textOfWords(4, 0, 0, 0, viewOf(bytes).getInt32(38))}`;
  }
  const v4 = type === EtherType.IPV4;
  const word = (i: number): number => viewOf(bytes).getInt32(i);
  const ends = v4
    ? `${textOfWords(4, 0, 0, 0, word(26))} > ${textOfWords(4, 0, 0, 0, word(30))}`
    : `${textOfWords(6, word(22), word(26), word(30), word(34))} > ${textOfWords(6, word(38), word(42), word(46), word(50))}`;
  const protocol = v4 ? bytes[23]! : bytes[20]!;
  const at = v4 ? 34 : 54;
  if (v4 && (viewOf(bytes).getUint16(20) & 0x3fff) !== 0) return `frag ${viewOf(bytes).getUint16(20)} ${ends}`;
  if (protocol === Protocol.ICMP || protocol === Protocol.ICMPV6) return `icmp ${bytes[at]}/${bytes[at + 1]} ${ends}`;
  if (protocol === Protocol.UDP) return `udp ${viewOf(bytes).getUint16(at)}:${viewOf(bytes).getUint16(at + 2)} ${ends}`;
  if (protocol === Protocol.FRAGMENT) return `frag ${viewOf(bytes).getUint16(at + 2)} ${ends}`;
  return `ip ${protocol} ${ends}`;
}

/** Takes the payload out of the checksum of a TCP or UDP frame without options and extension headers: partial as Linux leaves it. */
export function leavePartial(bytes: Uint8Array, at = 0): void {
  const view = viewOf(bytes);
  const v4 = view.getUint16(at + 12) === EtherType.IPV4;
  const upper = at + (v4 ? 34 : 54);
  const protocol = bytes[at + (v4 ? 23 : 20)]!;
  const length = v4 ? view.getUint16(at + 16) - 20 : view.getUint16(at + 18);
  const addresses = v4 ? checksum(view, at + 26, 8) : checksum(view, at + 22, 32);
  view.setUint16(upper + (protocol === Protocol.TCP ? 16 : 6), fold(addresses + protocol + length));
}
