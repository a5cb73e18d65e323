/**
 * Operations and their queue tokens: one pooled object stands for one asynchronous queue operation from call to result.
 * It may touch the scheduler (to wake who waits) and nothing else; it is an iterator, an iterator result and a thenable at once.
 *
 * `yield* op` in a coroutine costs no allocation, because the operation is its own iterator and its own iterator result.
 * `await op` works too. Either way an operation is consumed once: with its result it goes back to the pool.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import type { Kernel } from './kernel.ts';
import type { Scheduler } from './scheduler.ts';
import type { Timed } from './timers.ts';

/** What an operation does (demi_opcode_t). */
export const Opcode = {
  PUSH: 1,
  POP: 2,
  ACCEPT: 3,
  CONNECT: 4,
  TIMER: 5,
  ANY: 6,
  JOIN: 7,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

export const State = { FREE: 0, PENDING: 1, DONE: 2, FAILED: 3 } as const;

/** A queue token: names one operation until its result is taken (PDPIX). 20 bits of slot, 11 bits of generation. */
export type QueueToken = number;

const SLOT_BITS = 20;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
const NEXT_GENERATION = 1 << SLOT_BITS;
/** 31 bits: the generation wraps and never reaches the sign. */
const TOKEN_MASK = 0x7fffffff;
/** Most operations outstanding in one kernel. */
export const MAX_OPERATIONS = 1 << SLOT_BITS;

/** How a result is turned into what the caller sees when it is taken; static functions, never closures per message. */
export type Deliver = (op: Operation<unknown>) => unknown;

/** For operations waited for by their token: a {@link CompletedOperation}, also when it failed, instead of throwing. */
export function deliverCompleted(op: Operation<unknown>): CompletedOperation {
  return op.result();
}

/** What `wait`, `waitAny` and `waitAll` say of a finished operation (demi_qresult_t). */
export interface CompletedOperation {
  readonly opcode: Opcode;
  readonly qd: number;
  readonly token: QueueToken;
  /** pop: a buffer or null; accept: the new queue descriptor; else undefined. */
  readonly value: unknown;
  /** Why it failed, or null. */
  readonly error: Error | null;
}

export class Operation<T> implements PromiseLike<T>, Iterator<Operation<T>, T, unknown>, Timed {
  // First what every operation uses: it lies in two lines of the cache instead of four, and with many connections waiting
  // these are what a message misses.
  readonly table: OperationTable;
  token: QueueToken;
  state: number = State.FREE;
  opcode: Opcode = Opcode.PUSH;
  /** Queue the operation belongs to, -1 for none. */
  qd = -1;
  /** Coroutine to wake, -1 for none. */
  waiter = -1;
  /** One of `error`, `parent`, `children`, `onFailure` and `cleanup` is set: the hot path looks at this alone. */
  rare = false;
  // The iterator result that `yield*` reads. They are plain fields because V8 reads them on every resumption.
  done = false;
  value: T = undefined as T;
  error: Error | null = null;
  deliver: Deliver | null = null;
  /** For datapaths: the next operation waiting on the same queue. */
  next_: Operation<unknown> | null = null;

  readonly slot: number;
  /** The waitAny or waitAll that this operation is part of. */
  parent: Operation<unknown> | null = null;
  children: Operation<unknown>[] | null = null;
  /** Children that must still finish before this one does. */
  missing = 0;
  /** For datapaths: whatever number they keep per operation (bytes left, an address slot). */
  datum = 0;
  /** Runs once when the operation fails, before anybody is told. */
  onFailure: Deliver | null = null;
  /** Timer armed for the operation's deadline, -1 for none. */
  timer = -1;
  /** Runs once when the operation leaves the pending state: disarms timers and abort listeners. Null on the hot path. */
  cleanup: ((op: Operation<unknown>) => void) | null = null;
  #resolve: ((value: T) => void) | null = null;
  #reject: ((error: Error) => void) | null = null;

  constructor(table: OperationTable, slot: number) {
    this.table = table;
    this.slot = slot;
    this.token = slot;
  }

  get pending(): boolean {
    return this.state === State.PENDING;
  }

  /** Completes with a result; wakes whoever waits. A completion after cancellation is ignored by design of the caller. */
  complete(value: T): void {
    this.value = value;
    this.#settle(State.DONE);
  }

  fail(error: Error): void {
    this.error = error;
    this.rare = true;
    this.#settle(State.FAILED);
  }

  /** Fails with the errno of a system call (positive or negative). */
  failErrno(errno: number, syscall: string, about?: string): void {
    if (this.waiter < 0) {
      this.fail(systemError(errno, syscall, about));
      return;
    }
    // Who waits already is told by a turn, whose stack says nothing and costs more than the rest of a short connection. A
    // limit of 0 would still have V8 look for the topmost function, through all that it has inlined there.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = undefined as unknown as number;
    const error = systemError(errno, syscall, about);
    Error.stackTraceLimit = stackTraceLimit;
    error.stack = `${error.name}: ${error.message}`;
    this.fail(error);
  }

  #settle(state: number): void {
    if (this.state !== State.PENDING) throw new Error(`operation ${this.token} completed twice`);
    this.state = state;
    if (this.rare) this.#settleRare();
    if (this.waiter >= 0) this.table.scheduler.wake(this.waiter);
    else if (this.#resolve !== null) this.#deliverToPromise();
  }

  #settleRare(): void {
    const { cleanup } = this;
    this.cleanup = null;
    if (cleanup !== null) cleanup(this as Operation<unknown>);
    if (this.state === State.FAILED && this.onFailure !== null) this.onFailure(this as Operation<unknown>);
    // Nobody but its group waits for an operation that is part of one.
    if (this.parent !== null) this.parent.childSettled();
  }

  childSettled(): void {
    if (this.state === State.PENDING && --this.missing <= 0) this.complete(undefined as T);
  }

  /** Part of the iterator protocol: gives itself, unfinished while pending and finished with the result after. */
  next(): IteratorYieldResult<Operation<T>> | IteratorReturnResult<T> {
    const { state } = this;
    if (state === State.PENDING) {
      const current = this.table.scheduler.current;
      if (current < 0) throw new TypeError('yield* of an operation works only in a coroutine of the kernel; use await');
      if (this.waiter >= 0 && this.waiter !== current) throw new TypeError('another coroutine already waits for this');
      this.waiter = current;
      this.done = false;
      return this as unknown as IteratorYieldResult<Operation<T>>;
    }
    if (state === State.FREE) throw new IsthmusError('the result was already taken', { code: 'ERR_TOKEN_USED' });
    return this.#take() as unknown as IteratorReturnResult<T>;
  }

  #take(): this {
    const { error, deliver } = this;
    if (deliver !== null && (error === null || deliver === deliverCompleted)) {
      this.value = deliver(this as Operation<unknown>) as T;
    }
    this.table.release(this as Operation<unknown>);
    if (error !== null && deliver !== deliverCompleted) throw error;
    this.done = true;
    return this;
  }

  /** What a wait on the token says of this finished operation. */
  result(): CompletedOperation {
    const { opcode, qd, token, value, error } = this;
    return { opcode, qd, token, value: error === null ? value : undefined, error };
  }

  get kernel(): Kernel {
    return this.table.kernel;
  }

  /** The deadline has come: a timer completes, anything else fails with ETIMEDOUT and is withdrawn. */
  expired(): void {
    this.timer = -1;
    if (this.state !== State.PENDING) return;
    if (this.opcode === Opcode.TIMER) this.complete(undefined as T);
    else this.table.cancel(this as Operation<unknown>, systemError(ERRNO.ETIMEDOUT, 'wait'));
  }

  /** The coroutine that waits is being closed: the operation is withdrawn. */
  return(value?: T): IteratorReturnResult<T> {
    this.abandon();
    return { done: true, value: value as T };
  }

  /** An error is thrown into the coroutine that waits: the operation is withdrawn and the error goes on. */
  throw(error: unknown): IteratorReturnResult<T> {
    this.abandon();
    throw error;
  }

  /** Withdraws the operation and gives its slot back, whatever its state; a result that arrived is dropped (buffers freed). */
  abandon(): void {
    if (this.state === State.FREE) return;
    this.waiter = -1;
    this.parent = null;
    this.#resolve = null;
    if (this.state === State.PENDING) this.table.cancel(this as Operation<unknown>);
    this.table.drop(this as Operation<unknown>);
  }

  // biome-ignore lint/suspicious/noThenProperty: an operation is awaited as it is
  then<A = T, B = never>(
    onValue?: ((value: T) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return new Promise<T>((resolve, reject) => {
      if (this.state === State.FREE) {
        reject(new IsthmusError('the result was already taken', { code: 'ERR_TOKEN_USED' }));
        return;
      }
      this.#resolve = resolve;
      this.#reject = reject;
      if (this.state !== State.PENDING) this.#deliverToPromise();
    }).then(onValue, onError);
  }

  #deliverToPromise(): void {
    const resolve = this.#resolve!;
    const reject = this.#reject!;
    this.#resolve = null;
    this.#reject = null;
    try {
      this.#take();
    } catch (error) {
      reject(error as Error);
      return;
    }
    resolve(this.value);
  }

  [Symbol.iterator](): Iterator<Operation<T>, T, unknown> {
    return this as Iterator<Operation<T>, T, unknown>;
  }
}

/** All operations of one kernel: a pool that grows to a bound and then says ENOBUFS. */
export class OperationTable {
  readonly scheduler: Scheduler;
  readonly kernel: Kernel;
  readonly limit: number;
  /** Called to withdraw a pending operation from its datapath; must not complete it. */
  withdraw: (op: Operation<unknown>) => void = () => {};
  /** Called with a result nobody will take. */
  discard: (op: Operation<unknown>) => void = () => {};
  /** Set by the host while it sleeps: an operation begun from outside a turn must wake it. */
  asleep = false;
  /** Operations outstanding: taken, and neither finished with nor withdrawn. */
  inUse = 0;
  readonly #all: Operation<unknown>[] = [];
  /** Free operations, linked through `next_`: cheaper than an array, whose length would be one more word to change. */
  #free: Operation<unknown> | null = null;

  constructor(kernel: Kernel, scheduler: Scheduler, limit = MAX_OPERATIONS) {
    this.kernel = kernel;
    this.scheduler = scheduler;
    this.limit = Math.min(limit, MAX_OPERATIONS);
  }

  acquire<T>(opcode: Opcode, qd: number, deliver: Deliver | null): Operation<T> {
    const op = this.#free ?? this.#grow();
    this.#free = op.next_;
    op.next_ = null;
    op.state = State.PENDING;
    op.opcode = opcode;
    op.qd = qd;
    op.deliver = deliver;
    op.waiter = -1;
    this.inUse++;
    if (this.asleep) this.kernel.onWork();
    return op as Operation<T>;
  }

  #grow(): Operation<unknown> {
    const slot = this.#all.length;
    if (slot >= this.limit) throw systemError(ERRNO.ENOBUFS, 'token', undefined, `${slot} operations are outstanding`);
    const op = new Operation<unknown>(this, slot);
    this.#all.push(op);
    return op;
  }

  /** Gives the slot back; the token it had is stale from now on. `value` stays readable until the next acquire. */
  release(op: Operation<unknown>): void {
    op.state = State.FREE;
    // What most operations never have is reset here and not in acquire, and only where it is set: it is the hot path.
    if (op.rare) resetRare(op);
    op.token = (op.token + NEXT_GENERATION) & TOKEN_MASK;
    this.inUse--;
    op.next_ = this.#free;
    this.#free = op;
  }

  /** Takes a pending operation away from its datapath and fails it with ECANCELED (or `error`). */
  cancel(op: Operation<unknown>, error?: Error): void {
    if (op.state !== State.PENDING) return;
    this.withdraw(op);
    op.fail(error ?? systemError(ERRNO.ECANCELED, 'cancel'));
  }

  drop(op: Operation<unknown>): void {
    if (op.state === State.DONE) this.discard(op);
    this.release(op);
  }

  /** The operation a token names. Throws `ERR_TOKEN_USED` (a stale token) or EINVAL (never a token). */
  lookup(token: QueueToken): Operation<unknown> {
    const op = this.#all[token & SLOT_MASK];
    if (op === undefined || !Number.isInteger(token) || token < 0)
      throw systemError(ERRNO.EINVAL, 'wait', `token ${token}`);
    if (op.token !== token || op.state === State.FREE) {
      throw new IsthmusError(`the result of token ${token} was already taken`, {
        code: 'ERR_TOKEN_USED',
        syscall: 'wait',
      });
    }
    return op;
  }
}

function resetRare(op: Operation<unknown>): void {
  op.rare = false;
  op.error = null;
  op.onFailure = null;
  op.parent = null;
  // A group that is over must not be told of its children any more: its slot may soon be another operation's.
  for (const child of op.children ?? []) if (child.parent === op) child.parent = null;
  op.children = null;
}
