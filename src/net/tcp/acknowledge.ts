/**
 * What an acknowledgement does to the sending side: it frees data, times round trips, fills the scoreboard, moves the
 * windows and starts or ends loss recovery (RFC 9293 3.10.7.4, RFC 5681, 2018). It touches the connection only.
 */
import { Flag, type TcpSegment } from '../wire/tcp.ts';
import type { Connection } from './connection.ts';
import { Phase, Retransmit, TcpEvent } from './constants.ts';
import { detectRackLoss, rackDelivered, rackDuplicate } from './rack.ts';
import {
  DUP_THRESH,
  detectSackLoss,
  enterRecovery,
  leaveRecovery,
  markLost,
  reduceProportionally,
  resendAll,
} from './recovery.ts';
import { sampleRtt } from './rto.ts';
import { Mark, Rec } from './sent-records.ts';
import { armTimeout, rearmRetransmit } from './timers.ts';

/** Bytes the last {@link removeAcknowledged} and {@link markSacked} found newly delivered. */
let delivered = 0;

/**
 * An acknowledgement of what is in flight or was: SND.UNA ≤ SEG.ACK ≤ SND.NXT, from a segment that passed all checks.
 */
export function acknowledge(c: Connection, segment: TcpSegment): void {
  const before = c.sndUna;
  const { ack } = segment;
  const acked = (ack - before) | 0;
  const flight = (c.sndNxt - before) | 0;
  const echoAge = c.tsEnabled && segment.hasTimestamps ? (c.tcp.nowMs + c.tsOffset - segment.tsEcr) | 0 : -1;
  delivered = 0;
  if (acked > 0) removeAcknowledged(c, ack, echoAge);
  const oldSacked = c.sackedBytes;
  const duplicate = c.sackEnabled && segment.sackCount > 0 && readSack(c, segment, echoAge);
  const oldWindow = c.sndWnd;
  updateWindow(c, segment);
  if (acked > 0) {
    c.retries = 0;
    c.waitingSince = c.tcp.nowMs;
    c.softError = 0;
    if (((ack - c.recoveryPoint) | 0) > 0x3fffffff) c.recoveryPoint = (ack - 1) | 0;
  } else if (c.sndWnd === 0 && !c.orphan) c.retries = 0;
  if (c.tlpActive) tailProbeAnswered(c, segment, acked, duplicate);
  const isDuplicate =
    acked === 0 &&
    flight > 0 &&
    segment.length === 0 &&
    (c.sackEnabled ? c.sackedBytes > oldSacked : c.sndWnd === oldWindow && oldWindow > 0);
  if (isDuplicate) c.tcp.counters.dupAcks++;
  respond(c, acked, flight, isDuplicate);
  if (acked > 0 || c.retransmitKind === Retransmit.NONE) {
    if (c.retransmitKind !== Retransmit.REORDER) rearmRetransmit(c);
  }
  if (c.sndWnd > oldWindow) windowOpened(c);
  c.tcp.wantOutput(c);
}

/** Header prediction's part: new data acknowledged, nothing lost or SACKed, the window as it was. */
export function acknowledgeInOrder(c: Connection, segment: TcpSegment): void {
  const { ack } = segment;
  const flight = (c.sndNxt - c.sndUna) | 0;
  const acked = (ack - c.sndUna) | 0;
  const echoAge = c.tsEnabled ? (c.tcp.nowMs + c.tsOffset - segment.tsEcr) | 0 : -1;
  removeAcknowledged(c, ack, echoAge);
  c.retries = 0;
  c.waitingSince = c.tcp.nowMs;
  if (((ack - c.recoveryPoint) | 0) > 0x3fffffff) c.recoveryPoint = (ack - 1) | 0;
  grow(c, acked, flight);
  rearmRetransmit(c);
  if (((c.sndEnd - c.sndNxt) | 0) > 0 || c.finQueued) c.tcp.wantOutput(c);
}

/** The window grows only when it was what limited us (RFC 7661's reason; RFC 9438 4.2). */
function grow(c: Connection, acked: number, flight: number): void {
  const inUse = c.cwnd < c.ssthresh ? 2 * flight >= c.cwnd : flight + c.mss >= c.cwnd;
  if (inUse) c.congestion.acknowledged(c, acked);
}

function respond(c: Connection, acked: number, flight: number, isDuplicate: boolean): void {
  const left = c.phase !== Phase.OPEN && acked > 0 && ((c.sndUna - c.recoveryPoint) | 0) >= 0;
  if (left) leaveRecovery(c);
  if (c.sackEnabled) {
    const busy = c.sackedBytes > 0 || c.phase !== Phase.OPEN;
    const found = busy && (c.tcp.config.rack ? detectRackLoss(c) : detectSackLoss(c));
    if (found && c.phase === Phase.OPEN) enterRecovery(c);
  } else countDuplicates(c, acked, isDuplicate);
  if (c.phase === Phase.RECOVERY) {
    if (delivered > 0 || isDuplicate) reduceProportionally(c, delivered);
  } else if (acked > 0 && !left) {
    if (c.phase === Phase.LOSS) c.congestion.acknowledged(c, acked);
    else grow(c, acked, flight);
  }
}

/** NewReno without SACK (RFC 6582, RFC 3042): each duplicate stands for a segment that has left the network. */
function countDuplicates(c: Connection, acked: number, isDuplicate: boolean): void {
  if (c.sent.count === 0) {
    c.dupAcks = 0;
    c.sackedBytes = 0;
    return;
  }
  const { words } = c.sent;
  if (acked > 0) {
    if (c.phase === Phase.RECOVERY) {
      // A partial acknowledgement: the next one is missing too.
      c.sackedBytes = Math.max(0, c.sackedBytes - Math.max(0, acked - c.mss));
      if ((words[c.sent.at(0) + Rec.FLAGS]! & Mark.LOST) === 0) markLost(c, 0);
    } else {
      c.dupAcks = 0;
      c.sackedBytes = 0;
    }
  } else if (isDuplicate && c.phase !== Phase.LOSS) {
    c.dupAcks++;
    delivered += c.mss;
    // RFC 6582 section 3.2, step 2: not for what was sent before the last recovery.
    if (c.phase === Phase.OPEN && c.dupAcks >= DUP_THRESH && ((c.sndUna - c.recoveryPoint) | 0) > 0) {
      markLost(c, 0);
      enterRecovery(c);
    }
    const rest = ((c.sndNxt - c.sndUna) | 0) - words[c.sent.at(0) + Rec.LENGTH]!;
    c.sackedBytes = Math.min(c.sackedBytes + c.mss, rest);
  }
  // The guess must never make the pipe negative.
  const most = Math.max(0, ((c.sndNxt - c.sndUna) | 0) - c.lostBytes);
  if (c.sackedBytes > most) c.sackedBytes = most;
}

function removeAcknowledged(c: Connection, ack: number, echoAge: number): void {
  const { sent } = c;
  let rtt = -1;
  let retransmitted = false;
  let again = 0;
  while (sent.count > 0) {
    const { words } = sent;
    const at = sent.at(0);
    const seq = words[at + Rec.SEQ]!;
    const length = words[at + Rec.LENGTH]!;
    const flags = words[at + Rec.FLAGS]!;
    const covered = (ack - seq) | 0;
    if (covered <= 0) break;
    if (covered < length) {
      forget(c, flags & ~Mark.SACKED, covered);
      if ((flags & Mark.SACKED) !== 0) c.sackedBytes -= covered;
      else delivered += covered;
      words[at + Rec.SEQ] = ack;
      words[at + Rec.LENGTH] = length - covered;
      words[at + Rec.FLAGS] = flags & ~Mark.SYN;
      break;
    }
    forget(c, flags, length);
    if ((flags & Mark.EVER) !== 0) {
      retransmitted = true;
      again = (c.tcp.nowUs - words[at + Rec.SENT_US]!) | 0;
    } else if ((flags & Mark.SACKED) === 0) rtt = (c.tcp.nowUs - words[at + Rec.SENT_US]!) | 0;
    if ((flags & Mark.SACKED) === 0) {
      delivered += length;
      if (c.sackEnabled) rackDelivered(c, words[at + Rec.SENT_US]!, (seq + length) | 0, flags, echoAge);
    }
    sent.shift();
  }
  c.sndUna = ack;
  c.sendQueue.acknowledge(ack);
  if (((ack - c.fack) | 0) > 0) c.fack = ack;
  if (rtt >= 0 && !retransmitted) timed(c, rtt);
  // RFC 7323 4: the echo says which copy was acknowledged. One older than the last copy is that of a segment whose
  // first acknowledgement was lost: it measures our timeout, not the path.
  else if (echoAge >= 0 && retransmitted && echoAge * 1000 <= again + 2000) timed(c, echoAge * 1000);
  if (c.wasFull && c.unsent <= c.sendBuffer >> 1) {
    c.wasFull = false;
    c.tcp.raise(c, TcpEvent.WRITABLE);
  }
}

function timed(c: Connection, rtt: number): void {
  // An echo older than any timeout is a lie or a clock that wrapped.
  if (rtt > 1_000_000_000) return;
  sampleRtt(c, rtt);
  c.backoff = 0;
}

/** Takes what a record counted for out of the sums. */
function forget(c: Connection, flags: number, length: number): void {
  if (flags < Mark.SACKED) return;
  if ((flags & Mark.SACKED) !== 0) {
    c.sackedBytes -= length;
    c.sackedCount--;
  }
  if ((flags & Mark.LOST) !== 0) c.lostBytes -= length;
  if ((flags & Mark.RETRANSMITTED) !== 0) c.retransBytes -= length;
}

/** Fills the scoreboard (RFC 2018, 6675). True when the first block reports a duplicate (RFC 2883 section 4). */
function readSack(c: Connection, segment: TcpSegment, echoAge: number): boolean {
  const { sack } = segment;
  const first = sack[0]!;
  const firstEnd = sack[1]!;
  let duplicate = ((first - segment.ack) | 0) < 0;
  if (!duplicate && segment.sackCount > 1) {
    duplicate = ((first - sack[2]!) | 0) >= 0 && ((sack[3]! - firstEnd) | 0) >= 0;
  }
  if (duplicate) rackDuplicate(c);
  for (let b = 0; b < segment.sackCount; b++) {
    const start = sack[2 * b]!;
    const end = sack[2 * b + 1]!;
    // Blocks outside of what is in flight are stale or invented.
    if (((end - start) | 0) <= 0 || ((start - c.sndUna) | 0) < 0 || ((end - c.sndNxt) | 0) > 0) continue;
    markSacked(c, start, end, echoAge);
  }
  return duplicate;
}

function markSacked(c: Connection, start: number, end: number, echoAge: number): void {
  const { sent } = c;
  const { words } = sent;
  for (let i = firstFrom(c, start); i < sent.count; i++) {
    const at = sent.at(i);
    const seq = words[at + Rec.SEQ]!;
    const length = words[at + Rec.LENGTH]!;
    const flags = words[at + Rec.FLAGS]!;
    // Only whole segments count; the peer got what we sent, so that blocks end where segments do.
    if (((seq + length - end) | 0) > 0) return;
    if ((flags & Mark.SACKED) !== 0) continue;
    if ((flags & Mark.LOST) !== 0) c.lostBytes -= length;
    if ((flags & Mark.RETRANSMITTED) !== 0) c.retransBytes -= length;
    words[at + Rec.FLAGS] = (flags | Mark.SACKED) & ~(Mark.LOST | Mark.RETRANSMITTED);
    c.sackedBytes += length;
    c.sackedCount++;
    delivered += length;
    rackDelivered(c, words[at + Rec.SENT_US]!, (seq + length) | 0, flags, echoAge);
  }
}

/** The first record that begins at `start` or later. */
function firstFrom(c: Connection, start: number): number {
  const { sent } = c;
  let low = 0;
  let high = sent.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (((sent.words[sent.at(middle) + Rec.SEQ]! - start) | 0) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** RFC 9293 3.10.7.4: only from a segment not older than the last that set it. */
export function updateWindow(c: Connection, segment: TcpSegment): void {
  const newer = (segment.seq - c.sndWl1) | 0;
  if (newer < 0 || (newer === 0 && ((segment.ack - c.sndWl2) | 0) < 0)) return;
  const shift = (segment.flags & Flag.SYN) !== 0 ? 0 : c.sndScale;
  c.sndWnd = segment.window << shift;
  if (c.sndWnd > c.sndMaxWnd) c.sndMaxWnd = c.sndWnd;
  c.sndWl1 = segment.seq;
  c.sndWl2 = segment.ack;
}

/** The peer takes data again: what was sent into its closed window goes out at once. */
function windowOpened(c: Connection): void {
  if (c.retransmitKind !== Retransmit.PERSIST) return;
  c.retransmitKind = Retransmit.NONE;
  c.backoff = 0;
  c.retries = 0;
  resendAll(c);
  if (c.sent.count > 0) armTimeout(c);
}

/** RFC 8985 7.4.2: did the probe repair a loss? Then the window is reduced, as for any loss. */
function tailProbeAnswered(c: Connection, segment: TcpSegment, acked: number, duplicate: boolean): void {
  const past = (segment.ack - c.tlpEnd) | 0;
  if (past < 0) return;
  const both = past === 0 && acked === 0 && segment.dataLength === 0 && segment.sackCount === 0;
  if (!c.tlpRetransmit || duplicate || both) {
    c.tlpActive = false;
    return;
  }
  if (past === 0) return;
  c.tlpActive = false;
  c.ssthresh = c.congestion.reduce(c, Math.max((c.sndNxt - c.sndUna) | 0, c.cwnd));
  c.cwnd = Math.min(c.cwnd, c.ssthresh);
}
