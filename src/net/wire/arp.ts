/**
 * ARP for IPv4 over Ethernet (RFC 826): a checked view and an emitter. Pure: it reads and writes the bytes it is given.
 * What a packet means for the cache is not decided here.
 */
import { EtherType, isStation } from './ethernet.ts';
import { Reason } from './reason.ts';

export const ARP_BYTES = 28;
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

const HARDWARE_ETHERNET = 1;

export class ArpPacket {
  /** ar$op. */
  operation = 0;
  /** ar$sha. */
  senderHi = 0;
  senderLo = 0;
  /** ar$spa. */
  senderAddress = 0;
  /** ar$tha. */
  targetHi = 0;
  targetLo = 0;
  /** ar$tpa. */
  targetAddress = 0;

  parse(view: DataView, at: number, length: number): Reason {
    if (length < ARP_BYTES) return Reason.ARP_SHORT;
    if (view.getUint16(at) !== HARDWARE_ETHERNET || view.getUint16(at + 2) !== EtherType.IPV4) return Reason.ARP_KIND;
    if (view.getUint8(at + 4) !== 6 || view.getUint8(at + 5) !== 4) return Reason.ARP_KIND;
    this.operation = view.getUint16(at + 6);
    this.senderHi = view.getUint16(at + 8);
    this.senderLo = view.getInt32(at + 10);
    this.senderAddress = view.getInt32(at + 14);
    this.targetHi = view.getUint16(at + 18);
    this.targetLo = view.getInt32(at + 20);
    this.targetAddress = view.getInt32(at + 24);
    if (this.operation !== ArpOperation.REQUEST && this.operation !== ArpOperation.REPLY) return Reason.ARP_OPERATION;
    if (!isStation(this.senderHi, this.senderLo)) return Reason.ARP_SENDER;
    return Reason.OK;
  }
}

export function putArp(
  view: DataView,
  at: number,
  operation: number,
  senderHi: number,
  senderLo: number,
  senderAddress: number,
  targetHi: number,
  targetLo: number,
  targetAddress: number,
): void {
  view.setUint16(at, HARDWARE_ETHERNET);
  view.setUint16(at + 2, EtherType.IPV4);
  view.setUint16(at + 4, 0x0604);
  view.setUint16(at + 6, operation);
  view.setUint16(at + 8, senderHi);
  view.setInt32(at + 10, senderLo);
  view.setInt32(at + 14, senderAddress);
  view.setUint16(at + 18, targetHi);
  view.setInt32(at + 20, targetLo);
  view.setInt32(at + 24, targetAddress);
}
