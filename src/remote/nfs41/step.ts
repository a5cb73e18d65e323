/**
 * A step: one NFSv4.1 operation within a COMPOUND, with how its arguments are written and its results read.
 * Types and the stateids that need no state; pure.
 */
import type { XdrReader, XdrWriter } from '../xdr.ts';

/** One operation. `T` is what a success gives. */
export interface Step<T> {
  readonly op: number;
  /** RFC 8881's name, for messages. */
  readonly name: string;
  /** At least what the arguments and the results take, operation number and status included, in bytes: COMPOUNDs are cut by them. */
  readonly requestBytes: number;
  readonly replyBytes: number;
  /** Executing it twice is not as good as once: the COMPOUND's reply has to be kept by the server (`sa_cachethis`). */
  readonly changes: boolean;
  /** Writes the arguments, the same bytes each time. */
  encode(writer: XdrWriter): void;
  /** Reads what follows the status NFS4_OK. */
  decode(reader: XdrReader): T;
}

/** `stateid4`, all 16 bytes of it. */
export type Stateid = Uint8Array;

/** No open: for READ and WRITE as NFSv3 has them (RFC 8881 section 8.2.3). */
export const ANONYMOUS_STATEID: Stateid = new Uint8Array(16);

/** The stateid of the last operation of this COMPOUND that gave one. */
export const CURRENT_STATEID: Stateid = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

/** `change_info4`: a directory's change ids around an operation, to be relied on only if `atomic`. */
export interface ChangeInfo {
  readonly atomic: boolean;
  readonly beforeHigh: number;
  readonly beforeLow: number;
  readonly afterHigh: number;
  readonly afterLow: number;
}

export function readChangeInfo(reader: XdrReader): ChangeInfo {
  return {
    atomic: reader.bool(),
    beforeHigh: reader.u32(),
    beforeLow: reader.u32(),
    afterHigh: reader.u32(),
    afterLow: reader.u32(),
  };
}

/** Bytes of an opaque<> on the wire. */
export function opaqueBytes(value: Uint8Array): number {
  return 4 + value.length + (-value.length & 3);
}

export function nothing(): void {}
