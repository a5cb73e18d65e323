/**
 * Medians and ratios. A ratio's key is `ours : peer @ workload metric`, and above 1 always means that ours is better.
 * Pure.
 */
import type { Comparison, Sample, WorkloadComparison } from './bench.ts';

/** What was measured of one side under one workload. */
export interface Series {
  readonly name: string;
  readonly workload: string;
  readonly samples: TakenSample[];
}

export interface TakenSample {
  readonly round: number;
  /** Somebody else used the machine meanwhile, in every try. */
  readonly disturbed: boolean;
  readonly sample: Sample;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Half the range relative to the median: how far apart the samples are. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  return middle === 0 || values.length < 2 ? 0 : (Math.max(...values) - Math.min(...values)) / 2 / Math.abs(middle);
}

/** Whether less of a metric is better: latencies, durations, costs, memory. */
export function lessIsBetter(metric: string): boolean {
  return /(Us|Ns|Ms|Seconds|seconds|NsPer[A-Z]\w*|nsPer[A-Z]\w*|[bB]ytesPer(?!Second)[A-Z]\w*|[rR]ssBytes\w*)$/.test(
    metric,
  );
}

/** How many times better `ours` is than `peer`. NaN where either was not measured. */
export function ratio(metric: string, ours: number, peer: number): number {
  return lessIsBetter(metric) ? peer / ours : ours / peer;
}

export function ratioKey(ours: string, peer: string, workload: string, metric: string): string {
  return `${ours} : ${peer} @ ${workload} ${metric}`;
}

/** The samples that count: what somebody else spoiled does only where there is nothing better. */
export function countingSamples(series: Series): readonly TakenSample[] {
  const quiet = series.samples.filter(({ disturbed }) => !disturbed);
  return quiet.length > 0 ? quiet : series.samples;
}

/**
 * The median of the ratios of each round: samples of a round were taken shortly after each other, so that a machine whose
 * speed drifts does not speak for either side. Rounds that were not disturbed decide, if there are any.
 * Where no round has both, the ratio of the medians. NaN where one has nothing.
 */
export function pairedRatio(metric: string, ours: Series, peer: Series): number {
  const rounds: { value: number; disturbed: boolean }[] = [];
  for (const a of ours.samples) {
    const b = peer.samples.find(({ round }) => round === a.round);
    const value = ratio(metric, a.sample[metric] ?? Number.NaN, b?.sample[metric] ?? Number.NaN);
    if (Number.isFinite(value)) rounds.push({ value, disturbed: a.disturbed || b!.disturbed });
  }
  const quiet = rounds.filter(({ disturbed }) => !disturbed);
  const counting = quiet.length > 0 ? quiet : rounds;
  if (counting.length > 0) return median(counting.map(({ value }) => value));
  return ratio(metric, medianOf(ours, metric), medianOf(peer, metric));
}

/** The median of a metric over the samples that count. NaN where none has it. */
export function medianOf(series: Series, metric: string): number {
  return median(valuesOf(series, metric));
}

export function valuesOf(series: Series, metric: string): number[] {
  return countingSamples(series)
    .map(({ sample }) => sample[metric])
    .filter((value) => value !== undefined);
}

/** Every ratio of which both sides were measured. */
export function computeRatios(
  all: readonly Series[],
  comparisons: readonly Comparison[],
  workloadComparisons: readonly WorkloadComparison[] = [],
): Record<string, number> {
  const ratios: Record<string, number> = {};
  const find = (name: string, workload: string) => all.find((s) => s.name === name && s.workload === workload);
  const put = (key: string, metric: string, ours: Series | undefined, peer: Series | undefined) => {
    if (ours === undefined || peer === undefined) return;
    const value = pairedRatio(metric, ours, peer);
    if (Number.isFinite(value) && value > 0) ratios[key] = Number(value.toFixed(4));
  };
  for (const { ours, peer, metrics } of comparisons) {
    for (const { workload } of all.filter((each) => each.name === ours)) {
      for (const metric of metrics) {
        put(ratioKey(ours, peer, workload, metric), metric, find(ours, workload), find(peer, workload));
      }
    }
  }
  for (const { label, ours, peer, workloadName, metrics } of workloadComparisons) {
    for (const { name } of all.filter((each) => each.workload === ours)) {
      for (const metric of metrics) {
        put(`${label} @ ${name} ${workloadName} ${metric}`, metric, find(name, ours), find(name, peer));
      }
    }
  }
  return ratios;
}
