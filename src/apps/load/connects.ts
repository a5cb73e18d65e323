/**
 * A load of short connections: each message opens a connection, is answered, and closes it.
 * It touches the kernel's queues; latency counts from before the connect to the last byte of the answer.
 */
import type { Connection, Coroutine } from '../../index.ts';
import type { Exchange } from './exchange.ts';
import type { Run } from './run.ts';
import { nonsense, peerClosed } from './streams.ts';

/** Wait after a failure, so that a dead server is not hammered. */
const RETRY_MS = 10;

export class Connects {
  readonly #run: Run;
  readonly #exchange: Exchange;
  /** When the connection of each slot was begun, in ms. In an array, since a number in a generator is one in a box. */
  readonly #started: Float64Array;
  /** Token of the connect of each slot that waits for one; stale where it does not. */
  readonly #connecting: Int32Array;

  constructor(run: Run, exchange: Exchange) {
    this.#run = run;
    this.#exchange = exchange;
    this.#started = new Float64Array(run.config.connections);
    this.#connecting = new Int32Array(run.config.connections);
  }

  /**
   * Connections one after the other until the run stops; `once`: a single one, whose failure is thrown. One generator for
   * all of it: each `yield*` on the way to an operation would be made and resumed for each connection.
   */
  *client(slot: number, once = false): Coroutine {
    const run = this.#run;
    const exchange = this.#exchange;
    const started = this.#started;
    const { k, config, waitingSince } = run;
    do {
      let conn: Connection | null = null;
      let failure: unknown = null;
      try {
        started[slot] = k.now;
        const connect = once
          ? k.connect(config.address, { timeout: config.timeout * 1000 })
          : k.connect(config.address);
        this.#connecting[slot] = connect.token;
        // From here on the watchdog looks after it: one timer for all, as for answers.
        waitingSince[slot] = started[slot]!;
        conn = yield* connect;
        run.connections[slot] = conn;
        run.connected++;
        exchange.restart(slot);
        yield* conn.push(exchange.compose(slot, 1));
        for (let answered = 0; answered < 1; ) {
          const buffer = yield* conn.pop();
          if (buffer === null) throw peerClosed();
          const count = exchange.absorb(slot, buffer);
          if (count < 0) throw nonsense();
          answered += count;
        }
        run.answered(k.now - started[slot]!, 1);
      } catch (error) {
        failure = error;
      } finally {
        waitingSince[slot] = -1;
        if (conn !== null) this.#end(slot, conn);
      }
      if (failure === null) continue;
      if (once) throw failure;
      run.failed(failure);
      if (!run.stopped) yield* k.sleep(RETRY_MS);
    } while (!once && !run.stopped);
  }

  #end(slot: number, conn: Connection): void {
    const run = this.#run;
    run.connected--;
    run.connections[slot] = null;
    if (run.config.reset) conn.abort();
    else conn.close();
  }

  /** Gives the connection of a slot up, or the attempt at one. Dropping twice is harmless. */
  drop(slot: number): void {
    const { k, connections, waitingSince } = this.#run;
    if (waitingSince[slot]! < 0) return;
    const conn = connections[slot]!;
    if (conn !== null) conn.abort();
    else k.cancel(this.#connecting[slot]!);
  }
}
