/**
 * One IP packet on its way up: what IP has found out and the upper layers need. Plain data, one object filled in again
 * for each packet.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import { Flow } from '../flow.ts';

export class Arrival {
  /** Borrowed; null between packets, so that no buffer is kept by accident. */
  packet: HeapBuffer | null = null;
  /** Where the IP packet begins in `packet.memory`. */
  ipAt = 0;
  protocol = 0;
  /** The byte that named the protocol, from the packet's start (for a parameter problem). */
  protocolOffset = 0;
  /** What the protocol is to read. */
  at = 0;
  length = 0;
  hopLimit = 0;
  /** To one address of ours; false for a group or broadcast. */
  unicast = true;
  /** It had a fragment header, or came in pieces. */
  fragmented = false;
  /** From ourselves. */
  local = false;
  /** Addresses: local is the destination. Ports belong to the transports. */
  readonly flow = new Flow();
}
