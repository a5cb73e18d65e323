/**
 * One kernel: queue descriptors, queue tokens, coroutines and timers over one datapath, with PDPIX's own names.
 * Single-threaded; it owns everything it touches and reaches the world only through its datapath.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Heap, HeapBuffer, Sga } from '../ring/heap.ts';
import { Connection } from './connection.ts';
import { type Address, type Datapath, type DatapathHost, Family, type SocketOption, SocketType } from './datapath.ts';
import type { Listener, UdpSocket } from './endpoints.ts';
import { limit, type OperationOptions } from './limit.ts';
import {
  DEFAULT_BACKLOG,
  type ListenOptions,
  openConnection,
  openListener,
  openUdp,
  type UdpOptions,
} from './opening.ts';
import {
  type CompletedOperation,
  deliverCompleted,
  Opcode,
  type Operation,
  OperationTable,
  type QueueToken,
} from './operation.ts';
import { type QueueDescriptor, QueueTable } from './queue-table.ts';
import { type Coroutine, CoroutineClass, Scheduler } from './scheduler.ts';
import { Task } from './task.ts';
import { TimerWheel } from './timers.ts';
import { type WaitAnyResult, waitForAll, waitForAny, waitForOne } from './waiting.ts';

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

export interface SpawnOptions {
  readonly class?: CoroutineClass;
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
  /** Monotonic milliseconds, read now; {@link now} is the time of the turn. */
  readonly clock: () => number;
  /** Set by the host: something was queued while the host slept, so a turn is due. */
  onWork: () => void = () => {};
  /** Coroutines ended by a broken connection that they did not handle. */
  brokenConnections = 0;
  turns = 0;
  closed = false;
  /** An error that escaped a coroutine nobody joins; the host throws it after the turn. */
  fatal: Error | null = null;
  readonly #queues: QueueTable;
  readonly #tasks: (Task<unknown> | null)[] = [];
  readonly #onUncaught: ((error: Error) => void) | null;
  /** Milliseconds at the start of this turn; reading a clock per message would cost more than the message. */
  #time: number;

  constructor(datapath: Datapath, options: KernelOptions = {}) {
    this.datapath = datapath;
    this.heap = datapath.heap;
    this.batch = options.batch ?? 64;
    if (!(this.batch >= 1)) throw new RangeError('batch must be at least 1');
    this.#queues = new QueueTable(options.maxQueues ?? 1 << 20);
    this.clock = options.now ?? monotonicMs;
    this.#time = this.clock();
    this.#onUncaught = options.onUncaught ?? null;
    this.scheduler = new Scheduler(options.maxCoroutines === undefined ? {} : { maxCoroutines: options.maxCoroutines });
    this.scheduler.onEnded = (id, value, error) => this.#ended(id, value, error);
    this.operations = new OperationTable(this, this.scheduler);
    this.operations.withdraw = (op) => this.#withdraw(op);
    this.operations.discard = (op) => this.#discard(op);
    this.timers = new TimerWheel(this.#time);
    const host: DatapathHost = {
      heap: this.heap,
      openQueue: () => this.#openQueue(),
      now: this.clock,
    };
    datapath.attach(host);
  }

  // ---- PDPIX: queues -------------------------------------------------------------------------------------------

  /** Opens a queue over a socket. @throws IsthmusError EMFILE, EAFNOSUPPORT, EOPNOTSUPP (socket(2)) */
  socket(family: Family, type: SocketType): QueueDescriptor {
    if (family === Family.UNIX && type !== SocketType.STREAM) {
      throw systemError(ERRNO.EOPNOTSUPP, 'socket', undefined, 'Unix sockets are streams here');
    }
    const qd = this.#openQueue();
    try {
      this.datapath.socket(qd, family, type);
    } catch (error) {
      this.#queues.release(qd);
      throw error;
    }
    return qd;
  }

  /** Binds a queue to a local address. @throws IsthmusError EADDRINUSE, EADDRNOTAVAIL, EACCES (bind(2)) */
  bind(qd: QueueDescriptor, address: Address): void {
    this.#queues.entry(qd, 'bind');
    this.datapath.bind(qd, address);
  }

  /** A listener on a port or path, for `yield*` and `for await`. */
  listen(options: ListenOptions): Listener;
  /** Makes a bound queue accept connections. */
  listen(qd: QueueDescriptor, backlog?: number): void;
  listen(target: QueueDescriptor | ListenOptions, backlog = DEFAULT_BACKLOG): Listener | undefined {
    if (typeof target !== 'number') return openListener(this, target);
    this.#queues.entry(target, 'listen');
    this.datapath.listen(target, backlog);
    return undefined;
  }

  /** Accepts the next connection; the token completes with its queue descriptor. */
  accept(qd: QueueDescriptor): QueueToken {
    this.#queues.entry(qd, 'accept');
    const op = this.operations.acquire<number>(Opcode.ACCEPT, qd, deliverCompleted);
    this.datapath.accept(qd, op);
    return op.token;
  }

  /** Opens a connection: `yield* k.connect({ host, port })`, or `await`. */
  connect(address: Address, options?: OperationOptions): Operation<Connection>;
  /** Connects a queue; the token completes when the connection stands. */
  connect(qd: QueueDescriptor, address: Address): QueueToken;
  connect(target: QueueDescriptor | Address, second?: Address | OperationOptions): QueueToken | Operation<Connection> {
    if (typeof target !== 'number') return openConnection(this, target, second as OperationOptions | undefined);
    this.#queues.entry(target, 'connect');
    const op = this.operations.acquire<void>(Opcode.CONNECT, target, deliverCompleted);
    this.datapath.connect(target, second as Address, op);
    return op.token;
  }

  /** Closes a queue: what was pushed is still sent; operations outstanding on it fail with ECANCELED. */
  close(qd: QueueDescriptor): void {
    this.#close(qd, false);
  }

  /** Closes a queue at once and resets its connection; what is unsent is dropped. */
  abort(qd: QueueDescriptor): void {
    this.#queues.entry(qd, 'abort');
    this.#close(qd, true);
  }

  #close(qd: QueueDescriptor, abort: boolean): void {
    const { connection } = this.#queues.entry(qd, 'close');
    if (connection !== null) {
      connection.closed = true;
      connection.leaveReader();
    }
    // Not open any more before the datapath fails what is outstanding: a failed connect closes its queue itself.
    this.#queues.shut(qd);
    this.datapath.close(qd, abort);
    this.#queues.release(qd);
    this.onWork();
  }

  /** Sends buffers, whose references pass to the queue. The token completes when the queue has taken them. */
  push(qd: QueueDescriptor, sga: Sga): QueueToken {
    this.#queues.entry(qd, 'push');
    const op = this.operations.acquire<void>(Opcode.PUSH, qd, deliverCompleted);
    this.datapath.push(qd, sga, op);
    return op.token;
  }

  /** Sends one datagram, to `to` or (null) to whom the buffer came from. */
  pushTo(qd: QueueDescriptor, buffer: HeapBuffer, to: IpAddress | null = null): QueueToken {
    this.#queues.entry(qd, 'pushTo');
    const op = this.operations.acquire<void>(Opcode.PUSH, qd, deliverCompleted);
    this.datapath.pushTo(qd, buffer, to, op);
    return op.token;
  }

  /** Receives: the token completes with a buffer the caller must release (or push), or null at the end of the stream. */
  pop(qd: QueueDescriptor): QueueToken {
    this.#queues.entry(qd, 'pop');
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
    this.#queues.entry(qd, 'getsockname');
    return this.datapath.getsockname(qd);
  }

  getpeername(qd: QueueDescriptor): Address {
    this.#queues.entry(qd, 'getpeername');
    return this.datapath.getpeername(qd);
  }

  setsockopt(qd: QueueDescriptor, option: SocketOption, value: number): void {
    this.#queues.entry(qd, 'setsockopt');
    this.datapath.setsockopt(qd, option, value);
  }

  getsockopt(qd: QueueDescriptor, option: SocketOption): number {
    this.#queues.entry(qd, 'getsockopt');
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
    limit(this, op as Operation<unknown>, { timeout: ms, signal: options?.signal });
    return op;
  }

  /** Lets every other ready coroutine run first: `yield* k.yield()`. */
  yield(): Iterable<unknown> {
    return this.scheduler.giveWay();
  }

  /** A UDP socket, bound when a port is given. */
  udp(options: UdpOptions = {}): UdpSocket {
    return openUdp(this, options);
  }

  /** Milliseconds, monotonic, as of this turn. */
  get now(): number {
    return this.#time;
  }

  get openQueues(): number {
    return this.#queues.size;
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
    this.#time = this.clock();
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
    for (const qd of this.#queues) this.#close(qd, false);
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
    const entry = this.#queues.entry(qd, 'connection');
    entry.connection ??= new Connection(this, qd);
    return entry.connection;
  }

  /** The task that runs now, or null outside coroutines. */
  get currentTask(): Task<unknown> | null {
    const { current } = this.scheduler;
    return current < 0 ? null : (this.#tasks[current] ?? null);
  }

  isOpen(qd: QueueDescriptor): boolean {
    return this.#queues.isOpen(qd);
  }

  #openQueue(): QueueDescriptor {
    if (this.closed) throw systemError(ERRNO.ESHUTDOWN, 'socket', undefined, 'the kernel was disposed');
    return this.#queues.open();
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
