/**
 * `isthmus nfs`: looks at and copies files of a file server without mounting it.
 * It touches the file server, and local files named to `cp`.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { stat as statLocal } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { UsageError } from '../../apps/options.ts';
import { IsthmusError } from '../../errors.ts';
import { connectFiles } from '../../remote/connect.ts';
import type { RemoteFiles } from '../../remote/files/files.ts';
import type { RemoteStats } from '../../remote/files/stats.ts';
import { listExports } from '../../remote/nfs3/connect.ts';
import { parseNfsUrl } from '../../remote/url.ts';
import { defineCommand, type Io } from '../command.ts';

/** What a server says to a path that it does not export, but that may lie in one it does. */
const NOT_AN_EXPORT = new Set(['ENOENT', 'EACCES', 'ENOTDIR', 'EINVAL']);

export const nfs = defineCommand({
  name: 'nfs',
  summary: 'Lists, shows and copies files of a file server, without a mount.',
  description:
    'ACTION is exports, ls, stat, cat or cp. A URL is nfs://HOST[:PORT]/EXPORT/PATH with ?version=3 or 4.1, uid=, gid=, groups=, mountport=, timeout=SECONDS. ' +
    'exports lists what a server exports and to whom (as NFSv3 tells it; the path of the URL does not matter). cp copies one file; either side may be a local file. No privileges are needed.',
  positionals: [
    { name: 'ACTION', help: 'exports, ls, stat, cat or cp.' },
    { name: 'URL', help: 'The file or directory; with cp, what is copied.' },
    { name: 'TO', help: 'With cp: a URL or a local file; a directory gets a file of the same name.', optional: true },
  ],
  options: {
    long: { type: 'boolean', short: 'l', help: 'With ls: mode, links, owner, size and time of each.' },
  },
  examples: [
    { line: 'nfs exports nfs://server', what: 'what there is to mount' },
    { line: 'nfs ls -l nfs://server/home', what: 'a listing' },
    { line: 'nfs cp notes.txt nfs://server/home/notes.txt', what: 'a copy there' },
  ],
  async run({ values, positionals }, io) {
    const [action, from, to] = positionals as [string, string, string | undefined];
    if ((action === 'cp') !== (to !== undefined))
      throw new UsageError(`nfs ${action}: cp takes two names, the others one`);
    const signal = io.interrupted;
    switch (action) {
      case 'exports':
        return showExports(from, signal, io);
      case 'ls':
        return within(from, signal, (files, path) => list(files, path, values.long, io));
      case 'stat':
        return within(from, signal, async (files, path) => io.out(describe(await files.lstat(path))));
      case 'cat':
        return within(from, signal, (files, path) =>
          pipeline(files.createReadStream(path), process.stdout, { end: false }),
        );
      case 'cp':
        return copy(from, to as string, signal);
      default:
        throw new UsageError(`nfs ${action}: there are exports, ls, stat, cat and cp`);
    }
  },
});

async function showExports(url: string, signal: AbortSignal, io: Io): Promise<number> {
  for (const { path, groups } of await listExports({ ...parseNfsUrl(url), signal })) {
    io.out(groups.length === 0 ? `${path}\n` : `${path} ${groups.join(',')}\n`);
  }
  return 0;
}

/** Connects to the export that a URL lies in, works there and disconnects. */
async function within(
  url: string,
  signal: AbortSignal,
  work: (files: RemoteFiles, path: string) => Promise<void>,
): Promise<number> {
  const { files, path } = await open(url, signal);
  try {
    await work(files, path);
    return 0;
  } finally {
    await files.close();
  }
}

/** Tries the whole path as an export, then what is above it, up to the root. */
async function open(url: string, signal: AbortSignal): Promise<{ files: RemoteFiles; path: string }> {
  const parsed = new URL(url);
  const whole = parsed.pathname.split('/').filter((component) => component !== '');
  let failure: unknown;
  for (let count = whole.length; count >= 0; count--) {
    parsed.pathname = `/${whole.slice(0, count).join('/')}`;
    try {
      const files = await connectFiles(parsed.href, { signal });
      return { files, path: `/${whole.slice(count).map(decodeURIComponent).join('/')}` };
    } catch (error) {
      if (!(error instanceof IsthmusError) || !NOT_AN_EXPORT.has(error.code)) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

async function list(files: RemoteFiles, path: string, long: boolean, io: Io): Promise<void> {
  if (!(await files.stat(path)).isDirectory()) {
    io.out(`${basename(path)}\n`);
    return;
  }
  const entries = await files.readdir(path, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, stats } of entries) io.out(long && stats !== null ? `${line(stats)} ${name}\n` : `${name}\n`);
}

function line(stats: RemoteStats): string {
  const mode = `${typeLetter(stats)}${permissions(stats.mode)}`;
  const owner = `${String(stats.uid).padStart(6)} ${String(stats.gid).padStart(6)}`;
  return `${mode} ${String(stats.nlink).padStart(3)} ${owner} ${String(stats.size).padStart(12)} ${stats.mtime.toISOString()}`;
}

function typeLetter(stats: RemoteStats): string {
  if (stats.isDirectory()) return 'd';
  if (stats.isSymbolicLink()) return 'l';
  if (stats.isFIFO()) return 'p';
  if (stats.isSocket()) return 's';
  if (stats.isBlockDevice()) return 'b';
  return stats.isCharacterDevice() ? 'c' : '-';
}

function permissions(mode: number): string {
  return Array.from({ length: 9 }, (_, i) => (mode & (0o400 >> i) ? 'rwx'[i % 3] : '-')).join('');
}

function describe(stats: RemoteStats): string {
  const rows = {
    mode: `${typeLetter(stats)}${permissions(stats.mode)} (${(stats.mode & 0o7777).toString(8).padStart(4, '0')})`,
    size: stats.size,
    blocks: stats.blocks,
    links: stats.nlink,
    uid: stats.uid,
    gid: stats.gid,
    fileid: stats.fileid,
    atime: stats.atime.toISOString(),
    mtime: stats.mtime.toISOString(),
    ctime: stats.ctime.toISOString(),
  };
  return Object.entries(rows)
    .map(([name, value]) => `${name.padEnd(7)} ${value}\n`)
    .join('');
}

const isUrl = (name: string): boolean => name.startsWith('nfs://');

async function copy(from: string, to: string, signal: AbortSignal): Promise<number> {
  if (!isUrl(from) && !isUrl(to)) throw new UsageError('nfs cp: one of the two must be nfs://…');
  const source = isUrl(from) ? await open(from, signal) : null;
  const target = isUrl(to)
    ? await open(to, signal).catch(async (error) => {
        await source?.files.close();
        throw error;
      })
    : null;
  try {
    const name = basename(source?.path ?? from);
    const reader =
      source === null ? createReadStream(from, { signal }) : source.files.createReadStream(source.path, { signal });
    const directory = await isDirectory(target, to);
    const path = directory ? join(target?.path ?? to, name) : (target?.path ?? to);
    const writer =
      target === null ? createWriteStream(path, { signal }) : target.files.createWriteStream(path, { signal });
    await pipeline(reader, writer);
    return 0;
  } finally {
    await source?.files.close();
    await target?.files.close();
  }
}

async function isDirectory(target: { files: RemoteFiles; path: string } | null, to: string): Promise<boolean> {
  try {
    return (await (target === null ? statLocal(to) : target.files.stat(target.path))).isDirectory();
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return false;
    throw error;
  }
}
