/**
 * Turns this process into another program (execvp(3)), which keeps its number, streams, namespaces and rights.
 * It touches the flags of the standard streams and the signals that Node ignores: a program expects both as a shell has them.
 */
import { libcFunction, orThrow } from './libc.ts';
import { mapArena } from './memory.ts';

const cExecvp = libcFunction<[file: number, argv: number]>('execvp', ['long', 'long']);
const cSignal = libcFunction<[signal: number, handler: number]>('signal', ['int', 'long'], 'long');
const cFcntl = libcFunction<[fd: number, command: number, argument: number]>('fcntl', ['int', 'int', 'int']);

const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const SIGPIPE = 13;
const SIG_DFL = 0;
const SIG_IGN = 1;

/** Does not return. @throws IsthmusError ENOENT, EACCES, E2BIG …: then this process goes on as it was */
export function become(command: readonly [string, ...string[]]): never {
  const encoder = new TextEncoder();
  const strings = command.map((word) => encoder.encode(`${word}\0`));
  const pointersBytes = (strings.length + 1) * 8;
  const arena = mapArena(
    strings.reduce((sum, { length }) => sum + length, pointersBytes),
    { populate: false },
  );
  const { address, u8, u32 } = arena;
  let at = pointersBytes;
  for (const [i, string] of strings.entries()) {
    u8.set(string, at);
    u32[i * 2] = (address + at) % 2 ** 32;
    u32[i * 2 + 1] = Math.floor((address + at) / 2 ** 32);
    at += string.length;
  }
  // Node ignores SIGPIPE, sets close-on-exec on the standard streams, and makes those that are pipes non-blocking.
  cSignal(SIGPIPE, SIG_DFL);
  for (const fd of [0, 1, 2]) {
    cFcntl(fd, F_SETFD, 0);
    const flags = cFcntl(fd, F_GETFL, 0);
    if (flags >= 0) cFcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }
  try {
    return orThrow(cExecvp(address + pointersBytes, address), 'execve', command[0]) as never;
  } finally {
    cSignal(SIGPIPE, SIG_IGN);
    arena.close();
  }
}
