/**
 * The user's calls on a connection (RFC 9293 3.10.2 to 3.10.5): send, receive, close, abort.
 * They touch the connection and put it on the TCP's output list; nothing is sent here but a reset.
 */
import { ERRNO } from '../../errors.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import type { Connection } from './connection.ts';
import { Life, MAX_WINDOW, TcpState } from './constants.ts';
import { windowUpdateDue } from './receive.ts';
import { armLife } from './timers.ts';

export function sendOn(c: Connection, buffer: HeapBuffer, last: boolean): boolean {
  const { state, tcp } = c;
  if (c.finQueued || state === TcpState.CLOSED) return false;
  if (buffer.length === 0) {
    buffer.release();
    return true;
  }
  const queued = c.unsent + buffer.length;
  if ((c.sendQueue.count >= tcp.config.maxSendBuffers && !last) || queued >= MAX_WINDOW) {
    tcp.counters.sendRefused++;
    c.wasFull = true;
    return false;
  }
  c.sendQueue.push(buffer, c.sndEnd);
  c.sndEnd = (c.sndEnd + buffer.length) | 0;
  if (queued >= c.sendBuffer) c.wasFull = true;
  if (state >= TcpState.ESTABLISHED) tcp.wantOutput(c);
  return true;
}

export function readConnection(c: Connection): HeapBuffer | null {
  const buffer = c.receiveQueue.shift();
  if (buffer === null) return null;
  if (!c.finReceived && c.state >= TcpState.ESTABLISHED && windowUpdateDue(c)) {
    c.ackNow = true;
    c.tcp.wantOutput(c);
  }
  return buffer;
}

/** RFC 9293 3.10.4, half-close: a FIN after what is queued. */
export function shutdownConnection(c: Connection): void {
  if (c.finQueued) return;
  switch (c.state) {
    case TcpState.CLOSED:
      return;
    case TcpState.SYN_SENT:
    case TcpState.SYN_RECEIVED:
      // The handshake goes on; the FIN goes out when it is over.
      c.finQueued = true;
      return;
    case TcpState.ESTABLISHED:
      c.state = TcpState.FIN_WAIT_1;
      break;
    case TcpState.CLOSE_WAIT:
      c.state = TcpState.LAST_ACK;
      break;
    default:
      return;
  }
  c.finQueued = true;
  c.tcp.wantOutput(c);
}

export function closeConnection(c: Connection): void {
  if (c.orphan) return;
  const unread = c.receiveQueue.bytes > 0;
  c.orphan = true;
  c.user = null;
  c.tcp.forgetEvents(c);
  if (c.state === TcpState.CLOSED || c.state === TcpState.TIME_WAIT) {
    c.receiveQueue.clear();
    return;
  }
  if (unread && !c.discarding) {
    c.tcp.reset(c, ERRNO.ECONNABORTED);
    return;
  }
  if (c.state === TcpState.SYN_SENT) {
    c.tcp.destroy(c, ERRNO.ECANCELED);
    return;
  }
  c.receiveQueue.clear();
  shutdownConnection(c);
  if (c.state === TcpState.FIN_WAIT_2) armLife(c, Life.FIN_WAIT_2, c.tcp.config.finWait2Ms);
}

export function abortConnection(c: Connection): void {
  c.orphan = true;
  c.user = null;
  c.tcp.forgetEvents(c);
  if (c.state === TcpState.CLOSED) c.receiveQueue.clear();
  else c.tcp.reset(c, ERRNO.ECONNABORTED);
}
