/**
 * Our own TCP/IP against the kernel's, at length: 1 GB each way, 1,000 connections at once, 50,000 short ones, in both
 * roles; then with 1 % and 5 % of all frames lost, reordered, doubled and corrupted. Over each link in turn, in some ten
 * minutes. Root. It ends with 1 at the first thing that is wrong.
 *
 *     node dist/test/interop/run.js [--link xdp,xdp-own,tap] [--family 4|6] [--bytes N] [--connections N] [--short N]
 *       [--only bulk,many,short,datagrams,ends] [--faults none,1,5] [--faulty-bytes N] [--seed N] [--pcap FILE]
 */
import { parseArgs } from 'node:util';
import { Ground, LINKS, type LinkKind } from './ground.ts';
import * as trials from './trials.ts';

const { values } = parseArgs({
  options: {
    link: { type: 'string', default: LINKS.join() },
    family: { type: 'string', default: '4' },
    bytes: { type: 'string', default: '1e9' },
    'faulty-bytes': { type: 'string', default: '2e7' },
    connections: { type: 'string', default: '1000' },
    short: { type: 'string', default: '50000' },
    only: { type: 'string', default: 'ends,datagrams,many,short,bulk' },
    faults: { type: 'string', default: 'none,1,5' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    pcap: { type: 'string' },
  },
});

const family = values.family === '6' ? 1 : 0;
const only = new Set(values.only.split(','));
const count = (text: string): number => Math.floor(Number(text));

interface Sizes {
  readonly bytes: number;
  readonly connections: number;
  readonly short: number;
}

async function trial(ground: Ground, name: string, body: () => Promise<void>, bytes = 0): Promise<void> {
  const { datapath } = ground;
  const before = datapath.observe();
  const began = performance.now();
  // A trial without progress says where it stands before somebody ends it.
  const watch = setInterval(() => tell(`  … ${name}: ${difference(before, datapath.observe())}`), 30_000);
  try {
    await body();
  } finally {
    clearInterval(watch);
  }
  const seconds = (performance.now() - began) / 1000;
  await trials.settle(ground);
  const rate = bytes > 0 ? `, ${((bytes * 8) / seconds / 1e9).toFixed(2)} Gbit/s each way` : '';
  tell(`${name}: ${seconds.toFixed(2)} s${rate}; ${ground.held - ground.atRest} buffers more than at the start`);
  tell(`  ${difference(before, datapath.observe())}`);
}

function difference(before: Record<string, number>, now: Record<string, number>): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(now)) {
    const more = value - (before[name] ?? 0);
    if (more !== 0) parts.push(`${name} ${more}`);
  }
  return parts.join(', ');
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function series(link: LinkKind, name: string, middleware: string, sizes: Sizes): Promise<void> {
  tell(`--- ${link}, IPv${values.family}, ${name}`);
  const ground = new Ground({ link, ...(middleware !== '' && { middleware }) });
  const { bytes, connections, short } = sizes;
  try {
    if (only.has('ends') && middleware === '') {
      await trial(ground, 'refusals', () => trials.refusals(ground, family));
      await trial(ground, 'resets', () => trials.resets(ground, family));
      await trial(ground, 'half close', () => trials.halfClose(ground, family));
    }
    for (const role of ['server', 'client'] as const) {
      if (only.has('datagrams')) {
        // Of a long datagram with faults hardly one arrives whole.
        const largest = middleware.includes('faults=') ? 3000 : 20_000;
        const sizes = [0, 1, 1472, largest];
        await trial(ground, `datagrams as ${role}`, () => trials.datagrams(ground, role, family, sizes));
      }
      if (only.has('many')) {
        const what = `${connections} connections at once as ${role}`;
        await trial(ground, what, () => trials.many(ground, role, family, connections));
      }
      if (only.has('short')) {
        await trial(ground, `${short} short connections as ${role}`, () =>
          trials.short(ground, role, family, short, 64),
        );
      }
      if (only.has('bulk')) {
        await trial(
          ground,
          `${bytes} bytes each way as ${role}`,
          () => trials.bulk(ground, role, family, bytes),
          bytes,
        );
      }
    }
  } finally {
    await ground.close();
  }
}

const capture = values.pcap === undefined ? '' : `pcap=${values.pcap}`;
const seed = count(values.seed);

/** `level`: per cent of all frames that have each fault, or `none`. */
async function atLevel(link: LinkKind, level: string): Promise<void> {
  if (level === 'none') {
    const sizes = {
      bytes: count(values.bytes),
      connections: count(values.connections),
      short: count(values.short),
    };
    await series(link, 'no faults', capture, sizes);
    return;
  }
  const p = Number(level) / 100;
  const faults = `faults=loss:${p},duplication:${p},reordering:${p},corruption:${p},seed:${seed}`;
  const sizes = {
    bytes: count(values['faulty-bytes']),
    connections: Math.min(200, count(values.connections)),
    short: Math.min(2000, count(values.short)),
  };
  await series(link, `${level} % of each fault`, capture === '' ? faults : `${faults},${capture}`, sizes);
}

tell(`seed ${seed}`);
for (const name of values.link.split(',')) {
  const link = LINKS.find((each) => each === name);
  if (link === undefined) throw new RangeError(`--link ${name}: there are ${LINKS.join(', ')}`);
  for (const level of values.faults.split(',')) await atLevel(link, level);
}
