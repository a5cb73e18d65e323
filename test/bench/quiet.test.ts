/** Whose CPU time is whose, and when a sample is repeated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { familyCpuNs, machineBusyNs, quietly } from '../../src/bench/quiet.ts';

const ALONE = { patienceMs: 0, lock: false };

test('/proc/stat: idle and iowait are not busy', () => {
  assert.equal(machineBusyNs('cpu  100 5 50 9000 300 10 20 7 999 999\ncpu0 …\n'), 192e7);
});

test('/proc/self/stat: this process and its ended children, whatever its name', () => {
  const stat = '1234 (a) b (c) S 1 1234 1234 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 7 0 100\n';
  assert.equal(familyCpuNs(stat), 110e7);
});

test('the counters of this machine grow with work', () => {
  const before = familyCpuNs();
  const machineBefore = machineBusyNs();
  for (const end = performance.now() + 60; performance.now() < end; );
  assert.ok(familyCpuNs() > before);
  assert.ok(machineBusyNs() > machineBefore);
});

test('a disturbed sample is repeated, the least disturbed is kept, and tries are bounded', async () => {
  // "Ours" is said to be far more than it was or far less, which makes others look idle or busy.
  let calls = 0;
  let own = 0;
  const measure = async () => {
    calls++;
    own += calls === 2 ? 0 : -1e12 / calls;
    return calls;
  };
  const kept = await quietly(measure, {
    ownCpuNs: () => own,
    tries: 3,
    mayRepeat: () => true,
    ...ALONE,
  });
  assert.equal(kept.value, 2);
  const tries = calls;
  assert.ok(tries <= 3);
  calls = 0;
  const disturbed = await quietly(
    async () => {
      own -= 1e12;
      return ++calls;
    },
    { ownCpuNs: () => own, tries: 2, mayRepeat: () => true, ...ALONE },
  );
  assert.equal(calls, 2);
  assert.equal(disturbed.disturbed, true);
  await quietly(
    async () => {
      own -= 1e12;
      return ++calls;
    },
    { ownCpuNs: () => own, tries: 5, mayRepeat: () => false, ...ALONE },
  );
  assert.equal(calls, 3, 'without time left a sample is not repeated');
});
