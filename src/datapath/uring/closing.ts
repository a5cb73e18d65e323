/**
 * The end of a socket whose queue is closed: what was pushed is still sent, what is in flight in the kernel comes home,
 * and the peer must not be reset for having sent more than was read. Only then the file is closed and the place free.
 * It writes cancels and closes into the ring, calls shutdown and close, and keeps one timer while connections linger.
 */
import { unlinkSync } from 'node:fs';
import { IsthmusError } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import { close } from '../../linux/libc.ts';
import * as linux from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { SqeFlag } from '../../linux/uring-abi.ts';
import { prepCancelUserData, prepCloseSlot, prepRecv } from '../../linux/uring-prep.ts';
import type { Outbox } from '../sockets/outbox.ts';
import { Phase } from '../sockets/sock.ts';
import type { Acceptor } from './accept.ts';
import type { Connector } from './connect.ts';
import type { Descriptors } from './descriptors.ts';
import type { Receiver } from './receive.ts';
import { Flight, Kind, SLOT_SHIFT, type SocketTable, type UringSocket } from './socket.ts';

/** Milliseconds that a peer may take to acknowledge what a closed queue still had to send, if LINGER does not say. */
const SEND_TIMEOUT_MS = 30_000;
/** Milliseconds that a closed connection discards what its peer still sends, so that the reply is not lost in a reset. */
const LINGER_MS = 2000;
const SWEEP_MS = 250;
/** Bytes to discard per receive. */
const DISCARD_BYTES = 1 << 20;

export interface CloserParts {
  readonly ring: Ring;
  readonly table: SocketTable;
  readonly outbox: Outbox;
  readonly receiver: Receiver;
  readonly acceptor: Acceptor;
  readonly connector: Connector;
  readonly descriptors: Descriptors;
  /** Something was queued outside a turn: see that one comes. */
  readonly wake: () => void;
}

export class Closer {
  /** The datapath ends: nothing lingers. */
  ending = false;
  /** Sockets of closed queues that are not closed yet. */
  draining = 0;
  readonly #parts: CloserParts;
  readonly #lingering = new Set<UringSocket>();
  #sweeper: ReturnType<typeof setInterval> | null = null;

  constructor(parts: CloserParts) {
    this.#parts = parts;
  }

  /** The queue is closed and its operations have been failed. */
  close(socket: UringSocket): void {
    const lossy = socket.unsent > 0 && socket.failed !== 0 && socket.type === SocketType.STREAM;
    if (socket.linger === 0 || lossy || socket.phase === Phase.CONNECTING) {
      this.abort(socket);
      return;
    }
    if (this.#parts.receiver.drop(socket)) socket.unread = true;
    if (socket.phase !== Phase.OPEN || !isTcp(socket)) socket.ended = true; // nothing to linger for
    this.#begin(socket);
    if (socket.outHead < 0) this.advance(socket);
    else if (socket.blocked) this.limitSending(socket);
  }

  /** The kernel itself gives up on a peer that never reads: no timer of ours per connection. */
  limitSending(socket: UringSocket): void {
    if (!isTcp(socket)) return;
    const ms = socket.linger > 0 ? socket.linger * 1000 : SEND_TIMEOUT_MS;
    try {
      this.#parts.descriptors.use(socket, (fd) => {
        linux.setsockopt(fd, linux.IPPROTO_TCP, linux.TCP_USER_TIMEOUT, ms);
      });
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error; // no descriptor is free: then the kernel's own limit holds
    }
  }

  /** Unsent bytes are dropped; a connection is reset, so that the peer cannot take a part for the whole. */
  abort(socket: UringSocket): void {
    const { receiver, connector } = this.#parts;
    receiver.drop(socket);
    if (isTcp(socket) && socket.phase >= Phase.OPEN) {
      if (socket.fixed) connector.reset(socket);
      else linux.setLinger(socket.file, 0);
    }
    this.#lingering.delete(socket);
    this.#begin(socket);
    socket.aborted = true;
    socket.ended = true;
    this.advance(socket);
  }

  #begin(socket: UringSocket): void {
    if (socket.phase !== Phase.CLOSING && socket.phase !== Phase.LINGERING) this.draining++;
    socket.phase = Phase.CLOSING;
  }

  /** One thing less is in flight, or nothing is left to send: goes on with the closing as far as it can. */
  advance(socket: UringSocket): void {
    const { ring, receiver, acceptor, connector, outbox } = this.#parts;
    if (socket.phase !== Phase.CLOSING) return;
    if (socket.aborted && socket.flying === 0) outbox.dropAll(socket);
    if (socket.outHead >= 0) {
      if (socket.aborted && !socket.cancelled) {
        socket.cancelled = true;
        this.#cancel(socket, Kind.SEND);
      }
      if (!socket.aborted) return; // the sender says when all is sent
    }
    if (socket.receiving === Flight.ARMED) {
      if (socket.listener) acceptor.cancel(socket);
      else receiver.cancel(socket);
    }
    connector.cancel(socket);
    if (socket.discarding === Flight.ARMED) {
      socket.discarding = Flight.CANCELLING;
      this.#cancel(socket, Kind.DISCARD);
    }
    if (socket.flying > 0 || socket.receiving !== Flight.NONE) return;
    if (socket.connectFlight !== Flight.NONE || socket.discarding !== Flight.NONE) return;
    if (!socket.ended && !this.ending && (socket.unread || !socket.received)) {
      // Closing a TCP socket with unread bytes resets it, which destroys what the kernel has still to send.
      this.#discard(socket, linux.MSG_DONTWAIT);
      return;
    }
    if (socket.fixed) prepCloseSlot(ring, socket.slot, SqeFlag.CQE_SKIP, Kind.NONE, 0);
    else close(socket.file);
    this.#parts.table.remove(socket);
    this.draining--;
    if (socket.type === SocketType.DGRAM && this.#parts.table.datagrams === 0) receiver.releaseDatagrams();
  }

  #cancel(socket: UringSocket, kind: number): void {
    const target = (socket.slot << SLOT_SHIFT) | kind;
    prepCancelUserData(this.#parts.ring, target, socket.generation, SqeFlag.CQE_SKIP, Kind.NONE, 0);
  }

  // ---- Lingering -----------------------------------------------------------------------------------------------

  /** Throws away what the peer has sent. With MSG_TRUNC nothing is copied (tcp(7)). */
  #discard(socket: UringSocket, msgFlags: number): void {
    socket.discarding = Flight.ARMED;
    const data = (socket.slot << SLOT_SHIFT) | Kind.DISCARD;
    const { ring } = this.#parts;
    const flags = msgFlags | linux.MSG_TRUNC;
    prepRecv(ring, socket.file, socket.fileFlag, 0, 0, DISCARD_BYTES, flags, data, socket.generation);
  }

  onDiscard(socket: UringSocket, result: number): void {
    socket.discarding = Flight.NONE;
    const more = result > 0 && !socket.aborted && !this.ending;
    if (!more) {
      this.#lingering.delete(socket);
      if (this.#lingering.size === 0) this.#stopSweeping();
      if (socket.phase === Phase.LINGERING) socket.phase = Phase.CLOSING;
      socket.ended = true;
      this.advance(socket);
      return;
    }
    if (socket.phase !== Phase.LINGERING) {
      socket.phase = Phase.LINGERING;
      socket.deadline = performance.now() + LINGER_MS;
      this.#parts.descriptors.shut(socket);
      this.#lingering.add(socket);
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS);
    }
    this.#discard(socket, 0);
  }

  #sweep(): void {
    const now = performance.now();
    let any = false;
    for (const socket of this.#lingering) {
      if (now < socket.deadline || socket.discarding !== Flight.ARMED) continue;
      socket.discarding = Flight.CANCELLING;
      this.#cancel(socket, Kind.DISCARD);
      any = true;
    }
    if (any) this.#parts.wake();
  }

  #stopSweeping(): void {
    if (this.#sweeper !== null) clearInterval(this.#sweeper);
    this.#sweeper = null;
  }

  // ---- The end of the datapath ---------------------------------------------------------------------------------

  /** What has not been sent never will be: a reset says so. The rest is closed in order. */
  abandon(socket: UringSocket): void {
    this.ending = true;
    this.#stopSweeping();
    if (socket.path !== null) unlinkSocket(socket.path);
    if (socket.outHead >= 0 && socket.type === SocketType.STREAM) this.abort(socket);
    else {
      this.#lingering.delete(socket);
      this.#parts.receiver.drop(socket);
      this.#begin(socket);
      socket.aborted = true;
      this.advance(socket);
    }
  }
}

function isTcp(socket: UringSocket): boolean {
  return socket.type === SocketType.STREAM && socket.family !== Family.UNIX;
}

/** Removes the file of a Unix socket; that it is gone already is no error. */
export function unlinkSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch {}
}
