/**
 * Removing and making whole trees: `rm` with `recursive`, `mkdir` with `recursive`.
 * It asks the server; many names at once, but never a directory before what is in it.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { RemoteError } from '../remote-error.ts';
import {
  type CallOptions,
  type DirectoryEntry,
  type DirectoryPosition,
  FileType,
  type Handle,
  type Name,
  type RemoteServer,
} from '../server.ts';

/** Requests at once. */
const WINDOW = 32;
/** A directory that somebody else keeps filling is given up after this many listings. */
const MAX_ROUNDS = 16;

/** All pages of a listing. Starts again when the server has forgotten where we were. */
export async function* listDirectory(
  server: RemoteServer,
  directory: Handle,
  plus: boolean,
  options?: CallOptions,
): AsyncGenerator<readonly DirectoryEntry[]> {
  let position: DirectoryPosition | null = null;
  for (;;) {
    const page = await server.readdir(directory, position, plus, options);
    if (page.entries.length > 0) yield page.entries;
    if (page.eof) return;
    position = page.next;
  }
}

/** Removes a directory and everything below. What others remove meanwhile counts as removed. */
export async function removeTree(
  server: RemoteServer,
  parent: Handle,
  name: Name,
  directory: Handle,
  options?: CallOptions,
): Promise<void> {
  for (let round = 0; ; round++) {
    const entries: DirectoryEntry[] = [];
    for await (const page of listDirectory(server, directory, true, options)) entries.push(...page);
    await forEach(entries, (entry) => removeEntry(server, directory, entry, options));
    try {
      await server.rmdir(parent, name, options);
      return;
    } catch (error) {
      if (isGone(error)) return;
      const filled = error instanceof RemoteError && (error.code === 'ENOTEMPTY' || error.code === 'EEXIST');
      if (!filled || round >= MAX_ROUNDS) throw error;
    }
  }
}

async function removeEntry(
  server: RemoteServer,
  directory: Handle,
  entry: DirectoryEntry,
  options: CallOptions | undefined,
): Promise<void> {
  try {
    const known =
      entry.handle !== null && entry.attributes !== null
        ? (entry as { handle: Handle; attributes: NonNullable<DirectoryEntry['attributes']> })
        : null;
    const found = known ?? (await server.lookup(directory, entry.name, options));
    if (found.attributes.type === FileType.directory) {
      await removeTree(server, directory, entry.name, found.handle, options);
    } else {
      await server.remove(directory, entry.name, options);
    }
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof RemoteError && (error.code === 'ENOENT' || error.code === 'ESTALE');
}

/** Makes a directory and those above it that are missing; gives how many components of the path existed already. */
export async function makeTree(
  server: RemoteServer,
  components: readonly Name[],
  mode: number,
  options?: CallOptions,
): Promise<number> {
  let directory = server.root;
  let existing = 0;
  let making = false;
  for (const name of components) {
    const step = making ? null : await findDirectory(server, directory, name, options);
    if (step !== null) {
      directory = step;
      existing++;
      continue;
    }
    making = true;
    directory = await makeOrFind(server, directory, name, mode, options);
  }
  return existing;
}

async function makeOrFind(
  server: RemoteServer,
  directory: Handle,
  name: Name,
  mode: number,
  options: CallOptions | undefined,
): Promise<Handle> {
  try {
    return (await server.mkdir(directory, name, { mode }, options)).handle;
  } catch (error) {
    const found =
      error instanceof RemoteError && error.code === 'EEXIST'
        ? await findDirectory(server, directory, name, options)
        : null;
    if (found === null) throw error;
    return found;
  }
}

async function findDirectory(
  server: RemoteServer,
  directory: Handle,
  name: Name,
  options: CallOptions | undefined,
): Promise<Handle | null> {
  try {
    const { handle, attributes } = await server.lookup(directory, name, options);
    if (attributes.type === FileType.directory) return handle;
    throw systemError(attributes.type === FileType.symlink ? ERRNO.EEXIST : ERRNO.ENOTDIR, 'mkdir');
  } catch (error) {
    if (error instanceof RemoteError && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Works on up to WINDOW elements at once; the first failure ends it. */
export async function forEach<T>(list: readonly T[], work: (element: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < list.length) await work(list[next++] as T);
  };
  await Promise.all(Array.from({ length: Math.min(WINDOW, list.length) }, worker));
}
