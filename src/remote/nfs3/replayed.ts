/**
 * What to believe when a request that is not idempotent was sent twice (the connection was lost) and the answer looks as if the
 * second had met the effect of the first. Pure but for the questions it asks the server.
 *
 * A server with a duplicate-request cache answers the first result and nothing here is reached. One that lost its cache says
 * ENOENT for what the first execution removed, EEXIST for what it made. Then:
 * - REMOVE, RMDIR: gone is what was asked for; it counts as done.
 * - LINK: done if the name now is the linked object. SYMLINK: done if the name is a link to that target.
 * - MKDIR, MKNOD, guarded CREATE, RENAME: done if the name's object has changed at the very moment its directory did, as our own
 *   first execution would have left it. If somebody else did the same thing in that moment, it is taken for ours.
 */
import { RemoteError } from '../remote-error.ts';
import type { Attributes, CallOptions, FileType, Handle, LookupResult, Name, RemoteServer } from '../server.ts';

/** Clocks of one server, read a few steps apart inside one operation. */
const SAME_MOMENT_MS = 20;

/** Whether this error may be the echo of the request's own first execution. */
export function isEcho(error: unknown, code: 'ENOENT' | 'EEXIST'): error is RemoteError {
  return error instanceof RemoteError && error.replayed && error.code === code;
}

/** The object of that name if it is of this type and was made or moved there when its directory last changed. */
export async function madeJustNow(
  server: RemoteServer,
  directory: Handle,
  name: Name,
  type: FileType | null,
  options?: CallOptions,
): Promise<LookupResult | null> {
  const found = await lookupOrNull(server, directory, name, options);
  if (found === null || (type !== null && found.attributes.type !== type)) return null;
  const parent = found.directory ?? (await server.getattr(directory, options));
  return sameMoment(found.attributes, parent) ? found : null;
}

export async function lookupOrNull(
  server: RemoteServer,
  directory: Handle,
  name: Name,
  options?: CallOptions,
): Promise<LookupResult | null> {
  try {
    return await server.lookup(directory, name, options);
  } catch (error) {
    if (error instanceof RemoteError && error.code === 'ENOENT') return null;
    throw error;
  }
}

function sameMoment(object: Attributes, directory: Attributes): boolean {
  const seconds = object.ctimeSeconds - directory.mtimeSeconds;
  const nanoseconds = object.ctimeNanoseconds - directory.mtimeNanoseconds;
  return Math.abs(seconds * 1000 + nanoseconds / 1e6) <= SAME_MOMENT_MS;
}
