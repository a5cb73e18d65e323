/**
 * The table of system calls: a line each, saying how a speculative process may use it. Pure: it looks at a call through
 * the small interface CallView and gives a verdict; a call that is not here waits for the truth.
 *
 * Calls are allowed when all they change goes away with the process or is put back from its checkpoint (memory,
 * descriptors, positions of files, working directory, umask, signal actions), lies on the mount, whose own speculation
 * answers for it, or is recorded in the journal of local directories.
 */
import type { CallView, Verdict } from './call-view.ts';

export type Rule = (call: CallView) => Verdict;

const allow: Rule = () => 'allow';
const wait =
  (why: string): Rule =>
  () =>
    `wait: ${why}`;
/** It changes the process itself in a way that no checkpoint puts back. */
const own: Rule = (call) => (call.ownAffair ? 'allow' : 'wait: it would outlive the rollback');

const input =
  (i: number): Rule =>
  (call) => {
    const target = call.descriptor(i);
    if (target === 'pipe' || target === 'socket' || target === 'terminal' || target === 'other') {
      return `wait: it would take from a ${target}`;
    }
    return 'allow';
  };

const output =
  (i: number): Rule =>
  (call) => {
    const target = call.descriptor(i);
    if (target === 'terminal' || target === 'pipe' || target === 'socket') return 'withhold';
    if (target === 'inside') return 'write inside';
    if (target === 'local') return 'change local';
    if (target === 'file' || target === 'other') return `wait: it would change a local ${target}`;
    return 'allow';
  };

/** Changes the file behind descriptor i. */
const change =
  (i: number): Rule =>
  (call) => {
    const target = call.descriptor(i);
    if (target === 'local') return 'change local';
    return target === 'mount' || target === 'none' || target === 'device'
      ? 'allow'
      : 'wait: it would change a local file';
  };

/** Changes what these paths name: pairs of (path, directory). */
const changePaths =
  (...places: readonly (readonly [path: number, directory: number])[]): Rule =>
  (call) => {
    const where = places.map(([path, directory]) => call.path(path, directory));
    if (where.every((one) => one === 'mount')) return 'allow';
    return where.every((one) => one === 'local') ? 'change local' : 'wait: it would change a local directory';
  };

const O_ACCMODE = 3;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_TMPFILE = 0o20000000;

function opening(call: CallView, flags: number, path: number, directory: number): Verdict {
  if ((flags & O_ACCMODE) === 0 && (flags & (O_CREAT | O_TRUNC | O_TMPFILE)) === 0) return 'allow';
  const where = call.path(path, directory);
  if (where === 'local') return 'change local';
  return where === 'elsewhere' ? 'wait: it would open a local file for writing' : 'allow';
}

const PROT_WRITE = 2;
const MAP_TYPE = 0xf;
const MAP_ANONYMOUS = 0x20;
const mapping: Rule = (call) => {
  const flags = call.int(3);
  const shared = (flags & MAP_TYPE) !== 2;
  if (shared && (flags & MAP_ANONYMOUS || call.int(2) & PROT_WRITE)) return 'wait: shared writable memory';
  return 'allow';
};

const CLONE_VM = 0x100;
const CLONE_VFORK = 0x4000;
const CLONE_PLAIN = 0x01200000 | 0x100000 | CLONE_VFORK | CLONE_VM | 0xff; // child and parent set tid, vfork, exit signal
function cloning(flags: number): Verdict {
  if (flags & ~CLONE_PLAIN) return 'wait: threads or namespaces';
  return flags & CLONE_VM && !(flags & CLONE_VFORK) ? 'wait: threads' : 'allow';
}

const FCNTL_HARMLESS = new Set([0, 1, 2, 3, 9, 1030, 1031, 1032, 1034]); // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETOWN, …
const F_SETFL = 4;
const fcntl: Rule = (call) => {
  if (FCNTL_HARMLESS.has(call.int(1))) return 'allow';
  if (call.int(1) === F_SETFL) {
    const target = call.descriptor(0);
    return target === 'inside' || target === 'mount' || target === 'none'
      ? 'allow'
      : 'wait: flags of a shared descriptor';
  }
  return 'wait: locks';
};

const IOCTL_HARMLESS = new Set([
  0x5401, // TCGETS
  0x540f, // TIOCGPGRP
  0x5413, // TIOCGWINSZ
  0x541b, // FIONREAD
  0x5450, // FIONCLEX
  0x5451, // FIOCLEX
  0x5429, // TIOCGSID
  0x802c542a, // TCGETS2
]);
const FICLONE = 0x40049409;
const ioctl: Rule = (call) => {
  if (IOCTL_HARMLESS.has(call.int(1) >>> 0)) return 'allow';
  const target = call.descriptor(0);
  if (target === 'local' && call.int(1) === FICLONE) return 'change local';
  return target === 'mount' || target === 'none' ? 'allow' : 'wait: ioctl';
};

const PRCTL_HARMLESS = new Set([3, 15, 16, 21, 23, 27, 30, 39, 40, 0x53564d41]); // names, queries
const prctl: Rule = (call) => (PRCTL_HARMLESS.has(call.int(0)) ? 'allow' : own(call));

/** Between two files: both ends on the mount, or from any file to the mount. */
const fileToFile =
  (from: number, to: number): Rule =>
  (call) => {
    const source = call.descriptor(from);
    if (source !== 'mount' && source !== 'file' && source !== 'local' && source !== 'device' && source !== 'none') {
      return `wait: it would take from a ${source}`;
    }
    const target = call.descriptor(to);
    if (target === 'local') return 'change local';
    return target === 'mount' || target === 'none' ? 'allow' : 'wait: it would change a local file';
  };

const AT_FDCWD_PATHLESS = 0;
/** To itself as well: a signal that came is sent again after a rollback, and the call would send it once more. */
const signalling: Rule = () => 'wait: a signal cannot be taken back';

export const SYSTEM_CALLS: Readonly<Record<string, Rule>> = {
  // reading
  read: input(0),
  pread64: input(0),
  readv: input(0),
  preadv: input(0),
  preadv2: input(0),
  getdents: input(0),
  getdents64: input(0),
  lseek: allow,
  stat: allow,
  fstat: allow,
  lstat: allow,
  newfstatat: allow,
  statx: allow,
  access: allow,
  faccessat: allow,
  faccessat2: allow,
  readlink: allow,
  readlinkat: allow,
  getcwd: allow,
  statfs: allow,
  fstatfs: allow,
  getxattr: allow,
  lgetxattr: allow,
  fgetxattr: allow,
  listxattr: allow,
  llistxattr: allow,
  flistxattr: allow,
  fadvise64: allow,
  readahead: allow,
  // opening
  open: (call) => opening(call, call.int(1), 0, -1),
  openat: (call) => opening(call, call.int(2), 1, 0),
  openat2: (call) => opening(call, call.word(2, 0), 1, 0),
  creat: (call) => opening(call, O_CREAT | 1, 0, -1),
  // descriptors
  close: allow,
  close_range: allow,
  dup: allow,
  dup2: allow,
  dup3: allow,
  pipe: () => 'make pipe',
  pipe2: () => 'make pipe',
  fcntl,
  ioctl,
  flock: wait('locks'),
  poll: allow,
  ppoll: allow,
  select: allow,
  pselect6: allow,
  epoll_create: allow,
  epoll_create1: allow,
  epoll_ctl: wait('epoll'),
  epoll_wait: wait('epoll'),
  // output
  write: output(0),
  writev: output(0),
  pwrite64: output(0),
  pwritev: output(0),
  pwritev2: output(0),
  sendto: output(0),
  // files
  ftruncate: change(0),
  fallocate: change(0),
  fchmod: change(0),
  fchown: change(0),
  fsetxattr: change(0),
  fremovexattr: change(0),
  fsync: allow,
  fdatasync: allow,
  sync_file_range: allow,
  syncfs: allow,
  copy_file_range: fileToFile(0, 2),
  sendfile: fileToFile(1, 0),
  // paths
  truncate: changePaths([0, -1]),
  mkdir: changePaths([0, -1]),
  mkdirat: changePaths([1, 0]),
  rmdir: changePaths([0, -1]),
  unlink: changePaths([0, -1]),
  unlinkat: changePaths([1, 0]),
  rename: changePaths([0, -1], [1, -1]),
  renameat: changePaths([1, 0], [3, 2]),
  renameat2: changePaths([1, 0], [3, 2]),
  link: changePaths([0, -1], [1, -1]),
  linkat: changePaths([1, 0], [3, 2]),
  symlink: changePaths([1, -1]),
  symlinkat: changePaths([2, 1]),
  mknod: changePaths([0, -1]),
  mknodat: changePaths([1, 0]),
  chmod: changePaths([0, -1]),
  fchmodat: changePaths([1, 0]),
  fchmodat2: changePaths([1, 0]),
  chown: changePaths([0, -1]),
  lchown: changePaths([0, -1]),
  fchownat: changePaths([1, 0]),
  utime: changePaths([0, -1]),
  utimes: changePaths([0, -1]),
  futimesat: changePaths([1, 0]),
  // Without a path it is the descriptor's file.
  utimensat: (call) => (call.size(1) === AT_FDCWD_PATHLESS ? change(0)(call) : changePaths([1, 0])(call)),
  setxattr: changePaths([0, -1]),
  lsetxattr: changePaths([0, -1]),
  removexattr: changePaths([0, -1]),
  lremovexattr: changePaths([0, -1]),
  chdir: allow,
  fchdir: allow,
  umask: allow,
  // memory
  mmap: mapping,
  munmap: allow,
  mprotect: allow,
  mremap: allow,
  brk: allow,
  madvise: (call) => (call.int(2) === 10 || call.int(2) === 18 ? 'wait: memory that is not inherited' : 'allow'),
  mincore: allow,
  msync: wait('shared memory'),
  mlock: own,
  munlock: own,
  membarrier: allow,
  // processes
  fork: allow,
  vfork: allow,
  clone: (call) => cloning(call.int(0)),
  clone3: (call) => cloning(call.word(0, 0)),
  execve: () => 'exec',
  execveat: () => 'exec',
  exit: () => 'exit',
  exit_group: () => 'exit',
  wait4: () => 'await child',
  waitid: () => 'await child',
  kill: signalling,
  tkill: signalling,
  tgkill: signalling,
  setpgid: own,
  setsid: own,
  setuid: own,
  setgid: own,
  setreuid: own,
  setregid: own,
  setresuid: own,
  setresgid: own,
  setrlimit: own,
  prlimit64: (call) => (call.size(2) === 0 ? 'allow' : own(call)),
  sched_setaffinity: own,
  setpriority: own,
  prctl,
  arch_prctl: allow,
  personality: (call) => (call.int(0) === -1 ? 'allow' : own(call)),
  set_tid_address: allow,
  set_robust_list: allow,
  rseq: allow,
  futex: allow,
  // signals
  rt_sigaction: (call) => (call.size(1) === 0 ? 'allow' : 'signal action'),
  sigaltstack: (call) => (call.size(0) === 0 ? 'allow' : 'alternate stack'),
  rt_sigprocmask: allow,
  rt_sigpending: allow,
  rt_sigreturn: allow,
  rt_sigsuspend: allow,
  pause: allow,
  restart_syscall: allow,
  // time
  nanosleep: allow,
  clock_nanosleep: allow,
  gettimeofday: allow,
  time: allow,
  times: allow,
  clock_gettime: allow,
  clock_getres: allow,
  // questions
  getpid: allow,
  gettid: allow,
  getppid: allow,
  getpgid: allow,
  getpgrp: allow,
  getsid: allow,
  getuid: allow,
  geteuid: allow,
  getgid: allow,
  getegid: allow,
  getresuid: allow,
  getresgid: allow,
  getgroups: allow,
  capget: allow,
  uname: allow,
  sysinfo: allow,
  getrlimit: allow,
  getrusage: allow,
  getpriority: allow,
  sched_getaffinity: allow,
  sched_getparam: allow,
  sched_getscheduler: allow,
  sched_get_priority_max: allow,
  sched_get_priority_min: allow,
  sched_yield: allow,
  getcpu: allow,
  getrandom: allow,
  // sockets: those of its own making may be there, but nobody may hear of them
  socket: allow,
  getsockname: allow,
  getsockopt: allow,
};

/** What they change on the mount cannot be taken back at the server: what changes it after them needs a checkpoint between. */
export const FINAL: ReadonlySet<string> = new Set('unlink unlinkat rmdir rename renameat renameat2'.split(' '));

const CHANGING: ReadonlySet<string> = new Set(
  `creat mkdir mkdirat link linkat symlink symlinkat mknod mknodat chmod fchmodat fchmodat2 fchmod chown lchown fchownat fchown
  truncate ftruncate utime utimes futimesat utimensat`.split(/\s+/),
);

/** Whether the call may change what lies on the mount, other than by writing to open files. */
export function mayChange(name: string, call: CallView): boolean {
  if (name === 'open') return (call.int(1) & (O_ACCMODE | O_CREAT | O_TRUNC)) !== 0;
  if (name === 'openat') return (call.int(2) & (O_ACCMODE | O_CREAT | O_TRUNC)) !== 0;
  return FINAL.has(name) || CHANGING.has(name);
}

/**
 * Calls that unwind without an effect when a request of theirs to the mount is answered with EINTR, so that a checkpoint
 * can be taken there. Reads are not among them: they may be part done; closing has closed already.
 */
export const BOUNCEABLE: ReadonlySet<string> = new Set(
  `open openat openat2 creat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat statfs chdir
  getdents getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod
  mknodat chmod fchmodat fchmodat2 fchmod chown lchown fchownat fchown truncate ftruncate utime utimes futimesat utimensat
  getxattr lgetxattr listxattr llistxattr execve execveat fstat`.split(/\s+/),
);
