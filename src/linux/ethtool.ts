/**
 * What a network device's driver is and can do: name, queues in use, offloads (ioctl SIOCETHTOOL), XDP (netdev netlink).
 * It opens sockets in the calling thread's network namespace for the length of a call, and can switch offloads off.
 */
import { ERRNO, IsthmusError, systemError } from '../errors.ts';
import { close, libcFunction, orErrno } from './libc.ts';
import { NETLINK_GENERIC, NetlinkMessage, NetlinkSocket, readAttributes, readNumber } from './netlink.ts';
import {
  releaseScratch,
  reserveScratch,
  scratchAddress,
  scratchHigh,
  scratchI32,
  scratchU8,
  writeCString,
} from './scratch.ts';
import { AF_INET } from './sockaddr.ts';
import { SOCK_DGRAM, socket } from './socket.ts';

const SIOCETHTOOL = 0x8946;
const NAME_BYTES = 16;
const DATA = 64;
const SCRATCH_BYTES = 512;
const ETHTOOL_GDRVINFO = 0x03;
const ETHTOOL_GCHANNELS = 0x3c;
const GENL_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;

/** Old single-feature commands, which every kernel has: to read and to set. */
const OFFLOAD = {
  receiveChecksum: [0x14, 0x15],
  transmitChecksum: [0x16, 0x17],
  segmentation: [0x1e, 0x1f],
  genericSegmentation: [0x23, 0x24],
  genericReceive: [0x2b, 0x2c],
} as const;
export type Offload = keyof typeof OFFLOAD;

const cIoctl = libcFunction<[fd: number, request: number, argument: number]>('ioctl', ['int', 'long', 'long']);

/** Runs one ethtool command whose structure starts as `words`; gives it as the kernel left it, or −errno. */
function ethtool(name: string, words: readonly number[], bytes: number): Uint8Array | number {
  const at = reserveScratch(SCRATCH_BYTES);
  const fd = socket(AF_INET, SOCK_DGRAM);
  try {
    writeCString(at, NAME_BYTES, name); // struct ifreq: a name, then a pointer to the structure
    scratchI32[(at + NAME_BYTES) >> 2] = at + DATA;
    scratchI32[((at + NAME_BYTES) >> 2) + 1] = scratchHigh;
    scratchI32.set(words, (at + DATA) >> 2);
    const result = orErrno(cIoctl(fd, SIOCETHTOOL, scratchAddress + at));
    return result < 0 ? result : scratchU8.slice(at + DATA, at + DATA + bytes);
  } finally {
    close(fd);
    releaseScratch(at, SCRATCH_BYTES);
  }
}

/** Name of the driver, e.g. `virtio_net` or `veth`; empty where the device does not say. */
export function driverName(name: string): string {
  const information = ethtool(name, [ETHTOOL_GDRVINFO], 196);
  if (typeof information === 'number') return '';
  return new TextDecoder().decode(information.subarray(4, 36)).replace(/\0.*$/s, '');
}

export interface Queues {
  readonly receive: number;
  readonly transmit: number;
}

/** Queues in use; null where the driver does not say (then they are the link's, rtnetlink.ts). */
export function activeQueues(name: string): Queues | null {
  const channels = ethtool(name, [ETHTOOL_GCHANNELS], 36);
  if (typeof channels === 'number') return null;
  const words = new Uint32Array(channels.buffer); // command, most of each, then receive, transmit, other, combined
  return { receive: words[5]! + words[8]!, transmit: words[6]! + words[8]! };
}

/** Whether an offload is on; null where the device has none of that kind. */
export function offload(name: string, which: Offload): boolean | null {
  const value = ethtool(name, [OFFLOAD[which][0]], 8);
  return typeof value === 'number' ? null : new Uint32Array(value.buffer)[1] !== 0;
}

/**
 * Switches an offload on or off.
 * @throws IsthmusError EPERM without CAP_NET_ADMIN, EOPNOTSUPP where the device cannot
 */
export function setOffload(name: string, which: Offload, on: boolean): void {
  const result = ethtool(name, [OFFLOAD[which][1], on ? 1 : 0], 8);
  if (typeof result !== 'number') return;
  throw systemError(result, 'ioctl', `${which} of ${name} ${on ? 'on' : 'off'}`);
}

export interface XdpFeatures {
  /** The driver runs XDP programs itself, and can redirect. */
  readonly native: boolean;
  readonly redirect: boolean;
  /** AF_XDP without copies. */
  readonly zeroCopy: boolean;
}

/** What the driver says of XDP; null where the kernel (before 6.3) cannot tell. Generic mode works on every device. */
export function xdpFeatures(interfaceIndex: number): XdpFeatures | null {
  const netlink = new NetlinkSocket(NETLINK_GENERIC);
  try {
    const ask = new NetlinkMessage(GENL_CTRL).u8(CTRL_CMD_GETFAMILY).u8(1).u16(0);
    const [family] = netlink.request(ask.attribute(CTRL_ATTR_FAMILY_NAME, 'netdev'), 'family netdev');
    const id = family === undefined ? 0 : readNumber(readAttributes(family.view, 4).get(CTRL_ATTR_FAMILY_ID), 0);
    const get = new NetlinkMessage(id).u8(NETDEV_CMD_DEV_GET).u8(1).u16(0);
    const [device] = netlink.request(get.attribute(NETDEV_A_DEV_IFINDEX, interfaceIndex), `device ${interfaceIndex}`);
    const bits =
      device === undefined ? 0 : readNumber(readAttributes(device.view, 4).get(NETDEV_A_DEV_XDP_FEATURES), 0);
    return { native: (bits & 1) !== 0, redirect: (bits & 2) !== 0, zeroCopy: (bits & 8) !== 0 };
  } catch (error) {
    if (error instanceof IsthmusError && (error.errno === -ERRNO.ENOENT || error.errno === -ERRNO.EOPNOTSUPP)) {
      return null;
    }
    throw error;
  } finally {
    netlink.close();
  }
}
