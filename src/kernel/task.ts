/**
 * A task: the handle of a spawned coroutine, to join or to cancel it, and the connections it must close when it ends.
 * It touches the scheduler and the connections the coroutine reads, nothing else.
 */
import type { Connection } from './connection.ts';
import type { Kernel } from './kernel.ts';
import { Opcode, type Operation } from './operation.ts';

export class Task<T> {
  readonly kernel: Kernel;
  readonly id: number;
  finished = false;
  /** Head of the list of connections this coroutine reads. */
  owned: Connection | null = null;
  #value: T | undefined;
  #error: Error | null = null;
  #joiners: Operation<T>[] = [];

  constructor(kernel: Kernel, id: number) {
    this.kernel = kernel;
    this.id = id;
  }

  /** Waits for the end: the coroutine's value, or its error thrown. */
  join(): Operation<T> {
    const op = this.kernel.operations.acquire<T>(Opcode.JOIN, -1, null);
    if (!this.finished) this.#joiners.push(op);
    else if (this.#error !== null) op.fail(this.#error);
    else op.complete(this.#value as T);
    return op;
  }

  /** Ends the coroutine: what it waits for is withdrawn and its `finally` blocks run. Joiners get undefined. */
  cancel(): void {
    if (!this.finished) this.kernel.scheduler.cancel(this.id);
  }

  /** Called by the kernel when the coroutine has ended. @returns whether somebody was told of it */
  ended(value: unknown, error: Error | null): boolean {
    this.finished = true;
    this.#value = value as T;
    this.#error = error;
    for (let conn = this.owned; conn !== null; conn = this.owned) {
      conn.leaveReader();
      conn.close();
    }
    const joiners = this.#joiners;
    this.#joiners = [];
    let told = false;
    for (const op of joiners) {
      if (!op.pending) continue;
      told = true;
      if (error !== null) op.fail(error);
      else op.complete(value as T);
    }
    return told;
  }
}
