/**
 * Deadlines and abort signals of operations: either ends an operation that is pending, and both are taken back when it is done.
 * It touches the kernel's timers and the signal.
 */
import { IsthmusError } from '../errors.ts';
import type { Kernel } from './kernel.ts';
import type { Operation } from './operation.ts';

export interface OperationOptions {
  /** Milliseconds after which the operation fails with ETIMEDOUT and is withdrawn. */
  readonly timeout?: number | undefined;
  /** Aborting fails the operation with the signal's reason and withdraws it. */
  readonly signal?: AbortSignal | undefined;
}

/** Puts a deadline and an abort signal on a pending operation. */
export function limit(kernel: Kernel, op: Operation<unknown>, { timeout, signal }: OperationOptions): void {
  if (!op.pending) return;
  if (signal?.aborted) {
    kernel.operations.cancel(op, abortReason(signal));
    return;
  }
  if (timeout === undefined && signal === undefined) return;
  if (timeout !== undefined) op.timer = kernel.timers.schedule(kernel.clock() + timeout, op);
  op.rare = true;
  if (signal === undefined) op.cleanup = disarm;
  else abortWith(kernel, op, signal);
  kernel.onWork();
}

function abortWith(kernel: Kernel, op: Operation<unknown>, signal: AbortSignal): void {
  const onAbort = () => kernel.operations.cancel(op, abortReason(signal));
  signal.addEventListener('abort', onAbort);
  op.cleanup = () => {
    signal.removeEventListener('abort', onAbort);
    disarm(op);
  };
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
