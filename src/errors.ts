/**
 * The one error type for everything the world can do wrong, shaped as Node's own system errors are.
 * Pure: it sits below every floor and touches nothing.
 */

/** Linux errno numbers used by Isthmus, by name (errno(3), asm-generic). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  ENOTSOCK: 88,
  EDESTADDRREQ: 89,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ESHUTDOWN: 108,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
  ESTALE: 116,
  EDQUOT: 122,
  ECANCELED: 125,
  ETIME: 62,
  EPROTO: 71,
  EREMOTE: 66,
  EOVERFLOW: 75,
} as const;

export type ErrnoName = keyof typeof ERRNO;

const nameByNumber = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** The symbolic name of a positive errno, e.g. 98 → `EADDRINUSE`; unknown numbers give `E98`. */
export function errnoName(errno: number): string {
  return nameByNumber.get(errno) ?? `E${errno}`;
}

const explanations: Partial<Record<ErrnoName, string>> = {
  EPERM: 'operation not permitted',
  ENOENT: 'no such file or directory',
  ESRCH: 'no such process',
  EBADF: 'bad queue descriptor or file descriptor',
  EAGAIN: 'would block',
  ENOMEM: 'out of memory',
  EACCES: 'permission denied',
  EEXIST: 'file exists',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EINVAL: 'invalid argument',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files in system',
  EIO: 'input/output error',
  EXDEV: 'cross-device link',
  EFBIG: 'file too large',
  ENOSPC: 'no space left on device',
  EROFS: 'read-only file system',
  EMLINK: 'too many links',
  ENAMETOOLONG: 'name too long',
  ENOTEMPTY: 'directory not empty',
  ELOOP: 'too many levels of symbolic links',
  ESTALE: 'stale file handle',
  EDQUOT: 'disk quota exceeded',
  EPROTO: 'protocol error',
  EPIPE: 'broken pipe',
  EMSGSIZE: 'message too long',
  EOPNOTSUPP: 'operation not supported',
  EAFNOSUPPORT: 'address family not supported',
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'address not available',
  ENETUNREACH: 'network is unreachable',
  ECONNABORTED: 'connection aborted',
  ECONNRESET: 'connection reset by peer',
  ENOBUFS: 'no buffer space available',
  EISCONN: 'already connected',
  ENOTCONN: 'not connected',
  ETIMEDOUT: 'timed out',
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'host is unreachable',
  ECANCELED: 'operation cancelled',
};

export interface IsthmusErrorDetails {
  /** Symbolic name: an errno name, or an Isthmus code such as `ERR_BUFFER_FREED`. */
  code: string;
  /** Negative errno as in Node's system errors; 0 where no errno applies. */
  errno?: number;
  /** The system call or PDPIX call that failed. */
  syscall?: string | undefined;
  /** Address or path the call was about, for the message. */
  about?: string | undefined;
  cause?: unknown;
}

/** An error of the world (not a programmer's mistake). `code`, `errno` and `syscall` are as in Node's system errors. */
export class IsthmusError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string | undefined;

  constructor(message: string, details: IsthmusErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'IsthmusError';
    this.code = details.code;
    this.errno = details.errno ?? 0;
    this.syscall = details.syscall;
  }
}

/**
 * The error for a failed call. `errno` may be given positive or negative.
 * Its message reads `EADDRINUSE: address already in use, bind 127.0.0.1:80`.
 */
export function systemError(errno: number, syscall: string, about?: string, hint?: string): IsthmusError {
  const positive = Math.abs(errno);
  const code = errnoName(positive);
  const why = explanations[code as ErrnoName] ?? 'error';
  const message = `${code}: ${why}, ${syscall}${about ? ` ${about}` : ''}${hint ? ` (${hint})` : ''}`;
  return new IsthmusError(message, { code, errno: -positive, syscall, about });
}
