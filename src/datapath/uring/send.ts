/**
 * The sending half of the io_uring datapath: pushes, the send limit, and what leaves with the turn's one call.
 * It fills batches, releases buffers whose bytes the kernel has taken, and completes and fails pushes.
 *
 * A queue has at most one send in the kernel, so that its bytes stay in order. What fell short stays at the head of the
 * queue's list and goes on with a send that completes once all is gone.
 */

import { encodeSockaddr, type IpAddress, SOCKADDR_BYTES } from '../../address/sockaddr.ts';
import { ERRNO } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { addressText } from '../../linux/sockaddr.ts';
import type { Heap, HeapBuffer, Sga } from '../../ring/heap.ts';
import { NAME_WORDS, type Outbox } from '../sockets/outbox.ts';
import { ALL, type Batch } from './batch.ts';
import { Phase, type UringSocket } from './socket.ts';

/** Largest payload of a UDP datagram over IPv4. */
const LARGEST_DATAGRAM = 65507;
export class Sender {
  /** Operations settled by sending: whoever waits for them must run before anybody sleeps. */
  settled = 0;
  /** Datagrams that the kernel refused. */
  refused = 0;
  /** Sends that fell short because the peer, or the network, was slower. */
  short = 0;
  /** A closing socket has sent everything, or nothing more can be sent. */
  onSent: (socket: UringSocket) => void = () => {};
  /** A closing socket has found its peer slow. */
  onBlocked: (socket: UringSocket) => void = () => {};
  /** The last byte before a half-close has been sent. */
  onShut: (socket: UringSocket) => void = () => {};
  /** A connection is found broken; `failed` says why, and what was unsent is gone. */
  onBroken: (socket: UringSocket) => void = () => {};
  readonly #heap: Heap;
  readonly #outbox: Outbox;
  readonly #limit: number;
  readonly #batch: Batch;
  /** Sockets to transmit from. */
  readonly #dirty: UringSocket[] = [];
  #dirtyCount = 0;
  /** The destination of the datagram being pushed, packed; and whose it is. */
  readonly #to = new Uint8Array(SOCKADDR_BYTES);
  readonly #toWords = new Int32Array(this.#to.buffer);
  #toLength = 0;
  #toHost = '';
  #toPort = -1;

  constructor(heap: Heap, outbox: Outbox, batch: Batch, limit: number) {
    this.#heap = heap;
    this.#outbox = outbox;
    this.#batch = batch;
    this.#limit = limit;
  }

  // ---- Pushes --------------------------------------------------------------------------------------------------

  push(socket: UringSocket, sga: Sga, op: Operation<void>): void {
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

  #accepted(socket: UringSocket, op: Operation<void>, waits: boolean, count: number): void {
    if (waits) {
      op.datum = count;
      socket.pushing.append(op as Operation<unknown>);
    } else op.complete(undefined);
    this.mark(socket);
  }

  /** There is something to transmit from this socket. */
  mark(socket: UringSocket): void {
    if (socket.dirty) return;
    socket.dirty = true;
    this.#dirty[this.#dirtyCount++] = socket;
  }

  /** A push that still waits is taken back, unless its first bytes are already on their way. */
  withdraw(socket: UringSocket, op: Operation<unknown>): void {
    if (!socket.pushing.remove(op)) return;
    let node = socket.outHead;
    for (let i = 0; i < socket.flying; i++) {
      if (this.#outbox.owner[node] === op.token) return;
      node = this.#outbox.next[node]!;
    }
    this.#outbox.withdraw(socket, op.token, op.datum);
  }

  /** A datagram to `to`, else to the peer written in the buffer, else to the connected peer. */
  pushTo(socket: UringSocket, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
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

  #refusalOfDatagram(socket: UringSocket, buffer: HeapBuffer, to: IpAddress | null): number {
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
  pushDatagram(socket: UringSocket, sga: Sga, op: Operation<void>): void {
    if (!Array.isArray(sga)) {
      this.pushTo(socket, sga as HeapBuffer, null, op);
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
    if (whole !== null) this.pushTo(socket, whole, null, op);
    else op.failErrno(bytes > LARGEST_DATAGRAM ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS, 'push', socket.about);
  }

  // ---- Before the call -----------------------------------------------------------------------------------------

  /** There is something that {@link transmit} would write. */
  get waiting(): boolean {
    return this.#dirtyCount > 0;
  }

  /** The last {@link transmit} could not write everything: another call must follow. */
  crowded = false;

  /**
   * Writes the sends of the turn into the ring. The call must follow at once, then {@link settle}.
   * @returns whether somebody waits for what the settling will bring, so that nobody should sleep in the call
   */
  transmit(): boolean {
    let urgent = false;
    this.crowded = false;
    const count = this.#dirtyCount;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const socket = this.#dirty[i]!;
      if (socket.outHead < 0 || socket.flying > 0 || socket.phase === Phase.CONNECTING) socket.dirty = false;
      else if (!this.#batch.room) {
        this.#dirty[kept++] = socket;
        this.crowded = true;
      } else {
        socket.dirty = false;
        if (socket.pushing.head !== null || socket.shut || socket.phase === Phase.CLOSING) urgent = true;
        if (socket.type === SocketType.STREAM) this.#batch.stream(socket);
        else if (this.#batch.datagrams(socket)) {
          socket.dirty = true;
          this.#dirty[kept++] = socket;
          this.crowded = true;
        }
      }
    }
    this.#dirtyCount = kept;
    return urgent || this.crowded;
  }

  // ---- After the call ------------------------------------------------------------------------------------------

  /** The kernel has taken the batch: what it did not complain about is sent. */
  settle(): void {
    const { sockets, results } = this.#batch;
    const count = this.#batch.collect();
    for (let i = 0; i < count; i++) {
      const socket = sockets[i]!;
      if (socket === null) continue;
      sockets[i] = null;
      const result = results[i]!;
      results[i] = ALL;
      if (socket.type === SocketType.DGRAM) {
        results[i] = result;
        const last = i + socket.flying - 1;
        this.#settleDatagrams(socket, i, last);
        i = last;
      } else if (result === ALL) {
        const { flying } = socket;
        socket.flying = 0;
        for (let n = 0; n < flying; n++) this.#outbox.dropFirst(socket);
        if (socket.outHead >= 0 || socket.pushing.head !== null || socket.shut || socket.phase === Phase.CLOSING) {
          this.#progressed(socket);
        }
      } else {
        this.short++;
        socket.blocked = true;
        if (socket.phase === Phase.CLOSING) this.onBlocked(socket);
        this.sent(socket, result === -ERRNO.EAGAIN ? 0 : result);
      }
    }
  }

  /** The sends `first` to `last` of the batch are datagrams of one socket. Those that found no room stay, in order. */
  #settleDatagrams(socket: UringSocket, first: number, last: number): void {
    const outbox = this.#outbox;
    const { sockets, results, nodes } = this.#batch;
    let kept = -1;
    for (let i = first; i <= last; i++) {
      const result = results[i]!;
      results[i] = ALL;
      sockets[i] = null;
      const node = nodes[i]!;
      if (result === -ERRNO.EAGAIN || (result < 0 && this.#refuse(socket, node, -result))) {
        socket.outHead = outbox.next[node]!;
        outbox.next[node] = kept;
        kept = node;
      } else outbox.dropFirst(socket);
    }
    socket.flying = 0;
    if (socket.outHead < 0) socket.outTail = -1;
    for (let node = kept; node >= 0; ) {
      const next = outbox.next[node]!;
      outbox.next[node] = socket.outHead;
      if (socket.outHead < 0) socket.outTail = node;
      socket.outHead = node;
      socket.blocked = true;
      node = next;
    }
    this.#progressed(socket);
  }

  /**
   * A datagram was not sent. What is told may be of an earlier one (udp(7)): only one that is refused again is to blame.
   * @returns whether to try it again
   */
  #refuse(socket: UringSocket, node: number, errno: number): boolean {
    socket.failed = errno;
    if (socket.refused === node) {
      socket.refused = -1;
      this.refused++;
      return false;
    }
    socket.refused = node;
    return true;
  }

  /** A send with a completion has ended, or one without fell short: `result` bytes, or −errno. */
  sent(socket: UringSocket, result: number): void {
    socket.flying = 0;
    if (socket.type === SocketType.DGRAM) {
      const again = result < 0 && result !== -ERRNO.ECANCELED && this.#refuse(socket, socket.outHead, -result);
      if (!again) this.#outbox.dropFirst(socket);
    } else if (result >= 0) this.#outbox.consume(socket, result);
    else if (result !== -ERRNO.EINTR) {
      this.broken(socket, -result);
      return;
    }
    if (socket.outHead < 0) socket.blocked = false;
    this.#progressed(socket);
  }

  /** There is less to send than before. */
  #progressed(socket: UringSocket): void {
    if (socket.pushing.head !== null && socket.unsent <= this.#limit >> 1) {
      for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
        this.settled++;
        op.complete(undefined);
      }
    }
    if (socket.outHead >= 0) {
      this.mark(socket);
      return;
    }
    if (socket.shut && socket.phase !== Phase.CLOSING) this.onShut(socket);
    if (socket.phase === Phase.CLOSING) this.onSent(socket);
  }

  /** The connection is dead: nothing more can be sent. What the peer had sent before can still be read. */
  broken(socket: UringSocket, errno: number): void {
    socket.blocked = false;
    this.#outbox.dropAll(socket);
    if (socket.phase === Phase.CLOSING) {
      this.onSent(socket);
      return;
    }
    socket.failed = errno;
    for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
      this.settled++;
      op.failErrno(errno, 'push', socket.about);
    }
    this.onBroken(socket);
  }
}

/** Why nothing can be pushed on a stream now, 0 when it can. */
function refusal(socket: UringSocket): number {
  if (socket.failed !== 0) return socket.failed;
  if (socket.shut) return ERRNO.EPIPE;
  return socket.phase === Phase.OPEN || socket.phase === Phase.CONNECTING ? 0 : ERRNO.ENOTCONN;
}

function release(sga: Sga): void {
  if (!Array.isArray(sga)) (sga as HeapBuffer).release();
  else for (const buffer of sga as readonly HeapBuffer[]) buffer.release();
}
