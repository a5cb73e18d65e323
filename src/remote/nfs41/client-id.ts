/**
 * Getting a client id and a session from a server, and giving them back: the exchanges outside of any session.
 * It touches the RPC client it is given.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { transportError } from '../remote-error.ts';
import type { RpcClient } from '../rpc/client.ts';
import { COMPOUND, Compound } from './compound.ts';
import { ExchangeFlag, Status } from './constants.ts';
import {
  type Channel,
  type ClientId,
  type CreateSessionReply,
  createSession,
  destroyClient,
  destroySession,
  type ExchangeIdReply,
  exchangeId,
} from './session-steps.ts';
import { statusError4 } from './status.ts';
import type { Step } from './step.ts';

const DELAY_MS = 100;
/** Sessions asked for in a row before the server is given up. */
const MAX_ATTEMPTS = 8;

/** Runs a step outside a session; gives its result or its status. */
export async function runAlone<T>(
  rpc: RpcClient,
  step: Step<T>,
  timeoutMs?: number,
): Promise<{ readonly status: number; readonly value: T | null }> {
  const deadline = performance.now() + (timeoutMs ?? 60_000);
  for (;;) {
    const left = Math.max(1, deadline - performance.now());
    const reply = await rpc.call(COMPOUND, Compound.alone(step), { timeoutMs: left });
    if (reply.status === Status.ok) return { status: 0, value: reply.value<T>(0) };
    if (reply.status !== Status.delay || left <= DELAY_MS) return { status: reply.status, value: null };
    await new Promise((resolve) => setTimeout(resolve, DELAY_MS));
  }
}

/** This client as the server knows it: one instance, one owner, one verifier. */
export class ClientIdentity {
  readonly #rpc: RpcClient;
  readonly #owner: Uint8Array;
  #verifier: Uint8Array;
  #client: ClientId | null = null;
  /** Of the next CREATE_SESSION. */
  #sequenceId = 0;

  constructor(rpc: RpcClient) {
    this.#rpc = rpc;
    this.#verifier = randomBytes(8);
    this.#owner = Buffer.from(`isthmus ${hostname()} ${process.pid} ${randomBytes(8).toString('hex')}`);
  }

  /**
   * A new session. `fresh` says that the client id is new too, so that the server has no state of ours.
   * Rejects with the server's status, or as the RPC client does.
   */
  async newSession(wanted: Channel, timeoutMs?: number): Promise<{ session: CreateSessionReply; fresh: boolean }> {
    let fresh = false;
    let status: number = Status.ok;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (this.#client === null) {
        await this.#exchange(timeoutMs);
        fresh = true;
      }
      const step = createSession(this.#client!, this.#sequenceId, 0, wanted);
      const made = await runAlone(this.#rpc, step, timeoutMs);
      if (made.value !== null) {
        this.#sequenceId = (this.#sequenceId + 1) >>> 0;
        checkChannel(made.value.fore);
        return { session: made.value, fresh };
      }
      status = made.status;
      if (status !== Status.staleClientid && status !== Status.seqMisordered && status !== Status.expired) break;
      // The server knows this client id no longer, or otherwise: another verifier makes us another instance.
      this.#client = null;
      this.#verifier = randomBytes(8);
    }
    throw statusError4('CREATE_SESSION', status);
  }

  async #exchange(timeoutMs?: number): Promise<void> {
    const step: Step<ExchangeIdReply> = exchangeId(this.#verifier, this.#owner, ExchangeFlag.useNonPnfs);
    const { status, value } = await runAlone(this.#rpc, step, timeoutMs);
    if (value === null) throw statusError4('EXCHANGE_ID', status);
    this.#client = value.client;
    this.#sequenceId = value.sequenceId;
  }

  /** Best effort: the server forgets the session. */
  async destroySession(sessionId: Uint8Array, timeoutMs: number): Promise<void> {
    await runAlone(this.#rpc, destroySession(sessionId), timeoutMs).catch(() => null);
  }

  /** Best effort: the server forgets the client. */
  async destroy(timeoutMs: number): Promise<void> {
    if (this.#client === null) return;
    await runAlone(this.#rpc, destroyClient(this.#client), timeoutMs).catch(() => null);
    this.#client = null;
  }
}

/** A session in which not even a small COMPOUND fits is of no use. */
function checkChannel(fore: Channel): void {
  const { maxOperations, maxRequests, maxRequest, maxReply } = fore;
  if (maxOperations >= 8 && maxRequests >= 1 && maxRequest >= 4096 && maxReply >= 4096) return;
  const what = `${maxOperations} operations in ${maxRequest} and ${maxReply} bytes`;
  throw transportError('EPROTO', 'CREATE_SESSION', `the server allows ${what}`);
}
