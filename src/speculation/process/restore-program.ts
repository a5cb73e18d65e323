/**
 * Takes a process that runs another program since its checkpoint back to the old one: what exec has replaced and that is not
 * plain memory. It works by calls injected into the process and its parked copy (execve(2), prctl(2) PR_SET_MM).
 *
 * The kernel's own pages (vDSO) are moved to where the old program knows them. First they are put out of the way, since calls
 * are injected by an instruction in them, and what the old program had may lie where they are.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { type Mapping, readMappings, readProc, readProcLink, statFields, statusField } from '../../linux/proc.ts';
import { writeMemory } from '../../linux/process-memory.ts';
import type { Pid } from './backend.ts';
import { bytesOf } from './local-files.ts';

const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;
const AT_FDCWD = -100;
const O_CLOEXEC = 0o2000000;
const PR_SET_NAME = 15;
const PR_SET_MM = 35;
const PR_SET_MM_MAP = 14;
const MM_MAP_BYTES = 104;
const AUXILIARY_AT = 128;
const NO_EXECUTABLE = 0xffffffff;
const CAP_SYS_RESOURCE = 24n;
const HEADER_BYTES = 256;
const ELF_64 = '\x7fELF\x02';
const SET_ID = 0o6000;

type Inject = (name: string, ...args: number[]) => number;

let able: boolean | undefined;

/** Whether this machine lets us undo an exec at all. */
export function canUndoExec(): boolean {
  able ??= ((BigInt(`0x${statusField(process.pid, 'CapEff') ?? '0'}`) >> CAP_SYS_RESOURCE) & 1n) === 1n;
  return able;
}

/** Whether what a path leads to is a 64-bit program (or a script for one) that runs as who starts it. */
export function isPlainProgram(path: string, interpreters = 1): boolean {
  try {
    const stats = statSync(bytesOf(path), { throwIfNoEntry: false });
    if (stats === undefined) return true; // the call fails
    if (!stats.isFile() || stats.mode & SET_ID) return false;
    const header = Buffer.alloc(HEADER_BYTES);
    const fd = openSync(bytesOf(path), 'r');
    let length: number;
    try {
      length = readSync(fd, header, 0, HEADER_BYTES, 0);
    } finally {
      closeSync(fd);
    }
    const text = header.toString('latin1', 0, length);
    if (text.startsWith(ELF_64)) return true;
    const interpreter = /^#![ \t]*(\/[^ \t\n]+)/.exec(text);
    return interpreter !== null && interpreters > 0 && isPlainProgram(interpreter[1]!, interpreters - 1);
  } catch {
    return false;
  }
}

function kernelMappings(pid: Pid): Mapping[] {
  return readMappings(pid).filter(({ name }) => name === '[vdso]' || name.startsWith('[vvar'));
}

/** Moves the kernel's pages so that they begin at `base`. @returns by how much they have moved */
export function moveKernelPages(pid: Pid, base: number, inject: Inject): number {
  const mappings = kernelMappings(pid);
  if (mappings.length === 0) return 0;
  const delta = base - mappings[0]!.start;
  if (delta === 0) return 0;
  // The one with the instruction goes last: until then it is where it was, and after it we inject no more.
  mappings.sort((a, b) => Number(a.name === '[vdso]') - Number(b.name === '[vdso]'));
  for (const { start, end } of mappings) {
    const length = end - start;
    const got = inject('mremap', start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, start + delta);
    if (got !== start + delta) throw new Error(`injected mremap of the kernel's pages gave ${got}`);
  }
  return delta;
}

/** Bytes that they take, and where they begin. */
export function kernelPages(pid: Pid): { readonly base: number; readonly length: number } {
  const mappings = kernelMappings(pid);
  const base = mappings[0]?.start ?? 0;
  return { base, length: (mappings.at(-1)?.end ?? 0) - base };
}

/** The kernel's idea of where the program's parts are, its executable and its name: as the copy's. `page` is ours in the process. */
export function restoreProgram(pid: Pid, copy: Pid, page: number, inject: Inject, injectCopy: Inject): void {
  const fields = statFields(copy)!;
  // proc(5) counts from 1, and what is left begins with the third.
  const field = (number: number): bigint => BigInt(fields[number - 3]!);
  const auxiliary = Uint8Array.from(readProc(`/proc/${copy}/auxv`) ?? '', (character) => character.charCodeAt(0));
  const executable = readProcLink(`/proc/${copy}/exe`);
  let fd = -1;
  if (executable !== readProcLink(`/proc/${pid}/exe`)) {
    writeMemory(pid, page, new TextEncoder().encode(`/proc/${copy}/exe\0`));
    fd = inject('openat', AT_FDCWD, page, O_CLOEXEC, 0);
    if (fd < 0) throw new Error(`injected openat of the old program failed: errno ${-fd}`);
  }
  const map = new DataView(new ArrayBuffer(MM_MAP_BYTES));
  const brk = BigInt(injectCopy('brk', 0));
  // start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end
  const values = [field(26), field(27), field(45), field(46), field(47), brk, field(28)];
  for (const [i, value] of [...values, field(48), field(49), field(50), field(51)].entries()) {
    map.setBigUint64(8 * i, value, true);
  }
  map.setBigUint64(88, BigInt(page + AUXILIARY_AT), true);
  map.setUint32(96, auxiliary.length, true);
  map.setUint32(100, fd < 0 ? NO_EXECUTABLE : fd, true);
  writeMemory(pid, page, new Uint8Array(map.buffer));
  writeMemory(pid, page + AUXILIARY_AT, auxiliary);
  const got = inject('prctl', PR_SET_MM, PR_SET_MM_MAP, page, MM_MAP_BYTES, 0);
  if (got < 0) throw new Error(`injected prctl(PR_SET_MM_MAP) failed: errno ${-got}`);
  if (fd >= 0) inject('close', fd);
  const name = (readProc(`/proc/${copy}/comm`) ?? '').replace(/\n$/, '\0');
  writeMemory(
    pid,
    page,
    Uint8Array.from(name, (character) => character.charCodeAt(0)),
  );
  inject('prctl', PR_SET_NAME, page, 0, 0, 0);
}
