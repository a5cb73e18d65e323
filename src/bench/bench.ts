/**
 * What a benchmark is, as data: sides that are compared, workloads they are given, and the form of the result.
 * Pure types; runner.ts runs them, and every benchmark is run by it.
 */

/** Numbers measured in one sample, by name. Names that end in `Us`, `Ns…` or `seconds` are better when smaller. */
export interface Sample {
  readonly [metric: string]: number | undefined;
}

/** One party of a comparison: a server, or a way of doing something. */
export interface Side {
  /** As in the result: `isthmus/uring`, `node:net`. */
  readonly name: string;
  /** Why it cannot be measured here; it is left out, and this is said. */
  readonly missing?: string | undefined;
}

export interface Workload {
  /** As in the result: `c50 d1`. */
  readonly name: string;
  /** Sides it is for; all where not given. */
  readonly sides?: readonly string[];
  /** Not in a `--quick` run. */
  readonly slow?: boolean;
  /** Seconds a sample takes beyond the measured time, for planning. */
  readonly extraSeconds?: number;
}

/** How long one sample may be. */
export interface SampleTimes {
  readonly seconds: number;
  readonly warmup: number;
}

/** A benchmark whose sides are ready to be measured. */
export interface OpenBench {
  /** One measurement. Throws where it fails; the runner says so and goes on. */
  sample(side: string, workload: string, times: SampleTimes): Promise<Sample>;
  /** CPU time of processes of ours that are no children which have ended, in ns. */
  ownCpuNs(): number;
  close(): Promise<void>;
}

/** Which numbers are put in relation: `ours : peer @ workload metric`. */
export interface Comparison {
  readonly ours: string;
  readonly peer: string;
  readonly metrics: readonly string[];
}

/** The same side under two workloads, as `label @ side … metric`. */
export interface WorkloadComparison {
  /** `10000 idle : 0 idle`. */
  readonly label: string;
  readonly ours: string;
  readonly peer: string;
  readonly workloadName: string;
  readonly metrics: readonly string[];
}

export interface BenchContext {
  readonly quick: boolean;
  /** Datapaths to measure. */
  readonly datapaths: readonly string[];
  /** CPUs for the server and for the load; the same one on a machine with one. */
  readonly serverCpu: number;
  readonly loadCpu: number;
  note(text: string): void;
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  readonly sides: readonly Side[];
  readonly workloads: readonly Workload[];
  readonly comparisons: readonly Comparison[];
  readonly workloadComparisons?: readonly WorkloadComparison[];
  /** Columns of the table for people, in order; the first is the headline of the plots. */
  readonly columns: readonly string[];
  /** A metric that the page also draws over the workloads, which are then steps of one thing. */
  readonly curve?: string;
  /** Metrics of which the largest sample counts rather than the median: what only a fresh process shows. */
  readonly peaks?: readonly string[];
  /** Rounds of a full run where nothing else is asked for: fewer for samples that take long. */
  readonly rounds?: number;
  /** False: each sample starts processes of its own, so that driving a side before the first round warms nothing up. */
  readonly primed?: boolean;
  open(context: BenchContext): Promise<OpenBench>;
}

/** The medians of one side under one workload. */
export interface CaseResult {
  readonly name: string;
  readonly workload: string;
  /** Samples that the medians are of. */
  readonly samples: number;
  /** How many samples had somebody else use the machine meanwhile; they count only where there are no others. */
  readonly disturbed: number;
  /** Half the range of the first column's samples, relative to their median. */
  readonly spread: number;
  readonly [metric: string]: number | string;
}

export interface BenchResult {
  readonly bench: string;
  readonly machine: Machine;
  readonly quick: boolean;
  readonly cases: readonly CaseResult[];
  readonly ratios: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
}

export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly arch: string;
  readonly kernel: string;
  readonly node: string;
  readonly isthmus: string;
  readonly serverCpu: number;
  readonly loadCpu: number;
  /** ISO 8601. */
  readonly date: string;
}
