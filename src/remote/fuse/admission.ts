/**
 * The one seat for speculation in the session of the mount: who decides whether a request waits for the server.
 * Types, and the default that always waits; it touches nothing.
 */
import type { Mutation, Outcome, Prediction, ViewOperation } from '../view/operation.ts';
import type { UndoLog } from '../view/undo.ts';

/** What is known of a request besides its operation. */
export interface RequestOrigin {
  /** The kernel's number of the request; it is unique while the mount lives. */
  readonly unique: number;
  readonly opcode: number;
  /** Thread that asks, in the PID namespace of the one who mounted; 0 where the kernel itself asks (write-back, forget). */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** EINTR unwinds this system call without a trace, so that it can be run again. */
  readonly bounceable: boolean;
}

/**
 * - `wait`: the request waits for the server.
 * - `bounce`: it is answered EINTR now. A read's RPC starts at once; when the same thread asks the same again, that RPC is its own.
 * - `predict`: it is answered with the prediction now. Only where there is one.
 * - `emulate`: the kernel has been answered EINTR, but the mutation is assumed: whoever made the call hears of its success from
 *   the admission.
 */
export type Verdict = 'wait' | 'bounce' | 'predict' | 'emulate';

export interface Admission {
  /**
   * Before anything else, for every request that touches nodes (see `operation.touches`): null lets it in; a promise holds it,
   * and when it resolves the request begins anew; rejected, the kernel has had its answer and nothing is done. Must be settled
   * also when the mount ends. Called on the hot path.
   */
  enter(origin: RequestOrigin, operation: ViewOperation): Promise<void> | null;
  /** The request cannot be answered locally. `prediction` is null where there is none; then `predict` is not allowed. */
  decide(
    origin: RequestOrigin,
    operation: ViewOperation,
    prediction: Prediction<unknown> | null,
  ): Verdict | Promise<Verdict>;
  /** After `predict` for a read: the truth has come and is in the view. `agrees` as the operation judges it. */
  truth(origin: RequestOrigin, operation: ViewOperation, agrees: boolean, truth: Outcome<unknown>): void;
  /**
   * After `predict` for a mutation: it has been assumed and answered. From now on the admission owns it: it sends `steps`,
   * calls `settle`, and on a failure runs the undo logs, newest first.
   */
  assumed(origin: RequestOrigin, mutation: Mutation, predicted: Outcome<unknown>, undo: UndoLog): void;
  /** Changes when a thread is set back: what was asked for it before is not what it asks again. */
  era(pid: number): number;
}

/** Every request waits for the truth. */
export const alwaysWait: Admission = {
  enter: () => null,
  decide: () => 'wait',
  truth: () => {},
  assumed: () => {},
  era: () => 0,
};
