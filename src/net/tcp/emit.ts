/**
 * Builds segments: the header with its options and checksum, and the payload behind it, beside it or around it.
 * It touches the heap, the connection's marks of what it has told the peer, and the output handed in.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import { type Flow, HEADROOM } from '../flow.ts';
import { checksum, fold } from '../wire/checksum.ts';
import {
  Flag,
  putMss,
  putSack,
  putSackPermitted,
  putTcpHeader,
  putTimestamps,
  putWindowScale,
  TCP_CHECKSUM_AT,
  TCP_HEADER_BYTES,
} from '../wire/tcp.ts';
import type { Connection } from './connection.ts';
import { TcpState } from './constants.ts';
import { offerWindow } from './receive.ts';
import type { Tcp } from './tcp.ts';

/** Payloads up to this size are copied behind the header: cheaper than a second piece, and the packet stays small. */
const COPY_BELOW = 128;
const TIMESTAMP_BYTES = 12;
/** Data that fits in a buffer kept back: with a heap used up by what the programs have pushed, this much still goes out. */
export const RESERVE_DATA = 128;

/** Completes the header at `at`: over the packet's own bytes and the payload beside it, or left to the device. */
function putChecksum(
  tcp: Tcp,
  flow: Flow,
  packet: HeapBuffer,
  payload: HeapBuffer | null,
  payloadOffset: number,
  payloadLength: number,
): void {
  const { view, offset, length } = packet;
  let sum = flow.pseudo + length + payloadLength;
  if (!tcp.config.checksumOffload) {
    sum += checksum(view, offset, length);
    if (payload !== null) sum += checksum(payload.view, payloadOffset, payloadLength);
    sum = ~fold(sum);
  } else sum = fold(sum);
  view.setUint16(offset + TCP_CHECKSUM_AT, sum);
}

/**
 * Sends one segment of a connection: `dataLength` bytes of its send queue from `seq` on, and `flags`.
 * @returns false where no buffer was free; nothing was sent then
 */
export function emit(c: Connection, seq: number, dataLength: number, flags: number): boolean {
  const { tcp } = c;
  const sackBlocks = sackBlocksToSend(c, dataLength);
  const optionBytes = (c.tsEnabled ? TIMESTAMP_BYTES : 0) + (sackBlocks === 0 ? 0 : 4 + 8 * sackBlocks);
  const headerLength = TCP_HEADER_BYTES + optionBytes;
  let packet: HeapBuffer | null = null;
  let payload: HeapBuffer | null = null;
  let payloadOffset = 0;
  if (dataLength > 0) {
    const queue = c.sendQueue;
    const slot = queue.find(seq);
    const skip = (seq - queue.start(slot)) | 0;
    const buffer = queue.buffer(slot);
    payloadOffset = queue.offset(slot) + skip;
    if (queue.length(slot) - skip >= dataLength) {
      if (skip === 0 && buffer.references === 1 && payloadOffset - buffer.base >= HEADROOM + headerLength) {
        packet = buffer;
        packet.references++;
      } else if (tcp.config.scatterGather && dataLength > COPY_BELOW) payload = buffer;
    }
  }
  if (packet === null) {
    const copied = payload === null ? dataLength : 0;
    // The heap's own headroom counts: a small message and its header fit in the smallest buffers.
    packet = tcp.heap.tryAlloc(Math.max(0, HEADROOM + headerLength + copied - tcp.heap.headroom));
    if (packet === null && copied <= RESERVE_DATA) packet = tcp.takeReserve();
    if (packet === null) {
      tcp.counters.noBuffer++;
      return false;
    }
    if (copied > 0) copyFromQueue(c, seq, copied, packet, packet.base + HEADROOM + headerLength);
    packet.offset = packet.base + HEADROOM;
    packet.length = headerLength + copied;
  } else {
    packet.offset = payloadOffset - headerLength;
    packet.length = headerLength + dataLength;
  }
  const { view, offset } = packet;
  putTcpHeader(view, offset, c.flow.localPort, c.flow.remotePort, seq, c.rcvNxt, headerLength, flags, offerWindow(c));
  if (optionBytes > 0) putOptions(c, view, offset + TCP_HEADER_BYTES, sackBlocks);
  const payloadLength = payload === null ? 0 : dataLength;
  putChecksum(tcp, c.flow, packet, payload, payloadOffset, payloadLength);
  c.rcvAcked = c.rcvNxt;
  c.unacked = 0;
  c.ackNow = false;
  c.ackDelayed = false;
  c.lastSentMs = tcp.nowMs;
  tcp.counters.segmentsOut++;
  tcp.output.transmit(c.flow, packet, payload, payloadOffset, payloadLength);
  return true;
}

function putOptions(c: Connection, view: DataView, at: number, sackBlocks: number): void {
  if (c.tsEnabled) {
    putTimestamps(view, at, (c.tcp.nowMs + c.tsOffset) | 0, c.tsRecent);
    at += TIMESTAMP_BYTES;
  }
  if (sackBlocks > 0) putSack(view, at, blocksToSend, sackBlocks);
}

// The blocks of the segment being built: a duplicate first, then the newest (RFC 2018 section 4, RFC 2883 section 4).
const blocksToSend = new Int32Array(8);

function sackBlocksToSend(c: Connection, dataLength: number): number {
  if (!c.dsack && c.sackBlockCount === 0) return 0;
  let count = 0;
  if (c.dsack) {
    blocksToSend[0] = c.dsackStart;
    blocksToSend[1] = c.dsackEnd;
    count = 1;
    c.dsack = false;
  }
  const most = Math.min(c.tsEnabled ? 3 : 4, (c.mss - dataLength - 4) >> 3);
  if (most <= 0) return 0;
  const blocks = c.sackBlocks;
  for (let i = 0; blocks !== null && i < c.sackBlockCount && count < most; i++, count++) {
    blocksToSend[2 * count] = blocks[2 * i]!;
    blocksToSend[2 * count + 1] = blocks[2 * i + 1]!;
  }
  return count;
}

/** Copies `length` bytes from `seq` on out of the send queue, from as many buffers as they lie in. */
function copyFromQueue(c: Connection, seq: number, length: number, packet: HeapBuffer, to: number): void {
  const queue = c.sendQueue;
  let slot = queue.find(seq);
  let skip = (seq - queue.start(slot)) | 0;
  const { memory } = packet;
  while (length > 0) {
    const from = queue.offset(slot) + skip;
    const run = Math.min(queue.length(slot) - skip, length);
    const source = queue.buffer(slot).memory;
    // One heap has one memory: then nothing is allocated.
    if (source === memory) memory.copyWithin(to, from, from + run);
    else memory.set(source.subarray(from, from + run), to);
    to += run;
    length -= run;
    skip = 0;
    slot = queue.next(slot);
  }
}

/** Sends a SYN or SYN-ACK with the options we offer, or accept (RFC 7323 2.2, 3.2; RFC 2018 section 2). */
export function emitSyn(c: Connection): boolean {
  const { tcp, flow } = c;
  const answer = c.state === TcpState.SYN_RECEIVED;
  const { config } = tcp;
  const timestamps = answer ? c.tsEnabled : config.timestamps;
  const sack = answer ? c.sackEnabled : config.sack;
  const scale = answer ? c.scaling : config.windowScaling;
  const packet = tcp.heap.tryAlloc(HEADROOM + TCP_HEADER_BYTES + 40);
  if (packet === null) {
    tcp.counters.noBuffer++;
    return false;
  }
  const { view } = packet;
  const at = packet.base + HEADROOM;
  let option = at + TCP_HEADER_BYTES;
  putMss(view, option, tcp.announcedMss(flow));
  option += 4;
  if (sack) {
    putSackPermitted(view, option);
    option += 4;
  }
  if (timestamps) {
    putTimestamps(view, option, (tcp.nowMs + c.tsOffset) | 0, answer ? c.tsRecent : 0);
    option += TIMESTAMP_BYTES;
  }
  if (scale) {
    putWindowScale(view, option, c.rcvScale);
    option += 4;
  }
  const window = Math.min(65535, c.receiveBuffer);
  if (answer && ((c.rcvNxt + window - c.rcvAdv) | 0) > 0) c.rcvAdv = (c.rcvNxt + window) | 0;
  const flags = answer ? Flag.SYN | Flag.ACK : Flag.SYN;
  c.lastSentMs = tcp.nowMs;
  putTcpHeader(view, at, flow.localPort, flow.remotePort, c.iss, answer ? c.rcvNxt : 0, option - at, flags, window);
  send(tcp, flow, packet, option - at);
  return true;
}

function send(tcp: Tcp, flow: Flow, packet: HeapBuffer, length: number): void {
  const at = packet.base + HEADROOM;
  packet.offset = at;
  packet.length = length;
  putChecksum(tcp, flow, packet, null, 0, 0);
  tcp.counters.segmentsOut++;
  tcp.output.transmit(flow, packet, null, 0, 0);
}

/** Sends a bare segment for which there need be no connection: a reset, or an acknowledgement of a connection half open. */
export function emitBare(tcp: Tcp, flow: Flow, seq: number, ack: number, flags: number, window: number): void {
  const packet = tcp.heap.tryAlloc(HEADROOM + TCP_HEADER_BYTES) ?? tcp.takeReserve();
  if (packet === null) {
    tcp.counters.noBuffer++;
    return;
  }
  const at = packet.base + HEADROOM;
  putTcpHeader(packet.view, at, flow.localPort, flow.remotePort, seq, ack, TCP_HEADER_BYTES, flags, window);
  if ((flags & Flag.RST) !== 0) tcp.counters.resetsOut++;
  send(tcp, flow, packet, TCP_HEADER_BYTES);
}

/** Sends an acknowledgement in the name of a connection in TIME_WAIT, which is none any more. */
export function emitForgotten(
  tcp: Tcp,
  flow: Flow,
  seq: number,
  ack: number,
  window: number,
  timestamps: boolean,
  tsVal: number,
  tsEcr: number,
): void {
  const packet = tcp.heap.tryAlloc(HEADROOM + TCP_HEADER_BYTES + TIMESTAMP_BYTES) ?? tcp.takeReserve();
  if (packet === null) {
    tcp.counters.noBuffer++;
    return;
  }
  const { view } = packet;
  const at = packet.base + HEADROOM;
  const length = TCP_HEADER_BYTES + (timestamps ? TIMESTAMP_BYTES : 0);
  if (timestamps) putTimestamps(view, at + TCP_HEADER_BYTES, tsVal, tsEcr);
  putTcpHeader(view, at, flow.localPort, flow.remotePort, seq, ack, length, Flag.ACK, window);
  send(tcp, flow, packet, length);
}

/** Sends a SYN-ACK whose sequence number and timestamp are all that is remembered (RFC 4987 3.6). */
export function emitCookie(
  tcp: Tcp,
  flow: Flow,
  cookie: number,
  ack: number,
  timestamps: boolean,
  tsVal: number,
  tsEcr: number,
  sack: boolean,
  shift: number,
  window: number,
): void {
  const packet = tcp.heap.tryAlloc(HEADROOM + TCP_HEADER_BYTES + 40);
  if (packet === null) {
    tcp.counters.noBuffer++;
    return;
  }
  const { view } = packet;
  const at = packet.base + HEADROOM;
  let option = at + TCP_HEADER_BYTES;
  putMss(view, option, tcp.announcedMss(flow));
  option += 4;
  if (timestamps) {
    putTimestamps(view, option, tsVal, tsEcr);
    option += TIMESTAMP_BYTES;
    if (sack) {
      putSackPermitted(view, option);
      option += 4;
    }
    if (shift >= 0) {
      putWindowScale(view, option, shift);
      option += 4;
    }
  }
  putTcpHeader(view, at, flow.localPort, flow.remotePort, cookie, ack, option - at, Flag.SYN | Flag.ACK, window);
  send(tcp, flow, packet, option - at);
}
