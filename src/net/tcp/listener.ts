/**
 * A listening port: connections that are half open are counted, those that are open wait in a bounded queue.
 * It touches its own queue and the TCP it belongs to.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { Flow } from '../flow.ts';
import type { Connection } from './connection.ts';
import type { Tcp } from './tcp.ts';

export class Listener {
  readonly tcp: Tcp;
  /** Local address and port; an address of zeros is any address of that family. */
  readonly local: Flow;
  /** Takes any address of both families. */
  readonly dual: boolean;
  /** Shares its port with others that have this set. */
  readonly reusePort: boolean;
  /** Most connections waiting to be accepted, and most half open before cookies are used. */
  backlog: number;
  /** Whatever its owner likes. */
  user: unknown = null;
  /** Connections in SYN_RECEIVED. */
  halfOpen = 0;
  /** Options that accepted connections begin with; null for the TCP's own. */
  noDelay: boolean | null = null;
  receiveBuffer: number | null = null;
  readonly #queue: Connection[] = [];

  constructor(tcp: Tcp, local: Flow, dual: boolean, backlog: number, reusePort: boolean) {
    this.tcp = tcp;
    this.local = local;
    this.dual = dual;
    this.reusePort = reusePort;
    this.backlog = Math.max(1, backlog);
  }

  /** Connections waiting to be accepted. */
  get waiting(): number {
    return this.#queue.length;
  }

  get full(): boolean {
    return this.#queue.length >= this.backlog;
  }

  /** The oldest connection waiting, now the caller's; null for none. It may be over already (`state`, `error`). */
  accept(): Connection | null {
    const connection = this.#queue.shift() ?? null;
    if (connection !== null) connection.listener = null;
    return connection;
  }

  /** Takes a connection whose handshake is complete. */
  add(connection: Connection): void {
    this.#queue.push(connection);
  }

  /** A connection that waits has ended: it is not worth accepting. */
  remove(connection: Connection): void {
    const at = this.#queue.indexOf(connection);
    if (at >= 0) this.#queue.splice(at, 1);
  }

  /** Closes it: what waits and what is half open is reset. */
  close(): void {
    this.tcp.unlisten(this);
    for (let next = this.accept(); next !== null; next = this.accept()) next.abort();
  }

  matches(flow: Flow): boolean {
    const { local } = this;
    if (local.localPort !== flow.localPort) return false;
    if (this.dual) return true;
    if (local.family !== flow.family) return false;
    if (this.wildcard) return true;
    return (
      local.local3 === flow.local3 &&
      local.local2 === flow.local2 &&
      local.local1 === flow.local1 &&
      local.local0 === flow.local0
    );
  }

  get wildcard(): boolean {
    const { local } = this;
    return (local.local0 | local.local1 | local.local2 | local.local3) === 0;
  }
}

/** The listeners of one TCP, by port. */
export class ListenerTable {
  readonly #byPort = new Map<number, Listener[]>();

  /** @throws IsthmusError EADDRINUSE where another listener would take the same segments */
  add(listener: Listener): void {
    const { local, dual } = listener;
    const others = this.#byPort.get(local.localPort) ?? [];
    for (const other of others) {
      if (other.reusePort && listener.reusePort) continue;
      const sameFamily = other.dual || dual || other.local.family === local.family;
      if (sameFamily && (other.wildcard || listener.wildcard || other.matches(local))) {
        throw systemError(ERRNO.EADDRINUSE, 'listen', `port ${local.localPort}`);
      }
    }
    others.push(listener);
    this.#byPort.set(local.localPort, others);
  }

  remove(listener: Listener): void {
    const port = listener.local.localPort;
    const left = (this.#byPort.get(port) ?? []).filter((other) => other !== listener);
    if (left.length === 0) this.#byPort.delete(port);
    else this.#byPort.set(port, left);
  }

  /** The listener that takes segments of this flow, or null. */
  find(flow: Flow): Listener | null {
    const listeners = this.#byPort.get(flow.localPort);
    if (listeners === undefined) return null;
    for (const listener of listeners) {
      if (listener.matches(flow)) return listener.reusePort ? oneOf(listeners, flow) : listener;
    }
    return null;
  }

  hasPort(port: number): boolean {
    return this.#byPort.has(port);
  }

  /** @throws IsthmusError EADDRNOTAVAIL where every port of the range has a listener */
  freePort(first: number, last: number, random: number): number {
    const count = last - first + 1;
    const start = ((random >>> 0) % count) | 0;
    for (let i = 0; i < count; i++) {
      const port = first + ((start + i) % count);
      if (!this.#byPort.has(port)) return port;
    }
    throw systemError(ERRNO.EADDRNOTAVAIL, 'listen', undefined, 'every port has a listener');
  }
}

/** Of those that share a port, the one that a remote side belongs to as long as none comes or goes. */
function oneOf(listeners: readonly Listener[], flow: Flow): Listener {
  const matching = listeners.filter((listener) => listener.matches(flow));
  const mixed = Math.imul(flow.remotePort ^ Math.imul(flow.remote3, 0x9e3779b1), 0x85ebca6b) >>> 16;
  return matching[mixed % matching.length]!;
}
