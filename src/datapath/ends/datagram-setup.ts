/**
 * What a datagram socket does before messages flow, where both ends are ours: its name, whom it is connected to, and what it
 * refuses. Datapaths extend it by how a port is bound and by what flows. It touches nothing else.
 */
import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, Family, type SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { namedIn, readAddress } from './names.ts';

/** Longest payload of UDP over IPv4 (RFC 768, RFC 791). */
export const LONGEST = 65507;
/** Bytes that wait to be popped, at most: as Linux's net.core.rmem_default. */
export const RECEIVE_BUFFER = 212_992;

/** `Bound`: what a datapath keeps of the port it has bound. */
export abstract class DatagramSetup<Bound extends { readonly host: string; readonly port: number }> {
  readonly family: Family;
  readonly options = new Map<SocketOption, number>();
  readonly unsentBytes = 0;
  // Plain fields: the classes that extend this one read them for each message.
  bound: Bound | null = null;
  remote: IpAddress | null = null;

  constructor(family: Family) {
    this.family = family;
  }

  /** @throws IsthmusError (bind(2)) */
  protected abstract bindTo(name: IpAddress): Bound;

  /** Told of an address before it is connected to. @throws IsthmusError where there is no way to it */
  protected reach(_to: IpAddress): void {}

  setOption(option: SocketOption, value: number): void {
    this.options.set(option, value);
  }

  bind(address: Address): void {
    if (this.bound !== null) throw systemError(ERRNO.EINVAL, 'bind', undefined, 'already bound');
    this.bound = this.bindTo(readAddress(this.family, address, 'bind') as IpAddress);
  }

  /** Its name; one of its own where it was not bound. */
  autobind(): Bound {
    if (this.bound === null) this.bind({ host: this.family === Family.INET6 ? '::' : '0.0.0.0', port: 0 });
    return this.bound!;
  }

  connect(address: Address, op: Operation<void>): void {
    try {
      const to = readAddress(this.family, address, 'connect') as IpAddress;
      this.reach(to);
      this.autobind();
      this.remote = to;
    } catch (error) {
      op.fail(error as Error);
      return;
    }
    op.complete(undefined);
  }

  listen(): void {
    throw systemError(ERRNO.EOPNOTSUPP, 'listen');
  }

  accept(op: Operation<number>): void {
    op.failErrno(ERRNO.EOPNOTSUPP, 'accept');
  }

  finish(): void {}

  getsockname(): Address {
    return namedIn(this.family, this.bound?.host ?? '0.0.0.0', this.bound?.port ?? 0);
  }

  getpeername(): Address {
    if (this.remote === null) throw systemError(ERRNO.ENOTCONN, 'getpeername');
    return namedIn(this.family, this.remote.host, this.remote.port);
  }
}
