/**
 * Connections coming to be: SYNs at a listener, cookies that come back, and the answers to our own SYN
 * (RFC 9293 3.10.7.2 and 3.10.7.3, RFC 4987). It touches the listener, the table and new connections.
 */
import { ERRNO } from '../../errors.ts';
import type { Flow } from '../flow.ts';
import { Flag, MAX_WINDOW_SHIFT, type TcpSegment } from '../wire/tcp.ts';
import { acknowledge, updateWindow } from './acknowledge.ts';
import { initialWindow } from './congestion.ts';
import { Connection } from './connection.ts';
import { Phase, TcpEvent, TcpState } from './constants.ts';
import { emitBare, emitCookie, emitSyn } from './emit.ts';
import {
  cookieMss,
  cookieSack,
  cookieTimestamp,
  cookieWindowScale,
  hashedTimestampOffset,
  initialSequence,
  synCookie,
  timestampOffset,
} from './isn.ts';
import type { Listener } from './listener.ts';
import { sendSyn } from './output.ts';
import { Mark, Rec } from './sent-records.ts';
import type { Tcp } from './tcp.ts';
import { startKeepAlive, stopTimers } from './timers.ts';

/** MSS to assume where the peer names none (RFC 9293 3.7.1). */
function defaultMss(flow: Flow): number {
  return flow.family === 4 ? 536 : 1220;
}

/** The shift that lets a buffer of so many bytes be offered in 16 bits (RFC 7323 2.3). */
export function windowShift(receiveBuffer: number): number {
  let shift = 0;
  while (shift < MAX_WINDOW_SHIFT && receiveBuffer >> shift > 65535) shift++;
  return shift;
}

/** Segment sizes from what the peer announced, the path and the options in use. */
export function setMss(c: Connection, peerMss: number): void {
  c.peerMss = peerMss;
  // A peer that announces next to nothing would make us send headers only.
  const wanted = Math.max(64, Math.min(peerMss, c.tcp.pathMss(c.flow)));
  c.mss = wanted - (c.tsEnabled ? 12 : 0);
  c.rcvMss = Math.min(c.rcvMss, c.mss);
}

function takeSynOptions(c: Connection, segment: TcpSegment): void {
  const { config } = c.tcp;
  c.sackEnabled = config.sack && segment.sackPermitted;
  c.tsEnabled = config.timestamps && segment.hasTimestamps;
  if (c.tsEnabled) {
    c.tsRecent = segment.tsVal;
    c.tsRecentAt = c.tcp.nowMs;
  }
  c.scaling = config.windowScaling && segment.windowScale >= 0;
  c.sndScale = c.scaling ? segment.windowScale : 0;
  c.rcvScale = c.scaling ? windowShift(c.receiveBuffer) : 0;
  setMss(c, segment.mss === 0 ? defaultMss(c.flow) : segment.mss);
}

/** A segment for a listening port and no connection; gives the connection that it opens with a cookie, if it does. */
export function listenArrives(
  tcp: Tcp,
  listener: Listener,
  segment: TcpSegment,
  flow: Flow,
  leastIss: number | null,
): Connection | null {
  const { flags } = segment;
  if ((flags & Flag.RST) !== 0) return null;
  if ((flags & Flag.ACK) !== 0) {
    if ((flags & Flag.SYN) === 0) return cookieReturned(tcp, listener, segment, flow);
    emitBare(tcp, flow, segment.ack, 0, Flag.RST, 0);
    return null;
  }
  if ((flags & Flag.SYN) === 0 || (flags & Flag.FIN) !== 0) return null;
  if (listener.full || tcp.table.size >= tcp.config.maxConnections) {
    tcp.counters.listenOverflows++;
    return null;
  }
  const policy = tcp.config.synCookies;
  if (policy === 'always' || listener.halfOpen >= listener.backlog) {
    if (policy === 'never') tcp.counters.listenOverflows++;
    else answerWithCookie(tcp, listener, segment, flow);
    return null;
  }
  const c = newConnection(tcp, listener, flow);
  takeSynOptions(c, segment);
  c.irs = segment.seq;
  c.rcvNxt = (segment.seq + 1) | 0;
  c.rcvAcked = c.rcvNxt;
  c.rcvAdv = c.rcvNxt;
  c.iss = initialSequence(c.flow, tcp.secret, tcp.clock4us);
  c.tsOffset = hashedTimestampOffset();
  // An earlier copy of this SYN may have been answered with a cookie, which is then what the peer acknowledges.
  if (tcp.cookiesRecent) c.iss = cookieFor(tcp, segment, flow);
  if (leastIss !== null && ((c.iss - leastIss) | 0) < 0) c.iss = leastIss;
  startSending(c);
  c.sndWnd = segment.window;
  c.sndMaxWnd = segment.window;
  c.sndWl1 = segment.seq;
  c.sndWl2 = c.iss;
  c.state = TcpState.SYN_RECEIVED;
  listener.halfOpen++;
  tcp.table.add(c);
  sendSyn(c);
  return null;
}

function newConnection(tcp: Tcp, listener: Listener, flow: Flow): Connection {
  const c = new Connection(tcp);
  c.flow.copy(flow);
  c.listener = listener;
  if (listener.noDelay !== null) c.noDelay = listener.noDelay;
  if (listener.receiveBuffer !== null) c.receiveBuffer = listener.receiveBuffer;
  c.lastHeardMs = tcp.nowMs;
  return c;
}

/** Sequence numbers that follow from the ISN. */
export function startSending(c: Connection): void {
  c.sndUna = c.iss;
  c.sndNxt = c.iss;
  c.sndEnd = (c.iss + 1) | 0;
  c.recoveryPoint = c.iss;
  c.fack = c.iss;
  c.cwnd = c.mss * c.tcp.config.initialWindow;
}

function cookieFor(tcp: Tcp, segment: TcpSegment, flow: Flow): number {
  const mss = Math.min(segment.mss === 0 ? defaultMss(flow) : segment.mss, tcp.pathMss(flow));
  return synCookie(flow, tcp.secret, segment.seq, mss, tcp.nowMs);
}

function answerWithCookie(tcp: Tcp, listener: Listener, segment: TcpSegment, flow: Flow): void {
  const cookie = cookieFor(tcp, segment, flow);
  const timestamps = tcp.config.timestamps && segment.hasTimestamps;
  const sack = tcp.config.sack && segment.sackPermitted;
  const scale = tcp.config.windowScaling ? segment.windowScale : -1;
  const tsNow = (tcp.nowMs + timestampOffset(flow, tcp.secret)) | 0;
  const tsVal = cookieTimestamp(tsNow, scale, sack);
  const receiveBuffer = listener.receiveBuffer ?? tcp.config.receiveBuffer;
  const shift = scale >= 0 ? windowShift(receiveBuffer) : -1;
  const window = Math.min(65535, receiveBuffer);
  tcp.counters.cookiesSent++;
  tcp.cookieSent();
  emitCookie(tcp, flow, cookie, (segment.seq + 1) | 0, timestamps, tsVal, segment.tsVal, sack, shift, window);
}

/** An ACK without a connection: the end of a handshake of which we remember nothing, or a stray. */
function cookieReturned(tcp: Tcp, listener: Listener, segment: TcpSegment, flow: Flow): Connection | null {
  if (tcp.config.synCookies === 'never') {
    emitBare(tcp, flow, segment.ack, 0, Flag.RST, 0);
    return null;
  }
  const cookie = (segment.ack - 1) | 0;
  const peerIss = (segment.seq - 1) | 0;
  const mss = cookieMss(flow, tcp.secret, peerIss, cookie, tcp.nowMs);
  if (mss === 0) {
    tcp.counters.cookiesRejected++;
    // Data may have overtaken the first segment of a connection we know nothing of yet: that one will come again.
    if (segment.length === 0 || !tcp.cookiesRecent) emitBare(tcp, flow, segment.ack, 0, Flag.RST, 0);
    return null;
  }
  if (listener.full || tcp.table.size >= tcp.config.maxConnections) {
    tcp.counters.listenOverflows++;
    return null;
  }
  const c = newConnection(tcp, listener, flow);
  c.tsOffset = timestampOffset(c.flow, tcp.secret);
  c.tsEnabled = tcp.config.timestamps && segment.hasTimestamps;
  if (c.tsEnabled) {
    c.sackEnabled = tcp.config.sack && cookieSack(segment.tsEcr);
    const scale = cookieWindowScale(segment.tsEcr);
    c.scaling = tcp.config.windowScaling && scale >= 0;
    c.sndScale = c.scaling ? Math.min(scale, MAX_WINDOW_SHIFT) : 0;
    c.rcvScale = c.scaling ? windowShift(c.receiveBuffer) : 0;
    c.tsRecent = segment.tsVal;
    c.tsRecentAt = tcp.nowMs;
  }
  setMss(c, mss);
  c.irs = peerIss;
  c.rcvNxt = segment.seq;
  c.rcvAcked = segment.seq;
  c.rcvAdv = (c.rcvNxt + Math.min(65535, c.receiveBuffer)) | 0;
  c.iss = cookie;
  startSending(c);
  c.sndUna = c.sndNxt = segment.ack;
  c.sndWl1 = (segment.seq - 1) | 0;
  c.sndWl2 = segment.ack;
  tcp.counters.cookiesAccepted++;
  tcp.table.add(c);
  updateWindow(c, segment);
  established(c);
  return c;
}

/** The handshake is complete. */
export function established(c: Connection): void {
  const { tcp, listener } = c;
  const lost = c.sent.count === 0 && c.rtoMs === tcp.config.initialRtoMs && c.backoff > 0;
  c.state = TcpState.ESTABLISHED;
  c.retries = 0;
  c.backoff = 0;
  c.cwnd = initialWindow(c.mss, tcp.config.initialWindow);
  c.ssthresh = 0x3fffffff;
  c.phase = Phase.OPEN;
  if (lost) {
    // RFC 6298 5.7 and RFC 5681 3.1: a SYN was lost and nothing was measured.
    c.rtoMs = Math.max(3000, tcp.config.initialRtoMs);
    c.cwnd = c.mss;
  }
  startKeepAlive(c);
  if (listener !== null) {
    listener.add(c);
    tcp.raise(c, TcpEvent.ACCEPT);
  } else tcp.raise(c, TcpEvent.CONNECTED | TcpEvent.WRITABLE);
  if (c.finQueued) c.state = TcpState.FIN_WAIT_1;
  if (c.finQueued || ((c.sndEnd - c.sndNxt) | 0) > 0) tcp.wantOutput(c);
}

/** SYN_SENT (RFC 9293 3.10.7.3). */
export function synSentArrives(c: Connection, segment: TcpSegment): void {
  const { tcp } = c;
  const { flags } = segment;
  const hasAck = (flags & Flag.ACK) !== 0;
  if (hasAck && (((segment.ack - c.iss) | 0) <= 0 || ((segment.ack - c.sndNxt) | 0) > 0)) {
    if ((flags & Flag.RST) === 0) emitBare(tcp, c.flow, segment.ack, 0, Flag.RST, 0);
    return;
  }
  if ((flags & Flag.RST) !== 0) {
    if (!hasAck) return;
    tcp.counters.resetsIn++;
    tcp.destroy(c, ERRNO.ECONNREFUSED);
    return;
  }
  if ((flags & Flag.SYN) === 0) return;
  if (hasAck && tcp.config.timestamps && segment.hasTimestamps) {
    // RFC 7323 3.2: an echo of what we never sent marks an old duplicate.
    const age = (tcp.nowMs + c.tsOffset - segment.tsEcr) | 0;
    if (segment.tsEcr !== 0 && age < 0) return;
  }
  takeSynOptions(c, segment);
  c.irs = segment.seq;
  c.rcvNxt = (segment.seq + 1) | 0;
  c.rcvAcked = c.rcvNxt;
  c.rcvAdv = (c.rcvNxt + Math.min(65535, c.receiveBuffer)) | 0;
  c.lastHeardMs = tcp.nowMs;
  c.sndWl1 = (segment.seq - 1) | 0;
  c.sndWl2 = c.iss;
  if (hasAck) {
    acknowledge(c, segment);
    established(c);
    c.ackNow = true;
    tcp.wantOutput(c);
    return;
  }
  // Simultaneous open.
  c.state = TcpState.SYN_RECEIVED;
  updateWindow(c, segment);
  stopTimers(c);
  c.sent.clear();
  c.lostBytes = 0;
  c.retransBytes = 0;
  c.sndNxt = c.iss;
  sendSyn(c);
}

/** A SYN that comes again: our SYN-ACK was lost. */
export function repeatSynAck(c: Connection): void {
  const at = c.sent.at(0) + Rec.FLAGS;
  c.sent.words[at] = c.sent.words[at]! | Mark.EVER;
  emitSyn(c);
}
