/**
 * What tests of TCP share: building segments by hand, a recording output, and the bytes streams are made of.
 */

import { type Flow, HEADROOM, pseudoSum, type SegmentOutput } from '../../src/net/flow.ts';
import { checksum, fold } from '../../src/net/wire/checksum.ts';
import {
  Flag,
  putMss,
  putSack,
  putSackPermitted,
  putTcpHeader,
  putTimestamps,
  putWindowScale,
  TCP_PROTOCOL,
} from '../../src/net/wire/tcp.ts';
import type { Heap, HeapBuffer } from '../../src/ring/heap.ts';
import { viewOf } from './view.ts';

/** Byte `at` of the stream in one direction: not periodic in any power of two, so that shifted data is noticed. */
export function streamByte(at: number): number {
  return (at * 7 + ((at / 251) | 0) * 13 + ((at / 65521) | 0)) & 255;
}

export interface SegmentFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly mss?: number | null;
  readonly windowScale?: number | null;
  readonly sackPermitted?: boolean;
  readonly timestamps?: readonly [number, number] | null;
  readonly sack?: readonly (readonly [number, number])[] | null;
}

/** Builds a segment in a fresh buffer with headroom; `payload` bytes are made by `byteAt`. Null when the heap is used up. */
export function buildSegment(
  heap: Heap,
  flow: Flow,
  fields: SegmentFields,
  length: number,
  byteAt: (i: number) => number,
  badChecksum = false,
): HeapBuffer | null {
  const packet = heap.tryAlloc(HEADROOM + 60 + length);
  if (packet === null) return null;
  const { memory, view } = packet;
  const at = packet.base + HEADROOM;
  let option = at + 20;
  if (fields.mss != null) {
    putMss(view, option, fields.mss);
    option += 4;
  }
  if (fields.sackPermitted) {
    putSackPermitted(view, option);
    option += 4;
  }
  if (fields.timestamps != null) {
    putTimestamps(view, option, fields.timestamps[0], fields.timestamps[1]);
    option += 12;
  }
  if (fields.windowScale != null) {
    putWindowScale(view, option, fields.windowScale);
    option += 4;
  }
  if (fields.sack != null) {
    putSack(view, option, Int32Array.from(fields.sack.flat()), fields.sack.length);
    option += 4 + 8 * fields.sack.length;
  }
  const { sourcePort, destinationPort, seq, ack, flags, window } = fields;
  putTcpHeader(view, at, sourcePort, destinationPort, seq, ack, option - at, flags, window);
  for (let i = 0; i < length; i++) memory[option + i] = byteAt(i);
  const total = option - at + length;
  const sum = ~fold(pseudoSum(flow, TCP_PROTOCOL) + total + checksum(view, at, total)) & 0xffff;
  memory[at + 16] = (sum >> 8) ^ (badChecksum ? 1 : 0);
  memory[at + 17] = sum & 255;
  packet.offset = at;
  packet.length = total;
  return packet;
}

/** Where a TCP's segments end up in tests: whole, in one buffer each. */
export abstract class FlatOutput implements SegmentOutput {
  readonly heap: Heap;
  available = Number.MAX_SAFE_INTEGER;
  mtuBytes = 1500;

  constructor(heap: Heap) {
    this.heap = heap;
  }

  transmit(
    flow: Flow,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    if (packet.offset - packet.base < HEADROOM) throw new Error('no headroom');
    const whole = new Uint8Array(packet.length + payloadLength);
    whole.set(packet.memory.subarray(packet.offset, packet.offset + packet.length));
    if (payload !== null) {
      whole.set(payload.memory.subarray(payloadOffset, payloadOffset + payloadLength), packet.length);
    }
    packet.release();
    if (fold(flow.pseudo + whole.length + checksum(viewOf(whole), 0, whole.length)) !== 0xffff)
      throw new Error('bad checksum sent');
    this.sent(flow, whole);
  }

  abstract sent(flow: Flow, segment: Uint8Array): void;

  room(): number {
    return this.available;
  }

  mtu(): number {
    return this.mtuBytes;
  }
}

const LETTERS: readonly (readonly [number, string])[] = [
  [Flag.SYN, 'S'],
  [Flag.FIN, 'F'],
  [Flag.RST, 'R'],
  [Flag.PSH, 'P'],
  [Flag.URG, 'U'],
  [Flag.ACK, '.'],
];

export function flagText(flags: number): string {
  return LETTERS.map(([bit, letter]) => ((flags & bit) !== 0 ? letter : '')).join('') || '-';
}
