/**
 * The result of a benchmark as a table for people.
 * Pure.
 */
import type { Bench, BenchResult, CaseResult } from '../bench.ts';

/** What a metric is called, and how its numbers are written. */
const METRICS: Readonly<Record<string, { title: string; format: (value: number) => string }>> = {
  messagesPerSecond: { title: 'messages/s', format: count },
  opsPerSecond: { title: 'ops/s', format: count },
  p50Us: { title: 'p50 µs', format: tenths },
  p99Us: { title: 'p99 µs', format: tenths },
  p999Us: { title: 'p99.9 µs', format: tenths },
  cpuNsPerMessage: { title: 'server CPU ns/msg', format: count },
  nsPerOp: { title: 'ns/op', format: tenths },
  loadCpu: { title: 'load CPU', format: (value) => value.toFixed(2) },
  rssBytesPerIdleConnection: { title: 'bytes/idle conn.', format: count },
};

export function metricTitle(metric: string): string {
  return METRICS[metric]?.title ?? metric;
}

export function formatMetric(metric: string, value: number | string | undefined): string {
  if (typeof value !== 'number' || !Number.isFinite(value)) return '';
  return (METRICS[metric]?.format ?? tenths)(value);
}

/** One table per workload, a row per side, then the ratios. */
export function formatTable(bench: Pick<Bench, 'summary' | 'columns'>, result: BenchResult): string {
  const { machine } = result;
  const lines = [
    `${result.bench}: ${bench.summary}`,
    `${machine.cpu}, ${machine.cpus} CPUs, Linux ${machine.kernel}, Node ${machine.node}; server on CPU ${machine.serverCpu}, load on CPU ${machine.loadCpu}`,
    '',
  ];
  const metrics = bench.columns.filter((metric) => result.cases.some((each) => each[metric] !== undefined));
  const rows = [['workload', 'side', ...metrics.map(metricTitle), 'samples', '±']];
  let workload = '';
  for (const each of result.cases) {
    rows.push([
      each.workload === workload ? '' : each.workload,
      each.name,
      ...metrics.map((metric) => formatMetric(metric, each[metric])),
      samples(each),
      `${(each.spread * 100).toFixed(0)} %`,
    ]);
    workload = each.workload;
  }
  lines.push(...align(rows), '');
  const ratios = Object.entries(result.ratios);
  if (ratios.length > 0) {
    lines.push('ratios (above 1: the left one is better)');
    lines.push(...align(ratioRows(result.ratios)));
  }
  for (const note of result.notes) lines.push(`note: ${note}`);
  return `${lines.join('\n')}\n`;
}

/** Ratios with a row for each pair and workload, and a column for each metric; the first row is the head. */
export function ratioRows(ratios: BenchResult['ratios']): string[][] {
  const metrics: string[] = [];
  const rows = new Map<string, Map<string, number>>();
  for (const [key, value] of Object.entries(ratios)) {
    const end = key.lastIndexOf(' ');
    const metric = key.slice(end + 1);
    const pair = key.slice(0, end);
    if (!metrics.includes(metric)) metrics.push(metric);
    rows.set(pair, (rows.get(pair) ?? new Map()).set(metric, value));
  }
  const cells = [...rows].map(([pair, row]) => [pair, ...metrics.map((metric) => row.get(metric)?.toFixed(2) ?? '')]);
  return [['', ...metrics.map(metricTitle)], ...cells];
}

function samples({ samples, disturbed }: CaseResult): string {
  return disturbed === 0 ? `${samples}` : `${samples} (${disturbed} disturbed)`;
}

/** Columns of equal width: text to the left, numbers to the right. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column < 2 && !/^[\d.]+$/.test(cell) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  );
}

function count(value: number): string {
  if (value >= 1e7) return `${(value / 1e6).toFixed(1)}M`;
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

function tenths(value: number): string {
  return value >= 1000 ? count(value) : value.toFixed(1);
}
