/**
 * One socket as the io_uring datapath sees it, and the table of all of them: what is in flight, what waits, what is unsent.
 * Pure bookkeeping: it makes no system call. Objects are reused, so that a connection leaves no garbage.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { type Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import { SqeFlag } from '../../linux/uring-abi.ts';
import { Phase } from '../sockets/sock.ts';

/** What a completion is about: the low four bits of its user data. The slot is above them; the generation is the high word. */
export const Kind = {
  /** Nobody cares how it went. */
  NONE: 0,
  RECEIVE: 1,
  /** A receive of one buffer from the reserve. */
  RECEIVE_ONE: 2,
  DATAGRAM: 3,
  /** A send that completes only if it fell short; its high word is its place in the batch. */
  SEND_NOW: 4,
  SEND: 5,
  ACCEPT: 6,
  /** A listener without a free slot has a connection waiting. */
  BACKLOG: 7,
  CONNECT: 8,
  INSTALL: 9,
  DISCARD: 10,
} as const;
export const KIND_MASK = 15;
export const SLOT_SHIFT = 4;

/** An operation of the kernel's. CANCELLING: the cancel is on its way, completions may still come. */
export const Flight = { NONE: 0, ARMED: 1, CANCELLING: 2 } as const;
export type Flight = (typeof Flight)[keyof typeof Flight];

// Plain fields: receiving, sending, accepting and closing all work on them, on the hot path.
export class UringSocket {
  // First what every message touches, on its way in and on its way out: with many connections it is the cache lines of
  // these objects that a message misses, and so it is four of them and not eight.
  /** Counts reuses of the slot, so that a late completion of its former socket is known as such. */
  generation = 0;
  phase: Phase = Phase.FREE;
  type: SocketType = 1;
  /** Pops, or accepts on a listener. */
  readonly waiting = new OperationFifo();
  /** The receive (of a listener: accept) in the kernel. */
  receiving: Flight = Flight.NONE;
  /** Buffers received and not popped. */
  held = 0;
  /** The last receive left bytes in the kernel. */
  unread = false;
  /** Bytes came since the last round of {@link Silence}; it has the socket on its list. */
  heard = false;
  suspected = false;
  /** The end of the stream (or its failure) has been received. */
  ended = false;
  /** Positive errno that ended the connection; 0 while it is well. On a datagram socket: of a transmit, told once. */
  failed = 0;
  /** shutdown was called: nothing may be pushed any more. */
  shut = false;
  /** Unsent bytes. */
  unsent = 0;
  /** Unsent descriptors (see Outbox), -1 for none. */
  outHead = -1;
  outTail = -1;
  /** The first unsent descriptor has been sent in part. */
  begun = false;
  /** Is in the list of sockets to transmit from. */
  dirty = false;
  /** The kernel's send buffer was full: send with a completion until all is gone. */
  blocked = false;
  /** Descriptors covered by the send in the kernel, 0 for none. */
  flying = 0;
  /** Pushes over the send limit, waiting for the backlog to drain. */
  readonly pushing = new OperationFifo();
  /** What submissions name: a file descriptor, or the slot. */
  file = -1;
  /** SqeFlag.FIXED_FILE or 0. */
  fileFlag = 0;
  /** Place in the table. Of a connection without a descriptor also its place in the ring's file table. */
  readonly slot: number;

  /** -1 once the queue is closed, and before an accepted one is handed out. */
  qd = -1;
  family: Family = 2;
  /** Kind of the receive in the kernel. */
  receivingKind = 0;
  /** The buffers held, linked through their `tag`: index of the first and last, -1 for none. */
  heldFirst = -1;
  heldLast = -1;
  /** Waits for receive buffers to come back. */
  starved = false;
  /** Has received, so that what the peer sends does not lie unread in the kernel. */
  received = false;
  /** The datagram (its descriptor) that was refused once and is tried again, -1 for none. */
  refused = -1;
  connecting: Operation<void> | null = null;
  connectFlight: Flight = Flight.NONE;
  /** Where it connects to or is bound, for messages. */
  about = '';
  /** Seconds that closing may take to send the rest where positive, 0 for a reset, -1 for the default. */
  linger = -1;
  /** When lingering ends, in ms. */
  deadline = 0;
  discarding: Flight = Flight.NONE;
  /** Closing without sending the rest; and the send in flight has been cancelled for it. */
  aborted = false;
  cancelled = false;
  /** Path to remove when the listener closes. */
  path: string | null = null;
  listener = false;
  backlog = 0;
  /** Of a listener: the accept in flight takes one connection only. */
  alone = false;
  /** Connections accepted ahead. */
  readonly accepted: UringSocket[] = [];

  constructor(slot: number) {
    this.slot = slot;
  }

  /** Ready for another file. The list flags stay: they say in which lists this object is. */
  open(file: number, fileFlag: number, family: Family, type: SocketType, phase: Phase): void {
    this.generation = (this.generation + 1) & 0x3fffffff;
    this.file = file;
    this.fileFlag = fileFlag;
    this.qd = -1;
    this.family = family;
    this.type = type;
    this.phase = phase;
    this.receiving = Flight.NONE;
    this.unread = false;
    this.heard = false;
    this.received = false;
    this.ended = false;
    this.begun = false;
    this.blocked = false;
    this.flying = 0;
    this.refused = -1;
    this.shut = false;
    this.failed = 0;
    this.connectFlight = Flight.NONE;
    this.about = '';
    this.linger = -1;
    this.discarding = Flight.NONE;
    this.aborted = false;
    this.cancelled = false;
    this.path = null;
    this.listener = false;
  }

  get fixed(): boolean {
    return this.fileFlag !== 0;
  }
}

/**
 * All sockets of a datapath. The first `fixedSlots` places are those of the ring's file table that the kernel gives to
 * accepted connections; the next `ownSlots` are in it, too, for sockets made here, and the others are not.
 */
export class SocketTable {
  readonly fixedSlots: number;
  readonly ownSlots: number;
  readonly slots: UringSocket[];
  /** By queue descriptor. */
  readonly queues: (UringSocket | null)[] = [];
  /** Accepted connections in the ring's file table. */
  fixedInUse = 0;
  /** Sockets that are not free, those still closing among them. */
  live = 0;
  /** Datagram sockets among them. */
  datagrams = 0;
  readonly #free: UringSocket[] = [];

  constructor(fixedSlots: number, ownSlots: number) {
    this.fixedSlots = fixedSlots;
    this.ownSlots = ownSlots;
    // The object of a place is made when the place is first used; the hole before it is never read.
    this.slots = new Array<UringSocket>(fixedSlots);
  }

  /** The socket of a queue. @throws IsthmusError EBADF */
  of(qd: number, call: string): UringSocket {
    const socket = this.queues[qd];
    if (socket === undefined || socket === null) throw systemError(ERRNO.EBADF, call, `queue ${qd}`);
    return socket;
  }

  /** A socket over a file descriptor. */
  add(fd: number, family: Family, type: SocketType, phase: Phase): UringSocket {
    let socket = this.#free.pop();
    if (socket === undefined) {
      socket = new UringSocket(this.slots.length);
      this.slots.push(socket);
    }
    socket.open(fd, 0, family, type, phase);
    this.live++;
    if (type === SocketType.DGRAM) this.datagrams++;
    return socket;
  }

  /** There is a place in the ring's file table for this socket, which has a descriptor. */
  mayMove(socket: UringSocket): boolean {
    return !socket.fixed && socket.slot < this.fixedSlots + this.ownSlots;
  }

  /** A socket that the kernel has put into place `slot` of the ring's file table. */
  addFixed(slot: number, family: Family, type: SocketType, phase: Phase): UringSocket {
    this.slots[slot] ??= new UringSocket(slot);
    const socket = this.slots[slot]!;
    socket.open(slot, SqeFlag.FIXED_FILE, family, type, phase);
    this.fixedInUse++;
    this.live++;
    return socket;
  }

  give(socket: UringSocket, qd: number): void {
    socket.qd = qd;
    while (this.queues.length <= qd) this.queues.push(null);
    this.queues[qd] = socket;
  }

  /** The file is closed, or about to be: the place is free. */
  remove(socket: UringSocket): void {
    socket.phase = Phase.FREE;
    this.live--;
    if (socket.type === SocketType.DGRAM) this.datagrams--;
    if (socket.slot < this.fixedSlots) this.fixedInUse--;
    else this.#free.push(socket);
    socket.file = -1;
  }

  /** Every socket that is not free. */
  open(): UringSocket[] {
    return this.slots.filter((socket) => socket.phase !== Phase.FREE);
  }
}
