/**
 * The POSIX checks as a program: `node dist/test/remote/posix/conformance.js DIR [--remote] [--only TEXT] [--markdown]`.
 * It touches DIR. Exit code 1 if a check failed.
 */
import { parseArgs } from 'node:util';
import { type Outcome, runChecks } from './runner.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    remote: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
  },
});
const [base] = positionals;
if (base === undefined) {
  console.error('usage: conformance.js DIR [--remote] [--only TEXT] [--markdown]');
  process.exit(2);
}

const outcomes: Outcome[] = [];
for (const outcome of runChecks(base, values)) {
  outcomes.push(outcome);
  const { check, result, why, ms } = outcome;
  if (!values.markdown)
    console.log(`${result.padEnd(9)} ${check.area}: ${check.name} (${ms.toFixed(0)} ms)${why && `\n          ${why}`}`);
}
const count = (result: Outcome['result']) => outcomes.filter((outcome) => outcome.result === result).length;
if (values.markdown) {
  console.log('| area | passed | failed | differs | left out |\n|---|---|---|---|---|');
  for (const area of new Set(outcomes.map(({ check }) => check.area))) {
    const of = (result: Outcome['result']) =>
      outcomes.filter((o) => o.check.area === area && o.result === result).length;
    console.log(`| ${area} | ${of('passed')} | ${of('failed')} | ${of('different')} | ${of('left out')} |`);
  }
  for (const { check, result, why } of outcomes) {
    if (result !== 'passed') console.log(`\n- **${result}** ${check.area}: ${check.name}. ${why}`);
  }
}
console.log(
  `\n${outcomes.length} checks: ${count('passed')} passed, ${count('failed')} failed, ${count('different')} differ, ${count('left out')} left out`,
);
process.exitCode = count('failed') > 0 ? 1 : 0;
