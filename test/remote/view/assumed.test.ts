/**
 * Mutations that are assumed before the server knows of them: programs see what they would have seen, what is undone leaves no
 * trace, and what is sent later, in one batch, leaves the tree as it ought to be. In simulated time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BatchResult, HandleRef, Operation } from '../../../src/remote/server.ts';
import type { ViewNode } from '../../../src/remote/view/node.ts';
import { isMutation, type Mutation, type ViewOperation } from '../../../src/remote/view/operation.ts';
import { UndoLog } from '../../../src/remote/view/undo.ts';
import { openView, type View } from '../../../src/remote/view/view.ts';
import { MemoryServer } from '../memory-server.ts';
import { MemoryTree } from '../memory-tree.ts';
import { SimulatedClock } from '../simulated-clock.ts';
import { answerOf, Driver } from './driver.ts';
import { ModelRunner, type Step, steps, ViewRunner } from './programs.ts';

/** Only the server can say more. */
class MustResolve extends Error {}

class AssumingDriver extends Driver {
  readonly #pending: { readonly mutation: Mutation; readonly undo: UndoLog }[] = [];
  /** Whether what was assumed may be sent in the middle. */
  maySend = true;

  constructor(view: View) {
    super(view);
  }

  get pending(): number {
    return this.#pending.length;
  }

  override async run<Answer>(operation: ViewOperation<Answer>): Promise<Answer> {
    const local = operation.lookLocal();
    if (local !== null) return answerOf(local);
    const open = operation.touches.some((node) => node.assumed > 0 || node.handle === null || node.data?.held);
    if (isMutation(operation) || open) {
      const prediction = operation.predict();
      if (prediction !== null && !isMutation(operation)) return answerOf(prediction.outcome);
      if (prediction !== null && isMutation(operation)) {
        const undo = new UndoLog();
        this.#pending.push({ mutation: operation as Mutation, undo });
        return answerOf(operation.assume(undo));
      }
    }
    if (!this.maySend && (isMutation(operation) || this.#pending.length > 0)) throw new MustResolve();
    if (this.#pending.length > 0) await this.send();
    return answerOf(await operation.perform());
  }

  /** Everything assumed, to the server in one batch. */
  async send(): Promise<void> {
    const all: Operation[] = [];
    const makers = new Map<ViewNode, number>();
    const parts = this.#pending.map(({ mutation, undo }) => {
      const from = all.length;
      const reference = (node: ViewNode): HandleRef => node.handle ?? { from: makers.get(node)! };
      all.push(...mutation.steps(reference));
      const { makes } = mutation;
      if (makes !== null) makers.set(makes.node, from + makes.step);
      return { mutation, undo, from, to: all.length };
    });
    this.#pending.length = 0;
    const results: BatchResult[] = all.length === 0 ? [] : await this.view.server.batch(all);
    for (const { mutation, undo, from, to } of parts) {
      const outcome = mutation.settle(results.slice(from, to));
      assert.equal(outcome.errno, 0, `${mutation.kind} was assumed to succeed`);
      undo.clear();
    }
  }

  undo(): void {
    for (const { undo } of this.#pending.splice(0).reverse()) undo.run();
  }
}

const segments = fc.array(fc.record({ program: steps(14), keep: fc.boolean() }), { minLength: 1, maxLength: 6 });
const RUNS = Number(process.env['ISTHMUS_VIEW_RUNS'] ?? 200);

for (const maxBatch of [1, 100]) {
  test(`assumed, then sent or undone, with ${maxBatch === 1 ? 'one operation' : 'many operations'} in a round trip`, async () => {
    const property = fc.asyncProperty(segments, async (all) => {
      const clock = new SimulatedClock();
      const server = new MemoryServer({ clock, maxBatch, maxWrite: 500, pageEntries: 4 });
      const view = await clock.until(openView(server, clock));
      const driver = new AssumingDriver(view);
      const kept: Step[][] = [];
      for (const { program, keep } of all) {
        driver.maySend = keep;
        const ours = new ViewRunner(driver, '', async () => {});
        const model = new MemoryTree();
        const before = new ModelRunner(model, '');
        for (const each of kept) {
          for (const step of each) await before.step(step);
          await before.end();
        }
        const theirs = new ModelRunner(model, '');
        try {
          for (const [i, step] of program.entries()) {
            const seen = await clock.until(ours.step(step));
            assert.equal(seen, await theirs.step(step), `step ${i}: ${JSON.stringify(step)}`);
          }
          if (keep) await clock.until(ours.end());
        } catch (error) {
          if (!(error instanceof MustResolve)) throw error;
        }
        if (keep) {
          await clock.until(driver.send());
          await theirs.end();
          kept.push(program);
          for (const node of view.nodes.all()) await clock.until(Promise.all(node.leaving));
          await clock.until(view.writeBack.flushAll());
          assert.deepEqual(server.tree.describe(), model.describe());
        } else {
          // As after a kill: its files are closed, what it did is undone.
          driver.undo();
          ours.abandon();
          assert.equal(view.writeBack.unwrittenBytes, 0);
        }
        for (const node of view.nodes.all()) assert.equal(node.assumed, 0);
      }
      // Everything that is known without asking must be true.
      const after = new Driver(view);
      const model = new MemoryTree();
      const theirs = new ModelRunner(model, '');
      for (const each of kept) {
        for (const step of each) await theirs.step(step);
        await theirs.end();
      }
      const look = new ViewRunner(after, '', async () => {});
      const truth = new ModelRunner(model, '');
      for (let a = 0; a < 12; a++) {
        for (const kind of ['stat', 'list', 'readlink'] as const) {
          const step: Step = { kind, a, b: 0, n: 0 };
          assert.equal(await clock.until(look.step(step)), await truth.step(step), JSON.stringify(step));
        }
      }
    });
    await fc.assert(property, { numRuns: RUNS });
  });
}
