/**
 * What a check of POSIX behaviour is, and what it may use: a directory of its own and a few words to say what must happen.
 * It touches the directory under test and child processes.
 */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, type Stats, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What a check can be given. */
export class Place {
  /** The check's own empty directory. */
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** A path in the directory. */
  at(...names: string[]): string {
    return join(this.dir, ...names);
  }

  /** A path whose last part is bytes. */
  atBytes(name: Uint8Array): Buffer {
    return Buffer.concat([Buffer.from(`${this.dir}/`), name]);
  }

  /** Makes a file and gives its path. */
  file(name: string, content: string | Uint8Array = '', mode = 0o644): string {
    const path = this.at(name);
    writeFileSync(path, content, { mode });
    return path;
  }

  /** Opens, lets `use` have the descriptor, closes. */
  with<T>(path: string | Buffer, flags: string | number, use: (fd: number) => T, mode = 0o644): T {
    const fd = openSync(path, flags, mode);
    try {
      return use(fd);
    } finally {
      closeSync(fd);
    }
  }

  text(path: string | Buffer): string {
    return readFileSync(path, 'utf8');
  }

  /** Runs a program; its standard output. Fails if it does. */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): string {
    const result = this.spawn(command, args, options);
    assert.equal(
      result.status,
      0,
      `${command} ${args.join(' ')}: ${result.stderr || (result.error?.message ?? result.signal)}`,
    );
    return result.stdout;
  }

  spawn(command: string, args: readonly string[] = [], options: RunOptions = {}): SpawnSyncReturns<string> {
    return spawnSync(command, args, { cwd: this.dir, encoding: 'utf8', timeout: 30_000, ...options });
  }

  /** Runs an action of helper.ts in another process. */
  helper(...args: string[]): SpawnSyncReturns<string> {
    return this.spawn(process.execPath, [HELPER, ...args]);
  }
}

export const HELPER = fileURLToPath(new URL('./helper.js', import.meta.url));

interface RunOptions {
  readonly uid?: number;
  readonly gid?: number;
  readonly input?: string;
}

export interface Check {
  readonly area: string;
  readonly name: string;
  /** What it needs besides the directory; without it the check is left out. */
  readonly needs?: 'root' | 'mknod' | 'make' | 'cc' | 'flock' | 'git' | 'tar';
  /** Why a remote file system of this kind may differ; then a failure is listed, not counted. */
  readonly remote?: string;
  readonly run: (place: Place) => void;
}

type More = Pick<Check, 'needs' | 'remote'>;

/** Gathers the checks of an area. */
export function areaOf(area: string, checks: Check[]) {
  return (name: string, run: (place: Place) => void, more: More = {}): void => {
    checks.push({ area, name, run, ...more });
  };
}

/** The call must fail with this code. */
export function fails(code: string | readonly string[], call: () => unknown): void {
  const codes = typeof code === 'string' ? [code] : code;
  try {
    call();
  } catch (error) {
    const got = (error as NodeJS.ErrnoException).code;
    assert.ok(codes.includes(String(got)), `${got ?? error}, not ${codes.join(' or ')}`);
    return;
  }
  assert.fail(`it succeeds instead of failing with ${codes.join(' or ')}`);
}

/** What is read from a descriptor at an offset. */
export function readAt(fd: number, offset: number | null, length = 4096): string {
  const buffer = Buffer.alloc(length);
  return buffer.toString('latin1', 0, readSync(fd, buffer, 0, length, offset));
}

export function writeAll(fd: number, text: string, offset: number | null = null): void {
  const data = Buffer.from(text, 'latin1');
  assert.equal(writeSync(fd, data, 0, data.length, offset), data.length);
}

export function same(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}
