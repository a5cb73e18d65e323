/**
 * Shared mode: the host's addresses, routes and neighbours on one interface, kept up to date in a stack.
 * It listens to rtnetlink, reads the host's tables, and asks the host to look for neighbours.
 */
import type { NetworkNamespace } from '../../linux/namespace.ts';
import { NetworkSetup } from '../../linux/network-setup.ts';
import {
  type Neighbour as HostNeighbour,
  NeighbourState as HostState,
  NetworkMonitor,
  type Route,
} from '../../linux/rtnetlink.ts';
import { MAX_LOCAL_ADDRESSES } from '../../net/ip/local-addresses.ts';
import { MAX_ROUTES } from '../../net/ip/routes.ts';
import { textOfWords, wordsOfText } from '../../net/ip/words.ts';
import type { Neighbour } from '../../net/neighbour.ts';
import type { Stack } from '../../net/stack.ts';

const MAIN_TABLE = 254;
const UNICAST = 1;
/** States in which the host sends to the address that it has. */
const USABLE =
  HostState.REACHABLE | HostState.STALE | HostState.DELAY | HostState.PROBE | HostState.NOARP | HostState.PERMANENT;

export interface HostNetworkOptions {
  readonly interfaceIndex: number;
  readonly stack: Stack;
  readonly namespace: NetworkNamespace | null;
  /** The host's addresses on the interface, at first and whenever they have changed. */
  readonly onAddresses: (addresses: readonly string[]) => void;
  /** The interface has come up again, or was changed in another way. */
  readonly onLink: () => void;
}

export class HostNetwork {
  readonly #options: HostNetworkOptions;
  readonly #monitor: NetworkMonitor;
  readonly #kernel: NetworkSetup;
  /** Addresses and routes given to the stack, by `address/prefix`. */
  #addresses = new Map<string, { host: string; prefixLength: number }>();
  #routes = new Map<string, Route>();
  /** Hardware address of each neighbour that the host knows. */
  readonly #neighbours = new Map<string, string>();

  constructor(options: HostNetworkOptions) {
    this.#options = options;
    const make = () => ({ monitor: new NetworkMonitor(), kernel: new NetworkSetup() });
    const { monitor, kernel } = options.namespace === null ? make() : options.namespace.run(make);
    this.#monitor = monitor;
    this.#kernel = kernel;
    this.#readAll();
  }

  /** Readable when the host's network has changed: then {@link update}. */
  get fd(): number {
    return this.#monitor.fd;
  }

  /** Takes in what has changed. Never waits. */
  update(): void {
    let lists = false;
    for (const change of this.#monitor.changes()) {
      switch (change.kind) {
        case 'lost':
          this.#readAll();
          return;
        case 'neighbour':
          this.#heard(change.neighbour, change.removed);
          break;
        case 'link':
          if (change.link.index === this.#options.interfaceIndex) this.#options.onLink();
          break;
        case 'address':
          lists ||= change.address.interfaceIndex === this.#options.interfaceIndex;
          break;
        case 'route':
          lists ||= change.routes.some(({ interfaceIndex }) => interfaceIndex === this.#options.interfaceIndex);
      }
    }
    if (lists) this.#readLists();
  }

  /** The stack wants a hardware address: from the host's table at once, and the host looks again whether it is right. */
  lookup(neighbour: Neighbour): void {
    const { family, w0, w1, w2, w3 } = neighbour;
    const address = textOfWords(family, w0, w1, w2, w3);
    this.#kernel.useNeighbour(this.#options.interfaceIndex, address);
    const mac = this.#neighbours.get(address);
    if (mac !== undefined) this.#tell(address, mac, false);
  }

  close(): void {
    this.#monitor.close();
    this.#kernel.close();
  }

  // ---- Neighbours ----------------------------------------------------------------------------------------------

  #heard({ interfaceIndex, address, mac, state }: HostNeighbour, removed: boolean): void {
    if (interfaceIndex !== this.#options.interfaceIndex) return;
    if (!removed && (state & USABLE) !== 0 && mac !== '') {
      this.#neighbours.set(address, mac);
      const { family, w0, w1, w2, w3 } = wordsOfText(address);
      // Only what the stack has asked for: the host may know more neighbours than it has room for.
      if (this.#options.stack.neighbours.find(family, w0, w1, w2, w3) === null) return;
      this.#tell(address, mac, (state & (HostState.PERMANENT | HostState.NOARP)) !== 0);
      return;
    }
    this.#neighbours.delete(address);
    if (removed || (state & HostState.FAILED) === 0) return;
    const { family, w0, w1, w2, w3 } = wordsOfText(address);
    this.#options.stack.neighbours.forget(family, w0, w1, w2, w3);
  }

  #tell(address: string, mac: string, permanent: boolean): void {
    const { family, w0, w1, w2, w3 } = wordsOfText(address);
    const bytes = mac.split(':').map((byte) => Number.parseInt(byte, 16));
    const macHi = (bytes[0]! << 8) | bytes[1]!;
    const macLo = (bytes[2]! << 24) | (bytes[3]! << 16) | (bytes[4]! << 8) | bytes[5]!;
    this.#options.stack.neighbours.set(family, w0, w1, w2, w3, macHi, macLo, permanent);
  }

  // ---- Addresses and routes ------------------------------------------------------------------------------------

  #readAll(): void {
    this.#neighbours.clear();
    for (const neighbour of this.#kernel.neighbours()) this.#heard(neighbour, false);
    this.#readLists();
  }

  #readLists(): void {
    const { interfaceIndex, onAddresses } = this.#options;
    const addresses = this.#kernel
      .addresses()
      .filter((address) => address.interfaceIndex === interfaceIndex && !address.tentative)
      .slice(0, MAX_LOCAL_ADDRESSES)
      .map(({ address, prefixLength }) => ({ host: address, prefixLength }));
    this.#setAddresses(addresses);
    this.#setRoutes(
      this.#kernel
        .routes()
        .filter(({ table, type }) => table === MAIN_TABLE && type === UNICAST)
        .filter((route) => route.interfaceIndex === interfaceIndex && isOfOneFamily(route)),
    );
    onAddresses(addresses.map(({ host }) => host));
  }

  #setAddresses(addresses: readonly { host: string; prefixLength: number }[]): void {
    const { stack } = this.#options;
    const wanted = new Map(addresses.map((address) => [`${address.host}/${address.prefixLength}`, address]));
    for (const [key, { host }] of this.#addresses) if (!wanted.has(key)) stack.removeAddress(host);
    for (const [key, { host, prefixLength }] of wanted) {
      if (!this.#addresses.has(key)) stack.addAddress(host, prefixLength);
    }
    this.#addresses = wanted;
  }

  #setRoutes(routes: readonly Route[]): void {
    const { stack } = this.#options;
    const wanted = new Map<string, Route>();
    // Of several to one network the one with the smallest metric; of too many the shorter prefixes, which reach further.
    const sorted = [...routes].sort((a, b) => a.prefixLength - b.prefixLength || a.metric - b.metric);
    for (const route of sorted) {
      const key = `${route.destination}/${route.prefixLength}`;
      if (!wanted.has(key) && wanted.size < MAX_ROUTES - MAX_LOCAL_ADDRESSES) wanted.set(key, route);
    }
    for (const [key, { destination, prefixLength }] of this.#routes) {
      if (!wanted.has(key)) stack.removeRoute(destination, prefixLength);
    }
    for (const { destination, prefixLength, gateway, preferredSource, mtu } of wanted.values()) {
      const isOurs = preferredSource !== null && [...this.#addresses.values()].some((a) => a.host === preferredSource);
      stack.addRoute(destination, prefixLength, gateway, {
        source: isOurs ? wordsOfText(preferredSource) : null,
        mtu,
      });
    }
    this.#routes = wanted;
  }
}

/** An IPv4 route by an IPv6 router (RFC 5549) is not for our stack. */
function isOfOneFamily({ family, gateway }: Route): boolean {
  return gateway === null || gateway.includes(':') === (family === 6);
}
