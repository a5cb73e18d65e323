/**
 * The procedures of NFS version 3 on objects and names (RFC 1813 section 3.3): how arguments and results are written.
 * Pure. A failed result carries attributes too; they are read (the reply is checked to its end) and dropped.
 */
import { readEntryName } from '../entry-name.ts';
import type { Procedure } from '../rpc/message.ts';
import {
  type AccessResult,
  type Attributes,
  type ChangeResult,
  type CommitResult,
  type CreateMode,
  type Device,
  type DirectoryEntry,
  type DirectoryPosition,
  FileType,
  type Handle,
  type LinkResult,
  type Name,
  type ReaddirResult,
  type ReadlinkResult,
  type ReadResult,
  type RenameResult,
  type SetAttributes,
  type Stability,
  type U64,
  type Wcc,
  type WriteResult,
} from '../server.ts';
import { XdrError, type XdrReader, type XdrWriter } from '../xdr.ts';
import { NFS_PROGRAM, NFS_VERSION, nothing, procedure, writeHandle } from './procedure.ts';
import {
  PATH_LIMIT,
  readAttributes,
  readHandle,
  readPostAttributes,
  readPostHandle,
  readU64,
  readWcc,
  writeDirectoryName,
  writeSetAttributes,
} from './types.ts';

const STABILITIES: readonly Stability[] = ['unstable', 'dataSync', 'fileSync'];
const CREATE_MODES: readonly CreateMode[] = ['unchecked', 'guarded', 'exclusive'];

export const NULL: Procedure<null, void> = {
  name: 'NULL',
  number: 0,
  program: NFS_PROGRAM,
  version: NFS_VERSION,
  idempotent: true,
  encode: nothing,
  decode: nothing,
};

export const GETATTR = procedure<Handle, Attributes>('GETATTR', 1, {
  idempotent: true,
  encode: writeHandle,
  ok: readAttributes,
  failed: nothing,
});

export interface SetattrArgs {
  readonly handle: Handle;
  readonly attributes: SetAttributes;
  readonly guard: U64 | undefined;
}

export const SETATTR = procedure<SetattrArgs, ChangeResult>('SETATTR', 2, {
  // With a guard the second execution would find the ctime changed by the first.
  idempotent: false,
  encode(writer, { handle, attributes, guard }) {
    writer.opaque(handle);
    writeSetAttributes(writer, attributes);
    writer.bool(guard !== undefined);
    if (guard !== undefined) writer.halves(guard.high, guard.low);
  },
  ok: (reader) => ({ wcc: readWcc(reader) }),
  failed: readWcc,
});

export interface NameArgs {
  readonly directory: Handle;
  readonly name: Name;
}

export interface Looked {
  readonly handle: Handle;
  readonly attributes: Attributes | null;
  readonly directory: Attributes | null;
}

export const LOOKUP = procedure<NameArgs, Looked>('LOOKUP', 3, {
  idempotent: true,
  encode: (writer, { directory, name }) => writeDirectoryName(writer, directory, name),
  ok: (reader) => ({
    handle: readHandle(reader),
    attributes: readPostAttributes(reader),
    directory: readPostAttributes(reader),
  }),
  failed: readPostAttributes,
});

export const ACCESS = procedure<{ handle: Handle; bits: number }, AccessResult>('ACCESS', 4, {
  idempotent: true,
  encode(writer, { handle, bits }) {
    writer.opaque(handle);
    writer.u32(bits);
  },
  ok(reader, { bits }) {
    const attributes = readPostAttributes(reader);
    return { granted: reader.u32() & bits, attributes };
  },
  failed: readPostAttributes,
});

export const READLINK = procedure<Handle, ReadlinkResult>('READLINK', 5, {
  idempotent: true,
  encode: writeHandle,
  ok(reader) {
    const attributes = readPostAttributes(reader);
    return { target: reader.opaque(PATH_LIMIT), attributes };
  },
  failed: readPostAttributes,
});

export interface ReadArgs {
  readonly handle: Handle;
  readonly offset: number;
  readonly length: number;
}

export const READ = procedure<ReadArgs, ReadResult>('READ', 6, {
  idempotent: true,
  encode(writer, { handle, offset, length }) {
    writer.opaque(handle);
    writer.u64(offset);
    writer.u32(length);
  },
  ok(reader, { length }) {
    const attributes = readPostAttributes(reader);
    const count = reader.u32();
    const eof = reader.bool();
    const data = reader.opaque(length);
    if (data.length !== count) throw new XdrError('ERR_XDR_VALUE', `${count} bytes announced, ${data.length} sent`);
    if (count === 0 && length > 0 && !eof) throw new XdrError('ERR_XDR_VALUE', 'neither data nor the end of the file');
    return { data, eof, attributes };
  },
  failed: readPostAttributes,
});

export interface WriteArgs {
  readonly handle: Handle;
  readonly offset: number;
  readonly data: Uint8Array;
  readonly stability: Stability;
}

export const WRITE = procedure<WriteArgs, WriteResult>('WRITE', 7, {
  idempotent: true,
  encode(writer, { handle, offset, data, stability }) {
    writer.opaque(handle);
    writer.u64(offset);
    writer.u32(data.length);
    writer.u32(STABILITIES.indexOf(stability));
    writer.opaque(data);
  },
  ok(reader, { data }) {
    const wcc = readWcc(reader);
    const count = reader.u32();
    if (count > data.length || (count === 0 && data.length > 0)) {
      throw new XdrError('ERR_XDR_VALUE', `${count} bytes said written of ${data.length}`);
    }
    const committed = STABILITIES[reader.enumeration(0, 2, 'stability')] as Stability;
    return { wcc, count, committed, verifier: readU64(reader) };
  },
  failed: readWcc,
});

/** What a creating procedure answers: handle and attributes where the server gives them. */
export interface Made {
  readonly handle: Handle | null;
  readonly attributes: Attributes | null;
  readonly wcc: Wcc;
}

function readMade(reader: XdrReader): Made {
  return { handle: readPostHandle(reader), attributes: readPostAttributes(reader), wcc: readWcc(reader) };
}

export interface CreateArgs extends NameArgs {
  readonly mode: CreateMode;
  readonly attributes: SetAttributes;
  readonly verifier: U64 | undefined;
}

export const CREATE = procedure<CreateArgs, Made>('CREATE', 8, {
  idempotent: false,
  encode(writer, { directory, name, mode, attributes, verifier }) {
    writeDirectoryName(writer, directory, name);
    writer.u32(CREATE_MODES.indexOf(mode));
    if (mode !== 'exclusive') writeSetAttributes(writer, attributes);
    else if (verifier === undefined) throw new TypeError('an exclusive create needs a verifier');
    else writer.halves(verifier.high, verifier.low);
  },
  ok: readMade,
  failed: readWcc,
});

export const MKDIR = procedure<NameArgs & { attributes: SetAttributes }, Made>('MKDIR', 9, {
  idempotent: false,
  encode(writer, { directory, name, attributes }) {
    writeDirectoryName(writer, directory, name);
    writeSetAttributes(writer, attributes);
  },
  ok: readMade,
  failed: readWcc,
});

export const SYMLINK = procedure<NameArgs & { target: Name; attributes: SetAttributes }, Made>('SYMLINK', 10, {
  idempotent: false,
  encode(writer, { directory, name, target, attributes }) {
    writeDirectoryName(writer, directory, name);
    writeSetAttributes(writer, attributes);
    writer.opaque(target);
  },
  ok: readMade,
  failed: readWcc,
});

export const MKNOD = procedure<NameArgs & { device: Device; attributes: SetAttributes }, Made>('MKNOD', 11, {
  idempotent: false,
  encode(writer, { directory, name, device, attributes }) {
    writeDirectoryName(writer, directory, name);
    writer.u32(device.type);
    writeSetAttributes(writer, attributes);
    if (device.type === FileType.block || device.type === FileType.character) {
      writer.halves(device.major, device.minor);
    }
  },
  ok: readMade,
  failed: readWcc,
});

const nameChange = (name: string, number: number): Procedure<NameArgs, ChangeResult> =>
  procedure<NameArgs, ChangeResult>(name, number, {
    idempotent: false,
    encode: (writer, args) => writeDirectoryName(writer, args.directory, args.name),
    ok: (reader) => ({ wcc: readWcc(reader) }),
    failed: readWcc,
  });

export const REMOVE = nameChange('REMOVE', 12);
export const RMDIR = nameChange('RMDIR', 13);

export interface RenameArgs {
  readonly fromDirectory: Handle;
  readonly fromName: Name;
  readonly toDirectory: Handle;
  readonly toName: Name;
}

const readRenamed = (reader: XdrReader): RenameResult => ({ from: readWcc(reader), to: readWcc(reader) });

export const RENAME = procedure<RenameArgs, RenameResult>('RENAME', 14, {
  idempotent: false,
  encode(writer, { fromDirectory, fromName, toDirectory, toName }) {
    writeDirectoryName(writer, fromDirectory, fromName);
    writeDirectoryName(writer, toDirectory, toName);
  },
  ok: readRenamed,
  failed: readRenamed,
});

const readLinked = (reader: XdrReader): LinkResult => ({
  attributes: readPostAttributes(reader),
  wcc: readWcc(reader),
});

export const LINK = procedure<NameArgs & { handle: Handle }, LinkResult>('LINK', 15, {
  idempotent: false,
  encode(writer, { handle, directory, name }) {
    writer.opaque(handle);
    writeDirectoryName(writer, directory, name);
  },
  ok: readLinked,
  failed: readLinked,
});

export interface ReaddirArgs {
  readonly directory: Handle;
  readonly position: DirectoryPosition | null;
  /** Bytes of names and cookies alone (READDIRPLUS), and of the whole answer. */
  readonly nameBytes: number;
  readonly bytes: number;
}

function writePosition(writer: XdrWriter, { directory, position }: ReaddirArgs): void {
  writer.opaque(directory);
  writer.halves(position?.cookie.high ?? 0, position?.cookie.low ?? 0);
  writer.halves(position?.verifier.high ?? 0, position?.verifier.low ?? 0);
}

const DOT = 0x2e;
const isDots = (name: Name): boolean =>
  name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));

function readListing(reader: XdrReader, { position }: ReaddirArgs, plus: boolean): ReaddirResult {
  const attributes = readPostAttributes(reader);
  const verifier = readU64(reader);
  const entries: DirectoryEntry[] = [];
  let cookie = position?.cookie ?? { high: 0, low: 0 };
  let seen = 0;
  while (reader.bool()) {
    const fileidHigh = reader.u32();
    const fileidLow = reader.u32();
    const name = readEntryName(reader);
    cookie = readU64(reader);
    const attributes = plus ? readPostAttributes(reader) : null;
    const handle = plus ? readPostHandle(reader) : null;
    seen++;
    if (!isDots(name)) entries.push({ name, fileidHigh, fileidLow, cookie, attributes, handle });
  }
  const eof = reader.bool();
  // A page that is empty before the end would have us ask for it for ever.
  if (seen === 0 && !eof) throw new XdrError('ERR_XDR_VALUE', 'an empty page that is not the last');
  return { entries, eof, next: { cookie, verifier }, attributes };
}

export const READDIR = procedure<ReaddirArgs, ReaddirResult>('READDIR', 16, {
  idempotent: true,
  encode(writer, args) {
    writePosition(writer, args);
    writer.u32(args.bytes);
  },
  ok: (reader, args) => readListing(reader, args, false),
  failed: readPostAttributes,
});

export const READDIRPLUS = procedure<ReaddirArgs, ReaddirResult>('READDIRPLUS', 17, {
  idempotent: true,
  encode(writer, args) {
    writePosition(writer, args);
    writer.halves(args.nameBytes, args.bytes);
  },
  ok: (reader, args) => readListing(reader, args, true),
  failed: readPostAttributes,
});

export const COMMIT = procedure<ReadArgs, CommitResult>('COMMIT', 21, {
  idempotent: true,
  encode(writer, { handle, offset, length }) {
    writer.opaque(handle);
    writer.u64(offset);
    writer.u32(length);
  },
  ok: (reader) => ({ wcc: readWcc(reader), verifier: readU64(reader) }),
  failed: readWcc,
});
