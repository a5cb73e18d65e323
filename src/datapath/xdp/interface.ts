/**
 * The interface that a specification names: whether it can be used, with how many queues and frames of which size; and the
 * filter on it. It asks the kernel of the calling thread's network namespace.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { activeQueues, offload } from '../../linux/ethtool.ts';
import { type Link, LinkFlag, NetworkReader } from '../../linux/rtnetlink.ts';
import { XdpFilter } from '../../linux/xdp-filter.ts';
import type { DeviceOffloads } from '../../net/device.ts';
import { largestMtu } from './heap.ts';
import type { XdpSpec } from './options.ts';

export interface Examined {
  readonly link: Link;
  /** Receive queues to use. */
  readonly queues: number;
  /** 2048, or 4096 where the MTU needs it. */
  readonly frameBytes: number;
}

/**
 * @param joining a filter of this process is on the interface
 * @throws IsthmusError ENODEV, EOPNOTSUPP, ENETDOWN, EBUSY, EMSGSIZE, EADDRINUSE, EINVAL, with what is wrong with it
 */
export function examine(spec: XdpSpec, joining = false): Examined {
  const { interfaceName, own } = spec;
  const reader = new NetworkReader();
  try {
    const link = reader.link(interfaceName);
    const refuse = (errno: number, why: string): never => {
      throw systemError(errno, 'datapath', `xdp:${interfaceName}`, why);
    };
    if (link === null) {
      const names = reader.links().map(({ name }) => name);
      return refuse(ERRNO.ENODEV, `there is no such interface; there are ${names.join(', ')}`);
    }
    if ((link.flags & LinkFlag.LOOPBACK) !== 0 || link.mac === '') refuse(ERRNO.EOPNOTSUPP, 'it is no Ethernet device');
    if (!link.up) refuse(ERRNO.ENETDOWN, `ip link set ${interfaceName} up`);
    if (link.xdp !== null && !joining) {
      refuse(ERRNO.EBUSY, `it has an XDP program already (number ${link.xdp.programId}, ${link.xdp.mode})`);
    }
    if (link.mtu > largestMtu(4096)) {
      const most = largestMtu(4096);
      refuse(ERRNO.EMSGSIZE, `its MTU is ${link.mtu}; at most ${most}: ip link set ${interfaceName} mtu ${most}`);
    }
    const hosts = reader.addresses().map(({ address }) => address);
    for (const { host } of own) {
      if (hosts.includes(host))
        refuse(ERRNO.EADDRINUSE, `${host} is an address of the host; without own= it is shared`);
    }
    const has = Math.max(1, activeQueues(interfaceName)?.receive || link.receiveQueues);
    const queues = spec.queues === 0 ? has : spec.queues;
    if (queues > has) refuse(ERRNO.EINVAL, `it has ${has} receive ${has === 1 ? 'queue' : 'queues'}`);
    return { link, queues, frameBytes: link.mtu <= largestMtu(2048) ? 2048 : 4096 };
  } finally {
    reader.close();
  }
}

/**
 * A veth is a call from one stack of this machine to the other: the kernel leaves checksums partial, and takes them so. Frames
 * of AF_XDP are always copied there. On a card it is not done: drivers read of a copied frame what AF_XDP leaves unset (where
 * its network header is), and none with zero copy was there to try.
 */
export function offloadsOf({ kind }: Link): DeviceOffloads {
  const isVeth = kind === 'veth';
  return { receivePartial: isVeth, transmitPartial: isVeth };
}

export function openFilter(link: Link, spec: XdpSpec): XdpFilter {
  const mode = spec.mode === 'auto' && isBetterGeneric(link) ? 'generic' : spec.mode;
  try {
    return new XdpFilter(link.index, { mode });
  } catch (error) {
    if (error instanceof IsthmusError && error.errno === -ERRNO.EBUSY) {
      throw systemError(ERRNO.EBUSY, 'datapath', `xdp:${link.name}`, 'another program has the interface');
    }
    throw error;
  }
}

/**
 * A veth has no frames but packets of the kernel, and makes a frame of each with a copy of its own: generic mode, which takes
 * the packet as it is, is faster by a sixth. But it gets what segmentation offload leaves whole, which is larger than any
 * frame, and on several queues it takes all for those of the first. So only where one queue is there and that offload is
 * switched off at this end, as whoever set the pair up will have done at the other.
 */
function isBetterGeneric({ kind, name, receiveQueues }: Link): boolean {
  if (kind !== 'veth' || receiveQueues !== 1) return false;
  return (['segmentation', 'genericSegmentation'] as const).every((which) => !offload(name, which));
}
