/**
 * What every operation on the view is, in the same three parts: look locally, predict, perform (ask the server and apply).
 * Types and the plainest functions on them: the session of the mount drives operations, speculation sits on top of them, the
 * folder operations/ makes them.
 */
import type { BatchResult, Credential, HandleRef, Operation as ServerOperation } from '../server.ts';
import type { ViewNode } from './node.ts';
import type { UndoLog } from './undo.ts';

/** How an operation ended: `errno` 0 with its answer, or a positive errno. Errors of the world never throw here. */
export type Outcome<Answer> =
  | { readonly errno: 0; readonly answer: Answer }
  | { readonly errno: number; readonly answer: null };

/** The likely outcome. */
export interface Prediction<Answer> {
  readonly outcome: Outcome<Answer>;
  /**
   * The answer shows a program something that the server will choose and nobody can know yet (a file number, a time of
   * its clock). It is good for going on inside the kernel; showing it to a program is the caller's decision.
   */
  readonly invented: boolean;
}

export type OperationKind =
  | 'lookup'
  | 'getattr'
  | 'readlink'
  | 'open'
  | 'read'
  | 'readdir'
  | 'statfs'
  | 'write'
  | 'flush'
  | 'setattr'
  | 'create'
  | 'mkdir'
  | 'symlink'
  | 'mknod'
  | 'link'
  | 'unlink'
  | 'rmdir'
  | 'rename';

/** One operation, bound to its view and its arguments. Made for one request, used once. */
export interface ViewOperation<Answer = unknown> {
  readonly kind: OperationKind;
  /** Null: as the mount itself. */
  readonly credential: Credential | null;
  /** The nodes whose state decides the answer, or that it changes; at most four. */
  readonly touches: readonly ViewNode[];
  /** Whether it changes the remote tree. Then it is a {@link Mutation}. */
  readonly changes: boolean;

  /** The answer that may be given within the promised consistency, without asking anybody; else null. */
  lookLocal(): Outcome<Answer> | null;
  /** The likely answer, from entries that are no longer vouched for; changes nothing; null where there is none. */
  predict(): Prediction<Answer> | null;
  /** Asks the server, changes the view accordingly, and gives the truth. Never rejects for an error of the world. */
  perform(signal?: AbortSignal): Promise<Outcome<Answer>>;
  /** Whether a program that was given `predicted` has seen nothing but the truth. */
  agrees(predicted: Outcome<Answer>, truth: Outcome<Answer>): boolean;
}

/** An operation that changes the remote tree. It can be applied to the view before the server has heard of it. */
export interface Mutation<Answer = unknown> extends ViewOperation<Answer> {
  readonly changes: true;
  /**
   * Does to the view what `predict` said (a mutation is only ever predicted to succeed); what it takes to undo goes to `undo`.
   * A node that it makes has no handle yet (`node.handle` is null) until `settle`.
   */
  assume(undo: UndoLog): Outcome<Answer>;
  /**
   * The requests it takes, in order, for `RemoteServer.batch`; none where everything happens in the view. `reference` gives the
   * handle of a node, or `{ from }` where the node is made earlier in the same batch. Call it right before they are sent, and
   * `settle` always after.
   */
  steps(reference: (node: ViewNode) => HandleRef): readonly ServerOperation[];
  /** The server may do it in part only without that stopping a batch: nothing that cannot be taken back may be behind it. */
  readonly mayFallShort?: boolean;
  /** Which of `steps` finds or makes a node, and which node: for `{ from }` of later operations in the batch. Else null. */
  readonly makes: { readonly step: number; readonly node: ViewNode } | null;
  /**
   * Takes the results of `steps` (fewer after a failure), puts the truth in the place of what was assumed, and gives it.
   * After a success the caller clears the undo log; after a failure the view still holds what was assumed: the caller runs
   * the log. Not sent at all (because something before it failed): only run the log.
   */
  settle(results: readonly BatchResult[]): Outcome<Answer>;
}

export function isMutation<Answer>(operation: ViewOperation<Answer>): operation is Mutation<Answer> {
  return operation.changes;
}

/** Equal where the same is asked again: the kind, the nodes, the name. */
export function signature(operation: ViewOperation): string {
  const { name } = operation as { name?: unknown };
  return `${operation.kind} ${operation.touches.map(({ id }) => id).join()} ${typeof name === 'string' ? name : ''}`;
}

export function success<Answer>(answer: Answer): Outcome<Answer> {
  return { errno: 0, answer };
}

export function failure(errno: number): Outcome<never> {
  return { errno, answer: null } as Outcome<never>;
}
