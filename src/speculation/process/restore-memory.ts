/**
 * Makes the memory of a process what it is in its parked copy: mappings by difference, contents page by page.
 * Where the system tells which pages the two still share (page frames, to the privileged), only the others are copied.
 */
import { type Mapping, readMappings, readPageMap, readProcLink } from '../../linux/proc.ts';
import { writeMemory } from '../../linux/process-memory.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_GROWSDOWN = 0x100;
const PAGE = 4096;
const VECTOR_BYTES = 16;
const MAX_VECTORS = PAGE / VECTOR_BYTES;
const PRESENT = 0xc0000000;
const OF_FILE = 0x20000000;
const FRAME_HIGH = 0x7fffff;
const AT_FDCWD = -100;
const O_CLOEXEC = 0o2000000;

export interface MemoryRestore {
  readonly pid: number;
  readonly copy: number;
  /** A page of the process for our structures; it stays. */
  readonly page: number;
  /** It is another program's memory: where its heap ends is told to the kernel later. */
  readonly execed: boolean;
  inject(name: string, ...args: number[]): number;
  injectCopy(name: string, ...args: number[]): number;
}

/** The kernel's own mappings are the same for the life of a program. */
function isKernels(mapping: Mapping): boolean {
  return mapping.name.startsWith('[v');
}

function protection({ permissions }: Mapping): number {
  return (
    (permissions[0] === 'r' ? PROT_READ : 0) |
    (permissions[1] === 'w' ? PROT_WRITE : 0) |
    (permissions[2] === 'x' ? PROT_EXEC : 0)
  );
}

function isSame(a: Mapping, b: Mapping): boolean {
  if (a.inode !== b.inode || a.device !== b.device || a.permissions[3] !== b.permissions[3]) return false;
  return a.inode === 0 || a.offset - a.start === b.offset - b.start;
}

export function restoreMemory(work: MemoryRestore): void {
  const { pid, copy, page, inject, injectCopy } = work;
  if (!work.execed) {
    const end = injectCopy('brk', 0);
    if (inject('brk', 0) !== end) inject('brk', end);
  }
  const wanted = readMappings(copy).filter((mapping) => !isKernels(mapping));
  const have = readMappings(pid).filter((mapping) => !isKernels(mapping));
  const copied = new RangeList(work);
  let k = 0;
  let reached = 0;
  // Both lists are ascending. `reached`: everything below is done.
  for (const want of wanted) {
    while (k < have.length && have[k]!.end <= want.start) unmap(have[k++]!, reached, Number.MAX_SAFE_INTEGER);
    if (k < have.length && have[k]!.start < want.start) unmap(have[k]!, reached, want.start);
    reached = want.start;
    while (reached < want.end) {
      const now = have[k];
      if (now === undefined || now.start >= want.end) {
        create(want, reached, want.end);
        reached = want.end;
      } else if (now.start > reached) {
        create(want, reached, now.start);
        reached = now.start;
      } else {
        const until = Math.min(now.end, want.end);
        if (isSame(now, want)) adjust(now, want, reached, until);
        else create(want, reached, until);
        reached = until;
        if (until === now.end) k++;
      }
    }
  }
  while (k < have.length) {
    unmap(have[k]!, reached, Number.MAX_SAFE_INTEGER);
    k++;
  }
  copied.flush();
  for (const [start, length, wantedProtection] of copied.protect) inject('mprotect', start, length, wantedProtection);

  function unmap(mapping: Mapping, from: number, to: number): void {
    const start = Math.max(mapping.start, from);
    const stop = Math.min(mapping.end, to);
    // Our own page may have been joined to its neighbours.
    if (start < page) free(start, Math.min(stop, page));
    if (stop > page + PAGE) free(Math.max(start, page + PAGE), stop);
  }

  function free(start: number, stop: number): void {
    if (start < stop) inject('munmap', start, stop - start);
  }

  function create(want: Mapping, start: number, stop: number): void {
    const readable = want.permissions[0] === 'r';
    const final = protection(want);
    if (want.inode !== 0 && mapFile(want, start, stop)) {
      // Only pages that were written to differ from the file.
      const changed = want.permissions[3] === 'p' && copied.add(start, stop, 'file');
      if (changed && final !== (PROT_READ | PROT_WRITE)) {
        inject('mprotect', start, stop - start, PROT_READ | PROT_WRITE);
        copied.protect.push([start, stop - start, final]);
      }
      return;
    }
    const initial = readable ? PROT_READ | PROT_WRITE : final;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (want.name === '[stack]' ? MAP_GROWSDOWN : 0);
    if (inject('mmap', start, stop - start, initial, flags, -1, 0) < 0) throw new Error('injected mmap failed');
    if (!readable) return;
    copied.add(start, stop, 'new');
    if (final !== initial) copied.protect.push([start, stop - start, final]);
  }

  // The file again, by the kernel's own link to it or, for the unprivileged, by its name.
  function mapFile(want: Mapping, start: number, stop: number): boolean {
    const link = `/proc/${copy}/map_files/${want.start.toString(16)}-${want.end.toString(16)}`;
    for (const path of [link, want.name]) {
      const bytes = Uint8Array.from(`${path}\0`, (character) => character.charCodeAt(0));
      if (bytes.length > PAGE) continue;
      writeMemory(pid, page, bytes);
      const fd = inject('openat', AT_FDCWD, page, O_CLOEXEC, 0);
      if (fd < 0) continue;
      const offset = want.offset + (start - want.start);
      const flags = (want.permissions[3] === 's' ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
      const same = readProcLink(`/proc/${pid}/fd/${fd}`) === want.name;
      const got = same ? inject('mmap', start, stop - start, protection(want), flags, fd, offset) : -1;
      inject('close', fd);
      if (got >= 0) return true;
    }
    return false;
  }

  function adjust(now: Mapping, want: Mapping, start: number, stop: number): void {
    const isPrivate = want.permissions[3] === 'p';
    if (now.permissions === want.permissions) {
      if (isPrivate && want.permissions[1] === 'w' && want.permissions[0] === 'r') copied.add(start, stop, 'both');
      return;
    }
    if (isPrivate && want.permissions[0] === 'r') {
      inject('mprotect', start, stop - start, PROT_READ | PROT_WRITE);
      copied.add(start, stop, 'both');
    }
    copied.protect.push([start, stop - start, protection(want)]);
  }
}

/** Ranges to be copied from the copy by the process itself: one pass, without our buffers in between. */
class RangeList {
  readonly protect: [start: number, length: number, protection: number][] = [];
  readonly #work: MemoryRestore;
  #ranges: [start: number, end: number][] = [];

  constructor(work: MemoryRestore) {
    this.#work = work;
  }

  /**
   * Adds the pages of a range that must be copied, and says whether there are any. Of a range that `both` have: those that
   * one of them has touched and they do not share any more; of a range mapped from its `file` again: those written to;
   * of a `new` one: those that are there.
   */
  add(start: number, end: number, what: 'both' | 'file' | 'new'): boolean {
    const { pid, copy } = this.#work;
    const pages = (end - start) / PAGE;
    const theirs = readPageMap(copy, start, pages);
    const ours = what === 'both' ? readPageMap(pid, start, pages) : undefined;
    let from = -1;
    let any = false;
    for (let i = 0; i <= pages; i++) {
      const needed = i < pages && isNeeded(theirs, ours, i, what);
      if (needed && from < 0) from = i;
      else if (!needed && from >= 0) {
        this.#ranges.push([start + from * PAGE, start + i * PAGE]);
        from = -1;
        any = true;
      }
    }
    return any;
  }

  flush(): void {
    const { pid, copy, page, inject } = this.#work;
    const ranges = this.#ranges;
    for (let at = 0; at < ranges.length; at += MAX_VECTORS) {
      const some = ranges.slice(at, at + MAX_VECTORS);
      const vectors = new DataView(new ArrayBuffer(some.length * VECTOR_BYTES));
      let total = 0;
      for (const [i, [start, end]] of some.entries()) {
        vectors.setBigUint64(i * VECTOR_BYTES, BigInt(start), true);
        vectors.setBigUint64(i * VECTOR_BYTES + 8, BigInt(end - start), true);
        total += end - start;
      }
      writeMemory(pid, page, new Uint8Array(vectors.buffer));
      const got = inject('process_vm_readv', copy, page, some.length, page, some.length, 0);
      if (got === total) continue;
      let reached = 0;
      const failed = some.find(([start, end]) => {
        reached += end - start;
        return reached > got;
      }) ?? [0, 0];
      const where = (list: Mapping[]): string =>
        JSON.stringify(list.filter((m) => m.end > failed[0] && m.start < failed[1]));
      throw new Error(
        `copied ${got} of ${total} bytes of memory, up to ${failed}: ${where(readMappings(pid))} from ${where(readMappings(copy))}`,
      );
    }
    this.#ranges = [];
  }
}

function isNeeded(
  theirs: Uint32Array,
  ours: Uint32Array | undefined,
  i: number,
  what: 'both' | 'file' | 'new',
): boolean {
  const low = theirs[2 * i]!;
  const high = theirs[2 * i + 1]!;
  if (!ours) return (high & PRESENT) !== 0 && (what === 'new' || (high & OF_FILE) === 0);
  const ownHigh = ours[2 * i + 1]!;
  if (((high | ownHigh) & PRESENT) === 0) return false;
  const known = low !== 0 || (high & FRAME_HIGH) !== 0;
  return !(known && low === ours[2 * i] && (high & FRAME_HIGH) === (ownHigh & FRAME_HIGH));
}
