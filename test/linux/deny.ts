/** For tests: makes system calls fail in this thread (seccomp(2)), as a container's profile does. For child processes only. */
import { libcFunction, orThrow } from '../../src/linux/libc.ts';
import {
  reserveScratch,
  scratchAddress,
  scratchHigh,
  scratchI32,
  scratchU8,
  scratchU16,
} from '../../src/linux/scratch.ts';

const PR_SET_SECCOMP = 22;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2;
const LOAD_NUMBER = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;

/** From now on the calls with these numbers fail with `errno` in this thread and those it starts. There is no way back. */
export function denySystemCalls(numbers: readonly number[], errno: number): void {
  const prctl = libcFunction<[option: number, a: number, b: number, c: number, d: number]>('prctl', [
    'int',
    'long',
    'long',
    'long',
    'long',
  ]);
  const program = reserveScratch(512);
  let at = program;
  const instruction = (code: number, jumpTrue: number, k: number): void => {
    scratchU16[at >> 1] = code;
    scratchU8[at + 2] = jumpTrue;
    scratchU8[at + 3] = 0;
    scratchI32[(at >> 2) + 1] = k;
    at += 8;
  };
  instruction(LOAD_NUMBER, 0, 0);
  for (const [i, number] of numbers.entries()) instruction(JUMP_IF_EQUAL, numbers.length - i, number);
  instruction(RETURN, 0, ALLOW);
  instruction(RETURN, 0, ERRNO | errno);
  const header = reserveScratch(16);
  scratchU16[header >> 1] = (at - program) / 8;
  scratchI32[(header >> 2) + 2] = program;
  scratchI32[(header >> 2) + 3] = scratchHigh;
  orThrow(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'prctl');
  orThrow(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, scratchAddress + header, 0, 0), 'prctl');
}
