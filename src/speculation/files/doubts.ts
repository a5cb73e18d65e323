/**
 * Operations that were predicted wrongly: when they come again, the truth is awaited once.
 * Pure.
 */
import { signature, type ViewOperation } from '../../remote/view/operation.ts';

const MAX = 4096;

export class Doubts {
  readonly #signatures = new Set<string>();

  add(operation: ViewOperation): void {
    if (this.#signatures.size >= MAX) this.#signatures.clear();
    this.#signatures.add(signature(operation));
  }

  /** Whether there was one, which is forgotten with that. */
  take(operation: ViewOperation): boolean {
    return this.#signatures.delete(signature(operation));
  }
}
