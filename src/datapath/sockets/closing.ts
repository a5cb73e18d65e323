/**
 * The end of a socket whose queue is closed: what was pushed is still sent, then the peer must not be reset for having
 * sent more than was read. It shuts down, drains and closes descriptors, with one timer of the event loop meanwhile.
 */
import { unlinkSync } from 'node:fs';
import { ERRNO } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import * as linux from '../../linux/socket.ts';
import type { Outbox } from './outbox.ts';
import { Phase, type Sock } from './sock.ts';
import type { SocketTable } from './table.ts';

/** Milliseconds that a peer may take to acknowledge what a closed queue still had to send, if LINGER does not say. */
const SEND_TIMEOUT_MS = 30_000;
/** Milliseconds that a closed connection discards what its peer still sends, so that the reply is not lost in a reset. */
const LINGER_MS = 1000;
const SWEEP_MS = 250;
/** Bytes and calls to discard per event. */
const DISCARD_BYTES = 1 << 20;
const DISCARDS = 4;

export class Closer {
  /** Sockets of closed queues that still send or linger. */
  draining = 0;
  readonly #table: SocketTable;
  readonly #outbox: Outbox;
  readonly #now: () => number;
  /** Told when a socket is done without anything having arrived, so that the host looks whether it may sleep for good. */
  readonly #onIdle: () => void;
  readonly #lingering = new Set<Sock>();
  #sweeper: ReturnType<typeof setInterval> | null = null;

  constructor(table: SocketTable, outbox: Outbox, now: () => number, onIdle: () => void) {
    this.#table = table;
    this.#outbox = outbox;
    this.#now = now;
    this.#onIdle = onIdle;
  }

  /** The queue is closed and its operations have been failed. */
  close(sock: Sock): void {
    if (sock.linger === 0) this.abort(sock);
    else if (sock.outHead < 0) this.#finish(sock);
    else {
      sock.phase = Phase.CLOSING;
      this.draining++;
      // The kernel itself then gives up on a peer that never reads: no timer of ours per connection.
      const ms = sock.linger > 0 ? sock.linger * 1000 : SEND_TIMEOUT_MS;
      if (isTcp(sock)) linux.setsockopt(sock.fd, linux.IPPROTO_TCP, linux.TCP_USER_TIMEOUT, ms);
    }
  }

  /** A closing socket has sent everything. */
  sent(sock: Sock): void {
    this.draining--;
    this.#finish(sock);
  }

  /** Unsent bytes are dropped; a connection is reset, so that the peer cannot take a part for the whole. */
  abort(sock: Sock): void {
    if (sock.phase === Phase.CLOSING || sock.phase === Phase.LINGERING) this.draining--;
    this.#lingering.delete(sock);
    this.#outbox.dropAll(sock);
    if (isTcp(sock)) linux.setLinger(sock.fd, 0);
    this.#table.remove(sock);
  }

  // Closing a TCP socket with unread bytes resets it, which destroys what the kernel has still to send.
  #finish(sock: Sock): void {
    if (isTcp(sock) && sock.readable && !sock.ended && sock.failed === 0 && sock.phase >= Phase.OPEN) {
      sock.phase = Phase.LINGERING;
      sock.deadline = this.#now() + LINGER_MS;
      this.draining++;
      this.#lingering.add(sock);
      linux.shutdown(sock.fd, linux.SHUT_WR);
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS);
      this.discard(sock);
    } else this.#table.remove(sock);
  }

  /** A lingering socket has more to throw away. */
  discard(sock: Sock): void {
    for (let i = 0; i < DISCARDS; i++) {
      const got = linux.recv(sock.fd, 0, DISCARD_BYTES, linux.MSG_TRUNC);
      if (got === -ERRNO.EAGAIN) return;
      if (got <= 0 && got !== -ERRNO.EINTR) {
        this.#done(sock);
        return;
      }
    }
  }

  #done(sock: Sock): void {
    this.draining--;
    this.#lingering.delete(sock);
    this.#table.remove(sock);
    if (this.#lingering.size === 0) this.#stopSweeping();
  }

  #sweep(): void {
    const now = this.#now();
    for (const sock of this.#lingering) if (now >= sock.deadline) this.#done(sock);
    if (this.#lingering.size === 0) this.#onIdle();
  }

  #stopSweeping(): void {
    if (this.#sweeper !== null) clearInterval(this.#sweeper);
    this.#sweeper = null;
  }

  /** The datapath ends. What has not been sent never will be: a reset says so. */
  abandon(sock: Sock): void {
    if (sock.outHead >= 0 && isTcp(sock)) linux.setLinger(sock.fd, 0);
    this.#outbox.dropAll(sock);
    if (sock.path !== null) unlinkSocket(sock.path);
    this.#table.remove(sock);
  }

  dispose(): void {
    this.#stopSweeping();
    this.#lingering.clear();
  }
}

function isTcp(sock: Sock): boolean {
  return sock.type === SocketType.STREAM && sock.family !== Family.UNIX;
}

/** Removes the file of a Unix socket; that it is gone already is no error. */
export function unlinkSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch {}
}
