/**
 * A listener's connections that wait to be accepted, and accepts that wait for connections.
 * It touches the datapath only to open a queue for each accepted connection.
 */
import { ERRNO } from '../../errors.ts';
import { type Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { Fifo, Waiting } from '../simulated/events.ts';
import type { Hub } from './hub.ts';
import type { StreamEnd } from './stream.ts';

export class Backlog {
  /** Most connections waiting to be accepted. */
  limit = 0;
  readonly #hub: Hub;
  readonly #family: Family;
  readonly #arrived = new Fifo<StreamEnd>();
  readonly #accepts = new Waiting<number>();

  constructor(hub: Hub, family: Family) {
    this.#hub = hub;
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
    while (this.#accepts.head !== null && this.#arrived.length > 0) {
      const op = this.#accepts.shift();
      let qd: number;
      try {
        qd = this.#hub.openQueue(this.#family, SocketType.STREAM);
      } catch (error) {
        op.fail(error as Error);
        continue;
      }
      this.#hub.adopt(qd, this.#arrived.shift());
      op.complete(qd);
    }
  }
}
