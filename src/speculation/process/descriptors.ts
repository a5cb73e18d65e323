/**
 * What descriptors and paths of a traced process are, as the table of system calls asks (CallView).
 * It reads /proc and the process's memory; paths are judged by their text alone, so a symbolic link on the mount that
 * leads out of it is taken for the mount.
 */
import { sameOpenFile } from '../../linux/descriptor.ts';
import { readProcLink } from '../../linux/proc.ts';
import { readCString, readMemory } from '../../linux/process-memory.ts';
import { callArgument, callArgumentInt } from '../../linux/ptrace.ts';
import type { Pid } from './backend.ts';
import type { CallView, Target } from './call-view.ts';
import type { Tracee } from './tracee.ts';

const AT_FDCWD = -100;
const DEVICES = new Set(['/dev/null', '/dev/zero', '/dev/full', '/dev/urandom', '/dev/random']);
const latin1 = new TextDecoder('latin1');

export interface Surroundings {
  /** Absolute paths of speculative mounts. */
  readonly mounts: readonly string[];
  /** Absolute paths of local directories whose changes can be undone. */
  readonly locals: readonly string[];
  /** Descriptors of this process that the program was started with: writing to them is output whatever they are. */
  readonly stdio: readonly number[];
  readonly ownPid: Pid;
  isInsidePipe(name: string, tracee: Tracee): boolean;
}

/** A path below (or at) one of the directories. */
export function isUnder(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => path === directory || path.startsWith(`${directory}/`));
}

/** The call that a process stands before, as read by `readCall`. One object serves all: `of` points it at a process. */
export class TracedCall implements CallView {
  readonly #around: Surroundings;
  #tracee!: Tracee;

  constructor(around: Surroundings) {
    this.#around = around;
  }

  of(tracee: Tracee): this {
    this.#tracee = tracee;
    return this;
  }

  int(i: number): number {
    return callArgumentInt(i);
  }

  size(i: number): number {
    return callArgument(i);
  }

  word(i: number, offset: number): number {
    try {
      const bytes = readMemory(this.#tracee.pid, callArgument(i) + offset, 4);
      return new DataView(bytes.buffer).getInt32(0, true);
    } catch {
      return 0;
    }
  }

  descriptor(i: number): Target {
    return this.target(callArgumentInt(i));
  }

  target(fd: number): Target {
    const { pid } = this.#tracee;
    const link = this.link(fd);
    if (link === undefined) return 'none';
    if (link.startsWith('pipe:')) return this.#around.isInsidePipe(link, this.#tracee) ? 'inside' : 'pipe';
    if (link.startsWith('socket:')) return 'socket';
    if (link[0] !== '/') return 'other';
    if (DEVICES.has(link)) return 'device';
    if (link.startsWith('/dev/')) return 'terminal';
    if (isUnder(link, this.#around.mounts)) return 'mount';
    for (const own of this.#around.stdio) {
      if (sameOpenFile(pid, fd, this.#around.ownPid, own)) return 'terminal';
    }
    return this.isLocal(link) ? 'local' : 'file';
  }

  /** What a descriptor leads to, as /proc says it. */
  link(fd: number): string | undefined {
    return readProcLink(`/proc/${this.#tracee.pid}/fd/${fd}`);
  }

  /** Whether a path is in one of the local directories (and not in a mount below it). */
  isLocal(path: string): boolean {
    return isUnder(path, this.#around.locals) && !isUnder(path, this.#around.mounts);
  }

  path(i: number, directory: number): 'mount' | 'device' | 'local' | 'elsewhere' {
    const path = this.absolutePath(i, directory);
    if (path === undefined) return 'mount'; // unreadable: the call fails by itself
    if (DEVICES.has(path) || path === '/dev/tty') return 'device';
    if (isUnder(path, this.#around.mounts)) return 'mount';
    return this.isLocal(path) ? 'local' : 'elsewhere';
  }

  /**
   * The path at argument i made absolute by its text; undefined where it cannot be read (or, if `plain`, goes up on its way,
   * perhaps from where a symbolic link leads). Bytes, a character each.
   */
  absolutePath(i: number, directory: number, plain = false): string | undefined {
    const { pid } = this.#tracee;
    let path: string;
    try {
      path = latin1.decode(readCString(pid, callArgument(i)));
    } catch {
      return undefined;
    }
    // How the C library gives a descriptor where only a path is taken (fchmodat without following links).
    const own = /^\/proc\/self\/fd\/(\d+)$/.exec(path);
    if (own !== null) path = readProcLink(`/proc/${pid}/fd/${own[1]}`) ?? path;
    if (path[0] !== '/') {
      const fd = directory < 0 ? AT_FDCWD : callArgumentInt(directory);
      const base = readProcLink(fd === AT_FDCWD ? `/proc/${pid}/cwd` : `/proc/${pid}/fd/${fd}`);
      path = `${base ?? ''}/${path}`;
    }
    const parts: string[] = [];
    for (const part of path.split('/')) {
      if (part === '..' && plain) return undefined;
      if (part === '..') parts.pop();
      else if (part !== '' && part !== '.') parts.push(part);
    }
    return `/${parts.join('/')}`;
  }

  get ownAffair(): boolean {
    return this.#tracee.checkpoints.length === 0;
  }
}
