/**
 * What operations that change the remote tree have in common: steps for the server, the truth put in, what was assumed undone.
 * They reach the world only through their view.
 */
import { ERRNO } from '../../../errors.ts';
import type { BatchResult, Credential, HandleRef, Operation as ServerOperation } from '../../server.ts';
import { ErrnoError, errnoOf } from '../errors.ts';
import { removeIfUnused } from '../files.ts';
import type { ViewNode } from '../node.ts';
import { failure, type Mutation, type OperationKind, type Outcome, type Prediction, success } from '../operation.ts';
import type { UndoLog } from '../undo.ts';
import type { Asked, View } from '../view.ts';
import type { Caller } from './reading.ts';

export type Reference = (node: ViewNode) => HandleRef;

export abstract class Changing<Answer> implements Mutation<Answer> {
  abstract readonly kind: OperationKind;
  readonly changes = true;
  readonly credential: Credential | null;
  readonly touches: readonly ViewNode[];
  protected readonly view: View;
  protected readonly caller: Caller;
  /** Set by `assume`. */
  protected assumed = false;
  #asked: Asked | null = null;
  #steps = 0;

  constructor(view: View, caller: Caller, touches: readonly ViewNode[]) {
    this.view = view;
    this.caller = caller;
    this.credential = caller.credential;
    this.touches = touches;
  }

  get makes(): { readonly step: number; readonly node: ViewNode } | null {
    return null;
  }

  lookLocal(): Outcome<Answer> | null {
    return null;
  }

  abstract predict(): Prediction<Answer> | null;

  agrees(predicted: Outcome<Answer>, truth: Outcome<Answer>): boolean {
    return predicted.errno === truth.errno;
  }

  assume(undo: UndoLog): Outcome<Answer> {
    this.assumed = true;
    for (const node of this.touches) {
      node.assumed++;
      this.view.pin(node);
      const end = (): void => {
        node.assumed--;
        this.view.expire(node); // forgetting is always safe
        removeIfUnused(this.view, node, this.credential);
        this.view.unpin(node);
      };
      undo.push(end, () => {
        node.assumed--;
        removeIfUnused(this.view, node, this.credential);
        this.view.unpin(node);
      });
    }
    return success(this.assumeNow(undo));
  }

  steps(reference: Reference): readonly ServerOperation[] {
    for (const node of this.touches) this.view.ownBegins(node);
    this.#asked = this.view.ask();
    const steps = this.requests(reference);
    this.#steps = steps.length;
    return steps;
  }

  settle(results: readonly BatchResult[]): Outcome<Answer> {
    const asked = this.#asked;
    if (asked === null) throw new Error('settle without steps');
    this.#asked = null;
    try {
      const values: unknown[] = [];
      for (const result of results) {
        if (!result.ok) return this.#refused(errnoOf(result.error));
        values.push(result.value);
      }
      if (values.length < this.#steps) return this.#refused(ERRNO.EIO);
      return success(this.apply(values, asked));
    } catch (error) {
      if (error instanceof ErrnoError) return this.#refused(error.errno);
      throw error;
    } finally {
      for (const node of this.touches) this.view.ownEnds(node);
    }
  }

  async perform(_signal?: AbortSignal): Promise<Outcome<Answer>> {
    const { view } = this;
    for (const node of this.touches) view.pin(node);
    try {
      await this.prepare();
      for (const node of this.touches) {
        await view.handleOf(node);
        if (node.removed) throw new ErrnoError(ERRNO.ENOENT);
      }
      // A change that was sent is seen through to its end: there is no signal.
      const steps = this.steps((node) => node.handle!);
      const outcome = this.settle(await view.server.batch(steps, view.call(this.credential)));
      return outcome.errno === 0 ? await this.complete(outcome) : outcome;
    } catch (error) {
      return failure(error instanceof ErrnoError ? error.errno : errnoOf(error));
    } finally {
      for (const node of this.touches) view.unpin(node);
    }
  }

  /** What must be done before the steps can be sent, when they are not assumed. */
  protected async prepare(): Promise<void> {}

  /** What the answer still lacks. */
  protected async complete(outcome: Outcome<Answer>): Promise<Outcome<Answer>> {
    return outcome;
  }

  protected abstract assumeNow(undo: UndoLog): Answer;
  protected abstract requests(reference: Reference): readonly ServerOperation[];
  /** All steps succeeded. `values` are their results, in order. @throws ErrnoError where that is not enough */
  protected abstract apply(values: readonly unknown[], asked: Asked): Answer;

  /** The server refused: what made us think that it would not must be wrong. */
  protected refused(_errno: number): void {}

  #refused(errno: number): Outcome<Answer> {
    for (const node of this.touches) this.view.expire(node);
    if (errno === ERRNO.ESTALE) for (const node of this.touches) this.view.markStale(node);
    this.refused(errno);
    return failure(errno);
  }
}
