/**
 * What a process may use and does use: resource limits (getrlimit(2)) and resident memory (proc(5)).
 * It can raise a soft limit of this process up to the hard one.
 */
import { readFileSync } from 'node:fs';
import { ERRNO, systemError } from '../errors.ts';
import { libcFunction, orErrno, orThrow } from './libc.ts';
import { PAGE_BYTES } from './memory.ts';
import { reserveScratch, scratchAddress, scratchU32 } from './scratch.ts';

/** Numbers of getrlimit(2) on x86-64 and arm64. */
export const Limit = {
  /** One more than the highest descriptor. */
  NOFILE: 7,
  /** Bytes of pinned memory; io_uring's fixed buffers and AF_XDP count. */
  MEMLOCK: 8,
} as const;
export type Limit = (typeof Limit)[keyof typeof Limit];

/** `Infinity` stands for RLIM_INFINITY. */
export interface LimitValue {
  soft: number;
  hard: number;
}

const cGetrlimit = libcFunction<[resource: number, limit: number]>('getrlimit', ['int', 'long']);
const cSetrlimit = libcFunction<[resource: number, limit: number]>('setrlimit', ['int', 'long']);
const offset = reserveScratch(16);
const index = offset >> 2;

function read64(at: number): number {
  const high = scratchU32[at + 1]!;
  const low = scratchU32[at]!;
  return high === 0xffffffff && low === 0xffffffff ? Infinity : high * 2 ** 32 + low;
}

function write64(at: number, value: number): void {
  scratchU32[at] = value === Infinity ? 0xffffffff : value % 2 ** 32;
  scratchU32[at + 1] = value === Infinity ? 0xffffffff : Math.floor(value / 2 ** 32);
}

export function getLimit(limit: Limit): LimitValue {
  orThrow(cGetrlimit(limit, scratchAddress + offset), 'getrlimit');
  return { soft: read64(index), hard: read64(index + 2) };
}

/** Sets the soft limit, leaving the hard one. Throws EPERM or EINVAL above it. */
export function setSoftLimit(limit: Limit, soft: number): void {
  const { hard } = getLimit(limit);
  write64(index, soft);
  write64(index + 2, hard);
  orThrow(cSetrlimit(limit, scratchAddress + offset), 'setrlimit', `${soft}`);
}

/** Raises the soft limit to the hard one where that is allowed; gives what is in force then. Never throws for a refusal. */
export function raiseLimit(limit: Limit): LimitValue {
  const { soft, hard } = getLimit(limit);
  if (soft < hard) {
    write64(index, hard);
    write64(index + 2, hard);
    orErrno(cSetrlimit(limit, scratchAddress + offset));
  }
  return getLimit(limit);
}

/** Resident memory of a process in bytes. Throws ESRCH when there is none of that number, EMFILE and others as they are. */
export function residentBytes(pid: number): number {
  const path = `/proc/${pid}/statm`;
  try {
    return Number(readFileSync(path, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch (error) {
    const { code, errno = ERRNO.EIO } = error as NodeJS.ErrnoException;
    throw systemError(code === 'ENOENT' ? ERRNO.ESRCH : errno, 'open', path);
  }
}
