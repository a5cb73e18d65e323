/**
 * A few connections to one server, used as one: many calls at once go over all of them, since servers work on what one connection
 * brings with little more than one processor. It may touch the network through its clients.
 *
 * Nothing is lost by it: calls made without waiting in between have no order on one connection either, and a call is sent again
 * only on the connection (and from the port) it was first sent on.
 */
import type { CallOptions, ServerCounters } from '../server.ts';
import { RpcClient } from './client.ts';
import type { Procedure } from './message.ts';
import type { RpcOptions } from './options.ts';

/** With fewer calls outstanding one connection does as well: their messages leave together, and a lone call can be polled for. */
const SPREAD_FROM = 8;

export interface PoolOptions extends RpcOptions {
  /** At most. Default 2: more gain nothing on the servers measured. */
  readonly connections?: number | undefined;
}

export class RpcPool {
  readonly #options: PoolOptions;
  readonly #clients: RpcClient[];
  readonly #most: number;
  /** Another connection is being made. */
  #growing: Promise<void> | null = null;
  readonly #closing = new AbortController();

  private constructor(first: RpcClient, options: PoolOptions) {
    this.#clients = [first];
    this.#options = options;
    this.#most = options.connections ?? 2;
  }

  /** Makes the first connection, or rejects as {@link RpcClient.connect}; further ones are made when they are of use. */
  static async connect(options: PoolOptions, signal?: AbortSignal): Promise<RpcPool> {
    return new RpcPool(await RpcClient.connect(options, signal), options);
  }

  get counters(): ServerCounters {
    const sum: ServerCounters = { calls: 0, replays: 0, reconnects: 0, bytesSent: 0, bytesReceived: 0 };
    for (const { counters } of this.#clients) {
      for (const key of Object.keys(sum) as (keyof ServerCounters)[]) sum[key] += counters[key];
    }
    return sum;
  }

  /** Connections made so far. */
  get size(): number {
    return this.#clients.length;
  }

  /** As {@link RpcClient.call}. */
  call<Args, Result>(procedure: Procedure<Args, Result>, args: Args, options?: CallOptions): Promise<Result> {
    return this.#leastBusy().call(procedure, args, options);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#growing;
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  #leastBusy(): RpcClient {
    let best = this.#clients[0] as RpcClient;
    if (best.outstanding < SPREAD_FROM) return best;
    for (const client of this.#clients) if (client.outstanding < best.outstanding) best = client;
    if (best.outstanding >= SPREAD_FROM && this.#clients.length < this.#most) this.#growing ??= this.#grow();
    return best;
  }

  /** A server that lets no further connection in is not asked again. */
  async #grow(): Promise<void> {
    try {
      this.#clients.push(await RpcClient.connect(this.#options, this.#closing.signal));
      this.#growing = null;
    } catch {
      // What there is goes on.
    }
  }
}
