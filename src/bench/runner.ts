/**
 * Runs a benchmark: rounds in which the sides take turns, medians of what they measured, and the ratios.
 * It touches clocks and the machine's lock; servers and loads are the benchmark's matter.
 */
import type {
  Bench,
  BenchContext,
  BenchResult,
  CaseResult,
  Machine,
  OpenBench,
  Sample,
  SampleTimes,
  Workload,
} from './bench.ts';
import { quietly } from './quiet.ts';
import { computeRatios, countingSamples, medianOf, type Series, spread, valuesOf } from './ratios.ts';

export interface RunnerOptions {
  readonly quick: boolean;
  readonly rounds: number | undefined;
  /** Seconds of each sample, where not chosen by the runner. */
  readonly seconds: number | undefined;
  readonly signal: AbortSignal;
  /** Whether to keep other benchmarks of this machine away, and to repeat samples that were disturbed. */
  readonly quiet: boolean;
  /** Milliseconds, monotonic. Default `performance.now`. */
  readonly now?: () => number;
  progress(line: string): void;
}

/** A quick run ends within 50 seconds in all, with some to spare for starting and ending. */
const QUICK_MS = 45_000;
const QUICK_ROUNDS = 3;
/** Rounds that matter more than samples repeated for quiet: with fewer, the sides would not alternate. */
const NEEDED_ROUNDS = 2;
const FULL = { rounds: 5, seconds: 3, warmup: 0.5, tries: 5, patienceMs: 60_000 };
/** What a sample takes beside the measured time: connecting, closing, settling. */
const OVERHEAD_SECONDS = 0.3;
/**
 * Each side is driven for so long before the first round, unmeasured, so that none is compiled while it is measured. A bulk flow
 * over `xdp:` was seen to get faster for 2 s; a quick run cannot wait for that.
 */
const PRIME_SECONDS = { quick: 1.1, full: 3 };

interface Planned {
  readonly side: string;
  readonly workload: Workload;
}

export interface Plan extends SampleTimes {
  readonly rounds: number;
  readonly tries: number;
  readonly primeSeconds: number;
  readonly cases: readonly Planned[];
}

/** What will be measured and for how long. */
export function plan(bench: Bench, options: Pick<RunnerOptions, 'quick' | 'rounds' | 'seconds'>): Plan {
  const sides = bench.sides.filter((side) => side.missing === undefined);
  const cases: Planned[] = [];
  for (const workload of bench.workloads) {
    if (workload.slow && options.quick) continue;
    for (const { name } of sides) {
      if (workload.sides === undefined || workload.sides.includes(name)) cases.push({ side: name, workload });
    }
  }
  if (!options.quick) {
    return {
      cases,
      rounds: options.rounds ?? bench.rounds ?? FULL.rounds,
      tries: FULL.tries,
      primeSeconds: PRIME_SECONDS.full,
      seconds: options.seconds ?? FULL.seconds,
      warmup: FULL.warmup,
    };
  }
  const rounds = options.rounds ?? QUICK_ROUNDS;
  const extra = cases.reduce((sum, { workload }) => sum + (workload.extraSeconds ?? 0), 0) * rounds;
  const primed = new Set(cases.map(({ side }) => side)).size * (PRIME_SECONDS.quick + OVERHEAD_SECONDS);
  const each = (QUICK_MS / 1000 - 2 - primed - extra) / Math.max(1, cases.length * rounds) - OVERHEAD_SECONDS;
  const seconds = options.seconds ?? Math.min(1, Math.max(0.2, each * 0.7));
  const warmup = Math.min(0.4, Math.max(0.15, each * 0.3));
  return { cases, rounds, tries: 2, primeSeconds: PRIME_SECONDS.quick, seconds, warmup };
}

export async function runBench(
  bench: Bench,
  context: BenchContext,
  machine: Machine,
  notes: string[],
  options: RunnerOptions,
): Promise<BenchResult> {
  for (const { name, missing } of bench.sides) if (missing !== undefined) notes.push(`${name} is left out: ${missing}`);
  if (context.serverCpu === context.loadCpu) {
    notes.push('this machine has one CPU for both: server and load take it from each other, and ratios are flattened');
  }
  const planned = plan(bench, options);
  const running = new Running(planned, options, notes);
  const open = await bench.open(context);
  try {
    if (bench.primed !== false) await running.prime(open);
    await running.rounds(open);
  } finally {
    await open.close();
  }
  if (options.signal.aborted) notes.push('stopped early');
  const series = planned.cases
    .map(({ side, workload }) => running.results.get(keyOf(side, workload.name)))
    .filter((each) => each !== undefined);
  const cases = series.map((each) => summarize(each, bench));
  const ratios = computeRatios(series, bench.comparisons, bench.workloadComparisons);
  return { bench: bench.name, machine, quick: options.quick, cases, ratios, notes };
}

/** A run under way: its samples, and its account of time. */
class Running {
  readonly results = new Map<string, Series>();
  readonly #plan: Plan;
  readonly #options: RunnerOptions;
  readonly #notes: string[];
  readonly #now: () => number;
  readonly #deadline: number;
  #samplesTaken = 0;
  #samplesMs = 0;

  constructor(planned: Plan, options: RunnerOptions, notes: string[]) {
    this.#plan = planned;
    this.#options = options;
    this.#notes = notes;
    this.#now = options.now ?? (() => performance.now());
    this.#deadline = options.quick ? this.#now() + QUICK_MS : Number.POSITIVE_INFINITY;
  }

  async prime(open: OpenBench): Promise<void> {
    const { cases, primeSeconds } = this.#plan;
    const sides = new Set<string>();
    for (const { side, workload } of cases) {
      if (sides.has(side) || this.#options.signal.aborted) continue;
      sides.add(side);
      // Where it fails it will fail again, and then it is noted.
      await open.sample(side, workload.name, { warmup: primeSeconds - 0.2, seconds: 0.2 }).catch(() => {});
    }
  }

  async rounds(open: OpenBench): Promise<void> {
    const { cases, rounds } = this.#plan;
    for (let round = 0; round < rounds; round++) {
      // Beyond the needed ones, a round that would not end in time is not begun: all sides keep equally many samples.
      const left = this.#deadline - this.#now();
      if (round >= NEEDED_ROUNDS && left < this.#sampleMs * cases.length) {
        this.#notes.push(`${round} of ${rounds} rounds fitted into the time of a quick run`);
        return;
      }
      // Back and forth, so that no side always follows the same other one.
      const order = round % 2 === 0 ? cases : [...cases].reverse();
      for (const [index, { side, workload }] of order.entries()) {
        if (this.#options.signal.aborted) return;
        if (this.#now() + this.#sampleMs > this.#deadline) {
          this.#notes.push(`the time of a quick run was over in round ${round + 1}: this machine is busy`);
          return;
        }
        const ahead = Math.max(0, NEEDED_ROUNDS - round) * cases.length - index - 1;
        await this.#measure(open, side, workload, round, Math.max(0, ahead));
      }
    }
  }

  /** What a sample took so far, on average. */
  get #sampleMs(): number {
    return this.#samplesTaken === 0 ? 0 : this.#samplesMs / this.#samplesTaken;
  }

  /** Time that is not needed for the samples still ahead, in ms. */
  #spare(ahead: number): number {
    return this.#deadline - this.#now() - ahead * this.#sampleMs;
  }

  /** @param ahead samples that must still be taken after this one */
  async #measure(open: OpenBench, side: string, workload: Workload, round: number, ahead: number): Promise<void> {
    const { rounds, tries, seconds, warmup } = this.#plan;
    const { progress, quiet, signal } = this.#options;
    const label = `round ${round + 1}/${rounds}  ${side}  ${workload.name}`;
    const measure = async () => {
      const start = this.#now();
      const sample = await open.sample(side, workload.name, { seconds, warmup });
      this.#samplesMs += this.#now() - start;
      this.#samplesTaken++;
      return sample;
    };
    try {
      const { value, foreign, ...judged } = await quietly(measure, {
        ownCpuNs: () => open.ownCpuNs(),
        tries: quiet ? tries : 1,
        mayRepeat: () => !this.#options.signal.aborted && this.#spare(ahead) > 2 * this.#sampleMs,
        patienceMs: Math.min(FULL.patienceMs, Math.max(0, this.#spare(ahead + 1) / 2)),
        lock: quiet,
        signal,
      });
      const disturbed = quiet && judged.disturbed;
      const key = keyOf(side, workload.name);
      const series = this.results.get(key) ?? { name: side, workload: workload.name, samples: [] };
      this.results.set(key, series);
      series.samples.push({ round, disturbed, sample: value });
      progress(`${label}  ${describe(value)}${disturbed ? `  (others used ${foreign.toFixed(2)} cores)` : ''}`);
    } catch (error) {
      if (signal.aborted) return;
      const note = `${side} ${workload.name} failed: ${(error as Error).message}`;
      if (!this.#notes.includes(note)) this.#notes.push(note);
      progress(`${label}  failed: ${(error as Error).message}`);
    }
  }
}

function keyOf(side: string, workload: string): string {
  return `${side}\n${workload}`;
}

function describe(sample: Sample): string {
  return Object.entries(sample)
    .filter(([, value]) => value !== undefined)
    .slice(0, 4)
    .map(([metric, value]) => `${metric} ${value! >= 100 ? Math.round(value!) : value!.toFixed(1)}`)
    .join('  ');
}

function summarize(series: Series, bench: Bench): CaseResult {
  const metrics: Record<string, number> = {};
  const counting = countingSamples(series);
  for (const metric of new Set(counting.flatMap(({ sample }) => Object.keys(sample)))) {
    const values = valuesOf(series, metric);
    if (values.length === 0) continue;
    const peak = bench.peaks?.includes(metric);
    const value = peak
      ? Math.max(...series.samples.map(({ sample }) => sample[metric] ?? 0))
      : medianOf(series, metric);
    metrics[metric] = Number(value.toPrecision(7));
  }
  return {
    name: series.name,
    workload: series.workload,
    ...metrics,
    samples: counting.length,
    disturbed: series.samples.filter(({ disturbed }) => disturbed).length,
    spread: Number(spread(valuesOf(series, bench.columns[0]!)).toFixed(3)),
  };
}
