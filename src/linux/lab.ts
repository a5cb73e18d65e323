/**
 * A network on one machine to try things out: two namespaces joined by a veth pair, each end with its addresses.
 * The calling process holds both namespaces by descriptors and by nothing else, so all of it goes away with the process.
 *
 * `isthmus lab up` is a process that makes a lab and stays; `down` ends it; `status` asks it. Others enter a side through
 * the path of its descriptor, with `nsenter --net=PATH` or `openNamespace(PATH).run(…)`.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { type DelayLine, delayLine } from './delay-line.ts';
import { setOffload } from './ethtool.ts';
import { Headroom } from './headroom.ts';
import { createNamespace, type NetworkNamespace } from './namespace.ts';
import { NetworkSetup } from './network-setup.ts';
import { LinkFlag } from './rtnetlink.ts';

export interface LabOptions {
  /** Receive and transmit queues of each end. Default 1. */
  readonly queues?: number;
  /** Default 1500. */
  readonly mtu?: number;
  /**
   * Let the kernel leave segmentation to a device that is none. Default false: generic XDP would get frames larger than the
   * MTU.
   */
  readonly offloads?: boolean;
  /** Begin with headroom: `Lab.reserveHeadroom`. Default false. */
  readonly headroom?: boolean;
  /** Adds a slow line beside the fast one, on which a packet takes so many milliseconds in one direction. */
  readonly delayMs?: number;
}

/** One end of the lab. */
export interface LabSide {
  readonly name: 'server' | 'client';
  readonly namespace: NetworkNamespace;
  /** Where other processes reach the namespace while this one lives. */
  readonly path: string;
  readonly interfaceName: string;
  readonly interfaceIndex: number;
  readonly mac: string;
  /** The kernel's addresses, in 10.88.0.0/24 and fd88::/64; the latter only where the kernel has IPv6. */
  readonly address4: string;
  readonly address6: string;
  /** An address that nobody has: for a stack with an address of its own. */
  readonly free4: string;
  readonly free6: string;
  /** The interface of the slow line and its address, in 10.88.1.0/24; null without one. */
  readonly slow: { readonly interfaceName: string; readonly address4: string } | null;
}

export interface Lab {
  readonly server: LabSide;
  readonly client: LabSide;
  /**
   * Whether both ends leave room in front of the frames of AF_XDP, as generic XDP wants it (headroom.ts): without it the kernel
   * moves each to a larger head. While they do, the client's kernel takes no packets from its end; a stack with an address
   * of its own does, and the server's kernel.
   * @throws IsthmusError EOPNOTSUPP where the kernel has no VXLAN or no bridges
   */
  reserveHeadroom(wanted: boolean): void;
  /** Lets go of the namespaces; they end with the last process, socket or descriptor in them. Idempotent. */
  close(): void;
}

const PREFIX4 = 24;
const PREFIX6 = 64;
const CARRIER_MS = 3000;
// Where both ends of a pair have the same index, as they would, the kernel tells of their carriers once a second at the
// most; of others at once (linkwatch_urgent_event in net/core/link_watch.c).
const INDEX = { server: 88, client: 89 };
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Makes a lab. @throws IsthmusError EPERM without CAP_SYS_ADMIN and CAP_NET_ADMIN */
export function createLab(options: LabOptions = {}): Lab {
  const server = createNamespace();
  const client = createNamespace();
  try {
    const there = client.run(() => new NetworkSetup());
    const here = server.run(() => new NetworkSetup());
    try {
      server.run(silenceIpv6);
      client.run(silenceIpv6);
      const { queues = 1, mtu = 1500 } = options;
      const ends = [
        { name: 'lab-server', index: INDEX.server },
        { name: 'lab-client', index: INDEX.client, namespaceFd: client.fd },
      ] as const;
      here.createVeth(...ends, { queues, mtu });
      const sides = {
        server: setUp('server', 1, server, here, options),
        client: setUp('client', 2, client, there, options),
      };
      const line = slowLine(sides, options.delayMs ?? 0);
      const headroom = new Headroom(sides.client.interfaceIndex);
      const lab = {
        ...sides,
        reserveHeadroom: (wanted: boolean) => client.run(() => headroom.reserve(wanted)),
        close: () => {
          line?.close();
          server.close();
          client.close();
        },
      };
      waitForCarrier(here, lab.server.interfaceIndex);
      waitForCarrier(there, lab.client.interfaceIndex);
      if (options.headroom) lab.reserveHeadroom(true);
      return lab;
    } finally {
      here.close();
      there.close();
    }
  } catch (error) {
    server.close();
    client.close();
    throw error;
  }
}

function setUp(
  name: 'server' | 'client',
  host: number,
  namespace: NetworkNamespace,
  setup: NetworkSetup,
  options: LabOptions,
): LabSide {
  const interfaceName = `lab-${name}`;
  if (!options.offloads) {
    namespace.run(() => {
      setOffload(interfaceName, 'segmentation', false);
      setOffload(interfaceName, 'genericSegmentation', false);
    });
  }
  const link = setup.link(interfaceName)!;
  const side = {
    name,
    namespace,
    path: `/proc/${process.pid}/fd/${namespace.fd}`,
    interfaceName,
    interfaceIndex: link.index,
    mac: link.mac,
    address4: `10.88.0.${host}`,
    address6: `fd88::${host}`,
    free4: `10.88.0.${host + 8}`,
    free6: `fd88::${(host + 8).toString(16)}`,
    slow: options.delayMs ? { interfaceName: 'lab-slow', address4: `10.88.1.${host}` } : null,
  };
  setup.setLink(setup.link('lo')!.index, { up: true });
  setup.setLink(link.index, { up: true });
  setup.addAddress(link.index, side.address4, PREFIX4);
  if (existsSync('/proc/net/if_inet6')) setup.addAddress(link.index, side.address6, PREFIX6);
  return side;
}

function slowLine({ server, client }: Pick<Lab, 'server' | 'client'>, delayMs: number): DelayLine | null {
  if (server.slow === null || client.slow === null) return null;
  const end = ({ namespace }: LabSide, { interfaceName, address4 }: NonNullable<LabSide['slow']>) => ({
    namespace,
    interfaceName,
    address: address4,
  });
  return delayLine([end(server, server.slow), end(client, client.slow)], delayMs);
}

// The kernel notices in the background that both ends are up; what is sent before that is lost.
function waitForCarrier(setup: NetworkSetup, index: number): void {
  const deadline = performance.now() + CARRIER_MS;
  while (((setup.link(index)?.flags ?? 0) & LinkFlag.RUNNING) === 0 && performance.now() < deadline) {
    Atomics.wait(pause, 0, 0, 1);
  }
}

// No duplicate address detection and no router solicitations: nothing in a lab is worth waiting for. These files show
// the namespace of the thread that opens them.
function silenceIpv6(): void {
  for (const [name, value] of Object.entries({ accept_dad: 0, router_solicitations: 0 })) {
    for (const which of ['all', 'default']) {
      try {
        writeFileSync(`/proc/sys/net/ipv6/conf/${which}/${name}`, `${value}`);
      } catch {
        // no IPv6, or /proc is read-only: then it takes a second longer
      }
    }
  }
}
