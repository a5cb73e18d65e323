/**
 * Ports kept from the host: a kernel socket is bound to each and never used, so that no program and no outgoing connection
 * of the host gets it. It owns those sockets; they end with the process.
 */
import { readFileSync } from 'node:fs';
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

const PORTS = 65536;
/** Descriptors that are left to everything else. */
const SPARE_DESCRIPTORS = 512;
const MAX_EPHEMERAL = 16384;
const FIRST_PORT = 10240;

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
  readonly #tcp = new Int32Array(PORTS).fill(-1);
  readonly #udp = new Int32Array(PORTS).fill(-1);
  /** Descriptors of ports held for one address. */
  readonly #single = new Map<string, number>();
  /** Ports that are to be the host's again soon: to close a socket costs some microseconds, and many may come at once. */
  readonly #late: number[] = [];
  readonly #isLate = new Uint8Array(2 * PORTS);
  /** The kernel has IPv6, and one socket holds a port of both families. */
  #dual = true;
  /** Sockets that may still be opened. */
  #budget: number;
  held = 0;
  /** Ports for outgoing connections: such as the host does not choose for its own, and no more than there are descriptors. */
  readonly firstEphemeral: number;
  readonly lastEphemeral: number;

  constructor(options: HostPortsOptions) {
    this.#namespace = options.namespace;
    this.#several = options.several;
    this.#budget = Math.max(64, raiseLimit(Limit.NOFILE).soft - SPARE_DESCRIPTORS);
    const [low, high] = options.namespace === null ? hostRange() : options.namespace.run(hostRange);
    const count = Math.min(MAX_EPHEMERAL, this.#budget);
    // Below the host's ports, above those that most services have; else behind the host's, else among them.
    if (low - count >= FIRST_PORT) this.lastEphemeral = low - 1;
    else this.lastEphemeral = high + count <= 65535 ? high + count : 65535;
    this.firstEphemeral = this.lastEphemeral - count + 1;
  }

  /**
   * Keeps a port from the host, of one address or (null) of all. One held already stays so.
   * @throws IsthmusError EADDRINUSE where a socket of the host has it, EACCES, EMFILE
   */
  hold(protocol: Protocol, port: number, host: string | null): void {
    if (host === null) {
      const held = this.#all(protocol);
      this.#isLate[keyOf(protocol, port)] = 0;
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
    if (this.#all(protocol)[port] !== -1) {
      this.#isLate[keyOf(protocol, port)] = 0;
      return true;
    }
    if (this.#budget <= 0) return false;
    try {
      this.hold(protocol, port, null);
      return true;
    } catch (error) {
      if (error instanceof IsthmusError) return false;
      throw error;
    }
  }

  /** The port, held for all addresses, is the host's again soon: when {@link tidy} has come to it. */
  releaseLater(protocol: Protocol, port: number): void {
    const key = keyOf(protocol, port);
    if (this.#isLate[key] !== 0) return;
    this.#isLate[key] = 1;
    this.#late.push(key);
  }

  /** Gives at most `limit` ports back. */
  tidy(limit: number): void {
    for (const key of this.#late.splice(0, limit)) {
      if (this.#isLate[key] === 0) continue;
      this.#isLate[key] = 0;
      this.release(key >= PORTS ? Protocol.UDP : Protocol.TCP, key & (PORTS - 1), null);
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
    this.#budget++;
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
    this.#budget--;
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

function keyOf(protocol: Protocol, port: number): number {
  return protocol === Protocol.UDP ? PORTS + port : port;
}

/** The ports that the kernel chooses from for outgoing connections (ip(7)). The file shows the thread's namespace. */
function hostRange(): [number, number] {
  try {
    const [low = 0, high = 0] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1')
      .trim()
      .split(/\s+/)
      .map(Number);
    if (low > 0 && high >= low) return [low, high];
  } catch {
    // no /proc
  }
  return [32768, 60999];
}
