/**
 * One kernel socket as the datapath sees it: descriptor, waiting operations, what is unsent; and the FIFO of operations.
 * Pure bookkeeping: it makes no system call. Objects are reused, so a connection costs no garbage but its own closing.
 */
import type { Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { HeapBuffer } from '../../ring/heap.ts';

export const Phase = { FREE: 0, CREATED: 1, CONNECTING: 2, OPEN: 3, LISTENING: 4, CLOSING: 5, LINGERING: 6 } as const;
export type Phase = (typeof Phase)[keyof typeof Phase];

// Plain fields: the receiving, sending and set-up halves of the datapath all work on them, on the hot path.
export class Sock {
  readonly slot: number;
  /** Counts reuses of the slot, so that an event for its former socket is known as such. 11 bits. */
  generation = 0;
  fd = -1;
  /** -1 once the queue is closed, while the socket still sends or lingers, and before an accepted one is handed out. */
  qd = -1;
  family: Family = 2;
  type: SocketType = 1;
  phase: Phase = Phase.FREE;
  /** Events registered with epoll; 0 when not registered. */
  interest = 0;

  /** Pops, or accepts on a listener. */
  readonly waiting = new OperationFifo();
  /** There may be something to take: an event said so, and no short read has said otherwise since. */
  readable = false;
  /** The peer's end (or an error) has been announced, so even a short read is not the last. */
  ending = false;
  /** The end of the stream has been read. */
  ended = false;
  /** Is in the datapath's list of sockets to read without a new event. */
  listed = false;
  /** Index of the receive size in use; and reads in a row that a smaller one would have held. */
  sizeIndex = 0;
  smallReads = 0;

  /** Unsent descriptors (see Outbox), -1 for none. */
  outHead = -1;
  outTail = -1;
  /** Unsent bytes. */
  unsent = 0;
  /** The first unsent descriptor has been sent in part. */
  begun = false;
  /** The kernel's send buffer is full: wait for EPOLLOUT. */
  blocked = false;
  /** Is in the list of sockets to transmit from at submit. */
  dirty = false;
  /** Pushes over the send limit, waiting for the backlog to drain. */
  readonly pushing = new OperationFifo();
  /** shutdown was called: nothing may be pushed any more. */
  shut = false;

  /** Positive errno that ended the connection; 0 while it is well. On a datagram socket: of a transmit, told once. */
  failed = 0;
  connecting: Operation<void> | null = null;
  /** Where it connects to or is bound, for messages. */
  about = '';
  /** Seconds that closing may take to send the rest where positive, 0 for a reset, -1 for the default. */
  linger = -1;
  /** When lingering ends, in ms of the host's clock. */
  deadline = 0;
  /** Path to remove when the listener closes. */
  path: string | null = null;
  /** Datagrams received ahead: `inboxCount` of them from `inboxHead` on. Made for datagram sockets only. */
  inbox: HeapBuffer[] | null = null;
  inboxHead = 0;
  inboxCount = 0;
  /** Connections accepted ahead. */
  readonly accepted: Sock[] = [];

  constructor(slot: number) {
    this.slot = slot;
  }

  /** Ready for another descriptor. The list flags stay: they say in which lists this object is. */
  open(fd: number, family: Family, type: SocketType, phase: Phase): void {
    this.generation = (this.generation + 1) & 0x7ff;
    this.fd = fd;
    this.qd = -1;
    this.family = family;
    this.type = type;
    this.phase = phase;
    this.interest = 0;
    this.readable = false;
    this.ending = false;
    this.ended = false;
    this.sizeIndex = 0;
    this.smallReads = 0;
    this.blocked = false;
    this.begun = false;
    this.shut = false;
    this.failed = 0;
    this.about = '';
    this.linger = -1;
    this.path = null;
  }
}
