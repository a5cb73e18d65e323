/**
 * The link of the xdp datapath: an interface's queues as AF_XDP sockets, and the filter that says which frames are ours.
 * It owns the filter, the sockets, the heap, and in shared mode what follows the host's network; all of it descriptors and
 * mappings, which end with the process.
 */
import type { DatapathWatch } from '../../kernel/datapath.ts';
import { EPOLLIN, Epoll } from '../../linux/epoll.ts';
import type { NetworkNamespace } from '../../linux/namespace.ts';
import { PollSet } from '../../linux/poll.ts';
import type { Link as Interface } from '../../linux/rtnetlink.ts';
import { type DescriptorWatch, watchDescriptor } from '../../linux/watch.ts';
import type { XdpFilter } from '../../linux/xdp-filter.ts';
import { JoinedXdpFilter } from '../../linux/xdp-filter-shared.ts';
import { requireXdp } from '../../linux/xdp-probe.ts';
import type { FrameInput } from '../../net/device.ts';
import type { IpWords } from '../../net/ip/words.ts';
import type { Neighbour } from '../../net/neighbour.ts';
import type { Stack } from '../../net/stack.ts';
import type { Heap, HeapOptions } from '../../ring/heap.ts';
import { Alarm } from '../stack/alarm.ts';
import type { Link, SharedAddresses } from '../stack/link.ts';
import { type LinkDevice, XdpDevice } from './device.ts';
import { Exchange } from './exchange.ts';
import type { XdpShare } from './group.ts';
import { type FrameHeap, largestMtu, mapFrameHeap } from './heap.ts';
import { HostNetwork } from './host-network.ts';
import { HostPorts } from './host-ports.ts';
import { examine, offloadsOf, openFilter } from './interface.ts';
import type { XdpSpec } from './options.ts';
import { PassedDevice } from './passed-device.ts';
import { SharedPorts } from './ports.ts';

/** Frames have no memory to be received into: the program may give some back at any time. */
const STARVED_MS = 5;
/** Looks between two readings of the clock while spinning. */
const SPIN_LOOKS = 64;

export interface XdpLinkOptions {
  readonly spec: XdpSpec;
  readonly heap?: HeapOptions;
  /** The namespace that the interface is in; default that of the calling thread. */
  readonly namespace?: NetworkNamespace;
  /** This kernel's part of a group that has the interface. */
  readonly share?: XdpShare;
}

const clock = performance;

export class XdpLink implements Link {
  readonly name = 'xdp';
  readonly heap: Heap;
  readonly device: LinkDevice;
  readonly scatterGather = false;
  readonly shared: SharedAddresses | null;
  readonly filter: XdpFilter | JoinedXdpFilter;
  /** In half a sentence: mode, queues, copies. */
  readonly about: string;
  readonly #spec: XdpSpec;
  readonly #interface: Interface;
  readonly #namespace: NetworkNamespace | null;
  readonly #ports: SharedPorts | null;
  readonly #exchange: Exchange | null;
  #network: HostNetwork | null = null;
  readonly #sleeper: PollSet;
  /** What wakes the event loop. The sockets are in it while armed only: the kernel tells each of their waiters of each frame. */
  readonly #waker = new Epoll(8);
  #armed = false;
  /** The network's place in the poll set. */
  #networkAt = -1;
  #alarm: Alarm | null = null;
  #onReadable: (() => void) | null = null;
  #disposed = false;

  /**
   * @throws IsthmusError EPERM, ENOSYS, ENOBUFS where AF_XDP cannot be had (one line says why), ENODEV, ENETDOWN, EBUSY where
   *   the interface has a program or the queue a socket, EADDRINUSE where an address of our own is the host's, EMSGSIZE
   */
  constructor(options: XdpLinkOptions) {
    const { spec, namespace = null, share = null } = options;
    requireXdp();
    this.#spec = spec;
    this.#namespace = namespace;
    const opened: { close(): void }[] = [];
    const inside = <Result>(action: () => Result): Result => (namespace === null ? action() : namespace.run(action));
    try {
      const { link, queues: all, frameBytes } = inside(() => examine(spec, share !== null));
      const queues = share?.queues ?? Array.from({ length: all }, (_, queue) => queue);
      this.#interface = link;
      const frames = mapFrameHeap(frameBytes, options.heap);
      opened.push(frames.heap.region);
      this.#exchange = share === null ? null : new Exchange(share.exchange, share.kernel, frames.heap);
      const { filter, device } = inside(() => this.#open(link, queues, frames, share, opened));
      this.heap = frames.heap;
      this.filter = filter;
      this.device = device;
      const zeroCopy = device.sockets[0]?.zeroCopy ? 'zero copy' : 'frames copied';
      this.about = `${link.name}, ${queueText(queues)}, ${filter.mode} mode, ${zeroCopy}`;
    } catch (error) {
      for (const one of opened.reverse()) one.close();
      this.#waker.close();
      throw error;
    }
    const isOwn = spec.own.length > 0;
    const hostPorts = isOwn ? null : new HostPorts({ namespace, several: share !== null });
    this.#ports = hostPorts === null ? null : new SharedPorts(this.filter, hostPorts);
    this.shared = this.#ports === null ? null : this.#sharedAddresses(this.#ports);
    this.#sleeper = new PollSet(this.device.sockets.length + 2);
    if (this.#exchange !== null) {
      this.#sleeper.add(this.#exchange.fd);
      this.#waker.add(this.#exchange.fd, EPOLLIN, 0);
    }
    for (const { queue, fd } of this.device.sockets) {
      this.filter.join(queue, fd);
      this.#sleeper.add(fd);
    }
  }

  #open(
    link: Interface,
    queues: readonly number[],
    frames: FrameHeap,
    share: XdpShare | null,
    opened: { close(): void }[],
  ): { filter: XdpFilter | JoinedXdpFilter; device: LinkDevice } {
    const filter = share === null ? openFilter(link, this.#spec) : new JoinedXdpFilter(share.filter);
    opened.push(filter);
    const { mac } = link;
    const offloads = offloadsOf(link);
    const exchange = this.#exchange;
    if (exchange !== null && !exchange.hasQueues) {
      const mtu = Math.min(link.mtu, largestMtu(frames.frameBytes));
      // What the other kernel's device can do is not known here.
      const passed = { ...offloads, transmitPartial: false };
      return { filter, device: new PassedDevice({ mac, mtu, exchange, offloads: passed }) };
    }
    requireXdp({ umemBytes: frames.byteLength });
    const device = new XdpDevice({
      interfaceIndex: link.index,
      mac,
      mtu: link.mtu,
      queues,
      frames,
      zeroCopy: this.#spec.copy ? 'never' : 'try',
      offloads,
    });
    opened.push(device);
    return { filter, device };
  }

  #sharedAddresses(ports: SharedPorts): SharedAddresses {
    return {
      firstEphemeral: ports.firstEphemeral,
      lastEphemeral: ports.lastEphemeral,
      lookup: (neighbour: Neighbour) => this.#network?.lookup(neighbour),
      serve: (protocol: number, port: number, address: IpWords | null) => ports.serve(protocol, port, address),
      unserve: (protocol: number, port: number, address: IpWords | null) => ports.unserve(protocol, port, address),
      reserve: (protocol: number, port: number) => {
        if (this.#exchange?.claim(protocol, port) === false) return false;
        return ports.reserve(protocol, port);
      },
      unreserve: (protocol: number, port: number) => {
        ports.unreserve(protocol, port);
        this.#exchange?.disclaim(protocol, port);
      },
    };
  }

  attach(stack: Stack, now: () => number): void {
    this.#alarm = new Alarm(now, () => this.#onReadable?.());
    const { own, gateways } = this.#spec;
    if (this.#ports === null) {
      for (const { host, prefixLength } of own) {
        this.filter.own(host);
        stack.addAddress(host, prefixLength);
      }
      for (const gateway of gateways) stack.addRoute(gateway.includes(':') ? '::' : '0.0.0.0', 0, gateway);
      stack.announce();
      return;
    }
    const ports = this.#ports;
    this.#network = new HostNetwork({
      interfaceIndex: this.#interface.index,
      stack,
      namespace: this.#namespace,
      onAddresses: (addresses) => ports.setAddresses(addresses),
      onLink: () => this.device.retry(),
    });
    this.#networkAt = this.#sleeper.add(this.#network.fd);
    this.#waker.add(this.#network.fd, EPOLLIN, 0);
  }

  // ---- The turn ------------------------------------------------------------------------------------------------

  receive(budget: number, input: FrameInput): number {
    if (this.#armed) this.#disarm();
    const exchange = this.#exchange;
    if (exchange === null) return this.device.receive(input, budget);
    let did = this.device.receive(exchange.before(input), budget) + exchange.sendForOthers(this.device);
    if (did < budget) did += exchange.receive(budget - did);
    return did;
  }

  get arrived(): boolean {
    return this.device.arrived || this.#exchange?.arrived === true;
  }

  /** In own mode: whether an outgoing connection of this kernel may have this port. Each kernel of a group has its own. */
  mayUsePort(protocol: number, port: number): boolean {
    return this.#exchange === null || this.#exchange.claim(protocol, port);
  }

  sleep(waitUs: number): void {
    const { device } = this;
    if (device.starving) {
      device.replenish();
      if (device.starving && (waitUs < 0 || waitUs > STARVED_MS * 1000)) waitUs = STARVED_MS * 1000;
    }
    this.#ports?.tidy();
    if (this.#spin(waitUs) || device.stuck) return;
    const exchange = this.#exchange;
    exchange?.sleeps();
    if (exchange?.arrived) exchange.wakes();
    else this.#pause(waitUs);
  }

  #pause(waitUs: number): void {
    if (this.#sleeper.wait(waitUs) > 0 && this.#networkAt >= 0 && this.#sleeper.ready(this.#networkAt)) {
      this.#network?.update();
    }
    this.#exchange?.wakes();
  }

  /** Looks for frames for a while before it sleeps: to be woken costs more than most gaps. True when there is one. */
  #spin(waitUs: number): boolean {
    const { device } = this;
    const { spinUs } = this.#spec;
    if (this.arrived) return true;
    const us = waitUs < 0 || waitUs > spinUs ? spinUs : waitUs;
    if (us === 0) return false;
    const until = clock.now() + us / 1000;
    do {
      for (let i = 0; i < SPIN_LOOKS; i++) if (device.arrived) return true;
      if (this.#exchange?.arrived) return true;
    } while (clock.now() < until);
    return false;
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    const watch: DescriptorWatch = watchDescriptor(this.#waker.fd, () => {
      this.#disarm();
      this.#network?.update();
      onReadable();
    });
    return {
      close: () => {
        watch.close();
        this.#alarm?.clear();
        this.#onReadable = null;
      },
      ref: () => watch.ref(),
      unref: () => watch.unref(),
    };
  }

  arm(deadline: number): boolean {
    const { device } = this;
    if (this.#disposed) return true;
    if (device.starving) device.replenish();
    this.#ports?.tidy();
    if (device.stuck || this.arrived) return false;
    if (!this.#armed) {
      this.#armed = true;
      this.#exchange?.sleeps();
      for (const { fd } of device.sockets) this.#waker.add(fd, EPOLLIN, 0);
      if (this.arrived) return false;
    }
    this.#alarm?.set(device.starving ? Math.min(deadline, clock.now() + STARVED_MS) : deadline);
    return true;
  }

  #disarm(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#exchange?.wakes();
    for (const { fd } of this.device.sockets) this.#waker.remove(fd);
  }

  /** Counters by name. */
  observe(): Record<string, number> {
    const { redirected, passed, noSocket, fragments } = this.filter.counters();
    const sums: Record<string, number> = {};
    for (const socket of this.device.sockets) {
      for (const [name, value] of Object.entries(socket.statistics())) sums[name] = (sums[name] ?? 0) + value;
    }
    const exchange = this.#exchange;
    if (exchange !== null) {
      const { passed: toOthers, taken: fromOthers, sent: sentForOthers, dropped: exchangeDropped } = exchange;
      Object.assign(sums, { toOthers, fromOthers, sentForOthers, exchangeDropped });
    }
    const { receiving, sending } = this.device;
    return { ...this.device.counters, receiving, sending, redirected, passed, noSocket, fragments, ...sums };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#alarm?.clear();
    this.#sleeper.close();
    this.#waker.close();
    this.#network?.close();
    this.#ports?.close();
    this.device.close();
    this.filter.close();
    this.heap.region.close();
  }
}

function queueText(queues: readonly number[]): string {
  if (queues.length === 0) return 'no queue of its own';
  return queues.length === 1 ? (queues[0] === 0 ? '1 queue' : `queue ${queues[0]}`) : `${queues.length} queues`;
}
