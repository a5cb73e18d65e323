/**
 * ptrace(2) and waiting for what is traced: thin calls over numbers, all of which must come from one thread.
 * It stops, resumes and inspects other processes; it starts none and keeps nothing about them.
 */
import { lastErrno, libcFunction, orErrno } from './libc.ts';
import { reserveScratch, scratchAddress, scratchI32, scratchU8, scratchU32 } from './scratch.ts';

const Request = {
  CONT: 7,
  SYSCALL: 24,
  DETACH: 17,
  GETEVENTMSG: 0x4201,
  GETSIGINFO: 0x4202,
  SETSIGINFO: 0x4203,
  GETREGSET: 0x4204,
  SETREGSET: 0x4205,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
  GETSIGMASK: 0x420a,
  SETSIGMASK: 0x420b,
  GET_SYSCALL_INFO: 0x420e,
  GET_RSEQ_CONFIGURATION: 0x420f,
} as const;

/** Options of {@link seize}. */
export const TraceOption = {
  SYSGOOD: 1,
  FORK: 2,
  VFORK: 4,
  CLONE: 8,
  EXEC: 0x10,
  EXIT: 0x40,
  /** The kernel kills what is traced when the tracing thread ends, however it ends. */
  EXITKILL: 0x100000,
} as const;

/** Events of a stop ({@link WaitStatus.event}). */
export const TraceEvent = { NONE: 0, FORK: 1, VFORK: 2, CLONE: 3, EXEC: 4, EXIT: 6, STOP: 128 } as const;

/** The signal shown at a stop before or after a system call, with SYSGOOD. */
export const SYSCALL_STOP = 0x85;

export const WNOHANG = 1;
export const WUNTRACED = 2;
/** Also children that do not announce their end by SIGCHLD. */
export const WALL = 0x40000000;
/** Only what this thread has started or traces: other threads' children are left to them. */
export const WNOTHREAD = 0x20000000;

const EINTR = 4;
const SIGINFO_BYTES = 128;
const SYSCALL_INFO_BYTES = 88;

const cPtrace = libcFunction<[request: number, pid: number, address: number, data: number]>(
  'ptrace',
  ['long', 'long', 'long', 'long'],
  'long',
);
const cWaitpid = libcFunction<[pid: number, status: number, options: number]>('waitpid', ['int', 'long', 'int']);
const cWaitid = libcFunction<[type: number, id: number, info: number, options: number]>('waitid', [
  'int',
  'int',
  'long',
  'int',
]);
const cTgkill = libcFunction<[number: number, group: number, thread: number, signal: number]>(
  'syscall',
  ['long', 'long', 'long', 'long'],
  'long',
);
const cKill = libcFunction<[pid: number, signal: number]>('kill', ['int', 'int']);

const statusOffset = reserveScratch(64);
const statusIndex = statusOffset >> 2;
const statusAddress = scratchAddress + statusOffset;
const infoOffset = reserveScratch(SYSCALL_INFO_BYTES);
const infoAddress = scratchAddress + infoOffset;
const infoIndex = infoOffset >> 2;
const signalOffset = reserveScratch(SIGINFO_BYTES);
const signalAddress = scratchAddress + signalOffset;
const signalIndex = signalOffset >> 2;
const maskOffset = reserveScratch(64);
const maskAddress = scratchAddress + maskOffset;
const vectorOffset = reserveScratch(64);
const vectorIndex = vectorOffset >> 2;
const vectorAddress = scratchAddress + vectorOffset;

/** What {@link waitFor} and {@link waitAny} found; one per thread, overwritten by the next. */
export interface WaitStatus {
  /** It has ended: `code` or `signal` (not 0) says how. Otherwise it has stopped. */
  ended: boolean;
  code: number;
  /** Of a stop: the signal, SYSCALL_STOP, or what came with the event. */
  signal: number;
  event: number;
}

export const waited: WaitStatus = { ended: false, code: 0, signal: 0, event: 0 };

function decode(): void {
  const status = scratchI32[statusIndex]!;
  const low = status & 0x7f;
  waited.event = 0;
  if (low === 0) {
    waited.ended = true;
    waited.code = (status >> 8) & 0xff;
    waited.signal = 0;
  } else if (low !== 0x7f) {
    waited.ended = true;
    waited.code = 0;
    waited.signal = low;
  } else {
    waited.ended = false;
    waited.code = 0;
    waited.signal = (status >> 8) & 0xff;
    waited.event = status >>> 16;
  }
}

/** Waits for news of `pid` (−1: of anyone traced by this thread): its number, 0 (WNOHANG: none), or −errno. */
export function waitFor(pid: number, options: number = WALL | WNOTHREAD): number {
  for (;;) {
    const got = cWaitpid(pid, statusAddress, options);
    if (got > 0) decode();
    if (got !== -1) return got;
    const errno = lastErrno();
    if (errno !== EINTR) return -errno;
  }
}

/** Collects a process that has ended and has become this process's child, if so; stops are left alone. */
export function reapOrphan(pid: number): void {
  const P_PID = 1;
  const WEXITED = 4;
  cWaitid(P_PID, pid, signalAddress, WEXITED | WNOHANG | WALL);
}

/** Begins to trace a process without stopping it. 0 or −errno. */
export function seize(pid: number, options: number): number {
  return orErrno(cPtrace(Request.SEIZE, pid, 0, options));
}

/** Asks a traced process to stop at the next safe point; the stop is EVENT_STOP. 0 or −errno. */
export function interrupt(pid: number): number {
  return orErrno(cPtrace(Request.INTERRUPT, pid, 0, 0));
}

/** Lets a stopped process go on natively, delivering `signal` (0: none). */
export function resume(pid: number, signal = 0): number {
  return orErrno(cPtrace(Request.CONT, pid, 0, signal));
}

/** Lets a stopped process go on until before or after its next system call. */
export function resumeToCall(pid: number, signal = 0): number {
  return orErrno(cPtrace(Request.SYSCALL, pid, 0, signal));
}

/** Leaves a job-control stop in force while listening for its end. */
export function listen(pid: number): number {
  return orErrno(cPtrace(Request.LISTEN, pid, 0, 0));
}

export function detach(pid: number): number {
  return orErrno(cPtrace(Request.DETACH, pid, 0, 0));
}

/** The number that comes with an event: of a fork the child's, of an exit the wait status. −1 if there is none. */
export function eventMessage(pid: number): number {
  if (cPtrace(Request.GETEVENTMSG, pid, 0, statusAddress + 8) === -1) return -1;
  return scratchU32[statusIndex + 2]!;
}

/** The system call at a stop; one per thread, overwritten by the next {@link readCall}. */
export const Call = { NONE: 0, ENTRY: 1, EXIT: 2 } as const;

/** Reads the call of a stopped process: Call.ENTRY or Call.EXIT at a system call stop, else Call.NONE. */
export function readCall(pid: number): number {
  const got = cPtrace(Request.GET_SYSCALL_INFO, pid, SYSCALL_INFO_BYTES, infoAddress);
  return got === -1 ? Call.NONE : scratchU8[infoOffset]!;
}

/** AUDIT_ARCH_… of the call read last; tells 32-bit calls of a 64-bit kernel apart. */
export function callArchitecture(): number {
  return scratchU32[infoIndex + 1]!;
}

/** Number of the call read last (at its entry). */
export function callNumber(): number {
  return scratchI32[infoIndex + 6]!;
}

/** Argument 0..5 as an address or size. Exact below 2^53. */
export function callArgument(i: number): number {
  const k = infoIndex + 8 + 2 * i;
  return scratchU32[k + 1]! * 2 ** 32 + scratchU32[k]!;
}

/** Argument 0..5 as C's int. */
export function callArgumentInt(i: number): number {
  return scratchI32[infoIndex + 8 + 2 * i]!;
}

/** What the call read last gave back (at its exit). */
export function callResult(): number {
  return scratchI32[infoIndex + 7]! * 2 ** 32 + scratchU32[infoIndex + 6]!;
}

/** The siginfo of the signal that a stopped process is about to receive: 128 bytes, or undefined. */
export function readSignal(pid: number): Uint8Array | undefined {
  if (cPtrace(Request.GETSIGINFO, pid, 0, signalAddress) === -1) return undefined;
  return scratchU8.slice(signalOffset, signalOffset + SIGINFO_BYTES);
}

/** Of the siginfo just read: si_pid, for signals that have one. */
export function signalSender(): number {
  return scratchI32[signalIndex + 4]!;
}

/** Of the siginfo just read: si_code. */
export function signalCode(): number {
  return scratchI32[signalIndex + 2]!;
}

export function writeSignal(pid: number, info: Uint8Array): number {
  scratchU8.set(info, signalOffset);
  return orErrno(cPtrace(Request.SETSIGINFO, pid, 0, signalAddress));
}

/** The siginfo of a child's end, as the kernel makes it. */
export function childExitInfo(pid: number, uid: number, code: number, signal: number): Uint8Array {
  const info = new Uint8Array(SIGINFO_BYTES);
  const words = new Int32Array(info.buffer);
  const CLD_EXITED = 1;
  const CLD_KILLED = 2;
  words[0] = 17;
  words[2] = signal ? CLD_KILLED : CLD_EXITED;
  words[4] = pid;
  words[5] = uid;
  words[6] = signal || code;
  return info;
}

/** The blocked signals of a stopped process: two words, low first. */
export function readSignalMask(pid: number): [number, number] {
  cPtrace(Request.GETSIGMASK, pid, 8, maskAddress);
  return [scratchU32[maskOffset >> 2]!, scratchU32[(maskOffset >> 2) + 1]!];
}

export function writeSignalMask(pid: number, mask: readonly [number, number]): number {
  scratchU32[maskOffset >> 2] = mask[0];
  scratchU32[(maskOffset >> 2) + 1] = mask[1];
  return orErrno(cPtrace(Request.SETSIGMASK, pid, 8, maskAddress));
}

/** Every signal that can be blocked. */
export const ALL_SIGNALS: readonly [number, number] = [0xffffffff, 0xffffffff];

/** Reads a register set (NT_…) into memory: its length in bytes, or −errno. */
export function readRegisterSet(pid: number, kind: number, address: number, length: number): number {
  setVector(address, length);
  const got = cPtrace(Request.GETREGSET, pid, kind, vectorAddress);
  return got === -1 ? -lastErrno() : scratchI32[vectorIndex + 2]!;
}

export function writeRegisterSet(pid: number, kind: number, address: number, length: number): number {
  setVector(address, length);
  return orErrno(cPtrace(Request.SETREGSET, pid, kind, vectorAddress));
}

function setVector(address: number, length: number): void {
  scratchU32[vectorIndex] = address % 2 ** 32;
  scratchU32[vectorIndex + 1] = Math.floor(address / 2 ** 32);
  scratchU32[vectorIndex + 2] = length;
  scratchU32[vectorIndex + 3] = 0;
}

/** Where a stopped process has its area of restartable sequences (rseq(2)), which the kernel writes to. */
export interface RseqArea {
  readonly address: number;
  readonly length: number;
  readonly signature: number;
}

/** undefined where there is none, or the kernel (before 5.13) does not tell. */
export function readRseq(pid: number): RseqArea | undefined {
  if (cPtrace(Request.GET_RSEQ_CONFIGURATION, pid, 24, infoAddress) === -1) return undefined;
  const address = scratchU32[infoIndex + 1]! * 2 ** 32 + scratchU32[infoIndex]!;
  if (address === 0) return undefined;
  return { address, length: scratchU32[infoIndex + 2]!, signature: scratchI32[infoIndex + 3]! };
}

/** kill(2). 0 or −errno. */
export function sendSignal(pid: number, signal: number): number {
  return orErrno(cKill(pid, signal));
}

/** tgkill(2) to a process's first thread: the signal is the thread's, so it is handled there. */
export function sendThreadSignal(number: number, pid: number, signal: number): number {
  return orErrno(cTgkill(number, pid, pid, signal));
}
