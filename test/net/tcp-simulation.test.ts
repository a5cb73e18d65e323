/** Two TCPs over a bad network, many seeds: every byte right, no connection stuck, no buffer or timer left. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from './tcp-simulation.ts';

const SEEDS = Number(process.env['TCP_SEEDS'] ?? 600);
const FIRST = Number(process.env['TCP_FIRST_SEED'] ?? 1);

test(`${SEEDS} seeds of loss, reordering, duplication and corruption`, () => {
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    try {
      new World(seed).run();
    } catch (error) {
      throw new Error(`seed ${seed} (TCP_FIRST_SEED=${seed} TCP_SEEDS=1 runs it alone)`, { cause: error });
    }
  }
});

test('a seed replays exactly', () => {
  const runs = [0, 1].map(() => {
    const world = new World(77);
    world.run();
    return [world.segments, { ...world.client.tcp.counters }, { ...world.server.tcp.counters }];
  });
  assert.deepEqual(runs[0], runs[1]);
});
