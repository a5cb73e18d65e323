/**
 * Runs loads in a process that stays (load-worker.ts), pinned to the load's CPU.
 * It touches that process.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { LoadReport } from '../apps/load/report.ts';
import { countErrors } from '../apps/load/run.ts';
import { processCpuNs } from '../linux/affinity.ts';
import type { BenchContext } from './bench.ts';
import { ownProgram } from './find.ts';
import type { LoadAnswer, LoadRequest } from './load-worker.ts';
import { spawnPinned } from './pinned.ts';
import type { Within } from './server-process.ts';

/** Longest time that any load may take: one that hangs must not eat the whole run. */
const LOAD_MS = 700_000;
const QUICK_LOAD_MS = 12_000;

export interface LoadAgentOptions {
  /** A program of this folder that answers as load-worker.ts does. */
  readonly program?: string;
  /** Starts the process where it belongs, e.g. in a network namespace. */
  readonly within?: Within;
}

export class LoadAgent {
  readonly #context: BenchContext;
  readonly #options: LoadAgentOptions;
  #child: ChildProcess | null = null;

  constructor(context: BenchContext, options: LoadAgentOptions = {}) {
    this.#context = context;
    this.#options = options;
  }

  /** Runs `isthmus load` with these arguments. @throws Error where it failed or counted errors */
  async load(args: readonly string[]): Promise<LoadReport> {
    const answer = await this.#ask({ args });
    if ('error' in answer) throw new Error(answer.error);
    const { report } = answer;
    if (countErrors(report.errors) > 0) throw new Error(`the load counted errors: ${JSON.stringify(report.errors)}`);
    return report;
  }

  async #ask(request: LoadRequest): Promise<LoadAnswer> {
    const child = this.#start();
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        child.off('message', answered);
        child.off('exit', ended);
      };
      const answered = (answer: LoadAnswer) => {
        done();
        resolve(answer);
      };
      const ended = (code: number | null, signal: string | null) => {
        done();
        this.#child = null;
        reject(new Error(`the load ended with ${signal ?? code}`));
      };
      const timer = setTimeout(() => child.kill('SIGKILL'), this.#context.quick ? QUICK_LOAD_MS : LOAD_MS);
      child.on('message', answered);
      child.on('exit', ended);
      child.send(request);
    });
  }

  #start(): ChildProcess {
    const { program = './load-worker', within = (start) => start() } = this.#options;
    this.#child ??= within(() =>
      spawnPinned(this.#context.loadCpu, () =>
        fork(ownProgram(program), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
      ),
    );
    return this.#child;
  }

  cpuNs(): number {
    const child = this.#child;
    return child?.pid === undefined || child.exitCode !== null || child.signalCode !== null
      ? 0
      : processCpuNs(child.pid);
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
}
