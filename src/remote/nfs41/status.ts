/**
 * What the statuses of NFSv4.1 mean to POSIX: those shared with NFSv3 through remote-error.ts, the others here.
 * Pure.
 */
import { ERRNO, type ErrnoName, systemError } from '../../errors.ts';
import { NfsCode, RemoteError, statusError } from '../remote-error.ts';

/** Statuses that NFSv3 does not have (RFC 8881 section 15.1), by number: their name, and POSIX's nearest word. */
const V4: Readonly<Record<number, readonly [name: string, code: ErrnoName]>> = {
  10009: ['SAME', 'EAGAIN'],
  10010: ['DENIED', 'EAGAIN'],
  10011: ['EXPIRED', 'EIO'],
  10012: ['LOCKED', 'EAGAIN'],
  10013: ['GRACE', 'EAGAIN'],
  10014: ['FHEXPIRED', 'ESTALE'],
  10015: ['SHARE_DENIED', 'EACCES'],
  10016: ['WRONGSEC', 'EPERM'],
  10017: ['CLID_INUSE', 'EBUSY'],
  10018: ['RESOURCE', 'ENOMEM'],
  10019: ['MOVED', 'EREMOTE'],
  10020: ['NOFILEHANDLE', 'EIO'],
  10021: ['MINOR_VERS_MISMATCH', 'EPROTONOSUPPORT'],
  10022: ['STALE_CLIENTID', 'EIO'],
  10023: ['STALE_STATEID', 'EIO'],
  10024: ['OLD_STATEID', 'EIO'],
  10025: ['BAD_STATEID', 'EBADF'],
  10026: ['BAD_SEQID', 'EIO'],
  10027: ['NOT_SAME', 'EAGAIN'],
  10028: ['LOCK_RANGE', 'EINVAL'],
  10029: ['SYMLINK', 'EINVAL'],
  10030: ['RESTOREFH', 'EIO'],
  10031: ['LEASE_MOVED', 'EIO'],
  10032: ['ATTRNOTSUPP', 'EINVAL'],
  10033: ['NO_GRACE', 'EIO'],
  10034: ['RECLAIM_BAD', 'EIO'],
  10035: ['RECLAIM_CONFLICT', 'EIO'],
  10036: ['BADXDR', 'EPROTO'],
  10037: ['LOCKS_HELD', 'EBUSY'],
  10038: ['OPENMODE', 'EBADF'],
  10039: ['BADOWNER', 'EINVAL'],
  10040: ['BADCHAR', 'EINVAL'],
  10041: ['BADNAME', 'EINVAL'],
  10042: ['BAD_RANGE', 'EINVAL'],
  10043: ['LOCK_NOTSUPP', 'EOPNOTSUPP'],
  10044: ['OP_ILLEGAL', 'EPROTO'],
  10045: ['DEADLOCK', 'EBUSY'],
  10046: ['FILE_OPEN', 'EBUSY'],
  10047: ['ADMIN_REVOKED', 'EIO'],
  10048: ['CB_PATH_DOWN', 'EIO'],
  10049: ['BADIOMODE', 'EIO'],
  10052: ['BADSESSION', 'EIO'],
  10053: ['BADSLOT', 'EIO'],
  10055: ['CONN_NOT_BOUND_TO_SESSION', 'EIO'],
  10063: ['SEQ_MISORDERED', 'EIO'],
  10065: ['REQ_TOO_BIG', 'EMSGSIZE'],
  10066: ['REP_TOO_BIG', 'EMSGSIZE'],
  10067: ['REP_TOO_BIG_TO_CACHE', 'EMSGSIZE'],
  10068: ['RETRY_UNCACHED_REP', 'EIO'],
  10070: ['TOO_MANY_OPS', 'EMSGSIZE'],
  10071: ['OP_NOT_IN_SESSION', 'EIO'],
  10074: ['CLIENTID_BUSY', 'EBUSY'],
  10076: ['SEQ_FALSE_RETRY', 'EIO'],
  10078: ['DEADSESSION', 'EIO'],
  10083: ['WRONG_TYPE', 'EINVAL'],
  10087: ['DELEG_REVOKED', 'EIO'],
};

/** The name of a status, for messages: `BADSESSION`, or the number. */
export function statusName(status: number): string {
  return V4[status]?.[0] ?? String(status);
}

/** The error for a status that a server answered an operation with. Unknown numbers are EIO and keep `status`. */
export function statusError4(procedure: string, status: number): RemoteError {
  const entry = V4[status];
  if (entry === undefined) return statusError(procedure, status);
  const [name, code] = entry;
  const plain = systemError(ERRNO[code], procedure, undefined, `NFS4ERR_${name}`);
  return new RemoteError(plain.message, { code, errno: plain.errno, procedure, status });
}

/** A hypothesis or a guard that did not hold. */
export function notSyncError(procedure: string, status: number): RemoteError {
  const code = NfsCode.notSync;
  return new RemoteError(`${code}: changed by somebody else, ${procedure}`, { code, procedure, status });
}
