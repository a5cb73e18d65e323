/**
 * Echo on a number of connections between two kernels on the wire in memory: queues, tokens and coroutines included.
 * It touches its memory and the clock.
 */
import { StackDatapath } from '../datapath/stack.ts';
import type { Connection, Coroutine } from '../index.ts';
import { Kernel } from '../kernel/kernel.ts';
import type { SizeClass } from '../ring/heap.ts';
import { wireInMemory } from './stream-wire.ts';

const HOST = '10.0.0.2';
const FIRST_PORT = 7000;
/** Connections to one port: the client has 28,000 ports for each. */
const EACH_PORT = 25_000;

export class QueuesBackToBack {
  readonly #client: Kernel;
  readonly #server: Kernel;
  readonly #open: Connection[] = [];
  readonly #messageBytes: number;
  #answered = 0;
  #failure: Error | null = null;

  constructor(connections: number, messageBytes: number, sizeClasses: readonly SizeClass[]) {
    const [left, right] = wireInMemory(sizeClasses);
    const tcp = { maxConnections: connections + 1 };
    const onUncaught = (error: Error) => {
      this.#failure = error;
    };
    this.#client = new Kernel(new StackDatapath(left, { tcp }), { onUncaught });
    this.#server = new Kernel(new StackDatapath(right, { tcp }), { onUncaught });
    this.#messageBytes = messageBytes;
  }

  #turn(): void {
    this.#client.turn(0);
    this.#server.turn(0);
    if (this.#failure !== null) throw this.#failure;
  }

  /** Opens them, `together` at a time; at the other end a coroutine reads from each. */
  establish(connections: number, together: number): void {
    for (let port = 0; port * EACH_PORT < connections; port++) {
      const listener = this.#server.listen({ host: HOST, port: FIRST_PORT + port });
      this.#server.spawn(listener.serve(echo));
    }
    let begun = 0;
    const open = this.#open;
    const client = this.#client;
    const dial = function* (): Coroutine {
      while (begun < connections) {
        const port = FIRST_PORT + Math.floor(begun++ / EACH_PORT);
        open.push((yield* client.connect({ host: HOST, port })).detach());
      }
    };
    for (let i = 0; i < together; i++) client.spawn(dial());
    while (open.length < connections) this.#turn();
  }

  /** Begins `underWay` messages, one at most on a connection; each is followed by another on one drawn by `draw`. */
  start(underWay: number, draw: () => number): void {
    const busy = new Set<Connection>();
    const open = this.#open;
    for (let i = 0; i < Math.min(underWay, open.length); i++) {
      this.#client.spawn(
        this.#talk(() => {
          let conn = open[draw() % open.length]!;
          while (busy.has(conn)) conn = open[draw() % open.length]!;
          busy.add(conn);
          return conn;
        }, busy),
      );
    }
  }

  *#talk(take: () => Connection, busy: Set<Connection>): Coroutine {
    for (;;) {
      const conn = take();
      yield* conn.push(this.#client.alloc(this.#messageBytes));
      for (let bytes = 0; bytes < this.#messageBytes; ) {
        const answer = yield* conn.pop();
        if (answer === null) throw new Error('the stream has ended');
        bytes += answer.length;
        answer.release();
      }
      busy.delete(conn);
      this.#answered++;
    }
  }

  /** @returns messages per second */
  run(seconds: number): number {
    const before = this.#answered;
    const start = performance.now();
    let elapsed: number;
    do {
      for (let i = 0; i < 64; i++) this.#turn();
      elapsed = performance.now() - start;
    } while (elapsed < seconds * 1000);
    return ((this.#answered - before) * 1000) / elapsed;
  }
}

function* echo(conn: Connection): Coroutine {
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    yield* conn.push(buffer);
  }
}
