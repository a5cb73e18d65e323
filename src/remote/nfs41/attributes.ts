/**
 * Attributes as NFSv4.1 carries them: bitmaps, `fattr4` read into `Attributes` and written from `SetAttributes`.
 * Pure: XDR in, values out (RFC 8881 sections 3.3.7, 3.3.8 and 5).
 */
import { protocolError, transportError } from '../remote-error.ts';
import { type Attributes, FileType, type SetAttributes, type Time, type U64 } from '../server.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { Attr, Size } from './constants.ts';

/** `bitmap4`: 32 attributes a word, the least significant bit first. */
export type Bitmap = readonly number[];

/** More words than this in a bitmap are nonsense (three are defined). */
const MAX_BITMAP_WORDS = 8;
/** No attribute that is asked for is near this size. */
const MAX_ATTRIBUTES_BYTES = 16384;
const MAX_OWNER_BYTES = 1024;
/** Who stands for an owner that is not a number and not known here (Linux: nobody, nogroup). */
const NOBODY = 65534;

export function bitmap(...attributes: readonly number[]): Bitmap {
  const words: number[] = [];
  for (const attribute of attributes) {
    const word = attribute >>> 5;
    while (words.length <= word) words.push(0);
    words[word] = (words[word]! | (1 << (attribute & 31))) >>> 0;
  }
  return words;
}

export function hasBit(words: Bitmap, attribute: number): boolean {
  return (((words[attribute >>> 5] ?? 0) >>> (attribute & 31)) & 1) === 1;
}

/** What makes up `Attributes`. */
export const ATTRIBUTES: Bitmap = bitmap(
  Attr.type,
  Attr.change,
  Attr.size,
  Attr.fsid,
  Attr.fileid,
  Attr.mode,
  Attr.numlinks,
  Attr.owner,
  Attr.ownerGroup,
  Attr.rawdev,
  Attr.spaceUsed,
  Attr.timeAccess,
  Attr.timeMetadata,
  Attr.timeModify,
);

/** The same with the handle, of an object found or made. */
export const FOUND: Bitmap = merge(ATTRIBUTES, bitmap(Attr.filehandle));

/** And for listings; an entry that cannot be read says so in `rdattrError` instead of ending the listing. */
export const ENTRY_ATTRIBUTES: Bitmap = merge(FOUND, bitmap(Attr.rdattrError));

/** A listing without attributes. */
export const ENTRY_FILEID: Bitmap = bitmap(Attr.rdattrError, Attr.fileid, Attr.mountedOnFileid);

/** What `ServerInfo` is made of. */
export const SERVER_ATTRIBUTES: Bitmap = bitmap(
  Attr.leaseTime,
  Attr.caseInsensitive,
  Attr.maxfilesize,
  Attr.maxlink,
  Attr.maxname,
  Attr.maxread,
  Attr.maxwrite,
);

/** What `fsstat` asks. */
export const SPACE_ATTRIBUTES: Bitmap = bitmap(
  Attr.filesAvail,
  Attr.filesFree,
  Attr.filesTotal,
  Attr.spaceAvail,
  Attr.spaceFree,
  Attr.spaceTotal,
);

function merge(a: Bitmap, b: Bitmap): Bitmap {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => ((a[i] ?? 0) | (b[i] ?? 0)) >>> 0);
}

export function writeBitmap(writer: XdrWriter, words: Bitmap): void {
  writer.u32(words.length);
  for (const word of words) writer.u32(word);
}

export function readBitmap(reader: XdrReader): Bitmap {
  const count = reader.u32();
  if (count > MAX_BITMAP_WORDS) throw protocolError('GETATTR', `a bitmap of ${count} words`);
  const words: number[] = [];
  for (let i = 0; i < count; i++) words.push(reader.u32());
  return words;
}

/** Everything that may be in a `fattr4` we asked for; what the server left out keeps its initial value. */
export class FileAttributes {
  /** Which attributes the server gave. */
  mask: Bitmap = [];
  /** `nfs_ftype4`; 0: not given. */
  type = 0;
  changeHigh = 0;
  changeLow = 0;
  sizeHigh = 0;
  sizeLow = 0;
  fsidHigh = 0;
  fsidLow = 0;
  fileidHigh = 0;
  fileidLow = 0;
  mode = 0;
  linkCount = 1;
  uid = NOBODY;
  gid = NOBODY;
  deviceMajor = 0;
  deviceMinor = 0;
  used = -1;
  atimeSeconds = 0;
  atimeNanoseconds = 0;
  ctimeSeconds = 0;
  ctimeNanoseconds = 0;
  mtimeSeconds = 0;
  mtimeNanoseconds = 0;
  handle: Uint8Array | null = null;
  /** Why a listing gives no attributes for this entry; 0: it does. */
  error = 0;
  leaseSeconds = 0;
  caseInsensitive = false;
  maxFileSize = 0;
  maxLinks = 0;
  maxName = 0;
  maxRead = 0;
  maxWrite = 0;
  availableFiles = 0;
  freeFiles = 0;
  totalFiles = 0;
  availableBytes = 0;
  freeBytes = 0;
  totalBytes = 0;
}

/** Reads a `fattr4`. Throws `EPROTO` for an attribute that was not asked for (its size is unknown) and for a wrong length. */
export function readFattr(reader: XdrReader): FileAttributes {
  const mask = readBitmap(reader);
  const length = reader.u32();
  if (length > MAX_ATTRIBUTES_BYTES) throw protocolError('GETATTR', `${length} bytes of attributes`);
  const end = reader.offset + length;
  const attributes = new FileAttributes();
  attributes.mask = mask;
  for (let word = 0; word < mask.length; word++) {
    for (let bits = mask[word]!; bits !== 0; bits &= bits - 1) {
      readAttribute(reader, word * 32 + (31 - Math.clz32(bits & -bits)), attributes);
    }
  }
  if (reader.offset !== end) throw protocolError('GETATTR', 'attributes of another length than said');
  return attributes;
}

function readAttribute(reader: XdrReader, attribute: number, into: FileAttributes): void {
  switch (attribute) {
    case Attr.type:
      into.type = reader.u32();
      break;
    case Attr.change:
      into.changeHigh = reader.u32();
      into.changeLow = reader.u32();
      break;
    case Attr.size:
      into.sizeHigh = reader.u32();
      into.sizeLow = reader.u32();
      break;
    case Attr.fsid: {
      // Two 64-bit numbers, folded into one: equal stays equal, and a plain device number stays itself.
      const majorHigh = reader.u32();
      const majorLow = reader.u32();
      into.fsidHigh = (reader.u32() ^ majorLow) >>> 0;
      into.fsidLow = (reader.u32() ^ majorHigh) >>> 0;
      break;
    }
    case Attr.leaseTime:
      into.leaseSeconds = reader.u32();
      break;
    case Attr.rdattrError:
      into.error = reader.u32();
      break;
    case Attr.caseInsensitive:
      into.caseInsensitive = reader.u32() !== 0;
      break;
    case Attr.filehandle:
      into.handle = reader.opaque(Size.maxHandle);
      break;
    case Attr.fileid:
      into.fileidHigh = reader.u32();
      into.fileidLow = reader.u32();
      break;
    case Attr.mountedOnFileid: {
      const high = reader.u32();
      const low = reader.u32();
      // The fileid proper, when asked for, comes before this one and is the better answer.
      if (!hasBit(into.mask, Attr.fileid)) {
        into.fileidHigh = high;
        into.fileidLow = low;
      }
      break;
    }
    case Attr.filesAvail:
      into.availableFiles = reader.u64Clamped();
      break;
    case Attr.filesFree:
      into.freeFiles = reader.u64Clamped();
      break;
    case Attr.filesTotal:
      into.totalFiles = reader.u64Clamped();
      break;
    case Attr.maxfilesize:
      into.maxFileSize = reader.u64Clamped();
      break;
    case Attr.maxlink:
      into.maxLinks = reader.u32();
      break;
    case Attr.maxname:
      into.maxName = reader.u32();
      break;
    case Attr.maxread:
      into.maxRead = reader.u64Clamped();
      break;
    case Attr.maxwrite:
      into.maxWrite = reader.u64Clamped();
      break;
    case Attr.mode:
      into.mode = reader.u32() & 0o7777;
      break;
    case Attr.numlinks:
      into.linkCount = reader.u32();
      break;
    case Attr.owner:
      into.uid = ownerNumber(reader.opaque(MAX_OWNER_BYTES));
      break;
    case Attr.ownerGroup:
      into.gid = ownerNumber(reader.opaque(MAX_OWNER_BYTES));
      break;
    case Attr.rawdev:
      into.deviceMajor = reader.u32();
      into.deviceMinor = reader.u32();
      break;
    case Attr.spaceAvail:
      into.availableBytes = reader.u64Clamped();
      break;
    case Attr.spaceFree:
      into.freeBytes = reader.u64Clamped();
      break;
    case Attr.spaceTotal:
      into.totalBytes = reader.u64Clamped();
      break;
    case Attr.spaceUsed:
      into.used = reader.u64Clamped();
      break;
    case Attr.timeAccess:
      into.atimeSeconds = reader.i64();
      into.atimeNanoseconds = reader.u32() % 1e9;
      break;
    case Attr.timeMetadata:
      into.ctimeSeconds = reader.i64();
      into.ctimeNanoseconds = reader.u32() % 1e9;
      break;
    case Attr.timeModify:
      into.mtimeSeconds = reader.i64();
      into.mtimeNanoseconds = reader.u32() % 1e9;
      break;
    default:
      throw protocolError('GETATTR', `attribute ${attribute}, which was not asked for`);
  }
}

/** An owner is text: digits where the server maps nothing, else `name@domain`. */
function ownerNumber(text: Uint8Array): number {
  let value = 0;
  for (const byte of text) {
    if (byte < 48 || byte > 57) return isRoot(text) ? 0 : NOBODY;
    value = value * 10 + (byte - 48);
  }
  return text.length > 0 && value <= 0xffffffff ? value : NOBODY;
}

function isRoot(text: Uint8Array): boolean {
  return String.fromCharCode(...text.subarray(0, 5)) === 'root@' || String.fromCharCode(...text) === 'root';
}

/** `nfs_ftype4` and `ftype3` share 1–7; named attributes (8, 9) do not exist for us. */
function fileType(type: number): FileType | null {
  return type >= FileType.regular && type <= FileType.fifo ? (type as FileType) : null;
}

/** The attributes of an object. Throws `EPROTO` where the server left out what no object lacks, `EOVERFLOW` for a size beyond 2^53 − 1. */
export function toAttributes(from: FileAttributes, procedure: string): Attributes {
  const type = fileType(from.type);
  if (type === null || !hasBit(from.mask, Attr.change) || !hasBit(from.mask, Attr.size)) {
    throw protocolError(procedure, 'attributes without type, change or size');
  }
  if (from.sizeHigh > 0x1f_ffff) throw transportError('EOVERFLOW', procedure, 'a file larger than 2^53 - 1 bytes');
  const size = from.sizeHigh * 0x1_0000_0000 + from.sizeLow;
  return {
    type,
    mode: from.mode,
    linkCount: from.linkCount,
    uid: from.uid,
    gid: from.gid,
    size,
    used: from.used < 0 ? size : from.used,
    deviceMajor: from.deviceMajor,
    deviceMinor: from.deviceMinor,
    fsidHigh: from.fsidHigh,
    fsidLow: from.fsidLow,
    fileidHigh: from.fileidHigh,
    fileidLow: from.fileidLow,
    atimeSeconds: from.atimeSeconds,
    atimeNanoseconds: from.atimeNanoseconds,
    mtimeSeconds: from.mtimeSeconds,
    mtimeNanoseconds: from.mtimeNanoseconds,
    ctimeSeconds: from.ctimeSeconds,
    ctimeNanoseconds: from.ctimeNanoseconds,
    changeHigh: from.changeHigh,
    changeLow: from.changeLow,
  };
}

/** Writes the `fattr4` that sets these; times as `settime4`. */
export function writeSetAttributes(writer: XdrWriter, set: SetAttributes): void {
  writeBitmap(writer, setMask(set));
  const lengthAt = writer.length;
  writer.u32(0);
  if (set.size !== undefined) writer.u64(set.size);
  if (set.mode !== undefined) writer.u32(set.mode & 0o7777);
  if (set.uid !== undefined) writer.string(String(set.uid));
  if (set.gid !== undefined) writer.string(String(set.gid));
  if (set.atime !== undefined) writeSetTime(writer, set.atime);
  if (set.mtime !== undefined) writeSetTime(writer, set.mtime);
  writer.view.setUint32(lengthAt, writer.length - lengthAt - 4);
}

export function setMask(set: SetAttributes): Bitmap {
  const bits: number[] = [];
  if (set.size !== undefined) bits.push(Attr.size);
  if (set.mode !== undefined) bits.push(Attr.mode);
  if (set.uid !== undefined) bits.push(Attr.owner);
  if (set.gid !== undefined) bits.push(Attr.ownerGroup);
  if (set.atime !== undefined) bits.push(Attr.timeAccessSet);
  if (set.mtime !== undefined) bits.push(Attr.timeModifySet);
  return bitmap(...bits);
}

/** A `fattr4` with one attribute, for VERIFY and NVERIFY. */
export function writeChange(writer: XdrWriter, change: U64): void {
  writeBitmap(writer, CHANGE);
  writer.u32(8);
  writer.halves(change.high, change.low);
}

export function writeType(writer: XdrWriter, type: FileType): void {
  writeBitmap(writer, TYPE);
  writer.u32(4);
  writer.u32(type);
}

export function writeSize(writer: XdrWriter, size: number): void {
  writeBitmap(writer, SIZE);
  writer.u32(8);
  writer.u64(size);
}

const CHANGE = bitmap(Attr.change);
const SIZE = bitmap(Attr.size);
const TYPE = bitmap(Attr.type);

function writeSetTime(writer: XdrWriter, time: Time | 'server'): void {
  if (time === 'server') {
    writer.u32(0);
    return;
  }
  writer.u32(1);
  writer.i64(time.seconds);
  writer.u32(time.nanoseconds);
}
