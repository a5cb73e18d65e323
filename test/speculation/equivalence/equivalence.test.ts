/**
 * A few equivalence runs (lab.ts): speculated and plain must not differ in anything. More, by program: node run.js FIRST COUNT,
 * or ISTHMUS_SEEDS=500.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ganeshaMissing } from '../../../src/bench/peers/ganesha.ts';
import { hasCommand, need } from '../../support/need.ts';
import { canTrace } from '../process/can-trace.ts';
import { EquivalenceLab } from './lab.ts';
import { difference } from './run.ts';

const SEEDS = Number(process.env.ISTHMUS_SEEDS ?? 0);
/** By default: what is quick. */
const QUICK = ['find', 'grep', 'tar', 'sh', 'fileops', 'sh', 'fileops', 'fileops-long', 'make'];

test('programs do the same speculatively as plainly, with a stale cache and another client', async (t) => {
  if (!need(t, ganeshaMissing() === null, ganeshaMissing() ?? '')) return;
  if (!need(t, hasCommand('cc') && hasCommand('make') && hasCommand('git'), 'cc, make or git is not installed')) return;
  if (!need(t, canTrace(), 'processes cannot be traced here')) return;
  const lab = await EquivalenceLab.start('4.1', 3);
  try {
    const count = SEEDS > 0 ? SEEDS : QUICK.length;
    for (let i = 0; i < count; i++) {
      const seed = 1000 + i;
      const comparison = await lab.compare(seed, SEEDS > 0 ? undefined : QUICK[i]);
      const differs = difference(comparison);
      assert.equal(differs, null, `seed ${seed}, ${comparison.program}: ${differs}`);
    }
    const { confirmed, rollbacks } = lab.total;
    assert(confirmed > 0 && rollbacks > 0, 'the runs must speculate, and some of it wrongly');
    t.diagnostic(`${confirmed} hypotheses right, ${rollbacks} rollbacks`);
  } finally {
    await lab.close();
  }
});
