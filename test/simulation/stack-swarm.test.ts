/** Whole systems on our own TCP/IP, over a bad wire, from a seed. Many more seeds: `npm run simulate`. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { simulate } from './stack-swarm.ts';

const SEEDS = 250;

describe('two stacks and more, with programs, on a bad wire', () => {
  it(`no wrong byte, nothing stuck, nothing left, over ${SEEDS} seeds`, () => {
    let completed = 0;
    let failed = 0;
    for (let seed = 0; seed < SEEDS; seed++) {
      try {
        const outcome = simulate(seed);
        completed += outcome.completed;
        failed += outcome.failed;
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
    // The faults must bite, and must leave something to be seen.
    assert.ok(completed > 5 * SEEDS && failed > SEEDS / 2, `${completed} completed, ${failed} failed`);
  });

  it('replays a seed exactly', () => {
    for (let seed = 5000; seed < 5020; seed++) {
      const first = simulate(seed, true);
      assert.ok(first.trace.length > 0);
      assert.deepEqual(simulate(seed, true), first, `seed ${seed}`);
    }
  });
});
