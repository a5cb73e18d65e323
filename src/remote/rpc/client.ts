/**
 * An ONC RPC client over TCP (RFC 5531): any number of calls outstanding up to a bound, matched by xid, sent again after a
 * lost connection. It may touch node:net through its connection, timers and the clock.
 *
 * Replays: a request whose reply is missing when the connection is lost is sent again with the same xid, and from the same
 * local port where that can be had, so that a server's duplicate-request cache recognises it. For idempotent procedures that is
 * safe by itself. For the others it is safe as far as the server's cache reaches: a server that lost its cache (a restart)
 * may execute them twice; a RemoteError of such a call has `replayed` set, so that the caller can look before believing it.
 */
import { hostname } from 'node:os';
import { abortReason, protocolError, RemoteError, transportError } from '../remote-error.ts';
import type { CallOptions, Credential, ServerCounters } from '../server.ts';
import { XdrError, type XdrReader } from '../xdr.ts';
import { BusyPoll } from './busy-poll.ts';
import { CallQueue } from './call-queue.ts';
import { RpcConnection } from './connection.ts';
import {
  encodeCredential,
  MessageType,
  type Procedure,
  readReplyHeader,
  TryLater,
  writeCallHeader,
  writeProgramUnavailable,
} from './message.ts';
import { connectFailure, type RpcOptions } from './options.ts';
import { PendingCall, PendingTable } from './pending.ts';
import { RecordError } from './record.ts';

export type { RpcOptions } from './options.ts';

const TICK_MS = 100;
/** A server that breaks the record stream this often without a good reply between is given up. */
const MAX_BAD_STREAMS = 3;
const TRY_LATER_FIRST_MS = 20;
const TRY_LATER_MOST_MS = 2000;

export class RpcClient {
  /** Replies that matched no call: late ones of calls given up, or nonsense. */
  unmatched = 0;
  readonly #options: RpcOptions;
  /** Bytes of the connections that are over; those of the present one are its own. */
  readonly #counters: ServerCounters = { calls: 0, replays: 0, reconnects: 0, bytesSent: 0, bytesReceived: 0 };
  readonly #pending: PendingTable;
  readonly #queue: CallQueue;
  readonly #credential: Uint8Array;
  readonly #credentials = new WeakMap<Credential, Uint8Array>();
  readonly #delayed = new Set<PendingCall>();
  readonly #timeoutMs: number;
  readonly #stallMs: number;
  readonly #backoff: readonly [number, number];
  readonly #maxBytes: number;
  readonly #busyPoll: BusyPoll;
  #connection: RpcConnection | null = null;
  #localPort = 0;
  #everOpen = false;
  #outstandingBytes = 0;
  #lastHeard = 0;
  #failures = 0;
  #badStreams = 0;
  #tick: NodeJS.Timeout | null = null;
  #reconnectTimer: NodeJS.Timeout | null = null;
  #lastError: Error | null = null;
  #closed = false;
  #waitingOpen: { resolve: () => void; reject: (error: Error) => void } | null = null;
  #waitingClose: (() => void)[] = [];

  private constructor(options: RpcOptions) {
    this.#options = options;
    const random = options.random ?? Math.random;
    this.#pending = new PendingTable(options.maxOutstanding ?? 256, Math.floor(random() * 2 ** 32));
    this.#credential = encodeCredential(options.credential, hostname());
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.#stallMs = options.stallMs ?? 20_000;
    this.#backoff = options.backoffMs ?? [20, 1000];
    this.#maxBytes = options.maxOutstandingBytes ?? 16 * 1024 * 1024;
    this.#queue = new CallQueue(options.maxQueued ?? 65_536);
    this.#busyPoll = new BusyPoll((options.busyPollUs ?? 0) / 1000);
  }

  /** Connects, or rejects with the reason of the first attempt (later losses are mended silently). */
  static async connect(options: RpcOptions, signal?: AbortSignal): Promise<RpcClient> {
    if (signal?.aborted) throw abortReason(signal);
    const client = new RpcClient(options);
    const opened = new Promise<void>((resolve, reject) => {
      client.#waitingOpen = { resolve, reject };
    });
    const onAbort = () => client.#waitingOpen?.reject(abortReason(signal as AbortSignal));
    signal?.addEventListener('abort', onAbort, { once: true });
    client.#connect();
    try {
      await opened;
      return client;
    } catch (error) {
      await client.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      client.#waitingOpen = null;
    }
  }

  get counters(): Readonly<ServerCounters> {
    const { bytesSent, bytesReceived } = this.#counters;
    return {
      ...this.#counters,
      bytesSent: bytesSent + (this.#connection?.bytesSent ?? 0),
      bytesReceived: bytesReceived + (this.#connection?.bytesReceived ?? 0),
    };
  }

  /** Calls waiting for a reply or for a place on the wire. */
  get outstanding(): number {
    return this.#pending.size + this.#queue.length + this.#delayed.size;
  }

  /**
   * Calls a procedure. Rejects with the decoder's RemoteError, or `ETIMEDOUT` (no reply in time), `EPROTO` (a reply that is none),
   * `EACCES` (credential refused), `EOPNOTSUPP` (program, version or procedure not served), `ENOBUFS` (too many calls waiting),
   * `ECANCELED` (closed), or the signal's reason.
   */
  call<Args, Result>(procedure: Procedure<Args, Result>, args: Args, options?: CallOptions): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const credential = options?.credential ? this.#encoded(options.credential) : this.#credential;
      const deadline = performance.now() + (options?.timeoutMs ?? this.#timeoutMs);
      const call = new PendingCall(
        procedure as unknown as Procedure<unknown, unknown>,
        args,
        resolve as (value: unknown) => void,
        reject,
        credential,
        deadline,
      );
      this.#counters.calls++;
      if (options?.signal) this.#watch(call, options.signal);
      if (!call.settled) this.#submit(call);
    });
  }

  /** Closes the connection; what is outstanding rejects with `ECANCELED`. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#reconnectTimer !== null) clearTimeout(this.#reconnectTimer);
    this.#reconnectTimer = null;
    for (const call of this.#all()) {
      this.#fail(
        call,
        transportError('ECANCELED', call.procedure.name, 'closed', { indeterminate: call.attempts > 0 }),
      );
    }
    this.#queue.dropSettled();
    if (this.#connection === null) return;
    const closed = new Promise<void>((resolve) => this.#waitingClose.push(resolve));
    this.#connection.destroy(null);
    await closed;
  }

  #submit(call: PendingCall): void {
    if (this.#closed) {
      this.#fail(call, transportError('ECANCELED', call.procedure.name, 'closed'));
      return;
    }
    this.#armTick();
    if (this.#queue.length === 0 && this.#mayDispatch()) {
      this.#dispatch(call);
      return;
    }
    if (!this.#queue.push(call)) {
      this.#fail(call, transportError('ENOBUFS', call.procedure.name, 'too many calls are waiting'));
      return;
    }
    if (this.#connection === null && this.#reconnectTimer === null) this.#connect();
  }

  #mayDispatch(): boolean {
    const connection = this.#connection;
    if (connection === null || !connection.isOpen || connection.congested) return false;
    return this.#pending.size < this.#pending.limit && this.#outstandingBytes < this.#maxBytes;
  }

  #dispatch(call: PendingCall): void {
    const isOnlyOne = this.#pending.size === 0;
    if (isOnlyOne) this.#lastHeard = performance.now();
    call.attempts = 0;
    this.#pending.add(call);
    this.#send(call);
    if (isOnlyOne) this.#busyPoll.sent(this.#lastHeard);
  }

  #send(call: PendingCall): void {
    const connection = this.#connection as RpcConnection;
    connection.beginRecord();
    try {
      writeCallHeader(connection.writer, call.xid, call.procedure, call.credential);
      call.procedure.encode(connection.writer, call.args);
    } catch (error) {
      connection.abandonRecord();
      this.#fail(call, error as Error);
      return;
    }
    const bytes = connection.endRecord();
    this.#outstandingBytes += bytes - call.bytes;
    call.bytes = bytes;
    if (call.attempts++ > 0) this.#counters.replays++;
  }

  #pump(): void {
    while (this.#queue.length > 0 && this.#mayDispatch()) {
      const call = this.#queue.shift();
      if (!call.settled) this.#dispatch(call);
    }
  }

  #onRecord(reader: XdrReader): void {
    let xid: number;
    let type: number;
    try {
      xid = reader.u32();
      type = reader.u32();
    } catch (error) {
      this.#connection?.destroy(error as Error);
      this.#badStreams++;
      return;
    }
    if (type === MessageType.call) {
      this.#answer(xid, reader);
      return;
    }
    const call = type === MessageType.reply ? this.#pending.get(xid) : null;
    if (call === null) {
      this.unmatched++;
      return;
    }
    this.#lastHeard = performance.now();
    if (this.#pending.size === 1) this.#busyPoll.received(this.#lastHeard);
    try {
      readReplyHeader(reader, call.procedure.name);
      const result = call.procedure.decode(reader, call.args);
      reader.finish();
      this.#badStreams = 0;
      this.#release(call);
      call.resolve(result);
    } catch (error) {
      this.#onBadReply(call, error);
    }
    if (this.#queue.length > 0) this.#pump();
  }

  #onBadReply(call: PendingCall, error: unknown): void {
    if (error instanceof TryLater) {
      this.#later(call, error.error);
      return;
    }
    if (error instanceof XdrError) {
      this.#fail(call, protocolError(call.procedure.name, error.message, error));
      return;
    }
    this.#badStreams = 0;
    if (error instanceof RemoteError && call.attempts > 1) error.replayed = true;
    this.#fail(call, error instanceof Error ? error : new Error(String(error)));
  }

  /** Asks again with a new xid (the old one's answer is in the server's duplicate-request cache), later each time. */
  #later(call: PendingCall, error: RemoteError): void {
    this.#unpend(call);
    call.lastDelay = error;
    const delay = Math.min(TRY_LATER_MOST_MS, TRY_LATER_FIRST_MS * 2 ** Math.min(call.delays++, 10));
    if (performance.now() + delay >= call.deadline) {
      this.#fail(call, error);
      return;
    }
    this.#delayed.add(call);
    setTimeout(() => {
      this.#delayed.delete(call);
      if (!call.settled) this.#submit(call);
    }, delay);
  }

  #answer(xid: number, reader: XdrReader): void {
    const connection = this.#connection as RpcConnection;
    connection.beginRecord();
    try {
      connection.writer.halves(xid, MessageType.reply);
      if (this.#options.onCall !== undefined) this.#options.onCall(reader, connection.writer);
      else writeProgramUnavailable(connection.writer);
      connection.endRecord();
    } catch {
      connection.abandonRecord();
    }
  }

  #connect(): void {
    this.#reconnectTimer = null;
    const { host, port, maxRecord, connectTimeoutMs } = this.#options;
    const options = {
      host,
      port,
      localPort: this.#localPort,
      maxRecord: maxRecord ?? 4 * 1024 * 1024,
      connectTimeoutMs: connectTimeoutMs ?? 10_000,
    };
    const connection = new RpcConnection(options, {
      onOpen: () => this.#onOpen(connection),
      onRecord: (reader) => this.#onRecord(reader),
      onDrain: () => this.#pump(),
      onClosed: (error) => this.#onClosed(connection, error),
    });
    this.#connection = connection;
  }

  #onOpen(connection: RpcConnection): void {
    this.#failures = 0;
    this.#localPort = connection.localPort;
    this.#lastHeard = performance.now();
    if (this.#everOpen) {
      this.#counters.reconnects++;
      this.#options.onReconnect?.();
    }
    this.#everOpen = true;
    this.#waitingOpen?.resolve();
    for (const call of this.#pending.inOrder()) this.#send(call);
    this.#pump();
  }

  #onClosed(connection: RpcConnection, error: Error | null): void {
    this.#counters.bytesSent += connection.bytesSent;
    this.#counters.bytesReceived += connection.bytesReceived;
    this.#connection = null;
    this.#lastError = error;
    for (const done of this.#waitingClose.splice(0)) done();
    if (this.#closed) return;
    if (!this.#everOpen) {
      this.#waitingOpen?.reject(connectFailure(error, this.#options));
      return;
    }
    if (error instanceof RecordError && ++this.#badStreams >= MAX_BAD_STREAMS) {
      this.#giveUp(error);
      return;
    }
    const code = (error as NodeJS.ErrnoException | null)?.code;
    if (this.#localPort !== 0 && (code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL')) {
      this.#localPort = 0;
      this.#connect();
      return;
    }
    if (this.outstanding > 0) this.#reconnectLater();
  }

  #reconnectLater(): void {
    const [first, most] = this.#backoff;
    const random = (this.#options.random ?? Math.random)();
    const delay =
      this.#failures === 0 ? 0 : Math.min(most, first * 2 ** Math.min(this.#failures - 1, 20)) * (0.5 + random / 2);
    this.#failures++;
    this.#reconnectTimer = setTimeout(() => this.#connect(), delay);
  }

  #giveUp(error: Error): void {
    this.#badStreams = 0;
    for (const call of this.#all()) this.#fail(call, protocolError(call.procedure.name, error.message, error));
  }

  #armTick(): void {
    this.#tick ??= setTimeout(() => this.#onTick(), TICK_MS);
  }

  #onTick(): void {
    this.#tick = null;
    const now = performance.now();
    for (const call of this.#all()) if (call.deadline <= now) this.#expire(call);
    const connection = this.#connection;
    if (connection?.isOpen && this.#pending.size > 0 && now - this.#lastHeard > this.#stallMs) {
      connection.destroy(new Error(`nothing heard for ${this.#stallMs} ms`));
    }
    this.#queue.dropSettled();
    if (this.outstanding > 0) this.#armTick();
  }

  #expire(call: PendingCall): void {
    if (call.lastDelay !== null) {
      this.#fail(call, call.lastDelay);
      return;
    }
    const details = { indeterminate: call.attempts > 0, cause: this.#lastError ?? undefined };
    this.#fail(call, transportError('ETIMEDOUT', call.procedure.name, 'no answer in time', details));
    this.#pump();
  }

  #watch(call: PendingCall, signal: AbortSignal): void {
    if (signal.aborted) {
      this.#fail(call, abortReason(signal));
      return;
    }
    call.signal = signal;
    call.onAbort = () => {
      this.#fail(call, abortReason(signal));
      this.#pump();
    };
    signal.addEventListener('abort', call.onAbort, { once: true });
  }

  #fail(call: PendingCall, error: Error): void {
    if (call.settled) return;
    this.#release(call);
    call.reject(error);
  }

  #release(call: PendingCall): void {
    call.settled = true;
    this.#unpend(call);
    this.#delayed.delete(call);
    if (call.signal !== null && call.onAbort !== null) call.signal.removeEventListener('abort', call.onAbort);
  }

  #unpend(call: PendingCall): void {
    this.#pending.remove(call);
    this.#outstandingBytes -= call.bytes;
    call.bytes = 0;
  }

  #all(): PendingCall[] {
    return [...this.#pending.inOrder(), ...this.#delayed, ...this.#queue.waiting()];
  }

  #encoded(credential: Credential): Uint8Array {
    let encoded = this.#credentials.get(credential);
    if (encoded === undefined) {
      encoded = encodeCredential(credential, hostname());
      this.#credentials.set(credential, encoded);
    }
    return encoded;
  }
}
