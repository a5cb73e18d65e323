/**
 * ARP for IPv4 over Ethernet (RFC 826): a checked view and an emitter. Pure: it reads and writes the bytes it is given.
 * What a packet means for the cache is not decided here.
 */
import { int32, putInt32, putUint16, uint16 } from './bytes.ts';
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

  parse(memory: Uint8Array, at: number, length: number): Reason {
    if (length < ARP_BYTES) return Reason.ARP_SHORT;
    if (uint16(memory, at) !== HARDWARE_ETHERNET || uint16(memory, at + 2) !== EtherType.IPV4) return Reason.ARP_KIND;
    if (memory[at + 4] !== 6 || memory[at + 5] !== 4) return Reason.ARP_KIND;
    this.operation = uint16(memory, at + 6);
    this.senderHi = uint16(memory, at + 8);
    this.senderLo = int32(memory, at + 10);
    this.senderAddress = int32(memory, at + 14);
    this.targetHi = uint16(memory, at + 18);
    this.targetLo = int32(memory, at + 20);
    this.targetAddress = int32(memory, at + 24);
    if (this.operation !== ArpOperation.REQUEST && this.operation !== ArpOperation.REPLY) return Reason.ARP_OPERATION;
    if (!isStation(this.senderHi, this.senderLo)) return Reason.ARP_SENDER;
    return Reason.OK;
  }
}

export function putArp(
  memory: Uint8Array,
  at: number,
  operation: number,
  senderHi: number,
  senderLo: number,
  senderAddress: number,
  targetHi: number,
  targetLo: number,
  targetAddress: number,
): void {
  putUint16(memory, at, HARDWARE_ETHERNET);
  putUint16(memory, at + 2, EtherType.IPV4);
  putUint16(memory, at + 4, 0x0604);
  putUint16(memory, at + 6, operation);
  putUint16(memory, at + 8, senderHi);
  putInt32(memory, at + 10, senderLo);
  putInt32(memory, at + 14, senderAddress);
  putUint16(memory, at + 18, targetHi);
  putInt32(memory, at + 20, targetLo);
  putInt32(memory, at + 24, targetAddress);
}
