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

  constructor(run: Run, exchange: Exchange) {
    this.#run = run;
    this.#exchange = exchange;
    this.#started = new Float64Array(run.config.connections);
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
        conn = yield* k.connect(config.address, { timeout: config.timeout * 1000 });
        run.connections[slot] = conn;
        run.connected++;
        waitingSince[slot] = started[slot]!;
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
    run.waitingSince[slot] = -1;
    if (run.config.reset) conn.abort();
    else conn.close();
  }

  /** The watchdog gave the connection up. */
  drop(slot: number): void {
    this.#run.connections[slot]?.abort();
  }
}
