/**
 * What can go wrong between us and a file server, as one error type, and the POSIX words for the NFS status numbers.
 * Pure.
 */
import { ERRNO, type ErrnoName, IsthmusError, systemError } from '../errors.ts';

/** The codes for which POSIX has no word. */
export const NfsCode = {
  /** A guard or a `verify` did not hold. */
  notSync: 'ERR_NFS_NOT_SYNC',
  /** A listing cannot go on from here: start again. */
  badCookie: 'ERR_NFS_BAD_COOKIE',
  /** Not a handle of this server. */
  badHandle: 'ERR_NFS_BAD_HANDLE',
} as const;

export interface RemoteErrorDetails {
  readonly code: string;
  readonly errno?: number;
  /** The protocol's procedure or operation, e.g. `LOOKUP`. */
  readonly procedure: string;
  /** The NFS status number, or 0 when the failure was not the server's answer. */
  readonly status?: number;
  readonly indeterminate?: boolean;
  readonly cause?: unknown;
}

/** A failed remote call: `code` and `errno` as POSIX has them, `syscall` the protocol's procedure. */
export class RemoteError extends IsthmusError {
  /** The server's status number (nfsstat3 or nfsstat4); 0 when no answer said so. */
  readonly status: number;
  /** True when the request may have been executed although no answer came. */
  readonly indeterminate: boolean;
  /** True when the request had been sent more than once: a non-idempotent one may have met its own first execution. */
  replayed = false;

  constructor(message: string, details: RemoteErrorDetails) {
    super(message, {
      code: details.code,
      errno: details.errno ?? 0,
      syscall: details.procedure,
      cause: details.cause,
    });
    this.name = 'RemoteError';
    this.status = details.status ?? 0;
    this.indeterminate = details.indeterminate ?? false;
  }
}

/**
 * NFS status numbers and what they mean to POSIX: nfsstat3 (RFC 1813 section 2.6), whose numbers nfsstat4 shares.
 * What is v4's alone is its implementation's affair.
 */
const STATUS: Readonly<Record<number, ErrnoName | (typeof NfsCode)[keyof typeof NfsCode]>> = {
  1: 'EPERM',
  2: 'ENOENT',
  5: 'EIO',
  6: 'ENXIO',
  13: 'EACCES',
  17: 'EEXIST',
  18: 'EXDEV',
  19: 'ENODEV',
  20: 'ENOTDIR',
  21: 'EISDIR',
  22: 'EINVAL',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  31: 'EMLINK',
  63: 'ENAMETOOLONG',
  66: 'ENOTEMPTY',
  69: 'EDQUOT',
  70: 'ESTALE',
  71: 'EREMOTE',
  10001: NfsCode.badHandle,
  10002: NfsCode.notSync,
  10003: NfsCode.badCookie,
  10004: 'EOPNOTSUPP',
  10005: 'EINVAL',
  10006: 'EIO',
  10007: 'EINVAL',
  10008: 'EAGAIN',
};

const WORDS: Readonly<Record<string, string>> = {
  [NfsCode.notSync]: 'changed by somebody else',
  [NfsCode.badCookie]: 'the listing cannot go on from here',
  [NfsCode.badHandle]: 'not a file handle of this server',
};

/** The error for a status the server answered with; unknown numbers are EIO (and keep `status`). */
export function statusError(procedure: string, status: number): RemoteError {
  const code = STATUS[status] ?? 'EIO';
  const words = WORDS[code];
  if (words !== undefined) return new RemoteError(`${code}: ${words}, ${procedure}`, { code, procedure, status });
  const plain = systemError(ERRNO[code as ErrnoName], procedure, undefined, STATUS[status] ? undefined : `${status}`);
  return new RemoteError(plain.message, { code, errno: plain.errno, procedure, status });
}

/** The error for a call that got no (usable) answer. */
export function transportError(
  name: ErrnoName,
  procedure: string,
  why: string,
  options: { indeterminate: boolean; cause?: unknown } = { indeterminate: false },
): RemoteError {
  const errno = -ERRNO[name];
  return new RemoteError(`${name}: ${why}, ${procedure}`, { code: name, errno, procedure, ...options });
}

/** The error for an answer that is not what the protocol allows. */
export function protocolError(procedure: string, why: string, cause?: unknown): RemoteError {
  return transportError('EPROTO', procedure, why, { indeterminate: true, cause });
}

/** What an aborted call rejects with: the signal's reason, as an Error. */
export function abortReason(signal: AbortSignal): Error {
  const { reason } = signal;
  return reason instanceof Error ? reason : new IsthmusError(String(reason), { code: 'ABORT_ERR' });
}
