/**
 * A connection's deadlines: retransmission, probes, delayed acknowledgements, keep-alive and the ends of its life.
 * It touches the connection and the timers handed in. One timer of the wheel serves all deadlines: moving one later
 * changes a field, and the wheel's timer, when it fires early, is armed again for what is due next.
 */
import { ERRNO } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { Life, Phase, Retransmit, TcpState } from './constants.ts';
import { flushConnection, probeWindow, sendKeepAlive, sendProbe } from './output.ts';
import { detectRackLoss } from './rack.ts';
import { enterLoss, enterRecovery } from './recovery.ts';
import { currentRto } from './rto.ts';

/** Arms the wheel if a deadline is earlier than what it is armed for. */
export function armTimer(c: Connection): void {
  let at = 0;
  let any = false;
  if (c.retransmitKind !== Retransmit.NONE) {
    at = c.retransmitAt;
    any = true;
  }
  if (c.ackDelayed && (!any || ((c.ackAt - at) | 0) < 0)) {
    at = c.ackAt;
    any = true;
  }
  if (c.lifeKind !== Life.NONE && (!any || ((c.lifeAt - at) | 0) < 0)) {
    at = c.lifeAt;
    any = true;
  }
  if (!any) return;
  const { tcp } = c;
  if (c.timer >= 0) {
    if (((c.timerAt - at) | 0) <= 0) return;
    tcp.timers.cancel(c.timer);
  }
  c.timerAt = at;
  c.timer = tcp.timers.schedule(tcp.deadline(at), c);
}

/**
 * Arms a new connection for when it may first have to acknowledge something, though its SYN has longer. A short connection
 * then is armed once and disarmed once; a longer one is woken once for nothing.
 */
export function armEarly(c: Connection): void {
  const { tcp } = c;
  c.timerAt = (tcp.nowMs + tcp.config.delayedAckMs) | 0;
  c.timer = tcp.timers.schedule(tcp.deadline(c.timerAt), c);
}

export function stopTimers(c: Connection): void {
  c.retransmitKind = Retransmit.NONE;
  c.ackDelayed = false;
  c.lifeKind = Life.NONE;
  if (c.timer < 0) return;
  c.tcp.timers.cancel(c.timer);
  c.timer = -1;
}

export function armRetransmit(c: Connection, kind: number, delayMs: number): void {
  c.retransmitKind = kind;
  c.retransmitAt = (c.tcp.nowMs + delayMs) | 0;
  if (c.timer < 0 || ((c.timerAt - c.retransmitAt) | 0) > 0) armTimer(c);
}

export function armLife(c: Connection, kind: number, delayMs: number): void {
  c.lifeKind = kind;
  c.lifeAt = (c.tcp.nowMs + delayMs) | 0;
  armTimer(c);
}

/** An acknowledgement is due in a while, unless something that is sent carries it. */
export function scheduleAck(c: Connection): void {
  c.ackDelayed = true;
  c.ackAt = (c.tcp.nowMs + c.tcp.config.delayedAckMs) | 0;
  if (c.timer < 0 || ((c.timerAt - c.ackAt) | 0) > 0) armTimer(c);
}

/** The timeout is counted from now, and comes no later than the user timeout does. */
export function armTimeout(c: Connection): void {
  let delay = currentRto(c);
  if (c.userTimeoutMs > 0) {
    const left = (c.waitingSince + c.userTimeoutMs - c.tcp.nowMs) | 0;
    delay = Math.max(1, Math.min(delay, left));
  }
  armRetransmit(c, Retransmit.TIMEOUT, delay);
}

/** After something was sent or acknowledged: the timeout for what is in flight, a tail probe before it, or none. */
export function rearmRetransmit(c: Connection): void {
  if (c.sent.count === 0) {
    c.retransmitKind = Retransmit.NONE;
    return;
  }
  if (probeWanted(c)) armRetransmit(c, Retransmit.PROBE, probeDelay(c));
  else armTimeout(c);
}

/** RFC 8985 7.2: a probe is armed with SACK, outside of recovery, with nothing SACKed. */
function probeWanted(c: Connection): boolean {
  return (
    c.sackEnabled &&
    c.tcp.config.rack &&
    c.phase === Phase.OPEN &&
    !c.tlpActive &&
    c.sackedBytes === 0 &&
    c.hasRtt &&
    c.sndWnd > 0 &&
    c.state >= TcpState.ESTABLISHED
  );
}

/** Two round trips (RFC 8985 7.2), and the peer's delay where it has only one segment to acknowledge. */
function probeDelay(c: Connection): number {
  const { tlpMaxAckDelayMs, tlpLeastMs } = c.tcp.config;
  const delay = c.sent.count === 1 ? c.probeMs + tlpMaxAckDelayMs : Math.max(c.probeMs, tlpLeastMs);
  return Math.max(1, Math.min(delay, currentRto(c)));
}

/** The wheel's timer has fired: everything that is due is done, then it is armed for the rest. */
export function timerExpired(c: Connection): void {
  const { nowMs } = c.tcp;
  if (c.ackDelayed && ((c.ackAt - nowMs) | 0) <= 0) {
    c.ackDelayed = false;
    c.ackNow = true;
    c.tcp.counters.delayedAcks++;
    flushConnection(c);
  }
  if (c.retransmitKind !== Retransmit.NONE && ((c.retransmitAt - nowMs) | 0) <= 0) retransmitDue(c);
  if (c.lifeKind !== Life.NONE && ((c.lifeAt - nowMs) | 0) <= 0) lifeDue(c);
  if (c.state !== TcpState.CLOSED) armTimer(c);
}

function retransmitDue(c: Connection): void {
  const kind = c.retransmitKind;
  c.retransmitKind = Retransmit.NONE;
  if (kind === Retransmit.PERSIST) persistDue(c);
  else if (c.sent.count === 0) return;
  else if (kind === Retransmit.PROBE) {
    sendProbe(c);
    armTimeout(c);
  } else if (kind === Retransmit.REORDER) {
    if (detectRackLoss(c)) {
      enterRecovery(c);
      flushConnection(c);
    }
    if (c.retransmitKind === Retransmit.NONE) armTimeout(c);
  } else timeoutDue(c);
}

/** RFC 6298 5.4 to 5.7. */
function timeoutDue(c: Connection): void {
  const { tcp } = c;
  if (givenUp(c)) return;
  tcp.counters.timeouts++;
  c.retries++;
  c.backoff++;
  enterLoss(c);
  flushConnection(c);
  // The device had no room or no buffer was free: what is lost waits for the next timeout.
  if (c.retransmitKind === Retransmit.NONE && c.state !== TcpState.CLOSED) armTimeout(c);
}

/**
 * RFC 9293 3.8.3: R2 is reached, or the user timeout (RFC 5482). While the peer answers for a window of zero, `retries`
 * begins again with each answer (3.8.6.1).
 */
function givenUp(c: Connection): boolean {
  const { tcp } = c;
  const { config } = tcp;
  let limit = config.dataRetries;
  if (c.state === TcpState.SYN_SENT) limit = config.synRetries;
  else if (c.state === TcpState.SYN_RECEIVED) limit = config.synAckRetries;
  const waited = (tcp.nowMs - c.waitingSince) | 0;
  if (c.userTimeoutMs > 0 ? waited < c.userTimeoutMs : c.retries < limit) return false;
  tcp.destroy(c, c.softError === 0 ? ERRNO.ETIMEDOUT : c.softError);
  return true;
}

/** RFC 9293 3.8.6.1: the window is closed and something waits: ask, less and less often, for ever if answered. */
function persistDue(c: Connection): void {
  if (givenUp(c)) return;
  c.retries++;
  c.backoff++;
  probeWindow(c);
}

function lifeDue(c: Connection): void {
  const kind = c.lifeKind;
  c.lifeKind = Life.NONE;
  if (kind === Life.KEEP_ALIVE) keepAliveDue(c);
  else c.tcp.destroy(c, 0);
}

/** Begins, moves or stops keep-alive, after the option was set or the connection established. */
export function startKeepAlive(c: Connection): void {
  if (c.lifeKind !== Life.NONE && c.lifeKind !== Life.KEEP_ALIVE) return;
  if (!c.keepAlive || c.state < TcpState.ESTABLISHED) {
    c.lifeKind = Life.NONE;
    return;
  }
  c.keepAliveSent = 0;
  armLife(c, Life.KEEP_ALIVE, c.keepAliveIdleMs);
}

/** RFC 9293 3.8.4. The deadline is not moved by each segment; here is looked how long it has been quiet. */
function keepAliveDue(c: Connection): void {
  const { tcp } = c;
  const idle = (tcp.nowMs - c.lastHeardMs) | 0;
  if (c.sent.count > 0 || idle < c.keepAliveIdleMs) {
    // What is in flight has its own timer.
    c.keepAliveSent = 0;
    armLife(c, Life.KEEP_ALIVE, Math.max(1, c.sent.count > 0 ? c.keepAliveIdleMs : c.keepAliveIdleMs - idle));
    return;
  }
  if (c.keepAliveSent >= c.keepAliveProbes || (c.userTimeoutMs > 0 && c.keepAliveSent > 0 && idle >= c.userTimeoutMs)) {
    tcp.reset(c, c.softError === 0 ? ERRNO.ETIMEDOUT : c.softError);
    return;
  }
  c.keepAliveSent++;
  tcp.counters.keepAliveProbes++;
  sendKeepAlive(c);
  armLife(c, Life.KEEP_ALIVE, c.keepAliveIntervalMs);
}
