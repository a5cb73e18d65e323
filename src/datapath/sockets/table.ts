/**
 * All sockets of one datapath: which socket a queue has, which socket an event is for, and what epoll watches.
 * It opens nothing; it registers descriptors with its epoll and closes them.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import { EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll } from '../../linux/epoll.ts';
import { close } from '../../linux/libc.ts';
import { type Phase, Phase as PhaseName, Sock } from './sock.ts';

const SLOT_BITS = 20;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
/** Events taken by one epoll_wait; the rest stay with the kernel. */
const EVENTS = 256;

export class SocketTable {
  readonly epoll = new Epoll(EVENTS);
  /** By queue descriptor. */
  readonly queues: (Sock | null)[] = [];
  /** Datagram sockets open. */
  datagramSockets = 0;
  readonly #slots: Sock[] = [];
  readonly #free: Sock[] = [];

  /** @throws IsthmusError EMFILE when every slot is in use, and then closes `fd` */
  add(fd: number, family: Family, type: SocketType, phase: Phase): Sock {
    let sock = this.#free.pop();
    if (sock === undefined) {
      if (this.#slots.length > SLOT_MASK) {
        close(fd);
        throw systemError(ERRNO.EMFILE, 'socket', undefined, `${this.#slots.length} sockets are open`);
      }
      sock = new Sock(this.#slots.length);
      this.#slots.push(sock);
    }
    sock.open(fd, family, type, phase);
    if (type === SocketType.DGRAM) this.datagramSockets++;
    return sock;
  }

  give(sock: Sock, qd: number): void {
    sock.qd = qd;
    this.queues[qd] = sock;
  }

  of(qd: number, call: string): Sock {
    return this.queues[qd] ?? bad(qd, call);
  }

  /** The socket an event is for, or null when that one was closed after the event was taken. */
  ofEvent(data: number): Sock | null {
    const sock = this.#slots[data & SLOT_MASK]!;
    return sock.generation === data >>> SLOT_BITS && sock.fd >= 0 ? sock : null;
  }

  /** Registers the socket, or changes what is watched. 0 or −errno. */
  watch(sock: Sock, interest: number): number {
    if (interest === sock.interest) return 0;
    const data = sock.slot | (sock.generation << SLOT_BITS);
    const { epoll } = this;
    const result = sock.interest === 0 ? epoll.add(sock.fd, interest, data) : epoll.modify(sock.fd, interest, data);
    if (result === 0) sock.interest = interest;
    return result;
  }

  /** Closes the descriptor. */
  remove(sock: Sock): void {
    close(sock.fd);
    sock.fd = -1;
    sock.phase = PhaseName.FREE;
    if (sock.type === SocketType.DGRAM) this.datagramSockets--;
    this.#free.push(sock);
  }

  /** Every socket that is open. */
  *open(): Generator<Sock> {
    for (const sock of this.#slots) if (sock.fd >= 0) yield sock;
  }
}

/**
 * What to watch a socket for. TCP wakes for EPOLLOUT only after a short send, so it is always watched for; the others
 * wake after every send, so they are watched for it only while blocked.
 */
export function interestOf(sock: Sock): number {
  if (sock.phase === PhaseName.LISTENING) return EPOLLIN | EPOLLET;
  if (sock.type === SocketType.DGRAM) return EPOLLIN | EPOLLET | (sock.blocked ? EPOLLOUT : 0);
  const always = sock.family !== Family.UNIX || sock.phase === PhaseName.CONNECTING || sock.blocked;
  return EPOLLIN | EPOLLRDHUP | EPOLLET | (always ? EPOLLOUT : 0);
}

function bad(qd: number, call: string): never {
  throw systemError(ERRNO.EBADF, call, `queue ${qd}`);
}
