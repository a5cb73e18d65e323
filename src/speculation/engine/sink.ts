/**
 * Output commit: what a speculating process says to the outside is kept until nothing can undo it, and leaves in the order it was said.
 * Pure: delivery is a function handed in.
 */
import type { Interval } from './interval.ts';

interface Withheld {
  /** Null: said by somebody definite, but behind something that is not. */
  readonly interval: Interval | null;
  readonly bytes: number;
  readonly deliver: () => void;
}

/** One place outside: a terminal, a pipe to a process that does not take part, a socket. */
export class Sink {
  readonly label: string;
  readonly #queue: Withheld[] = [];
  #bytes = 0;

  constructor(label: string) {
    this.label = label;
  }

  /** Bytes withheld. */
  get bytes(): number {
    return this.#bytes;
  }

  get empty(): boolean {
    return this.#queue.length === 0;
  }

  /** Adds output; null: of a definite speaker. */
  push(interval: Interval | null, bytes: number, deliver: () => void): void {
    this.#queue.push({ interval, bytes, deliver });
    this.#bytes += bytes;
  }

  /** Forgets what undone intervals said, and takes out what may leave now, in order. */
  settle(): (() => void)[] {
    const keep: Withheld[] = [];
    const leave: (() => void)[] = [];
    for (const entry of this.#queue) {
      const state = entry.interval === null ? 'committed' : entry.interval.state;
      if (state === 'rolledBack') this.#bytes -= entry.bytes;
      else if (state === 'committed' && keep.length === 0) {
        this.#bytes -= entry.bytes;
        leave.push(entry.deliver);
      } else keep.push(entry);
    }
    this.#queue.length = 0;
    this.#queue.push(...keep);
    return leave;
  }
}
