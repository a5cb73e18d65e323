/**
 * One kernel: queue descriptors, queue tokens, coroutines and timers over one datapath, with PDPIX's own names.
 * Single-threaded; it owns everything it touches and reaches the world only through its datapath.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Heap, HeapBuffer, Sga } from '../ring/heap.ts';
import { Connection } from './connection.ts';
import { type Address, type Datapath, type DatapathHost, Family, SocketOption, SocketType } from './datapath.ts';
import { Listener, UdpSocket } from './endpoints.ts';
import {
  type CompletedOperation,
  deliverCompleted,
  Opcode,
  type Operation,
  OperationTable,
  type QueueToken,
} from './operation.ts';
import { type Coroutine, CoroutineClass, Scheduler } from './scheduler.ts';
import { Task } from './task.ts';
import { TimerWheel } from './timers.ts';
import { type WaitAnyResult, waitForAll, waitForAny, waitForOne } from './waiting.ts';

/** A queue descriptor: a small integer, as a file descriptor is. */
export type QueueDescriptor = number;

export interface KernelOptions {
  /** Most arrivals handled before the batch is transmitted (B in IX). Default 64. */
  readonly batch?: number;
  /** Most queues open at once. Default 1,048,576. */
  readonly maxQueues?: number;
  /** Most coroutines alive at once. Default 1,048,576. */
  readonly maxCoroutines?: number;
  /** Monotonic clock in ms. Default `performance.now`. */
  readonly now?: () => number;
  /** Called with an error that escaped a coroutine nobody joins. Default: thrown by the host after the turn. */
  readonly onUncaught?: (error: Error) => void;
}

export interface OperationOptions {
  /** Milliseconds after which the operation fails with ETIMEDOUT and is withdrawn. */
  readonly timeout?: number | undefined;
  /** Aborting fails the operation with the signal's reason and withdraws it. */
  readonly signal?: AbortSignal | undefined;
}

export interface ListenOptions {
  readonly port?: number;
  /** IP literal. Default `0.0.0.0`. `::` takes IPv4 as well. */
  readonly host?: string;
  /** A Unix stream socket instead of a port. */
  readonly path?: string;
  readonly backlog?: number;
  readonly reusePort?: boolean;
}

export interface SpawnOptions {
  readonly class?: CoroutineClass;
}

interface QueueEntry {
  readonly qd: QueueDescriptor;
  readonly family: Family;
  readonly type: SocketType;
  connection: Connection | null;
}

// The global `performance` is a getter in Node: asking for it each turn would cost more than the clock.
const clock = performance;
const monotonicMs = () => clock.now();

/** Errors that end one connection and say nothing against the program. */
const CONNECTION_ERRORS = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ECONNABORTED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ECANCELED',
]);

export class Kernel {
  readonly datapath: Datapath;
  readonly heap: Heap;
  readonly scheduler: Scheduler;
  readonly operations: OperationTable;
  readonly timers: TimerWheel;
  readonly batch: number;
  /** Set by the host: something was queued while the host slept, so a turn is due. */
  onWork: () => void = () => {};
  /** Coroutines ended by a broken connection that they did not handle. */
  brokenConnections = 0;
  turns = 0;
  closed = false;
  /** An error that escaped a coroutine nobody joins; the host throws it after the turn. */
  fatal: Error | null = null;
  readonly #now: () => number;
  readonly #queues: (QueueEntry | null)[] = [];
  readonly #freeQueues: number[] = [];
  readonly #maxQueues: number;
  readonly #tasks: (Task<unknown> | null)[] = [];
  readonly #onUncaught: ((error: Error) => void) | null;
  #openQueues = 0;
  /** Milliseconds at the start of this turn; reading a clock per message would cost more than the message. */
  #time: number;

  constructor(datapath: Datapath, options: KernelOptions = {}) {
    this.datapath = datapath;
    this.heap = datapath.heap;
    this.batch = options.batch ?? 64;
    if (!(this.batch >= 1)) throw new RangeError('batch must be at least 1');
    this.#maxQueues = options.maxQueues ?? 1 << 20;
    this.#now = options.now ?? monotonicMs;
    this.#time = this.#now();
    this.#onUncaught = options.onUncaught ?? null;
    this.scheduler = new Scheduler(options.maxCoroutines === undefined ? {} : { maxCoroutines: options.maxCoroutines });
    this.scheduler.onEnded = (id, value, error) => this.#ended(id, value, error);
    this.operations = new OperationTable(this, this.scheduler);
    this.operations.withdraw = (op) => this.#withdraw(op);
    this.operations.discard = (op) => this.#discard(op);
    this.timers = new TimerWheel(this.#time);
    const host: DatapathHost = {
      heap: this.heap,
      openQueue: (family, type) => this.#openQueue(family, type),
      now: this.#now,
    };
    datapath.attach(host);
  }

  // ---- PDPIX: queues -------------------------------------------------------------------------------------------

  /** Opens a queue over a socket. @throws IsthmusError EMFILE, EAFNOSUPPORT, EOPNOTSUPP (socket(2)) */
  socket(family: Family, type: SocketType): QueueDescriptor {
    if (family === Family.UNIX && type !== SocketType.STREAM) {
      throw systemError(ERRNO.EOPNOTSUPP, 'socket', undefined, 'Unix sockets are streams here');
    }
    const qd = this.#openQueue(family, type);
    try {
      this.datapath.socket(qd, family, type);
    } catch (error) {
      this.#forget(qd);
      throw error;
    }
    return qd;
  }

  /** Binds a queue to a local address. @throws IsthmusError EADDRINUSE, EADDRNOTAVAIL, EACCES (bind(2)) */
  bind(qd: QueueDescriptor, address: Address): void {
    this.#entry(qd, 'bind');
    this.datapath.bind(qd, address);
  }

  /** A listener on a port or path, for `yield*` and `for await`. */
  listen(options: ListenOptions): Listener;
  /** Makes a bound queue accept connections. */
  listen(qd: QueueDescriptor, backlog?: number): void;
  listen(target: QueueDescriptor | ListenOptions, backlog = 511): Listener | undefined {
    if (typeof target !== 'number') return this.#listener(target);
    this.#entry(target, 'listen');
    this.datapath.listen(target, backlog);
    return undefined;
  }

  #listener(options: ListenOptions): Listener {
    const address = localAddress(options);
    const qd = this.socket(familyOf(address), SocketType.STREAM);
    try {
      if (!('path' in address)) this.datapath.setsockopt(qd, SocketOption.REUSE_ADDRESS, 1);
      if (options.reusePort) this.datapath.setsockopt(qd, SocketOption.REUSE_PORT, 1);
      this.bind(qd, address);
      this.listen(qd, options.backlog ?? 511);
    } catch (error) {
      this.close(qd);
      throw error;
    }
    return new Listener(this, qd);
  }

  /** Accepts the next connection; the token completes with its queue descriptor. */
  accept(qd: QueueDescriptor): QueueToken {
    this.#entry(qd, 'accept');
    const op = this.operations.acquire<number>(Opcode.ACCEPT, qd, deliverCompleted);
    this.datapath.accept(qd, op);
    return op.token;
  }

  /** Opens a connection: `yield* k.connect({ host, port })`, or `await`. */
  connect(address: Address, options?: OperationOptions): Operation<Connection>;
  /** Connects a queue; the token completes when the connection stands. */
  connect(qd: QueueDescriptor, address: Address): QueueToken;
  connect(target: QueueDescriptor | Address, second?: Address | OperationOptions): QueueToken | Operation<Connection> {
    if (typeof target !== 'number') return this.#connection(target, second as OperationOptions | undefined);
    this.#entry(target, 'connect');
    const op = this.operations.acquire<void>(Opcode.CONNECT, target, deliverCompleted);
    this.datapath.connect(target, second as Address, op);
    return op.token;
  }

  #connection(address: Address, options?: OperationOptions): Operation<Connection> {
    const qd = this.socket(familyOf(address), SocketType.STREAM);
    const op = this.operations.acquire<Connection>(Opcode.CONNECT, qd, deliverConnected);
    op.onFailure = closeQueueOfFailedConnect;
    op.rare = true;
    try {
      this.datapath.connect(qd, address, op as unknown as Operation<void>);
    } catch (error) {
      this.operations.release(op as Operation<unknown>);
      this.close(qd);
      throw error;
    }
    if (options !== undefined) this.limit(op as Operation<unknown>, options);
    return op;
  }

  /** Closes a queue: what was pushed is still sent; operations outstanding on it fail with ECANCELED. */
  close(qd: QueueDescriptor): void {
    this.#entry(qd, 'close');
    this.#close(qd, false);
  }

  /** Closes a queue at once and resets its connection; what is unsent is dropped. */
  abort(qd: QueueDescriptor): void {
    this.#entry(qd, 'abort');
    this.#close(qd, true);
  }

  #close(qd: QueueDescriptor, abort: boolean): void {
    const { connection } = this.#queues[qd]!;
    if (connection !== null) connection.closed = true;
    // Not open any more before the datapath fails what is outstanding: a failed connect closes its queue itself.
    this.#queues[qd] = null;
    this.datapath.close(qd, abort);
    this.#forget(qd);
    this.onWork();
  }

  /** Sends buffers, whose references pass to the queue. The token completes when the queue has taken them. */
  push(qd: QueueDescriptor, sga: Sga): QueueToken {
    this.#entry(qd, 'push');
    const op = this.operations.acquire<void>(Opcode.PUSH, qd, deliverCompleted);
    this.datapath.push(qd, sga, op);
    return op.token;
  }

  /** Sends one datagram, to `to` or (null) to whom the buffer came from. */
  pushTo(qd: QueueDescriptor, buffer: HeapBuffer, to: IpAddress | null = null): QueueToken {
    this.#entry(qd, 'pushTo');
    const op = this.operations.acquire<void>(Opcode.PUSH, qd, deliverCompleted);
    this.datapath.pushTo(qd, buffer, to, op);
    return op.token;
  }

  /** Receives: the token completes with a buffer the caller must release (or push), or null at the end of the stream. */
  pop(qd: QueueDescriptor): QueueToken {
    this.#entry(qd, 'pop');
    const op = this.operations.acquire<HeapBuffer | null>(Opcode.POP, qd, deliverCompleted);
    this.datapath.pop(qd, op);
    return op.token;
  }

  // ---- PDPIX: waiting ------------------------------------------------------------------------------------------

  /**
   * Waits for one token: `const result = yield* k.wait(qt)`. A failed operation is a result with `error` set.
   * @throws IsthmusError ETIMEDOUT at the deadline (the token stays valid), `ERR_TOKEN_USED` for a stale token
   */
  wait(token: QueueToken, options?: OperationOptions): Operation<CompletedOperation> {
    return waitForOne(this, token, options);
  }

  /** Waits for the first of several tokens; the others stay valid. The result says which (`index`). */
  waitAny(tokens: readonly QueueToken[], options?: OperationOptions): Operation<WaitAnyResult> {
    return waitForAny(this, tokens, options);
  }

  /** Waits for all of several tokens; results in the order of the tokens. */
  waitAll(tokens: readonly QueueToken[], options?: OperationOptions): Operation<CompletedOperation[]> {
    return waitForAll(this, tokens, options);
  }

  /** Withdraws the operation of a token: it fails with ECANCELED, which a wait on the token then reports. */
  cancel(token: QueueToken): void {
    this.operations.cancel(this.operations.lookup(token));
  }

  /** Puts a deadline and an abort signal on a pending operation. */
  limit(op: Operation<unknown>, options: OperationOptions): void {
    if (!op.pending) return;
    const { timeout, signal } = options;
    if (signal?.aborted) {
      this.operations.cancel(op, abortReason(signal));
      return;
    }
    if (timeout !== undefined) op.timer = this.timers.schedule(this.#now() + timeout, op);
    if (timeout === undefined && signal === undefined) return;
    op.rare = true;
    if (signal === undefined) op.cleanup = disarm;
    else this.#abortWith(op, signal);
    this.onWork();
  }

  #abortWith(op: Operation<unknown>, signal: AbortSignal): void {
    const onAbort = () => this.operations.cancel(op, abortReason(signal));
    signal.addEventListener('abort', onAbort);
    op.cleanup = () => {
      signal.removeEventListener('abort', onAbort);
      disarm(op);
    };
  }

  // ---- PDPIX: memory, names, options ---------------------------------------------------------------------------

  /** A buffer of `bytes` from the kernel's heap. @throws IsthmusError ENOMEM when the heap is used up */
  alloc(bytes: number): HeapBuffer {
    return this.heap.alloc(bytes);
  }

  /** Gives up a hold on a buffer. */
  free(buffer: HeapBuffer): void {
    buffer.release();
  }

  getsockname(qd: QueueDescriptor): Address {
    this.#entry(qd, 'getsockname');
    return this.datapath.getsockname(qd);
  }

  getpeername(qd: QueueDescriptor): Address {
    this.#entry(qd, 'getpeername');
    return this.datapath.getpeername(qd);
  }

  setsockopt(qd: QueueDescriptor, option: SocketOption, value: number): void {
    this.#entry(qd, 'setsockopt');
    this.datapath.setsockopt(qd, option, value);
  }

  getsockopt(qd: QueueDescriptor, option: SocketOption): number {
    this.#entry(qd, 'getsockopt');
    return this.datapath.getsockopt(qd, option);
  }

  // ---- Coroutines, time ----------------------------------------------------------------------------------------

  /** Starts a coroutine. It runs in this kernel's next turn; the task can be joined or cancelled. */
  spawn<T>(coroutine: Coroutine<T>, options?: SpawnOptions): Task<T> {
    const id = this.scheduler.spawn(coroutine as Coroutine<unknown>, options?.class ?? CoroutineClass.APPLICATION);
    const task = new Task<T>(this, id);
    this.#tasks[id] = task as Task<unknown>;
    this.onWork();
    return task;
  }

  /** Waits for `ms` milliseconds. */
  sleep(ms: number, options?: { signal?: AbortSignal }): Operation<void> {
    const op = this.operations.acquire<void>(Opcode.TIMER, -1, null);
    this.limit(op as Operation<unknown>, { timeout: ms, signal: options?.signal });
    return op;
  }

  /** Lets every other ready coroutine run first: `yield* k.yield()`. */
  yield(): Iterable<unknown> {
    return this.scheduler.giveWay();
  }

  /** A UDP socket, bound when a port is given. */
  udp(options: { port?: number; host?: string; reusePort?: boolean } = {}): UdpSocket {
    const address = { host: options.host ?? '0.0.0.0', port: options.port ?? 0 };
    const qd = this.socket(familyOf(address), SocketType.DGRAM);
    try {
      if (options.reusePort) this.datapath.setsockopt(qd, SocketOption.REUSE_PORT, 1);
      this.bind(qd, address);
    } catch (error) {
      this.close(qd);
      throw error;
    }
    return new UdpSocket(this, qd);
  }

  /** Milliseconds, monotonic, as of this turn. */
  get now(): number {
    return this.#time;
  }

  get openQueues(): number {
    return this.#openQueues;
  }

  // ---- The loop ------------------------------------------------------------------------------------------------

  /**
   * One turn, run to completion: take what has arrived (at most the batch), run every coroutine that it made ready,
   * transmit once. Then sleep for at most `waitUs` µs (-1: no limit) if there is nothing left to do.
   * @returns arrivals handled plus coroutines resumed; 0 means idle
   */
  turn(waitUs: number): number {
    this.turns++;
    let did = this.datapath.poll(this.batch);
    this.#time = this.#now();
    if (this.timers.size > 0) did += this.timers.advance(this.#time);
    const { scheduler } = this;
    // A coroutine woken by another of the same batch should answer within it, but must not starve the queues.
    for (let passes = 0; passes < 4 && scheduler.ready > 0; passes++) did += scheduler.run();
    let wait = waitUs;
    if (wait !== 0) {
      if (scheduler.ready > 0 || this.datapath.arrived) wait = 0;
      else if (this.timers.size > 0) {
        const untilTimer = Math.max(0, Math.ceil((this.timers.nextDeadline() - this.#time) * 1000));
        if (wait < 0 || untilTimer < wait) wait = untilTimer;
      }
    }
    this.datapath.submit(wait);
    return did;
  }

  /** Nothing is ready and nothing has arrived. */
  get idle(): boolean {
    return this.scheduler.ready === 0 && !this.datapath.arrived;
  }

  /** Ends the program: coroutines are cancelled (`finally` runs), queues are closed. Later turns still send what was pushed. */
  end(): void {
    for (let id = 0; id < this.#tasks.length; id++) if (this.#tasks[id]) this.scheduler.cancel(id, true);
    for (let qd = 0; qd < this.#queues.length; qd++) if (this.#queues[qd]) this.#close(qd, false);
  }

  /** Closed queues whose pushed bytes are not all sent yet. */
  get draining(): number {
    return this.datapath.draining ?? 0;
  }

  /** Ends the program at once and gives the datapath's resources back. */
  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.end();
    this.datapath.submit(0);
    this.datapath.dispose();
  }

  // ---- Inside --------------------------------------------------------------------------------------------------

  /** The connection object of a queue; made on first use. */
  connectionOf(qd: QueueDescriptor): Connection {
    const entry = this.#entry(qd, 'connection');
    entry.connection ??= new Connection(this, qd);
    return entry.connection;
  }

  /** The task that runs now, or null outside coroutines. */
  get currentTask(): Task<unknown> | null {
    const { current } = this.scheduler;
    return current < 0 ? null : (this.#tasks[current] ?? null);
  }

  isOpen(qd: QueueDescriptor): boolean {
    return (this.#queues[qd] ?? null) !== null;
  }

  #openQueue(family: Family, type: SocketType): QueueDescriptor {
    if (this.closed) throw systemError(ERRNO.ESHUTDOWN, 'socket', undefined, 'the kernel was disposed');
    if (this.#openQueues >= this.#maxQueues) {
      throw systemError(ERRNO.EMFILE, 'socket', undefined, `${this.#openQueues} queues are open, the kernel's limit`);
    }
    const qd = this.#freeQueues.pop() ?? this.#queues.length;
    this.#queues[qd] = { qd, family, type, connection: null };
    this.#openQueues++;
    return qd;
  }

  #forget(qd: QueueDescriptor): void {
    this.#queues[qd] = null;
    this.#freeQueues.push(qd);
    this.#openQueues--;
  }

  #entry(qd: QueueDescriptor, call: string): QueueEntry {
    const entry = this.#queues[qd];
    if (entry === undefined || entry === null) throw systemError(ERRNO.EBADF, call, `queue ${qd}`);
    return entry;
  }

  #withdraw(op: Operation<unknown>): void {
    if (op.qd >= 0 && this.isOpen(op.qd)) this.datapath.withdraw(op.qd, op);
  }

  /** A result that nobody will take: its buffer is freed, its connection closed. */
  #discard(op: Operation<unknown>): void {
    if (op.opcode === Opcode.POP) (op.value as HeapBuffer | null)?.release();
    else if (op.opcode === Opcode.ACCEPT && this.isOpen(op.value as number)) this.#close(op.value as number, true);
  }

  #ended(id: number, value: unknown, error: Error | null): void {
    const task = this.#tasks[id] as Task<unknown> | null;
    this.#tasks[id] = null;
    if (task === null || task === undefined) return;
    const joined = task.ended(value, error);
    if (error === null || joined) return;
    if (error instanceof IsthmusError && CONNECTION_ERRORS.has(error.code)) this.brokenConnections++;
    else if (this.#onUncaught !== null) this.#onUncaught(error);
    else this.fatal ??= error;
  }
}

function localAddress(options: ListenOptions): Address {
  if (options.path !== undefined) return { path: options.path };
  return { host: options.host ?? '0.0.0.0', port: options.port ?? 0 };
}

/** The family an address belongs to; text decides, the datapath checks it fully. */
export function familyOf(address: Address): Family {
  if ('path' in address) return Family.UNIX;
  return address.host.includes(':') ? Family.INET6 : Family.INET;
}

/** Takes back the timer of an operation's deadline. */
function disarm(op: Operation<unknown>): void {
  if (op.timer >= 0) op.kernel.timers.cancel(op.timer);
  op.timer = -1;
}

function abortReason(signal: AbortSignal): Error {
  const { reason } = signal;
  return reason instanceof Error ? reason : new IsthmusError(String(reason), { code: 'ABORT_ERR' });
}

function deliverConnected(op: Operation<unknown>): unknown {
  op.onFailure = null;
  return op.kernel.connectionOf(op.qd);
}

function closeQueueOfFailedConnect(op: Operation<unknown>): void {
  if (op.kernel.isOpen(op.qd)) op.kernel.abort(op.qd);
}
