/**
 * Small things about local files: names as bytes, which file is which, times put back, a place for removed files.
 * It looks at the files it is given, sets the times of directories and makes one directory.
 */
import { type BigIntStats, closeSync, constants, lstatSync, mkdtempSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setFileTimes } from '../../linux/descriptor.ts';

/** Beside the local directory, where the program does not look; in it where what is beside is another file system or not ours. */
export function makeKeep(local: string, dev: bigint): string {
  const beside = dirname(local);
  if (beside !== local && statsOf(beside)?.dev === dev) {
    try {
      return mkdtempSync(join(beside, '.isthmus-kept-'));
    } catch {
      // We may not write there.
    }
  }
  return mkdtempSync(join(local, '.isthmus-kept-'));
}

/** Paths are bytes, a character each. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

export function keyOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

/** Of the name itself, not of what it leads to; undefined if there is none. */
export function statsOf(path: string): BigIntStats | undefined {
  return lstatSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
}

/** What changes with a name: itself, and the directory's listing and times. */
export function namesOf(path: string): string[] {
  const parent = dirname(path);
  return [path, parent === '/' ? '/' : `${parent}/`];
}

export function keepTimes(directory: string): () => void {
  const stats = statsOf(directory);
  return () => {
    if (stats === undefined) return;
    try {
      const fd = openSync(bytesOf(directory), constants.O_RDONLY);
      setFileTimes(fd, stats.atimeNs, stats.mtimeNs);
      closeSync(fd);
    } catch {
      // It is gone itself, or not ours: only its times would have been put back.
    }
  };
}

export function tolerate(code: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== code) throw error;
  }
}
