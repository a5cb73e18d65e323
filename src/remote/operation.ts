/**
 * Operations as values: one operation run on a server by its method, and a batch run one after the other.
 * Pure; it is what servers without ordered batches (NFSv3, the tests' in-memory server) make `batch` of.
 */
import { NfsCode, RemoteError } from './remote-error.ts';
import type {
  BatchResult,
  CallOptions,
  Handle,
  HandleRef,
  Operation,
  OperationResult,
  RemoteServer,
  U64,
} from './server.ts';

export type SingleCalls = Omit<RemoteServer, 'batch' | 'close' | 'description' | 'info' | 'root' | 'counters'>;

/** A text that is equal exactly for equal handles: a key for maps. */
export function handleKey(handle: Handle): string {
  return Buffer.from(handle.buffer, handle.byteOffset, handle.byteLength).toString('latin1');
}

export function sameU64(a: U64, b: U64): boolean {
  return a.high === b.high && a.low === b.low;
}

/** The handle a reference stands for, given the results so far. Throws a RangeError for a reference that names no handle. */
export function resolveHandle(ref: HandleRef, results: readonly BatchResult[]): Handle {
  if (ref instanceof Uint8Array) return ref;
  const result = results[ref.from];
  if (result?.ok && 'handle' in result.value) return result.value.handle;
  throw new RangeError(`operation ${ref.from} of this batch gives no handle`);
}

/** Runs one operation by the method of its name. */
export function runOperation(
  server: SingleCalls,
  operation: Operation,
  at: (ref: HandleRef) => Handle,
  options?: CallOptions,
): Promise<OperationResult> {
  switch (operation.op) {
    case 'getattr':
      return server.getattr(at(operation.handle), options);
    case 'setattr':
      return server.setattr(at(operation.handle), operation.attributes, operation.guard, options);
    case 'lookup':
      return server.lookup(at(operation.directory), operation.name, options);
    case 'access':
      return server.access(at(operation.handle), operation.bits, options);
    case 'readlink':
      return server.readlink(at(operation.handle), options);
    case 'read':
      return server.read(at(operation.handle), operation.offset, operation.length, options);
    case 'write':
      return server.write(at(operation.handle), operation.offset, operation.data, operation.stability, options);
    case 'commit':
      return server.commit(at(operation.handle), operation.offset, operation.length, options);
    case 'create': {
      const { directory, name, mode, attributes, verifier } = operation;
      return server.create(at(directory), name, mode, attributes, verifier, options);
    }
    case 'mkdir':
      return server.mkdir(at(operation.directory), operation.name, operation.attributes, options);
    case 'symlink': {
      const { directory, name, target, attributes } = operation;
      return server.symlink(at(directory), name, target, attributes, options);
    }
    case 'mknod': {
      const { directory, name, device, attributes } = operation;
      return server.mknod(at(directory), name, device, attributes, options);
    }
    case 'link':
      return server.link(at(operation.handle), at(operation.directory), operation.name, options);
    case 'remove':
      return server.remove(at(operation.directory), operation.name, options);
    case 'rmdir':
      return server.rmdir(at(operation.directory), operation.name, options);
    case 'rename': {
      const { fromDirectory, fromName, toDirectory, toName } = operation;
      return server.rename(at(fromDirectory), fromName, at(toDirectory), toName, options);
    }
    case 'readdir':
      return server.readdir(at(operation.directory), operation.position, operation.plus, options);
    case 'verify':
      return verify(server, at(operation.handle), operation, options);
  }
}

/** `batch` for a server without one: each operation waits for the one before it; stops at the first failure. */
export async function batchOneByOne(
  server: SingleCalls,
  operations: readonly Operation[],
  options?: CallOptions,
): Promise<BatchResult[]> {
  const results: BatchResult[] = [];
  for (const operation of operations) {
    const call = runOperation(server, operation, (ref) => resolveHandle(ref, results), options);
    const result = await call.then(
      (value): BatchResult => ({ ok: true, value }),
      (error: Error): BatchResult => ({ ok: false, error }),
    );
    results.push(result);
    if (!result.ok) break;
  }
  return results;
}

async function verify(
  server: SingleCalls,
  handle: Handle,
  { change, size }: Extract<Operation, { op: 'verify' }>,
  options?: CallOptions,
) {
  const attributes = await server.getattr(handle, options);
  const { changeHigh: high, changeLow: low } = attributes;
  const same = change === undefined || sameU64(change, { high, low });
  if (same && (size === undefined || size === attributes.size)) return attributes;
  const code = NfsCode.notSync;
  throw new RemoteError(`${code}: changed by somebody else, VERIFY`, { code, procedure: 'VERIFY' });
}
