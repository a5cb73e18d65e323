/**
 * The pushes of one stream that wait for what is unsent to drain: operations in order, and the buffers that TCP has not got
 * yet. It completes and fails pushes, and calls the connection that it is given.
 *
 * The push that passes the send limit begins at once and completes when half of the limit is free; those behind it wait
 * here, so that one that is withdrawn gives its buffers back.
 */
import { ERRNO } from '../../errors.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { Connection } from '../../net/tcp/connection.ts';
import { MAX_WINDOW } from '../../net/tcp/constants.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';

/** The buffers of a push as they were when pushed: what the program does with its view afterwards changes nothing. */
interface Held {
  readonly buffers: readonly HeapBuffer[];
  readonly offsets: readonly number[];
  readonly lengths: readonly number[];
  readonly bytes: number;
}

/** An operation's `value` is its {@link Held} for as long as TCP has not got it, and undefined then. */
export class Backlog extends OperationFifo {
  /** Bytes that TCP has not got. */
  bytes = 0;

  push(c: Connection, sga: Sga, op: Operation<void>, about: string): void {
    if (this.head === null) {
      if (!Array.isArray(sga)) {
        if (c.unsent + (sga as HeapBuffer).length <= c.sendBuffer && c.send(sga as HeapBuffer)) {
          op.complete(undefined);
          return;
        }
      } else if (c.unsent + bytesOf(sga) <= c.sendBuffer && hand(c, sga)) {
        op.complete(undefined);
        return;
      }
    }
    if (Array.isArray(sga) && sga.length > c.tcp.config.maxSendBuffers) {
      releaseAll(sga);
      op.failErrno(ERRNO.ENOBUFS, 'push', about);
      return;
    }
    const waits = this.head !== null || c.unsent >= c.sendBuffer || !hand(c, sga);
    (op as Operation<unknown>).value = waits ? this.#keep(sga) : undefined;
    this.append(op as Operation<unknown>);
    c.wasFull = true;
  }

  #keep(sga: Sga): Held {
    const buffers = Array.isArray(sga) ? (sga as readonly HeapBuffer[]).slice() : [sga as HeapBuffer];
    const bytes = bytesOf(sga);
    this.bytes += bytes;
    const offsets = buffers.map(({ offset }) => offset);
    return { buffers, offsets, lengths: buffers.map(({ length }) => length), bytes };
  }

  /** Something has been acknowledged: where half of the limit is free, pushes complete and TCP gets the next. */
  resume(c: Connection): void {
    for (let op = this.head; op !== null && c.unsent <= c.sendBuffer >> 1; op = this.head) {
      const held = op.value as Held | undefined;
      if (held !== undefined && (!this.#handHeld(c, op, held, false) || c.unsent > c.sendBuffer)) break;
      this.shift();
      op.complete(undefined);
    }
    // TCP tells again when half of it is free.
    if (this.head !== null) c.wasFull = true;
  }

  /** The stream ends after what was pushed: TCP gets all of it now, limits or not. False for 1 GiB, which it cannot take. */
  handAll(c: Connection): boolean {
    for (let op = this.head; op !== null; op = op.next_) {
      const held = op.value as Held | undefined;
      if (held !== undefined && !this.#handHeld(c, op, held, true)) return false;
    }
    return true;
  }

  #handHeld(c: Connection, op: Operation<unknown>, held: Held, last: boolean): boolean {
    const { buffers, offsets, lengths, bytes } = held;
    if (!fits(c, last ? 0 : buffers.length, bytes)) return false;
    for (let i = 0; i < buffers.length; i++) {
      const buffer = buffers[i]!;
      const { offset, length } = buffer;
      buffer.offset = offsets[i]!;
      buffer.length = lengths[i]!;
      const shared = buffer.references > 1;
      sendOrRelease(c, buffer, last);
      if (!shared) continue;
      // Others go on with the view that they have.
      buffer.offset = offset;
      buffer.length = length;
    }
    this.bytes -= bytes;
    op.value = undefined;
    return true;
  }

  /** A push is withdrawn. What TCP has already is sent all the same, since the stream cannot have a hole. */
  withdraw(op: Operation<unknown>): void {
    if (this.remove(op)) this.#letGo(op);
  }

  /** Fails every push, and releases what TCP never got. */
  failAll(errno: number, call: string, about: string): void {
    for (let op = this.shift(); op !== null; op = this.shift()) {
      this.#letGo(op);
      op.failErrno(errno, call, about);
    }
  }

  #letGo(op: Operation<unknown>): void {
    const held = op.value as Held | undefined;
    if (held === undefined) return;
    this.bytes -= held.bytes;
    op.value = undefined;
    for (const buffer of held.buffers) buffer.release();
  }
}

/** @param count 0 where the number does not matter */
function fits(c: Connection, count: number, bytes: number): boolean {
  return (count === 0 || c.sendQueue.count + count <= c.tcp.config.maxSendBuffers) && c.unsent + bytes < MAX_WINDOW;
}

/** Gives TCP the buffers of a push; false, and it has none of them, where it has no room for so many. */
function hand(c: Connection, sga: Sga): boolean {
  if (!Array.isArray(sga)) return fits(c, 1, (sga as HeapBuffer).length) && c.send(sga as HeapBuffer);
  if (!fits(c, sga.length, bytesOf(sga))) return false;
  for (let i = 0; i < sga.length; i++) sendOrRelease(c, (sga as readonly HeapBuffer[])[i]!, false);
  return true;
}

/** Refused only by a connection that is over, and then nothing more of it is sent. */
function sendOrRelease(c: Connection, buffer: HeapBuffer, last: boolean): void {
  if (!c.send(buffer, last)) buffer.release();
}

function bytesOf(sga: Sga): number {
  if (!Array.isArray(sga)) return (sga as HeapBuffer).length;
  let bytes = 0;
  for (const buffer of sga as readonly HeapBuffer[]) bytes += buffer.length;
  return bytes;
}

export function releaseAll(sga: Sga): void {
  if (!Array.isArray(sga)) (sga as HeapBuffer).release();
  else for (const buffer of sga as readonly HeapBuffer[]) buffer.release();
}
