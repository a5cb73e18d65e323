/**
 * A simulated machine: its addresses, and who holds which port or path on it.
 * Pure bookkeeping, by the rules of bind(2), ip(7) and ipv6(7).
 */

import { ERRNO, systemError } from '../../errors.ts';
import { isLoopback, isWildcard } from '../ends/names.ts';
import type { Random } from './random.ts';

export interface Bound {
  /** Canonical text; `0.0.0.0` and `::` for every address. */
  readonly host: string;
  readonly port: number;
  readonly reusePort: boolean;
  /** `::` does not stand for IPv4 as well. */
  readonly v6Only: boolean;
}

const EPHEMERAL: readonly [number, number] = [32768, 60999];

/** Ports of one protocol on one machine. */
export class Ports<T> {
  readonly #bound = new Map<number, { name: Bound; owner: T }[]>();
  #ephemeral = EPHEMERAL[0];

  /** @throws IsthmusError EADDRINUSE */
  bind(wanted: Bound, owner: T): Bound {
    if (wanted.port === 0) {
      const tried = EPHEMERAL[1] - EPHEMERAL[0] + 1;
      for (let i = 0; i < tried; i++) {
        const name = { ...wanted, port: this.ephemeral() };
        if (!this.#conflicts(name)) return this.#add(name, owner);
      }
      throw systemError(ERRNO.EADDRINUSE, 'bind', wanted.host, 'every ephemeral port is in use');
    }
    if (this.#conflicts(wanted)) throw systemError(ERRNO.EADDRINUSE, 'bind', `${wanted.host}:${wanted.port}`);
    return this.#add(wanted, owner);
  }

  /** The next port for a connecting socket; connections of different destinations may share one. */
  ephemeral(): number {
    const port = this.#ephemeral;
    this.#ephemeral = port === EPHEMERAL[1] ? EPHEMERAL[0] : port + 1;
    return port;
  }

  #add(name: Bound, owner: T): Bound {
    const holders = this.#bound.get(name.port);
    if (holders === undefined) this.#bound.set(name.port, [{ name, owner }]);
    else holders.push({ name, owner });
    return name;
  }

  #conflicts(name: Bound): boolean {
    for (const { name: other } of this.#bound.get(name.port) ?? []) {
      if (name.reusePort && other.reusePort) continue;
      if (covers(name, other.host) || covers(other, name.host)) return true;
    }
    return false;
  }

  release(name: Bound, owner: T): void {
    const holders = this.#bound.get(name.port) ?? [];
    const left = holders.filter((holder) => holder.owner !== owner);
    if (left.length === 0) this.#bound.delete(name.port);
    else this.#bound.set(name.port, left);
  }

  /** Who gets what is sent to this address; of several that share a port one is drawn. An exact address goes first. */
  find(host: string, port: number, usable: (owner: T) => boolean, random: Random): T | null {
    const holders = this.#bound.get(port);
    if (holders === undefined) return null;
    const fitting = holders.filter(({ name, owner }) => covers(name, host) && usable(owner));
    const exact = fitting.filter(({ name }) => name.host === host);
    const choice = exact.length > 0 ? exact : fitting;
    if (choice.length === 0) return null;
    return choice[choice.length === 1 ? 0 : random.below(choice.length)]!.owner;
  }
}

/** Whether a socket of this name is meant by what is sent to `host`. */
function covers(name: Bound, host: string): boolean {
  if (name.host === host) return true;
  if (name.host === '0.0.0.0') return !host.includes(':');
  return name.host === '::' && (host.includes(':') || !name.v6Only);
}

export class Machine<S, D> {
  readonly name: string;
  readonly addresses: string[] = [];
  readonly streams = new Ports<S>();
  readonly datagrams = new Ports<D>();
  readonly paths = new Map<string, S>();

  constructor(name: string) {
    this.name = name;
  }

  /** Whether a socket here may have this address. */
  owns(host: string): boolean {
    return isWildcard(host) || isLoopback(host) || this.addresses.includes(host);
  }

  /** The address packets to `host` leave from; null where there is no way to it. */
  sourceFor(host: string): string | null {
    if (isLoopback(host)) return host.includes(':') ? '::1' : '127.0.0.1';
    if (this.addresses.includes(host)) return host;
    return this.addresses.find((own) => own.includes(':') === host.includes(':')) ?? null;
  }
}
