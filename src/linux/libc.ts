/**
 * The door to native code: declares functions of the C library as plain functions over numbers, and reads `errno`.
 * The only file that may import koffi; it keeps no state but the loaded library.
 */
import koffi from 'koffi';
import { systemError } from '../errors.ts';

/**
 * How a parameter or a result is passed. `int` is C's int; `long` is 64 bits and also carries pointers and sizes,
 * as plain numbers (user space ends at 2^47, so they are exact and no pointer object is made per call).
 */
export type CType = 'int' | 'long';

/** A C function over numbers. Failures come back as in C: negative one, with `errno` set. */
export type CFunction<Arguments extends number[]> = (...args: Arguments) => number;

const library = loadLibrary();

function loadLibrary(): ReturnType<typeof koffi.load> {
  try {
    return koffi.load('libc.so.6');
  } catch {
    return koffi.load(null); // musl has another file name, but its symbols are in the running program
  }
}

/**
 * Declares one function of libc, e.g. `libcFunction<[fd: number]>('close', ['int'])`.
 * Structures are not declared: a pointer parameter is a `long`, and what it points at lies in mapped memory (scratch.ts).
 */
export function libcFunction<Arguments extends number[]>(
  name: string,
  parameters: readonly CType[],
  result: CType = 'int',
): CFunction<Arguments> {
  return library.func(name, typeName(result), parameters.map(typeName)) as CFunction<Arguments>;
}

/** True if this libc has the function. */
export function hasLibcFunction(name: string): boolean {
  try {
    library.symbol(name);
    return true;
  } catch {
    return false;
  }
}

function typeName(type: CType): string {
  return type === 'long' ? 'int64_t' : 'int';
}

// errno is a word in this thread's own storage. Reading it as memory costs 1 ns (koffi.errno() 18 ns) and, since
// nothing runs between the call's return and the load, the collector cannot have made a system call in between.
const errnoWord = new Int32Array(
  koffi.view(BigInt(libcFunction<[]>('__errno_location', [], 'long')()), Int32Array.BYTES_PER_ELEMENT),
);

/** The calling thread's errno, as the last failed call left it. */
export function lastErrno(): number {
  return errnoWord[0]!;
}

/** Turns C's −1 into −errno and passes every other result on. Hot: no throw, no allocation. */
export function orErrno(result: number): number {
  return result === -1 ? -errnoWord[0]! : result;
}

/** For set-up code: throws the system error of a failed call, else passes the result on. Takes C results (−1). */
export function orThrow(result: number, syscall: string, about?: string, hint?: string): number {
  if (result === -1) throw systemError(errnoWord[0]!, syscall, about, hint);
  return result;
}

/**
 * An ArrayBuffer over `byteLength` bytes at `address`; nothing is copied or owned.
 * The caller answers for the memory staying mapped for as long as any view of it can live (memory.ts does).
 */
export function viewMemory(address: number, byteLength: number): ArrayBuffer {
  return koffi.view(BigInt(address), byteLength);
}

/** `close(2)`: 0 or −errno. The descriptor is gone even if an error is reported. */
export function close(fd: number): number {
  return orErrno(cClose(fd));
}
const cClose = libcFunction<[fd: number]>('close', ['int']);
