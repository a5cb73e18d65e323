/**
 * Runs one view operation for one request: held, answered locally, waited for, bounced or predicted, as the admission decides.
 * It reaches the world only through the operation; the answer goes to a function it is given.
 */
import { ERRNO } from '../../errors.ts';
import {
  failure,
  isMutation,
  type Mutation,
  type Outcome,
  type Prediction,
  signature,
  type ViewOperation,
} from '../view/operation.ts';
import { Write } from '../view/operations/writing.ts';
import { UndoLog } from '../view/undo.ts';
import { type Admission, alwaysWait, type RequestOrigin, type Verdict } from './admission.ts';

/** Bounced requests whose truth is kept for the second try, and for how long, in milliseconds. */
const BOUNCED_MAX = 1024;
const BOUNCED_MS = 200;

export interface RunCounters {
  requests: number;
  local: number;
  waited: number;
  bounced: number;
  predicted: number;
  held: number;
}

/** A request to be run. `make` gives its operation, anew each time that it begins. */
export interface Run<Answer> {
  readonly origin: RequestOrigin;
  make(): ViewOperation<Answer>;
  /** Answers the request; called exactly once. */
  done(outcome: Outcome<Answer>, operation: ViewOperation<Answer>): void;
  /** What the request's memory holds must be copied: it is not answered at once. */
  keep?(): void;
  /** Whether it still waits for an answer: who has been killed meanwhile makes no change any more. */
  wanted?(): boolean;
}

interface Bounced {
  readonly promise: Promise<Outcome<unknown>>;
  outcome: Outcome<unknown> | null;
  readonly sinceMs: number;
  /** Changes begun before it was asked. */
  readonly changes: number;
}

export class Runner {
  readonly counters: RunCounters = { requests: 0, local: 0, waited: 0, bounced: 0, predicted: 0, held: 0 };
  readonly #admission: Admission;
  readonly #bounced = new Map<string, Bounced>();
  /** Changes begun so far. */
  #changes = 0;

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  run<Answer>(run: Run<Answer>): void {
    this.counters.requests++;
    this.#begin(run);
  }

  #begin<Answer>(run: Run<Answer>): void {
    const operation = run.make();
    const held = this.#admission.enter(run.origin, operation);
    if (held !== null) {
      this.counters.held++;
      run.keep?.();
      held.then(
        () => (isWanted(run) ? this.#begin(run) : run.done(failure(ERRNO.EINTR), operation)),
        () => run.done(failure(ERRNO.EINTR), operation),
      );
      return;
    }
    const bounced = this.#takeBounced(run.origin, operation);
    const local = operation.lookLocal();
    if (local !== null) {
      this.counters.local++;
      run.done(local, operation);
      return;
    }
    if (operation.changes) this.#changes++;
    if (this.#admission === alwaysWait) {
      this.#wait(run, operation, null);
      return;
    }
    if (bounced?.outcome) {
      // The truth has come since the same call was bounced: that is as good as local.
      run.done(bounced.outcome as Outcome<Answer>, operation);
      return;
    }
    const prediction = operation.predict();
    const verdict = this.#admission.decide(run.origin, operation, prediction);
    if (typeof verdict === 'string') {
      this.#obey(run, operation, prediction, verdict, bounced);
      return;
    }
    run.keep?.();
    verdict.then(
      (late) => this.#obey(run, operation, prediction, late, bounced),
      () => this.#obey(run, operation, prediction, 'wait', bounced),
    );
  }

  #obey<Answer>(
    run: Run<Answer>,
    operation: ViewOperation<Answer>,
    prediction: Prediction<Answer> | null,
    verdict: Verdict,
    bounced: Bounced | null,
  ): void {
    if (!isWanted(run)) run.done(failure(ERRNO.EINTR), operation);
    // A change that must not be made is refused, whatever its system call makes of that.
    else if (verdict === 'bounce' && (run.origin.bounceable || operation.changes))
      this.#bounce(run, operation, bounced);
    else if (verdict === 'emulate' && isMutation(operation)) this.#assume(run, operation, failure(ERRNO.EINTR));
    else if (verdict === 'predict' && prediction !== null) this.#predict(run, operation, prediction, bounced);
    else this.#wait(run, operation, bounced);
  }

  #wait<Answer>(run: Run<Answer>, operation: ViewOperation<Answer>, bounced: Bounced | null): void {
    if (operation instanceof Write) {
      const now = operation.writeNow();
      if (now !== null) {
        this.counters.local++;
        run.done(now as Outcome<Answer>, operation);
        return;
      }
    }
    this.counters.waited++;
    const truth = (bounced?.promise as Promise<Outcome<Answer>> | undefined) ?? operation.perform();
    run.keep?.();
    truth.then(
      (outcome) => run.done(outcome, operation),
      () => run.done(failure(ERRNO.EIO), operation),
    );
  }

  #bounce<Answer>(run: Run<Answer>, operation: ViewOperation<Answer>, bounced: Bounced | null): void {
    this.counters.bounced++;
    if (!isMutation(operation)) this.#keepBounced(run.origin, operation, bounced);
    run.done(failure(ERRNO.EINTR), operation);
  }

  #predict<Answer>(
    run: Run<Answer>,
    operation: ViewOperation<Answer>,
    { outcome: predicted }: Prediction<Answer>,
    bounced: Bounced | null,
  ): void {
    this.counters.predicted++;
    if (isMutation(operation)) {
      this.#assume(run, operation, null);
      return;
    }
    const truth = (bounced?.promise as Promise<Outcome<Answer>> | undefined) ?? operation.perform();
    run.done(predicted, operation);
    const { origin } = run;
    truth.then(
      (outcome) => this.#admission.truth(origin, operation, operation.agrees(predicted, outcome), outcome),
      () => this.#admission.truth(origin, operation, false, failure(ERRNO.EIO)),
    );
  }

  /** @param answer what the kernel hears instead of the outcome */
  #assume<Answer>(run: Run<Answer>, mutation: Mutation<Answer>, answer: Outcome<Answer> | null): void {
    const undo = new UndoLog();
    const outcome = mutation.assume(undo);
    run.done(answer ?? outcome, mutation);
    this.#admission.assumed(run.origin, mutation, outcome, undo);
  }

  #keepBounced(origin: RequestOrigin, operation: ViewOperation, earlier: Bounced | null): void {
    const key = this.#key(origin, operation);
    const bounced: Bounced = earlier ?? {
      promise: operation.perform(),
      outcome: null,
      sinceMs: performance.now(),
      changes: this.#changes,
    };
    bounced.promise.then((outcome) => {
      bounced.outcome = outcome;
    });
    if (this.#bounced.size >= BOUNCED_MAX) {
      for (const oldest of this.#bounced.keys()) {
        this.#bounced.delete(oldest);
        break;
      }
    }
    this.#bounced.set(key, bounced);
  }

  #takeBounced(origin: RequestOrigin, operation: ViewOperation): Bounced | null {
    if (this.#bounced.size === 0) return null;
    const key = this.#key(origin, operation);
    const bounced = this.#bounced.get(key);
    this.#bounced.delete(key);
    // What was asked long ago, or before a change, is not what is asked now.
    if (bounced === undefined || bounced.changes !== this.#changes) return null;
    return performance.now() - bounced.sinceMs < BOUNCED_MS ? bounced : null;
  }

  /** The same for the second try of a bounced call. */
  #key({ pid }: RequestOrigin, operation: ViewOperation): string {
    return `${pid}.${this.#admission.era(pid)} ${signature(operation)}`;
  }
}

function isWanted(run: Pick<Run<unknown>, 'wanted'>): boolean {
  return run.wanted?.() ?? true;
}
