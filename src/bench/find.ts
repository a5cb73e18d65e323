/**
 * Where the programs that a comparison needs are on this machine, if they are.
 * It touches the file system only.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../cli/version.ts';

/** A program on the PATH, or null. */
export function findProgram(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, name);
    if (folder !== '' && isExecutable(file)) return file;
  }
  return null;
}

/**
 * The real bun: the package's own file is a stub of a few bytes until its postinstall has run, and the platform packages
 * hold the program otherwise.
 */
export function findBun(): string | null {
  const modules = join(packageRoot(), 'node_modules');
  const arch = process.arch === 'arm64' ? 'aarch64' : process.arch;
  const platforms = ['', '-baseline', '-musl', '-musl-baseline'].map(
    (suffix) => `@oven/bun-linux-${arch}${suffix}/bin/bun`,
  );
  for (const file of [...platforms, 'bun/bin/bun.exe'].map((path) => join(modules, path))) {
    if (isExecutable(file) && statSync(file).size > 1 << 20) return file;
  }
  return findProgram('bun');
}

/** A program file of this package, given relative to this folder without its extension: `./peers/net-echo`. */
export function ownProgram(path: string): string {
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  return fileURLToPath(new URL(path + extension, import.meta.url));
}

/** The command line that starts `isthmus` with these arguments. */
export function isthmusCommand(...args: string[]): string[] {
  return [process.execPath, ownProgram('../cli/main'), ...args];
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
