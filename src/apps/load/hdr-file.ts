/**
 * A latency histogram written as HdrHistogram's percentile distribution (`.hgrm`), which its plotters read.
 * Pure but for importing hdr-histogram-js, which is done only here because it takes 45 ms.
 */
import { LARGEST_UNITS, type LatencyHistogram, UNITS_PER_US } from './histogram.ts';

/** The text of the file; values in microseconds. */
export async function percentileDistribution(histogram: LatencyHistogram): Promise<string> {
  const { build } = await import('hdr-histogram-js');
  const theirs = build({
    bitBucketSize: 64,
    autoResize: false,
    lowestDiscernibleValue: 1,
    highestTrackableValue: LARGEST_UNITS,
    numberOfSignificantValueDigits: 3,
    useWebAssembly: false,
  });
  for (const { units, count } of histogram.entries()) theirs.recordValueWithCount(units, count);
  return theirs.outputPercentileDistribution(5, UNITS_PER_US);
}
