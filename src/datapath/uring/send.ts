/**
 * The sending half of the io_uring datapath: what leaves with the turn's one call, and what becomes of it.
 * It fills batches and releases buffers whose bytes the kernel has taken; the pushes themselves are sockets/pushes.ts's.
 *
 * A queue has at most one send in the kernel, so that its bytes stay in order. What fell short stays at the head of the
 * queue's list and goes on with a send that completes once all is gone.
 */

import { ERRNO } from '../../errors.ts';
import { SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { Heap } from '../../ring/heap.ts';
import type { Outbox } from '../sockets/outbox.ts';
import { Pushes } from '../sockets/pushes.ts';
import { Phase } from '../sockets/sock.ts';
import { ALL, type Batch } from './batch.ts';
import type { UringSocket } from './socket.ts';

export class Sender {
  readonly pushes: Pushes<UringSocket>;
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
  readonly #outbox: Outbox;
  readonly #batch: Batch;

  constructor(heap: Heap, outbox: Outbox, batch: Batch, limit: number) {
    this.pushes = new Pushes(heap, outbox, limit);
    this.#outbox = outbox;
    this.#batch = batch;
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

  // ---- Before the call -----------------------------------------------------------------------------------------

  /** There is something that {@link transmit} would write. */
  get waiting(): boolean {
    return this.pushes.dirtyCount > 0;
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
    const { dirty, dirtyCount: count } = this.pushes;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const socket = dirty[i]!;
      if (socket.outHead < 0 || socket.flying > 0 || socket.phase === Phase.CONNECTING) socket.dirty = false;
      else if (!this.#batch.room) {
        dirty[kept++] = socket;
        this.crowded = true;
      } else {
        socket.dirty = false;
        if (socket.pushing.head !== null || socket.shut || socket.phase === Phase.CLOSING) urgent = true;
        if (socket.type === SocketType.STREAM) this.#batch.stream(socket);
        else if (this.#batch.datagrams(socket)) {
          socket.dirty = true;
          dirty[kept++] = socket;
          this.crowded = true;
        }
      }
    }
    this.pushes.dirtyCount = kept;
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
    this.pushes.resume(socket);
    if (socket.outHead >= 0) {
      this.pushes.mark(socket);
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
    this.pushes.fail(socket, errno);
    this.onBroken(socket);
  }
}
