/** Ratios: their direction and their keys, which others read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  computeRatios,
  lessIsBetter,
  median,
  medianOf,
  pairedRatio,
  ratio,
  type Series,
  spread,
} from '../../src/bench/ratios.ts';

const MORE = ['messagesPerSecond', 'opsPerSecond', 'bytesPerSecond'];
const LESS = [
  'p50Us',
  'p99Us',
  'p999Us',
  'cpuNsPerMessage',
  'nsPerOp',
  'seconds',
  'coreSeconds',
  'rssBytesPerIdleConnection',
];

test('which way is better', () => {
  for (const metric of MORE) assert.equal(lessIsBetter(metric), false, metric);
  for (const metric of LESS) assert.equal(lessIsBetter(metric), true, metric);
});

test('above 1 always means that ours is better', () => {
  const positive = fc.double({ min: 0.001, max: 1e9, noNaN: true });
  fc.assert(
    fc.property(positive, positive, (ours, peer) => {
      for (const metric of MORE) assert.equal(ratio(metric, ours, peer) > 1, ours > peer);
      for (const metric of LESS) assert.equal(ratio(metric, ours, peer) > 1, ours < peer);
    }),
  );
});

function result(name: string, workload: string, metrics: Record<string, number>): Series {
  return { name, workload, samples: [{ round: 0, disturbed: false, sample: metrics }] };
}

function series(name: string, speeds: readonly (number | [disturbed: number])[]): Series {
  const samples = speeds.map((speed, round) => ({
    round,
    disturbed: typeof speed !== 'number',
    sample: { messagesPerSecond: typeof speed === 'number' ? speed : speed[0] },
  }));
  return { name, workload: 'c1 d1', samples };
}

test('a machine whose speed drifts speaks for neither side', () => {
  // Twice as fast in every round, while the machine slows down.
  const ours = series('ours', [200, 150, 100]);
  const peer = series('peer', [100, 75, 50]);
  assert.equal(pairedRatio('messagesPerSecond', ours, peer), 2);
  assert.equal(pairedRatio('messagesPerSecond', peer, ours), 0.5);
});

test('what somebody else spoiled counts only where there is nothing better', () => {
  assert.equal(medianOf(series('ours', [200, [10], 210]), 'messagesPerSecond'), 205);
  assert.equal(medianOf(series('ours', [[10], [30]]), 'messagesPerSecond'), 20);
  assert.equal(pairedRatio('messagesPerSecond', series('ours', [200, [10], 300]), series('peer', [100, 90, [1]])), 2);
  assert.equal(pairedRatio('messagesPerSecond', series('ours', [[20]]), series('peer', [[10]])), 2);
  const late: Series = {
    ...series('peer', [50]),
    samples: [{ round: 7, disturbed: false, sample: { messagesPerSecond: 50 } }],
  };
  assert.equal(pairedRatio('messagesPerSecond', series('ours', [100]), late), 2, 'without a common round, the medians');
  assert.ok(Number.isNaN(pairedRatio('p99Us', series('ours', [1]), series('peer', [1]))));
});

test('keys are `ours : peer @ workload metric`', () => {
  const cases = [
    result('isthmus/uring', 'c50 d1', { messagesPerSecond: 300, p99Us: 50 }),
    result('node:net', 'c50 d1', { messagesPerSecond: 200, p99Us: 100 }),
    result('isthmus/uring', 'c50 d1 idle10000', { messagesPerSecond: 270 }),
  ];
  const comparisons = [
    { ours: 'isthmus/uring', peer: 'node:net', metrics: ['messagesPerSecond', 'p99Us', 'cpuNsPerMessage'] },
    { ours: 'isthmus/kernel', peer: 'node:net', metrics: ['messagesPerSecond'] },
  ];
  const workloadComparisons = [
    {
      label: '10000 idle : 0 idle',
      ours: 'c50 d1 idle10000',
      peer: 'c50 d1',
      workloadName: 'c50 d1',
      metrics: ['messagesPerSecond'],
    },
  ];
  assert.deepEqual(computeRatios(cases, comparisons, workloadComparisons), {
    'isthmus/uring : node:net @ c50 d1 messagesPerSecond': 1.5,
    'isthmus/uring : node:net @ c50 d1 p99Us': 2,
    '10000 idle : 0 idle @ isthmus/uring c50 d1 messagesPerSecond': 0.9,
  });
});

test('median and spread', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(spread([90, 100, 110]), 0.1);
  assert.equal(spread([5]), 0);
});
