/**
 * The other process of a check: locks and mappings, which node:fs has not. Calls libc through src/linux.
 * It touches the file it is told, and standard output.
 *
 *     helper.js lock FILE r|w FROM LENGTH     takes a lock or says EAGAIN, and holds it until standard input ends
 *     helper.js test FILE r|w FROM LENGTH     says who is in the way
 *     helper.js map FILE                      a number of things about mmap, each of which must hold
 *     helper.js fault FILE                    reads a mapped page beyond the end of the file: dies of SIGBUS
 */
import assert from 'node:assert/strict';
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { errnoName } from '../../../src/errors.ts';
import { lastErrno, libcFunction, viewMemory } from '../../../src/linux/libc.ts';
import { mapArena, PAGE_BYTES } from '../../../src/linux/memory.ts';

const F_GETLK = 5;
const F_SETLK = 6;
const LOCK = { r: 0, w: 1, none: 2 } as const;
const PROT_READ_WRITE = 3;
const MAP = { shared: 1, private: 2 } as const;
const MS_SYNC = 4;

const fcntl = libcFunction<[fd: number, command: number, lock: number]>('fcntl', ['int', 'int', 'long']);
const mmap = libcFunction<[address: number, length: number, protection: number, flags: number, fd: number, at: number]>(
  'mmap',
  ['long', 'long', 'int', 'int', 'int', 'long'],
  'long',
);
const msync = libcFunction<[address: number, length: number, flags: number]>('msync', ['long', 'long', 'int']);
const munmap = libcFunction<[address: number, length: number]>('munmap', ['long', 'long']);

/** `struct flock` of x86-64 and arm64: type, whence, start, length, pid. */
const memory = mapArena(PAGE_BYTES);
const view = new DataView(memory.buffer);

function flock(
  fd: number,
  command: number,
  type: number,
  from: number,
  length: number,
): { type: number; pid: number } | string {
  view.setInt16(0, type, true);
  view.setInt16(2, 0, true);
  view.setBigInt64(8, BigInt(from), true);
  view.setBigInt64(16, BigInt(length), true);
  view.setInt32(24, 0, true);
  if (fcntl(fd, command, memory.address) === -1) return errnoName(lastErrno());
  return { type: view.getInt16(0, true), pid: view.getInt32(24, true) };
}

function map(fd: number, flags: number, length = PAGE_BYTES): { address: number; bytes: Uint8Array } {
  const address = mmap(0, length, PROT_READ_WRITE, flags, fd, 0);
  if (address === -1) throw new Error(`mmap: ${errnoName(lastErrno())}`);
  return { address, bytes: new Uint8Array(viewMemory(address, length)) };
}

const text = (bytes: Uint8Array, length: number) => Buffer.from(bytes.subarray(0, length)).toString('latin1');

function mapFile(path: string): void {
  const fd = openSync(path, 'r+');
  const read = (length: number) => {
    const buffer = Buffer.alloc(length);
    return buffer.toString('latin1', 0, readSync(fd, buffer, 0, length, 0));
  };
  const own = map(fd, MAP.private);
  assert.equal(text(own.bytes, 5), 'hello', 'a mapping shows the file');
  own.bytes[0] = 74;
  assert.equal(read(5), 'hello', 'a private mapping keeps its changes');

  const shared = map(fd, MAP.shared);
  writeSync(fd, 'H', 0, 'latin1');
  assert.equal(text(shared.bytes, 5), 'Hello', 'a shared mapping shows a write');
  shared.bytes.set(Buffer.from('world'));
  assert.equal(read(5), 'world', 'read shows what was written to a shared mapping');
  assert.equal(msync(shared.address, PAGE_BYTES, MS_SYNC), 0);
  assert.equal(shared.bytes[100], 0, 'beyond the end of the file, within the page, are zeros');
  ftruncateSync(fd, 3);
  assert.equal(read(5), 'wor');
  munmap(shared.address, PAGE_BYTES);
  munmap(own.address, PAGE_BYTES);
  fsyncSync(fd);

  const late = map(fd, MAP.shared);
  closeSync(fd);
  late.bytes[0] = 87;
  assert.equal(msync(late.address, PAGE_BYTES, MS_SYNC), 0, 'a mapping outlives its descriptor');
  munmap(late.address, PAGE_BYTES);
  console.log('mapped');
}

const [action, path, kind, from, length] = process.argv.slice(2) as [string, string, 'r' | 'w', string, string];
switch (action) {
  case 'lock': {
    const fd = openSync(path, 'r+');
    const result = flock(fd, F_SETLK, LOCK[kind], Number(from), Number(length));
    console.log(typeof result === 'string' ? result : 'locked');
    if (typeof result !== 'string') process.stdin.resume();
    break;
  }
  case 'test': {
    const result = flock(openSync(path, 'r+'), F_GETLK, LOCK[kind], Number(from), Number(length));
    console.log(typeof result === 'string' ? result : result.type === LOCK.none ? 'free' : `held by ${result.pid}`);
    break;
  }
  case 'map':
    mapFile(path);
    break;
  case 'fault': {
    const { bytes } = map(openSync(path, 'r+'), MAP.shared, 2 * PAGE_BYTES);
    console.log(bytes[PAGE_BYTES]);
    break;
  }
  default:
    throw new Error(`no such action: ${action}`);
}
