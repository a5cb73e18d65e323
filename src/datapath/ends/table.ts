/**
 * The calls of a datapath whose queues are objects of its own: each goes to the end that a queue descriptor stands for.
 * It touches nothing but those ends.
 */

import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, type DatapathHost, type Family, SocketOption, type SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';

/** A queue's socket: the calls as in the datapath, without the descriptor. */
export interface End {
  /** The options that were set. */
  readonly options: ReadonlyMap<SocketOption, number>;
  /** Bytes pushed that have not left. */
  readonly unsentBytes: number;
  bind(address: Address): void;
  listen(backlog: number): void;
  accept(op: Operation<number>): void;
  connect(address: Address, op: Operation<void>): void;
  push(sga: Sga, op: Operation<void>): void;
  pushTo(buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void;
  pop(op: Operation<HeapBuffer | null>): void;
  /** No pushes any more. */
  finish(): void;
  close(abort: boolean): void;
  withdraw(op: Operation<unknown>): void;
  getsockname(): Address;
  getpeername(): Address;
  setOption(option: SocketOption, value: number): void;
}

/** Options and what they are until they are set: those of the kernel's sockets that have a meaning without a network. */
const DEFAULT_OPTIONS: ReadonlyMap<SocketOption, number> = new Map([
  [SocketOption.NO_DELAY, 1],
  [SocketOption.REUSE_ADDRESS, 0],
  [SocketOption.REUSE_PORT, 0],
  [SocketOption.KEEP_ALIVE, 0],
  [SocketOption.RECEIVE_BUFFER, 1 << 18],
  [SocketOption.SEND_BUFFER, 1 << 18],
  [SocketOption.LINGER, -1],
  [SocketOption.V6_ONLY, 0],
  [SocketOption.BROADCAST, 0],
  [SocketOption.KEEP_ALIVE_IDLE, 7200],
  [SocketOption.KEEP_ALIVE_INTERVAL, 75],
]);

/** @template E what stands at its queues */
export abstract class EndTable<E extends End> {
  abstract readonly name: string;
  readonly #ends: (E | null)[] = [];
  #host: DatapathHost | null = null;

  attach(host: DatapathHost): void {
    this.#host = host;
  }

  /** @throws IsthmusError EMFILE */
  openQueue(family: Family, type: SocketType): number {
    return this.#host!.openQueue(family, type);
  }

  adopt(qd: number, end: E): void {
    this.#ends[qd] = end;
  }

  #end(qd: number): E {
    const end = this.#ends[qd];
    if (end === null || end === undefined) throw systemError(ERRNO.EBADF, this.name, `queue ${qd}`);
    return end;
  }

  bind(qd: number, address: Address): void {
    this.#end(qd).bind(address);
  }

  listen(qd: number, backlog: number): void {
    this.#end(qd).listen(backlog);
  }

  accept(qd: number, op: Operation<number>): void {
    this.#end(qd).accept(op);
  }

  connect(qd: number, address: Address, op: Operation<void>): void {
    this.#end(qd).connect(address, op);
  }

  push(qd: number, sga: Sga, op: Operation<void>): void {
    this.#end(qd).push(sga, op);
  }

  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    this.#end(qd).pushTo(buffer, to, op);
  }

  pop(qd: number, op: Operation<HeapBuffer | null>): void {
    this.#end(qd).pop(op);
  }

  shutdown(qd: number): void {
    this.#end(qd).finish();
  }

  close(qd: number, abort: boolean): void {
    const end = this.#ends[qd];
    this.#ends[qd] = null;
    end?.close(abort);
  }

  closeAll(): void {
    for (let qd = 0; qd < this.#ends.length; qd++) this.close(qd, false);
  }

  withdraw(qd: number, op: Operation<unknown>): void {
    this.#ends[qd]?.withdraw(op);
  }

  getsockname(qd: number): Address {
    return this.#end(qd).getsockname();
  }

  getpeername(qd: number): Address {
    return this.#end(qd).getpeername();
  }

  /** @throws IsthmusError ENOPROTOOPT, EINVAL */
  setsockopt(qd: number, option: SocketOption, value: number): void {
    if (!DEFAULT_OPTIONS.has(option)) throw systemError(ERRNO.ENOPROTOOPT, 'setsockopt', `option ${option}`);
    if (!Number.isInteger(value)) throw systemError(ERRNO.EINVAL, 'setsockopt', `${value}`);
    this.#end(qd).setOption(option, value);
  }

  /** @throws IsthmusError ENOPROTOOPT */
  getsockopt(qd: number, option: SocketOption): number {
    const value = this.#end(qd).options.get(option) ?? DEFAULT_OPTIONS.get(option);
    if (value === undefined) throw systemError(ERRNO.ENOPROTOOPT, 'getsockopt', `option ${option}`);
    return value;
  }

  unsent(qd: number): number {
    return this.#ends[qd]?.unsentBytes ?? 0;
  }
}
