/**
 * The way out through the device: the Ethernet header, and the count of what left. It owns no state and keeps no packet.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import type { NetContext } from './context.ts';
import { ETHERNET_HEADER_BYTES, EtherType, putEthernet } from './wire/ethernet.ts';
import { Reason } from './wire/reason.ts';

/** Sends an ARP or IP packet to a station. The packet's reference passes on; the payload is borrowed. */
export function transmitFrame(
  context: NetContext,
  macHi: number,
  macLo: number,
  type: number,
  packet: HeapBuffer,
  payload: HeapBuffer | null,
  payloadOffset: number,
  payloadLength: number,
): void {
  const { device, counters } = context;
  if (device.room() <= 0) {
    counters.drop(Reason.DEVICE_FULL);
    packet.release();
    return;
  }
  packet.offset -= ETHERNET_HEADER_BYTES;
  packet.length += ETHERNET_HEADER_BYTES;
  putEthernet(packet.view, packet.offset, macHi, macLo, device.macHi, device.macLo, type);
  counters.framesOut++;
  counters.bytesOut += packet.length + payloadLength;
  device.transmit(packet, payload, payloadOffset, payloadLength);
}

export function etherTypeOf(family: number): number {
  return family === 4 ? EtherType.IPV4 : EtherType.IPV6;
}

/** A copy, in one buffer, of a packet in two pieces; null (and counted) where there is no buffer. */
export function gather(
  context: NetContext,
  packet: HeapBuffer,
  payload: HeapBuffer | null,
  payloadOffset: number,
  payloadLength: number,
): HeapBuffer | null {
  const copy = context.alloc(packet.length + payloadLength);
  if (copy === null) return null;
  const { memory, offset } = copy;
  // set() would need a view for its source, which is an object; copyWithin needs none, but only works within one memory.
  if (packet.memory === memory && (payload === null || payload.memory === memory)) {
    memory.copyWithin(offset, packet.offset, packet.offset + packet.length);
    if (payload !== null) memory.copyWithin(offset + packet.length, payloadOffset, payloadOffset + payloadLength);
    return copy;
  }
  memory.set(packet.memory.subarray(packet.offset, packet.offset + packet.length), offset);
  if (payload !== null) {
    memory.set(payload.memory.subarray(payloadOffset, payloadOffset + payloadLength), offset + packet.length);
  }
  return copy;
}
