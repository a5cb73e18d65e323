/**
 * rtnetlink(7): links, addresses, routes and neighbours of a network namespace as plain data, and their changes.
 * Only reads; network-setup.ts changes things.
 */
import { formatIp } from '../address/ip.ts';
import {
  type Attributes,
  NETLINK_ROUTE,
  NetlinkMessage,
  type NetlinkReply,
  NetlinkSocket,
  readAttributes,
  readBytes,
  readNumber,
  readText,
} from './netlink.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

/** Message types, linux/rtnetlink.h. */
export const RouteMessage = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
} as const;

const GROUPS = { LINK: 1, NEIGH: 3, IPV4_IFADDR: 5, IPV4_ROUTE: 7, IPV6_IFADDR: 9, IPV6_ROUTE: 11 } as const;

export const LinkFlag = { UP: 0x1, LOOPBACK: 0x8, RUNNING: 0x40, NOARP: 0x80, MULTICAST: 0x1000 } as const;

/** An interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** Empty where it has none. */
  readonly mac: string;
  readonly mtu: number;
  /** Bits of {@link LinkFlag}. */
  readonly flags: number;
  readonly up: boolean;
  /** A cable, or the peer of a pair, is there. */
  readonly carrier: boolean;
  /** veth, vlan, tun …; empty for hardware. */
  readonly kind: string;
  /** Queues made at most; ethtool.ts says how many are in use. */
  readonly receiveQueues: number;
  readonly transmitQueues: number;
  /** Interface below it, or the peer of a veth; 0 for none. */
  readonly parent: number;
  /** Bytes that it wants free in front of the packets it is given (needed_headroom); -1 where the kernel does not tell. */
  readonly headroom: number;
  /** The XDP program on it, null for none. `several`: one per mode. */
  readonly xdp: { readonly mode: 'native' | 'generic' | 'hardware' | 'several'; readonly programId: number } | null;
}

export interface InterfaceAddress {
  readonly interfaceIndex: number;
  readonly family: 4 | 6;
  readonly address: string;
  readonly prefixLength: number;
  /** 0 everywhere, 253 on the link, 254 on this host (rtnetlink(7)). */
  readonly scope: number;
  /** IPv6: duplicate detection is still under way, or found one. Such an address does not work yet. */
  readonly tentative: boolean;
}

/** A way to a network. One with several next hops gives an entry for each. */
export interface Route {
  readonly family: 4 | 6;
  /** `0.0.0.0` or `::` with prefix length 0 for the default route. */
  readonly destination: string;
  readonly prefixLength: number;
  /** null where the destination is on the link. An IPv4 route may have an IPv6 gateway (RFC 5549). */
  readonly gateway: string | null;
  readonly interfaceIndex: number;
  readonly preferredSource: string | null;
  /** Smaller is preferred among routes of one prefix. */
  readonly metric: number;
  /** 254 main, 255 local. */
  readonly table: number;
  /** 1 unicast, 2 local, 3 broadcast, 5 multicast, 6 blackhole, 7 unreachable, 8 prohibit. */
  readonly type: number;
  /** Set for the route; 0 for the link's. */
  readonly mtu: number;
}

/** Bits of a neighbour's state (NUD). */
export const NeighbourState = {
  INCOMPLETE: 0x01,
  REACHABLE: 0x02,
  STALE: 0x04,
  DELAY: 0x08,
  PROBE: 0x10,
  FAILED: 0x20,
  NOARP: 0x40,
  PERMANENT: 0x80,
} as const;

export interface Neighbour {
  readonly interfaceIndex: number;
  readonly family: 4 | 6;
  readonly address: string;
  /** Empty while it is not known. */
  readonly mac: string;
  /** Bits of {@link NeighbourState}. */
  readonly state: number;
}

export type NetworkChange =
  | { readonly kind: 'link'; readonly removed: boolean; readonly link: Link }
  | { readonly kind: 'address'; readonly removed: boolean; readonly address: InterfaceAddress }
  | { readonly kind: 'route'; readonly removed: boolean; readonly routes: readonly Route[] }
  | { readonly kind: 'neighbour'; readonly removed: boolean; readonly neighbour: Neighbour }
  /** Changes came faster than they were read: read the lists again. */
  | { readonly kind: 'lost' };

/** Reads the network of the namespace that the calling thread is in when it is made. */
export class NetworkReader {
  protected readonly socket = new NetlinkSocket(NETLINK_ROUTE);

  links(): Link[] {
    const message = new NetlinkMessage(RouteMessage.GETLINK).u32(0).u32(0).u32(0).u32(0);
    return this.socket.dump(message, 'links').map(readLink);
  }

  /** One interface by index or name, or null. */
  link(which: number | string): Link | null {
    return this.links().find((link) => link.index === which || link.name === which) ?? null;
  }

  addresses(): InterfaceAddress[] {
    const message = new NetlinkMessage(RouteMessage.GETADDR).u32(0).u32(0);
    return defined(this.socket.dump(message, 'addresses').map(readAddress));
  }

  routes(): Route[] {
    const message = new NetlinkMessage(RouteMessage.GETROUTE).u32(0).u32(0).u32(0);
    return this.socket.dump(message, 'routes').flatMap(readRoutes);
  }

  neighbours(): Neighbour[] {
    const message = new NetlinkMessage(RouteMessage.GETNEIGH).u32(0).u32(0).u32(0);
    return defined(this.socket.dump(message, 'neighbours').map(readNeighbour));
  }

  close(): void {
    this.socket.close();
  }
}

/** Is told of every change; watch `fd` (watch.ts) and then take the changes. Make it before reading the lists. */
export class NetworkMonitor {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE, Object.values(GROUPS));

  get fd(): number {
    return this.#socket.fd;
  }

  /** What has happened since the last call. Never waits. */
  changes(): NetworkChange[] {
    const replies = this.#socket.changes();
    return replies === null ? [{ kind: 'lost' }] : replies.flatMap(readChange);
  }

  close(): void {
    this.#socket.close();
  }
}

function readChange(reply: NetlinkReply): NetworkChange[] {
  const removed = (reply.type & 3) === 1; // NEW is a multiple of four, DEL the next number
  switch (reply.type & ~3) {
    case RouteMessage.NEWLINK:
      // Bridges tell of their ports by messages of their own family, which are not about the interface.
      return reply.view.getUint8(0) === 0 ? [{ kind: 'link', removed, link: readLink(reply) }] : [];
    case RouteMessage.NEWADDR: {
      const address = readAddress(reply);
      return address === null ? [] : [{ kind: 'address', removed, address }];
    }
    case RouteMessage.NEWROUTE: {
      const routes = readRoutes(reply);
      return routes.length === 0 ? [] : [{ kind: 'route', removed, routes }];
    }
    case RouteMessage.NEWNEIGH: {
      const neighbour = readNeighbour(reply);
      return neighbour === null ? [] : [{ kind: 'neighbour', removed, neighbour }];
    }
    default:
      return [];
  }
}

function readLink({ view }: NetlinkReply): Link {
  const has = readAttributes(view, 16);
  const flags = view.getUint32(8, true);
  const information = has.get(18);
  const number = (attribute: number): number => readNumber(has.get(attribute), 0);
  return {
    index: view.getInt32(4, true),
    name: readText(has.get(3)),
    mac: readMac(has.get(1)),
    mtu: number(4),
    flags,
    up: (flags & LinkFlag.UP) !== 0,
    carrier: number(33) === 1,
    kind: information === undefined ? '' : readText(readAttributes(information).get(1)),
    receiveQueues: number(32),
    transmitQueues: number(31),
    parent: number(5),
    headroom: readNumber(has.get(68), -1),
    xdp: readXdp(has.get(43)),
  };
}

const XDP_MODES = [null, 'native', 'generic', 'hardware', 'several'] as const;

function readXdp(view: DataView | undefined): Link['xdp'] {
  if (view === undefined) return null;
  const has = readAttributes(view);
  const mode = XDP_MODES[readNumber(has.get(2), 0)] ?? null;
  return mode === null ? null : { mode, programId: readNumber(has.get(4), 0) };
}

function readAddress({ view }: NetlinkReply): InterfaceAddress | null {
  const family = familyOf(view.getUint8(0));
  const has = readAttributes(view, 8);
  const address = readIp(has.get(2) ?? has.get(1)); // on a point-to-point link the first is ours, the second the peer's
  if (family === null || address === null) return null;
  const flags = readNumber(has.get(8), view.getUint8(2));
  return {
    interfaceIndex: view.getUint32(4, true),
    family,
    address,
    prefixLength: view.getUint8(1),
    scope: view.getUint8(3),
    tentative: (flags & 0x48) !== 0, // IFA_F_TENTATIVE or IFA_F_DADFAILED
  };
}

function readRoutes({ view }: NetlinkReply): Route[] {
  const family = familyOf(view.getUint8(0));
  if (family === null) return [];
  const has = readAttributes(view, 12);
  const metrics = has.get(8);
  const route = {
    family,
    destination: readIp(has.get(1)) ?? (family === 4 ? '0.0.0.0' : '::'),
    prefixLength: view.getUint8(1),
    preferredSource: readIp(has.get(7)),
    metric: readNumber(has.get(6), 0),
    table: readNumber(has.get(15), view.getUint8(4)),
    type: view.getUint8(7),
    mtu: metrics === undefined ? 0 : readNumber(readAttributes(metrics).get(2), 0),
  };
  const hops = has.get(9);
  if (hops === undefined) {
    return [{ ...route, gateway: readGateway(has), interfaceIndex: readNumber(has.get(4), 0) }];
  }
  const routes: Route[] = [];
  for (let at = 0; at + 8 <= hops.byteLength; ) {
    const length = hops.getUint16(at, true); // struct rtnexthop: length, flags, hops, interface; then attributes
    if (length < 8 || at + length > hops.byteLength) break;
    const hop = readAttributes(new DataView(hops.buffer, hops.byteOffset + at + 8, length - 8));
    routes.push({ ...route, gateway: readGateway(hop), interfaceIndex: hops.getInt32(at + 4, true) });
    at += (length + 3) & ~3;
  }
  return routes;
}

function readGateway(has: Attributes): string | null {
  const via = has.get(18); // a family, then the address
  if (via === undefined) return readIp(has.get(5));
  return via.byteLength < 2 ? null : readIp(new DataView(via.buffer, via.byteOffset + 2, via.byteLength - 2));
}

function readNeighbour({ view }: NetlinkReply): Neighbour | null {
  const family = familyOf(view.getUint8(0));
  const has = readAttributes(view, 12);
  const address = readIp(has.get(1));
  if (family === null || address === null) return null;
  return {
    interfaceIndex: view.getInt32(4, true),
    family,
    address,
    mac: readMac(has.get(2)),
    state: view.getUint16(8, true),
  };
}

function familyOf(number: number): 4 | 6 | null {
  if (number === AF_INET) return 4;
  return number === AF_INET6 ? 6 : null;
}

function readIp(view: DataView | undefined): string | null {
  if (view === undefined || (view.byteLength !== 4 && view.byteLength !== 16)) return null;
  return formatIp(readBytes(view));
}

function readMac(view: DataView | undefined): string {
  if (view === undefined || view.byteLength !== 6) return '';
  return Array.from(readBytes(view), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function defined<Item>(items: readonly (Item | null)[]): Item[] {
  return items.filter((item): item is Item & NonNullable<Item> => item !== null);
}
