/**
 * Who reads a pipe. Parked copies hold what their processes had open when they were made, so the kernel takes a pipe for read
 * that only a copy could read, and a write that should fail succeeds. It reads /proc only.
 */
import { descriptorInfo, listDescriptors, readProcLink } from '../../linux/proc.ts';
import type { Pid } from './backend.ts';

const O_WRONLY = 1;
const O_ACCMODE = 3;
const KNOWN_MAX = 256;

interface Holder {
  readonly pid: Pid;
  readonly fd: number;
}

export class PipeReaders {
  readonly #getdents64: number;
  /** A process of the run that could read it when last looked. */
  readonly #readers = new Map<string, Holder>();
  /** The newest copy when it was seen that none of the copies could read it. */
  readonly #unheld = new Map<string, Pid>();

  constructor(getdents64: number) {
    this.#getdents64 = getdents64;
  }

  /** Whether one of the copies could read the pipe, and none of the processes could. */
  isHeldByCopiesOnly(pipe: string, processes: Iterable<Pid>, copies: ReadonlyMap<Pid, unknown>): boolean {
    const known = this.#readers.get(pipe);
    if (known !== undefined && reads(known, pipe)) return false;
    const newest = [...copies.keys()].at(-1);
    if (newest === undefined || this.#unheld.get(pipe) === newest) return false;
    const reader = this.#find(pipe, processes);
    if (reader !== undefined) {
      remember(this.#readers, pipe, reader);
      return false;
    }
    if (this.#find(pipe, copies.keys()) !== undefined) return true;
    remember(this.#unheld, pipe, newest);
    return false;
  }

  #find(pipe: string, processes: Iterable<Pid>): Holder | undefined {
    for (const pid of processes) {
      for (const fd of listDescriptors(pid, this.#getdents64)) if (reads({ pid, fd }, pipe)) return { pid, fd };
    }
    return undefined;
  }
}

function reads({ pid, fd }: Holder, pipe: string): boolean {
  if (readProcLink(`/proc/${pid}/fd/${fd}`) !== pipe) return false;
  return ((descriptorInfo(pid, fd)?.flags ?? O_WRONLY) & O_ACCMODE) !== O_WRONLY;
}

function remember<T>(map: Map<string, T>, pipe: string, value: T): void {
  if (map.size >= KNOWN_MAX) map.clear();
  map.set(pipe, value);
}
