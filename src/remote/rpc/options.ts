/**
 * What an RPC client may be told, and how a failure to connect is said. Pure.
 */
import { IsthmusError } from '../../errors.ts';
import type { Credential } from '../server.ts';
import type { XdrReader, XdrWriter } from '../xdr.ts';

export interface RpcOptions {
  readonly host: string;
  readonly port: number;
  /** AUTH_SYS of every call that brings none; null: AUTH_NONE. */
  readonly credential: Credential | null;
  /** For one call, replays and "ask later" included. Default 60000. */
  readonly timeoutMs?: number | undefined;
  /** With calls outstanding and nothing received for this long the connection is given up and the calls are replayed. Default 20000. */
  readonly stallMs?: number | undefined;
  /** For one attempt to connect. Default 10000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Waits between attempts to connect: the first, doubling up to the most. Default 20 and 1000. */
  readonly backoffMs?: readonly [number, number] | undefined;
  /** Calls on the wire at once. Default 256. */
  readonly maxOutstanding?: number | undefined;
  /** Bytes of requests on the wire at once (one call may always go). Default 16 MiB. */
  readonly maxOutstandingBytes?: number | undefined;
  /** Calls waiting for a place on the wire; above it a call fails with ENOBUFS. Default 65536. */
  readonly maxQueued?: number | undefined;
  /** Longest reply. Default 4 MiB. */
  readonly maxRecord?: number | undefined;
  /** Polls for the reply of a single call where such replies took less than this lately (busy-poll.ts). Default 0: never. */
  readonly busyPollUs?: number | undefined;
  /** For the first xid and the jitter of the backoff. */
  readonly random?: (() => number) | undefined;
  /** A call from the server (v4.1's back channel): writes the reply after its xid and type. Default: PROG_UNAVAIL. */
  readonly onCall?: ((reader: XdrReader, writer: XdrWriter) => void) | undefined;
  /** The connection was lost and is back; replays go out right after this returns. */
  readonly onReconnect?: (() => void) | undefined;
}

export function connectFailure(error: Error | null, { host, port }: RpcOptions): Error {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? 'ECONNRESET';
  const errno = (error as NodeJS.ErrnoException | null)?.errno ?? 0;
  const message = error?.message ?? 'connection closed';
  return new IsthmusError(`${code}: cannot connect to ${host}:${port} (${message})`, {
    code,
    errno,
    syscall: 'connect',
    cause: error ?? undefined,
  });
}
