/**
 * Which processors a thread may use, and how much processor time threads have used (sched(7), clock_gettime(2), proc(5)).
 * It sets the affinity of threads of this process and reads /proc.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { ERRNO, systemError } from '../errors.ts';
import { libcFunction, orThrow } from './libc.ts';
import { reserveScratch, scratchAddress, scratchI32, scratchU32 } from './scratch.ts';

const MASK_BYTES = 128; // cpu_set_t: 1024 processors
const CLOCK_THREAD_CPUTIME_ID = 3;
const CPUCLOCK_SCHED = 2; // a process's clock id is made of its number (clock_getcpuclockid(3))
const ESRCH = 3;

const cGetaffinity = libcFunction<[tid: number, size: number, mask: number]>('sched_getaffinity', [
  'int',
  'long',
  'long',
]);
const cSetaffinity = libcFunction<[tid: number, size: number, mask: number]>('sched_setaffinity', [
  'int',
  'long',
  'long',
]);
const cGettid = libcFunction<[]>('gettid', []);
const cClockGettime = libcFunction<[clock: number, time: number]>('clock_gettime', ['int', 'long']);

const offset = reserveScratch(MASK_BYTES);
const address = scratchAddress + offset;
const index = offset >> 2;

/** The kernel's number of the calling thread (on the main thread, the process id). */
export function threadId(): number {
  return cGettid();
}

/** Processors that thread `tid` may run on, ascending. 0: the calling thread (not the process). */
export function getAffinity(tid = 0): number[] {
  scratchI32.fill(0, index, index + MASK_BYTES / 4);
  orThrow(cGetaffinity(tid, MASK_BYTES, address), 'sched_getaffinity', `thread ${tid}`);
  const cpus: number[] = [];
  for (let cpu = 0; cpu < MASK_BYTES * 8; cpu++) {
    if ((scratchI32[index + (cpu >> 5)]! >>> (cpu & 31)) & 1) cpus.push(cpu);
  }
  return cpus;
}

/**
 * Binds thread `tid` (0: the calling one) to processors. Threads it starts later inherit that; others are left alone.
 * @throws IsthmusError EINVAL when none of them is there or allowed
 */
export function setAffinity(cpus: readonly number[], tid = 0): void {
  scratchI32.fill(0, index, index + MASK_BYTES / 4);
  for (const cpu of cpus) {
    if (!(Number.isInteger(cpu) && cpu >= 0 && cpu < MASK_BYTES * 8)) throw new RangeError(`processor ${cpu}`);
    scratchI32[index + (cpu >> 5)]! |= 1 << (cpu & 31);
  }
  orThrow(cSetaffinity(tid, MASK_BYTES, address), 'sched_setaffinity', `processors ${cpus.join(',')}`);
}

/** Processor time of the calling thread so far, in nanoseconds. */
export function threadCpuNs(): number {
  return clockNs(CLOCK_THREAD_CPUTIME_ID, 'this thread');
}

/**
 * Processor time of a process so far, in nanoseconds: all its threads, those that have ended included.
 * @throws IsthmusError EINVAL when there is no such process
 */
export function processCpuNs(pid: number): number {
  return clockNs((~pid << 3) | CPUCLOCK_SCHED, `process ${pid}`);
}

function clockNs(clock: number, about: string): number {
  orThrow(cClockGettime(clock, address), 'clock_gettime', about);
  return (scratchI32[index + 1]! * 2 ** 32 + scratchU32[index]!) * 1e9 + scratchU32[index + 2]!;
}

export interface ThreadTime {
  tid: number;
  /** As in `top -H`: `node`, `iou-wrk-…`, or what the program set. */
  name: string;
  cpuNs: number;
}

/**
 * Processor time of each live thread of a process, in nanoseconds, from /proc/PID/task/TID/schedstat. Threads that
 * have ended are not there any more: take differences over threads that live through the interval.
 * @throws IsthmusError ESRCH when there is no such process
 */
export function threadTimes(pid: number): ThreadTime[] {
  let tids: string[];
  try {
    tids = readdirSync(`/proc/${pid}/task`);
  } catch {
    throw systemError(ESRCH, 'open', `/proc/${pid}/task`, 'no such process');
  }
  const times: ThreadTime[] = [];
  for (const tid of tids) {
    try {
      const [ran] = readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ');
      const name = readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trim();
      times.push({ tid: Number(tid), name, cpuNs: Number(ran) });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ESRCH') throw systemError(ERRNO.EIO, 'read', `/proc/${pid}/task/${tid}`);
    }
  }
  return times;
}
