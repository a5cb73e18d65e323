/**
 * ONC RPC version 2 messages (RFC 5531): call headers with AUTH_SYS, reply headers with everything that can be wrong in them.
 * Pure.
 */
import { protocolError, type RemoteError, transportError } from '../remote-error.ts';
import type { Credential } from '../server.ts';
import { type XdrReader, XdrWriter } from '../xdr.ts';

export const MessageType = { call: 0, reply: 1 } as const;
const RPC_VERSION = 2;
const AUTH_NONE = 0;
const AUTH_SYS = 1;
/** RFC 5531 section 8.2. */
const AUTH_BODY_LIMIT = 400;
const MAX_GROUPS = 16;

/** One procedure of a remote program: its numbers, and how its arguments and results are written. */
export interface Procedure<Args, Result> {
  /** For messages, e.g. `GETATTR`. */
  readonly name: string;
  readonly program: number;
  readonly version: number;
  readonly number: number;
  /** True when executing it twice is as good as once (replays are then safe without the server's duplicate-request cache). */
  readonly idempotent: boolean;
  /** Must write the same bytes each time: a request is encoded again when it is replayed. */
  encode(writer: XdrWriter, args: Args): void;
  /** Reads the results to their end. Throws a RemoteError for a status, `TryLater` for "not now". */
  decode(reader: XdrReader, args: Args): Result;
}

/** Thrown by a decoder: the server asks to be asked again later. `error` is what the call fails with when time is up. */
export class TryLater {
  readonly error: RemoteError;

  constructor(error: RemoteError) {
    this.error = error;
  }
}

/** Credential and verifier of a call, encoded (RFC 5531 section 8 and appendix A). Groups beyond the sixteenth are left out. */
export function encodeCredential(credential: Credential | null, machineName: string): Uint8Array {
  const writer = new XdrWriter(128);
  if (credential === null) {
    writer.halves(AUTH_NONE, 0);
  } else {
    const body = new XdrWriter(128);
    body.u32(0);
    body.string(machineName.slice(0, 64));
    body.u32(credential.uid);
    body.u32(credential.gid);
    const groups = credential.groups.slice(0, MAX_GROUPS);
    body.u32(groups.length);
    for (const group of groups) body.u32(group);
    writer.u32(AUTH_SYS);
    writer.opaque(body.toBytes());
  }
  writer.halves(AUTH_NONE, 0);
  return writer.toBytes();
}

/** Writes a call up to its arguments. */
export function writeCallHeader(
  writer: XdrWriter,
  xid: number,
  procedure: Procedure<never, unknown>,
  credential: Uint8Array,
): void {
  writer.halves(xid, MessageType.call);
  writer.halves(RPC_VERSION, procedure.program);
  writer.halves(procedure.version, procedure.number);
  writer.encoded(credential);
}

const ACCEPT_STATUS = ['', 'PROG_UNAVAIL', 'PROG_MISMATCH', 'PROC_UNAVAIL', 'GARBAGE_ARGS', 'SYSTEM_ERR'];
const AUTH_STATUS = [
  'AUTH_OK',
  'AUTH_BADCRED',
  'AUTH_REJECTEDCRED',
  'AUTH_BADVERF',
  'AUTH_REJECTEDVERF',
  'AUTH_TOOWEAK',
];

/** Reads a reply after its xid and message type, up to the results. Throws a RemoteError unless the call was executed. */
export function readReplyHeader(reader: XdrReader, procedure: string): void {
  const denied = reader.enumeration(0, 1, 'reply status') === 1;
  if (denied) throw readDenied(reader, procedure);
  reader.u32(); // the verifier's flavour: nothing is verified with AUTH_SYS
  const verifier = reader.u32();
  if (verifier > AUTH_BODY_LIMIT) throw protocolError(procedure, 'a verifier that is too long');
  reader.skip(verifier);
  const status = reader.u32();
  if (status === 0) return;
  const word = ACCEPT_STATUS[status];
  if (word === undefined) throw protocolError(procedure, `no accept status: ${status}`);
  if (status === 2) throw refused(procedure, `${word}: the server has versions ${reader.u32()} to ${reader.u32()}`);
  if (status === 5) throw transportError('EIO', procedure, `the server says ${word}`);
  throw refused(procedure, word);
}

function readDenied(reader: XdrReader, procedure: string): RemoteError {
  if (reader.enumeration(0, 1, 'reject status') === 0) {
    return refused(procedure, `RPC_MISMATCH: the server speaks RPC ${reader.u32()} to ${reader.u32()}`);
  }
  const status = reader.u32();
  return transportError('EACCES', procedure, `the server refuses our credential: ${AUTH_STATUS[status] ?? status}`);
}

function refused(procedure: string, why: string): RemoteError {
  return transportError('EOPNOTSUPP', procedure, `the server does not serve this: ${why}`);
}

/** An accepted reply with PROG_UNAVAIL (RFC 5531 section 9). */
export function writeProgramUnavailable(writer: XdrWriter): void {
  writer.halves(0, 0);
  writer.halves(0, 1);
}
