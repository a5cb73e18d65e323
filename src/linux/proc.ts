/**
 * What /proc says about a process: mappings, descriptors, state, the call it is in (proc(5)).
 * It opens, reads and closes files of /proc by plain calls, which cost a third of node:fs's.
 */
import { libcFunction, orErrno } from './libc.ts';
import { mapArena } from './memory.ts';

const BUFFER_BYTES = 1 << 20;
const PATH_BYTES = 256;
const arena = mapArena(BUFFER_BYTES + PATH_BYTES, { populate: false });
const bufferAddress = arena.address;
const pathAddress = arena.address + BUFFER_BYTES;
const O_CLOEXEC = 0o2000000;
const O_DIRECTORY = 0o200000;

const cOpen = libcFunction<[path: number, flags: number, mode: number]>('open', ['long', 'int', 'int']);
const cRead = libcFunction<[fd: number, buffer: number, length: number]>('read', ['int', 'long', 'long'], 'long');
const cClose = libcFunction<[fd: number]>('close', ['int']);
const cReadlink = libcFunction<[path: number, buffer: number, length: number]>(
  'readlink',
  ['long', 'long', 'long'],
  'long',
);
const cGetdents = libcFunction<[number: number, fd: number, buffer: number, length: number]>(
  'syscall',
  ['long', 'long', 'long', 'long'],
  'long',
);

function setPath(path: string): void {
  const { u8 } = arena;
  const length = Math.min(path.length, PATH_BYTES - 1);
  for (let i = 0; i < length; i++) u8[BUFFER_BYTES + i] = path.charCodeAt(i);
  u8[BUFFER_BYTES + length] = 0;
}

const latin1 = new TextDecoder('latin1');

/** A file of /proc as bytes, one character each; undefined when the process is gone or it may not be read. */
export function readProc(path: string): string | undefined {
  setPath(path);
  const fd = orErrno(cOpen(pathAddress, O_CLOEXEC, 0));
  if (fd < 0) return undefined;
  let length = 0;
  while (length < BUFFER_BYTES) {
    const got = cRead(fd, bufferAddress + length, BUFFER_BYTES - length);
    if (got === -1) {
      cClose(fd);
      return undefined;
    }
    if (got === 0) break;
    length += got;
  }
  cClose(fd);
  return latin1.decode(arena.u8.subarray(0, length));
}

/** Where a link of /proc points (fd, cwd, exe), as bytes, one character each; undefined if there is none. */
export function readProcLink(path: string): string | undefined {
  setPath(path);
  const length = cReadlink(pathAddress, bufferAddress, 4096);
  return length < 0 ? undefined : latin1.decode(arena.u8.subarray(0, length));
}

/** Descriptors that a process has open, ascending; empty when it is gone. */
export function listDescriptors(pid: number, getdents64: number): number[] {
  setPath(`/proc/${pid}/fd`);
  const fd = orErrno(cOpen(pathAddress, O_CLOEXEC | O_DIRECTORY, 0));
  if (fd < 0) return [];
  const numbers: number[] = [];
  for (;;) {
    const got = cGetdents(getdents64, fd, bufferAddress, BUFFER_BYTES);
    if (got <= 0) break;
    for (let at = 0; at < got; ) {
      const length = arena.u16[(at + 16) >> 1]!;
      let value = 0;
      let digits = false;
      for (let k = at + 19; arena.u8[k] !== 0; k++) {
        digits = arena.u8[k]! >= 48 && arena.u8[k]! <= 57;
        if (!digits) break;
        value = value * 10 + arena.u8[k]! - 48;
      }
      if (digits) numbers.push(value);
      at += length;
    }
  }
  cClose(fd);
  return numbers.sort((a, b) => a - b);
}

/** Offset, open flags (octal in /proc; O_CLOEXEC among them) of a descriptor, and which file it is. */
export interface DescriptorInfo {
  readonly position: number;
  readonly flags: number;
  /** The same for the same file, whatever it is called now; empty where the kernel (before 5.14) does not tell. */
  readonly file: string;
}

export function descriptorInfo(pid: number, fd: number): DescriptorInfo | undefined {
  const text = readProc(`/proc/${pid}/fdinfo/${fd}`);
  if (text === undefined) return undefined;
  const position = /^pos:\s*(\d+)/.exec(text);
  const flags = /^flags:\s*([0-7]+)/m.exec(text);
  if (!position || !flags) return undefined;
  const file = /^mnt_id:\s*(\d+)\nino:\s*(\d+)/m.exec(text);
  return {
    position: Number(position[1]),
    flags: Number.parseInt(flags[1]!, 8),
    file: file ? `${file[1]}:${file[2]}` : '',
  };
}

export interface Mapping {
  readonly start: number;
  readonly end: number;
  /** As shown, e.g. `rw-p`. */
  readonly permissions: string;
  readonly offset: number;
  readonly device: string;
  readonly inode: number;
  readonly name: string;
}

const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)$/;

/** A process's mappings, ascending. */
export function readMappings(pid: number): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of (readProc(`/proc/${pid}/maps`) ?? '').split('\n')) {
    const match = MAPPING.exec(line);
    if (!match) continue;
    mappings.push({
      start: Number.parseInt(match[1]!, 16),
      end: Number.parseInt(match[2]!, 16),
      permissions: match[3]!,
      offset: Number.parseInt(match[4]!, 16),
      device: match[5]!,
      inode: Number(match[6]),
      name: match[7]!,
    });
  }
  return mappings;
}

const cPread = libcFunction<[fd: number, buffer: number, length: number, offset: number]>(
  'pread64',
  ['int', 'long', 'long', 'long'],
  'long',
);

/**
 * The page map of a range of memory (/proc/PID/pagemap): two words a page, low first. In the high word bit 31 says
 * present, bit 30 swapped; the frame number (low word and 23 bits) is 0 without CAP_SYS_ADMIN.
 */
export function readPageMap(pid: number, start: number, pages: number): Uint32Array {
  const map = new Uint32Array(pages * 2);
  setPath(`/proc/${pid}/pagemap`);
  const fd = orErrno(cOpen(pathAddress, O_CLOEXEC, 0));
  if (fd < 0) return map;
  for (let at = 0; at < pages; ) {
    const want = Math.min((pages - at) * 8, BUFFER_BYTES);
    const got = cPread(fd, bufferAddress, want, (start / 4096 + at) * 8);
    if (got <= 0) break;
    map.set(arena.u32.subarray(0, got >> 2), at * 2);
    at += got >> 3;
  }
  cClose(fd);
  return map;
}

/** A field of /proc/PID/status, e.g. `PPid`, `Umask`, `SigCgt`. */
export function statusField(pid: number, field: string): string | undefined {
  const text = readProc(`/proc/${pid}/status`);
  if (text === undefined) return undefined;
  const at = text.startsWith(`${field}:`) ? 0 : text.indexOf(`\n${field}:`) + 1;
  if (at === 0 && !text.startsWith(`${field}:`)) return undefined;
  return text.slice(at + field.length + 1, text.indexOf('\n', at)).trim();
}

/** Fields of /proc/PID/stat from the state on: [state, ppid, pgrp, session, …]. */
export function statFields(pid: number): string[] | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The call that a blocked process is in: number and arguments; number −1: it is in none, −2: it is running. */
export function currentCall(pid: number): { number: number; args: number[] } | undefined {
  const text = readProc(`/proc/${pid}/syscall`);
  if (text === undefined) return undefined;
  if (text.startsWith('running')) return { number: -2, args: [] };
  const fields = text.split(' ');
  return { number: Number(fields[0]), args: fields.slice(1, 7).map(Number) };
}

/** Value of an entry of the auxiliary vector, e.g. AT_SYSINFO_EHDR (33): where the vDSO lies. 0 if there is none. */
export function auxiliaryValue(pid: number, type: number): number {
  const text = readProc(`/proc/${pid}/auxv`);
  if (text === undefined) return 0;
  for (let at = 0; at + 16 <= text.length; at += 16) {
    if (word(text, at) === type) return word(text, at + 8);
  }
  return 0;
}

function word(text: string, at: number): number {
  let value = 0;
  for (let i = 7; i >= 0; i--) value = value * 256 + text.charCodeAt(at + i);
  return value;
}
