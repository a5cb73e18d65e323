/**
 * Connections whose queue is closed and that live on: what was pushed is still sent, and the peer must not be reset for
 * having sent more than was read. It touches those connections, and a timer while there are any.
 */
import type { Timed, Timers } from '../../net/flow.ts';
import type { Connection } from '../../net/tcp/connection.ts';
import { TcpState } from '../../net/tcp/constants.ts';

/** Milliseconds that a peer may take to acknowledge what a closed queue still had to send, if LINGER does not say. */
const SEND_TIMEOUT_MS = 30_000;
/** Milliseconds that a closed connection discards what its peer still sends, so that the reply is not lost in a reset. */
const LINGER_MS = 1000;
const SWEEP_MS = 250;
/** Connections that may be over and still in the list. */
const OVER = 64;

export class Closing implements Timed {
  readonly #timers: Timers;
  readonly #now: () => number;
  readonly #connections: Connection[] = [];
  /** When each was closed, by TCP's clock. */
  readonly #since: number[] = [];
  #timer = -1;
  /** The list is looked through when it has grown to this: connections that are over are let go of while they are young. */
  #full = OVER;

  constructor(timers: Timers, now: () => number) {
    this.#timers = timers;
    this.#now = now;
  }

  /** Ends a connection's ownership gracefully. @param linger seconds for what is unsent where positive */
  close(c: Connection, linger: number): void {
    c.discarding = true;
    if (c.unsent > 0) c.userTimeoutMs = linger > 0 ? linger * 1000 : SEND_TIMEOUT_MS;
    c.close();
    if (isOver(c)) return;
    // Its TCP's clock is right, since a call from outside of a turn sets it (Core.touch).
    const { nowMs } = c.tcp;
    if (this.#connections.length >= this.#full) this.#sweep(nowMs);
    this.#connections.push(c);
    this.#since.push(nowMs);
    if (this.#timer < 0) this.#timer = this.#timers.schedule(this.#now() + SWEEP_MS, this);
  }

  /** Connections with something to send that is not acknowledged yet, the end of the stream included. */
  get draining(): number {
    let count = 0;
    for (const c of this.#connections) if (!isOver(c) && c.state !== TcpState.FIN_WAIT_2) count++;
    return count;
  }

  expired(): void {
    if (this.#connections.length > 0) this.#sweep(this.#connections[0]!.tcp.nowMs);
    this.#timer = this.#connections.length === 0 ? -1 : this.#timers.schedule(this.#now() + SWEEP_MS, this);
  }

  #sweep(nowMs: number): void {
    const connections = this.#connections;
    let kept = 0;
    for (let i = 0; i < connections.length; i++) {
      const c = connections[i]!;
      if (isOver(c)) continue;
      // Everything has arrived there, and the peer was given time to take it: from now on it hears that nobody reads.
      if (c.state === TcpState.FIN_WAIT_2 && ((nowMs - this.#since[i]!) | 0) >= LINGER_MS) {
        c.discarding = false;
        continue;
      }
      connections[kept] = c;
      this.#since[kept++] = this.#since[i]!;
    }
    connections.length = kept;
    this.#since.length = kept;
    this.#full = 2 * kept + OVER;
  }
}

function isOver(c: Connection): boolean {
  return c.state === TcpState.CLOSED || c.state === TcpState.TIME_WAIT;
}
