/**
 * Keeps samples apart from whatever else uses the machine: a lock that all benchmarks of the machine take, and a look at
 * how much CPU time was somebody else's during a sample.
 * It touches /proc/stat, /proc/self and one lock file.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** CPU seconds per second of others beyond which a sample is repeated. */
const LIMIT = 0.12;
/** Ticks of /proc (USER_HZ) are 10 ms on every Linux we run on. */
const TICK_NS = 1e7;

export const lockPath = join(tmpdir(), 'bench.lock');

/** CPU time of the whole machine that was not idle, in ns (proc(5), /proc/stat: idle and iowait are not busy). */
export function machineBusyNs(text: string = readFileSync('/proc/stat', 'latin1')): number {
  const fields = text.slice(0, text.indexOf('\n')).trim().split(/\s+/).slice(1, 9).map(Number);
  return (fields.reduce((sum, ticks) => sum + ticks, 0) - fields[3]! - fields[4]!) * TICK_NS;
}

/** CPU time of this process and of its children that have ended, in ns (proc(5), /proc/self/stat). */
export function familyCpuNs(text: string = readFileSync('/proc/self/stat', 'latin1')): number {
  // The name, in parentheses, may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) * TICK_NS;
}

export interface Quiet<T> {
  readonly value: T;
  /** Cores that others used meanwhile. */
  readonly foreign: number;
  /** Others used more than a little of the machine, in every try. */
  readonly disturbed: boolean;
}

export interface QuietOptions {
  /** CPU time of processes of ours that {@link familyCpuNs} does not see, in ns. */
  readonly ownCpuNs: () => number;
  readonly tries: number;
  /** Whether there is time for another try. */
  readonly mayRepeat: () => boolean;
  /** Longest wait for the lock, in ms; then it goes without. */
  readonly patienceMs: number;
  /** Ends the wait for the lock. */
  readonly signal?: AbortSignal;
  /** Whether to take the lock of all benchmarks on this machine. */
  readonly lock: boolean;
}

/** Runs `measure`, again where somebody else used the machine meanwhile; gives the least disturbed. */
export async function quietly<T>(measure: () => Promise<T>, options: QuietOptions): Promise<Quiet<T>> {
  let best: Quiet<T> | null = null;
  for (let attempt = 0; attempt < options.tries; attempt++) {
    if (attempt > 0) {
      if (!options.mayRepeat()) break;
      await new Promise((resolve) => setTimeout(resolve, 200 * attempt));
    }
    const release = options.lock ? await takeLock(options.patienceMs, options.signal) : () => {};
    try {
      const busy = machineBusyNs();
      const own = familyCpuNs() + options.ownCpuNs();
      const start = performance.now();
      const value = await measure();
      const elapsedNs = (performance.now() - start) * 1e6;
      const foreign = (machineBusyNs() - busy - (familyCpuNs() + options.ownCpuNs() - own)) / elapsedNs;
      if (best === null || foreign < best.foreign) best = { value, foreign, disturbed: foreign >= LIMIT };
    } finally {
      release();
    }
    if (!best.disturbed) break;
  }
  return best!;
}

/** Takes the lock of all benchmarks on this machine. @returns a function that gives it back */
async function takeLock(patienceMs: number, signal?: AbortSignal): Promise<() => void> {
  if (heldByParent()) return () => {};
  const wait = Math.max(0.01, patienceMs / 1000).toFixed(3);
  let holder: ChildProcess;
  try {
    // flock(1) holds the lock while its child reads; closing the pipe ends both.
    holder = spawn('flock', ['-w', wait, lockPath, 'sh', '-c', 'echo held; cat >/dev/null'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      ...(signal && { signal }),
    });
  } catch {
    return () => {};
  }
  await new Promise<void>((resolve) => {
    holder.once('error', () => resolve());
    holder.once('exit', () => resolve());
    holder.stdout!.once('data', () => resolve());
  });
  return () => holder.stdin?.end();
}

/** Whether this process was started under `flock` on the lock: it has inherited the descriptor. */
function heldByParent(): boolean {
  try {
    return readdirSync('/proc/self/fd').some((fd) => linkOf(fd) === lockPath);
  } catch {
    return false;
  }
}

function linkOf(fd: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return null;
  }
}
