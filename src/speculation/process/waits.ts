/**
 * Waiting for children (wait4(2), waitid(2)) as a program asks for it, and the answer given without the kernel when the
 * child's end is only held. It reads process groups from /proc and writes results into the waiting process.
 */
import { statFields } from '../../linux/proc.ts';
import { writeMemory } from '../../linux/process-memory.ts';
import { childExitInfo } from '../../linux/ptrace.ts';
import type { Registers } from '../../linux/registers.ts';
import type { ExitStatus, Pid } from './backend.ts';

const P_ALL = 0;
const P_PID = 1;
const P_PGID = 2;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x01000000;
const USAGE_BYTES = 144;

export interface WaitRequest {
  readonly call: 'wait4' | 'waitid';
  /** P_ALL, P_PID, P_PGID or something else. */
  readonly type: number;
  readonly id: number;
  readonly options: number;
  /** Where the status (int) or siginfo goes; 0: nowhere. */
  readonly result: number;
  /** Where the usage goes; 0: nowhere. */
  readonly usage: number;
}

/** A wait by its call's name and arguments. */
export function waitRequest(call: 'wait4' | 'waitid', argument: (i: number) => number): WaitRequest {
  const int = (i: number): number => argument(i) | 0;
  if (call === 'waitid') {
    return { call, type: int(0), id: int(1), options: int(3), result: argument(2), usage: argument(4) };
  }
  const pid = int(0);
  const type = pid > 0 ? P_PID : pid === -1 ? P_ALL : P_PGID;
  return { call, type, id: pid > 0 ? pid : -pid, options: int(2), result: argument(1), usage: argument(3) };
}

/** Whether this wait asks for that child. */
export function asksFor(request: WaitRequest, waiter: Pid, child: Pid): boolean {
  if (request.type === P_ALL) return true;
  if (request.type === P_PID) return request.id === child;
  if (request.type !== P_PGID) return true; // a pidfd: perhaps
  const wanted = request.id === 0 ? statFields(waiter)?.[2] : String(request.id);
  return statFields(child)?.[2] === wanted;
}

/** Whether the answer can be given without the kernel. */
export function canBeAnswered({ call, type, options }: WaitRequest): boolean {
  if (type > P_PGID || options & WNOWAIT) return false;
  return call === 'wait4' || (options & WEXITED) !== 0;
}

export function doesNotBlock(request: WaitRequest): boolean {
  return (request.options & WNOHANG) !== 0;
}

/** Gives the answer "this child has ended": memory, and the result in `registers`. */
export function answerWait(
  registers: Registers,
  waiter: Pid,
  request: WaitRequest,
  child: Pid,
  status: ExitStatus,
): void {
  if (request.call === 'wait4') {
    if (request.result !== 0) {
      const word = status.signal !== 0 ? status.signal : status.code << 8;
      writeMemory(waiter, request.result, new Uint8Array(Int32Array.of(word).buffer));
    }
    registers.result = child;
  } else {
    if (request.result !== 0) {
      writeMemory(waiter, request.result, childExitInfo(child, 0, status.code, status.signal));
    }
    registers.result = 0;
  }
  if (request.usage !== 0) writeMemory(waiter, request.usage, new Uint8Array(USAGE_BYTES));
  registers.leaveCall();
}
