/**
 * The sending half of the `kernel` datapath: pushes, the send limit, and what leaves at the end of a turn.
 * It completes and fails pushes; the system calls are transmit.ts's.
 */

import { encodeSockaddr, type IpAddress, SOCKADDR_BYTES } from '../../address/sockaddr.ts';
import { ERRNO } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { addressText } from '../../linux/sockaddr.ts';
import { SHUT_WR, shutdown } from '../../linux/socket.ts';
import type { Heap, HeapBuffer, Sga } from '../../ring/heap.ts';
import type { Closer } from './closing.ts';
import { NAME_WORDS, type Outbox } from './outbox.ts';
import { Phase, type Sock } from './sock.ts';
import { interestOf, type SocketTable } from './table.ts';
import { Transmitter } from './transmit.ts';

/** Largest payload of a UDP datagram over IPv4. */
const LARGEST_DATAGRAM = 65507;

export class Sender {
  /** Operations settled by transmitting: whoever waits for them must run before anybody sleeps. */
  settled = 0;
  /** Told when a connection is found broken; `failed` says why, and what was unsent is gone. */
  onBroken: (sock: Sock) => void = () => {};
  readonly #limit: number;
  readonly #heap: Heap;
  readonly #table: SocketTable;
  readonly #outbox: Outbox;
  readonly #closer: Closer;
  readonly #transmitter: Transmitter;
  /** Sockets to transmit from at the end of the turn. */
  readonly #dirty: Sock[] = [];
  #dirtyCount = 0;
  /** The destination of the datagram being pushed, packed. */
  readonly #to = new Uint8Array(SOCKADDR_BYTES);
  readonly #toWords = new Int32Array(this.#to.buffer);
  #toLength = 0;

  constructor(heap: Heap, table: SocketTable, outbox: Outbox, closer: Closer, limit: number) {
    this.#heap = heap;
    this.#table = table;
    this.#outbox = outbox;
    this.#closer = closer;
    this.#limit = limit;
    this.#transmitter = new Transmitter(outbox, heap);
  }

  /** Datagrams that the kernel refused. */
  get refused(): number {
    return this.#transmitter.refused;
  }

  push(sock: Sock, sga: Sga, op: Operation<void>): void {
    const count = Array.isArray(sga) ? sga.length : 1;
    let errno = refusal(sock);
    if (errno === 0 && count > this.#outbox.room) errno = ERRNO.ENOBUFS;
    if (errno !== 0) {
      release(sga);
      op.failErrno(errno, 'push', sock.about);
      return;
    }
    if (!Array.isArray(sga)) {
      const waits = sock.unsent + (sga as HeapBuffer).length > this.#limit;
      this.#outbox.append(sock, sga as HeapBuffer, waits ? op.token : -1);
      this.#accepted(sock, op, waits, 1);
      return;
    }
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += (sga as readonly HeapBuffer[])[i]!.length;
    const waits = sock.unsent + bytes > this.#limit;
    for (let i = 0; i < count; i++)
      this.#outbox.append(sock, (sga as readonly HeapBuffer[])[i]!, waits ? op.token : -1);
    this.#accepted(sock, op, waits, count);
  }

  #accepted(sock: Sock, op: Operation<void>, waits: boolean, count: number): void {
    if (waits) {
      op.datum = count;
      sock.pushing.append(op as Operation<unknown>);
    } else op.complete();
    if (!sock.dirty) {
      sock.dirty = true;
      this.#dirty[this.#dirtyCount++] = sock;
    }
  }

  /** A datagram to `to`, else to the peer written in the buffer, else to the connected peer. */
  pushTo(sock: Sock, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    const errno = this.#refusalOfDatagram(sock, buffer, to);
    if (errno !== 0) {
      buffer.release();
      op.failErrno(errno, 'pushTo', to === null ? sock.about : addressText(to));
      return;
    }
    const waits = sock.unsent + buffer.length > this.#limit;
    const node = this.#outbox.append(sock, buffer, waits ? op.token : -1);
    const bytes = to === null ? buffer.peerLength : this.#toLength;
    this.#outbox.nameLength![node] = bytes;
    if (bytes > 0) {
      const from = to === null ? this.#heap.region.i32 : this.#toWords;
      const names = this.#outbox.names!;
      const start = to === null ? buffer.peerOffset >> 2 : 0;
      for (let w = 0; w < NAME_WORDS; w++) names[node * NAME_WORDS + w] = from[start + w]!;
    }
    this.#accepted(sock, op, waits, 1);
  }

  #refusalOfDatagram(sock: Sock, buffer: HeapBuffer, to: IpAddress | null): number {
    if (sock.type !== SocketType.DGRAM) return ERRNO.EOPNOTSUPP;
    const { failed } = sock;
    sock.failed = 0;
    if (failed !== 0) return failed; // of an earlier datagram, as the kernel tells it too (udp(7))
    if (sock.shut) return ERRNO.EPIPE;
    if (buffer.length > LARGEST_DATAGRAM) return ERRNO.EMSGSIZE;
    if (this.#outbox.room === 0) return ERRNO.ENOBUFS;
    if (to === null) return buffer.peerLength > 0 || sock.phase === Phase.OPEN ? 0 : ERRNO.EDESTADDRREQ;
    try {
      this.#toLength = encodeSockaddr(to, this.#to, 0);
    } catch {
      return ERRNO.EINVAL;
    }
    return this.#toLength > 16 && sock.family === Family.INET ? ERRNO.EAFNOSUPPORT : 0;
  }

  /** push of PDPIX on a datagram queue: one datagram. Several pieces are copied together; it is not the hot way. */
  pushDatagram(sock: Sock, sga: Sga, op: Operation<void>): void {
    if (!Array.isArray(sga)) {
      this.pushTo(sock, sga as HeapBuffer, null, op);
      return;
    }
    const parts = sga as readonly HeapBuffer[];
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const whole = bytes > LARGEST_DATAGRAM ? null : this.#heap.tryAlloc(bytes);
    let at = whole?.base ?? 0;
    for (const part of parts) {
      if (whole !== null) this.#heap.region.u8.copyWithin(at, part.offset, part.offset + part.length);
      at += part.length;
    }
    release(sga);
    if (whole !== null) this.pushTo(sock, whole, null, op);
    else op.failErrno(bytes > LARGEST_DATAGRAM ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS, 'push', sock.about);
  }

  /** Transmits what the turn has pushed. */
  flushAll(): void {
    for (let i = 0; i < this.#dirtyCount; i++) {
      const sock = this.#dirty[i]!;
      sock.dirty = false;
      if (sock.blocked || sock.phase === Phase.CONNECTING || sock.phase === Phase.FREE) continue;
      if (sock.outHead >= 0 || sock.shut) this.flush(sock);
    }
    this.#dirtyCount = 0;
  }

  /** Sends as much of one socket's backlog as the kernel takes. */
  flush(sock: Sock): void {
    sock.blocked = false;
    let errno = 0;
    if (sock.type === SocketType.DGRAM) this.#transmitter.datagrams(sock);
    else errno = this.#transmitter.stream(sock);
    if (errno < 0) this.broken(sock, -errno);
    else {
      if (sock.pushing.head !== null && sock.unsent <= this.#limit >> 1) this.#resume(sock);
      const interest = interestOf(sock);
      if (interest !== sock.interest) this.#table.watch(sock, interest);
      if (sock.outHead >= 0) return;
      if (sock.shut) shutdown(sock.fd, SHUT_WR);
      if (sock.phase === Phase.CLOSING) this.#closer.sent(sock);
    }
  }

  #resume(sock: Sock): void {
    for (let op = sock.pushing.shift(); op !== null; op = sock.pushing.shift()) {
      this.settled++;
      op.complete(undefined);
    }
  }

  /** The connection is dead: nothing more can be sent. What the peer had sent before can still be read. */
  broken(sock: Sock, errno: number): void {
    if (sock.phase === Phase.CLOSING) {
      this.#closer.abort(sock);
      return;
    }
    sock.failed = errno;
    sock.blocked = false;
    this.#outbox.dropAll(sock);
    for (let op = sock.pushing.shift(); op !== null; op = sock.pushing.shift()) {
      this.settled++;
      op.failErrno(errno, 'push', sock.about);
    }
    this.onBroken(sock);
  }

  close(): void {
    this.#transmitter.close();
  }
}

/** Why nothing can be pushed on a stream now, 0 when it can. */
function refusal(sock: Sock): number {
  if (sock.failed !== 0) return sock.failed;
  if (sock.shut) return ERRNO.EPIPE;
  return sock.phase === Phase.OPEN || sock.phase === Phase.CONNECTING ? 0 : ERRNO.ENOTCONN;
}

function release(sga: Sga): void {
  if (!Array.isArray(sga)) (sga as HeapBuffer).release();
  else for (const buffer of sga as readonly HeapBuffer[]) buffer.release();
}
