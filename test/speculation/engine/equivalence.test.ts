/**
 * The property that speculation must have: nothing that can be seen differs from the plain run, and nothing stays undecided.
 * More seeds: ISTHMUS_SEEDS=100000.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { random, randomWorld, runPlainly } from './model.ts';
import { runSpeculatively } from './speculative-run.ts';

const SEEDS = Number(process.env.ISTHMUS_SEEDS ?? 4000);

test(`${SEEDS} random worlds end as without speculation`, () => {
  let rollbacks = 0;
  let committed = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const world = randomWorld(seed);
    const rnd = random(seed ^ 0x5eed);
    const tight = rnd() < 0.3;
    const limits = {
      speculations: 1 + Math.floor(rnd() * 8),
      intervals: 1 + Math.floor(rnd() * 12),
      checkpointsPerProcess: 1 + Math.floor(rnd() * 3),
      undoBytes: 8 + Math.floor(rnd() * 64),
      outputBytes: 4 * (1 + Math.floor(rnd() * 3)),
    };
    const options = { seed, stale: rnd() * 0.5, ordered: rnd() < 0.5, ...(tight ? { limits } : {}) };
    try {
      const { observed, counters } = runSpeculatively(world, options);
      assert.deepEqual(observed, runPlainly(world));
      if (tight) {
        assert(counters.peak.speculations <= limits.speculations);
        assert(counters.peak.outputBytes <= limits.outputBytes);
      }
      assert.equal(counters.predicted, counters.confirmed + counters.refuted + counters.dropped);
      assert.equal(counters.intervals, counters.committed + counters.undone);
      rollbacks += counters.rollbacks;
      committed += counters.committed;
    } catch (error) {
      throw new Error(`seed ${seed}, ${JSON.stringify(options)}`, { cause: error });
    }
  }
  // The worlds must put the property to the test: many hypotheses kept, many undone.
  assert(rollbacks > SEEDS / 4, `only ${rollbacks} rollbacks`);
  assert(committed > SEEDS * 2, `only ${committed} intervals committed`);
});
