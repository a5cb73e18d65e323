/**
 * From errors of the remote server to the errno that a program sees.
 * Pure.
 */
import { ERRNO } from '../../errors.ts';

/** Anything that a `RemoteServer` rejects with, as a positive errno; what POSIX has no word for is EIO. */
export function errnoOf(error: unknown): number {
  const { name, code, errno } = (error ?? {}) as { name?: unknown; code?: unknown; errno?: unknown };
  if (name === 'AbortError' || code === 'ABORT_ERR') return ERRNO.EINTR;
  if (code === 'ERR_NFS_BAD_HANDLE') return ERRNO.ESTALE;
  if (typeof errno === 'number' && errno !== 0) return Math.abs(errno);
  return ERRNO.EIO;
}

/** Carries an errno out of nested work; never leaves the view. */
export class ErrnoError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}
