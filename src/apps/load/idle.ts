/**
 * Connections that are open and say nothing, to measure what they cost a server.
 * It touches the kernel's queues only.
 */
import type { Address, Connection, Coroutine, Kernel } from '../../index.ts';
import { together } from './together.ts';

/** Connects at the same time: well below any backlog, so that no handshake is dropped and retried after a second. */
const AT_ONCE = 64;

export class IdleConnections {
  readonly #connections: Connection[] = [];

  get count(): number {
    return this.#connections.length;
  }

  /** @throws IsthmusError ECONNREFUSED, EMFILE, ETIMEDOUT, …; what was opened before is closed by {@link close} */
  *open(k: Kernel, address: Address, wanted: number, timeoutMs: number): Coroutine {
    const connections = this.#connections;
    let failure: unknown = null;
    yield* together(k, wanted, AT_ONCE, function* connect() {
      if (failure !== null) return;
      try {
        const conn = yield* k.connect(address, { timeout: timeoutMs });
        connections.push(conn.detach());
      } catch (error) {
        failure ??= error;
      }
    });
    if (failure !== null) throw failure;
  }

  close(): void {
    for (const conn of this.#connections) conn.abort();
    this.#connections.length = 0;
  }
}
