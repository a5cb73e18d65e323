/**
 * Removing whole directories: `rm` with `recursive`.
 * It asks the server; many names at once, but never a directory before what is in it.
 */
import { listDirectory } from '../listing.ts';
import { RemoteError } from '../remote-error.ts';
import {
  type CallOptions,
  type DirectoryEntry,
  FileType,
  type Handle,
  type Name,
  type RemoteServer,
} from '../server.ts';

/** Requests at once. */
const WINDOW = 32;
/** Directories removed at once. */
const TREES = 8;
/** A directory that somebody else keeps filling is given up after this many listings. */
const MAX_ROUNDS = 16;

/** Removes a directory and everything below. What others remove meanwhile counts as removed. */
export async function removeTree(
  server: RemoteServer,
  parent: Handle,
  name: Name,
  directory: Handle,
  options?: CallOptions,
  depth = 0,
): Promise<void> {
  for (let round = 0; ; round++) {
    const below: { name: Name; handle: Handle }[] = [];
    for await (const { entries } of listDirectory(server, directory, { ...options, plus: true })) {
      await forEach(entries, async (entry) => {
        const child = await removeUnlessDirectory(server, directory, entry, options);
        if (child !== null) below.push({ name: entry.name, handle: child });
      });
    }
    // Many trees at once only at the top: what is outstanding must not grow with the depth.
    const descend = (child: (typeof below)[number]) =>
      removeTree(server, directory, child.name, child.handle, options, depth + 1);
    await forEach(below, descend, depth === 0 ? TREES : 1);
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

/** Removes an entry, or gives its handle if it is a directory. */
async function removeUnlessDirectory(
  server: RemoteServer,
  directory: Handle,
  entry: DirectoryEntry,
  options: CallOptions | undefined,
): Promise<Handle | null> {
  const { name, attributes, handle } = entry;
  try {
    const found =
      handle !== null && attributes !== null ? { handle, attributes } : await server.lookup(directory, name, options);
    if (found.attributes.type === FileType.directory) return found.handle;
    await server.remove(directory, name, options);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
  return null;
}

function isGone(error: unknown): boolean {
  return error instanceof RemoteError && (error.code === 'ENOENT' || error.code === 'ESTALE');
}

/** Works on up to `window` elements at once; the first failure ends it. */
export async function forEach<T>(
  list: readonly T[],
  work: (element: T) => Promise<void>,
  window = WINDOW,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < list.length) await work(list[next++] as T);
  };
  await Promise.all(Array.from({ length: Math.min(window, list.length) }, worker));
}
