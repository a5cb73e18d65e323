/**
 * Data coming in on a synchronized connection: in order to the reader, out of order to reassembly, and what window and
 * which SACK blocks we offer for it (RFC 9293 3.8.6, RFC 2018, RFC 2883). It touches the connection and its packets.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import { Flag, type TcpSegment } from '../wire/tcp.ts';
import type { Connection } from './connection.ts';
import { TcpEvent } from './constants.ts';
import { Reassembly } from './reassembly.ts';
import { scheduleAck } from './timers.ts';

/** Most SACK blocks kept; with timestamps three fit into a header. */
const BLOCKS = 4;

/** Data that begins at RCV.NXT, with nothing waiting out of order: the common case. */
export function receiveInOrder(c: Connection, packet: HeapBuffer, at: number, length: number): void {
  if (!c.discarding && !deliver(c, packet, at, length)) return;
  c.rcvNxt = (c.rcvNxt + length) | 0;
  c.unacked += length;
  if (length > c.rcvMss) c.rcvMss = length;
  // RFC 9293 3.8.6.3: at least every second full-sized segment is acknowledged, in the flush that ends this turn; and
  // at once when the peer has no room for another.
  if (c.unacked >= 2 * c.rcvMss || ((c.rcvAdv - c.rcvNxt) | 0) < c.rcvMss) {
    c.ackNow = true;
    c.tcp.wantOutput(c);
  } else if (!c.ackDelayed && !c.ackNow) scheduleAck(c);
  c.tcp.raise(c, TcpEvent.READABLE);
}

/** Gives the bytes to the reader's queue, which holds the packet from then on; false where it is full. */
function deliver(c: Connection, packet: HeapBuffer, at: number, length: number): boolean {
  const queue = c.receiveQueue;
  if (queue.coalesce(packet, at, length)) {
    c.tcp.counters.coalesced++;
    return true;
  }
  if (queue.count >= c.tcp.config.maxReceiveBuffers) {
    c.tcp.counters.receiveDropped++;
    return false;
  }
  packet.references++;
  packet.offset = at;
  packet.length = length;
  queue.push(packet);
  return true;
}

/**
 * Any acceptable segment's data and FIN (RFC 9293 3.10.7.4, seventh and eighth). The segment overlaps the window; what
 * lies outside of it is cut off.
 * @returns true when the peer's FIN has now been reached
 */
export function receiveSegment(c: Connection, segment: TcpSegment, packet: HeapBuffer): boolean {
  let { seq, dataAt: at, dataLength: length } = segment;
  if ((segment.flags & Flag.SYN) !== 0) seq = (seq + 1) | 0;
  let fin = (segment.flags & Flag.FIN) !== 0;
  const before = (c.rcvNxt - seq) | 0;
  if (before > 0) {
    if (length > 0) reportDuplicate(c, seq, (seq + Math.min(before, length)) | 0);
    const cut = Math.min(before, length);
    seq = (seq + cut) | 0;
    at += cut;
    length -= cut;
  }
  const beyond = (seq + length - c.rcvAdv) | 0;
  if (beyond > 0) {
    length = Math.max(0, length - beyond);
    fin = false;
  }
  if (fin && !c.peerFinSeen) {
    c.peerFinSeen = true;
    c.peerFin = (seq + length) | 0;
  }
  if (length > 0) {
    if (seq === c.rcvNxt) {
      const reassembly = c.reassembly;
      if (reassembly === null || reassembly.count === 0) receiveInOrder(c, packet, at, length);
      else {
        const next = c.rcvNxt;
        receiveInOrder(c, packet, at, length);
        if (c.rcvNxt !== next) drain(c, reassembly);
      }
    } else receiveOutOfOrder(c, seq, packet, at, length);
  } else if (fin && c.rcvNxt !== c.peerFin) {
    // A bare FIN that came before the data it ends.
    c.ackNow = true;
    c.tcp.ackAtOnce(c);
  }
  return finReached(c);
}

/** Moves what has become in order from reassembly to the reader. */
function drain(c: Connection, reassembly: Reassembly): void {
  const before = reassembly.count;
  for (let buffer = reassembly.take(c.rcvNxt); buffer !== null; buffer = reassembly.take(c.rcvNxt)) {
    const { length } = buffer;
    if (c.discarding) buffer.release();
    else c.receiveQueue.push(buffer);
    c.rcvNxt = (c.rcvNxt + length) | 0;
  }
  c.tcp.outOfOrderHeld += reassembly.count - before;
  // RFC 5681 4.2: a segment that fills a gap is acknowledged at once.
  c.ackNow = true;
  c.tcp.wantOutput(c);
  dropOldBlocks(c);
}

function receiveOutOfOrder(c: Connection, seq: number, packet: HeapBuffer, at: number, length: number): void {
  const { tcp } = c;
  c.reassembly ??= new Reassembly();
  const before = c.reassembly.count;
  const left = tcp.config.maxOutOfOrderTotal - tcp.outOfOrderHeld;
  const limit = Math.min(tcp.config.maxOutOfOrder, before + left);
  const kept = c.reassembly.add(packet, seq, at, length, limit);
  tcp.outOfOrderHeld += c.reassembly.count - before;
  // RFC 5681 4.2: answered at once, one acknowledgement each, so that the peer can count them.
  if (kept < 0) tcp.counters.outOfOrderDropped++;
  else if (kept === 0) {
    tcp.counters.duplicates++;
    reportDuplicate(c, seq, (seq + length) | 0);
  } else {
    tcp.counters.outOfOrder++;
    if (c.sackEnabled) addBlock(c, seq, (seq + length) | 0);
  }
  c.ackNow = true;
  tcp.ackAtOnce(c);
}

function finReached(c: Connection): boolean {
  if (!c.peerFinSeen || c.finReceived || c.rcvNxt !== c.peerFin) return false;
  c.finReceived = true;
  c.rcvNxt = (c.rcvNxt + 1) | 0;
  if (((c.rcvAdv - c.rcvNxt) | 0) < 0) c.rcvAdv = c.rcvNxt;
  c.ackNow = true;
  c.tcp.wantOutput(c);
  c.tcp.raise(c, TcpEvent.READABLE);
  return true;
}

function reportDuplicate(c: Connection, start: number, end: number): void {
  c.tcp.counters.duplicates++;
  c.ackNow = true;
  c.tcp.wantOutput(c);
  if (!c.sackEnabled) return;
  c.dsack = true;
  c.dsackStart = start;
  c.dsackEnd = end;
}

/** Puts the block that the newest data made first; blocks that it touches become part of it (RFC 2018 section 4). */
function addBlock(c: Connection, start: number, end: number): void {
  c.sackBlocks ??= new Int32Array(2 * BLOCKS);
  const blocks = c.sackBlocks;
  let kept = 0;
  for (let i = 0; i < c.sackBlockCount; i++) {
    const left = blocks[2 * i]!;
    const right = blocks[2 * i + 1]!;
    if (((right - start) | 0) >= 0 && ((end - left) | 0) >= 0) {
      if (((left - start) | 0) < 0) start = left;
      if (((right - end) | 0) > 0) end = right;
    } else {
      blocks[2 * kept] = left;
      blocks[2 * kept + 1] = right;
      kept++;
    }
  }
  if (kept === BLOCKS) kept--;
  blocks.copyWithin(2, 0, 2 * kept);
  blocks[0] = start;
  blocks[1] = end;
  c.sackBlockCount = kept + 1;
}

function dropOldBlocks(c: Connection): void {
  const blocks = c.sackBlocks;
  if (blocks === null) return;
  let kept = 0;
  for (let i = 0; i < c.sackBlockCount; i++) {
    if (((blocks[2 * i + 1]! - c.rcvNxt) | 0) <= 0) continue;
    blocks[2 * kept] = blocks[2 * i]!;
    blocks[2 * kept + 1] = blocks[2 * i + 1]!;
    kept++;
  }
  c.sackBlockCount = kept;
}

/** The largest window that can be offered: the buffer, or what 16 shifted bits say. */
function largestWindow(c: Connection): number {
  return Math.min(c.receiveBuffer, 65535 << c.rcvScale);
}

/** Bytes by which the right edge of the window can move now without regard to silly windows; may be negative. */
function newlyFree(c: Connection): number {
  const room = Math.min(c.receiveBuffer - c.receiveQueue.bytes, 65535 << c.rcvScale);
  return (c.rcvNxt + Math.max(room, 0) - c.rcvAdv) | 0;
}

/**
 * RFC 9293 3.10.7.4's table: is any number of a segment, `first` behind RCV.NXT and `length` long, in the window? Where there is
 * none, the number right behind what has come counts: a FIN may have used up the last.
 */
export function isInWindow(first: number, length: number, window: number): boolean {
  const startsInside = first >= 0 && first < window;
  if (length === 0) return startsInside || first === 0;
  const last = (first + length - 1) | 0;
  return startsInside || (last >= 0 && last < window) || (first < 0 && last >= window && window > 0);
}

/**
 * The window field for a segment about to be sent; moves the right edge if it is worth it (RFC 9293 3.8.6.2.2) and
 * never back.
 */
export function offerWindow(c: Connection): number {
  const free = newlyFree(c);
  const shift = c.rcvScale;
  if (free >= Math.min(largestWindow(c) >> 1, c.mss)) {
    const window = (c.rcvAdv + free - c.rcvNxt) | 0;
    // Rounded down to what the shifted field can say, but not to less than was offered before.
    const edge = (c.rcvNxt + ((window >> shift) << shift)) | 0;
    if (((edge - c.rcvAdv) | 0) > 0) c.rcvAdv = edge;
  }
  const window = (c.rcvAdv - c.rcvNxt) | 0;
  return Math.min(65535, (window + (1 << shift) - 1) >> shift);
}

/** After a read: true when the window has opened so far that the peer should hear of it without being asked. */
export function windowUpdateDue(c: Connection): boolean {
  const buffer = largestWindow(c);
  return newlyFree(c) >= Math.min(buffer >> 1, Math.max(c.mss, buffer >> 2));
}
