/**
 * What a speculative run has predicted, kept, undone and saved.
 * Numbers and their line for people; it touches nothing.
 */

export interface HoldSum {
  count: number;
  ms: number;
}

export interface SpeculationStatistics {
  /** Requests of the group that were predicted, and that waited. */
  predictedReads: number;
  predictedMutations: number;
  waited: number;
  /** The same by operation and reason: `lookup unknown`. */
  readonly waits: Record<string, number>;
  /** System calls that a process stood before until it depended on nothing, by call and reason, and for how long, milliseconds. */
  readonly holds: Record<string, HoldSum>;
  confirmed: number;
  refuted: number;
  dropped: number;
  checkpoints: number;
  checkpointsRefused: number;
  rollbacks: number;
  restored: number;
  killed: number;
  /** Round trips that sent mutations, and the mutations in them. */
  batches: number;
  sent: number;
  repaired: number;
  /** Checkpoints that the processes lost and the engine did not expect to; 0 unless something is wrong. */
  unexpected: number;
  /** Milliseconds between an answer given ahead and its truth, for those that were right: what would have been waited. */
  savedMs: number;
  /** What the judgement went by at the end, microseconds. */
  roundTripUs: number;
  checkpointUs: number;
  /** Most held at one time. */
  peakSpeculations: number;
  peakOutputBytes: number;
}

export function newStatistics(): SpeculationStatistics {
  return {
    predictedReads: 0,
    predictedMutations: 0,
    waited: 0,
    waits: {},
    holds: {},
    confirmed: 0,
    refuted: 0,
    dropped: 0,
    checkpoints: 0,
    checkpointsRefused: 0,
    rollbacks: 0,
    restored: 0,
    killed: 0,
    batches: 0,
    sent: 0,
    repaired: 0,
    unexpected: 0,
    savedMs: 0,
    roundTripUs: 0,
    checkpointUs: 0,
    peakSpeculations: 0,
    peakOutputBytes: 0,
  };
}

/** A few lines for people. */
export function describeStatistics(s: SpeculationStatistics, elapsedMs: number): string {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return [
    `speculation: ${s.predictedReads} reads and ${s.predictedMutations} changes predicted; ` +
      `${s.confirmed} right, ${s.refuted} wrong, ${s.dropped} dropped; ${s.waited} waited`,
    `checkpoints: ${s.checkpoints} taken, ${s.checkpointsRefused} refused; ${s.rollbacks} rollbacks ` +
      `(${s.restored} processes restored, ${s.killed} that never were)`,
    `changes: ${s.sent} sent in ${s.batches} batches${s.repaired > 0 ? `, ${s.repaired} repaired` : ''}`,
    ...(s.waited > 0 ? [`waited: ${reasons(s.waits)}`] : []),
    ...(Object.keys(s.holds).length > 0 ? [`held: ${longest(s.holds)}`] : []),
    `measured: round trip ${milliseconds(s.roundTripUs)}, checkpoint ${milliseconds(s.checkpointUs)}`,
    `time: ${seconds(elapsedMs)}, about ${seconds(s.savedMs)} of waiting done ahead`,
    '',
  ].join('\n');
}

function milliseconds(us: number): string {
  return `${(us / 1000).toFixed(2)} ms`;
}

function reasons(waits: Record<string, number>): string {
  const sorted = Object.entries(waits).sort((a, b) => b[1] - a[1]);
  return sorted.map(([reason, count]) => `${reason} ${count}`).join(', ');
}

function longest(holds: Record<string, HoldSum>): string {
  const sorted = Object.entries(holds).sort(([, a], [, b]) => b.ms - a.ms);
  return sorted.map(([reason, { count, ms }]) => `${reason} ${count} (${(ms / 1000).toFixed(2)} s)`).join(', ');
}
