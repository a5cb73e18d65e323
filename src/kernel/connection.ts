/**
 * A connection: the face of a stream queue for coroutines (`yield*`) and for async code (`await`, `for await`).
 * It adds names and ownership to PDPIX calls and keeps no data of its own.
 */
import { ERRNO, systemError } from '../errors.ts';
import type { HeapBuffer, Sga } from '../ring/heap.ts';
import type { Address, SocketOption } from './datapath.ts';
import type { Kernel } from './kernel.ts';
import { limit, type OperationOptions } from './limit.ts';
import { Opcode, type Operation } from './operation.ts';
import type { QueueDescriptor } from './queue-table.ts';
import type { Task } from './task.ts';

/**
 * A connection belongs to the coroutine that last read from it, and is closed when that coroutine ends
 * (unless it was detached). In async code whoever holds it closes it, or `await using` does.
 */
export class Connection {
  readonly kernel: Kernel;
  readonly qd: QueueDescriptor;
  closed = false;
  /** The task that reads; null outside coroutines or when detached. */
  reader: Task<unknown> | null = null;
  // Its neighbours in the reader's list: a task may open and close one connection after the other for as long as it lives.
  nextOwned: Connection | null = null;
  previousOwned: Connection | null = null;
  #detached = false;
  #lastReader = -1;

  constructor(kernel: Kernel, qd: QueueDescriptor) {
    this.kernel = kernel;
    this.qd = qd;
  }

  /**
   * The next bytes, in a buffer that is now the caller's (release it, or push it on), or null at the end of the stream.
   * @throws IsthmusError ECONNRESET, ETIMEDOUT, ECANCELED (closed meanwhile), EBADF (closed before)
   */
  pop(options?: OperationOptions): Operation<HeapBuffer | null> {
    const { kernel } = this;
    if (this.closed) throw systemError(ERRNO.EBADF, 'pop', undefined, 'the connection is closed');
    const { current } = kernel.scheduler;
    if (current >= 0 && current !== this.#lastReader) this.#own(current);
    const op = kernel.operations.acquire<HeapBuffer | null>(Opcode.POP, this.qd, null);
    kernel.datapath.pop(this.qd, op);
    if (options !== undefined) limit(kernel, op as Operation<unknown>, options);
    return op;
  }

  #own(current: number): void {
    this.#lastReader = current;
    if (this.#detached) return;
    const task = this.kernel.currentTask;
    if (task !== null) this.belongTo(task);
  }

  /** The connection closes when this task ends, as if it had read from it. */
  belongTo(task: Task<unknown>): void {
    if (task === this.reader) return;
    this.leaveReader();
    const { owned } = task;
    this.reader = task;
    this.nextOwned = owned;
    if (owned !== null) owned.previousOwned = this;
    task.owned = this;
  }

  /** It belongs to no task any more. */
  leaveReader(): void {
    const { reader, nextOwned, previousOwned } = this;
    if (reader === null) return;
    if (previousOwned === null) reader.owned = nextOwned;
    else previousOwned.nextOwned = nextOwned;
    if (nextOwned !== null) nextOwned.previousOwned = previousOwned;
    this.nextOwned = null;
    this.previousOwned = null;
    this.reader = null;
  }

  /**
   * Sends buffers in order; their references pass to the connection. Done as soon as the queue has taken them;
   * when the peer reads slowly it is done only once the backlog has drained.
   * @throws IsthmusError EPIPE, ECONNRESET, EBADF
   */
  push(sga: Sga, options?: OperationOptions): Operation<void> {
    const { kernel } = this;
    if (this.closed) {
      releaseAll(sga);
      throw systemError(ERRNO.EBADF, 'push', undefined, 'the connection is closed');
    }
    const op = kernel.operations.acquire<void>(Opcode.PUSH, this.qd, null);
    kernel.datapath.push(this.qd, sga, op);
    if (options !== undefined) limit(kernel, op as Operation<unknown>, options);
    return op;
  }

  /** Sends text or bytes, copied into a buffer of the heap. For replies made from strings; hot paths push buffers. */
  write(data: string | Uint8Array, options?: OperationOptions): Operation<void> {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    const { largest } = this.kernel.heap;
    if (bytes.length <= largest) return this.push(this.kernel.alloc(bytes.length).fill(bytes), options);
    const buffers: HeapBuffer[] = [];
    try {
      for (let at = 0; at < bytes.length; at += largest) {
        const part = bytes.subarray(at, at + largest);
        buffers.push(this.kernel.alloc(part.length).fill(part));
      }
    } catch (error) {
      releaseAll(buffers);
      throw error;
    }
    return this.push(buffers, options);
  }

  /** Half-close: the peer sees the end of the stream after what was pushed; reading goes on. */
  end(): void {
    if (!this.closed) this.kernel.datapath.shutdown(this.qd);
    this.kernel.onWork();
  }

  /** Closes; what was pushed is still sent. Closing twice is harmless. */
  close(): void {
    if (!this.closed) this.kernel.close(this.qd);
  }

  /** Resets the connection; what is unsent is dropped. */
  abort(): void {
    if (!this.closed) this.kernel.abort(this.qd);
  }

  /** The connection no longer ends with the coroutine that reads it: close it yourself. */
  detach(): this {
    this.#detached = true;
    this.leaveReader();
    return this;
  }

  /** Bytes pushed and not yet taken by the network. */
  get unsent(): number {
    return this.closed ? 0 : this.kernel.datapath.unsent(this.qd);
  }

  get localAddress(): Address {
    return this.kernel.getsockname(this.qd);
  }

  get remoteAddress(): Address {
    return this.kernel.getpeername(this.qd);
  }

  setOption(option: SocketOption, value: number): void {
    this.kernel.setsockopt(this.qd, option, value);
  }

  /** `for await (const buffer of conn)`: each buffer is the loop's to release or push; leaving the loop does not close. */
  async *[Symbol.asyncIterator](): AsyncGenerator<HeapBuffer, void, void> {
    for (;;) {
      const buffer = await this.pop();
      if (buffer === null) return;
      yield buffer;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** Releases every buffer of a scatter-gather array. */
export function releaseAll(sga: Sga): void {
  if ('references' in sga) sga.release();
  else for (const buffer of sga) buffer.release();
}
