/**
 * Names in a server's listing, as they come in. Pure.
 */
import type { Name } from './server.ts';
import { XdrError, type XdrReader } from './xdr.ts';

const NAME_LIMIT = 4096;
const SLASH = 0x2f;

/** Reads the name of a directory entry; what could not be one is refused, lest it be taken for a path. */
export function readEntryName(reader: XdrReader): Name {
  const name = reader.opaque(NAME_LIMIT);
  if (name.length === 0 || name.includes(SLASH) || name.includes(0)) {
    throw new XdrError('ERR_XDR_VALUE', 'a directory entry whose name is no name');
  }
  return name;
}
