/**
 * eventfd(2): a counter in the kernel that wakes whoever waits for its descriptor.
 * It makes, writes and reads such descriptors; a process may hand the number to its other threads.
 */
import { libcFunction, orErrno, orThrow } from './libc.ts';
import { reserveScratch, scratchAddress, scratchI32 } from './scratch.ts';

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const cEventfd = libcFunction<[initial: number, flags: number]>('eventfd', ['int', 'int']);
const cRead = libcFunction<[fd: number, buffer: number, length: number]>('read', ['int', 'long', 'long'], 'long');
const cWrite = libcFunction<[fd: number, buffer: number, length: number]>('write', ['int', 'long', 'long'], 'long');

const oneOffset = reserveScratch(64);
const oneAddress = scratchAddress + oneOffset;
scratchI32[oneOffset >> 2] = 1;
const sinkOffset = reserveScratch(64);
const sinkAddress = scratchAddress + sinkOffset;

/** A new counter at 0, non-blocking, closed on exec. */
export function createEventfd(): number {
  return orThrow(cEventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd');
}

/** Adds one: the descriptor becomes readable. 8, or −errno (−EAGAIN: the counter is full, so it is readable anyway). */
export function signalEventfd(fd: number): number {
  return orErrno(cWrite(fd, oneAddress, 8));
}

/** Takes the counter back to 0: what it was (modulo 2^31), 0 if nobody had signalled, or −errno. */
export function drainEventfd(fd: number): number {
  const got = orErrno(cRead(fd, sinkAddress, 8));
  if (got < 0) return got === -11 ? 0 : got;
  return scratchI32[sinkOffset >> 2]! & 0x7fffffff;
}
