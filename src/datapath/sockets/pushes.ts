/**
 * What the datapaths over kernel sockets do with a push until something is transmitted: why it is refused, what is appended
 * to the outbox, which push waits for the backlog to drain, and which sockets have something to send. It makes no system call.
 */

import { encodeSockaddr, type IpAddress, SOCKADDR_BYTES } from '../../address/sockaddr.ts';
import { ERRNO } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { OperationFifo } from '../../kernel/operation-fifo.ts';
import { addressText } from '../../linux/sockaddr.ts';
import type { Heap, HeapBuffer, Sga } from '../../ring/heap.ts';
import { type Backlog, NAME_WORDS, type Outbox } from './outbox.ts';
import { Phase } from './sock.ts';

/** Largest payload of a UDP datagram over IPv4. */
const LARGEST_DATAGRAM = 65507;

/** What pushing needs of a socket. */
export interface PushingSocket extends Backlog {
  readonly family: Family;
  readonly type: SocketType;
  readonly phase: Phase;
  readonly about: string;
  /** shutdown was called: nothing may be pushed any more. */
  readonly shut: boolean;
  /** Positive errno that ended the connection, 0 while it is well. On a datagram socket: of a transmit, told once. */
  failed: number;
  /** Is in the list of sockets to transmit from. */
  dirty: boolean;
  /** Pushes over the send limit, waiting for the backlog to drain. */
  readonly pushing: OperationFifo;
}

// Plain fields: the senders read them in their loops. One datapath has one class of sockets, so nothing here is megamorphic.
export class Pushes<S extends PushingSocket> {
  /** Operations settled by transmitting: whoever waits for them must run before anybody sleeps. */
  settled = 0;
  /** Sockets to transmit from, `dirtyCount` of them. */
  readonly dirty: S[] = [];
  dirtyCount = 0;
  readonly #heap: Heap;
  readonly #outbox: Outbox;
  /** Unsent bytes of one socket above which a push waits; it goes on at half of it. */
  readonly #limit: number;
  /** The destination of the datagram being pushed, packed; and whose it is. */
  readonly #to = new Uint8Array(SOCKADDR_BYTES);
  readonly #toWords = new Int32Array(this.#to.buffer);
  #toLength = 0;
  #toHost = '';
  #toPort = -1;

  constructor(heap: Heap, outbox: Outbox, limit: number) {
    this.#heap = heap;
    this.#outbox = outbox;
    this.#limit = limit;
  }

  push(socket: S, sga: Sga, op: Operation<void>): void {
    const single = !Array.isArray(sga);
    const count = single ? 1 : (sga as readonly HeapBuffer[]).length;
    const errno = count > this.#outbox.room ? ERRNO.ENOBUFS : refusal(socket);
    if (errno !== 0) {
      release(sga);
      op.failErrno(errno, 'push', socket.about);
      return;
    }
    if (single) {
      const waits = socket.unsent + (sga as HeapBuffer).length > this.#limit;
      this.#outbox.append(socket, sga as HeapBuffer, waits ? op.token : -1);
      this.#accepted(socket, op, waits, 1);
      return;
    }
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += (sga as readonly HeapBuffer[])[i]!.length;
    const waits = socket.unsent + bytes > this.#limit;
    for (let i = 0; i < count; i++) {
      this.#outbox.append(socket, (sga as readonly HeapBuffer[])[i]!, waits ? op.token : -1);
    }
    this.#accepted(socket, op, waits, count);
  }

  #accepted(socket: S, op: Operation<void>, waits: boolean, count: number): void {
    if (waits) {
      op.datum = count;
      socket.pushing.append(op as Operation<unknown>);
    } else op.complete(undefined);
    this.mark(socket);
  }

  /** There is something to transmit from this socket. */
  mark(socket: S): void {
    if (socket.dirty) return;
    socket.dirty = true;
    this.dirty[this.dirtyCount++] = socket;
  }

  /** A datagram to `to`, else to the peer written in the buffer, else to the connected peer. */
  pushTo(socket: S, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    const errno = this.#refusalOfDatagram(socket, buffer, to);
    if (errno !== 0) {
      buffer.release();
      op.failErrno(errno, 'pushTo', to === null ? socket.about : addressText(to));
      return;
    }
    const waits = socket.unsent + buffer.length > this.#limit;
    const node = this.#outbox.append(socket, buffer, waits ? op.token : -1);
    const bytes = to === null ? buffer.peerLength : this.#toLength;
    this.#outbox.nameLength![node] = bytes;
    if (bytes > 0) {
      const from = to === null ? this.#heap.region.i32 : this.#toWords;
      const names = this.#outbox.names!;
      const start = to === null ? buffer.peerOffset >> 2 : 0;
      for (let w = 0; w < NAME_WORDS; w++) names[node * NAME_WORDS + w] = from[start + w]!;
    }
    this.#accepted(socket, op, waits, 1);
  }

  #refusalOfDatagram(socket: S, buffer: HeapBuffer, to: IpAddress | null): number {
    if (socket.type !== SocketType.DGRAM) return ERRNO.EOPNOTSUPP;
    const { failed } = socket;
    socket.failed = 0;
    if (failed !== 0) return failed; // of an earlier datagram, as the kernel tells it too (udp(7))
    if (socket.shut) return ERRNO.EPIPE;
    if (buffer.length > LARGEST_DATAGRAM) return ERRNO.EMSGSIZE;
    if (this.#outbox.room === 0) return ERRNO.ENOBUFS;
    if (to === null) return buffer.peerLength > 0 || socket.phase === Phase.OPEN ? 0 : ERRNO.EDESTADDRREQ;
    // Datagrams often go where the last one went: an address is packed once.
    if (to.port !== this.#toPort || to.host !== this.#toHost) {
      this.#toPort = -1;
      try {
        this.#toLength = encodeSockaddr(to, this.#to, 0);
      } catch {
        return ERRNO.EINVAL;
      }
      this.#toHost = to.host;
      this.#toPort = to.port;
    }
    return this.#toLength > 16 && socket.family === Family.INET ? ERRNO.EAFNOSUPPORT : 0;
  }

  /** push of PDPIX on a datagram queue: one datagram. Several pieces are copied together; it is not the hot way. */
  pushDatagram(socket: S, sga: Sga, op: Operation<void>): void {
    if (!Array.isArray(sga)) {
      this.pushTo(socket, sga as HeapBuffer, null, op);
      return;
    }
    const parts = sga as readonly HeapBuffer[];
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const whole = bytes > LARGEST_DATAGRAM ? null : this.#heap.tryAlloc(bytes);
    let at = whole?.offset ?? 0;
    for (const part of parts) {
      if (whole !== null) this.#heap.region.u8.copyWithin(at, part.offset, part.offset + part.length);
      at += part.length;
    }
    release(sga);
    if (whole !== null) this.pushTo(socket, whole, null, op);
    else op.failErrno(bytes > LARGEST_DATAGRAM ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS, 'push', socket.about);
  }

  /** There is less unsent than before: pushes that waited go on when half of the limit is free. */
  resume(socket: S): void {
    if (socket.pushing.head === null || socket.unsent > this.#limit >> 1) return;
    for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
      this.settled++;
      op.complete(undefined);
    }
  }

  /** Nothing more can be sent on this socket. */
  fail(socket: S, errno: number): void {
    socket.failed = errno;
    for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
      this.settled++;
      op.failErrno(errno, 'push', socket.about);
    }
  }
}

/** Why nothing can be pushed on a stream now, 0 when it can. */
function refusal(socket: PushingSocket): number {
  if (socket.failed !== 0) return socket.failed;
  if (socket.shut) return ERRNO.EPIPE;
  return socket.phase === Phase.OPEN || socket.phase === Phase.CONNECTING ? 0 : ERRNO.ENOTCONN;
}

function release(sga: Sga): void {
  if (!Array.isArray(sga)) (sga as HeapBuffer).release();
  else for (const buffer of sga as readonly HeapBuffer[]) buffer.release();
}
