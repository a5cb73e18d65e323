/**
 * Sends assumed mutations to the server in the order of their dependencies, and tells the engine what became of them.
 * It reaches the world only through the RemoteServer.
 */

import {
  type Attributes,
  type BatchResult,
  type Credential,
  FileType,
  type FoundResult,
  type Handle,
  type HandleRef,
  type RemoteServer,
  type Operation as ServerOperation,
} from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation, Outcome } from '../../remote/view/operation.ts';
import type { UndoLog } from '../../remote/view/undo.ts';
import type { SpeculationEngine } from '../engine/engine.ts';
import type { Speculation } from '../engine/interval.ts';
import { MutationQueue, type QueuedMutation } from '../engine/mutations.ts';
import type { SpeculationStatistics } from './statistics.ts';

/** Operations of one batch; the server's own bounds split it further. */
const BATCH_OPERATIONS = 512;
const BATCH_BYTES = 8 << 20;

export interface AssumedMutation {
  readonly mutation: Mutation;
  readonly predicted: Outcome<unknown>;
  readonly undo: UndoLog;
  readonly sinceMs: number;
}

/** What was sent for a mutation, kept to take it back. */
interface Sent extends AssumedMutation {
  operations: readonly ServerOperation[];
  /** The results of its whole batch, for references within. */
  results: readonly BatchResult[];
}

export interface SenderHooks {
  /** A mutation's truth has come. Called before what rests on a failure is undone. */
  truth(speculation: Speculation, assumed: AssumedMutation, right: boolean): void;
  /** A mutation has been taken back at the server: what its results said is no longer so. */
  takenBack(mutation: Mutation): Promise<void>;
  /** A round trip took so many milliseconds. */
  roundTrip(ms: number): void;
  now(): number;
}

export class MutationSender {
  readonly #server: RemoteServer;
  readonly #engine: SpeculationEngine;
  readonly #queue: MutationQueue<Sent>;
  readonly #hooks: SenderHooks;
  readonly #statistics: SpeculationStatistics;
  readonly #makers = new ProvenMakers();
  /** What the speculations of this run's mutations are, until they are definite. */
  readonly #assumed = new Map<Speculation, Sent>();

  constructor(server: RemoteServer, engine: SpeculationEngine, statistics: SpeculationStatistics, hooks: SenderHooks) {
    this.#server = server;
    this.#engine = engine;
    this.#statistics = statistics;
    this.#hooks = hooks;
    // A server of single requests gets independent ones side by side; a batch would put them in a row.
    const ordered = server.info.maxBatch > 1;
    this.#queue = new MutationQueue(engine, { ordered, operations: BATCH_OPERATIONS, bytes: BATCH_BYTES });
  }

  get idle(): boolean {
    return this.#queue.waiting === 0 && this.#queue.inFlight === 0;
  }

  /** Queues it; `pump` sends it. */
  push(speculation: Speculation, assumed: AssumedMutation): void {
    const payload: Sent = { ...assumed, operations: [], results: [] };
    this.#assumed.set(speculation, payload);
    speculation.interval.settled.push((outcome) => {
      this.#assumed.delete(speculation);
      if (outcome === 'committed') assumed.undo.clear();
    });
    const { mutation, undo } = assumed;
    this.#queue.push({
      speculation,
      payload,
      operations: weight(mutation),
      bytes: undo.bytes,
      last: () => mutation.mayFallShort === true || !this.#makers.isProven(mutation),
    });
  }

  /** Sends what may go now. */
  pump(): void {
    const batch = this.#queue.take();
    if (batch.length === 0) return;
    if (this.#server.info.maxBatch > 1) void this.#sendRuns(batch);
    else for (const mutation of batch) void this.#sendRuns([mutation]);
  }

  /** One batch speaks in one name: consecutive mutations of one credential go together. */
  async #sendRuns(batch: readonly QueuedMutation<Sent>[]): Promise<void> {
    let rest = batch;
    while (rest.length > 0) {
      const { credential } = rest[0]!.payload.mutation;
      let count = 1;
      while (count < rest.length && sameCredential(rest[count]!.payload.mutation.credential, credential)) count++;
      const run = rest.slice(0, count);
      const executed = await this.#send(run, credential);
      if (executed < run.length) {
        this.#queue.untouched(rest.slice(executed + 1));
        break;
      }
      rest = rest.slice(count);
    }
    this.pump();
  }

  /** Sends one run. @returns how many succeeded; the next one, if any, failed and has been refuted */
  async #send(run: readonly QueuedMutation<Sent>[], credential: Credential | null): Promise<number> {
    const operations: ServerOperation[] = [];
    const starts: number[] = [];
    const made = new Map<ViewNode, number>();
    const reference = (node: ViewNode): HandleRef => {
      if (node.handle !== null) return node.handle;
      const from = made.get(node);
      if (from === undefined) throw new TypeError('a mutation was sent before the one that makes its node');
      return { from };
    };
    for (const { payload } of run) {
      const start = operations.length;
      starts.push(start);
      payload.operations = payload.mutation.steps(reference);
      operations.push(...payload.operations);
      const { makes } = payload.mutation;
      if (makes !== null) made.set(makes.node, start + makes.step);
    }
    starts.push(operations.length);
    this.#statistics.batches++;
    this.#statistics.sent += run.length;
    const began = this.#hooks.now();
    const results = await this.#server.batch(operations, credential === null ? {} : { credential });
    if (operations.length > 0) this.#hooks.roundTrip(this.#hooks.now() - began);
    for (const [i, queued] of run.entries()) {
      const own = results.slice(starts[i]!, starts[i + 1]!);
      // Behind a failure nothing was executed. A mutation of no steps is done as soon as those before it are.
      if (own.length === 0 && starts[i]! < starts[i + 1]!) return await this.#behind(run, i);
      const { mutation } = queued.payload;
      queued.payload.results = results;
      const assumedAttributes = mutation.makes?.node.said ?? null;
      const truth = mutation.settle(own as BatchResult[]);
      const done = truth.errno === 0;
      const made = mutation.makes?.node.said ?? null;
      const right = done && (made === null || sameObject(assumedAttributes!, made) || isSetLater(run, i));
      this.#hooks.truth(queued.speculation, queued.payload, right);
      if (right) {
        this.#makers.proven(mutation);
        this.#queue.succeeded(queued);
      } else {
        await this.#takeBackBehind(run, i, starts, results);
        if (done) await this.#takeBack(queued.payload);
        await this.#repair(queued.speculation);
        this.#queue.failed(queued);
        return i;
      }
    }
    return run.length;
  }

  /** What the server did, but otherwise than was assumed, does not stop a batch: takes back what it has executed behind it. */
  async #takeBackBehind(
    run: readonly QueuedMutation<Sent>[],
    at: number,
    starts: readonly number[],
    results: readonly BatchResult[],
  ): Promise<void> {
    for (let i = run.length - 1; i > at; i--) {
      const { payload } = run[i]!;
      if (results[starts[i]!]?.ok !== true) continue;
      payload.results = results;
      await this.#takeBack(payload);
    }
  }

  /** The server stopped without a result for this one, although the one before succeeded: it counts as not executed. */
  async #behind(run: readonly QueuedMutation<Sent>[], at: number): Promise<number> {
    const queued = run[at]!;
    queued.payload.mutation.settle([]);
    this.#hooks.truth(queued.speculation, queued.payload, false);
    await this.#repair(queued.speculation);
    this.#queue.failed(queued);
    return at;
  }

  /**
   * A mutation failed whose checkpoint lies before others that the server has executed: takes those back at the server, newest first,
   * since the process will do them again. What may be done twice with the same result is left alone.
   */
  async #repair(failed: Speculation): Promise<void> {
    for (const speculation of this.#engine.orphans(failed).reverse()) {
      const sent = this.#assumed.get(speculation);
      if (sent !== undefined) await this.#takeBack(sent);
    }
  }

  async #takeBack({ mutation, operations, results }: Sent): Promise<void> {
    const repairs = operations
      .map((operation) => repairOf(operation, (reference) => handleOf(reference, results)))
      .filter((operation) => operation !== null);
    if (repairs.length === 0) return;
    this.#statistics.repaired++;
    const { credential } = mutation;
    await this.#server.batch(repairs.reverse(), credential === null ? {} : { credential });
    await this.#hooks.takenBack(mutation);
  }
}

/**
 * Directories in which the server has made objects with the owner and mode that we predict (it might squash users, or hand
 * down groups otherwise). What is made in a directory that we made in such a one will be so, too.
 */
class ProvenMakers {
  readonly #directories = new WeakMap<ViewNode, Credential | null>();

  /** Whether an object that it makes will surely be as predicted, if it is made at all. */
  isProven(mutation: Mutation): boolean {
    const { makes, credential, touches } = mutation;
    if (makes === null) return true;
    const by = this.#directories.get(touches[0]!);
    if (by === undefined || !sameCredential(by, credential)) return false;
    if (makes.node.attributes.type === FileType.directory) this.#directories.set(makes.node, credential);
    return true;
  }

  proven({ makes, credential, touches }: Mutation): void {
    if (makes !== null) this.#directories.set(touches[0]!, credential);
  }
}

/** Kinds that cannot be taken back at the server, nor done twice: after them the process needs a new checkpoint. */
const FINAL: ReadonlySet<string> = new Set(['unlink', 'rmdir', 'rename']);

/** May another mutation share the interval of this one: could it be taken back at the server, or done twice? */
export function isRepairable(mutation: Mutation): boolean {
  return !FINAL.has(mutation.kind);
}

/** Whether what the mutation makes is given other attributes later in the same run, which its own result then shows already. */
function isSetLater(run: readonly QueuedMutation<Sent>[], at: number): boolean {
  const { makes } = run[at]!.payload.mutation;
  return run.slice(at + 1).some(({ payload: { mutation } }) => {
    return mutation.kind === 'setattr' && makes !== null && mutation.touches.includes(makes.node);
  });
}

/** What takes an executed operation back; null where doing it twice changes nothing. */
function repairOf(operation: ServerOperation, handle: (reference: HandleRef) => Handle): ServerOperation | null {
  switch (operation.op) {
    case 'create':
      if (operation.mode === 'unchecked') return null;
      return { op: 'remove', directory: handle(operation.directory), name: operation.name };
    case 'symlink':
    case 'mknod':
    case 'link':
      return { op: 'remove', directory: handle(operation.directory), name: operation.name };
    case 'mkdir':
      return { op: 'rmdir', directory: handle(operation.directory), name: operation.name };
    default:
      return null;
  }
}

function handleOf(reference: HandleRef, results: readonly BatchResult[]): Handle {
  if (reference instanceof Uint8Array) return reference;
  const result = results[reference.from];
  if (result === undefined || !result.ok) throw new TypeError('a reference to something that was not made');
  return (result.value as FoundResult).handle;
}

/** Whether an object that was made is what was assumed, as far as programs can tell. */
function sameObject(a: Attributes, b: Attributes): boolean {
  return a.type === b.type && a.mode === b.mode && a.uid === b.uid && a.gid === b.gid;
}

function weight(mutation: Mutation): number {
  return mutation.kind === 'flush' || mutation.kind === 'write' ? 4 : 1;
}

function sameCredential(a: Credential | null, b: Credential | null): boolean {
  if (a === null || b === null) return a === b;
  return a === b || (a.uid === b.uid && a.gid === b.gid && a.groups.join() === b.groups.join());
}
