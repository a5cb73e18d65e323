/**
 * What all procedures of NFS version 3 have in common: program and version, and a status before the results.
 * Pure.
 */
import { statusError } from '../remote-error.ts';
import type { Procedure } from '../rpc/message.ts';
import type { Handle } from '../server.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { readOk } from './types.ts';

export const NFS_PROGRAM = 100003;
export const NFS_VERSION = 3;

export interface Shape<Args, Result> {
  readonly idempotent: boolean;
  encode(writer: XdrWriter, args: Args): void;
  /** What follows NFS3_OK. */
  ok(reader: XdrReader, args: Args): Result;
  /** What follows any other status. */
  failed(reader: XdrReader): unknown;
}

/** An NFSv3 procedure: a status, and what follows it. */
export function procedure<Args, Result>(
  name: string,
  number: number,
  shape: Shape<Args, Result>,
): Procedure<Args, Result> {
  return {
    name,
    number,
    program: NFS_PROGRAM,
    version: NFS_VERSION,
    idempotent: shape.idempotent,
    encode: shape.encode,
    decode(reader, args) {
      const status = readOk(reader, name);
      if (status === 0) return shape.ok(reader, args);
      shape.failed(reader);
      reader.finish();
      throw statusError(name, status);
    },
  };
}

export const nothing = (): void => {};
export const writeHandle = (writer: XdrWriter, handle: Handle): void => writer.opaque(handle);
