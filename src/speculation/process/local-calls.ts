/**
 * What system calls look at and change in the local directories given to a run: tells whether a process may see what is there,
 * and has the journal record what a call is about to change. It looks at names and attributes of files, and changes nothing.
 */
import { type BigIntStats, constants, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { descriptorInfo } from '../../linux/proc.ts';
import { callArgument, callArgumentInt } from '../../linux/ptrace.ts';
import type { TracedCall } from './descriptors.ts';
import { keyOf, statsOf } from './local-files.ts';
import type { JournalRecord, LocalJournal, Unrecordable } from './local-journal.ts';
import type { Tracee } from './tracee.ts';
import { vectorBytes } from './vectors.ts';

type PathPlace = readonly [path: number, directory: number];

/** Where a call names files: paths with their directories, and descriptors. */
interface Look {
  readonly paths?: readonly PathPlace[];
  readonly descriptors?: readonly number[];
}

const path = (...paths: readonly PathPlace[]): Look => ({ paths });
const descriptor = (...descriptors: readonly number[]): Look => ({ descriptors });

const LOOKS: Readonly<Record<string, Look>> = {
  ...each(
    'open creat stat lstat access readlink truncate mkdir rmdir unlink chmod chown lchown utime utimes',
    path([0, -1]),
  ),
  ...each('execve chdir statfs mknod getxattr lgetxattr listxattr llistxattr setxattr lsetxattr', path([0, -1])),
  ...each('openat openat2 newfstatat statx faccessat faccessat2 readlinkat mkdirat unlinkat', path([1, 0])),
  ...each('fchmodat fchmodat2 fchownat utimensat futimesat mknodat execveat', path([1, 0])),
  ...each('rename link', path([0, -1], [1, -1])),
  ...each('renameat renameat2 linkat', path([1, 0], [3, 2])),
  symlink: path([1, -1]),
  symlinkat: path([2, 1]),
  ...each('read pread64 readv preadv preadv2 getdents getdents64 lseek fstat fstatfs fchdir ioctl', descriptor(0)),
  ...each('write pwrite64 writev pwritev pwritev2 ftruncate fallocate fchmod fchown', descriptor(0)),
  ...each('fgetxattr flistxattr fsetxattr', descriptor(0)),
  mmap: descriptor(4),
  copy_file_range: descriptor(0, 2),
  sendfile: descriptor(0, 1),
};

function each(names: string, look: Look): Record<string, Look> {
  return Object.fromEntries(names.split(' ').map((name) => [name, look]));
}

/** Calls that tell the times of a directory, which the names in it change. */
const TELL_TIMES = new Set(['stat', 'lstat', 'newfstatat', 'statx', 'fstat']);
/** Calls that tell the names in a directory. */
const LIST = new Set(['getdents', 'getdents64']);

const O_APPEND = 0o2000;
const O_TMPFILE = 0o20000000;
const AT_REMOVEDIR = 0x200;
const AT_EMPTY_PATH = 0x1000;
const RENAME_NOREPLACE = 1;

type Recorded = JournalRecord | Unrecordable | undefined;

export class LocalCalls {
  readonly #journal: LocalJournal;
  readonly #call: TracedCall;

  constructor(journal: LocalJournal, call: TracedCall) {
    this.#journal = journal;
    this.#call = call;
  }

  /** Whether the call that the process stands before may see all it looks at; its own assumptions it may. */
  maySee(tracee: Tracee, name: string): boolean {
    const look = LOOKS[name];
    if (look === undefined || this.#journal.empty) return true;
    const call = this.#call.of(tracee);
    for (const [at, directory] of look.paths ?? []) {
      const full = call.absolutePath(at, directory);
      if (full !== undefined && call.isLocal(full) && !this.#maySeeName(tracee, name, full)) return false;
    }
    for (const at of look.descriptors ?? []) {
      const link = call.link(callArgumentInt(at));
      if (link === undefined || !call.isLocal(link)) continue;
      const stats = statOf(`/proc/${tracee.pid}/fd/${callArgumentInt(at)}`);
      if (stats !== undefined && !this.#maySeeFile(tracee, name, stats, link)) return false;
    }
    return true;
  }

  /** The name, those it lies below, and what it leads to. */
  #maySeeName(tracee: Tracee, name: string, full: string): boolean {
    for (let at = full; this.#call.isLocal(at); at = dirname(at)) {
      if (!this.#journal.isSettledFor(tracee, at)) return false;
    }
    const stats = statsOf(full);
    return stats === undefined || this.#maySeeFile(tracee, name, stats, full);
  }

  #maySeeFile(tracee: Tracee, name: string, stats: BigIntStats, full: string): boolean {
    if (!this.#journal.isSettledFor(tracee, keyOf(stats))) return false;
    if (!stats.isDirectory() || !(TELL_TIMES.has(name) || LIST.has(name))) return true;
    return this.#journal.isSettledFor(tracee, `${full}/`);
  }

  /**
   * Records what the call is about to change. A text: it cannot be recorded, and why. Undefined: nothing is changed (the
   * call fails by itself), or it is covered.
   */
  record(tracee: Tracee, name: string): Recorded {
    const call = this.#call.of(tracee);
    switch (name) {
      case 'open':
        return this.#open(tracee, call.int(1), [0, -1]);
      case 'openat':
        return this.#open(tracee, call.int(2), [1, 0]);
      case 'openat2':
        return this.#open(tracee, call.word(2, 0), [1, 0]);
      case 'creat':
        return this.#open(tracee, constants.O_CREAT | constants.O_TRUNC | constants.O_WRONLY, [0, -1]);
      case 'write':
        return this.#write(tracee, 0, callArgument(2));
      case 'writev':
        return this.#write(tracee, 0, vectorBytes(tracee.pid, callArgument(1), call.int(2)));
      case 'pwrite64':
        return this.#write(tracee, 0, callArgument(2), callArgument(3));
      case 'pwritev':
        return this.#write(tracee, 0, vectorBytes(tracee.pid, callArgument(1), call.int(2)), callArgument(3));
      case 'copy_file_range':
        if (callArgument(3) !== 0) return 'a copy to a place of its own';
        return this.#write(tracee, 2, callArgument(4));
      case 'sendfile':
        return this.#write(tracee, 0, callArgument(3));
      case 'ioctl': // FICLONE: all of it becomes that of another file
        return this.#journal.data(tracee, this.#opened(tracee, 0), 0, 0, true);
      case 'ftruncate':
        return this.#journal.data(tracee, this.#opened(tracee, 0), callArgument(1), 0, true);
      case 'fchmod':
      case 'fchown':
        return this.#journal.attributes(tracee, this.#opened(tracee, 0));
      case 'truncate':
        return this.#existing([0, -1], (full) => this.#journal.data(tracee, full, callArgument(1), 0, true));
      case 'chmod':
      case 'chown':
      case 'lchown':
      case 'utime':
      case 'utimes':
        return this.#existing([0, -1], (full) => this.#journal.attributes(tracee, full));
      case 'fchmodat':
      case 'fchmodat2':
      case 'futimesat':
        return this.#existing([1, 0], (full) => this.#journal.attributes(tracee, full));
      case 'fchownat':
        if (call.int(4) & AT_EMPTY_PATH) return this.#journal.attributes(tracee, this.#opened(tracee, 0));
        return this.#existing([1, 0], (full) => this.#journal.attributes(tracee, full));
      case 'utimensat':
        if (callArgument(1) === 0) return this.#journal.attributes(tracee, this.#opened(tracee, 0));
        return this.#existing([1, 0], (full) => this.#journal.attributes(tracee, full));
      case 'mkdir':
        return this.#make(tracee, [0, -1], true);
      case 'mkdirat':
        return this.#make(tracee, [1, 0], true);
      case 'symlink':
        return this.#make(tracee, [1, -1]);
      case 'symlinkat':
        return this.#make(tracee, [2, 1]);
      case 'link':
        return this.#make(tracee, [1, -1]);
      case 'linkat':
        return this.#make(tracee, [3, 2]);
      case 'unlink':
        return this.#unlink(tracee, [0, -1]);
      case 'unlinkat':
        return call.int(2) & AT_REMOVEDIR ? 'a directory would be removed' : this.#unlink(tracee, [1, 0]);
      case 'rename':
        return this.#rename(tracee, [0, -1], [1, -1]);
      case 'renameat':
        return this.#rename(tracee, [1, 0], [3, 2]);
      case 'renameat2':
        if (call.int(4) & ~RENAME_NOREPLACE) return 'an unusual rename';
        return this.#rename(tracee, [1, 0], [3, 2]);
      default:
        return `${name} of a local file`;
    }
  }

  #open(tracee: Tracee, flags: number, place: PathPlace): Recorded {
    if (flags & O_TMPFILE & ~constants.O_DIRECTORY) return undefined; // it has no name
    return this.#at(place, (full) => {
      const stats = statsOf(full);
      if (stats === undefined) return flags & constants.O_CREAT ? this.#journal.make(tracee, full) : undefined;
      if (stats.isDirectory()) return undefined;
      if (!stats.isFile()) return 'no plain file';
      return flags & constants.O_TRUNC ? this.#journal.data(tracee, full, 0, 0, true) : undefined;
    });
  }

  /** `offset`: undefined for the descriptor's position. */
  #write(tracee: Tracee, at: number, length: number, offset?: number): Recorded {
    const fd = callArgumentInt(at);
    const info = descriptorInfo(tracee.pid, fd);
    if (info === undefined) return undefined;
    const opened = this.#opened(tracee, at);
    const stats = statOf(opened);
    if (!stats?.isFile()) return 'no plain file';
    const start = info.flags & O_APPEND ? Number(stats.size) : (offset ?? info.position);
    return this.#journal.data(tracee, opened, start, start + length);
  }

  #make(tracee: Tracee, place: PathPlace, isDirectory = false): Recorded {
    return this.#at(place, (full) =>
      statsOf(full) === undefined ? this.#journal.make(tracee, full, isDirectory) : undefined,
    );
  }

  #unlink(tracee: Tracee, place: PathPlace): Recorded {
    return this.#at(place, (full) => {
      const stats = statsOf(full);
      return stats === undefined || stats.isDirectory() ? undefined : this.#journal.remove(tracee, full, stats);
    });
  }

  #rename(tracee: Tracee, from: PathPlace, to: PathPlace): Recorded {
    return this.#at(from, (source) =>
      this.#at(to, (target) => {
        const [moved, replaced] = [statsOf(source), statsOf(target)];
        if (moved === undefined) return undefined;
        if (replaced?.isDirectory()) return 'a directory would be replaced';
        if (moved.isDirectory()) return 'a directory would be renamed';
        if (replaced !== undefined && keyOf(replaced) === keyOf(moved)) return undefined; // nothing happens
        return this.#journal.rename(tracee, source, target, replaced);
      }),
    );
  }

  /** What is at a path, unless that is a symbolic link. */
  #existing(place: PathPlace, change: (full: string) => Recorded): Recorded {
    return this.#at(place, (full) => {
      const stats = statsOf(full);
      if (stats === undefined) return undefined;
      return stats.isFile() || stats.isDirectory() ? change(full) : 'no plain file';
    });
  }

  /** The path that is really meant: none of the directories on the way is a symbolic link. */
  #at([at, directory]: PathPlace, change: (full: string) => Recorded): Recorded {
    const full = this.#call.absolutePath(at, directory, true);
    if (full === undefined) return 'a path that goes up';
    for (let above = dirname(full); this.#call.isLocal(above); above = dirname(above)) {
      const stats = statsOf(above);
      if (stats === undefined) return undefined; // the call fails
      if (!stats.isDirectory()) return 'a path through a symbolic link';
    }
    return change(full);
  }

  #opened({ pid }: Tracee, at: number): string {
    return `/proc/${pid}/fd/${callArgumentInt(at)}`;
  }
}

/** Of what a link of /proc leads to. */
function statOf(link: string): BigIntStats | undefined {
  return statSync(link, { bigint: true, throwIfNoEntry: false });
}
