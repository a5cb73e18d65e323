/**
 * Runs a batch: as many COMPOUNDs, one after the other, as its operations need, usually one.
 * It touches the session and, where the server says "later", timers.
 */
import { randomBytes } from 'node:crypto';
import { handleKey } from '../operation.ts';
import { protocolError, RemoteError } from '../remote-error.ts';
import {
  type Attributes,
  type BatchResult,
  type CallOptions,
  FileType,
  type Handle,
  type HandleRef,
  type LookupResult,
  type Operation,
  type OperationResult,
  type U64,
} from '../server.ts';
import { findDone } from './aftermath.ts';
import { Compound, type Reply } from './compound.ts';
import { Status } from './constants.ts';
import { putfh } from './file-steps.ts';
import { type Leak, Plan, type PlanLimits } from './plan.ts';
import { refs } from './planned.ts';
import type { Session } from './session.ts';
import { close } from './state-steps.ts';

const DELAY_FIRST_MS = 10;
const DELAY_MOST_MS = 1000;
const CLEANUP_TIMEOUT_MS = 10_000;
/** Room in a message for the RPC header, AUTH_SYS with sixteen groups included. */
const RPC_HEADER_BYTES = 1024;
const MAX_CHANGES = 4096;
/** Two changes within one tick of the server's clock may have one change id. */
const CLOCK_TICK_MS = 20;

export interface BatchCounters {
  /** COMPOUNDs sent for operations, i.e. round trips. */
  compounds: number;
  /** Operations in them. */
  operations: number;
  /** COMPOUNDs lost in a crash of the server of which could be told what had been done. */
  settled: number;
}

/** A change id and when it was seen. */
interface Seen extends U64 {
  readonly at: number;
}

export class BatchRunner {
  readonly counters: BatchCounters = { compounds: 0, operations: 0, settled: 0 };
  readonly #session: Session;
  readonly #timeoutMs: number;
  readonly #readdirBytes: number;
  /** Open owners that no COMPOUND uses now. */
  readonly #owners: Uint8Array[] = [];
  #ownersMade = 0;
  /** Change ids of directories as last seen, the longest unseen first. */
  readonly #changes = new Map<string, Seen>();

  constructor(session: Session, timeoutMs: number, readdirBytes: number) {
    this.#session = session;
    this.#timeoutMs = timeoutMs;
    this.#readdirBytes = readdirBytes;
  }

  get limits(): PlanLimits {
    const { maxOperations, maxRequest, maxReply, maxKeptReply } = this.#session.limits;
    return {
      operations: maxOperations,
      requestBytes: maxRequest - RPC_HEADER_BYTES,
      replyBytes: maxReply - RPC_HEADER_BYTES,
      keptReplyBytes: maxKeptReply - RPC_HEADER_BYTES,
      readdirBytes: Math.min(this.#readdirBytes, maxReply - 4096),
    };
  }

  /** As `RemoteServer.batch`. */
  async run(operations: readonly Operation[], options?: CallOptions): Promise<BatchResult[]> {
    checkReferences(operations);
    const results: BatchResult[] = [];
    const known: (Handle | undefined)[] = [];
    const owner = this.#owners.pop() ?? new TextEncoder().encode(`o${this.#ownersMade++}`);
    try {
      await this.#runAll(operations, results, known, owner, options);
    } catch (error) {
      results.push({ ok: false, error: error as Error });
    } finally {
      this.#owners.push(owner);
    }
    return results;
  }

  async #runAll(
    operations: readonly Operation[],
    results: BatchResult[],
    known: (Handle | undefined)[],
    owner: Uint8Array,
    options?: CallOptions,
  ): Promise<void> {
    const deadline = performance.now() + (options?.timeoutMs ?? this.#timeoutMs);
    for (let delays = 0; results.length < operations.length; ) {
      const plan = this.#plan(operations, results.length, known, owner);
      this.counters.compounds++;
      this.counters.operations += plan.planned.length;
      const before = this.#changesBefore(plan, known);
      const reply = await this.#send(plan, options);
      if (reply === null) continue;
      if (reply instanceof Error) {
        const done = reply.code === 'ECONNRESET' ? await this.#aftermath(plan, known, before, options) : null;
        if (done === null) throw reply;
        this.counters.settled++;
        for (const value of done) this.#accept(operations, results, known, value);
        continue;
      }
      const { values, failure, leak } = plan.settle(reply);
      for (const value of values) {
        const operation = operations[results.length]!;
        const whole = value ?? (await this.#lookAgain(operation, known, options));
        this.#accept(operations, results, known, whole);
      }
      if (leak !== null) await this.#cleanUp(known[leak.index], leak);
      if (values.length > 0) delays = 0;
      if (failure === null) continue;
      const found = await this.#existing(operations[results.length]!, failure.status, known, options);
      if (found !== null) {
        this.#accept(operations, results, known, found);
        continue;
      }
      if (!isPassing(failure.status, values.length > 0)) throw failure.error;
      // The server says "not now" to an operation, or that it does not fit in behind the others: from there on again.
      if (failure.status !== Status.delay && failure.status !== Status.grace) continue;
      const delay = Math.min(DELAY_MOST_MS, DELAY_FIRST_MS * 2 ** Math.min(delays++, 10));
      if (performance.now() + delay >= deadline) throw failure.error;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  /** The next operation is done: keeps its result, and what it tells of handles, change ids and the write verifier. */
  #accept(
    operations: readonly Operation[],
    results: BatchResult[],
    known: (Handle | undefined)[],
    value: OperationResult,
  ): void {
    const operation = operations[results.length]!;
    if ('handle' in value) known[results.length] = value.handle;
    results.push({ ok: true, value });
    const at = (ref: HandleRef) => (ref instanceof Uint8Array ? ref : known[ref.from]);
    if ('handle' in value) this.#seen(value.handle, value.attributes);
    if ('directory' in value && 'directory' in operation) this.#seen(at(operation.directory), value.directory);
    if ('wcc' in value && 'directory' in operation) this.#seen(at(operation.directory), value.wcc.after);
    if ('from' in value && operation.op === 'rename') {
      this.#seen(at(operation.fromDirectory), value.from.after);
      this.#seen(at(operation.toDirectory), value.to.after);
    }
    if ('changeHigh' in value && 'handle' in operation) this.#seen(at(operation.handle), value);
  }

  #seen(handle: Handle | undefined, attributes: Attributes | null): void {
    if (handle === undefined || attributes === null || attributes.type !== FileType.directory) return;
    const key = handleKey(handle);
    this.#changes.delete(key);
    this.#changes.set(key, { high: attributes.changeHigh, low: attributes.changeLow, at: performance.now() });
    if (this.#changes.size <= MAX_CHANGES) return;
    for (const oldest of this.#changes.keys()) {
      this.#changes.delete(oldest);
      break;
    }
  }

  /** The change ids of the directories of a COMPOUND that is about to be sent, where they are old enough to prove something. */
  #changesBefore(plan: Plan, known: readonly (Handle | undefined)[]): Map<string, U64> {
    const before = new Map<string, U64>();
    if (!plan.compound.changes) return before;
    const latest = performance.now() - CLOCK_TICK_MS;
    for (const { operation } of plan.planned) {
      for (const ref of refs(operation)) {
        const handle = ref instanceof Uint8Array ? ref : known[ref.from];
        if (handle === undefined) continue;
        const key = handleKey(handle);
        const seen = this.#changes.get(key);
        if (seen !== undefined && seen.at <= latest) before.set(key, seen);
      }
    }
    return before;
  }

  /** The server crashed with this COMPOUND in flight: what of it was done. */
  #aftermath(
    plan: Plan,
    known: readonly (Handle | undefined)[],
    before: ReadonlyMap<string, U64>,
    options?: CallOptions,
  ): Promise<readonly OperationResult[] | null> {
    const lost = {
      operations: plan.planned.map((planned) => planned.operation),
      first: plan.planned[0]!.index,
      known,
      lastChange: (handle: Handle) => before.get(handleKey(handle)),
      // Nobody else's: what was written is written again unless it was committed together with it.
      verifier: { high: randomBytes(4).readUInt32BE(), low: randomBytes(4).readUInt32BE() },
    };
    return findDone(lost, async (operation) => {
      const [result] = await this.run([operation], options);
      return result!;
    });
  }

  /** Null: the COMPOUND was too much for the server, and a smaller one may not be. An error: it may have been done. */
  async #send(plan: Plan, options?: CallOptions): Promise<Reply | RemoteError | null> {
    const { maxOperations } = this.#session.limits;
    try {
      return await this.#session.run(plan.compound, options);
    } catch (error) {
      if (plan.planned.length > 1 && this.#session.limits.maxOperations < maxOperations) return null;
      if (error instanceof RemoteError && error.indeterminate) return error;
      throw error;
    }
  }

  #plan(
    operations: readonly Operation[],
    from: number,
    known: readonly (Handle | undefined)[],
    owner: Uint8Array,
  ): Plan {
    const plan = new Plan(this.limits, known, owner);
    for (let i = from; i < operations.length; i++) {
      if (!plan.add(operations[i]!, i, operations[i + 1])) break;
    }
    if (plan.planned.length === 0) throw new RangeError(`operation ${from} of this batch refers to no known object`);
    plan.finish();
    return plan;
  }

  /**
   * An unchecked create finds an existing file whatever its permissions: opening it is what they forbid. Null: that is not it.
   */
  async #existing(
    operation: Operation,
    status: number,
    known: readonly (Handle | undefined)[],
    options?: CallOptions,
  ): Promise<OperationResult | null> {
    if (operation.op !== 'create' || operation.mode !== 'unchecked' || status !== Status.access) return null;
    if (operation.attributes.size !== undefined) return null;
    return this.#lookAgain(operation, known, options).catch(() => null);
  }

  /** An operation that was done, but without handle or attributes in the answer. */
  async #lookAgain(
    operation: Operation,
    known: readonly (Handle | undefined)[],
    options?: CallOptions,
  ): Promise<OperationResult> {
    if (!('directory' in operation) || !('name' in operation)) throw incomplete(operation);
    const ref = operation.directory;
    const directory = ref instanceof Uint8Array ? ref : known[ref.from];
    if (directory === undefined) throw incomplete(operation);
    const [result] = await this.run([{ op: 'lookup', directory, name: operation.name }], options);
    if (!result!.ok) throw result!.error;
    const { handle, attributes } = result!.value as LookupResult;
    return { handle, attributes, directory: null, wcc: { before: null, after: null } };
  }

  /** Closes the file that a failure left open. It is waited for, lest the file be removed before. */
  async #cleanUp(handle: Handle | undefined, { stateid }: Leak): Promise<void> {
    if (handle === undefined) return;
    const compound = Compound.inSession();
    compound.add(putfh(handle));
    compound.add(close(stateid));
    await this.#session.run(compound, { timeoutMs: CLEANUP_TIMEOUT_MS }).catch(() => null);
  }
}

/** Whether another attempt at the same operation can do what this one could not. */
function isPassing(status: number, notFirst: boolean): boolean {
  switch (status) {
    case Status.delay:
    case Status.grace:
      return true;
    case Status.repTooBig:
    case Status.repTooBigToCache:
    case Status.reqTooBig:
    case Status.tooManyOps:
    case Status.resource:
      return notFirst;
    default:
      return false;
  }
}

function incomplete(operation: Operation): RemoteError {
  return protocolError(operation.op.toUpperCase(), 'done, but the server gives no attributes');
}

/** A reference names an earlier operation of the batch that finds or makes something. */
function checkReferences(operations: readonly Operation[]): void {
  operations.forEach((operation, index) => {
    for (const ref of refs(operation)) {
      if (ref instanceof Uint8Array) continue;
      const target = operations[ref.from];
      if (!(ref.from < index) || target === undefined || !FINDS.has(target.op)) {
        throw new RangeError(`operation ${index} refers to operation ${ref.from}, which gives it no handle`);
      }
    }
  });
}

const FINDS: ReadonlySet<Operation['op']> = new Set(['lookup', 'create', 'mkdir', 'symlink', 'mknod']);
