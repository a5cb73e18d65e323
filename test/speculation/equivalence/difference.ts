/** What differs between what a program did speculatively and what it may do, for people. Pure. */
import type { Comparison, Observation } from './lab.ts';

/** Null: nothing differs. */
export function difference({ expected, got, trouble }: Comparison): string | null {
  if (trouble !== null) return trouble;
  const differences = expected.map((one) => between(one, got));
  if (differences.includes(null)) return null;
  if (differences.length === 1) return differences[0]!;
  return `none of ${differences.length} possible outcomes; ${differences.map((text, i) => `[${i}] ${text}`).join('\n')}`;
}

function between(expected: Observation, got: Observation): string | null {
  const found: string[] = [];
  for (const key of ['stdout', 'stderr', 'code', 'signal'] as const) {
    if (expected[key] === got[key]) continue;
    const [a, b] = [String(expected[key]).split('\n'), String(got[key]).split('\n')];
    const first = a.findIndex((line, i) => line !== b[i]);
    const show = (lines: string[]) => lines.slice(Math.max(0, first - 1), first + 4).join('\n');
    found.push(`${key}, line ${first}:\n${show(a)}\n--- but speculatively\n${show(b)}`);
  }
  const missing = expected.tree.filter((line) => !got.tree.includes(line));
  const extra = got.tree.filter((line) => !expected.tree.includes(line));
  if (missing.length + extra.length > 0) {
    found.push(`tree:\n${[...missing.map((line) => `- ${line}`), ...extra.map((line) => `+ ${line}`)].join('\n')}`);
  }
  return found.length === 0 ? null : found.join('\n');
}
