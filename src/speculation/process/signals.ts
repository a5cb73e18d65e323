/**
 * Signals that a process brings upon itself: faults, and writing where nobody reads. After a rollback they come again by
 * themselves, so they are not sent again, and what is pending of them goes with what is undone.
 */
import { statusField } from '../../linux/proc.ts';
import { writeMemory } from '../../linux/process-memory.ts';
import { readSignal, signalCode, signalSender } from '../../linux/ptrace.ts';
import type { Pid } from './backend.ts';

/** ILL, TRAP, BUS, FPE, SEGV, SYS: delivered at once where they arise. */
const FAULTS: ReadonlySet<number> = new Set([4, 5, 7, 8, 11, 31]);
/** PIPE, XFSZ: sent by a call of the process to itself, delivered when the call ends. */
const BY_CALLS = [13, 25] as const;
const SET_BYTES = 8;
/** Behind the set in the page: a time of zero. */
const TIME_AT = 64;

/** Whether the signal that a process is about to receive is its own doing. */
export function isOwnDoing(pid: Pid, signal: number): boolean {
  readSignal(pid);
  if (FAULTS.has(signal)) return signalCode() > 0;
  // Ours is one that was pending at a checkpoint.
  return (BY_CALLS as readonly number[]).includes(signal) && (signalSender() === pid || signalSender() === process.pid);
}

/** Those that calls have sent and that are still to be delivered. */
export function ownSignalsPending(pid: Pid): number[] {
  // Signals from outside are pending for the process, these for the thread.
  const pending = BigInt(`0x${statusField(pid, 'SigPnd') ?? '0'}`);
  return BY_CALLS.filter((signal) => ((pending >> BigInt(signal - 1)) & 1n) === 1n);
}

/** Takes them away from a stopped process, all of whose signals are blocked. `page` is ours in it. */
export function dropOwnSignals(pid: Pid, page: number, inject: (name: string, ...args: number[]) => number): void {
  for (const signal of ownSignalsPending(pid)) {
    const bytes = new Uint8Array(TIME_AT + 16);
    new DataView(bytes.buffer).setBigUint64(0, 1n << BigInt(signal - 1), true);
    writeMemory(pid, page, bytes);
    inject('rt_sigtimedwait', page, 0, page + TIME_AT, SET_BYTES);
  }
}
