/**
 * Descriptors across processes and plain output: taking a copy of another process's descriptor (pidfd_getfd(2)), asking
 * whether two are the same open file (kcmp(2)), writing without being blocked for long, setting a file's times exactly, giving an open file a name.
 */
import { libcFunction, orErrno } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';

const PIDFD_OPEN = 434; // the same on every machine
const PIDFD_GETFD = 438;
const KCMP_X86 = 312;
const KCMP_GENERIC = 272;
const KCMP_FILE = 0;
const POLLOUT = 4;
const POLLERR = 8;
const BUFFER_BYTES = 1 << 16;
const EAGAIN = 11;

const cSyscall = libcFunction<[number: number, a: number, b: number, c: number, d: number, e: number]>(
  'syscall',
  ['long', 'long', 'long', 'long', 'long', 'long'],
  'long',
);
const cClose = libcFunction<[fd: number]>('close', ['int']);
const cPoll = libcFunction<[fds: number, count: number, timeout: number]>('poll', ['long', 'long', 'int']);
const cWrite = libcFunction<[fd: number, buffer: number, length: number]>('write', ['int', 'long', 'long'], 'long');
const cLinkat = libcFunction<[oldDirectory: number, old: number, newDirectory: number, path: number, flags: number]>(
  'linkat',
  ['int', 'long', 'int', 'long', 'int'],
);
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const cFutimens = libcFunction<[fd: number, times: number]>('futimens', ['int', 'long']);

let buffer: MappedMemory | undefined;
function memory(): MappedMemory {
  buffer ??= mapArena(BUFFER_BYTES + 64, { populate: false });
  return buffer;
}

/** A descriptor of ours for the open file behind `fd` of process `pid`; −errno (EBADF: it is not open). */
export function takeDescriptor(pid: number, fd: number): number {
  const pidfd = orErrno(cSyscall(PIDFD_OPEN, pid, 0, 0, 0, 0));
  if (pidfd < 0) return pidfd;
  const taken = orErrno(cSyscall(PIDFD_GETFD, pidfd, fd, 0, 0, 0));
  cClose(pidfd);
  return taken;
}

/** Whether two descriptors are one open file; undefined where the kernel does not tell. */
export function sameOpenFile(pid: number, fd: number, otherPid: number, otherFd: number): boolean | undefined {
  const number = process.arch === 'x64' ? KCMP_X86 : KCMP_GENERIC;
  const order = cSyscall(number, pid, otherPid, KCMP_FILE, fd, otherFd);
  return order === -1 ? undefined : order === 0;
}

/** What poll(2) says of writing to a descriptor: `broken` when nobody can read any more. */
export function canWrite(fd: number): 'yes' | 'no' | 'broken' {
  const { address, i32 } = memory();
  const k = BUFFER_BYTES >> 2;
  i32[k] = fd;
  i32[k + 1] = POLLOUT;
  if (cPoll(address + BUFFER_BYTES, 1, 0) <= 0) return 'no';
  const events = i32[k + 1]! >>> 16;
  if (events & POLLERR) return 'broken';
  return events & POLLOUT ? 'yes' : 'no';
}

/** write(2) of at most 64 KiB: bytes written, or −errno (−EAGAIN included). */
export function writeBytes(fd: number, bytes: Uint8Array): number {
  const { address, u8 } = memory();
  const piece = bytes.length > BUFFER_BYTES ? bytes.subarray(0, BUFFER_BYTES) : bytes;
  u8.set(piece);
  return orErrno(cWrite(fd, address, piece.length));
}

/** Whether −errno says that nothing was lost and it may be tried again. */
export function isRetry(result: number): boolean {
  return result === -EAGAIN;
}

export function closeDescriptor(fd: number): void {
  cClose(fd);
}

/** futimens(2), in nanoseconds since 1970, which a number would round. 0 or −errno. */
export function setFileTimes(fd: number, accessedNs: bigint, modifiedNs: bigint): number {
  const { address } = memory();
  const times = new BigInt64Array(4);
  const SECOND = 1_000_000_000n;
  for (const [i, ns] of [accessedNs, modifiedNs].entries()) {
    const rest = ((ns % SECOND) + SECOND) % SECOND;
    times[2 * i] = (ns - rest) / SECOND;
    times[2 * i + 1] = rest;
  }
  memory().u8.set(new Uint8Array(times.buffer));
  return orErrno(cFutimens(fd, address));
}

/** Gives an open file one more name (linkat(2)); it must still have one. `path`: bytes without a zero. 0 or −errno. */
export function linkOpenFile(fd: number, path: Uint8Array): number {
  const { address, u8 } = memory();
  const old = new TextEncoder().encode(`/proc/self/fd/${fd}\0`);
  u8.set(old);
  u8.set(path, old.length);
  u8[old.length + path.length] = 0;
  return orErrno(cLinkat(AT_FDCWD, address, AT_FDCWD, address + old.length, AT_SYMLINK_FOLLOW));
}
