/**
 * The sending half of the `kernel` datapath: what leaves at the end of a turn, and what becomes of the pushes then.
 * The pushes themselves are pushes.ts's, and the system calls transmit.ts's.
 */

import { SocketType } from '../../kernel/datapath.ts';
import { SHUT_WR, shutdown } from '../../linux/socket.ts';
import type { Heap } from '../../ring/heap.ts';
import type { Closer } from './closing.ts';
import type { Outbox } from './outbox.ts';
import { Pushes } from './pushes.ts';
import { Phase, type Sock } from './sock.ts';
import { interestOf, type SocketTable } from './table.ts';
import { Transmitter } from './transmit.ts';

export class Sender {
  readonly pushes: Pushes<Sock>;
  /** Told when a connection is found broken; `failed` says why, and what was unsent is gone. */
  onBroken: (sock: Sock) => void = () => {};
  readonly #table: SocketTable;
  readonly #outbox: Outbox;
  readonly #closer: Closer;
  readonly #transmitter: Transmitter;

  constructor(heap: Heap, table: SocketTable, outbox: Outbox, closer: Closer, limit: number) {
    this.pushes = new Pushes(heap, outbox, limit);
    this.#table = table;
    this.#outbox = outbox;
    this.#closer = closer;
    this.#transmitter = new Transmitter(outbox, heap);
  }

  /** Datagrams that the kernel refused. */
  get refused(): number {
    return this.#transmitter.refused;
  }

  /** Transmits what the turn has pushed. */
  flushAll(): void {
    const { pushes } = this;
    for (let i = 0; i < pushes.dirtyCount; i++) {
      const sock = pushes.dirty[i]!;
      sock.dirty = false;
      if (sock.blocked || sock.phase === Phase.CONNECTING || sock.phase === Phase.FREE) continue;
      if (sock.outHead >= 0 || sock.shut) this.flush(sock);
    }
    pushes.dirtyCount = 0;
  }

  /** Sends as much of one socket's backlog as the kernel takes. */
  flush(sock: Sock): void {
    sock.blocked = false;
    let errno = 0;
    if (sock.type === SocketType.DGRAM) this.#transmitter.datagrams(sock);
    else errno = this.#transmitter.stream(sock);
    if (errno < 0) this.broken(sock, -errno);
    else {
      this.pushes.resume(sock);
      const interest = interestOf(sock);
      if (interest !== sock.interest) this.#table.watch(sock, interest);
      if (sock.outHead >= 0) return;
      if (sock.shut) shutdown(sock.fd, SHUT_WR);
      if (sock.phase === Phase.CLOSING) this.#closer.sent(sock);
    }
  }

  /** The connection is dead: nothing more can be sent. What the peer had sent before can still be read. */
  broken(sock: Sock, errno: number): void {
    if (sock.phase === Phase.CLOSING) {
      this.#closer.abort(sock);
      return;
    }
    sock.blocked = false;
    this.#outbox.dropAll(sock);
    this.pushes.fail(sock, errno);
    this.onBroken(sock);
  }

  close(): void {
    this.#transmitter.close();
  }
}
