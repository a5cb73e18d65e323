/**
 * Operations that wait for the same thing, oldest first, linked through the operations themselves: nothing is allocated.
 * It touches only the operations in it.
 */
import type { Operation } from './operation.ts';

export class OperationFifo<T = unknown> {
  head: Operation<T> | null = null;
  #tail: Operation<T> | null = null;

  append(op: Operation<T>): void {
    op.next_ = null;
    if (this.#tail === null) this.head = op;
    else this.#tail.next_ = op as Operation<unknown>;
    this.#tail = op;
  }

  shift(): Operation<T> | null {
    const op = this.head;
    if (op === null) return null;
    this.head = op.next_ as Operation<T> | null;
    if (this.head === null) this.#tail = null;
    op.next_ = null;
    return op;
  }

  /** @returns whether it was there */
  remove(op: Operation<unknown>): boolean {
    let before: Operation<T> | null = null;
    for (let at = this.head; at !== null; before = at, at = at.next_ as Operation<T> | null) {
      if ((at as Operation<unknown>) !== op) continue;
      if (before === null) this.head = at.next_ as Operation<T> | null;
      else before.next_ = at.next_;
      if (this.#tail === at) this.#tail = before;
      at.next_ = null;
      return true;
    }
    return false;
  }

  /** Fails every one of them. */
  fail(errno: number, call: string): void {
    for (let op = this.shift(); op !== null; op = this.shift()) op.failErrno(errno, call);
  }
}
