/**
 * A few equivalence runs (lab.ts): speculated and plain must not differ in anything. Many more: node run.js FIRST COUNT.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ganeshaMissing } from '../../../src/bench/peers/ganesha.ts';
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
  const lab = await EquivalenceLab.start('4.1', 2);
  try {
    for (const [i, program] of RUNS.entries()) {
      const comparison = await lab.compare(FIRST_SEED + i, program);
      const again = `node dist/test/speculation/equivalence/run.js ${FIRST_SEED + i} 1 ${program}`;
      assert.equal(difference(comparison), null, `${program} differs; ${again}`);
    }
    const { confirmed, rollbacks } = lab.total;
    assert(confirmed > 0 && rollbacks > 0, 'the runs must speculate, and some of it wrongly');
    t.diagnostic(`${confirmed} hypotheses right, ${rollbacks} rollbacks`);
  } finally {
    await lab.close();
  }
});
