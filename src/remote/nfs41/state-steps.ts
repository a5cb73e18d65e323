/**
 * The steps that make and end state at the server: OPEN, CLOSE and locks (RFC 8881 sections 18.16, 18.2, 18.10 to 18.12).
 * Pure.
 */
import { protocolError } from '../remote-error.ts';
import type { SetAttributes, U64 } from '../server.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { type Bitmap, readBitmap, writeSetAttributes } from './attributes.ts';
import { Op, ShareAccess, Size } from './constants.ts';
import { type ChangeInfo, opaqueBytes, readChangeInfo, type Stateid, type Step } from './step.ts';

/** How OPEN treats a name that is missing or taken. `create` UNCHECKED4, `guarded` GUARDED4, `exclusive` EXCLUSIVE4_1. */
export type OpenHow =
  | { readonly kind: 'existing' }
  | { readonly kind: 'create' | 'guarded'; readonly attributes: SetAttributes }
  | { readonly kind: 'exclusive'; readonly verifier: U64; readonly attributes: SetAttributes };

/** What is opened: a name in the current directory, the current object, or the current object again after a server restart. */
export type OpenClaim =
  | { readonly kind: 'name'; readonly name: Uint8Array }
  | { readonly kind: 'handle' }
  | { readonly kind: 'previous' };

export interface OpenArguments {
  readonly access: number;
  readonly owner: Uint8Array;
  readonly how: OpenHow;
  readonly claim: OpenClaim;
}

export interface OpenReply {
  readonly stateid: Stateid;
  readonly directory: ChangeInfo;
  readonly flags: number;
  /** Which attributes were set. */
  readonly set: Bitmap;
  /** Given although none was wanted: to be returned. */
  readonly delegation: Stateid | null;
}

const CLAIM = { name: 0, previous: 1, handle: 4 } as const;
const MAX_DENIED_OWNER = 1024;

export function open(args: OpenArguments): Step<OpenReply> {
  const { claim } = args;
  return {
    op: Op.open,
    name: 'OPEN',
    requestBytes: 196 + opaqueBytes(args.owner) + (claim.kind === 'name' ? opaqueBytes(claim.name) : 8),
    replyBytes: 512,
    changes: true,
    encode: (writer) => writeOpen(writer, args),
    decode: readOpen,
  };
}

function writeOpen(writer: XdrWriter, { access, owner, how, claim }: OpenArguments): void {
  writer.u32(0); // seqid: of no meaning in v4.1
  writer.u32(access | ShareAccess.wantNoDelegation);
  writer.u32(0); // nobody is denied anything
  writer.halves(0, 0); // the owner's client: it is the session's
  writer.opaque(owner);
  if (how.kind === 'existing') {
    writer.u32(0);
  } else {
    writer.u32(1);
    if (how.kind === 'exclusive') {
      writer.u32(3);
      writer.halves(how.verifier.high, how.verifier.low);
    } else {
      writer.u32(how.kind === 'guarded' ? 1 : 0);
    }
    writeSetAttributes(writer, how.attributes);
  }
  writer.u32(CLAIM[claim.kind]);
  if (claim.kind === 'name') writer.opaque(claim.name);
  else if (claim.kind === 'previous') writer.u32(0); // it was no delegation
}

function readOpen(reader: XdrReader): OpenReply {
  const stateid = reader.fixed(Size.stateid);
  const directory = readChangeInfo(reader);
  const flags = reader.u32();
  const set = readBitmap(reader);
  return { stateid, directory, flags, set, delegation: readDelegation(reader) };
}

const MAX_WHO = 1024;

function readDelegation(reader: XdrReader): Stateid | null {
  const type = reader.enumeration(0, 3, 'open_delegation_type4');
  if (type === 0) return null;
  if (type === 3) {
    const why = reader.u32();
    if (why === 1 || why === 2) reader.bool();
    return null;
  }
  const stateid = reader.fixed(Size.stateid);
  reader.bool();
  if (type === 2) {
    const limit = reader.enumeration(1, 2, 'limit_by4');
    if (limit !== 1 && limit !== 2) throw protocolError('OPEN', 'no such space limit');
    reader.skip(8);
  }
  reader.skip(12);
  reader.opaque(MAX_WHO);
  return stateid;
}

export function close(stateid: Stateid): Step<void> {
  return {
    op: Op.close,
    name: 'CLOSE',
    requestBytes: 8 + Size.stateid,
    replyBytes: 24 + Size.stateid,
    changes: true,
    encode(writer) {
      writer.u32(0);
      writer.fixed(stateid);
    },
    decode: (reader) => reader.skip(Size.stateid),
  };
}

/** A byte range; `length` null is "to the end, wherever that is". */
export interface LockRange {
  readonly exclusive: boolean;
  readonly offset: number;
  readonly length: number | null;
}

/** Who holds a lock that is in the way. */
export interface LockHolder extends LockRange {
  readonly owner: Uint8Array;
}

/** The lock owner's first lock on an open file rests on the open; later ones on the lock stateid that LOCK gave. */
export type Locker =
  | { readonly kind: 'open'; readonly open: Stateid; readonly owner: Uint8Array }
  | { readonly kind: 'lock'; readonly lock: Stateid };

const LOCK_TYPE = { read: 1, write: 2 } as const;

export function lock(range: LockRange, locker: Locker, reclaim: boolean): Step<Stateid> {
  return {
    op: Op.lock,
    name: 'LOCK',
    requestBytes: 80 + (locker.kind === 'open' ? opaqueBytes(locker.owner) : 0),
    replyBytes: 24 + 32 + MAX_DENIED_OWNER,
    changes: true,
    encode(writer) {
      writer.u32(range.exclusive ? LOCK_TYPE.write : LOCK_TYPE.read);
      writer.bool(reclaim);
      writeRange(writer, range);
      writer.bool(locker.kind === 'open');
      if (locker.kind === 'open') {
        writer.u32(0);
        writer.fixed(locker.open);
        writer.u32(0);
        writer.halves(0, 0);
        writer.opaque(locker.owner);
      } else {
        writer.fixed(locker.lock);
        writer.u32(0);
      }
    },
    decode: (reader) => reader.fixed(Size.stateid),
  };
}

/** Would this lock be granted? NFS4ERR_DENIED if not. */
export function lockt(range: LockRange, owner: Uint8Array): Step<void> {
  return {
    op: Op.lockt,
    name: 'LOCKT',
    requestBytes: 36 + opaqueBytes(owner),
    replyBytes: 24 + 32 + MAX_DENIED_OWNER,
    changes: false,
    encode(writer) {
      writer.u32(range.exclusive ? LOCK_TYPE.write : LOCK_TYPE.read);
      writeRange(writer, range);
      writer.halves(0, 0);
      writer.opaque(owner);
    },
    decode() {},
  };
}

export function locku(range: LockRange, stateid: Stateid): Step<Stateid> {
  return {
    op: Op.locku,
    name: 'LOCKU',
    requestBytes: 48,
    replyBytes: 24 + Size.stateid,
    changes: true,
    encode(writer) {
      writer.u32(range.exclusive ? LOCK_TYPE.write : LOCK_TYPE.read);
      writer.u32(0);
      writer.fixed(stateid);
      writeRange(writer, range);
    },
    decode: (reader) => reader.fixed(Size.stateid),
  };
}

function writeRange(writer: XdrWriter, { offset, length }: LockRange): void {
  writer.u64(offset);
  if (length === null) writer.halves(0xffff_ffff, 0xffff_ffff);
  else writer.u64(length);
}

/** What follows NFS4ERR_DENIED in the result of LOCK and LOCKT. */
export function readLockHolder(reader: XdrReader): LockHolder {
  const offset = reader.u64Clamped();
  const high = reader.u32();
  const low = reader.u32();
  const length = high === 0xffff_ffff && low === 0xffff_ffff ? null : high * 0x1_0000_0000 + low;
  const exclusive = (reader.enumeration(1, 4, 'nfs_lock_type4') & 1) === 0;
  reader.skip(8);
  return { exclusive, offset, length, owner: reader.opaque(MAX_DENIED_OWNER) };
}
