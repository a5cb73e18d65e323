/** The measured functions of `bench queue` do what they say, as often as they say. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { measureQueueCases, queueCases, queueRatios } from '../../src/bench/queue-cases.ts';

describe('queue cases', () => {
  it('do every operation, and can be run again', async () => {
    const operations = 640;
    for (const { name, workload, run } of queueCases()) {
      if (name === 'loop') continue;
      const expected = workload === 'message' ? 64 * operations : operations;
      for (let i = 0; i < 2; i++) assert.equal(await run(operations), expected, `${workload} ${name}`);
    }
  });

  it('are measured in ns, and compared so that above 1 is better', async () => {
    let clock = 0;
    const results = await measureQueueCases({ operations: 64, rounds: 3, now: () => clock++ });
    for (const { nsPerOperation, range } of results) {
      assert.equal(nsPerOperation, 1e6 / 64);
      assert.deepEqual(range, [nsPerOperation, nsPerOperation]);
    }
    const ratios = queueRatios(results);
    assert.ok('token : promise @ complete opsPerSecond' in ratios);
    assert.ok('coroutine : promise @ switch opsPerSecond' in ratios);
    for (const ratio of Object.values(ratios)) assert.equal(ratio, 1);
  });
});
