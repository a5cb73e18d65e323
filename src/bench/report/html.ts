/**
 * The result of a benchmark as one HTML page with plots; it needs nothing from anywhere else.
 * Pure.
 */
import type { Bench, BenchResult, CaseResult } from '../bench.ts';
import { lessIsBetter } from '../ratios.ts';
import { curve } from './curve.ts';
import { escapeHtml } from './escape.ts';
import { formatMetric, metricTitle, ratioRows } from './table.ts';

const BAR = 20;
const GAP = 6;
const BAR_WIDTH = 128;
const VALUE_WIDTH = 76;
/** Pixels of a character of a side's name. */
const CHARACTER = 7.2;

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2327; --soft: #5d6b73; --line: #d9dfe2; --page: #fcfcfb; --ours: #0b7a75; --ours2: #59a8a2; --peer: #a9b4ba; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9eb; --soft: #98a5ac; --line: #2f3a40; --page: #14191c; --ours: #2bb3aa; --ours2: #1d716c; --peer: #56636a; } }
body { margin: 2.5rem auto; max-width: 86rem; padding: 0 1.5rem; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { color: var(--soft); margin: .3rem 0; max-width: 60rem; }
.panels { display: flex; flex-wrap: wrap; gap: 1.2rem 1.4rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--soft); margin-bottom: .3rem; }
svg { display: block; } svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .value { font-variant-numeric: tabular-nums; }
.ours { fill: var(--ours); } .ours2 { fill: var(--ours2); } .peer { fill: var(--peer); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child, .left { text-align: left; }
td.good { color: var(--ours); }
`;

export function htmlPage(bench: Pick<Bench, 'summary' | 'columns' | 'curve'>, result: BenchResult): string {
  const { machine } = result;
  const title = `isthmus bench ${result.bench}`;
  const metrics = bench.columns.filter((metric) => result.cases.some((each) => each[metric] !== undefined));
  const workloads = [...new Set(result.cases.map(({ workload }) => workload))];
  const memory = (machine.memoryBytes / 2 ** 30).toFixed(1);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(bench.summary)}</p>
<p>${escapeHtml(machine.cpu)}, ${machine.cpus} CPUs, ${memory} GiB, Linux ${escapeHtml(machine.kernel)}, Node ${escapeHtml(machine.node)}, isthmus ${escapeHtml(machine.isthmus)}. Server on CPU ${machine.serverCpu}, load on CPU ${machine.loadCpu}. ${escapeHtml(machine.date.slice(0, 16).replace('T', ' '))} UTC.${result.quick ? ' A quick run: samples are few and short.' : ''}</p>
${bench.curve === undefined ? '' : `<figure><figcaption>${escapeHtml(metricTitle(bench.curve))}</figcaption>${curve(bench.curve, result)}</figure>`}
${workloads.map((workload) => section(workload, metrics, result)).join('\n')}
${ratioTable(result)}
${caseTable(metrics, result)}
${result.notes.map((note) => `<p>Note: ${escapeHtml(note)}.</p>`).join('\n')}
</body>
</html>
`;
}

function section(workload: string, metrics: readonly string[], result: BenchResult): string {
  const cases = result.cases.filter((each) => each.workload === workload);
  const names = Math.ceil(Math.max(...result.cases.map(({ name }) => name.length)) * CHARACTER) + 8;
  // What the load used matters to the reading of the numbers, not to the comparison: it stands in the table.
  const plotted = metrics.filter((metric) => metric !== 'loadCpu');
  const panels = plotted.map((metric) => panel(metric, cases, names)).filter((each) => each !== '');
  return `<h2>${escapeHtml(workload)}</h2>\n<div class="panels">\n${panels.join('\n')}\n</div>`;
}

/** Horizontal bars, one per side, each panel on a scale of its own. */
function panel(metric: string, all: readonly CaseResult[], names: number): string {
  const cases = all.filter((each) => typeof each[metric] === 'number');
  if (cases.length === 0) return '';
  const largest = Math.max(...cases.map((each) => each[metric] as number), Number.MIN_VALUE);
  const better = lessIsBetter(metric) ? 'less is better' : 'more is better';
  const bars = cases.map((each, index) => {
    const value = each[metric] as number;
    const y = index * (BAR + GAP);
    const width = Math.max(1, (value / largest) * BAR_WIDTH).toFixed(1);
    const text = y + BAR - 5;
    const label = `${each.name}: ${formatMetric(metric, value)}`;
    return `<g><title>${escapeHtml(label)}</title><text x="0" y="${text}">${escapeHtml(each.name)}</text><rect class="${colour(each.name)}" x="${names}" y="${y}" width="${width}" height="${BAR}" rx="2"/><text class="value" x="${(names + Number(width) + 6).toFixed(1)}" y="${text}">${formatMetric(metric, value)}</text></g>`;
  });
  const width = names + BAR_WIDTH + VALUE_WIDTH;
  const height = cases.length * (BAR + GAP);
  const title = `${metricTitle(metric)}, ${better}`;
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><svg role="img" aria-label="${escapeHtml(title)}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${bars.join('')}</svg></figure>`;
}

/** Ours stand out; the second of ours a little less. */
function colour(name: string): string {
  if (!/^(isthmus\b|token|coroutine)/.test(name)) return 'peer';
  return name === 'isthmus/kernel' ? 'ours2' : 'ours';
}

function ratioTable({ ratios }: BenchResult): string {
  const [head, ...rows] = ratioRows(ratios);
  if (rows.length === 0) return '';
  const headRow = head!.map((cell) => `<th>${escapeHtml(cell)}</th>`).join('');
  const body = rows.map(([pair, ...cells]) => {
    const numbers = cells.map((cell) => `<td${Number(cell) >= 1 ? ' class="good"' : ''}>${cell}</td>`).join('');
    return `<tr><td>${escapeHtml(pair!)}</td>${numbers}</tr>`;
  });
  return `<h2>Ratios</h2>\n<p>How many times better the left side is: above 1, it is.</p>\n<div class="scroll"><table>\n<tr>${headRow}</tr>\n${body.join('\n')}\n</table></div>`;
}

function caseTable(metrics: readonly string[], { cases }: BenchResult): string {
  const head = ['workload', 'side', ...metrics.map(metricTitle), 'samples', 'disturbed', '±'];
  const rows = cases.map((each) => {
    const numbers = metrics.map((metric) => `<td>${formatMetric(metric, each[metric])}</td>`).join('');
    return `<tr><td>${escapeHtml(each.workload)}</td><td class="left">${escapeHtml(each.name)}</td>${numbers}<td>${each.samples}</td><td>${each.disturbed}</td><td>${(each.spread * 100).toFixed(0)} %</td></tr>`;
  });
  const headRow = head
    .map((cell, index) => `<th${index === 1 ? ' class="left"' : ''}>${escapeHtml(cell)}</th>`)
    .join('');
  return `<h2>All numbers</h2>\n<p>Medians over the rounds; ± is half the range of the first column. Disturbed samples had somebody else use the machine in every try; they count only where there are no others.</p>\n<div class="scroll"><table>\n<tr>${headRow}</tr>\n${rows.join('\n')}\n</table></div>`;
}
