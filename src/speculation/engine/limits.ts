/**
 * What one engine may hold at most, and what it holds. At a bound the process that wants more waits for the truth.
 * Pure numbers.
 */

export interface SpeculationLimits {
  /** Hypotheses not yet known. */
  readonly speculations: number;
  /** Unresolved intervals of all objects; those of processes each hold a checkpoint. */
  readonly intervals: number;
  /** Checkpoints of one process. */
  readonly checkpointsPerProcess: number;
  /** Bytes that undo records keep. */
  readonly undoBytes: number;
  /** Bytes of output that nobody outside has seen yet. */
  readonly outputBytes: number;
}

export const DEFAULT_LIMITS: SpeculationLimits = {
  speculations: 20_000,
  intervals: 20_000,
  checkpointsPerProcess: 256,
  undoBytes: 256 << 20,
  outputBytes: 16 << 20,
};

/** What is held now. */
export interface SpeculationUse {
  speculations: number;
  intervals: number;
  undoBytes: number;
  outputBytes: number;
}

/** What somebody is about to add. */
export type SpeculationDemand = Partial<SpeculationUse>;

/** The name of the bound that the demand would pass, or null. */
export function boundPassed(
  use: SpeculationUse,
  limits: SpeculationLimits,
  demand: SpeculationDemand,
): keyof SpeculationUse | null {
  if (use.speculations + (demand.speculations ?? 0) > limits.speculations) return 'speculations';
  if (use.intervals + (demand.intervals ?? 0) > limits.intervals) return 'intervals';
  if (use.undoBytes + (demand.undoBytes ?? 0) > limits.undoBytes) return 'undoBytes';
  if (use.outputBytes + (demand.outputBytes ?? 0) > limits.outputBytes) return 'outputBytes';
  return null;
}
