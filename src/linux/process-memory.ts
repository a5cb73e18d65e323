/**
 * Reads and writes the memory of another process (process_vm_readv(2)), within what ptrace(2) permits.
 * It touches that memory only; buffers of this side lie in mapped memory of its own.
 */
import { ERRNO, systemError } from '../errors.ts';
import { lastErrno, libcFunction } from './libc.ts';
import { mapArena, PAGE_BYTES } from './memory.ts';

const WINDOW_BYTES = 1 << 18;
const VECTORS = 64; // bytes: two struct iovec
const window = mapArena(WINDOW_BYTES + VECTORS, { populate: false });
const vectorIndex = WINDOW_BYTES >> 2;
const localVector = window.address + WINDOW_BYTES;
const remoteVector = localVector + 16;

type Transfer = [pid: number, local: number, locals: number, remote: number, remotes: number, flags: number];
const cReadv = libcFunction<Transfer>('process_vm_readv', ['int', 'long', 'long', 'long', 'long', 'long'], 'long');
const cWritev = libcFunction<Transfer>('process_vm_writev', ['int', 'long', 'long', 'long', 'long', 'long'], 'long');

function prepare(address: number, length: number): void {
  const { i32 } = window;
  i32[vectorIndex] = 0;
  i32[vectorIndex + 1] = window.addressHigh;
  i32[vectorIndex + 2] = length;
  i32[vectorIndex + 3] = 0;
  i32[vectorIndex + 4] = address % 2 ** 32;
  i32[vectorIndex + 5] = Math.floor(address / 2 ** 32);
  i32[vectorIndex + 6] = length;
  i32[vectorIndex + 7] = 0;
}

/** A copy of `length` bytes at `address`; shorter where the memory ends. @throws IsthmusError EFAULT, ESRCH */
export function readMemory(pid: number, address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const piece = Math.min(WINDOW_BYTES, length - at);
    prepare(address + at, piece);
    const got = cReadv(pid, localVector, 1, remoteVector, 1, 0);
    if (got === -1) {
      if (at > 0 && lastErrno() === ERRNO.EFAULT) return bytes.subarray(0, at);
      throw systemError(lastErrno(), 'process_vm_readv', `process ${pid}`);
    }
    bytes.set(window.u8.subarray(0, got), at);
    at += got;
    if (got < piece) return bytes.subarray(0, at);
  }
  return bytes;
}

/** @throws IsthmusError EFAULT where not all of it could be written, ESRCH */
export function writeMemory(pid: number, address: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const piece = Math.min(WINDOW_BYTES, bytes.length - at);
    window.u8.set(bytes.subarray(at, at + piece));
    prepare(address + at, piece);
    const got = cWritev(pid, localVector, 1, remoteVector, 1, 0);
    if (got !== piece) {
      throw systemError(got === -1 ? lastErrno() : ERRNO.EFAULT, 'process_vm_writev', `process ${pid}`);
    }
    at += got;
  }
}

const MAX_STRING_BYTES = 4096; // PATH_MAX

/** The bytes of a C string without its zero; at most PATH_MAX of them. @throws IsthmusError EFAULT */
export function readCString(pid: number, address: number): Uint8Array {
  let all = new Uint8Array(0);
  for (let at = address; all.length < MAX_STRING_BYTES; ) {
    // Not across a page: the next one may not be there.
    const piece = readMemory(pid, at, Math.min(256, PAGE_BYTES - (at % PAGE_BYTES)));
    const end = piece.indexOf(0);
    const part = end < 0 ? piece : piece.subarray(0, end);
    if (all.length === 0 && end >= 0) return part;
    const joined = new Uint8Array(all.length + part.length);
    joined.set(all);
    joined.set(part, all.length);
    all = joined;
    if (end >= 0) break;
    at += piece.length;
  }
  return all;
}
