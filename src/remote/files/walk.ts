/**
 * From a path to an object: component by component, symbolic links followed here and not by the server (RFC 1813 section 1.4).
 * It asks the server; directories on the way may come from the name cache, the last component never does.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { RemoteError } from '../remote-error.ts';
import type { Attributes, CallOptions, Handle, Name, RemoteServer } from '../server.ts';
import { FileType } from '../server.ts';
import type { NameCache } from './name-cache.ts';
import { isDotDot, type ParsedPath, type Path, parsePath } from './path.ts';

/** As in Linux (path_resolution(7)). */
const MAX_LINKS = 40;

export interface Found {
  readonly handle: Handle;
  readonly attributes: Attributes;
}

/** Where a path leads. */
export interface Place {
  /** The directory of the last component and its name; null for the root and for a path that ends in `..`. */
  readonly directory: Handle | null;
  readonly name: Name | null;
  /** The object; null when the last component does not exist (all before it do). */
  readonly found: Found | null;
  /** The path ended in a slash. */
  readonly wantsDirectory: boolean;
}

/** What is there, or ENOENT. */
export function existing({ found }: Place, syscall: string): Found {
  if (found === null) throw systemError(ERRNO.ENOENT, syscall);
  return found;
}

interface Step {
  readonly handle: Handle;
  readonly attributes: Attributes | null;
}

export class Walker {
  readonly #server: RemoteServer;
  readonly #cache: NameCache;

  constructor(server: RemoteServer, cache: NameCache) {
    this.#server = server;
    this.#cache = cache;
  }

  /**
   * Resolves a path and does something there. When that fails in a way that a name cached too long explains (ESTALE, ENOENT,
   * ENOTDIR) it is done once more without the cache; work is therefore only what such a failure proves undone. That a name does
   * not exist is likewise never concluded from a cached directory.
   */
  async at<T>(
    path: Path,
    syscall: string,
    follow: boolean,
    options: CallOptions | undefined,
    work: (place: Place) => Promise<T>,
  ): Promise<T> {
    const parsed = parsePath(path, syscall);
    return this.#retrying(async (walk) => {
      const place = await walk.resolve(parsed, follow, options);
      if (place.found === null && walk.usedCache) throw systemError(ERRNO.ENOENT, syscall);
      return work(place);
    });
  }

  /** The same for the directory of a path and its last name, which is not looked up. */
  async inDirectory<T>(
    path: Path,
    syscall: string,
    options: CallOptions | undefined,
    work: (directory: Handle, name: Name, wantsDirectory: boolean) => Promise<T>,
  ): Promise<T> {
    const parsed = parsePath(path, syscall);
    return this.#retrying(async (walk) => {
      const { directory, name } = await walk.resolveParent(parsed, syscall, options);
      return work(directory, name, parsed.directory);
    });
  }

  /** Two names at once, for rename and link. */
  async inDirectories<T>(
    from: Path,
    to: Path,
    syscall: string,
    options: CallOptions | undefined,
    work: (from: { directory: Handle; name: Name }, to: { directory: Handle; name: Name }) => Promise<T>,
  ): Promise<T> {
    const parsedFrom = parsePath(from, syscall);
    const parsedTo = parsePath(to, syscall);
    return this.#retrying(async (walk) => {
      const [a, b] = await Promise.all([
        walk.resolveParent(parsedFrom, syscall, options),
        walk.resolveParent(parsedTo, syscall, options),
      ]);
      return work(a, b);
    });
  }

  async #retrying<T>(attempt: (walk: Walk) => Promise<T>): Promise<T> {
    const walk = new Walk(this.#server, this.#cache, true);
    try {
      return await attempt(walk);
    } catch (error) {
      if (!walk.usedCache || !isStaleness(error)) throw error;
      return attempt(new Walk(this.#server, this.#cache, false));
    }
  }
}

function isStaleness(error: unknown): boolean {
  if (!(error instanceof IsthmusError)) return false;
  if (error instanceof RemoteError && (error.replayed || error.indeterminate)) return false;
  return ['ESTALE', 'ENOENT', 'ENOTDIR', 'ERR_NFS_BAD_HANDLE'].includes(error.code);
}

class Walk {
  usedCache = false;
  readonly #server: RemoteServer;
  readonly #cache: NameCache;
  readonly #mayUseCache: boolean;
  #links = 0;

  constructor(server: RemoteServer, cache: NameCache, mayUseCache: boolean) {
    this.#server = server;
    this.#cache = cache;
    this.#mayUseCache = mayUseCache;
  }

  async resolveParent(
    path: ParsedPath,
    syscall: string,
    options: CallOptions | undefined,
  ): Promise<{ directory: Handle; name: Name }> {
    const components = [...path.components];
    const name = components.pop();
    // The root, `..`: these can be neither made nor removed nor renamed.
    if (name === undefined || isDotDot(name)) throw systemError(ERRNO.EBUSY, syscall);
    const trail: Step[] = [{ handle: this.#server.root, attributes: null }];
    await this.#descend(trail, components, options);
    return { directory: (trail.at(-1) as Step).handle, name };
  }

  async resolve(path: ParsedPath, follow: boolean, options: CallOptions | undefined): Promise<Place> {
    const trail: Step[] = [{ handle: this.#server.root, attributes: null }];
    let { components, directory: wantsDirectory } = path;
    for (;;) {
      const name = components.at(-1);
      if (name === undefined || isDotDot(name)) {
        await this.#descend(trail, components, options);
        return this.#directoryItself(trail.at(-1) as Step, options);
      }
      await this.#descend(trail, components.slice(0, -1), options);
      const directory = (trail.at(-1) as Step).handle;
      const found = await this.#lookupLast(directory, name, options);
      const isLink = found?.attributes.type === FileType.symlink;
      if (found === null || !isLink || !(follow || wantsDirectory)) {
        if (found !== null && wantsDirectory && found.attributes.type !== FileType.directory) throw notDirectory();
        return { directory, name, found, wantsDirectory };
      }
      const target = await this.#readLink(found.handle, options);
      if (target.absolute) trail.length = 1;
      components = target.components;
      wantsDirectory ||= target.directory;
    }
  }

  async #directoryItself({ handle, attributes }: Step, options: CallOptions | undefined): Promise<Place> {
    const fresh = attributes ?? (await this.#server.getattr(handle, options));
    return { directory: null, name: null, found: { handle, attributes: fresh }, wantsDirectory: true };
  }

  /** Goes down through `components`, all of which must be directories (or lead to one); the trail grows and shrinks with it. */
  async #descend(trail: Step[], components: readonly Name[], options: CallOptions | undefined): Promise<void> {
    const queue = [...components].reverse();
    for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
      if (isDotDot(name)) {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const directory = (trail.at(-1) as Step).handle;
      const { handle, attributes } = await this.#lookupOnTheWay(directory, name, options);
      if (attributes.type === FileType.symlink) {
        const target = await this.#readLink(handle, options);
        if (target.absolute) trail.length = 1;
        queue.push(...[...target.components].reverse());
      } else if (attributes.type === FileType.directory) {
        trail.push({ handle, attributes: null });
      } else {
        throw notDirectory();
      }
    }
  }

  async #lookupOnTheWay(directory: Handle, name: Name, options: CallOptions | undefined): Promise<Found> {
    const cached = this.#mayUseCache ? this.#cache.get(directory, name) : null;
    if (cached !== null) {
      this.usedCache = true;
      return cached;
    }
    const found = await this.#server.lookup(directory, name, options);
    this.#cache.set(directory, name, found);
    return found;
  }

  async #lookupLast(directory: Handle, name: Name, options: CallOptions | undefined): Promise<Found | null> {
    try {
      const found = await this.#server.lookup(directory, name, options);
      this.#cache.set(directory, name, found);
      return found;
    } catch (error) {
      this.#cache.delete(directory, name);
      if (error instanceof RemoteError && error.code === 'ENOENT') return null;
      throw error;
    }
  }

  async #readLink(handle: Handle, options: CallOptions | undefined): Promise<ParsedPath> {
    if (++this.#links > MAX_LINKS) throw systemError(ERRNO.ELOOP, 'readlink');
    const { target } = await this.#server.readlink(handle, options);
    return parsePath(target, 'readlink');
  }
}

function notDirectory(): Error {
  return new RemoteError('ENOTDIR: not a directory, LOOKUP', {
    code: 'ENOTDIR',
    errno: -ERRNO.ENOTDIR,
    procedure: 'LOOKUP',
  });
}
