/**
 * `readdir`: the names in a directory, or in everything below it, as node:fs gives them.
 * It asks the server.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { listDirectory } from '../listing.ts';
import { RemoteError } from '../remote-error.ts';
import { type Attributes, type CallOptions, FileType, type Handle, type Name, type RemoteServer } from '../server.ts';
import { joinPath, type Path } from './path.ts';
import { entryName, RemoteDirent } from './stats.ts';
import { existing, type Walker } from './walk.ts';

export interface ReaddirOptions {
  readonly encoding?: 'utf8' | 'buffer' | undefined;
  readonly withFileTypes?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type ReaddirEntry = string | Buffer | RemoteDirent<string | Buffer>;

/** The listing of `path`; `below` is put before the names. */
export async function readDirectory(
  server: RemoteServer,
  walker: Walker,
  path: Path,
  options: ReaddirOptions,
  below = '',
): Promise<ReaddirEntry[]> {
  const { withFileTypes = false, recursive = false, encoding = 'utf8', signal } = options;
  if (recursive && encoding === 'buffer') throw new TypeError('a recursive listing gives text');
  const plus = withFileTypes || recursive;
  const parent = typeof path === 'string' ? path : Buffer.from(path);
  const { entries, directories } = await walker.at(path, 'scandir', true, { signal }, async (place) => {
    const { handle, attributes } = existing(place, 'scandir');
    if (attributes.type !== FileType.directory) throw systemError(ERRNO.ENOTDIR, 'scandir');
    const entries: ReaddirEntry[] = [];
    const directories: string[] = [];
    for await (const page of listDirectory(server, handle, { plus, signal })) {
      for (const entry of page.entries) {
        const known = plus ? (entry.attributes ?? (await lookedUp(server, handle, entry.name, { signal }))) : null;
        const name = entryName(entry, encoding);
        if (recursive && known?.type === FileType.directory) directories.push(name as string);
        const full = below === '' ? name : joinPath(below, name);
        entries.push(withFileTypes ? new RemoteDirent(name, parent, known) : (full as string));
      }
    }
    return { entries, directories };
  });
  for (const name of directories) {
    const within = below === '' ? name : `${below}/${name}`;
    for (const entry of await readDirectory(server, walker, joinPath(path, name), options, within)) entries.push(entry);
  }
  return entries;
}

/** Attributes that the listing did not give; null where the name is gone by now. */
async function lookedUp(
  server: RemoteServer,
  directory: Handle,
  name: Name,
  options: CallOptions,
): Promise<Attributes | null> {
  try {
    return (await server.lookup(directory, name, options)).attributes;
  } catch (error) {
    if (error instanceof RemoteError && error.code === 'ENOENT') return null;
    throw error;
  }
}
