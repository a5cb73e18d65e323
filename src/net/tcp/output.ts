/**
 * What a connection sends, and when: retransmissions first, then new data as the windows, Nagle and the device allow,
 * then an acknowledgement if none of these carried it (RFC 9293 3.8.6.2.1, 3.8.6.3). It touches the connection.
 */
import { Flag } from '../wire/tcp.ts';
import { initialWindow } from './congestion.ts';
import type { Connection } from './connection.ts';
import { Phase, Retransmit, TcpState } from './constants.ts';
import { emit, emitSyn, RESERVE_DATA } from './emit.ts';
import { pipe } from './recovery.ts';
import { currentRto } from './rto.ts';
import { Mark, Rec } from './sent-records.ts';
import { armEarly, armRetransmit, armTimeout, rearmRetransmit } from './timers.ts';

/** Sends what may be sent now. */
export function flushConnection(c: Connection): void {
  const { state } = c;
  if (state === TcpState.CLOSED || state === TcpState.TIME_WAIT) {
    if (c.ackNow && state === TcpState.TIME_WAIT) emit(c, c.sndNxt, 0, Flag.ACK);
    return;
  }
  let sent = false;
  if (c.lostBytes > 0) sent = retransmitLost(c);
  if (state >= TcpState.ESTABLISHED) {
    if (((c.sndEnd - c.sndNxt) | 0) > 0 || (c.finQueued && !c.finSent)) sent = sendNew(c) || sent;
    if (sent && c.retransmitKind !== Retransmit.TIMEOUT && c.retransmitKind !== Retransmit.REORDER) rearmRetransmit(c);
    if (c.ackNow) emit(c, c.sndNxt, 0, Flag.ACK);
  } else if (sent && c.retransmitKind === Retransmit.NONE) rearmRetransmit(c);
}

/** Sends the SYN or SYN-ACK for the first time. */
export function sendSyn(c: Connection): void {
  c.sent.push(c.iss, 1, c.tcp.nowUs, Mark.SYN);
  c.sndNxt = (c.iss + 1) | 0;
  c.waitingSince = c.tcp.nowMs;
  // Without a buffer it is lost, as in the network.
  emitSyn(c);
  armEarly(c);
  armTimeout(c);
}

function outOfRoom(c: Connection): boolean {
  if (c.tcp.output.room() > 0) return false;
  c.tcp.wantOutput(c);
  return true;
}

function retransmitLost(c: Connection): boolean {
  const { sent } = c;
  let any = false;
  for (let i = 0; i < sent.count; i++) {
    const at = sent.at(i);
    const flags = sent.words[at + Rec.FLAGS]!;
    if ((flags & (Mark.LOST | Mark.RETRANSMITTED | Mark.SACKED)) !== Mark.LOST) continue;
    const length = Math.min(sent.words[at + Rec.LENGTH]!, c.mss);
    if (pipe(c) + length > c.cwnd) break;
    // A window that has shrunk stops all but the oldest (RFC 9293 3.8.6).
    if (i > 0 && ((sent.words[at + Rec.SEQ]! + length - c.sndUna - c.sndWnd) | 0) > 0) break;
    if (outOfRoom(c) || !resend(c, i)) break;
    any = true;
  }
  return any;
}

/** Sends record `i` again, cut to the segment size of now. */
function resend(c: Connection, i: number): boolean {
  const { sent, tcp } = c;
  let at = sent.at(i);
  let flags = sent.words[at + Rec.FLAGS]!;
  const control = ((flags & Mark.SYN) !== 0 ? 1 : 0) + ((flags & Mark.FIN) !== 0 ? 1 : 0);
  if (sent.words[at + Rec.LENGTH]! - control > c.mss) {
    sent.split(i, c.mss);
    at = sent.at(i);
    flags = sent.words[at + Rec.FLAGS]!;
  }
  const seq = sent.words[at + Rec.SEQ]!;
  const length = sent.words[at + Rec.LENGTH]!;
  if ((flags & Mark.SYN) !== 0) {
    if (!emitSyn(c)) return retryLater(c);
  } else {
    const fin = (flags & Mark.FIN) !== 0 ? 1 : 0;
    if (!emit(c, seq, length - fin, Flag.ACK | (length > fin ? Flag.PSH : 0) | fin)) {
      if (length - fin <= RESERVE_DATA) return retryLater(c);
      sent.split(i, RESERVE_DATA);
      return resend(c, i);
    }
  }
  const { words } = sent;
  if ((flags & Mark.RETRANSMITTED) === 0) c.retransBytes += length;
  words[at + Rec.FLAGS] = flags | Mark.RETRANSMITTED | Mark.EVER;
  words[at + Rec.SENT_US] = tcp.nowUs;
  if (c.phase === Phase.RECOVERY) c.prrOut += length;
  tcp.counters.retransmits++;
  return true;
}

function retryLater(c: Connection): false {
  c.tcp.wantOutput(c);
  return false;
}

function sendNew(c: Connection): boolean {
  const { tcp } = c;
  restartAfterIdle(c);
  let any = false;
  while (!c.finSent) {
    const unsent = (c.sndEnd - c.sndNxt) | 0;
    if (unsent === 0 && !c.finQueued) break;
    const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
    const length = Math.min(unsent, c.mss, Math.max(usable, 0));
    if (holdBack(c, length, unsent)) break;
    if (pipe(c) + length > c.cwnd || c.sent.count >= tcp.config.maxInFlight) break;
    if (outOfRoom(c)) break;
    const fin = c.finQueued && length === unsent;
    if (!sendRange(c, length, fin)) break;
    any = true;
  }
  return any;
}

/**
 * True when a segment of `length` bytes of the `unsent` must wait: for the window (RFC 9293 3.8.6.2.1), in which case
 * the persist timer asks for it, or for Nagle's algorithm (3.7.4).
 */
function holdBack(c: Connection, length: number, unsent: number): boolean {
  if (length === c.mss) return false;
  if (length < unsent) {
    if (length > 0 && 2 * length >= c.sndMaxWnd) return false;
    if (c.sent.count === 0 && c.retransmitKind !== Retransmit.PERSIST) {
      c.waitingSince = c.tcp.nowMs;
      armRetransmit(c, Retransmit.PERSIST, currentRto(c));
    }
    return true;
  }
  return !c.noDelay && !c.finQueued && c.sent.count > 0;
}

function sendRange(c: Connection, length: number, fin: boolean): boolean {
  const { tcp } = c;
  const seq = c.sndNxt;
  const last = ((seq + length - c.sndEnd) | 0) === 0;
  const flags = Flag.ACK | (last && length > 0 ? Flag.PSH : 0) | (fin ? Flag.FIN : 0);
  if (!emit(c, seq, length, flags)) {
    return length > RESERVE_DATA ? sendRange(c, RESERVE_DATA, false) : retryLater(c);
  }
  const total = length + (fin ? 1 : 0);
  if (c.sent.count === 0) {
    c.waitingSince = tcp.nowMs;
    // Nothing older is in flight, and after a long pause the clock of µs has wrapped.
    c.rackValid = false;
  }
  c.sent.push(seq, total, tcp.nowUs, fin ? Mark.FIN : 0);
  c.sndNxt = (seq + total) | 0;
  if (fin) c.finSent = true;
  if (c.phase === Phase.RECOVERY) c.prrOut += total;
  return true;
}

/** RFC 5681 4.1: after a pause longer than the timeout the window says nothing about the path any more. */
function restartAfterIdle(c: Connection): void {
  if (c.sent.count > 0 || ((c.tcp.nowMs - c.lastSentMs) | 0) <= c.rtoMs) return;
  c.cwnd = Math.min(c.cwnd, initialWindow(c.mss, c.tcp.config.initialWindow));
}

/** A tail loss probe: new data if there is any, else the last segment again (RFC 8985 7.3). */
export function sendProbe(c: Connection): void {
  const { tcp, sent } = c;
  if (tcp.output.room() <= 0) return;
  const unsent = (c.sndEnd - c.sndNxt) | 0;
  const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
  const length = Math.min(unsent, c.mss);
  if (length > 0 && usable >= length && sent.count < tcp.config.maxInFlight) {
    if (!sendRange(c, length, c.finQueued && length === unsent)) return;
    c.tlpRetransmit = false;
  } else {
    let last = sent.count - 1;
    const at = sent.at(last);
    const bytes = sent.words[at + Rec.LENGTH]!;
    if (bytes > c.mss) {
      sent.split(last, bytes - c.mss);
      last++;
    }
    if (!resend(c, last)) return;
    c.tlpRetransmit = true;
  }
  tcp.counters.tailProbes++;
  c.tlpActive = true;
  c.tlpEnd = c.sndNxt;
}

/** One byte into a closed window, or again what is there (RFC 9293 3.8.6.1); a window too small for our taste is used. */
export function probeWindow(c: Connection): void {
  const { tcp, sent } = c;
  tcp.counters.windowProbes++;
  if (sent.count > 0) resend(c, 0);
  else {
    const unsent = (c.sndEnd - c.sndNxt) | 0;
    const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
    const length = Math.min(unsent, c.mss, Math.max(usable, 1));
    const fin = c.finQueued && !c.finSent && length === unsent;
    if (length > 0 || fin) sendRange(c, length, fin);
  }
  armRetransmit(c, Retransmit.PERSIST, currentRto(c));
}

/** A segment the peer has acknowledged already, so that it must answer (RFC 9293 3.8.4). */
export function sendKeepAlive(c: Connection): void {
  emit(c, (c.sndNxt - 1) | 0, 0, Flag.ACK);
}
