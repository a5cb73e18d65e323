/**
 * From the results of a COMPOUND's steps to the results and errors of operations as `RemoteServer` has them.
 * Pure.
 */
import { protocolError, type RemoteError, statusError } from '../remote-error.ts';
import type {
  Attributes,
  DirectoryEntry,
  Operation,
  OperationResult,
  ReaddirResult,
  Stability,
  U64,
  Wcc,
} from '../server.ts';
import { type FileAttributes, toAttributes } from './attributes.ts';
import type { Reply } from './compound.ts';
import { Status } from './constants.ts';
import type { Entry, ReaddirReply, ReadReply, WriteReply } from './file-steps.ts';
import type { ChangedDirectory, Planned } from './planned.ts';
import { notSyncError, statusError4 } from './status.ts';
import type { ChangeInfo } from './step.ts';

const STABILITY: readonly Stability[] = ['unstable', 'dataSync', 'fileSync'];

/** The result of an operation whose own steps were done; null if the server did not give what the result must have. */
export function operationResult(planned: Planned, reply: Reply): OperationResult | null {
  const { operation, main } = planned;
  const attributes = attributesAt(reply, planned.attributes);
  switch (operation.op) {
    case 'getattr':
    case 'verify':
      return attributes;
    case 'setattr':
      return { wcc: { before: null, after: attributes } };
    case 'lookup':
      return found(planned, reply, { directory: attributesAt(reply, planned.directory) });
    case 'access':
      return { granted: reply.value<number>(main) & operation.bits, attributes };
    case 'readlink':
      return { target: reply.value<Uint8Array>(main), attributes };
    case 'read':
      return { ...reply.value<ReadReply>(main), attributes };
    case 'write': {
      const { count, committed, verifier } = reply.value<WriteReply>(main);
      return { count, committed: STABILITY[committed]!, verifier, wcc: { before: null, after: attributes } };
    }
    case 'commit':
      return { verifier: reply.value<U64>(main), wcc: { before: null, after: attributes } };
    case 'create':
    case 'mkdir':
    case 'symlink':
    case 'mknod':
      return found(planned, reply, { wcc: wccOf(planned, planned.changed, reply) });
    case 'link':
      return { attributes, wcc: wccOf(planned, planned.changed, reply) };
    case 'remove':
    case 'rmdir':
      return { wcc: wccOf(planned, planned.changed, reply) };
    case 'rename':
      return { from: wccOf(planned, planned.changed, reply), to: wccOf(planned, planned.changedTo, reply) };
    case 'readdir':
      return listing(operation, reply.value<ReaddirReply>(main), attributes);
  }
}

function attributesAt(reply: Reply, index: number): Attributes | null {
  if (index < 0 || !reply.done(index)) return null;
  return toAttributes(reply.value<FileAttributes>(index), 'GETATTR');
}

function found<T extends { wcc: Wcc } | { directory: Attributes | null }>(planned: Planned, reply: Reply, more: T) {
  const attributes = attributesAt(reply, planned.attributes);
  if (attributes === null) return null;
  const { handle } = reply.value<FileAttributes>(planned.attributes);
  if (handle === null)
    throw protocolError(planned.operation.op.toUpperCase(), 'attributes without the filehandle asked for');
  return { handle, attributes, ...more };
}

/**
 * What a COMPOUND did to a directory. Its changes follow each other, each from where the one before it ended, up to the
 * attributes at the end: then nobody else was there, and `before` is where the first of them began. The attributes are with the
 * last one only.
 */
function wccOf(planned: Planned, directory: ChangedDirectory | null, reply: Reply): Wcc {
  if (directory === null) return { before: null, after: null };
  const after = attributesAt(reply, directory.attributes);
  let first: ChangeInfo | null = null;
  let previous: ChangeInfo | null = null;
  for (const { step, info } of directory.changes) {
    if (!reply.done(step)) break;
    const change = info(reply.value<never>(step));
    if (previous !== null && !(change.beforeHigh === previous.afterHigh && change.beforeLow === previous.afterLow)) {
      return { before: null, after: planned === directory.last ? after : null };
    }
    first ??= change;
    previous = change;
  }
  const alone =
    previous !== null &&
    (after === null || (after.changeHigh === previous.afterHigh && after.changeLow === previous.afterLow));
  const before = alone && first !== null ? { high: first.beforeHigh, low: first.beforeLow } : null;
  return { before, after: planned === directory.last ? after : null };
}

function listing(
  operation: Extract<Operation, { op: 'readdir' }>,
  { verifier, entries, eof }: ReaddirReply,
  attributes: Attributes | null,
): ReaddirResult {
  const last = entries[entries.length - 1];
  const cookie = last?.cookie ?? operation.position?.cookie ?? { high: 0, low: 0 };
  return {
    entries: entries.map((entry) => toEntry(entry, operation.plus)),
    eof,
    next: { cookie, verifier },
    attributes,
  };
}

function toEntry({ name, cookie, attributes: given }: Entry, plus: boolean): DirectoryEntry {
  const { fileidHigh, fileidLow } = given;
  const known = plus && given.error === 0 && given.type !== 0;
  return {
    name,
    fileidHigh,
    fileidLow,
    cookie,
    attributes: known ? toAttributes(given, 'READDIR') : null,
    handle: known ? given.handle : null,
  };
}

/** Why an operation failed, in POSIX's words where its steps say it in others. */
export function operationError(operation: Operation, reply: Reply): RemoteError {
  const { status, failedName: step } = reply;
  if (step === 'VERIFY' && status === Status.notSame) {
    return operation.op === 'rmdir' ? statusError('REMOVE', Status.notdir) : notSyncError('VERIFY', status);
  }
  if (step === 'NVERIFY' && status === Status.same) return statusError('REMOVE', Status.isdir);
  if (step === 'READDIR' && status === Status.notSame) {
    return statusError('READDIR', Status.badCookie);
  }
  if (status === Status.symlink && step !== 'READ' && step !== 'WRITE') {
    // A symlink where a directory should be; OPEN says so of the name itself.
    return statusError(step, step === 'OPEN' ? Status.exist : Status.notdir);
  }
  if (status === Status.wrongType && step === 'OPEN') return statusError(step, Status.exist);
  return statusError4(step, status);
}
