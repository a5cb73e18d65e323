/**
 * What a load found out, as data and as lines for people.
 * Pure: it reads a finished run.
 */
import { formatAddress } from '../app.ts';
import type { Protocol, RespCommand } from './config.ts';
import { countErrors, type LoadErrors, type Run } from './run.ts';

export interface ProcessCost {
  /** Cores kept busy, 0 … n. */
  readonly cpu: number;
  readonly cpuNsPerMessage: number;
}

export interface LoadReport {
  readonly target: string;
  readonly protocol: Protocol;
  readonly datapath: string;
  readonly loop: 'closed' | 'open';
  readonly connections: number;
  readonly depth: number;
  readonly size: number;
  readonly command?: RespCommand;
  /** Messages per second asked for; null in a closed loop. */
  readonly rate: number | null;
  /** Length of the window that was measured. */
  readonly seconds: number;
  /** False where the load was stopped early. */
  readonly complete: boolean;
  readonly messages: number;
  readonly messagesPerSecond: number;
  readonly minUs: number;
  readonly meanUs: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
  readonly errors: Readonly<LoadErrors>;
  /** RESP: keys that did not exist. */
  readonly nils?: number;
  /** The load's own cost: near 1 core, it is the limit. */
  readonly load: ProcessCost;
  /** The server's cost, where its process id was given. */
  readonly server?: ProcessCost & { readonly rssBytes: number };
  readonly idle?: { readonly connections: number; readonly rssBytesBefore: number; readonly rssBytesAfter: number };
}

export interface Costs {
  readonly loadNs: number;
  /** Null where the server's process is not known. */
  readonly serverNs: number | null;
  readonly serverRss: number;
  readonly idle: LoadReport['idle'] | null;
}

export function makeReport(run: Run, seconds: number, complete: boolean, costs: Costs): LoadReport {
  const { config, histogram, messages } = run;
  const cost = (ns: number): ProcessCost => ({
    cpu: seconds > 0 ? round(ns / 1e9 / seconds, 3) : 0,
    cpuNsPerMessage: messages > 0 ? round(ns / messages, 1) : 0,
  });
  return {
    target: formatAddress(config.address),
    protocol: config.protocol,
    datapath: run.k.datapath.name,
    loop: config.rate === undefined ? 'closed' : 'open',
    connections: config.connections,
    depth: config.depth,
    size: config.size,
    ...(config.protocol === 'resp' ? { command: config.command } : {}),
    rate: config.rate ?? null,
    seconds: round(seconds, 4),
    complete,
    messages,
    messagesPerSecond: seconds > 0 ? round(messages / seconds, 1) : 0,
    minUs: histogram.minUs,
    meanUs: round(histogram.meanUs, 1),
    p50Us: histogram.percentileUs(50),
    p90Us: histogram.percentileUs(90),
    p99Us: histogram.percentileUs(99),
    p999Us: histogram.percentileUs(99.9),
    maxUs: histogram.maxUs,
    errors: { ...run.errors },
    ...(config.protocol === 'resp' ? { nils: run.nils } : {}),
    load: cost(costs.loadNs),
    ...(costs.serverNs === null ? {} : { server: { ...cost(costs.serverNs), rssBytes: costs.serverRss } }),
    ...(costs.idle === null ? {} : { idle: costs.idle }),
  };
}

/** The report as lines for people. */
export function formatReport(report: LoadReport): string {
  const lines = [
    `${report.protocol} ${report.target}, ${describeLoop(report)}, ${report.seconds.toFixed(2)} s` +
      ` on datapath ${report.datapath}${report.complete ? '' : ' (stopped early)'}`,
    `  ${formatCount(report.messagesPerSecond)} messages/s, ${report.messages} messages`,
    `  latency  p50 ${formatUs(report.p50Us)}  p90 ${formatUs(report.p90Us)}  p99 ${formatUs(report.p99Us)}` +
      `  p99.9 ${formatUs(report.p999Us)}  max ${formatUs(report.maxUs)}`,
  ];
  const { server, idle, load } = report;
  if (server !== undefined) {
    const mib = (server.rssBytes / 2 ** 20).toFixed(1);
    lines.push(`  server   ${server.cpuNsPerMessage} ns/message, ${server.cpu.toFixed(2)} cores, ${mib} MiB`);
  }
  lines.push(`  load     ${load.cpuNsPerMessage} ns/message, ${load.cpu.toFixed(2)} cores`);
  if (idle !== undefined) {
    const each = (idle.rssBytesAfter - idle.rssBytesBefore) / Math.max(1, idle.connections);
    const rss = idle.rssBytesAfter > 0 ? `, ${Math.round(each)} bytes of the server's memory each` : '';
    lines.push(`  idle     ${idle.connections} connections${rss}`);
  }
  if (report.nils) lines.push(`  nil      ${report.nils} replies (keys that do not exist)`);
  lines.push(`  errors   ${describeErrors(report.errors)}`);
  return `${lines.join('\n')}\n`;
}

function describeLoop(report: LoadReport): string {
  const { connections, depth, size, rate, command } = report;
  const kind = rate === null ? `depth ${depth}` : `${formatCount(rate)} messages/s`;
  return `${connections} connection${connections === 1 ? '' : 's'}, ${kind}, ${command ? `${command}, ` : ''}${size} bytes`;
}

export function describeErrors(errors: Readonly<LoadErrors>): string {
  if (countErrors(errors) === 0) return 'none';
  return Object.entries(errors)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ');
}

export function formatUs(us: number): string {
  if (us >= 1e6) return `${(us / 1e6).toFixed(2)} s`;
  if (us >= 10_000) return `${(us / 1000).toFixed(1)} ms`;
  return `${us >= 100 ? us.toFixed(0) : us.toFixed(1)} µs`;
}

/** `1.91M`, `127k`, `940`. */
export function formatCount(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)}M`;
  if (count >= 1e4) return `${(count / 1e3).toFixed(0)}k`;
  if (count >= 1e3) return `${(count / 1e3).toFixed(1)}k`;
  return count.toFixed(0);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
