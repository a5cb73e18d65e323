/**
 * Ethernet II frames: a checked view and an emitter. Pure: it reads and writes the bytes it is given.
 * A MAC address is two integers: its first 16 bits (`Hi`) and its last 32, signed (`Lo`).
 */
import { Reason } from './reason.ts';

export const ETHERNET_HEADER_BYTES = 14;

export const EtherType = {
  IPV4: 0x0800,
  ARP: 0x0806,
  IPV6: 0x86dd,
  VLAN: 0x8100,
  QINQ: 0x88a8,
  OLD_QINQ: 0x9100,
} as const;

export const BROADCAST_HI = 0xffff;
export const BROADCAST_LO = -1;

export class EthernetFrame {
  destinationHi = 0;
  destinationLo = 0;
  sourceHi = 0;
  sourceLo = 0;
  /** EtherType. */
  type = 0;
  payloadAt = 0;
  /** Bytes after the header, padding included. */
  payloadLength = 0;

  /** Reads a frame of `length` bytes at `at`, without its check sequence. */
  parse(view: DataView, at: number, length: number): Reason {
    if (length < ETHERNET_HEADER_BYTES) return Reason.FRAME_SHORT;
    const type = view.getUint16(at + 12);
    this.destinationHi = view.getUint16(at);
    this.destinationLo = view.getInt32(at + 2);
    this.sourceHi = view.getUint16(at + 6);
    this.sourceLo = view.getInt32(at + 8);
    this.type = type;
    this.payloadAt = at + ETHERNET_HEADER_BYTES;
    this.payloadLength = length - ETHERNET_HEADER_BYTES;
    if (type === EtherType.VLAN || type === EtherType.QINQ || type === EtherType.OLD_QINQ) return Reason.FRAME_VLAN;
    if (type < 0x0600) return Reason.FRAME_TYPE;
    if ((this.sourceHi & 0x0100) !== 0) return Reason.FRAME_SOURCE;
    return Reason.OK;
  }

  /** To more than one station: the first bit on the wire (IEEE 802.3 3.2.3). */
  get toGroup(): boolean {
    return (this.destinationHi & 0x0100) !== 0;
  }
}

export function putEthernet(
  view: DataView,
  at: number,
  destinationHi: number,
  destinationLo: number,
  sourceHi: number,
  sourceLo: number,
  type: number,
): void {
  view.setUint16(at, destinationHi);
  view.setInt32(at + 2, destinationLo);
  view.setUint16(at + 6, sourceHi);
  view.setInt32(at + 8, sourceLo);
  view.setUint16(at + 12, type);
}

/** True for an address that one station can have: not a group's and not zero. */
export function isStation(hi: number, lo: number): boolean {
  return (hi & 0x0100) === 0 && (hi | lo) !== 0;
}

/** First 16 and last 32 bits of the address that an IP group's packets go to (RFC 1112 6.4, RFC 2464 7). */
export function groupMacHi(family: number): number {
  return family === 4 ? 0x0100 : 0x3333;
}

export function groupMacLo(family: number, word3: number): number {
  return family === 4 ? 0x5e000000 | (word3 & 0x7fffff) : word3;
}
