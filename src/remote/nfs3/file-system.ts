/**
 * The procedures of NFS version 3 about a whole file system: FSSTAT, FSINFO, PATHCONF (RFC 1813 sections 3.3.18 to 3.3.20).
 * Pure.
 */
import type { FsstatResult, Handle } from '../server.ts';
import { procedure, writeHandle } from './procedure.ts';
import { readPostAttributes } from './types.ts';

export const FSSTAT = procedure<Handle, FsstatResult>('FSSTAT', 18, {
  idempotent: true,
  encode: writeHandle,
  ok(reader) {
    readPostAttributes(reader);
    const result = {
      totalBytes: reader.u64Clamped(),
      freeBytes: reader.u64Clamped(),
      availableBytes: reader.u64Clamped(),
      totalFiles: reader.u64Clamped(),
      freeFiles: reader.u64Clamped(),
      availableFiles: reader.u64Clamped(),
    };
    reader.u32(); // invarsec: how long this may be believed; nothing here keeps it
    return result;
  },
  failed: readPostAttributes,
});

/** FSINFO3resok; sizes in bytes. */
export interface Fsinfo {
  readonly readMax: number;
  readonly writeMax: number;
  readonly readdirPreferred: number;
  readonly maxFileSize: number;
  /** FSF3_* bits. */
  readonly properties: number;
}

export const FSINFO = procedure<Handle, Fsinfo>('FSINFO', 19, {
  idempotent: true,
  encode: writeHandle,
  ok(reader) {
    readPostAttributes(reader);
    const readMax = reader.u32();
    reader.skip(8); // preferred size and multiple: the largest is as good
    const writeMax = reader.u32();
    reader.skip(8);
    const readdirPreferred = reader.u32();
    const maxFileSize = reader.u64Clamped();
    reader.skip(8); // time_delta
    return { readMax, writeMax, readdirPreferred, maxFileSize, properties: reader.u32() };
  },
  failed: readPostAttributes,
});

export interface Pathconf {
  readonly linkMax: number;
  readonly nameMax: number;
  readonly caseInsensitive: boolean;
}

export const PATHCONF = procedure<Handle, Pathconf>('PATHCONF', 20, {
  idempotent: true,
  encode: writeHandle,
  ok(reader) {
    readPostAttributes(reader);
    const linkMax = reader.u32();
    const nameMax = reader.u32();
    reader.bool(); // no_trunc
    reader.bool(); // chown_restricted
    const caseInsensitive = reader.bool();
    reader.bool(); // case_preserving
    return { linkMax, nameMax, caseInsensitive };
  },
  failed: readPostAttributes,
});
