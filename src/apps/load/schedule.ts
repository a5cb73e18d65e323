/**
 * The schedule of an open loop: when each message should be sent, whatever became of the ones before.
 * Pure arithmetic over a clock that is passed in; nothing is kept per message.
 *
 * Message j of all goes to connection j mod N at `start + j / rate`. Latency counts from that time, so that a server
 * that stalls is charged for every message it held up, and not only for the one that found it stalled (Tene's
 * "coordinated omission").
 */
export class Schedule {
  readonly connections: number;
  readonly intervalMs: number;
  readonly startMs: number;
  /** Messages that were due so far. */
  #next = 0;

  /** @param rate messages per second over all connections */
  constructor(connections: number, rate: number, startMs: number) {
    if (!(connections >= 1 && rate > 0)) throw new RangeError(`bad schedule: ${connections} connections at ${rate}/s`);
    this.connections = connections;
    this.intervalMs = 1000 / rate;
    this.startMs = startMs;
  }

  /** Intended send time of message `index` (0, 1, …) of a connection, in ms. */
  intended(connection: number, index: number): number {
    return this.startMs + (connection + index * this.connections) * this.intervalMs;
  }

  /**
   * Adds to `due` (one counter per connection) what has become due by `now`.
   * @returns how many messages that is
   */
  advance(now: number, due: Int32Array): number {
    const { connections } = this;
    // The same product as in intended(), so that both agree to the last bit.
    let next = this.#next;
    const first = next;
    while (this.startMs + next * this.intervalMs <= now) {
      const connection = next % connections;
      due[connection] = due[connection]! + 1;
      next++;
    }
    this.#next = next;
    return next - first;
  }

  /** When the next message is due, in ms. */
  get nextMs(): number {
    return this.startMs + this.#next * this.intervalMs;
  }
}
