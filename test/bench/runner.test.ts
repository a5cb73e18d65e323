/** The runner on a benchmark that is invented: rounds alternate, medians are taken, and the result has the form others read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bench, BenchContext, Machine } from '../../src/bench/bench.ts';
import { benches } from '../../src/bench/registry.ts';
import { htmlPage } from '../../src/bench/report/html.ts';
import { formatTable } from '../../src/bench/report/table.ts';
import { plan, runBench } from '../../src/bench/runner.ts';

const CONTEXT: BenchContext = { quick: false, datapaths: ['uring'], serverCpu: 0, loadCpu: 1, note() {} };
const MACHINE: Machine = {
  cpu: 'A <fast> one',
  cpus: 2,
  memoryBytes: 2 ** 33,
  arch: 'x64',
  kernel: '6.1.0',
  node: '20.20.0',
  isthmus: '0.1.0',
  serverCpu: 0,
  loadCpu: 1,
  date: '2026-01-01T00:00:00.000Z',
};

/** Each sample takes no time; speeds differ by side and grow by round. */
function invented(calls: string[], overrides: Partial<Bench> = {}): Bench {
  return {
    name: 'invented',
    summary: 'Nothing at all.',
    sides: [{ name: 'isthmus/uring' }, { name: 'node:net' }, { name: 'bun', missing: 'it is not installed' }],
    workloads: [{ name: 'c1 d1' }, { name: 'c1 d16', sides: ['isthmus/uring'] }],
    comparisons: [
      { ours: 'isthmus/uring', peer: 'node:net', metrics: ['messagesPerSecond', 'p99Us'] },
      { ours: 'isthmus/uring', peer: 'bun', metrics: ['messagesPerSecond'] },
    ],
    columns: ['messagesPerSecond', 'p99Us', 'rssBytesPerIdleConnection'],
    peaks: ['rssBytesPerIdleConnection'],
    async open() {
      let closed = false;
      return {
        async sample(side, workload) {
          assert.ok(!closed);
          calls.push(`${side} ${workload}`);
          const ours = side === 'isthmus/uring';
          const round = calls.filter((call) => call === `${side} ${workload}`).length;
          return {
            messagesPerSecond: (ours ? 2000 : 1000) + round,
            p99Us: ours ? 50 : 100,
            rssBytesPerIdleConnection: round === 2 ? 900 : 10,
            p50Us: undefined,
          };
        },
        ownCpuNs: () => 0,
        async close() {
          closed = true;
          calls.push('closed');
        },
      };
    },
    ...overrides,
  };
}

const OPTIONS = {
  quick: false,
  rounds: 3,
  seconds: 0.01,
  signal: new AbortController().signal,
  quiet: false,
  progress() {},
};

test('sides take turns, back and forth; everything is closed at the end', async () => {
  const calls: string[] = [];
  await runBench(invented(calls), CONTEXT, MACHINE, [], OPTIONS);
  const prime = ['isthmus/uring c1 d1', 'node:net c1 d1'];
  const once = [...prime, 'isthmus/uring c1 d16'];
  assert.deepEqual(calls, [...prime, ...once, ...[...once].reverse(), ...once, 'closed']);
});

test('the result has the form that others read, and survives JSON', async () => {
  const notes: string[] = [];
  const result = await runBench(invented([]), CONTEXT, MACHINE, notes, OPTIONS);
  assert.deepEqual(JSON.parse(JSON.stringify(result)), result);
  assert.deepEqual(Object.keys(result).sort(), ['bench', 'cases', 'machine', 'notes', 'quick', 'ratios']);
  assert.equal(result.bench, 'invented');
  assert.deepEqual(
    result.cases.map(({ name, workload }) => `${name} @ ${workload}`),
    ['isthmus/uring @ c1 d1', 'node:net @ c1 d1', 'isthmus/uring @ c1 d16'],
  );
  for (const each of result.cases) {
    assert.equal(each.samples, 3);
    assert.equal(typeof each['messagesPerSecond'], 'number');
    assert.ok(!('p50Us' in each), 'what was not measured is not there');
  }
  assert.equal(result.cases[0]!['rssBytesPerIdleConnection'], 900, 'a peak, not a median');
  assert.deepEqual(Object.keys(result.ratios), [
    'isthmus/uring : node:net @ c1 d1 messagesPerSecond',
    'isthmus/uring : node:net @ c1 d1 p99Us',
  ]);
  assert.ok(result.ratios['isthmus/uring : node:net @ c1 d1 messagesPerSecond']! > 1.9);
  assert.equal(result.ratios['isthmus/uring : node:net @ c1 d1 p99Us'], 2);
  assert.deepEqual(notes, ['bun is left out: it is not installed']);
});

test('a case that fails is noted, and the others go on', async () => {
  const bench = invented([]);
  const failing: Bench = {
    ...bench,
    async open(context) {
      const open = await bench.open(context);
      return {
        ...open,
        async sample(side, workload, times) {
          if (side === 'node:net') throw new Error('it fell over');
          return open.sample(side, workload, times);
        },
      };
    },
  };
  const result = await runBench(failing, CONTEXT, MACHINE, [], OPTIONS);
  assert.deepEqual([...new Set(result.cases.map(({ name }) => name))], ['isthmus/uring']);
  assert.deepEqual(result.ratios, {});
  assert.ok(result.notes.includes('node:net c1 d1 failed: it fell over'));
});

test('an interruption ends it with what there is', async () => {
  const interruption = new AbortController();
  const calls: string[] = [];
  const options = { ...OPTIONS, rounds: 1000, signal: interruption.signal, progress: () => interruption.abort() };
  const result = await runBench(invented(calls), CONTEXT, MACHINE, [], options);
  assert.equal(result.cases.length, 1);
  assert.equal(calls.at(-1), 'closed');
  assert.ok(result.notes.includes('stopped early'));
});

test('one CPU for both is said', async () => {
  const result = await runBench(invented([]), { ...CONTEXT, loadCpu: 0 }, MACHINE, [], { ...OPTIONS, rounds: 1 });
  assert.ok(result.notes.some((note) => note.includes('one CPU')));
});

test('the table and the page say all of it', async () => {
  const bench = invented([]);
  const result = await runBench(bench, CONTEXT, MACHINE, [], OPTIONS);
  const table = formatTable(bench, result);
  for (const text of [
    'isthmus/uring',
    'node:net',
    '2,003',
    '1,003',
    'messages/s',
    'isthmus/uring : node:net @ c1 d1',
    '2.00',
    'bun is left out',
  ]) {
    assert.ok(table.includes(text), text);
  }
  const page = htmlPage(bench, result);
  assert.match(page, /^<!doctype html>/);
  assert.ok(page.includes('A &lt;fast&gt; one'), 'text is escaped');
  assert.doesNotMatch(page, /https?:|<script|NaN|undefined/, 'it needs nothing from anywhere');
  assert.equal(page.match(/<rect /g)?.length, 9, 'a bar for each side, workload and metric');
  assert.doesNotMatch(page, /<polyline/);
});

test('a metric can be drawn over the workloads, a line for each side', async () => {
  const bench = { ...invented([]), curve: 'messagesPerSecond' };
  const page = htmlPage(bench, await runBench(bench, CONTEXT, MACHINE, [], OPTIONS));
  const lines = [...page.matchAll(/<polyline points="([^"]*)"/g)].map((match) => match[1]!.split(' ').length);
  assert.deepEqual(lines, [2, 1]);
  assert.doesNotMatch(page, /https?:|<script|NaN|undefined/);
});

test('on a machine where everything takes long, a quick run still ends in time', async () => {
  for (const sampleMs of [2000, 5000, 9000]) {
    let time = 0;
    const calls: string[] = [];
    const bench = invented(calls);
    const slow: Bench = {
      ...bench,
      async open(context) {
        const open = await bench.open(context);
        return {
          ...open,
          sample(side, workload, times) {
            time += sampleMs;
            return open.sample(side, workload, times);
          },
        };
      },
    };
    const options = { ...OPTIONS, quick: true, rounds: undefined, now: () => time };
    const result = await runBench(slow, { ...CONTEXT, quick: true }, MACHINE, [], options);
    assert.ok(time <= 48_000, `${time} ms`);
    // Counted here and not in the result, which leaves out what somebody else on the real machine disturbed.
    const names = result.cases.map(({ name, workload }) => `${name} ${workload}`);
    const primed = new Set(result.cases.map(({ name }) => name)).size;
    const sampled = calls.slice(primed);
    const counts = names.map((name) => sampled.filter((call) => call === name).length);
    assert.ok(counts.length > 0);
    // Either every case has as many samples as the others, or the result says that it has not.
    assert.ok(
      new Set(counts).size === 1 || result.notes.some((note) => note.includes('was over in round')),
      `${counts}`,
    );
  }
});

for (const [{ name, load }, datapaths] of benches.flatMap((entry) => [
  [entry, ['uring', 'kernel']] as const,
  [entry, ['xdp']] as const,
])) {
  test(`a quick ${name} on ${datapaths} fits into its time, and its comparisons name sides there are`, async () => {
    const bench = await load({ quick: true, datapaths });
    assert.equal(bench.name, name);
    const { cases, rounds, seconds, warmup } = plan(bench, { quick: true, rounds: undefined, seconds: undefined });
    const extra = cases.reduce((sum, { workload }) => sum + (workload.extraSeconds ?? 0), 0);
    // Connecting and settling take about 0.25 s.
    const total = rounds * (cases.length * (seconds + warmup + 0.25) + extra) + bench.sides.length;
    assert.ok(rounds >= 2, 'the sides alternate');
    assert.ok(total <= 46, `${total.toFixed(0)} s for ${cases.length} cases`);
    assert.ok(seconds >= 0.25, `${seconds} s is a sample`);
    const sides = new Set(bench.sides.map((side) => side.name));
    for (const { ours, peer } of bench.comparisons) assert.ok(sides.has(ours) && sides.has(peer), `${ours} : ${peer}`);
    for (const { sides: only = [] } of bench.workloads) for (const side of only) assert.ok(sides.has(side), side);
  });
}
