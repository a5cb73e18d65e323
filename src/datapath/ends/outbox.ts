/**
 * What was pushed to a simulated stream and has not left: buffers in order, and the pushes that wait for them to go.
 * It touches the buffers it holds and those operations.
 */
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import { Fifo } from './fifo.ts';

/** Buffers waiting to be sent from which on a push waits, however few bytes they hold. */
const MOST_BUFFERS = 1024;

/** Part of a buffer, whose reference it holds. */
class Outgoing {
  readonly buffer: HeapBuffer;
  /** Token of the push. */
  readonly token: number;
  offset: number;
  left: number;
  begun = false;

  constructor(buffer: HeapBuffer, token: number) {
    this.buffer = buffer;
    this.token = token;
    this.offset = buffer.offset;
    this.left = buffer.length;
  }
}

export class Outbox {
  bytes = 0;
  /** Bytes above which a push waits. */
  limit: number;
  readonly pushes = new OperationFifo<void>();
  readonly #unsent = new Fifo<Outgoing>();

  constructor(limit: number) {
    this.limit = limit;
  }

  get empty(): boolean {
    return this.#unsent.length === 0;
  }

  get first(): Outgoing {
    return this.#unsent.at(0);
  }

  get #crowded(): boolean {
    return this.bytes > this.limit || this.#unsent.length > MOST_BUFFERS;
  }

  add(buffer: HeapBuffer, token: number): void {
    if (buffer.length === 0) {
      buffer.release();
      return;
    }
    this.#unsent.push(new Outgoing(buffer, token));
    this.bytes += buffer.length;
  }

  /** The first `bytes` of the first buffer have gone, and with its last byte its reference. */
  advance(bytes: number): void {
    const out = this.first;
    out.begun = true;
    out.offset += bytes;
    out.left -= bytes;
    this.bytes -= bytes;
    if (out.left === 0) this.#unsent.shift();
  }

  /** Completes a push now, or when there is room again. */
  admit(op: Operation<void>): void {
    if (this.#crowded) this.pushes.append(op);
    else op.complete(undefined);
  }

  /** Completes the pushes that there is room for now. */
  settle(): void {
    while (this.pushes.head !== null && !this.#crowded) this.pushes.shift()!.complete(undefined);
  }

  /** Takes back what a push brought, unless some of it has gone; false where the operation is no push of this queue. */
  withdraw(op: Operation<unknown>): boolean {
    if (!this.pushes.remove(op)) return false;
    const { token } = op;
    for (let i = 0; i < this.#unsent.length; i++) {
      const out = this.#unsent.at(i);
      if (out.token === token && out.begun) return true;
    }
    for (const out of this.#unsent.extract((out) => out.token === token)) {
      this.bytes -= out.left;
      out.buffer.release();
    }
    return true;
  }

  drop(): void {
    while (this.#unsent.length > 0) this.#unsent.shift().buffer.release();
    this.bytes = 0;
  }
}
