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

  constructor(run: Run, exchange: Exchange) {
    this.#run = run;
    this.#exchange = exchange;
  }

  *client(slot: number): Coroutine {
    const run = this.#run;
    while (!run.stopped) {
      try {
        yield* this.one(slot);
      } catch (error) {
        run.failed(error);
        if (!run.stopped) yield* run.k.sleep(RETRY_MS);
      }
    }
  }

  /** One connection from beginning to end. */
  *one(slot: number): Coroutine {
    const run = this.#run;
    const { k, config } = run;
    const start = k.now;
    const conn = yield* k.connect(config.address, { timeout: config.timeout * 1000 });
    run.connections[slot] = conn;
    run.connected++;
    run.waitingSince[slot] = start;
    try {
      this.#exchange.restart(slot);
      yield* this.#talk(slot, conn);
      run.answered(k.now - start, 1);
    } finally {
      run.connected--;
      run.connections[slot] = null;
      run.waitingSince[slot] = -1;
      if (run.config.reset) conn.abort();
      else conn.close();
    }
  }

  *#talk(slot: number, conn: Connection): Coroutine {
    yield* conn.push(this.#exchange.compose(slot, 1));
    for (let answered = 0; answered < 1; ) {
      const buffer = yield* conn.pop();
      if (buffer === null) throw peerClosed();
      const count = this.#exchange.absorb(slot, buffer);
      buffer.release();
      if (count < 0) throw nonsense();
      answered += count;
    }
  }

  /** The watchdog gave the connection up. */
  drop(slot: number): void {
    this.#run.connections[slot]?.abort();
  }
}
