/**
 * A session with an NFSv4.1 server: runs COMPOUNDs exactly once over any number of lost connections, keeps the lease, and gets
 * a new session when the server has lost it. It touches the RPC client and timers.
 *
 * Exactly once: a request keeps its slot and sequence id until its reply is here. After a reconnect it is sent again as it was,
 * and a server that had executed it answers from the slot. A server that was restarted has lost the slots: then a request that
 * only looks is sent again in a new session, and one that changes something fails with `indeterminate` if it had been sent on
 * more than one connection, because it may have been executed.
 */
import { abortReason, RemoteError, transportError } from '../remote-error.ts';
import { RpcClient, type RpcOptions } from '../rpc/client.ts';
import type { CallOptions, ServerCounters } from '../server.ts';
import { ClientIdentity, runAlone } from './client-id.ts';
import { COMPOUND, Compound, NULL, type Reply } from './compound.ts';
import { SequenceFlag, Status } from './constants.ts';
import { bindConnection, type Channel, type CreateSessionReply, RECLAIM_COMPLETE } from './session-steps.ts';
import { type Slot, SlotTable } from './slots.ts';
import { statusError4, statusName } from './status.ts';

export interface SessionOptions extends RpcOptions {
  /** Operations in one COMPOUND to ask the server for. Default 100: nfs-ganesha grants more and then refuses them. */
  readonly maxOperations?: number | undefined;
  /** Requests at once, i.e. slots, to ask the server for. Default 64. */
  readonly maxSlots?: number | undefined;
  /** Largest request and reply to ask for, in bytes. Default 1 MiB of data and a COMPOUND around it. */
  readonly maxMessage?: number | undefined;
  /** Largest reply that the server is to keep for a retransmission, in bytes. Default 256 KiB. */
  readonly maxKeptReply?: number | undefined;
}

/** Told when the server has no state of ours (any more): before anything else runs, opens and locks can be claimed again. */
export type Reclaim = (run: (compound: Compound) => Promise<Reply>) => Promise<void>;

const DEFAULT_TIMEOUT_MS = 60_000;
const DELAY_FIRST_MS = 10;
const DELAY_MOST_MS = 1000;
const CLOSE_TIMEOUT_MS = 1000;
const DEFAULT_LEASE_SECONDS = 60;
const LEASE_MOST_SECONDS = 3600;
const TOO_MUCH: readonly number[] = [Status.resource, Status.tooManyOps, Status.reqTooBig];
/** Any single operation of a batch has fewer steps. */
const LEAST_OPERATIONS = 16;
const LOST_STATE =
  SequenceFlag.expiredAllStateRevoked |
  SequenceFlag.expiredSomeStateRevoked |
  SequenceFlag.adminStateRevoked |
  SequenceFlag.restartReclaimNeeded;

/** One session after another; what belongs to one of them. */
interface Current {
  readonly id: Uint8Array;
  readonly fore: { -readonly [K in keyof Channel]: Channel[K] };
  readonly slots: SlotTable;
}

export class Session {
  readonly rpc: RpcClient;
  /** New sessions since the first. */
  renewals = 0;
  readonly #identity: ClientIdentity;
  readonly #wanted: Channel;
  readonly #timeoutMs: number;
  #current: Current;
  /** While a new session is being made: everybody waits. */
  #renewing: Promise<void> | null = null;
  #reclaim: Reclaim | null = null;
  #leaseSeconds = DEFAULT_LEASE_SECONDS;
  #leaseTimer: NodeJS.Timeout | null = null;
  #lastRun = 0;
  #lostState = false;
  #closed = false;

  private constructor(rpc: RpcClient, identity: ClientIdentity, wanted: Channel, first: Current, timeoutMs: number) {
    this.rpc = rpc;
    this.#identity = identity;
    this.#wanted = wanted;
    this.#current = first;
    this.#timeoutMs = timeoutMs;
  }

  /** Connects and makes a session. Rejects with `EOPNOTSUPP` or `EPROTONOSUPPORT` where the server does not speak NFSv4.1. */
  static async connect(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const message = options.maxMessage ?? 1_048_576 + 4096;
    const wanted: Channel = {
      maxRequest: message,
      maxReply: message,
      maxKeptReply: options.maxKeptReply ?? 262_144,
      maxOperations: options.maxOperations ?? 100,
      maxRequests: options.maxSlots ?? 64,
    };
    const rpc = await RpcClient.connect(options, signal);
    const onAbort = () => void rpc.close();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const identity = new ClientIdentity(rpc);
      const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const { session } = await identity.newSession(wanted, timeoutMs);
      const made = new Session(rpc, identity, wanted, current(session, wanted), timeoutMs);
      await made.#run(reclaimComplete(), made.#current, performance.now() + timeoutMs);
      made.#armLease();
      return made;
    } catch (error) {
      await rpc.close();
      throw signal?.aborted ? abortReason(signal) : error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  get counters(): ServerCounters {
    return this.rpc.counters;
  }

  /** What the present session can carry. */
  get limits(): Channel {
    return this.#current.fore;
  }

  /** Called when the client id is a new one, to claim state again. */
  onReclaim(reclaim: Reclaim): void {
    this.#reclaim = reclaim;
  }

  /** The server's lease time: half of it without a request, and one is sent. */
  setLease(seconds: number): void {
    this.#leaseSeconds = Math.min(Math.max(1, seconds), LEASE_MOST_SECONDS);
    this.#armLease();
  }

  /** A round trip without a COMPOUND. */
  async ping(options?: CallOptions): Promise<void> {
    await this.rpc.call(NULL, null, options);
  }

  /**
   * Runs a COMPOUND; the reply says how far it came (its SEQUENCE has succeeded). Rejects when there is no reply: `ETIMEDOUT`,
   * `ECANCELED`, `ECONNRESET` (the server was restarted meanwhile), each with `indeterminate` where the COMPOUND changes
   * something and may have been executed; or the signal's reason, and then the request goes on without being waited for.
   */
  run(compound: Compound, options?: CallOptions): Promise<Reply> {
    const deadline = performance.now() + (options?.timeoutMs ?? this.#timeoutMs);
    const running = this.#runInAny(compound, deadline, options);
    const signal = options?.signal;
    return signal === undefined ? running : untilAbort(running, signal);
  }

  async #runInAny(compound: Compound, deadline: number, options?: CallOptions): Promise<Reply> {
    for (let delays = 0; ; ) {
      if (this.#closed) throw transportError('ECANCELED', 'COMPOUND', 'closed');
      if (options?.signal?.aborted) throw abortReason(options.signal);
      // A renewal that failed earlier is tried anew by whoever comes next.
      this.#replaceIfWorn(this.#current);
      if (this.#renewing !== null) await certainly(before(this.#renewing, deadline));
      const session = this.#current;
      const reply = await this.#run(compound, session, deadline, options);
      if (reply !== null) return reply;
      // The server wants to be asked again later, or the session is lost and the request was not executed.
      if (performance.now() >= deadline) throw transportError('ETIMEDOUT', 'SEQUENCE', 'no session in time');
      if (session !== this.#current || this.#renewing !== null) continue;
      await pause(Math.min(DELAY_MOST_MS, DELAY_FIRST_MS * 2 ** Math.min(delays++, 10)));
    }
  }

  /** Null: it was not executed, ask again. */
  async #run(compound: Compound, session: Current, deadline: number, options?: CallOptions): Promise<Reply | null> {
    const { slots } = session;
    let slot = slots.take();
    if (slot === null) {
      const waiting = slots.wait();
      slot = await before(waiting, deadline).catch((error) => {
        // Whoever gave up waiting does not keep the slot that comes.
        waiting.then((late) => slots.release(late)).catch(() => {});
        if (session === this.#current && this.#renewing === null) throw error;
        return null;
      });
      if (slot === null) return null;
    }
    const sequence = compound.sequence!;
    sequence.sessionId = session.id;
    sequence.slot = slot.id;
    sequence.sequenceId = (slot.sequenceId + 1) >>> 0;
    sequence.highestSlot = slots.highestUsed;
    sequence.keepReply = compound.changes;
    compound.sends = 0;
    let reply: Reply;
    try {
      const timeoutMs = Math.max(1, deadline - performance.now());
      reply = await this.rpc.call(COMPOUND, compound, { timeoutMs, credential: options?.credential });
    } catch (error) {
      if (compound.sends === 0) slots.release(slot);
      else this.#retire(session, slot);
      throw refine(error, compound);
    }
    this.#lastRun = performance.now();
    if (reply.done(0)) {
      slot.sequenceId = sequence.sequenceId;
      const limited = slots.limit(reply.sequence.targetHighestSlot + 1);
      slots.release(slot);
      if (limited) this.#replaceIfWorn(session);
      if ((reply.sequence.flags & LOST_STATE) !== 0) this.#onLostState();
      return reply;
    }
    return this.#onRefused(session, slot, compound, reply);
  }

  /** The SEQUENCE failed, so nothing of this transmission was executed. Null: ask again. */
  async #onRefused(session: Current, slot: Slot, compound: Compound, reply: Reply): Promise<null> {
    const again = compound.sends > 1 && compound.changes;
    const { status } = reply;
    if (reply.refused && TOO_MUCH.includes(status)) {
      // It grants more than it takes: whoever built this COMPOUND shall build smaller ones.
      session.slots.release(slot);
      session.fore.maxOperations = Math.max(LEAST_OPERATIONS, compound.steps.length >>> 1);
      throw statusError4('COMPOUND', status);
    }
    switch (status) {
      case Status.delay:
        session.slots.release(slot);
        return null;
      case Status.badSession:
      case Status.deadSession:
      case Status.staleClientid:
      case Status.expired:
        void this.#renew(session).catch(() => {});
        if (again) throw lost(`the server has lost the session (${statusName(status)})`);
        return null;
      case Status.connNotBound:
        session.slots.release(slot);
        await runAlone(this.rpc, bindConnection(session.id));
        return null;
      case Status.retryUncachedRep:
        // It was executed, but its reply is gone.
        slot.sequenceId = (slot.sequenceId + 1) >>> 0;
        session.slots.release(slot);
        if (compound.changes) throw lost('the server did not keep its reply');
        return null;
      case Status.badSlot:
      case Status.badHighSlot:
        session.slots.limit(slot.id);
        session.slots.release(slot);
        return null;
      case Status.seqMisordered:
      case Status.seqFalseRetry:
        this.#retire(session, slot);
        if (again) throw lost(`the server does not recognise it (${statusName(status)})`);
        return null;
      default:
        // Whether the slot has advanced is not the same with every server.
        this.#retire(session, slot);
        throw statusError4('SEQUENCE', status);
    }
  }

  /** The slot's last request may have been executed or not; those that follow must know. */
  #retire(session: Current, slot: Slot): void {
    session.slots.retire(slot);
    this.#replaceIfWorn(session);
  }

  /** With half of its slots in doubt a session is replaced by another. */
  #replaceIfWorn(session: Current): void {
    if (session.slots.worn) void this.#renew(session, true).catch(() => {});
  }

  #renew(lostSession: Current, destroy = false): Promise<void> {
    if (this.#renewing !== null) return this.#renewing;
    if (lostSession !== this.#current || this.#closed) return Promise.resolve();
    const renewing = this.#renewNow(lostSession, destroy).finally(() => {
      this.#renewing = null;
    });
    this.#renewing = renewing;
    // Whoever waits for it sees its failure; nobody has to.
    renewing.catch(() => {});
    return renewing;
  }

  async #renewNow(lostSession: Current, destroy: boolean): Promise<void> {
    const why = transportError('ECONNRESET', 'SEQUENCE', 'the session is lost');
    lostSession.slots.dismiss(why);
    if (destroy) await this.#identity.destroySession(lostSession.id, CLOSE_TIMEOUT_MS);
    const deadline = performance.now() + this.#timeoutMs;
    const { session, fresh } = await this.#identity.newSession(this.#wanted, this.#timeoutMs);
    const made = current(session, this.#wanted);
    if (fresh) {
      const run = (compound: Compound) => this.#runInThis(compound, made, deadline);
      if (this.#reclaim !== null) await this.#reclaim(run);
      await run(reclaimComplete());
    }
    this.#current = made;
    this.renewals++;
  }

  async #runInThis(compound: Compound, session: Current, deadline: number): Promise<Reply> {
    for (let delays = 0; performance.now() < deadline; ) {
      const reply = await this.#run(compound, session, deadline);
      if (reply !== null && reply.status !== Status.delay) return reply;
      await pause(Math.min(DELAY_MOST_MS, DELAY_FIRST_MS * 2 ** Math.min(delays++, 10)));
    }
    throw transportError('ETIMEDOUT', 'SEQUENCE', 'the new session was not usable in time');
  }

  /** The server has dropped state although the session lives: claim it again, once. */
  #onLostState(): void {
    if (this.#lostState || this.#reclaim === null) return;
    this.#lostState = true;
    const deadline = performance.now() + this.#timeoutMs;
    const session = this.#current;
    this.#reclaim((compound) => this.#runInThis(compound, session, deadline))
      .catch(() => {})
      .finally(() => {
        this.#lostState = false;
      });
  }

  #armLease(): void {
    if (this.#leaseTimer !== null) clearInterval(this.#leaseTimer);
    const everyMs = (this.#leaseSeconds * 1000) / 3;
    this.#leaseTimer = setInterval(() => {
      if (performance.now() - this.#lastRun < everyMs) return;
      this.run(Compound.inSession(), { timeoutMs: everyMs * 3 }).catch(() => {});
    }, everyMs);
    this.#leaseTimer.unref();
  }

  /** Gives session and client id back, within a second, and closes the connection. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#leaseTimer !== null) clearInterval(this.#leaseTimer);
    this.#current.slots.dismiss(transportError('ECANCELED', 'SEQUENCE', 'closed'));
    const deadline = performance.now() + CLOSE_TIMEOUT_MS;
    await this.#identity.destroySession(this.#current.id, CLOSE_TIMEOUT_MS);
    const left = deadline - performance.now();
    if (left > 0) await this.#identity.destroy(left);
    await this.rpc.close();
  }
}

function current(session: CreateSessionReply, wanted: Channel): Current {
  const fore = {
    maxRequest: Math.min(session.fore.maxRequest, wanted.maxRequest),
    maxReply: Math.min(session.fore.maxReply, wanted.maxReply),
    maxKeptReply: Math.min(session.fore.maxKeptReply, wanted.maxKeptReply),
    maxOperations: Math.min(session.fore.maxOperations, wanted.maxOperations),
    maxRequests: Math.min(session.fore.maxRequests, wanted.maxRequests),
  };
  return { id: session.sessionId, fore, slots: new SlotTable(fore.maxRequests) };
}

function reclaimComplete(): Compound {
  const compound = Compound.inSession();
  compound.add(RECLAIM_COMPLETE);
  return compound;
}

function lost(why: string): RemoteError {
  return transportError('ECONNRESET', 'COMPOUND', `${why}; it may have been done`, { indeterminate: true });
}

/** A COMPOUND that only looks leaves nothing indeterminate. */
function refine(error: unknown, compound: Compound): unknown {
  if (!(error instanceof RemoteError) || !error.indeterminate || compound.changes) return error;
  const { code, errno, syscall, status, cause } = error;
  return new RemoteError(error.message, { code, errno, procedure: syscall ?? 'COMPOUND', status, cause });
}

/** Nothing was sent while waiting for this, so its failure leaves nothing indeterminate. */
function certainly<T>(waiting: Promise<T>): Promise<T> {
  return waiting.catch((error: unknown) => {
    if (!(error instanceof RemoteError) || !error.indeterminate) throw error;
    const { code, errno, syscall, cause } = error;
    throw new RemoteError(error.message, { code, errno, procedure: syscall ?? 'SEQUENCE', cause });
  });
}

/** `ETIMEDOUT` if it takes longer than until `deadline` (performance.now()). */
function before<T>(waiting: Promise<T>, deadline: number): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const expire = () => reject(transportError('ETIMEDOUT', 'SEQUENCE', 'no session or slot in time'));
    const timer = setTimeout(expire, Math.max(0, deadline - performance.now()));
    waiting.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function untilAbort<T>(running: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(abortReason(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    running.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
