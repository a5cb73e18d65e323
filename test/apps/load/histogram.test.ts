/** The latency histogram against exact percentiles and against hdr-histogram-js. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { build } from 'hdr-histogram-js';
import { percentileDistribution } from '../../../src/apps/load/hdr-file.ts';
import { LARGEST_UNITS, LatencyHistogram, UNITS_PER_US } from '../../../src/apps/load/histogram.ts';

const PERCENTILES = [0, 1, 50, 90, 99, 99.9, 100];

/** Latencies as they come: many small ones, some of any size. */
const values = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 5000 }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 1_000_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: LARGEST_UNITS }) },
  ),
  { minLength: 1, maxLength: 300 },
);

function histogramOf(units: readonly number[]): LatencyHistogram {
  const histogram = new LatencyHistogram();
  for (const value of units) histogram.record(value, 1);
  return histogram;
}

test('percentiles are the exact ones to three digits, and never below them', () => {
  fc.assert(
    fc.property(values, (units) => {
      const histogram = histogramOf(units);
      const sorted = [...units].sort((a, b) => a - b);
      for (const percentile of PERCENTILES) {
        const rank = Math.max(1, Math.ceil((percentile / 100) * sorted.length - 1e-9));
        const exact = sorted[rank - 1]! / UNITS_PER_US;
        const found = histogram.percentileUs(percentile);
        assert.ok(found >= exact && found <= exact * 1.001 + 1e-9, `p${percentile}: ${found}, exactly ${exact}`);
      }
      assert.equal(histogram.count, units.length);
      assert.equal(histogram.minUs, sorted[0]! / UNITS_PER_US);
      assert.equal(histogram.maxUs, sorted.at(-1)! / UNITS_PER_US);
      const mean = units.reduce((sum, value) => sum + value, 0) / units.length / UNITS_PER_US;
      assert.ok(Math.abs(histogram.meanUs - mean) <= mean * 1e-12);
    }),
  );
});

test('agrees with hdr-histogram-js of three digits', () => {
  fc.assert(
    fc.property(values, (units) => {
      const histogram = histogramOf(units);
      const theirs = build({
        bitBucketSize: 64,
        autoResize: false,
        lowestDiscernibleValue: 1,
        highestTrackableValue: LARGEST_UNITS,
        numberOfSignificantValueDigits: 3,
        useWebAssembly: false,
      });
      for (const value of units) theirs.recordValue(value);
      for (const percentile of [50, 90, 99, 99.9]) {
        const expected = Math.min(theirs.getValueAtPercentile(percentile), Math.max(...units));
        assert.equal(Math.round(histogram.percentileUs(percentile) * UNITS_PER_US), expected);
      }
    }),
    { numRuns: 50 },
  );
});

test('counts many at once, and forgets', () => {
  const histogram = new LatencyHistogram();
  histogram.record(100, 99);
  histogram.record(5000, 1);
  assert.equal(histogram.count, 100);
  assert.equal(histogram.percentileUs(99), 10);
  assert.equal(histogram.percentileUs(99.5), 500);
  histogram.reset();
  assert.equal(histogram.count, 0);
  assert.equal(histogram.percentileUs(50), 0);
  assert.equal(histogram.maxUs, 0);
  assert.equal(histogram.minUs, 0);
});

test('values out of range count as the nearest in it', () => {
  const histogram = histogramOf([-5, Number.NaN, 1e12]);
  assert.equal(histogram.count, 3);
  assert.equal(histogram.minUs, 0);
  assert.equal(histogram.maxUs, LARGEST_UNITS / UNITS_PER_US);
});

test('the .hgrm file carries every count', async () => {
  const text = await percentileDistribution(histogramOf([10, 10, 20_000]));
  assert.match(text, /Value\s+Percentile\s+TotalCount/);
  assert.match(text, /Total count\s+=\s+3\]/);
});
