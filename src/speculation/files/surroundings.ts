/**
 * What all parts of the seat of speculation work with.
 * Types only.
 */
import type { SpeculationEngine } from '../engine/engine.ts';
import type { Judgement } from '../engine/judgement.ts';
import type { ProcessBackend } from '../process/backend.ts';
import type { SpeculationStatistics } from './statistics.ts';
import type { SpeculationTrace } from './trace.ts';

export interface Surroundings {
  readonly engine: SpeculationEngine;
  readonly judgement: Judgement;
  readonly statistics: SpeculationStatistics;
  readonly trace: SpeculationTrace | null;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** The processes; null until the seat is given them. */
  readonly backend: ProcessBackend | null;
}
