/**
 * The queues of a kernel by descriptor, small integers as file descriptors are: which are open, how many, and which numbers
 * are free again. It touches nothing else.
 */
import { ERRNO, systemError } from '../errors.ts';
import type { Connection } from './connection.ts';

/** A queue descriptor: a small integer, as a file descriptor is. */
export type QueueDescriptor = number;

interface QueueEntry {
  /** The one connection object of a queue; null until somebody asks for it. */
  connection: Connection | null;
}

export class QueueTable {
  readonly #entries: (QueueEntry | null)[] = [];
  readonly #free: QueueDescriptor[] = [];
  readonly #max: number;
  #size = 0;

  /** @param max most queues open at once */
  constructor(max: number) {
    this.#max = max;
  }

  /** Queues whose numbers are not free. */
  get size(): number {
    return this.#size;
  }

  /** @throws IsthmusError EMFILE at the bound */
  open(): QueueDescriptor {
    if (this.#size >= this.#max) {
      throw systemError(ERRNO.EMFILE, 'socket', undefined, `${this.#size} queues are open, the kernel's limit`);
    }
    const qd = this.#free.pop() ?? this.#entries.length;
    this.#entries[qd] = { connection: null };
    this.#size++;
    return qd;
  }

  isOpen(qd: QueueDescriptor): boolean {
    return (this.#entries[qd] ?? null) !== null;
  }

  /** @throws IsthmusError EBADF where it is not open */
  entry(qd: QueueDescriptor, call: string): QueueEntry {
    const entry = this.#entries[qd];
    if (entry === undefined || entry === null) throw systemError(ERRNO.EBADF, call, `queue ${qd}`);
    return entry;
  }

  /** Closes it for its users; nobody gets its number yet. */
  shut(qd: QueueDescriptor): void {
    this.#entries[qd] = null;
  }

  /** Closes it and gives its number back. */
  release(qd: QueueDescriptor): void {
    this.#entries[qd] = null;
    this.#free.push(qd);
    this.#size--;
  }

  /** The descriptors that are open now, the lowest first. */
  *[Symbol.iterator](): Generator<QueueDescriptor> {
    for (let qd = 0; qd < this.#entries.length; qd++) if (this.#entries[qd]) yield qd;
  }
}
