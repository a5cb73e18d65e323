/**
 * A directory's listing page by page, whatever the server makes of it: begun anew where it has lost the place, without attributes
 * where it cannot give them, bounded where it does not end. It asks the server it is given.
 */
import { ERRNO, systemError } from '../errors.ts';
import { handleKey, sameU64 } from './operation.ts';
import { NfsCode, protocolError, RemoteError } from './remote-error.ts';
import type { CallOptions, DirectoryEntry, DirectoryPosition, Handle, ReaddirResult, RemoteServer } from './server.ts';

/** Entries of one directory at most, where nothing else is said; more is EOVERFLOW. */
export const LISTING_MAX = 1_000_000;
/** Times in a row that a listing begins anew without having found anything new. */
const RESTARTS_MAX = 10;
/** Pages without anything new, beyond those that a new beginning explains. */
const BARREN_MAX = 8;

export interface ListingOptions extends CallOptions {
  /** With attributes and handles, as far as the server gives them. */
  readonly plus: boolean;
  readonly limit?: number | undefined;
}

/**
 * The pages of a listing, each name once. Rejects as `readdir` does, with EOVERFLOW beyond `limit` entries, and with EPROTO for
 * a listing that goes in circles.
 */
export async function* listDirectory(
  server: RemoteServer,
  directory: Handle,
  options: ListingOptions,
): AsyncGenerator<ReaddirResult> {
  const { limit = LISTING_MAX } = options;
  const seen = new Set<string>();
  let { plus } = options;
  let position: DirectoryPosition | null = null;
  let restarts = 0;
  let pages = 0;
  let barren = 0;
  for (;;) {
    let page: ReaddirResult;
    try {
      page = await server.readdir(directory, position, plus, options);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      if (plus && error.code === 'EOPNOTSUPP') plus = false;
      else if (error.code === NfsCode.badCookie && restarts < RESTARTS_MAX) {
        restarts++;
        barren = 0;
        position = null;
      } else throw error;
      continue;
    }
    const entries = page.entries.filter((entry) => isNew(seen, entry));
    if (seen.size > limit) throw systemError(ERRNO.EOVERFLOW, 'READDIR', undefined, `more than ${limit} names`);
    if (entries.length > 0) {
      restarts = 0;
      barren = 0;
      pages++;
    }
    yield { ...page, entries };
    if (page.eof) return;
    const stands = position !== null && sameU64(position.cookie, page.next.cookie);
    if (entries.length === 0 && (stands || ++barren > pages + BARREN_MAX)) {
      throw protocolError('READDIR', 'a listing that goes in circles');
    }
    position = page.next;
  }
}

function isNew(seen: Set<string>, { name }: DirectoryEntry): boolean {
  const { size } = seen;
  return seen.add(handleKey(name)).size > size;
}
