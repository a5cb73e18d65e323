/**
 * Loss recovery: what is lost, how much may be sent meanwhile, and when it is over (RFC 5681, 6582, 6675, 6937).
 * It touches the connection's scoreboard and windows; output retransmits what is marked here.
 */
import type { Connection } from './connection.ts';
import { Phase } from './constants.ts';
import { Mark, Rec } from './sent-records.ts';

/** Duplicate acknowledgements that mean loss (RFC 5681 3.2). */
export const DUP_THRESH = 3;

/** Bytes thought to be in the network (RFC 6675's pipe). */
export function pipe(c: Connection): number {
  return ((c.sndNxt - c.sndUna) | 0) - c.sackedBytes - c.lostBytes + c.retransBytes;
}

/** Marks record `i` as lost; of one that was retransmitted, that retransmission. False where it was known. */
export function markLost(c: Connection, i: number): boolean {
  const { words } = c.sent;
  const at = c.sent.at(i);
  const flags = words[at + Rec.FLAGS]!;
  const length = words[at + Rec.LENGTH]!;
  if ((flags & Mark.SACKED) !== 0) return false;
  if ((flags & Mark.LOST) === 0) c.lostBytes += length;
  else if ((flags & Mark.RETRANSMITTED) === 0) return false;
  if ((flags & Mark.RETRANSMITTED) !== 0) c.retransBytes -= length;
  words[at + Rec.FLAGS] = (flags | Mark.LOST) & ~Mark.RETRANSMITTED;
  return true;
}

/** RFC 6675's IsLost, for when RACK is off: enough SACKed above it, in segments or in bytes. True where one is newly lost. */
export function detectSackLoss(c: Connection): boolean {
  const { sent } = c;
  const { words } = sent;
  let bytes = 0;
  let segments = 0;
  let found = false;
  for (let i = sent.count - 1; i >= 0; i--) {
    const at = sent.at(i);
    const flags = words[at + Rec.FLAGS]!;
    if ((flags & Mark.SACKED) !== 0) {
      bytes += words[at + Rec.LENGTH]!;
      segments++;
    } else if ((flags & Mark.LOST) === 0 && (segments >= DUP_THRESH || bytes > (DUP_THRESH - 1) * c.mss)) {
      if (markLost(c, i)) found = true;
    }
  }
  return found;
}

/** Loss has been found: the window is reduced once until everything sent so far is acknowledged. */
export function enterRecovery(c: Connection): void {
  if (c.phase !== Phase.OPEN) return;
  const flight = (c.sndNxt - c.sndUna) | 0;
  c.tcp.counters.fastRecoveries++;
  c.ssthresh = c.congestion.reduce(c, flight);
  c.recoverFs = Math.max(flight, 1);
  c.prrDelivered = 0;
  c.prrOut = 0;
  c.recoveryPoint = c.sndNxt;
  c.phase = Phase.RECOVERY;
  c.tlpActive = false;
  // The first retransmission goes out whatever the pipe (RFC 6675 section 5, step 4.3).
  c.cwnd = Math.max(pipe(c), 0) + c.mss;
}

/** Proportional rate reduction: what may be sent for `delivered` newly delivered bytes (RFC 6937 section 3.1). */
export function reduceProportionally(c: Connection, delivered: number): void {
  c.prrDelivered += delivered;
  const inPipe = pipe(c);
  let send: number;
  if (inPipe > c.ssthresh) send = Math.ceil((c.prrDelivered * c.ssthresh) / c.recoverFs) - c.prrOut;
  else send = Math.min(c.ssthresh - inPipe, Math.max(c.prrDelivered - c.prrOut, delivered) + c.mss);
  if (c.prrOut === 0) send = Math.max(send, c.mss);
  c.cwnd = Math.max(inPipe + Math.max(send, 0), c.mss);
}

/** Everything that was in flight when loss was found is acknowledged. */
export function leaveRecovery(c: Connection): void {
  if (c.phase === Phase.RECOVERY) c.cwnd = Math.max(c.ssthresh, c.mss);
  c.phase = Phase.OPEN;
  c.dupAcks = 0;
  if (!c.sackEnabled) c.sackedBytes = 0;
  if (c.reoWndPersist > 0 && --c.reoWndPersist === 0) c.reoWndMult = 1;
}

/** A retransmission timeout (RFC 5681 3.1, RFC 6298 5.4): all that is not SACKED counts as lost and goes out again slowly. */
export function enterLoss(c: Connection): void {
  const { sent } = c;
  const { words } = sent;
  // Only the first of several timeouts in a row says something about congestion.
  if (c.retries === 1) c.ssthresh = c.congestion.reduce(c, (c.sndNxt - c.sndUna) | 0);
  c.congestion.timedOut(c);
  c.cwnd = c.mss;
  c.phase = Phase.LOSS;
  c.recoveryPoint = c.sndNxt;
  c.dupAcks = 0;
  c.tlpActive = false;
  // The oldest segment SACKed and still not acknowledged: the peer has dropped what it SACKed (RFC 2018 section 8).
  const reneged = (words[sent.at(0) + Rec.FLAGS]! & Mark.SACKED) !== 0;
  c.lostBytes = 0;
  c.retransBytes = 0;
  if (reneged || !c.sackEnabled) {
    c.sackedBytes = 0;
    c.sackedCount = 0;
  }
  for (let i = 0; i < sent.count; i++) {
    const at = sent.at(i);
    let flags = words[at + Rec.FLAGS]!;
    if (reneged) flags &= ~Mark.SACKED;
    if ((flags & Mark.SACKED) === 0) {
      flags = (flags | Mark.LOST) & ~Mark.RETRANSMITTED;
      c.lostBytes += words[at + Rec.LENGTH]!;
    }
    words[at + Rec.FLAGS] = flags;
  }
}

/** Everything in flight is to be sent again at once, without a reduction: the path's MTU is smaller, or a window has opened. */
export function resendAll(c: Connection): void {
  for (let i = 0; i < c.sent.count; i++) markLost(c, i);
}
