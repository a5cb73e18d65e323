/**
 * The package's version, read from its package.json.
 * It touches that one file.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest package.json above this file that is ours: the compiled files lie one folder deeper than the sources. */
export function packageRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const manifest = readManifest(folder);
    if (manifest?.name === 'isthmus') return folder;
    if (folder === dirname(folder)) throw new Error('the package.json of isthmus is missing');
  }
}

export function packageVersion(): string {
  return readManifest(packageRoot())!.version;
}

function readManifest(folder: string): { name: string; version: string } | null {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  } catch {
    return null;
  }
}
