/**
 * Memory files that two processes map and neither can shrink under the other (memfd_create(2), F_SEAL_SHRINK).
 * It makes such files and asks whether a descriptor is one; a page cut off under a mapping would be a SIGBUS.
 */
import { fstatSync } from 'node:fs';
import { ERRNO, systemError } from '../errors.ts';
import { close, libcFunction, orThrow } from './libc.ts';
import { pages } from './memory.ts';
import { reserveScratch, writeCString } from './scratch.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;

const cMemfdCreate = libcFunction<[name: number, flags: number]>('memfd_create', ['long', 'int']);
const cFtruncate = libcFunction<[fd: number, length: number]>('ftruncate', ['int', 'long']);
const cFcntl = libcFunction<[fd: number, command: number, argument: number]>('fcntl', ['int', 'int', 'int']);
const nameOffset = reserveScratch(64);

/** A memory file of `bytes` (rounded up to pages), whose size nobody can change any more. Its pages come as they are used. */
export function createSealedMemory(bytes: number): number {
  const fd = orThrow(
    cMemfdCreate(writeCString(nameOffset, 64, 'isthmus'), MFD_CLOEXEC | MFD_ALLOW_SEALING),
    'memfd_create',
  );
  try {
    orThrow(cFtruncate(fd, pages(bytes)), 'ftruncate', `${bytes} bytes`);
    orThrow(cFcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 'fcntl', 'F_ADD_SEALS');
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

/**
 * Checks a descriptor that came from somebody else before it is mapped.
 * @throws IsthmusError EINVAL where it is no memory file, can shrink, or is smaller than `bytes`
 */
export function requireSealedMemory(fd: number, bytes: number): void {
  const seals = orThrow(cFcntl(fd, F_GET_SEALS, 0), 'fcntl', 'F_GET_SEALS', 'no memory file');
  const { size } = fstatSync(fd);
  if ((seals & F_SEAL_SHRINK) === 0 || size < bytes) {
    throw systemError(ERRNO.EINVAL, 'mmap', `a memory file of ${size} bytes`, `seals ${seals}, ${bytes} bytes needed`);
  }
}
