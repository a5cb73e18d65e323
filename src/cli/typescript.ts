/**
 * Imports a program that somebody wrote, in JavaScript or TypeScript.
 * It touches the module loader of the thread it is called in.
 */
import { stat } from 'node:fs/promises';
import module from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import { resolve as resolveHook } from './module-hooks.ts';

/**
 * The module at `path`. TypeScript goes through tsx, without any tsconfig: types are taken away and nothing else changes.
 * @throws IsthmusError ENOENT, EISDIR, ERR_PROGRAM_SYNTAX; whatever the module itself throws
 */
export async function importProgram(path: string): Promise<Record<string, unknown>> {
  const file = resolve(path);
  let kind: Awaited<ReturnType<typeof stat>>;
  try {
    kind = await stat(file);
  } catch (error) {
    const { errno = -ERRNO.ENOENT } = error as NodeJS.ErrnoException;
    throw systemError(errno, 'open', path);
  }
  if (kind.isDirectory()) throw systemError(ERRNO.EISDIR, 'read', path, 'a directory is no program');
  if (!kind.isFile()) throw systemError(ERRNO.EINVAL, 'read', path, 'it is no regular file');
  await registerHooks(/\.[cm]?tsx?$/.test(file));
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    const { name, message } = error as Error;
    // esbuild's: the message has file, line and column; the stack is esbuild's own.
    if (name === 'TransformError' || message?.startsWith('Transform failed')) {
      throw new IsthmusError(message, { code: 'ERR_PROGRAM_SYNTAX', cause: error });
    }
    throw error;
  }
}

let typescript = false;
let hooks = false;

/** For the whole thread, so that the program and we share one copy of every module. Ours come last: they are asked first. */
async function registerHooks(forTypeScript: boolean): Promise<void> {
  if (forTypeScript && !typescript) {
    typescript = true;
    const tsx = await import('tsx/esm/api');
    tsx.register({ tsconfig: false });
  }
  if (hooks) return;
  hooks = true;
  const { registerHooks } = module as { registerHooks?: (hooks: { resolve: typeof resolveHook }) => void };
  if (registerHooks !== undefined) registerHooks({ resolve: resolveHook });
  else module.register(new URL(`./module-hooks${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));
}

/** A program's entry: its default export. @throws IsthmusError where it has none */
export function entryOf(program: Record<string, unknown>, path: string): (...args: unknown[]) => unknown {
  let entry = program['default'];
  // A CommonJS module's exports arrive as one default export, with the real one inside.
  if (typeof entry === 'object' && entry !== null) entry = (entry as Record<string, unknown>)['default'];
  if (typeof entry === 'function') return entry as (...args: unknown[]) => unknown;
  throw new IsthmusError(`${path} has no default export that is a function: export default function* main(k) { … }`, {
    code: 'ERR_NO_MAIN',
  });
}
