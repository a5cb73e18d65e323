/**
 * The names of one end of a simulated stream: where it is bound, whom it is connected to.
 * It touches its machine's tables of ports and paths.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, Family, SocketOption } from '../../kernel/datapath.ts';
import { describe, isWildcard, namedIn, readAddress } from '../ends/names.ts';
import type { Attachment } from './attachment.ts';
import type { Bound } from './machine.ts';
import type { StreamEnd } from './stream.ts';

export class StreamName {
  readonly #owner: StreamEnd;
  readonly #datapath: Attachment;
  readonly #family: Family;
  #bound: Bound | null = null;
  #path = '';
  #local: Address | null = null;
  remote: Address | null = null;

  constructor(owner: StreamEnd) {
    this.#owner = owner;
    this.#datapath = owner.datapath;
    this.#family = owner.family;
  }

  get local(): Address {
    return this.#local ?? (this.#family === Family.UNIX ? { path: '' } : namedIn(this.#family, '0.0.0.0', 0));
  }

  /** @throws IsthmusError EINVAL, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT (bind(2)) */
  bind(address: Address, options: ReadonlyMap<SocketOption, number>): void {
    if (this.#local !== null) throw systemError(ERRNO.EINVAL, 'bind', undefined, 'already bound');
    const read = readAddress(this.#family, address, 'bind');
    const { machine, network } = this.#datapath;
    if (network.random.chance(network.faults.addressInUse)) {
      throw systemError(ERRNO.EADDRINUSE, 'bind', describe(read), 'simulated');
    }
    if ('path' in read) {
      if (machine.paths.has(read.path)) throw systemError(ERRNO.EADDRINUSE, 'bind', read.path);
      machine.paths.set(read.path, this.#owner);
      this.#path = read.path;
      this.#local = read;
      return;
    }
    if (!machine.owns(read.host)) throw systemError(ERRNO.EADDRNOTAVAIL, 'bind', describe(read));
    const reusePort = options.get(SocketOption.REUSE_PORT) === 1;
    const v6Only = options.get(SocketOption.V6_ONLY) === 1;
    this.#bound = machine.streams.bind({ ...read, reusePort, v6Only }, this.#owner);
    this.#local = namedIn(this.#family, read.host, this.#bound.port);
  }

  /** A listener that was not bound gets a port of its own (listen(2)). */
  autobind(options: ReadonlyMap<SocketOption, number>): void {
    if (this.#local === null) this.bind({ host: this.#family === Family.INET6 ? '::' : '0.0.0.0', port: 0 }, options);
  }

  /**
   * Names both ends of a connection to `address`; gives where the attempt has to go.
   * @throws IsthmusError EINVAL, EAFNOSUPPORT, ENETUNREACH (connect(2))
   */
  connectTo(address: Address): Address {
    const { machine, network } = this.#datapath;
    let to = readAddress(this.#family, address, 'connect');
    if ('path' in to) {
      this.#local ??= { path: '' };
      this.remote = to;
      return to;
    }
    // As Linux does: to connect to "any" is to connect to oneself.
    if (isWildcard(to.host)) to = { host: to.host === '::' ? '::1' : '127.0.0.1', port: to.port };
    const source = machine.sourceFor(to.host);
    if (source === null || network.route(machine, to.host) === null) {
      throw systemError(ERRNO.ENETUNREACH, 'connect', describe(to));
    }
    const host = this.#bound === null || isWildcard(this.#bound.host) ? source : this.#bound.host;
    this.#local = namedIn(this.#family, host, this.#bound?.port ?? machine.streams.ephemeral());
    this.remote = namedIn(this.#family, to.host, to.port);
    return to;
  }

  /** Names this end, which was accepted, from the names of the end that connected. */
  mirror(client: StreamName): void {
    this.#local = this.#seenFromHere(client.remote!);
    this.remote = this.#seenFromHere(client.local);
  }

  #seenFromHere(address: Address): Address {
    if ('path' in address) return address;
    const read = readAddress(Family.INET6, address, 'accept') as { host: string; port: number };
    return namedIn(this.#family, read.host, read.port);
  }

  /** Others may have the name now. */
  release(): void {
    const { machine } = this.#datapath;
    if (this.#bound !== null) machine.streams.release(this.#bound, this.#owner);
    if (this.#path !== '') machine.paths.delete(this.#path);
  }
}
