/**
 * Many equivalence runs by seed, from the command line: node run.js [FIRST] [COUNT] [PROGRAM] [VERSION] [RTT_MS].
 * Prints what differs and the sums; exit code 1 if anything does.
 */
import { describeStatistics } from '../../../src/speculation/files/statistics.ts';
import { type Comparison, EquivalenceLab } from './lab.ts';

export function difference({ expected, got }: Comparison): string | null {
  for (const key of ['stdout', 'stderr', 'code', 'signal'] as const) {
    if (expected[key] === got[key]) continue;
    const [a, b] = [String(expected[key]).split('\n'), String(got[key]).split('\n')];
    const first = a.findIndex((line, i) => line !== b[i]);
    const show = (lines: string[]) => lines.slice(Math.max(0, first - 1), first + 4).join('\n');
    const errors = key === 'stderr' ? '' : `\nstderr: ${got.stderr.slice(0, 300)}`;
    return `${key}, line ${first}:\n${show(a)}\n--- but speculatively\n${show(b)}${errors}`;
  }
  const missing = expected.tree.filter((line) => !got.tree.includes(line));
  const extra = got.tree.filter((line) => !expected.tree.includes(line));
  if (missing.length + extra.length === 0) return null;
  return `tree:\n${missing.map((line) => `- ${line}`).join('\n')}\n${extra.map((line) => `+ ${line}`).join('\n')}`;
}

if (process.argv[1]?.endsWith('equivalence/run.js')) {
  const [first = '1', count = '20', only = '', version = '4.1', rtt = '3'] = process.argv.slice(2);
  const lab = await EquivalenceLab.start(version as '4.1', Number(rtt));
  let wrong = 0;
  const began = performance.now();
  try {
    for (let seed = Number(first); seed < Number(first) + Number(count); seed++) {
      const start = performance.now();
      const comparison = await lab.compare(seed, only === '' ? undefined : only);
      const differs = difference(comparison);
      const { rollbacks, confirmed } = comparison.statistics;
      const took = Math.round(performance.now() - start);
      console.log(
        `${seed} ${comparison.program}: ${confirmed} right, ${rollbacks} rollbacks, ${took} ms${differs === null ? '' : ` DIFFERS ${differs}`}`,
      );
      if (differs !== null) wrong++;
    }
    console.log(`${wrong} of ${count} differ`);
    console.log(describeStatistics(lab.total, performance.now() - began));
  } finally {
    await lab.close();
  }
  process.exit(wrong > 0 ? 1 : 0);
}
