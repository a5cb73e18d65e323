/**
 * The listening side of a simulated stream socket: connections that have arrived, and accepts that wait for them.
 * It touches the datapath only to open a queue for each accepted connection.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { type Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { Attachment } from './attachment.ts';
import { Fifo, Waiting } from './events.ts';
import type { StreamEnd } from './stream.ts';

export class Backlog {
  readonly #datapath: Attachment;
  readonly #family: Family;
  readonly #arrived = new Fifo<StreamEnd>();
  readonly #accepts = new Waiting<number>();
  /** Most connections waiting to be accepted. */
  limit = 0;

  constructor(datapath: Attachment, family: Family) {
    this.#datapath = datapath;
    this.#family = family;
  }

  get full(): boolean {
    return this.#arrived.length >= this.limit;
  }

  accept(op: Operation<number>): void {
    this.#accepts.push(op);
    this.#admit();
  }

  arrive(end: StreamEnd): void {
    this.#arrived.push(end);
    this.#admit();
  }

  withdraw(op: Operation<unknown>): boolean {
    return this.#accepts.remove(op);
  }

  /** Connections that nobody accepted are reset. */
  close(): void {
    this.#accepts.fail(ERRNO.ECANCELED, 'accept');
    while (this.#arrived.length > 0) this.#arrived.shift().close(true);
  }

  /** Where no descriptor is left the accept fails and the connection stays, for the next accept. */
  #admit(): void {
    const { random, faults } = this.#datapath.network;
    while (this.#accepts.head !== null && this.#arrived.length > 0) {
      const op = this.#accepts.shift();
      let qd: number;
      try {
        if (random.chance(faults.descriptors)) throw systemError(ERRNO.EMFILE, 'accept', undefined, 'simulated');
        qd = this.#datapath.openQueue(this.#family, SocketType.STREAM);
      } catch (error) {
        op.fail(error as Error);
        continue;
      }
      const end = this.#arrived.shift();
      this.#datapath.adopt(qd, end);
      op.complete(qd);
    }
  }
}
