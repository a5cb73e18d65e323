/**
 * Registers of x86-64 (struct user_regs_struct).
 * It reads and writes the general register set of stopped processes by ptrace.
 */
import { readRegisterSet, writeRegisterSet } from './ptrace.ts';
import type { Registers, SavedRegisters } from './registers.ts';
import { reserveScratch, scratchAddress, scratchI32, scratchU32 } from './scratch.ts';

const NT_PRSTATUS = 1;
const BYTES = 27 * 8;
const WORDS = BYTES / 4;
const USER_CODE_64 = 0x33;

/** Word index of each register used. */
const Register = {
  rip: 32,
  rax: 20,
  originalRax: 30,
  cs: 34,
  rsp: 38,
  rdi: 28,
  rsi: 26,
  rdx: 24,
  r10: 14,
  r8: 18,
  r9: 16,
} as const;
const ARGUMENTS = [Register.rdi, Register.rsi, Register.rdx, Register.r10, Register.r8, Register.r9];
const INSTRUCTION_BYTES = 2;

export function createX86Registers(): Registers {
  const offset = reserveScratch(BYTES);
  const address = scratchAddress + offset;
  const base = offset >> 2;

  const get = (register: number): number => scratchI32[base + register + 1]! * 2 ** 32 + scratchU32[base + register]!;
  const set = (register: number, value: number): void => {
    scratchU32[base + register] = value % 2 ** 32; // modulo 2^32 once more by the array, also of negative numbers
    scratchI32[base + register + 1] = Math.floor(value / 2 ** 32);
  };

  return {
    read: (pid) => {
      const got = readRegisterSet(pid, NT_PRSTATUS, address, BYTES);
      return got < 0 ? got : 0;
    },
    write: (pid) => writeRegisterSet(pid, NT_PRSTATUS, address, BYTES),
    save: () => scratchU32.slice(base, base + WORDS),
    load: (saved: SavedRegisters) => scratchU32.set(saved, base),
    get call() {
      return scratchI32[base + Register.originalRax]!;
    },
    get result() {
      return get(Register.rax);
    },
    set result(value: number) {
      set(Register.rax, value);
    },
    get stackPointer() {
      return get(Register.rsp);
    },
    get narrow() {
      return scratchU32[base + Register.cs] !== USER_CODE_64;
    },
    argument: (i) => get(ARGUMENTS[i]!),
    cancelCall: () => set(Register.originalRax, -1),
    prepareCall: (instruction, number, args) => {
      set(Register.rip, instruction);
      set(Register.rax, number);
      set(Register.originalRax, -1);
      for (let i = 0; i < args.length; i++) set(ARGUMENTS[i]!, args[i]!);
    },
    repeatCall: () => {
      set(Register.rip, get(Register.rip) - INSTRUCTION_BYTES);
      set(Register.rax, scratchI32[base + Register.originalRax]!);
      set(Register.originalRax, -1);
    },
    leaveCall: () => set(Register.originalRax, -1),
  };
}
