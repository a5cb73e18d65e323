/**
 * Ports kept from the host: a kernel socket is bound to each and never used, so that no program and no outgoing connection
 * of the host gets it. It owns those sockets; they end with the process.
 */
import type { Address } from '../../address/ip.ts';
import { ERRNO, IsthmusError } from '../../errors.ts';
import { close } from '../../linux/libc.ts';
import { Limit, raiseLimit } from '../../linux/limits.ts';
import type { NetworkNamespace } from '../../linux/namespace.ts';
import { AF_INET, AF_INET6 } from '../../linux/sockaddr.ts';
import {
  bind,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockopt,
  socket,
} from '../../linux/socket.ts';
import { Protocol } from '../../linux/xdp-filter.ts';

export interface HostPortsOptions {
  /** Where the sockets are made; null for the namespace of the calling thread. */
  readonly namespace: NetworkNamespace | null;
  /** Other kernels of this program hold the same ports. */
  readonly several: boolean;
}

export class HostPorts {
  readonly #namespace: NetworkNamespace | null;
  readonly #several: boolean;
  /** Descriptor by protocol and port for all addresses, −1 for none: outgoing connections take and leave one each. */
  readonly #tcp = new Int32Array(65536).fill(-1);
  readonly #udp = new Int32Array(65536).fill(-1);
  /** Descriptors of ports held for one address. */
  readonly #single = new Map<string, number>();
  /** The kernel has IPv6, and one socket holds a port of both families. */
  #dual = true;
  held = 0;

  constructor(options: HostPortsOptions) {
    this.#namespace = options.namespace;
    this.#several = options.several;
    raiseLimit(Limit.NOFILE);
  }

  /**
   * Keeps a port from the host, of one address or (null) of all. One held already stays so.
   * @throws IsthmusError EADDRINUSE where a socket of the host has it, EACCES, EMFILE
   */
  hold(protocol: Protocol, port: number, host: string | null): void {
    if (host === null) {
      const held = this.#all(protocol);
      if (held[port] === -1) held[port] = this.#bind(protocol, port, null);
      return;
    }
    // Whoever holds it for all addresses holds it for this one.
    if (this.#all(protocol)[port] !== -1) return;
    const key = `${protocol} ${port} ${host}`;
    if (!this.#single.has(key)) this.#single.set(key, this.#bind(protocol, port, host));
  }

  /** As {@link hold} for all addresses; false where it cannot be had. */
  tryHold(protocol: Protocol, port: number): boolean {
    try {
      this.hold(protocol, port, null);
      return true;
    } catch (error) {
      if (error instanceof IsthmusError) return false;
      throw error;
    }
  }

  /** The port is the host's again. */
  release(protocol: Protocol, port: number, host: string | null): void {
    if (host === null) {
      const held = this.#all(protocol);
      if (held[port] !== -1) this.#close(held[port]!);
      held[port] = -1;
      return;
    }
    const key = `${protocol} ${port} ${host}`;
    const fd = this.#single.get(key);
    if (fd === undefined) return;
    this.#single.delete(key);
    this.#close(fd);
  }

  close(): void {
    for (const held of [this.#tcp, this.#udp]) {
      for (let port = 0; this.held > 0 && port < held.length; port++) if (held[port] !== -1) this.#close(held[port]!);
      held.fill(-1);
    }
    for (const fd of this.#single.values()) this.#close(fd);
    this.#single.clear();
  }

  #all(protocol: Protocol): Int32Array {
    return protocol === Protocol.TCP ? this.#tcp : this.#udp;
  }

  #close(fd: number): void {
    close(fd);
    this.held--;
  }

  #bind(protocol: Protocol, port: number, host: string | null): number {
    try {
      return this.#bindOnce(protocol, port, host, false);
    } catch (error) {
      const taken = error instanceof IsthmusError && error.errno === -ERRNO.EADDRINUSE;
      if (!taken || protocol !== Protocol.TCP) throw error;
    }
    // Connections of the host that are over may be what is in the way (TIME_WAIT). Only then the address is reused: a
    // listener of the host is refused all the same, but a later one would be able to share the port.
    return this.#bindOnce(protocol, port, host, true);
  }

  #bindOnce(protocol: Protocol, port: number, host: string | null, reuse: boolean): number {
    const fd = this.#socket(protocol, host);
    try {
      if (reuse) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
      if (this.#several) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
      const address: Address = { host: host ?? (this.#dual ? '::' : '0.0.0.0'), port };
      bind(fd, address);
    } catch (error) {
      close(fd);
      throw error;
    }
    this.held++;
    return fd;
  }

  #socket(protocol: Protocol, host: string | null): number {
    const type = protocol === Protocol.TCP ? SOCK_STREAM : SOCK_DGRAM;
    const open = (family: number): number => {
      if (this.#namespace === null) return socket(family, type);
      return this.#namespace.run(() => socket(family, type));
    };
    if (host !== null) return open(host.includes(':') ? AF_INET6 : AF_INET);
    if (this.#dual) {
      try {
        const fd = open(AF_INET6);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        return fd;
      } catch (error) {
        if (!(error instanceof IsthmusError) || error.errno !== -ERRNO.EAFNOSUPPORT) throw error;
        this.#dual = false;
      }
    }
    return open(AF_INET);
  }
}
