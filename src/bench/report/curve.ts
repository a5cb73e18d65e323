/**
 * One metric over the workloads of a benchmark in their order, a line for each side on a logarithmic scale, as SVG.
 * Pure.
 */
import type { BenchResult } from '../bench.ts';
import { escapeHtml } from './escape.ts';
import { formatMetric, metricTitle } from './table.ts';

const WIDTH = 640;
const HEIGHT = 280;
const LEFT = 90;
const RIGHT = 130;
const TOP = 14;
const BOTTOM = 30;
const COLOURS = ['#0b8f88', '#c2762b', '#6a7f8a', '#8a5fb0'];

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Empty where there is nothing to draw. */
export function curve(metric: string, { cases }: Pick<BenchResult, 'cases'>): string {
  const values = cases.map((each) => each[metric]).filter((value) => typeof value === 'number' && value > 0);
  if (values.length === 0) return '';
  const workloads = [...new Set(cases.map(({ workload }) => workload))];
  const bottom = Math.floor(Math.log10(Math.min(...(values as number[]))));
  const top = Math.max(bottom + 1, Math.ceil(Math.log10(Math.max(...(values as number[])))));
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, workloads.length - 1);
  const x = (workload: string) => LEFT + workloads.indexOf(workload) * step;
  const y = (value: number) => TOP + ((top - Math.log10(value)) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const decades = Array.from({ length: top - bottom + 1 }, (_, i) => 10 ** (bottom + i));
  const grid = decades.map(
    (value) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#808a9040"/><text x="${LEFT - 8}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${formatMetric(metric, value)}</text>`,
  );
  const names = workloads.map(
    (workload) =>
      `<text x="${x(workload).toFixed(1)}" y="${HEIGHT - 8}" text-anchor="middle">${escapeHtml(workload)}</text>`,
  );
  const sides = [...new Set(cases.map(({ name }) => name))];
  const lines = sides.map((side, index) => {
    const points = cases
      .filter(({ name }) => name === side)
      .filter((each) => typeof each[metric] === 'number' && (each[metric] as number) > 0)
      .map((each) => ({ x: x(each.workload), y: y(each[metric] as number) }));
    return line(side, points, COLOURS[index % COLOURS.length]!, index);
  });
  const title = escapeHtml(metricTitle(metric));
  return `<svg role="img" aria-label="${title}" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#6f7d85">${grid.join('')}${names.join('')}${lines.join('')}</svg>`;
}

/** The names stand one below the other, since lines may end close together. */
function line(side: string, points: readonly Point[], colour: string, index: number): string {
  const path = points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
  const dots = points.map(({ x, y }) => `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3"/>`);
  return `<g fill="${colour}"><polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}<text x="${WIDTH - RIGHT + 12}" y="${TOP + 12 + 18 * index}">${escapeHtml(side)}</text></g>`;
}
