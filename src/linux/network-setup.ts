/**
 * Changes a network namespace through rtnetlink(7): links up and down, addresses, routes, neighbours, veth pairs,
 * bridges and tunnels.
 * Needs CAP_NET_ADMIN. What it makes lives until it is removed or its namespace ends.
 */
import { parseIp } from '../address/ip.ts';
import { NetlinkMessage, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './netlink.ts';
import { LinkFlag, NeighbourState, NetworkReader, RouteMessage } from './rtnetlink.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_NET_NS_FD = 28;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
const VETH_INFO_PEER = 1;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_LINK = 3;
const IFA_F_NODAD = 0x02;
const RTPROT_STATIC = 4;
const NTF_USE = 0x01;

export interface LinkChanges {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  readonly name?: string;
  /** Frames that may wait to be sent. */
  readonly queueFrames?: number;
  /** Descriptor of a namespace to move the interface to. */
  readonly namespaceFd?: number;
  /** Index of the bridge to be a port of; 0 for none. */
  readonly bridge?: number;
}

export interface VethEnd {
  readonly name: string;
  readonly mac?: string;
  /** Its index in its namespace. Default: the next one. The kernel takes the second end's only beside the first one's. */
  readonly index?: number;
  /** Descriptor of its namespace. Default: the one of the socket. */
  readonly namespaceFd?: number;
}

export interface VethOptions {
  /** Receive and transmit queues of each end. Default 1. */
  readonly queues?: number;
  /** Default 1500. */
  readonly mtu?: number;
}

/** Reads and changes the network of the namespace that the calling thread is in when it is made. */
export class NetworkSetup extends NetworkReader {
  setLink(index: number, changes: LinkChanges): void {
    const { up, mtu, mac, name, queueFrames, namespaceFd, bridge } = changes;
    const flags = up ? LinkFlag.UP : 0;
    const message = linkMessage(RouteMessage.NEWLINK, 0, index, flags, up === undefined ? 0 : LinkFlag.UP);
    if (mtu !== undefined) message.attribute(IFLA_MTU, mtu);
    if (mac !== undefined) message.attribute(IFLA_ADDRESS, parseMac(mac));
    if (name !== undefined) message.attribute(IFLA_IFNAME, name);
    if (queueFrames !== undefined) message.attribute(IFLA_TXQLEN, queueFrames);
    if (namespaceFd !== undefined) message.attribute(IFLA_NET_NS_FD, namespaceFd);
    if (bridge !== undefined) message.attribute(IFLA_MASTER, bridge);
    this.socket.request(message, `interface ${index}`);
  }

  /** Makes a pair of Ethernet devices: what is sent on one comes in on the other. Both are down. */
  createVeth(first: VethEnd, second: VethEnd, options: VethOptions = {}): void {
    const { queues = 1, mtu = 1500 } = options;
    const end = (message: NetlinkMessage, { name, mac, namespaceFd }: VethEnd): void => {
      message.attribute(IFLA_IFNAME, name).attribute(IFLA_MTU, mtu);
      message.attribute(IFLA_NUM_TX_QUEUES, queues).attribute(IFLA_NUM_RX_QUEUES, queues);
      if (mac !== undefined) message.attribute(IFLA_ADDRESS, parseMac(mac));
      if (namespaceFd !== undefined) message.attribute(IFLA_NET_NS_FD, namespaceFd);
    };
    const message = linkMessage(RouteMessage.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, first.index ?? 0, 0, 0);
    end(message, first);
    message.attribute(IFLA_LINKINFO, (information) => {
      information.attribute(IFLA_INFO_KIND, 'veth').attribute(IFLA_INFO_DATA, (data) => {
        data.attribute(VETH_INFO_PEER, (peer) => {
          end(linkHeader(peer, second.index ?? 0), second);
        });
      });
    });
    this.socket.request(message, `veth ${first.name}`);
  }

  /** Makes an Ethernet bridge without ports. It is down. */
  createBridge(name: string): void {
    this.#create(name, (information) => information.attribute(IFLA_INFO_KIND, 'bridge'));
  }

  /** Makes a tunnel of Ethernet in UDP (RFC 7348), over any interface where `below` is 0. It is down. */
  createVxlan(name: string, { network, below }: { network: number; below: number }): void {
    this.#create(name, (information) => {
      information.attribute(IFLA_INFO_KIND, 'vxlan').attribute(IFLA_INFO_DATA, (data) => {
        data.attribute(IFLA_VXLAN_ID, network);
        if (below !== 0) data.attribute(IFLA_VXLAN_LINK, below);
      });
    });
  }

  #create(name: string, information: (message: NetlinkMessage) => void): void {
    const message = linkMessage(RouteMessage.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0);
    message.attribute(IFLA_IFNAME, name).attribute(IFLA_LINKINFO, information);
    this.socket.request(message, `interface ${name}`);
  }

  deleteLink(index: number): void {
    this.socket.request(linkMessage(RouteMessage.DELLINK, 0, index, 0, 0), `interface ${index}`);
  }

  /** Gives an interface an address. An IPv6 address works at once, without duplicate address detection. */
  addAddress(index: number, address: string, prefixLength: number): void {
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    this.socket.request(
      addressMessage(RouteMessage.NEWADDR, flags, index, address, prefixLength),
      `address ${address}`,
    );
  }

  removeAddress(index: number, address: string, prefixLength: number): void {
    this.socket.request(addressMessage(RouteMessage.DELADDR, 0, index, address, prefixLength), `address ${address}`);
  }

  /** Adds a unicast route to the main table. */
  addRoute(destination: string, prefixLength: number, via: { gateway?: string; interfaceIndex?: number }): void {
    const ip = ipBytes(destination);
    const scope = via.gateway === undefined ? 253 : 0; // on the link, or beyond it
    const message = new NetlinkMessage(RouteMessage.NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
      .u8(familyNumber(ip))
      .u8(prefixLength)
      .u16(0)
      .u8(254)
      .u8(RTPROT_STATIC)
      .u8(scope)
      .u8(1)
      .u32(0)
      .attribute(1, ip);
    if (via.gateway !== undefined) message.attribute(5, ipBytes(via.gateway));
    if (via.interfaceIndex !== undefined) message.attribute(4, via.interfaceIndex);
    this.socket.request(message, `route ${destination}/${prefixLength}`);
  }

  /**
   * Has the kernel behave as if it sent something to a neighbour (NTF_USE): it asks for a hardware address that it does not
   * know, and probes one that it has not heard of lately. What it learns is told to whoever monitors.
   */
  useNeighbour(index: number, address: string): void {
    const ip = ipBytes(address);
    const message = new NetlinkMessage(RouteMessage.NEWNEIGH, NLM_F_CREATE)
      .u32(familyNumber(ip))
      .u32(index)
      .u16(0)
      .u8(NTF_USE)
      .u8(0)
      .attribute(1, ip);
    this.socket.request(message, `neighbour ${address}`);
  }

  /** Tells the kernel a neighbour's hardware address for good. */
  setNeighbour(index: number, address: string, mac: string): void {
    const ip = ipBytes(address);
    const message = new NetlinkMessage(RouteMessage.NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
      .u32(familyNumber(ip))
      .u32(index)
      .u16(NeighbourState.PERMANENT)
      .u16(0)
      .attribute(1, ip)
      .attribute(2, parseMac(mac));
    this.socket.request(message, `neighbour ${address}`);
  }
}

/** The six bytes of `aa:bb:cc:dd:ee:ff`. @throws TypeError */
export function parseMac(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) throw new TypeError(`${JSON.stringify(text)} is no MAC address`);
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

function linkMessage(type: number, flags: number, index: number, linkFlags: number, change: number): NetlinkMessage {
  return linkHeader(new NetlinkMessage(type, flags), index, linkFlags, change);
}

/** struct ifinfomsg */
function linkHeader(message: NetlinkMessage, index: number, linkFlags = 0, change = 0): NetlinkMessage {
  return message.u32(0).u32(index).u32(linkFlags).u32(change);
}

function addressMessage(
  type: number,
  flags: number,
  index: number,
  address: string,
  prefixLength: number,
): NetlinkMessage {
  const ip = ipBytes(address);
  const noDetection = ip.length === 16 ? IFA_F_NODAD : 0;
  const message = new NetlinkMessage(type, flags)
    .u8(familyNumber(ip))
    .u8(prefixLength)
    .u8(noDetection)
    .u8(0)
    .u32(index);
  return message.attribute(2, ip).attribute(1, ip);
}

function ipBytes(text: string): Uint8Array {
  const ip = parseIp(text);
  if (ip === null) throw new TypeError(`${JSON.stringify(text)} is no IP address`);
  return ip.bytes;
}

function familyNumber(ip: Uint8Array): number {
  return ip.length === 4 ? AF_INET : AF_INET6;
}
