/**
 * Shared mode: which ports of the host's addresses are ours. It tells the filter what to redirect, keeps those ports from
 * the host, and follows the host's addresses as they come and go.
 */

import { Protocol } from '../../linux/xdp-filter.ts';
import { type IpWords, textOfWords } from '../../net/ip/words.ts';
import type { HostPorts } from './host-ports.ts';

/** Ports given back at a time. */
const TIDY_PORTS = 32;

/** The part of a filter that serves ports. */
export interface PortFilter {
  slotOf(address: string): number;
  setPort(slot: number, protocol: Protocol, port: number, served: boolean): void;
  forget(address: string): void;
}

export class SharedPorts {
  readonly #filter: PortFilter;
  readonly #host: HostPorts;
  /** Ports served at all addresses, as numbers of {@link keyOf}; and those of one address by its text. */
  readonly #everywhere = new Set<number>();
  readonly #single = new Map<string, Set<number>>();
  /** Slots of the host's addresses. */
  readonly #slots = new Map<string, number>();

  constructor(filter: PortFilter, host: HostPorts) {
    this.#filter = filter;
    this.#host = host;
  }

  /** The host's addresses on the interface. Ports served everywhere are served at new ones too. */
  setAddresses(addresses: readonly string[]): void {
    for (const address of this.#slots.keys()) {
      if (addresses.includes(address)) continue;
      this.#slots.delete(address);
      this.#filter.forget(address);
    }
    for (const address of addresses) {
      if (this.#slots.has(address)) continue;
      const slot = this.#filter.slotOf(address);
      this.#slots.set(address, slot);
      for (const key of this.#everywhere) this.#filter.setPort(slot, protocolOf(key), portOf(key), true);
      for (const key of this.#single.get(address) ?? []) {
        this.#filter.setPort(slot, protocolOf(key), portOf(key), true);
      }
    }
  }

  /** @throws IsthmusError EADDRINUSE where a socket of the host has the port, EACCES */
  serve(protocol: number, port: number, at: IpWords | null): void {
    const key = keyOf(protocol, port);
    const address = at === null ? null : textOf(at);
    this.#host.hold(protocolOf(key), port, address);
    if (address === null) this.#serveEverywhere(key);
    else {
      const single = this.#single.get(address) ?? new Set();
      this.#single.set(address, single.add(key));
      const slot = this.#slots.get(address);
      if (slot !== undefined) this.#filter.setPort(slot, protocolOf(key), port, true);
    }
  }

  unserve(protocol: number, port: number, at: IpWords | null): void {
    const key = keyOf(protocol, port);
    const address = at === null ? null : textOf(at);
    if (address === null) this.#unserveEverywhere(key);
    else {
      this.#single.get(address)?.delete(key);
      const slot = this.#slots.get(address);
      if (slot !== undefined && !this.#everywhere.has(key)) this.#filter.setPort(slot, protocolOf(key), port, false);
    }
    this.#host.release(protocolOf(key), port, address);
  }

  /** As `serve` everywhere; false where the host has the port. */
  reserve(protocol: number, port: number): boolean {
    const key = keyOf(protocol, port);
    if (!this.#host.tryHold(protocolOf(key), port)) return false;
    this.#serveEverywhere(key);
    return true;
  }

  /** The port of an outgoing connection is the host's again soon. */
  unreserve(protocol: number, port: number): void {
    const key = keyOf(protocol, port);
    this.#unserveEverywhere(key);
    this.#host.releaseLater(protocolOf(key), port);
  }

  /** When there is nothing else to do. */
  tidy(): void {
    this.#host.tidy(TIDY_PORTS);
  }

  get firstEphemeral(): number {
    return this.#host.firstEphemeral;
  }

  get lastEphemeral(): number {
    return this.#host.lastEphemeral;
  }

  close(): void {
    for (const key of [...this.#everywhere]) this.unserve(key >>> 16, portOf(key), null);
    for (const [address, keys] of this.#single) {
      const slot = this.#slots.get(address);
      for (const key of keys) if (slot !== undefined) this.#filter.setPort(slot, protocolOf(key), portOf(key), false);
    }
    for (const address of this.#slots.keys()) this.#filter.forget(address);
    this.#slots.clear();
    this.#host.close();
  }

  #serveEverywhere(key: number): void {
    this.#everywhere.add(key);
    for (const slot of this.#slots.values()) this.#filter.setPort(slot, protocolOf(key), portOf(key), true);
  }

  #unserveEverywhere(key: number): void {
    this.#everywhere.delete(key);
    for (const [address, slot] of this.#slots) {
      if (this.#single.get(address)?.has(key)) continue;
      this.#filter.setPort(slot, protocolOf(key), portOf(key), false);
    }
  }
}

function keyOf(protocol: number, port: number): number {
  return (protocol << 16) | port;
}

function protocolOf(key: number): Protocol {
  return key >>> 16 === Protocol.TCP ? Protocol.TCP : Protocol.UDP;
}

function portOf(key: number): number {
  return key & 0xffff;
}

function textOf({ family, w0, w1, w2, w3 }: IpWords): string {
  return textOfWords(family, w0, w1, w2, w3);
}
