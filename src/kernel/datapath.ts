/**
 * The one interface behind every queue: what a datapath must do, and what the kernel gives it in return.
 * Pure types and constants; datapath/ implements them, and the kernel never knows which one it has.
 */
import type { IpAddress } from '../address/sockaddr.ts';
import type { Heap, HeapBuffer, Sga } from '../ring/heap.ts';
import type { Operation } from './operation.ts';

/** Address family of a socket (socket(2)). */
export const Family = { INET: 2, INET6: 10, UNIX: 1 } as const;
export type Family = (typeof Family)[keyof typeof Family];

/** Socket type (socket(2)). */
export const SocketType = { STREAM: 1, DGRAM: 2 } as const;
export type SocketType = (typeof SocketType)[keyof typeof SocketType];

/** A Unix stream socket's name; a leading NUL makes it abstract (unix(7)). */
export interface UnixAddress {
  readonly path: string;
}
export type Address = IpAddress | UnixAddress;

/** Socket options that every stream datapath understands; values are numbers (bytes, seconds, 0/1). */
export const SocketOption = {
  /** Send small segments at once (TCP_NODELAY). On by default. */
  NO_DELAY: 1,
  REUSE_ADDRESS: 2,
  /** Several listeners share a port (SO_REUSEPORT). */
  REUSE_PORT: 3,
  KEEP_ALIVE: 4,
  /** Bytes (SO_RCVBUF, SO_SNDBUF). */
  RECEIVE_BUFFER: 5,
  SEND_BUFFER: 6,
  /** Seconds; -1 off, 0 resets the connection on close (SO_LINGER). */
  LINGER: 7,
  /** An IPv6 socket takes no IPv4 (IPV6_V6ONLY). */
  V6_ONLY: 8,
  BROADCAST: 9,
  /** Seconds of silence before a peer is asked whether it is still there, and between further questions (tcp(7)). */
  KEEP_ALIVE_IDLE: 10,
  KEEP_ALIVE_INTERVAL: 11,
} as const;
export type SocketOption = (typeof SocketOption)[keyof typeof SocketOption];

/** What the kernel gives its datapath at attach. */
export interface DatapathHost {
  readonly heap: Heap;
  /** A fresh queue descriptor for an accepted connection. Throws EMFILE at the kernel's bound. */
  openQueue(family: Family, type: SocketType): number;
  /** Milliseconds, monotonic. The simulator's own time when simulated. */
  now(): number;
}

/** A watch on a datapath's descriptor inside somebody else's event loop. */
export interface DatapathWatch {
  close(): void;
  /** Keep, or stop keeping, the process alive. */
  ref(): void;
  unref(): void;
}

/**
 * A datapath. Calls on the same queue come from one thread. Every operation given is completed or failed exactly
 * once, unless it was withdrawn. Failures of set-up calls are thrown as IsthmusError; nothing else throws.
 *
 * Order of a turn: `poll` (take arrivals, complete operations) → coroutines run, calling push/pop → `submit`
 * (transmit the batch once, then maybe sleep). A datapath may queue in push and transmit in submit.
 */
export interface Datapath {
  /** As in `--datapath`: `kernel`, `uring`, `simulated`. */
  readonly name: string;
  /** The heap whose buffers this datapath can receive into and transmit from. */
  readonly heap: Heap;
  attach(host: DatapathHost): void;

  socket(qd: number, family: Family, type: SocketType): void;
  bind(qd: number, address: Address): void;
  listen(qd: number, backlog: number): void;
  /** Completes with the new connection's queue descriptor (from {@link DatapathHost.openQueue}). Operations queue up in order. */
  accept(qd: number, op: Operation<number>): void;
  connect(qd: number, address: Address, op: Operation<void>): void;
  /**
   * Takes over one reference of each buffer (also on failure) and sends them in order. Completes as soon as the queue
   * accepted them; when more than the queue's send limit is unsent, it completes only once that has drained (back-pressure).
   */
  push(qd: number, sga: Sga, op: Operation<void>): void;
  /** A datagram to `to`; where `to` is null, to the peer that is written in the buffer (a reply), else to the connected peer. */
  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void;
  /** Completes with the next bytes (one reference passes to the caller), or null at the end of a stream. Operations queue up in order. */
  pop(qd: number, op: Operation<HeapBuffer | null>): void;
  /** No more pushes: the peer sees the end of the stream after what was pushed (shutdown(2), SHUT_WR). */
  shutdown(qd: number): void;
  /** What was pushed is still sent; outstanding operations fail with ECANCELED; unread data is dropped. `abort`: reset at once. */
  close(qd: number, abort: boolean): void;
  /** Takes an operation back without completing it. Its buffers, if a push had not begun, are released. */
  withdraw(qd: number, op: Operation<unknown>): void;

  getsockname(qd: number): Address;
  getpeername(qd: number): Address;
  setsockopt(qd: number, option: SocketOption, value: number): void;
  getsockopt(qd: number, option: SocketOption): number;
  /** Bytes pushed and not yet taken by the lower layer. */
  unsent(qd: number): number;
  /** Closed queues whose pushed bytes are not all sent yet: the host keeps its process alive for them. */
  readonly draining?: number;

  /** Handles at most `budget` arrivals and completions, without blocking and without sleeping; gives how many it handled. */
  poll(budget: number): number;
  /** Transmits what is queued; then, when `waitUs` is not 0, sleeps until something arrives or that many µs have passed (-1: no limit). */
  submit(waitUs: number): void;
  /** Something has arrived that poll would handle without a system call. */
  readonly arrived: boolean;
  /**
   * Watches for arrivals from inside Node's event loop: `onReadable` is called when poll has work.
   * Null where there is nothing to watch (a simulated datapath wakes its host through `onArrival`).
   */
  watch(onReadable: () => void): DatapathWatch;
  /**
   * About to sleep in another event loop: from now on an arrival must make the watch fire. False when something has
   * already arrived, so that the caller polls once more instead.
   */
  arm(): boolean;
  /** Ends everything: descriptors, rings, memory. Outstanding operations have been failed before. */
  dispose(): void;
}
