/**
 * The seam between the stack and whatever carries its frames: a NIC's rings, a tap, a link of the simulator, or another
 * device with something in between (net/middleware). Types, and the offloads of a device that has none.
 */
import type { HeapBuffer } from '../ring/heap.ts';

/** What may be left to others of TCP's and UDP's checksums, which are partial then (wire/partial.ts). */
export interface DeviceOffloads {
  /** Frames come in from a neighbour on this machine, by way of no wire: a partial checksum is as good as a whole one. */
  readonly receivePartial: boolean;
  /** The device completes a partial checksum in a frame of one piece. Only with the other: packets to ourselves have them too. */
  readonly transmitPartial: boolean;
}

export const NO_OFFLOADS: DeviceOffloads = { receivePartial: false, transmitPartial: false };

/** Where frames go. */
export interface Device {
  /** The station's address: first 16 and last 32 bits. */
  readonly macHi: number;
  readonly macLo: number;
  /** Largest IP packet that one frame carries, in bytes. */
  readonly mtu: number;
  readonly offloads: DeviceOffloads;
  /** Frames that it takes now without dropping one. */
  room(): number;
  /**
   * Sends one frame, Ethernet header first, without a check sequence. `packet` holds the frame, or all of it up to the
   * payload; one reference passes to the callee. The rest is `payloadLength` bytes at `payloadOffset` of
   * `payload.memory`, borrowed: whoever keeps them after the call retains `payload`. Never throws; a frame for which
   * there is no room is dropped.
   */
  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void;
  /** The end of a batch: what was transmitted is to be on its way. */
  flush(): void;
}

/** Where frames come in. */
export interface FrameInput {
  /**
   * Takes one frame, Ethernet header first, without a check sequence. `frame` is borrowed: the caller releases its
   * reference afterwards, always. It must hold nothing else that the caller needs. Never throws for any bytes.
   */
  input(frame: HeapBuffer): void;
}
