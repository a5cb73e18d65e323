/**
 * wait, waitAny and waitAll of PDPIX: operations that finish when other operations do.
 * They touch only the operation table; a deadline or an abort ends the wait and leaves the tokens valid.
 */
import { ERRNO, systemError } from '../errors.ts';
import type { Kernel } from './kernel.ts';
import { limit, type OperationOptions } from './limit.ts';
import { type CompletedOperation, Opcode, type Operation, type QueueToken, State } from './operation.ts';

/** The first finished operation of a waitAny. `index` is its place among the tokens given. */
export interface WaitAnyResult extends CompletedOperation {
  readonly index: number;
}

export function waitForOne(
  kernel: Kernel,
  token: QueueToken,
  options?: OperationOptions,
): Operation<CompletedOperation> {
  const op = kernel.operations.lookup(token);
  // Without a deadline the operation itself is what to wait for: nothing is allocated.
  if (options === undefined && op.parent === null) return op as Operation<CompletedOperation>;
  return group(kernel, [token], 1, deliverFirst, options) as Operation<CompletedOperation>;
}

export function waitForAny(
  kernel: Kernel,
  tokens: readonly QueueToken[],
  options?: OperationOptions,
): Operation<WaitAnyResult> {
  return group(kernel, tokens, 1, deliverFirst, options) as Operation<WaitAnyResult>;
}

export function waitForAll(
  kernel: Kernel,
  tokens: readonly QueueToken[],
  options?: OperationOptions,
): Operation<CompletedOperation[]> {
  return group(kernel, tokens, tokens.length, deliverAll, options) as Operation<CompletedOperation[]>;
}

function group(
  kernel: Kernel,
  tokens: readonly QueueToken[],
  missing: number,
  deliver: (op: Operation<unknown>) => unknown,
  options?: OperationOptions,
): Operation<unknown> {
  const { operations } = kernel;
  if (tokens.length === 0) throw systemError(ERRNO.EINVAL, 'waitAny', undefined, 'no tokens');
  if (new Set(tokens).size !== tokens.length)
    throw systemError(ERRNO.EINVAL, 'waitAny', undefined, 'a token is given twice');
  const children = tokens.map((token) => operations.lookup(token));
  for (const child of children) {
    if (child.parent !== null || child.waiter >= 0) {
      throw systemError(ERRNO.EBUSY, 'waitAny', `token ${child.token}`, 'somebody waits for it already');
    }
  }
  const op = operations.acquire<unknown>(Opcode.ANY, -1, deliver);
  op.rare = true;
  op.onFailure = release;
  op.children = children;
  op.missing = missing;
  for (const child of children) {
    if (child.state === State.PENDING) {
      child.rare = true;
      child.parent = op;
    } else op.missing--;
  }
  if (op.missing <= 0) op.complete(undefined);
  else if (options !== undefined) limit(kernel, op, options);
  return op;
}

/** Children go back to being waited for by nobody: their tokens stay valid. */
export function release(op: Operation<unknown>): void {
  for (const child of op.children ?? []) if (child.parent === op) child.parent = null;
}

function deliverFirst(op: Operation<unknown>): WaitAnyResult {
  release(op);
  const children = op.children!;
  const index = children.findIndex((child) => child.state !== State.PENDING);
  return { ...consume(children[index]!), index };
}

function deliverAll(op: Operation<unknown>): CompletedOperation[] {
  release(op);
  return op.children!.map(consume);
}

function consume(child: Operation<unknown>): CompletedOperation {
  const result = child.result();
  child.table.release(child);
  return result;
}
