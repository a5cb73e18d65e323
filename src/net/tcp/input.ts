/**
 * A segment arrives for a connection: header prediction first, then RFC 9293 3.10.7.4 step by step, with the defences of
 * RFC 5961 and RFC 7323's PAWS. It touches the connection; the packet is borrowed.
 */
import { ERRNO } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import { Flag, type TcpSegment } from '../wire/tcp.ts';
import { acknowledge, acknowledgeInOrder } from './acknowledge.ts';
import type { Connection } from './connection.ts';
import { Life, Phase, TcpEvent, TcpState } from './constants.ts';
import { emit, emitBare } from './emit.ts';
import { established, repeatSynAck, synSentArrives } from './handshake.ts';
import { isInWindow, receiveInOrder, receiveSegment } from './receive.ts';
import { armLife } from './timers.ts';

/** RFC 7323 5.5: a timestamp that has not changed for 24 days says nothing. */
const PAWS_STALE_MS = 24 * 24 * 3600 * 1000;

/** Flags that header prediction does not look at. */
const QUIET_FLAGS = Flag.PSH | Flag.ECE | Flag.CWR;

export function segmentArrives(c: Connection, segment: TcpSegment, packet: HeapBuffer): void {
  if (predicted(c, segment, packet)) return;
  if (c.state === TcpState.SYN_SENT) {
    synSentArrives(c, segment);
    return;
  }
  if (!acceptable(c, segment)) return;
  c.lastHeardMs = c.tcp.nowMs;
  c.keepAliveSent = 0;
  const { flags } = segment;
  if ((flags & Flag.RST) !== 0) {
    resetArrives(c, segment);
    return;
  }
  if ((flags & Flag.SYN) !== 0 && !(c.state === TcpState.SYN_RECEIVED && segment.seq === c.irs)) {
    // RFC 5961 section 4: never a reset, whatever the sequence number.
    challenge(c);
    return;
  }
  if ((flags & Flag.ACK) === 0) return;
  noteTimestamp(c, segment);
  if (!acknowledgementArrives(c, segment)) return;
  dataArrives(c, segment, packet);
}

/**
 * Header prediction (Van Jacobson): the next data in order, or an acknowledgement of what is in flight, or both, on a
 * connection on which nothing else goes on. Nothing is allocated.
 */
function predicted(c: Connection, segment: TcpSegment, packet: HeapBuffer): boolean {
  if (
    c.state !== TcpState.ESTABLISHED ||
    (segment.flags & ~QUIET_FLAGS) !== Flag.ACK ||
    segment.seq !== c.rcvNxt ||
    segment.hasTimestamps !== c.tsEnabled ||
    segment.window === 0 ||
    segment.sackCount !== 0 ||
    c.phase !== Phase.OPEN ||
    c.sackedBytes !== 0 ||
    c.lostBytes !== 0 ||
    c.dupAcks !== 0 ||
    c.sndWnd === 0 ||
    c.tlpActive ||
    c.peerFinSeen ||
    c.orphan ||
    (c.reassembly !== null && c.reassembly.count !== 0)
  )
    return false;
  const acked = (segment.ack - c.sndUna) | 0;
  const length = segment.dataLength;
  if (acked < 0 || ((segment.ack - c.sndNxt) | 0) > 0 || (acked === 0 && length === 0)) return false;
  if (length > ((c.rcvAdv - c.rcvNxt) | 0)) return false;
  const { tcp } = c;
  if (c.tsEnabled) {
    if (((segment.tsVal - c.tsRecent) | 0) < 0) return false;
    if (c.rcvAcked === segment.seq) {
      c.tsRecent = segment.tsVal;
      c.tsRecentAt = tcp.nowMs;
    }
  }
  c.lastHeardMs = tcp.nowMs;
  c.keepAliveSent = 0;
  tcp.counters.predicted++;
  // In order and of what is in flight, so that it is newer than SND.WL1 and SND.WL2.
  const sndWnd = segment.window << c.sndScale;
  c.sndWnd = sndWnd;
  if (sndWnd > c.sndMaxWnd) c.sndMaxWnd = sndWnd;
  c.sndWl1 = segment.seq;
  c.sndWl2 = segment.ack;
  if (acked > 0) acknowledgeInOrder(c, segment);
  if (length > 0) receiveInOrder(c, packet, segment.dataAt, length);
  return true;
}

/** First step: sequence number and timestamp. What is not acceptable is answered here. */
function acceptable(c: Connection, segment: TcpSegment): boolean {
  const { tcp } = c;
  const { flags, seq, length } = segment;
  const reset = (flags & Flag.RST) !== 0;
  if (c.tsEnabled && !reset) {
    // RFC 7323 3.2: once agreed upon, a segment without the option is dropped.
    if (!segment.hasTimestamps) return false;
    const stale = (tcp.nowMs - c.tsRecentAt) >>> 0 > PAWS_STALE_MS;
    if (((segment.tsVal - c.tsRecent) | 0) < 0 && !stale) {
      tcp.counters.pawsRejected++;
      challenge(c);
      return false;
    }
  }
  const window = (c.rcvAdv - c.rcvNxt) | 0;
  const first = (seq - c.rcvNxt) | 0;
  if (isInWindow(first, length, window)) return true;
  if (!reset && unacceptable(c, segment, first, window)) return true;
  if (!reset) tcp.counters.outOfWindow++;
  return false;
}

/** Answers a segment outside of the window; true where it is to be looked at all the same. */
function unacceptable(c: Connection, segment: TcpSegment, first: number, window: number): boolean {
  const { flags } = segment;
  if (c.state === TcpState.SYN_RECEIVED && (flags & Flag.SYN) !== 0 && segment.seq === c.irs) {
    // RFC 9293 figure 8: both sides' SYN-ACKs cross.
    if ((flags & Flag.ACK) !== 0) {
      c.ackNow = true;
      c.tcp.wantOutput(c);
      return true;
    }
    if (mayAnswer(c)) repeatSynAck(c);
    return false;
  }
  if (window === 0 && first === 0 && segment.length > 0) {
    // RFC 9293 3.10.7.4: with a window of zero acknowledgements are still taken. The answer says the window.
    c.ackNow = true;
    c.tcp.wantOutput(c);
    return true;
  }
  if (segment.dataLength > 0 || (flags & Flag.FIN) !== 0) {
    // A retransmission that crossed our acknowledgement: no part of an ACK storm, so it is always answered.
    if (first < 0 && segment.dataLength > 0 && c.sackEnabled) {
      c.tcp.counters.duplicates++;
      c.dsack = true;
      c.dsackStart = segment.seq;
      c.dsackEnd = (segment.seq + segment.dataLength) | 0;
    }
    emitAck(c);
  } else challenge(c);
  return false;
}

function emitAck(c: Connection): void {
  if (c.state === TcpState.SYN_RECEIVED) emitBare(c.tcp, c.flow, c.sndNxt, c.rcvNxt, Flag.ACK, 0);
  else emit(c, c.sndNxt, 0, Flag.ACK);
}

/** At most one answer per interval, so that two ends that disagree do not drown in each other's acknowledgements. */
function mayAnswer(c: Connection): boolean {
  const { tcp } = c;
  if (c.challenged && ((tcp.nowMs - c.challengeAt) | 0) < tcp.config.challengeIntervalMs) {
    tcp.counters.challengesSuppressed++;
    return false;
  }
  c.challenged = true;
  c.challengeAt = tcp.nowMs;
  return true;
}

/** A challenge ACK (RFC 5961): a peer that means it answers with what cannot be guessed. */
function challenge(c: Connection): void {
  if (!mayAnswer(c)) return;
  c.tcp.counters.challengeAcks++;
  emitAck(c);
}

/** Second step, RFC 5961 section 3.2: only the exact sequence number resets. */
function resetArrives(c: Connection, segment: TcpSegment): void {
  const { tcp } = c;
  if (segment.seq !== c.rcvNxt) {
    tcp.counters.badResets++;
    challenge(c);
    return;
  }
  tcp.counters.resetsIn++;
  if (c.state === TcpState.SYN_RECEIVED) tcp.destroy(c, ERRNO.ECONNREFUSED);
  else if (c.state === TcpState.CLOSING || c.state === TcpState.LAST_ACK) tcp.destroy(c, 0);
  else tcp.destroy(c, c.state === TcpState.CLOSE_WAIT ? ERRNO.EPIPE : ERRNO.ECONNRESET);
}

/** RFC 7323 4.3: the timestamp to echo is that of the segment that moved, or will move, Last.ACK.sent. */
function noteTimestamp(c: Connection, segment: TcpSegment): void {
  if (!c.tsEnabled || ((segment.seq - c.rcvAcked) | 0) > 0) return;
  if (((segment.tsVal - c.tsRecent) | 0) < 0 && (c.tcp.nowMs - c.tsRecentAt) >>> 0 <= PAWS_STALE_MS) return;
  c.tsRecent = segment.tsVal;
  c.tsRecentAt = c.tcp.nowMs;
}

/** Fifth step. False where the segment is done with. */
function acknowledgementArrives(c: Connection, segment: TcpSegment): boolean {
  const { tcp } = c;
  const { ack } = segment;
  if (c.state === TcpState.SYN_RECEIVED) {
    if (((ack - c.sndUna) | 0) <= 0 || ((ack - c.sndNxt) | 0) > 0) {
      emitBare(tcp, c.flow, ack, 0, Flag.RST, 0);
      return false;
    }
    if (c.listener?.full) {
      tcp.counters.listenOverflows++;
      return false;
    }
    if (c.listener !== null) c.listener.halfOpen--;
    c.state = TcpState.ESTABLISHED;
    acknowledge(c, segment);
    established(c);
    return true;
  }
  // RFC 5961 section 5: neither of the future nor older than any window we were offered.
  if (((ack - c.sndNxt) | 0) > 0 || ((c.sndUna - ack) | 0) > c.sndMaxWnd) {
    challenge(c);
    return false;
  }
  if (((ack - c.sndUna) | 0) < 0) return true;
  acknowledge(c, segment);
  if (!c.finSent || c.sndUna !== c.sndNxt) return true;
  switch (c.state) {
    case TcpState.FIN_WAIT_1:
      c.state = TcpState.FIN_WAIT_2;
      if (c.orphan) armLife(c, Life.FIN_WAIT_2, tcp.config.finWait2Ms);
      return true;
    case TcpState.CLOSING:
      tcp.enterTimeWait(c);
      return false;
    case TcpState.LAST_ACK:
      tcp.destroy(c, 0);
      return false;
    default:
      return true;
  }
}

/** Seventh and eighth step. */
function dataArrives(c: Connection, segment: TcpSegment, packet: HeapBuffer): void {
  const { tcp, state } = c;
  if (segment.dataLength === 0 && (segment.flags & Flag.FIN) === 0) return;
  if (state !== TcpState.ESTABLISHED && state !== TcpState.FIN_WAIT_1 && state !== TcpState.FIN_WAIT_2) return;
  if (c.orphan && !c.discarding && ((segment.seq + segment.dataLength - c.rcvNxt) | 0) > 0 && segment.dataLength > 0) {
    // RFC 9293 3.6.1: nobody reads this any more, and the peer should know.
    tcp.reset(c, ERRNO.EPIPE);
    return;
  }
  if (!receiveSegment(c, segment, packet)) return;
  if (state === TcpState.ESTABLISHED) c.state = TcpState.CLOSE_WAIT;
  else if (state === TcpState.FIN_WAIT_2) tcp.enterTimeWait(c);
  else if (c.finSent && c.sndUna === c.sndNxt) tcp.enterTimeWait(c);
  else c.state = TcpState.CLOSING;
  if (c.state === TcpState.CLOSE_WAIT) tcp.raise(c, TcpEvent.READABLE);
}
