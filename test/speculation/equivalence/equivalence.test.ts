/**
 * A few equivalence runs (lab.ts): speculated and plain must not differ in anything. Many more: node run.js FIRST COUNT.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ganeshaMissing } from '../../../src/bench/peers/ganesha.ts';
import { DEFAULT_LIMITS, type SpeculationLimits } from '../../../src/speculation/engine/limits.ts';
import type { SpeculationStatistics } from '../../../src/speculation/files/statistics.ts';
import { hasCommand, need } from '../../support/need.ts';
import { canTrace } from '../process/can-trace.ts';
import { difference } from './difference.ts';
import { EquivalenceLab } from './lab.ts';

const FIRST_SEED = 1000;
const RUNS = ['find', 'grep', 'tar', 'sh', 'fileops', 'race', 'sh', 'fileops-long', 'postmark', 'race', 'make'];

test('programs do the same speculatively as plainly, with a stale cache and another client', async (t) => {
  if (!need(t, ganeshaMissing() === null, ganeshaMissing() ?? '')) return;
  if (!need(t, hasCommand('cc') && hasCommand('make') && hasCommand('git'), 'cc, make or git is not installed')) return;
  if (!need(t, canTrace(), 'processes cannot be traced here')) return;
  const { confirmed, rollbacks } = await runAll(DEFAULT_LIMITS, RUNS);
  assert(confirmed > 0 && rollbacks > 0, 'the runs must speculate, and some of it wrongly');
  t.diagnostic(`${confirmed} hypotheses right, ${rollbacks} rollbacks`);
});

test('at the bounds of what may be held they wait, and do the same', async (t) => {
  if (!need(t, ganeshaMissing() === null, ganeshaMissing() ?? '')) return;
  if (!need(t, hasCommand('cc') && canTrace(), 'there is no cc, or processes cannot be traced here')) return;
  const limits = { speculations: 6, intervals: 12, checkpointsPerProcess: 3, undoBytes: 100_000, outputBytes: 300 };
  const total = await runAll(limits, ['find', 'sh', 'fileops', 'postmark']);
  assert(total.peakSpeculations <= limits.speculations);
  assert(total.peakOutputBytes <= limits.outputBytes);
  assert(
    Object.keys(total.waits).some((reason) => reason.includes('(speculations)')),
    'a bound must have been met',
  );
});

async function runAll(limits: SpeculationLimits, programs: readonly string[]): Promise<SpeculationStatistics> {
  const lab = await EquivalenceLab.start('4.1', 2, limits);
  try {
    for (const [i, program] of programs.entries()) {
      const comparison = await lab.compare(FIRST_SEED + i, program);
      const again = `node dist/test/speculation/equivalence/run.js ${FIRST_SEED + i} 1 ${program}`;
      assert.equal(difference(comparison), null, `${program} differs; ${again}`);
    }
    return lab.total;
  } finally {
    await lab.close();
  }
}
