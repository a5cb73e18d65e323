/**
 * Makes a stopped process perform system calls of ours, unseen by its program: registers, signal mask and restart state
 * are put back. It waits for that process's stops itself; injected calls must be ones that end soon.
 */

import { auxiliaryValue } from '../../linux/proc.ts';
import { readMemory } from '../../linux/process-memory.ts';
import {
  ALL_SIGNALS,
  Call,
  readCall,
  readSignalMask,
  resumeToCall,
  SYSCALL_STOP,
  sendSignal,
  TraceEvent,
  waited,
  waitFor,
  writeSignalMask,
} from '../../linux/ptrace.ts';
import {
  createRegisters,
  type MachineCalls,
  machineCalls,
  type Registers,
  type SavedRegisters,
} from '../../linux/registers.ts';
import type { Pid } from './backend.ts';

const AT_SYSINFO_EHDR = 33;
const VDSO_BYTES = 8192;
const SIGSTOP = 19;

/** The process ended while calls were being injected; the wait status has been taken. */
export class TraceeEnded extends Error {
  readonly pid: Pid;
  readonly code: number;
  readonly signal: number;

  constructor(pid: Pid) {
    super(`process ${pid} ended`);
    this.pid = pid;
    this.code = waited.code;
    this.signal = waited.signal;
  }
}

export class Injector {
  readonly registers: Registers = createRegisters();
  readonly machine: MachineCalls = machineCalls();
  readonly numbers: Readonly<Record<string, number>>;
  readonly #work: Registers = createRegisters();
  // Offset of the instruction in the vDSO, which is the same for all processes; only its address differs.
  #offset = -1;
  readonly #kept: number[] = [];

  constructor() {
    this.numbers = this.machine.numbers;
  }

  /** Address of an instruction that makes a system call in a process: in the vDSO, which no program unmaps. 0: none. */
  findInstruction(pid: Pid): number {
    const base = auxiliaryValue(pid, AT_SYSINFO_EHDR);
    if (base === 0) return 0;
    if (this.#offset < 0) {
      const image = readMemory(pid, base, VDSO_BYTES);
      const code = this.machine.instruction;
      for (let at = 0x400; at + code.length <= image.length; at++) {
        if (code.every((byte, i) => image[at + i] === byte)) {
          this.#offset = at;
          break;
        }
      }
      if (this.#offset < 0) return 0;
    }
    return base + this.#offset;
  }

  /** One call by a process that stands between user code and kernel; its registers are changed and not put back. */
  call(pid: Pid, instruction: number, name: string, args: readonly number[]): number {
    const number = this.numbers[name]!;
    const work = this.#work;
    this.#check(pid, work.read(pid));
    work.prepareCall(instruction, number, args);
    this.#check(pid, work.write(pid));
    let entered = false;
    for (;;) {
      this.step(pid);
      if (waited.signal !== SYSCALL_STOP || waited.event !== TraceEvent.NONE) continue;
      const where = readCall(pid);
      if (where === Call.ENTRY) entered = true;
      else if (where === Call.EXIT && entered) break;
    }
    this.#check(pid, work.read(pid));
    return work.result;
  }

  /** Goes on to the process's next stop. Signals met on the way are kept for `unblockSignals`. */
  step(pid: Pid): void {
    this.#check(pid, resumeToCall(pid));
    if (waitFor(pid) !== pid || waited.ended) throw new TraceeEnded(pid);
    // All signals that can be blocked are: this is SIGSTOP, and it must wait.
    if (waited.event === TraceEvent.NONE && waited.signal !== SYSCALL_STOP) {
      if (waited.signal !== SIGSTOP) throw new Error(`process ${pid} got signal ${waited.signal} in an injected call`);
      this.#kept.push(waited.signal);
    }
  }

  /**
   * From the entry of a call to its end without making it. Gives the registers as they were at the entry, from which
   * `repeatCall` makes the call again.
   */
  cancel(pid: Pid): SavedRegisters {
    const { registers } = this;
    this.#check(pid, registers.read(pid));
    const saved = registers.save();
    registers.cancelCall();
    this.#check(pid, registers.write(pid));
    this.finishCall(pid);
    return saved;
  }

  /** From inside a call (at an event of it) to its end. */
  finishCall(pid: Pid): void {
    do this.step(pid);
    while (waited.signal !== SYSCALL_STOP || waited.event !== TraceEvent.NONE);
  }

  /** Blocks all signals and gives the mask to put back. */
  blockSignals(pid: Pid): [number, number] {
    const mask = readSignalMask(pid);
    writeSignalMask(pid, ALL_SIGNALS);
    return mask;
  }

  unblockSignals(pid: Pid, mask: readonly [number, number]): void {
    writeSignalMask(pid, mask);
    for (const signal of this.#kept.splice(0)) sendSignal(pid, signal);
  }

  #check(pid: Pid, result: number): void {
    if (result >= 0) return;
    // Killed from outside, its end is on the way.
    if (waitFor(pid) !== pid) throw new Error(`lost process ${pid}: errno ${-result}`);
    if (!waited.ended) throw new Error(`process ${pid} is not where it should be: errno ${-result}`);
    throw new TraceeEnded(pid);
  }
}
