/**
 * The registers of a stopped process behind one interface: what a system call is, and how to make a process perform one.
 * It reads and writes registers by ptrace; each machine has files of its own (registers-x86-64.ts, system-calls-x86-64.ts).
 */
import { ERRNO, systemError } from '../errors.ts';
import { createX86Registers } from './registers-x86-64.ts';
import { X86_CALLS } from './system-calls-x86-64.ts';

/** Registers as they were: an opaque copy. */
export type SavedRegisters = Uint32Array;

export interface Registers {
  /** Reads them from a stopped process. 0 or −errno. */
  read(pid: number): number;
  write(pid: number): number;
  save(): SavedRegisters;
  load(saved: SavedRegisters): void;
  /** Number of the system call that the process is in, or was just in; −1 if none. */
  readonly call: number;
  /** What a finished call gives back. */
  result: number;
  readonly stackPointer: number;
  /** Not a program of the machine's full width: hands off. */
  readonly narrow: boolean;
  /** Argument 0..5 of the call, exact below 2^53. */
  argument(i: number): number;
  /** At the entry of a call: it shall not be made. */
  cancelCall(): void;
  /** The process shall make call `number` by the instruction at `instruction`; whatever it was in is forgotten. */
  prepareCall(instruction: number, number: number, args: readonly number[]): void;
  /** After a call (interrupted, cancelled or done): the process shall make it again. */
  repeatCall(): void;
  /** The process is in no call any more: the kernel must not restart anything. */
  leaveCall(): void;
}

/** What differs from machine to machine. */
export interface MachineCalls {
  /** Name → number, for the names this project uses. */
  readonly numbers: Readonly<Record<string, number>>;
  /** AUDIT_ARCH_…: other calls come from programs of another width. */
  readonly architecture: number;
  /** The instruction that makes a system call. */
  readonly instruction: Uint8Array;
  /** Register sets to copy beside the general ones (NT_…): floating point and vectors. */
  readonly extraSets: readonly number[];
}

/** Registers of this machine. @throws IsthmusError EOPNOTSUPP on a machine that has no file yet */
export function createRegisters(): Registers {
  if (process.arch === 'x64') return createX86Registers();
  throw noMachine();
}

/** System calls of this machine. @throws IsthmusError EOPNOTSUPP */
export function machineCalls(): MachineCalls {
  if (process.arch === 'x64') return X86_CALLS;
  throw noMachine();
}

function noMachine(): Error {
  return systemError(ERRNO.EOPNOTSUPP, 'ptrace', `registers of ${process.arch}`);
}
