/**
 * One of the processes of run.ts: a lab of its own, and the seeds it is given, one after the other.
 * It talks to its parent only; without a parent it ends.
 */
import type { SpeculationStatistics } from '../../../src/speculation/files/statistics.ts';
import { difference } from './difference.ts';
import { EquivalenceLab } from './lab.ts';

export interface Task {
  readonly seed: number;
  readonly program: string | undefined;
}

export interface Report {
  readonly seed: number;
  readonly program: string;
  readonly tookMs: number;
  readonly differs: string | null;
  readonly statistics: SpeculationStatistics;
}

const [version = '4.1', rtt = '2'] = process.argv.slice(2);
const lab = await EquivalenceLab.start(version as '3' | '4.1', Number(rtt));
process.on('message', (task: Task | 'end') => {
  if (task === 'end') void end(0);
  else void run(task).catch(fail);
});
process.on('disconnect', () => void end(1));
// The parent says when to end.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
process.send!('ready');

async function run({ seed, program }: Task): Promise<void> {
  const began = performance.now();
  const comparison = await lab.compare(seed, program);
  const report: Report = {
    seed,
    program: comparison.program,
    tookMs: performance.now() - began,
    differs: difference(comparison),
    statistics: comparison.statistics,
  };
  process.send!(report);
}

function fail(error: unknown): void {
  console.error(error);
  void end(1);
}

async function end(code: number): Promise<void> {
  // What cannot be closed is closed by the end of this process.
  setTimeout(() => process.exit(1), 10_000).unref();
  await lab.close();
  process.exit(code);
}
