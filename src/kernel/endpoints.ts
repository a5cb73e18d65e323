/**
 * The faces of a listening queue and of a datagram queue, for coroutines and for async code.
 * Like connections they add names to PDPIX calls and keep no data of their own.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO, systemError } from '../errors.ts';
import type { HeapBuffer } from '../ring/heap.ts';
import type { Connection } from './connection.ts';
import type { Address } from './datapath.ts';
import type { Kernel } from './kernel.ts';
import { limit, type OperationOptions } from './limit.ts';
import { Opcode, type Operation } from './operation.ts';
import type { QueueDescriptor } from './queue-table.ts';
import type { Coroutine } from './scheduler.ts';

/** What both have: a queue descriptor and an end. */
class Endpoint {
  readonly kernel: Kernel;
  readonly qd: QueueDescriptor;
  #closed = false;

  constructor(kernel: Kernel, qd: QueueDescriptor) {
    this.kernel = kernel;
    this.qd = qd;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get address(): Address {
    return this.kernel.getsockname(this.qd);
  }

  /** Closes; outstanding operations fail with ECANCELED. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.kernel.close(this.qd);
  }

  assertOpen(call: string): void {
    if (this.#closed) throw systemError(ERRNO.EBADF, call, undefined, 'it is closed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** A listener. `yield* k.listen(…)` gives it at once (errors are thrown by `listen`); `for await` gives its connections. */
export class Listener extends Endpoint {
  /**
   * The next connection.
   * @throws IsthmusError EMFILE when no descriptors are left (the listener stays usable), ECANCELED when it was closed
   */
  accept(options?: OperationOptions): Operation<Connection> {
    this.assertOpen('accept');
    const { kernel } = this;
    const op = kernel.operations.acquire<Connection>(Opcode.ACCEPT, this.qd, deliverConnection);
    kernel.datapath.accept(this.qd, op as unknown as Operation<number>);
    if (options !== undefined) limit(kernel, op as Operation<unknown>, options);
    return op;
  }

  /**
   * Accepts for ever and starts `handler` for each connection, which is closed when its handler ends (unless another
   * coroutine reads from it by then).
   * Out of descriptors, it waits for one to come free. Ends when the listener is closed.
   */
  *serve(handler: (conn: Connection) => Coroutine<unknown>): Coroutine {
    while (!this.closed) {
      let conn: Connection;
      try {
        conn = yield* this.accept();
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === 'ECANCELED') return;
        if (code === 'ECONNABORTED') continue;
        if (code !== 'EMFILE' && code !== 'ENFILE' && code !== 'ENOBUFS' && code !== 'ENOMEM') throw error;
        yield* this.kernel.sleep(10);
        continue;
      }
      // No coroutine around the handler's: each would be resumed on the way to it, for every message.
      conn.belongTo(this.kernel.spawn(started(conn, handler)));
    }
  }

  /** So that `yield* k.listen(…)` reads as the other calls do. */
  *[Symbol.iterator](): Generator<never, this, void> {
    return this;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Connection, void, void> {
    while (!this.closed) {
      try {
        yield await this.accept();
      } catch (error) {
        if ((error as { code?: string }).code === 'ECANCELED') return;
        throw error;
      }
    }
  }
}

/** The handler's coroutine; where it cannot be made, one that fails with the reason and so ends the connection. */
function started(conn: Connection, handler: (conn: Connection) => Coroutine<unknown>): Coroutine<unknown> {
  try {
    return handler(conn);
  } catch (error) {
    return failed(error);
  }
}

function* failed(error: unknown): Coroutine {
  throw error;
}

function deliverConnection(op: Operation<unknown>): Connection {
  return op.kernel.connectionOf(op.value as number);
}

/** A UDP socket: each buffer is one datagram and knows its sender (`buffer.peer`). */
export class UdpSocket extends Endpoint {
  /** The next datagram; never null. */
  pop(options?: OperationOptions): Operation<HeapBuffer> {
    this.assertOpen('pop');
    const { kernel } = this;
    const op = kernel.operations.acquire<HeapBuffer>(Opcode.POP, this.qd, null);
    kernel.datapath.pop(this.qd, op as unknown as Operation<HeapBuffer | null>);
    if (options !== undefined) limit(kernel, op as Operation<unknown>, options);
    return op;
  }

  /** Sends a datagram to `to`, or back to whom the buffer came from. The buffer's reference passes to the socket. */
  push(buffer: HeapBuffer, to: IpAddress | null = null): Operation<void> {
    const { kernel } = this;
    if (this.closed) buffer.release();
    this.assertOpen('push');
    const op = kernel.operations.acquire<void>(Opcode.PUSH, this.qd, null);
    kernel.datapath.pushTo(this.qd, buffer, to, op);
    return op;
  }

  /** Fixes the peer (connect(2) on a datagram socket). */
  connect(to: IpAddress): Operation<void> {
    this.assertOpen('connect');
    const op = this.kernel.operations.acquire<void>(Opcode.CONNECT, this.qd, null);
    this.kernel.datapath.connect(this.qd, to, op);
    return op;
  }

  *[Symbol.iterator](): Generator<never, this, void> {
    return this;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<HeapBuffer, void, void> {
    while (!this.closed) {
      try {
        yield await this.pop();
      } catch (error) {
        if ((error as { code?: string }).code === 'ECANCELED') return;
        throw error;
      }
    }
  }
}
