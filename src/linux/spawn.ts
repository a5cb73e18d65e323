/**
 * Starts a program stopped before its first instruction of its own, for a tracer (posix_spawn(3) and a shell that stops
 * itself): no native code of ours runs between fork and exec. It starts one process and waits for its first stop.
 */
import { ERRNO, systemError } from '../errors.ts';
import { libcFunction } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { sendSignal, WALL, WUNTRACED, waited, waitFor } from './ptrace.ts';

const cSpawn = libcFunction<
  [pid: number, path: number, actions: number, attributes: number, argv: number, envp: number]
>('posix_spawn', ['long', 'long', 'long', 'long', 'long', 'long']);
const cActionsInit = libcFunction<[actions: number]>('posix_spawn_file_actions_init', ['long']);
const cActionsDestroy = libcFunction<[actions: number]>('posix_spawn_file_actions_destroy', ['long']);
const cActionsDup2 = libcFunction<[actions: number, from: number, to: number]>('posix_spawn_file_actions_adddup2', [
  'long',
  'int',
  'int',
]);
const cActionsClose = libcFunction<[actions: number, fd: number]>('posix_spawn_file_actions_addclose', ['long', 'int']);
const cAttributesInit = libcFunction<[attributes: number]>('posix_spawnattr_init', ['long']);
const cSetFlags = libcFunction<[attributes: number, flags: number]>('posix_spawnattr_setflags', ['long', 'int']);
const cSetDefault = libcFunction<[attributes: number, set: number]>('posix_spawnattr_setsigdefault', ['long', 'long']);
const cSetMask = libcFunction<[attributes: number, set: number]>('posix_spawnattr_setsigmask', ['long', 'long']);

const SETSIGDEF = 4;
const SETSIGMASK = 8;
const SIGSET_BYTES = 128;
const SIGKILL = 9;

export interface SpawnOptions {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Descriptors of this process that become 0, 1 and 2. */
  readonly stdio: readonly [number, number, number];
}

/**
 * The program's process: a shell that has stopped itself (SIGSTOP) and will turn into the program when continued.
 * Signals are as in a fresh process: none ignored (Node ignores SIGPIPE), none blocked. It is in our working directory: a
 * child that went elsewhere before its exec would hold all our descriptors meanwhile, and a mount of ours that it waits for
 * could not end with us.
 * @throws IsthmusError ENOENT, E2BIG, …
 */
export function spawnStopped(options: SpawnOptions): number {
  const { PWD } = options.env;
  // A shell sets PWD to where it is itself.
  const script = `kill -STOP $$; ${PWD === undefined ? '' : 'PWD=$0; '}exec "$@"`;
  const argv = ['sh', '-c', script, PWD ?? 'sh', ...options.command];
  const envp: string[] = [];
  for (const [name, value] of Object.entries(options.env)) if (value !== undefined) envp.push(`${name}=${value}`);
  const encoder = new TextEncoder();
  const strings = [...argv, ...envp, '/bin/sh'].map((text) => encoder.encode(`${text}\0`));
  const pointers = (argv.length + 1 + envp.length + 1) * 8;
  let bytes = 2048 + pointers;
  for (const string of strings) bytes += string.length;
  const arena = mapArena(bytes, { populate: false });
  try {
    return spawn(arena, strings, argv.length, envp.length, options);
  } finally {
    arena.close();
  }
}

function spawn(arena: MappedMemory, strings: Uint8Array[], args: number, envs: number, options: SpawnOptions): number {
  // 0: pid; 64: file actions; 512: attributes; 1024, 1280: signal sets; 2048: argv and envp; then the strings.
  const { address, u8, u32 } = arena;
  let at = 2048 + (args + 1 + envs + 1) * 8;
  const addresses = strings.map((string) => {
    u8.set(string, at);
    at += string.length;
    return address + at - string.length;
  });
  const pointer = (index: number, value: number): void => {
    u32[(2048 + index * 8) >> 2] = value % 2 ** 32;
    u32[((2048 + index * 8) >> 2) + 1] = Math.floor(value / 2 ** 32);
  };
  for (let i = 0; i < args; i++) pointer(i, addresses[i]!);
  for (let i = 0; i < envs; i++) pointer(args + 1 + i, addresses[args + i]!);
  const path = addresses[args + envs]!;
  const actions = address + 64;
  const attributes = address + 512;
  cActionsInit(actions);
  cAttributesInit(attributes);
  u8.fill(0xff, 1024, 1024 + SIGSET_BYTES);
  cSetDefault(attributes, address + 1024);
  cSetMask(attributes, address + 1280);
  cSetFlags(attributes, SETSIGDEF | SETSIGMASK);
  for (const [target, source] of spread(options.stdio)) {
    if (target < 0) cActionsClose(actions, source);
    else cActionsDup2(actions, source, target);
  }
  const errno = cSpawn(address, path, actions, attributes, address + 2048, address + 2048 + (args + 1) * 8);
  cActionsDestroy(actions);
  if (errno !== 0) throw systemError(errno, 'posix_spawn', '/bin/sh');
  const pid = u32[0]!;
  const got = waitFor(pid, WALL | WUNTRACED);
  if (got !== pid || waited.ended) {
    sendSignal(pid, SIGKILL);
    throw systemError(ERRNO.EIO, 'waitpid', 'the shell did not stop');
  }
  return pid;
}

// A source that is itself a target would be overwritten before its turn, so such sources are first put out of the way.
// dup2 onto itself clears close-on-exec, which Node sets on 0, 1 and 2.
function spread(stdio: readonly [number, number, number]): [target: number, source: number][] {
  const moves: [number, number][] = [];
  const parked = new Map<number, number>();
  for (let target = 0; target < 3; target++) {
    const source = stdio[target]!;
    if (source < 3 && source !== target && !parked.has(source)) {
      const place = 200 + source;
      parked.set(source, place);
      moves.push([place, source]);
    }
  }
  for (let target = 0; target < 3; target++) {
    const source = stdio[target]!;
    moves.push([target, parked.get(source) ?? source]);
  }
  for (const place of parked.values()) moves.push([-1, place]); // closed again
  return moves;
}
