/**
 * Many equivalence runs by seed: node run.js [FIRST] [COUNT] [PROGRAM|all] [VERSION] [RTT_MS] [PROCESSES].
 * Each process has a server, a mount and programs of its own. Prints a line for each run that differs, hangs or fails, how to
 * run it again, and the sums; exit code 1 if there was any. ISTHMUS_LOG=1 prints every step of the tracer.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describeStatistics, newStatistics } from '../../../src/speculation/files/statistics.ts';
import { add } from './lab.ts';
import type { Report, Task } from './worker.ts';

/** A run ends itself after two minutes; a process that says nothing for longer is ended. */
const SILENCE_MS = 200_000;
const SHOWN = 4000;

const [first = '1', count = '20', only = 'all', version = '4.1', rtt = '2', processes = '2'] = process.argv.slice(2);
const verbose = Number(count) <= 100;
const end = Number(first) + Number(count);
let next = Number(first);
const total = newStatistics();
const byProgram = new Map<string, { runs: number; rollbacks: number; ms: number }>();
const wrong: string[] = [];

function again(seed: number): string {
  return `node ${process.argv[1]} ${seed} 1 ${only} ${version} ${rtt} 1`;
}

function note(report: Report): void {
  const { seed, program, tookMs, differs, statistics } = report;
  add(total, statistics);
  const sum = byProgram.get(program) ?? { runs: 0, rollbacks: 0, ms: 0 };
  byProgram.set(program, sum);
  sum.runs++;
  sum.rollbacks += statistics.rollbacks;
  sum.ms += tookMs;
  if (differs !== null) wrong.push(`${seed} ${program}`);
  if (differs === null && !verbose) return;
  const numbers = `${statistics.confirmed} right, ${statistics.rollbacks} rollbacks, ${Math.round(tookMs)} ms`;
  const fault = differs === null ? '' : ` DIFFERS ${differs.slice(0, SHOWN)}\n  again: ${again(seed)}`;
  console.log(`${seed} ${program}: ${numbers}${fault}`);
}

/** One process after the other, until no seed is left. */
async function work(): Promise<void> {
  while (next < end && wrong.length < 20)
    await workIn(fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [version, rtt]));
}

function workIn(child: ChildProcess): Promise<void> {
  let seed = 0;
  let timer: NodeJS.Timeout | undefined;
  const watch = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => child.kill('SIGKILL'), SILENCE_MS);
  };
  watch();
  return new Promise((resolve) => {
    child.on('message', (message: Report | 'ready') => {
      watch();
      if (message !== 'ready') note(message);
      seed = 0;
      // After a run that went wrong the rest gets a fresh process.
      if (next >= end || (message !== 'ready' && message.differs !== null)) {
        child.send('end');
        return;
      }
      seed = next++;
      const task: Task = { seed, program: only === 'all' ? undefined : only };
      child.send(task);
    });
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      if (seed !== 0) {
        wrong.push(`${seed} (${signal ?? code})`);
        console.log(`${seed}: the process that ran it ended with ${signal ?? code}\n  again: ${again(seed)}`);
      } else if (code !== 0) wrong.push(`a process ended with ${signal ?? code}`);
      resolve();
    });
  });
}

const began = performance.now();
// What has been begun is seen through.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    next = end;
  });
}
await Promise.all(Array.from({ length: Number(processes) }, work));
for (const [program, { runs, rollbacks, ms }] of [...byProgram].sort()) {
  console.log(`${program}: ${runs} runs, ${rollbacks} rollbacks, ${Math.round(ms / runs)} ms each`);
}
console.log(describeStatistics(total, performance.now() - began).trimEnd());
const runs = [...byProgram.values()].reduce((sum, one) => sum + one.runs, 0);
console.log(wrong.length === 0 ? `${runs} runs, none differs` : `${runs} runs, WRONG: ${wrong.join(', ')}`);
process.exit(wrong.length === 0 ? 0 : 1);
