/**
 * The steps about files and directories: handles, attributes, names, data (RFC 8881 section 18).
 * Pure.
 */
import { readEntryName } from '../entry-name.ts';
import type { Device, FileType, SetAttributes, FileType as Type, U64 } from '../server.ts';
import type { XdrReader } from '../xdr.ts';
import {
  type Bitmap,
  type FileAttributes,
  readBitmap,
  readFattr,
  writeBitmap,
  writeChange,
  writeSetAttributes,
  writeSize,
  writeType,
} from './attributes.ts';
import { Op, Size } from './constants.ts';
import { type ChangeInfo, nothing, opaqueBytes, readChangeInfo, type Stateid, type Step } from './step.ts';

/** Operation number and status, and slack for what servers count otherwise than the wire does. */
const REPLY = 24;
const REQUEST = 4;
/** A fattr4 of what we ask for, owners of the usual length. */
const ATTRIBUTES_REPLY = 400;
const SET_ATTRIBUTES_REQUEST = 128;
const CHANGE_INFO = 20;
/** Longest symlink target that is taken (PATH_MAX is 4096; servers may have more). */
const MAX_TARGET = 65536;

function plain(op: number, name: string): Step<void> {
  return { op, name, requestBytes: REQUEST, replyBytes: REPLY, changes: false, encode: nothing, decode: nothing };
}

export const PUTROOTFH = plain(Op.putrootfh, 'PUTROOTFH');
export const SAVEFH = plain(Op.savefh, 'SAVEFH');
export const RESTOREFH = plain(Op.restorefh, 'RESTOREFH');
export const GETFH: Step<Uint8Array> = {
  ...plain(Op.getfh, 'GETFH'),
  replyBytes: REPLY + 4 + Size.maxHandle,
  decode: (reader) => reader.opaque(Size.maxHandle),
};

export function putfh(handle: Uint8Array): Step<void> {
  return {
    ...plain(Op.putfh, 'PUTFH'),
    requestBytes: REQUEST + opaqueBytes(handle),
    encode: (writer) => writer.opaque(handle),
  };
}

export function lookup(name: Uint8Array): Step<void> {
  return {
    ...plain(Op.lookup, 'LOOKUP'),
    requestBytes: REQUEST + opaqueBytes(name),
    encode: (writer) => writer.opaque(name),
  };
}

export function getattr(mask: Bitmap): Step<FileAttributes> {
  return {
    op: Op.getattr,
    name: 'GETATTR',
    requestBytes: REQUEST + 4 + 4 * mask.length,
    replyBytes: REPLY + ATTRIBUTES_REPLY,
    changes: false,
    encode: (writer) => writeBitmap(writer, mask),
    decode: readFattr,
  };
}

export function setattr(stateid: Stateid, set: SetAttributes): Step<void> {
  return {
    op: Op.setattr,
    name: 'SETATTR',
    requestBytes: REQUEST + Size.stateid + SET_ATTRIBUTES_REQUEST,
    replyBytes: REPLY + 16,
    changes: true,
    encode(writer) {
      writer.fixed(stateid);
      writeSetAttributes(writer, set);
    },
    decode: skipBitmap,
  };
}

export function access(bits: number): Step<number> {
  return {
    ...plain(Op.access, 'ACCESS'),
    requestBytes: REQUEST + 4,
    replyBytes: REPLY + 8,
    encode: (writer) => writer.u32(bits),
    decode(reader) {
      reader.u32(); // which bits the server can judge; the others are not granted
      return reader.u32();
    },
  };
}

export const READLINK: Step<Uint8Array> = {
  ...plain(Op.readlink, 'READLINK'),
  replyBytes: REPLY + 4 + 4096,
  decode: (reader) => reader.opaque(MAX_TARGET),
};

export interface ReadReply {
  readonly eof: boolean;
  readonly data: Uint8Array;
}

export function read(stateid: Stateid, offset: number, length: number): Step<ReadReply> {
  return {
    op: Op.read,
    name: 'READ',
    requestBytes: REQUEST + Size.stateid + 12,
    replyBytes: REPLY + 8 + length + 3,
    changes: false,
    encode(writer) {
      writer.fixed(stateid);
      writer.u64(offset);
      writer.u32(length);
    },
    decode: (reader) => ({ eof: reader.bool(), data: reader.opaque(length) }),
  };
}

export interface WriteReply {
  readonly count: number;
  /** `stable_how4`. */
  readonly committed: number;
  readonly verifier: U64;
}

export function write(stateid: Stateid, offset: number, data: Uint8Array, stable: number): Step<WriteReply> {
  return {
    op: Op.write,
    name: 'WRITE',
    requestBytes: REQUEST + Size.stateid + 12 + opaqueBytes(data),
    replyBytes: REPLY + 16,
    changes: true,
    encode(writer) {
      writer.fixed(stateid);
      writer.u64(offset);
      writer.u32(stable);
      writer.opaque(data);
    },
    decode: (reader) => ({
      count: reader.u32(),
      committed: reader.enumeration(0, 2, 'stable_how4'),
      verifier: readU64(reader),
    }),
  };
}

export function commit(offset: number, length: number): Step<U64> {
  return {
    op: Op.commit,
    name: 'COMMIT',
    requestBytes: REQUEST + 12,
    replyBytes: REPLY + Size.verifier,
    changes: false,
    encode(writer) {
      writer.u64(offset);
      writer.u32(length);
    },
    decode: readU64,
  };
}

/** What CREATE makes: everything but a regular file. */
export type CreateType =
  | { readonly type: typeof Type.directory }
  | { readonly type: typeof Type.symlink; readonly target: Uint8Array }
  | Device;

export function create(what: CreateType, name: Uint8Array, set: SetAttributes): Step<ChangeInfo> {
  const target = 'target' in what ? opaqueBytes(what.target) : 8;
  return {
    op: Op.create,
    name: 'CREATE',
    requestBytes: REQUEST + 4 + target + opaqueBytes(name) + SET_ATTRIBUTES_REQUEST,
    replyBytes: REPLY + CHANGE_INFO + 16,
    changes: true,
    encode(writer) {
      writer.u32(what.type);
      if ('target' in what) writer.opaque(what.target);
      else if ('major' in what) writer.halves(what.major, what.minor);
      writer.opaque(name);
      writeSetAttributes(writer, set);
    },
    decode(reader) {
      const info = readChangeInfo(reader);
      skipBitmap(reader);
      return info;
    },
  };
}

/** The saved handle gets another name in the current directory. */
export function link(name: Uint8Array): Step<ChangeInfo> {
  return {
    op: Op.link,
    name: 'LINK',
    requestBytes: REQUEST + opaqueBytes(name),
    replyBytes: REPLY + CHANGE_INFO,
    changes: true,
    encode: (writer) => writer.opaque(name),
    decode: readChangeInfo,
  };
}

export function remove(name: Uint8Array): Step<ChangeInfo> {
  return {
    op: Op.remove,
    name: 'REMOVE',
    requestBytes: REQUEST + opaqueBytes(name),
    replyBytes: REPLY + CHANGE_INFO,
    changes: true,
    encode: (writer) => writer.opaque(name),
    decode: readChangeInfo,
  };
}

export interface RenameReply {
  readonly source: ChangeInfo;
  readonly target: ChangeInfo;
}

/** From the saved directory to the current one. */
export function rename(from: Uint8Array, to: Uint8Array): Step<RenameReply> {
  return {
    op: Op.rename,
    name: 'RENAME',
    requestBytes: REQUEST + opaqueBytes(from) + opaqueBytes(to),
    replyBytes: REPLY + 2 * CHANGE_INFO,
    changes: true,
    encode(writer) {
      writer.opaque(from);
      writer.opaque(to);
    },
    decode: (reader) => ({ source: readChangeInfo(reader), target: readChangeInfo(reader) }),
  };
}

export interface Entry {
  readonly cookie: U64;
  readonly name: Uint8Array;
  readonly attributes: FileAttributes;
}

export interface ReaddirReply {
  readonly verifier: U64;
  readonly entries: readonly Entry[];
  readonly eof: boolean;
}

/** One page of at most `maxCount` bytes of reply. */
export function readdir(cookie: U64, verifier: U64, maxCount: number, mask: Bitmap): Step<ReaddirReply> {
  return {
    op: Op.readdir,
    name: 'READDIR',
    requestBytes: REQUEST + 28 + 4 * mask.length,
    replyBytes: REPLY + maxCount,
    changes: false,
    encode(writer) {
      writer.halves(cookie.high, cookie.low);
      writer.halves(verifier.high, verifier.low);
      // A quarter of the page for names and cookies alone is what Linux asks for too; servers take it as a hint.
      writer.u32(maxCount >>> 2);
      writer.u32(maxCount);
      writeBitmap(writer, mask);
    },
    decode(reader) {
      const given = readU64(reader);
      const entries: Entry[] = [];
      while (reader.bool()) {
        entries.push({ cookie: readU64(reader), name: readEntryName(reader), attributes: readFattr(reader) });
      }
      return { verifier: given, entries, eof: reader.bool() };
    },
  };
}

/** Goes on only if the current object's change id is this one, else NFS4ERR_NOT_SAME. */
export function verifyChange(change: U64): Step<void> {
  return { ...plain(Op.verify, 'VERIFY'), requestBytes: REQUEST + 20, encode: (writer) => writeChange(writer, change) };
}

/** Goes on only if the current object is so many bytes long, else NFS4ERR_NOT_SAME. */
export function verifySize(size: number): Step<void> {
  return { ...plain(Op.verify, 'VERIFY'), requestBytes: REQUEST + 20, encode: (writer) => writeSize(writer, size) };
}

/** Goes on only if the current object is of this type, else NFS4ERR_NOT_SAME. */
export function verifyType(type: FileType): Step<void> {
  return { ...plain(Op.verify, 'VERIFY'), requestBytes: REQUEST + 16, encode: (writer) => writeType(writer, type) };
}

/** Goes on only if the current object is not of this type, else NFS4ERR_SAME. */
export function nverifyType(type: FileType): Step<void> {
  return { ...plain(Op.nverify, 'NVERIFY'), requestBytes: REQUEST + 16, encode: (writer) => writeType(writer, type) };
}

function readU64(reader: XdrReader): U64 {
  return { high: reader.u32(), low: reader.u32() };
}

function skipBitmap(reader: XdrReader): void {
  readBitmap(reader);
}
