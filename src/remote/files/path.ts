/**
 * Paths of a remote tree as raw components. Pure.
 * A path is text (taken as UTF-8) or bytes; `/` is the root of the export, and a path without a leading `/` begins there too.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import type { Name } from '../server.ts';

export type Path = string | Uint8Array;

/** Longer paths are ENAMETOOLONG, as in Linux. */
const PATH_MAX = 4096;
const SLASH = 0x2f;
const DOT = 0x2e;

export interface ParsedPath {
  /** Neither empty nor `.`; `..` may be among them. */
  readonly components: Name[];
  readonly absolute: boolean;
  /** A final slash (or `/.`): what it names must be a directory. */
  readonly directory: boolean;
}

/** Splits a path. Throws ENOENT for an empty one, ENAMETOOLONG above 4095 bytes, a TypeError for one with a NUL byte. */
export function parsePath(path: Path, syscall: string): ParsedPath {
  const bytes = typeof path === 'string' ? Buffer.from(path, 'utf8') : Buffer.from(path);
  if (bytes.length === 0) throw systemError(ERRNO.ENOENT, syscall, "''");
  if (bytes.length >= PATH_MAX) throw systemError(ERRNO.ENAMETOOLONG, syscall);
  if (bytes.includes(0)) throw new TypeError('a path cannot hold a NUL byte');
  const components: Name[] = [];
  let from = 0;
  let directory = false;
  for (let at = 0; at <= bytes.length; at++) {
    if (at < bytes.length && bytes[at] !== SLASH) continue;
    const isDot = at - from === 1 && bytes[from] === DOT;
    directory = at === from || isDot;
    if (!directory) components.push(bytes.subarray(from, at));
    from = at + 1;
  }
  return { components, absolute: bytes[0] === SLASH, directory: directory || isDotDot(components.at(-1)) };
}

export function isDotDot(name: Name | undefined): boolean {
  return name !== undefined && name.length === 2 && name[0] === DOT && name[1] === DOT;
}

/** An absolute path of these components. */
export function pathOf(components: readonly Name[]): Buffer {
  return Buffer.concat(components.flatMap((name) => [Buffer.from('/'), name]));
}

function pathText(path: Path): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString('utf8');
}

/** `parent/name`, as text if both are. */
export function joinPath(parent: Path, name: string | Buffer): Path {
  if (typeof parent === 'string' && typeof name === 'string')
    return parent.endsWith('/') ? parent + name : `${parent}/${name}`;
  const slash = Buffer.from('/');
  return Buffer.concat([Buffer.from(parent as Uint8Array), slash, Buffer.from(name as Buffer)]);
}

/** A failed call of the library: as Node's file system errors, `path` (and `dest`) are what was asked for. */
export class FileError extends IsthmusError {
  readonly path: string | undefined;
  readonly dest: string | undefined;

  constructor(error: IsthmusError, syscall: string, path: string | undefined, dest: string | undefined) {
    const [, words = error.message] = /^[A-Z_0-9]+: ([^,]*)/.exec(error.message) ?? [];
    const about = path === undefined ? '' : ` '${path}'${dest === undefined ? '' : ` -> '${dest}'`}`;
    const details = { code: error.code, errno: error.errno, syscall, cause: error };
    super(`${error.code}: ${words}, ${syscall}${about}`, details);
    this.name = 'FileError';
    this.path = path;
    this.dest = dest;
  }
}

/** Runs a call of the library; the world's errors get its name and paths. */
export async function asFileCall<T>(
  syscall: string,
  path: Path | undefined,
  dest: Path | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof IsthmusError) || error instanceof FileError) throw error;
    const text = (value: Path | undefined) => (value === undefined ? undefined : pathText(value));
    throw new FileError(error, syscall, text(path), text(dest));
  }
}
