/**
 * The names of one end of a stream in shared memory: where it is bound, whom it is connected to.
 * It claims names through its datapath. There is one host: 127.0.0.1, ::1 and the wildcards all mean it.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { type Address, Family, SocketOption } from '../../kernel/datapath.ts';
import { describe, isLoopback, isWildcard, namedIn, readAddress } from '../ends/names.ts';
import type { Hub, Options } from './hub.ts';
import { type Claim, type NameSpace, pathName, portName } from './names.ts';

export class StreamName {
  readonly #hub: Hub;
  readonly #family: Family;
  claims: readonly Claim[] = [];
  remote: Address | null = null;
  /** Name that this end connects to. */
  target = '';
  #local: Address | null = null;

  constructor(hub: Hub, family: Family) {
    this.#hub = hub;
    this.#family = family;
  }

  get local(): Address {
    return this.#local ?? (this.#family === Family.UNIX ? { path: '' } : namedIn(this.#family, '0.0.0.0', 0));
  }

  /** Own port; 0 on a path. */
  get port(): number {
    return this.#local !== null && 'port' in this.#local ? this.#local.port : 0;
  }

  /** Whom it connects to, for messages. */
  get about(): string {
    return this.remote === null ? '' : describe(this.remote).replace(/^\0/, '@');
  }

  /** What connect fails with where nobody has the name (unix(7), tcp(7)). */
  get refusal(): number {
    const { remote } = this;
    const file = remote !== null && 'path' in remote && !remote.path.startsWith('\0');
    return file ? ERRNO.ENOENT : ERRNO.ECONNREFUSED;
  }

  /** @throws IsthmusError EINVAL, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT (bind(2)) */
  bind(address: Address, options: Options): void {
    if (this.#local !== null) throw systemError(ERRNO.EINVAL, 'bind', undefined, 'already bound');
    const read = readAddress(this.#family, address, 'bind');
    if ('path' in read) {
      this.claims = [this.#hub.claimPath(read.path)];
      this.#local = read;
      return;
    }
    const shared = options.get(SocketOption.REUSE_PORT) === 1;
    const spaces = spacesOf('s', this.#family, read.host, options);
    const { port, claims } = this.#hub.claimPort(spaces, read.port, shared, describe(read));
    this.claims = claims;
    this.#local = namedIn(this.#family, read.host, port);
  }

  /** A listener that was not bound gets a port of its own (listen(2)). */
  autobind(options: Options): void {
    if (this.#local === null) this.bind({ host: this.#family === Family.INET6 ? '::' : '0.0.0.0', port: 0 }, options);
  }

  /**
   * Names both ends of a connection to `address`; gives the name to look for.
   * @throws IsthmusError EINVAL, EAFNOSUPPORT, ENAMETOOLONG, ENETUNREACH (connect(2))
   */
  connectTo(address: Address): string {
    const to = readAddress(this.#family, address, 'connect');
    if ('path' in to) {
      this.#local ??= { path: '' };
      this.remote = to;
      this.target = pathName(to.path);
      return this.target;
    }
    if (!isWildcard(to.host) && !isLoopback(to.host)) throw unreachable('connect', to);
    const v6 = to.host.includes(':');
    const host = isWildcard(to.host) ? (v6 ? '::1' : '127.0.0.1') : to.host;
    this.#local = namedIn(this.#family, v6 ? '::1' : '127.0.0.1', this.port || this.#hub.ephemeral());
    this.remote = namedIn(this.#family, host, to.port);
    this.target = portName(v6 ? 's6' : 's4', to.port);
    return this.target;
  }

  /** Names this end, which `listener` was found for as `name`, by somebody who connects from `port`. */
  accepted(listener: StreamName, name: string, port: number): void {
    const { local } = listener;
    if ('path' in local) {
      this.#local = local;
      this.remote = { path: '' };
      return;
    }
    const host = name.startsWith('s6') ? '::1' : '127.0.0.1';
    this.#local = namedIn(this.#family, host, local.port);
    this.remote = namedIn(this.#family, host, port & 0xffff);
  }

  /** Others may have the name now. */
  release(): void {
    this.#hub.release(this.claims);
    this.claims = [];
  }
}

/**
 * Where a port is claimed: `::` stands for IPv4 as well, unless told not to.
 * @throws IsthmusError EADDRNOTAVAIL
 */
export function spacesOf(type: 's' | 'd', family: Family, host: string, options: Options): NameSpace[] {
  if (!isWildcard(host) && !isLoopback(host)) throw systemError(ERRNO.EADDRNOTAVAIL, 'bind', host, 'there is one host');
  if (!host.includes(':')) return [`${type}4`];
  const both = host === '::' && family === Family.INET6 && options.get(SocketOption.V6_ONLY) !== 1;
  return both ? [`${type}6`, `${type}4`] : [`${type}6`];
}

export function unreachable(call: string, to: Address): Error {
  return systemError(ERRNO.ENETUNREACH, call, describe(to), 'there is one host, 127.0.0.1');
}
