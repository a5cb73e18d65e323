/**
 * Runs the checks on a directory and tells how each of them went.
 * It touches the directory and child processes.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Check, Place } from './check.ts';
import { fileChecks } from './files.ts';
import { nameChecks } from './names.ts';
import { programChecks } from './programs.ts';
import { stateChecks } from './state.ts';

export const CHECKS: readonly Check[] = [...fileChecks, ...nameChecks, ...stateChecks, ...programChecks];

export interface Outcome {
  readonly check: Check;
  /** `different`: it fails, and the check says why a remote file system may. */
  readonly result: 'passed' | 'failed' | 'different' | 'left out';
  /** Why it failed or was left out. */
  readonly why: string;
  readonly ms: number;
}

export interface RunOptions {
  /** Failures that remote file systems may have are told apart from others. */
  readonly remote: boolean;
  /** Only areas and names that contain this. */
  readonly only?: string;
}

/** Runs every check in a new directory below `base`; each outcome as it comes. */
export function* runChecks(base: string, { remote, only = '' }: RunOptions): Generator<Outcome> {
  const root = mkdtempSync(join(base, 'posix-'));
  chmodSync(root, 0o755);
  let number = 0;
  try {
    for (const check of CHECKS) {
      if (!`${check.area}: ${check.name}`.includes(only)) continue;
      const dir = join(root, `c${number++}`);
      yield runCheck(check, dir, remote);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function runCheck(check: Check, dir: string, remote: boolean): Outcome {
  const missing = missingFor(check);
  if (missing !== null) return { check, result: 'left out', why: missing, ms: 0 };
  const start = performance.now();
  try {
    mkdirSync(dir);
    check.run(new Place(dir));
    return { check, result: 'passed', why: '', ms: performance.now() - start };
  } catch (error) {
    const explained = remote && check.remote !== undefined;
    const why = (error as Error).message
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(0, 4)
      .join(' ');
    const result = explained ? 'different' : 'failed';
    return { check, result, why: explained ? check.remote! : why, ms: performance.now() - start };
  }
}

/** Containers refuse it, to root as well. */
function mayMakeDevices(): boolean {
  const dir = mkdtempSync(join(tmpdir(), 'isthmus-mknod-'));
  try {
    return spawnSync('mknod', [join(dir, 'null'), 'c', '1', '3'], { stdio: 'ignore' }).status === 0;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function missingFor({ needs }: Check): string | null {
  if (needs === undefined) return null;
  if (needs === 'root') return process.getuid?.() === 0 ? null : 'needs root';
  if (needs === 'mknod') return mayMakeDevices() ? null : 'device nodes cannot be made here';
  const there = spawnSync('sh', ['-c', `command -v ${needs}`], { stdio: 'ignore' }).status === 0;
  return there ? null : `${needs} is not installed`;
}
