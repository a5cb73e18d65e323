/**
 * What an end of a stream does before bytes flow, where both ends are ours: bind, listen, accept, connect, and its names.
 * Datapaths extend it by how a connection is made and by what flows. It touches its backlog and its name.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { Address, Family, SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import { type Adopter, Backlog } from './backlog.ts';

export const Phase = { NEW: 0, LISTENING: 1, CONNECTING: 2, OPEN: 3, BROKEN: 4 } as const;
export type Phase = (typeof Phase)[keyof typeof Phase];

/** Where an end is bound and whom it is connected to; `To`: what a datapath calls the place that is connected to. */
export interface EndName<To> {
  readonly local: Address;
  readonly remote: Address | null;
  /** @throws IsthmusError (bind(2)) */
  bind(address: Address, options: ReadonlyMap<SocketOption, number>): void;
  /** A listener that was not bound gets a port of its own (listen(2)). */
  autobind(options: ReadonlyMap<SocketOption, number>): void;
  /** Names both ends. @throws IsthmusError (connect(2)) */
  connectTo(address: Address): To;
}

export abstract class StreamSetup<End extends { close(abort: boolean): void }, To> {
  readonly family: Family;
  readonly options = new Map<SocketOption, number>();
  abstract readonly name: EndName<To>;
  // Plain fields: the classes that extend this one read them for each message.
  phase: Phase = Phase.NEW;
  /** Of a listener. */
  backlog: Backlog<End> | null = null;
  /** The connect that is outstanding. */
  connecting: Operation<void> | null = null;
  readonly #datapath: Adopter<End>;

  constructor(datapath: Adopter<End>, family: Family) {
    this.#datapath = datapath;
    this.family = family;
  }

  /** Asks for a connection; `connecting` is completed, or failed, when the answer is there. */
  protected abstract reach(to: To): void;

  abstract push(buffer: HeapBuffer, op: Operation<void>): void;

  bind(address: Address): void {
    this.name.bind(address, this.options);
  }

  listen(backlog: number): void {
    if (this.phase !== Phase.NEW && this.phase !== Phase.LISTENING) throw systemError(ERRNO.EINVAL, 'listen');
    this.name.autobind(this.options);
    this.phase = Phase.LISTENING;
    this.backlog ??= new Backlog(this.#datapath, this.family);
    this.backlog.limit = Math.max(1, backlog);
  }

  accept(op: Operation<number>): void {
    if (this.backlog === null) op.failErrno(ERRNO.EINVAL, 'accept');
    else this.backlog.accept(op);
  }

  connect(address: Address, op: Operation<void>): void {
    if (this.phase !== Phase.NEW) {
      op.failErrno(this.phase === Phase.CONNECTING ? ERRNO.EALREADY : ERRNO.EISCONN, 'connect');
      return;
    }
    let to: To;
    try {
      to = this.name.connectTo(address);
    } catch (error) {
      op.fail(error as Error);
      return;
    }
    this.phase = Phase.CONNECTING;
    this.connecting = op;
    this.reach(to);
  }

  getsockname(): Address {
    return this.name.local;
  }

  getpeername(): Address {
    if (this.phase !== Phase.OPEN) throw systemError(ERRNO.ENOTCONN, 'getpeername');
    return this.name.remote!;
  }

  /** On a stream, sending "to" somebody is plain sending; an address is not taken (sendto(2)). */
  pushTo(buffer: HeapBuffer, to: unknown, op: Operation<void>): void {
    if (to === null) this.push(buffer, op);
    else {
      buffer.release();
      op.failErrno(ERRNO.EISCONN, 'pushTo');
    }
  }
}
