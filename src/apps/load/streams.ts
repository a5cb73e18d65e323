/**
 * The connections of a load over streams, in a closed loop (send, await the answers, again) or in an open one (a pacer sends).
 * It touches the kernel's queues; what is said on them is an Exchange's matter.
 *
 * A coroutine per connection: its switch and two pooled operations cost about 100 ns, where the kernel's TCP takes
 * 3 µs and more for the same message. Nothing is allocated per message.
 */
import { type Connection, type Coroutine, IsthmusError, type Operation } from '../../index.ts';
import type { Exchange } from './exchange.ts';
import type { PacedTarget } from './pacer.ts';
import type { Run } from './run.ts';
import type { Schedule } from './schedule.ts';

/** Wait before a lost connection is opened again. */
const RECONNECT_MS = 100;

export function peerClosed(): IsthmusError {
  return new IsthmusError('the peer closed the connection', { code: 'ERR_LOAD_CLOSED' });
}

export function nonsense(): IsthmusError {
  return new IsthmusError('the peer does not speak the protocol', { code: 'ERR_LOAD_PROTOCOL' });
}

export class Streams implements PacedTarget {
  readonly #run: Run;
  readonly #exchange: Exchange;
  /** A push that the queue has not taken yet, per connection. */
  readonly #sending: (Operation<void> | null)[];
  /** Closed loop: when what is under way was sent, in ms. In an array, since a number in a generator is one in a box. */
  readonly #started: Float64Array;
  /** Open loop: messages sent and answered on each connection, as indices into its schedule. */
  readonly #sent: Float64Array;
  readonly #answered: Float64Array;
  #schedule: Schedule | null = null;

  constructor(run: Run, exchange: Exchange) {
    this.#run = run;
    this.#exchange = exchange;
    this.#sending = new Array<Operation<void> | null>(run.config.connections).fill(null);
    this.#started = new Float64Array(run.config.connections);
    this.#sent = new Float64Array(run.config.connections);
    this.#answered = new Float64Array(run.config.connections);
  }

  /** Opens the connection of a slot. */
  *open(slot: number): Coroutine<Connection> {
    const { k, config, connections } = this.#run;
    const conn = yield* k.connect(config.address, { timeout: config.timeout * 1000 });
    conn.detach();
    connections[slot] = conn;
    this.#run.connected++;
    this.#exchange.restart(slot);
    return conn;
  }

  /** Keeps a slot talking until the run stops; what breaks is counted and opened again. */
  client(slot: number, schedule: Schedule | null): Coroutine {
    this.#schedule = schedule;
    return schedule === null ? this.#closedLoop(slot) : this.#openLoop(slot, schedule);
  }

  /** One generator for all of it: each `yield*` on the way to an operation would be resumed for each message. */
  *#closedLoop(slot: number): Coroutine {
    const run = this.#run;
    const exchange = this.#exchange;
    const started = this.#started;
    const { k, waitingSince } = run;
    const { depth } = run.config;
    while (!run.stopped) {
      try {
        const conn = run.connections[slot] ?? (yield* this.open(slot));
        while (!run.stopped) {
          started[slot] = waitingSince[slot] = k.now;
          // Not waited for before the answers: a server that must send before it reads on would wait for us as well.
          const sending = conn.push(exchange.compose(slot, depth));
          if (sending.pending) this.#sending[slot] = sending;
          else yield* sending;
          let left = depth;
          while (left > 0) {
            const buffer = yield* conn.pop();
            if (buffer === null) throw peerClosed();
            const count = exchange.absorb(slot, buffer);
            if (count <= 0) {
              if (count < 0) throw nonsense();
              continue;
            }
            const { now } = k;
            waitingSince[slot] = now;
            run.answered(now - started[slot]!, count);
            left -= count;
          }
          if (left < 0) run.errors.wrong -= left;
          const unfinished = this.#sending[slot]!;
          if (unfinished !== null) {
            this.#sending[slot] = null;
            yield* unfinished;
          }
        }
      } catch (error) {
        run.failed(error);
      }
      yield* this.#broken(slot);
    }
  }

  *#openLoop(slot: number, schedule: Schedule): Coroutine {
    const run = this.#run;
    while (!run.stopped) {
      try {
        const conn = run.connections[slot] ?? (yield* this.open(slot));
        yield* this.#answers(slot, conn, schedule);
      } catch (error) {
        run.failed(error);
      }
      yield* this.#broken(slot);
    }
  }

  *#broken(slot: number): Coroutine {
    this.drop(slot);
    if (!this.#run.stopped) yield* this.#run.k.sleep(RECONNECT_MS);
  }

  /** Open loop: counts answers against the schedule; the pacer sends. */
  *#answers(slot: number, conn: Connection, schedule: Schedule): Coroutine {
    const run = this.#run;
    const exchange = this.#exchange;
    const { k, waitingSince } = run;
    const sent = this.#sent;
    const answered = this.#answered;
    for (;;) {
      const buffer = yield* conn.pop();
      if (buffer === null) throw peerClosed();
      let count = exchange.absorb(slot, buffer);
      if (count < 0) throw nonsense();
      const { now } = k;
      if (answered[slot]! + count > sent[slot]!) {
        const unasked = answered[slot]! + count - sent[slot]!;
        run.errors.wrong += unasked;
        count -= unasked;
      }
      for (; count > 0; count--) {
        run.answeredIntended(schedule.intended(slot, answered[slot]!), now);
        answered[slot] = answered[slot]! + 1;
      }
      waitingSince[slot] = answered[slot]! < sent[slot]! ? now : -1;
    }
  }

  /** Sends the next `count` messages of a slot if it can take them now. */
  send(slot: number, count: number): boolean {
    const run = this.#run;
    const conn = run.connections[slot]!;
    if (conn === null || conn.closed) return false;
    const before = this.#sending[slot]!;
    if (before !== null) {
      if (before.pending) return false;
      this.#sending[slot] = null;
      before.abandon();
    }
    const sending = conn.push(this.#exchange.compose(slot, count));
    if (sending.pending) this.#sending[slot] = sending;
    else sending.abandon();
    if (run.waitingSince[slot]! < 0) run.waitingSince[slot] = run.k.now;
    this.#sent[slot] = this.#sent[slot]! + count;
    return true;
  }

  /** Open loop: messages sent on this connection that were not answered yet. */
  outstanding(slot: number): number {
    return this.#sent[slot]! - this.#answered[slot]!;
  }

  /** Open loop: messages of a slot that were answered or given up. */
  settled(slot: number): number {
    return this.#answered[slot]!;
  }

  /** Ends what stands on a slot. It resets: a load must not leave thousands of ports in TIME_WAIT behind. */
  drop(slot: number): void {
    const run = this.#run;
    const conn = run.connections[slot]!;
    const sending = this.#sending[slot]!;
    this.#sending[slot] = null;
    run.waitingSince[slot] = -1;
    if (conn !== null) {
      run.connections[slot] = null;
      run.connected--;
      conn.abort();
    }
    sending?.abandon();
    this.#giveUp(slot);
  }

  /** What was under way on a broken connection is not answered any more; it counts as such where it belongs to the window. */
  #giveUp(slot: number): void {
    const schedule = this.#schedule;
    if (schedule === null) return;
    const { now } = this.#run.k;
    for (let index = this.#answered[slot]!; index < this.#sent[slot]!; index++) {
      this.#run.unanswered(schedule.intended(slot, index), now);
    }
    this.#answered[slot] = this.#sent[slot]!;
  }
}
