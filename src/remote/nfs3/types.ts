/**
 * The types of NFS version 3 (RFC 1813 section 2.5 and 2.6) on the wire: attributes, weak cache consistency, arguments in common.
 * Pure.
 */
import { statusError, transportError } from '../remote-error.ts';
import { TryLater } from '../rpc/message.ts';
import type { Attributes, FileType, Handle, Name, SetAttributes, Time, U64, Wcc } from '../server.ts';
import { XdrError, type XdrReader, type XdrWriter } from '../xdr.ts';

export const HANDLE_LIMIT = 64;
const JUKEBOX = 10008;
const DONT_CHANGE = 0;
const SET_TO_SERVER_TIME = 1;
const SET_TO_CLIENT_TIME = 2;

/** The least bytes an fattr3 takes. */
const ATTRIBUTES_BYTES = 84;
/** A path in MOUNT and a symlink's target; servers have smaller limits of their own. */
export const PATH_LIMIT = 64 * 1024;

/** Reads the status that begins every result; gives whether it is NFS3_OK. `JUKEBOX` throws TryLater. */
export function readOk(reader: XdrReader, procedure: string): number {
  const status = reader.u32();
  if (status === JUKEBOX) throw new TryLater(statusError(procedure, status));
  return status;
}

export function readHandle(reader: XdrReader): Handle {
  return reader.opaque(HANDLE_LIMIT);
}

/** fattr3. A size above 2^53 − 1 is EOVERFLOW. */
export function readAttributes(reader: XdrReader): Attributes {
  const at = reader.offset;
  if (at + ATTRIBUTES_BYTES > reader.end) throw new XdrError('ERR_XDR_SHORT', 'attributes cut off');
  reader.offset = at + ATTRIBUTES_BYTES;
  const { view } = reader;
  const type = view.getUint32(at);
  if (type < 1 || type > 7) throw new XdrError('ERR_XDR_VALUE', `${type} is not a file type`);
  const sizeHigh = view.getUint32(at + 20);
  if (sizeHigh > 0x1f_ffff) throw transportError('EOVERFLOW', 'fattr3', 'a file of more than 2^53 - 1 bytes');
  const usedHigh = view.getUint32(at + 28);
  const ctimeSeconds = view.getUint32(at + 76);
  const ctimeNanoseconds = view.getUint32(at + 80);
  return {
    type: type as FileType,
    mode: view.getUint32(at + 4) & 0o7777,
    linkCount: view.getUint32(at + 8),
    uid: view.getUint32(at + 12),
    gid: view.getUint32(at + 16),
    size: sizeHigh * 0x1_0000_0000 + view.getUint32(at + 24),
    used: usedHigh > 0x1f_ffff ? Number.MAX_SAFE_INTEGER : usedHigh * 0x1_0000_0000 + view.getUint32(at + 32),
    deviceMajor: view.getUint32(at + 36),
    deviceMinor: view.getUint32(at + 40),
    fsidHigh: view.getUint32(at + 44),
    fsidLow: view.getUint32(at + 48),
    fileidHigh: view.getUint32(at + 52),
    fileidLow: view.getUint32(at + 56),
    atimeSeconds: view.getUint32(at + 60),
    atimeNanoseconds: view.getUint32(at + 64),
    mtimeSeconds: view.getUint32(at + 68),
    mtimeNanoseconds: view.getUint32(at + 72),
    ctimeSeconds,
    ctimeNanoseconds,
    changeHigh: ctimeSeconds,
    changeLow: ctimeNanoseconds,
  };
}

/** post_op_attr. */
export function readPostAttributes(reader: XdrReader): Attributes | null {
  return reader.bool() ? readAttributes(reader) : null;
}

/** wcc_data. The size and mtime before are dropped: the ctime is the change id. */
export function readWcc(reader: XdrReader): Wcc {
  let before: U64 | null = null;
  if (reader.bool()) {
    reader.skip(16);
    before = { high: reader.u32(), low: reader.u32() };
  }
  return { before, after: readPostAttributes(reader) };
}

/** post_op_fh3. */
export function readPostHandle(reader: XdrReader): Handle | null {
  return reader.bool() ? readHandle(reader) : null;
}

export function readU64(reader: XdrReader): U64 {
  return { high: reader.u32(), low: reader.u32() };
}

/** diropargs3. */
export function writeDirectoryName(writer: XdrWriter, directory: Handle, name: Name): void {
  writer.opaque(directory);
  writer.opaque(name);
}

/** sattr3. */
export function writeSetAttributes(writer: XdrWriter, attributes: SetAttributes): void {
  writeOptional(writer, attributes.mode);
  writeOptional(writer, attributes.uid);
  writeOptional(writer, attributes.gid);
  writer.bool(attributes.size !== undefined);
  if (attributes.size !== undefined) writer.u64(attributes.size);
  writeTime(writer, attributes.atime);
  writeTime(writer, attributes.mtime);
}

function writeOptional(writer: XdrWriter, value: number | undefined): void {
  writer.bool(value !== undefined);
  if (value !== undefined) writer.u32(value);
}

function writeTime(writer: XdrWriter, time: Time | 'server' | undefined): void {
  if (time === undefined) {
    writer.u32(DONT_CHANGE);
  } else if (time === 'server') {
    writer.u32(SET_TO_SERVER_TIME);
  } else {
    // nfstime3 counts from 1970 to 2106; what lies outside goes to its nearer end.
    writer.u32(SET_TO_CLIENT_TIME);
    writer.halves(Math.max(0, Math.min(0xffff_ffff, time.seconds)), time.seconds < 0 ? 0 : time.nanoseconds);
  }
}
