/**
 * A listener's connections that wait to be accepted, and accepts that wait for connections.
 * It touches the datapath only to open a queue for each accepted connection.
 */
import { ERRNO } from '../../errors.ts';
import { type Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import { Fifo } from './fifo.ts';

/** The datapath, as far as accepting goes. */
export interface Adopter<E> {
  /** @throws IsthmusError EMFILE */
  openQueue(family: Family, type: SocketType): number;
  /** The queue descriptor now stands for this end. */
  adopt(qd: number, end: E): void;
}

export class Backlog<E extends { close(abort: boolean): void }> {
  /** Most connections waiting to be accepted. */
  limit = 0;
  readonly #datapath: Adopter<E>;
  readonly #family: Family;
  readonly #arrived = new Fifo<E>();
  readonly #accepts = new OperationFifo<number>();

  constructor(datapath: Adopter<E>, family: Family) {
    this.#datapath = datapath;
    this.#family = family;
  }

  get full(): boolean {
    return this.#arrived.length >= this.limit;
  }

  accept(op: Operation<number>): void {
    this.#accepts.append(op);
    this.#admit();
  }

  arrive(end: E): void {
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
    while (this.#accepts.head !== null && this.#arrived.length > 0) {
      const op = this.#accepts.shift()!;
      let qd: number;
      try {
        qd = this.#datapath.openQueue(this.#family, SocketType.STREAM);
      } catch (error) {
        op.fail(error as Error);
        continue;
      }
      this.#datapath.adopt(qd, this.#arrived.shift());
      op.complete(qd);
    }
  }
}
