/**
 * Accepting for the io_uring datapath: one multishot accept per listener puts connections into the ring's file table.
 * It writes accepts into the ring, keeps connections that came before their accept, and completes accepts.
 *
 * A connection for which there is no free place would be lost, since the kernel takes it out of the backlog first. So
 * when few places are left connections are accepted one by one, and when none is left the listener only asks whether
 * one is waiting: then accepts fail with EMFILE, the connection stays in the backlog, and the next accept tries again.
 */
import { ERRNO } from '../../errors.ts';
import type { DatapathHost } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { EPOLLIN } from '../../linux/epoll.ts';
import type { Ring } from '../../linux/uring.ts';
import { ACCEPT_MULTISHOT, CqeFlag, FILE_INDEX_ALLOC, Op, SqeFlag } from '../../linux/uring-abi.ts';
import { prepCancelUserData, prepPollAdd } from '../../linux/uring-prep.ts';
import { STILLBORN } from '../sockets/accept.ts';
import { Phase } from '../sockets/sock.ts';
import { Flight, Kind, SLOT_SHIFT, type SocketTable, type UringSocket } from './socket.ts';

const SOCK_CLOEXEC = 0o2000000;
/** Most connections accepted ahead of the program, per listener. */
const AHEAD = 128;
/** Free places below which connections are accepted one by one: a whole backlog may come at once. */
function margin(listener: UringSocket): number {
  return Math.max(1024, 2 * listener.backlog);
}

/** As of accept4, and what a request of ours ends with that has to be made again. */
const PASSING: ReadonlySet<number> = new Set([...STILLBORN, ERRNO.EAGAIN, ERRNO.ECANCELED]);

export class Acceptor {
  /** Connections lost because they arrived faster than places came free. */
  lost = 0;
  readonly #ring: Ring;
  readonly #table: SocketTable;
  /** Whether connections go to the ring's own table. */
  readonly #fixed: boolean;
  readonly #discard: (socket: UringSocket) => void;
  host: DatapathHost | null = null;
  /** Single accepts in flight: each needs a place. */
  #single = 0;

  /** @param discard closes a connection that nobody wants any more */
  constructor(ring: Ring, table: SocketTable, fixed: boolean, discard: (socket: UringSocket) => void) {
    this.#ring = ring;
    this.#table = table;
    this.#fixed = fixed;
    this.#discard = discard;
  }

  accept(listener: UringSocket, op: Operation<number>): void {
    if (listener.phase !== Phase.LISTENING) {
      op.failErrno(ERRNO.EINVAL, 'accept', listener.about);
      return;
    }
    listener.waiting.append(op as Operation<unknown>);
    if (listener.accepted.length > 0) this.#handOut(listener);
    if (listener.waiting.head !== null) this.#arm(listener);
  }

  #free(): number {
    return this.#table.fixedSlots - this.#table.fixedInUse - this.#single;
  }

  #arm(listener: UringSocket): void {
    if (listener.receiving !== Flight.NONE) return;
    listener.receiving = Flight.ARMED;
    listener.alone = false;
    const data = listener.slot << SLOT_SHIFT;
    const free = this.#fixed ? this.#free() : Number.MAX_SAFE_INTEGER;
    if (free <= 0) {
      prepPollAdd(this.#ring, listener.file, 0, EPOLLIN, data | Kind.BACKLOG, listener.generation);
      return;
    }
    const many = free > margin(listener);
    if (!many) {
      listener.alone = true;
      this.#single++;
    }
    const k = this.#ring.sqe();
    const m = this.#ring.sqes;
    m.fill(0, k, k + 12);
    m[k] = Op.ACCEPT | (many ? ACCEPT_MULTISHOT << 16 : 0);
    m[k + 1] = listener.file;
    m[k + 7] = this.#fixed ? 0 : SOCK_CLOEXEC;
    m[k + 8] = data | Kind.ACCEPT;
    m[k + 9] = listener.generation;
    m[k + 11] = this.#fixed ? FILE_INDEX_ALLOC : 0;
  }

  /** Ends the accept in flight; its last completion is still to come. */
  cancel(listener: UringSocket): void {
    if (listener.receiving !== Flight.ARMED) return;
    listener.receiving = Flight.CANCELLING;
    const data = listener.slot << SLOT_SHIFT;
    // Either of the two is in flight; the other cancel finds nothing, which nobody hears of.
    prepCancelUserData(this.#ring, data | Kind.ACCEPT, listener.generation, SqeFlag.CQE_SKIP, Kind.NONE, 0);
    prepCancelUserData(this.#ring, data | Kind.BACKLOG, listener.generation, SqeFlag.CQE_SKIP, Kind.NONE, 0);
  }

  /** A new connection, or why there is none. @returns whether the accept has ended */
  onAccept(listener: UringSocket, result: number, flags: number): boolean {
    const ended = (flags & CqeFlag.MORE) === 0;
    if (ended) {
      listener.receiving = Flight.NONE;
      if (listener.alone) this.#single--;
      listener.alone = false;
    }
    if (result >= 0) this.#adopt(listener, result);
    else if (!PASSING.has(-result)) {
      const full = result === -ERRNO.ENFILE && this.#fixed;
      if (full) this.lost++;
      this.#fail(listener, full ? ERRNO.EMFILE : -result);
    }
    if (ended && listener.phase === Phase.LISTENING && listener.waiting.head !== null) this.#arm(listener);
    return ended;
  }

  /** A connection waits in the backlog of a listener that had no place for it. */
  onBacklog(listener: UringSocket, result: number): void {
    listener.receiving = Flight.NONE;
    if (listener.phase !== Phase.LISTENING) return;
    if (result >= 0 && this.#free() <= 0) this.#fail(listener, ERRNO.EMFILE);
    if (listener.waiting.head !== null) this.#arm(listener);
  }

  #adopt(listener: UringSocket, file: number): void {
    const { family, type } = listener;
    const socket = this.#fixed
      ? this.#table.addFixed(file, family, type, Phase.OPEN)
      : this.#table.add(file, family, type, Phase.OPEN);
    if (listener.phase !== Phase.LISTENING) {
      this.#discard(socket);
      return;
    }
    listener.accepted.push(socket);
    this.#handOut(listener);
    if (listener.accepted.length >= AHEAD || (!listener.alone && this.#fixed && this.#free() <= margin(listener))) {
      this.cancel(listener);
    }
  }

  /** Gives connections accepted ahead to accepts that wait. */
  #handOut(listener: UringSocket): void {
    while (listener.waiting.head !== null && listener.accepted.length > 0) {
      const op = listener.waiting.shift()!;
      let qd: number;
      try {
        qd = this.host!.openQueue(listener.family, listener.type);
      } catch (error) {
        op.fail(error as Error); // the kernel's own bound: the connection waits here for the next accept
        continue;
      }
      this.#table.give(listener.accepted.shift()!, qd);
      op.complete(qd);
    }
  }

  /** No descriptors: everybody who waits learns it, and tries again when it thinks fit. */
  #fail(listener: UringSocket, errno: number): void {
    for (let op = listener.waiting.shift(); op !== null; op = listener.waiting.shift()) {
      op.failErrno(errno, 'accept', listener.about);
    }
  }
}
