/**
 * The simulated datapath: streams, datagrams and Unix sockets in memory, over a network with faults and time from a seed.
 * It touches nothing outside the process; every kernel on the same {@link SimulatedNetwork} can reach the others.
 */

import { ERRNO, systemError } from '../errors.ts';
import { type Datapath, type DatapathWatch, type Family, SocketType } from '../kernel/datapath.ts';
import { Kernel, type KernelOptions } from '../kernel/kernel.ts';
import { DEFAULT_SIZE_CLASSES, Heap, heapBytes, type SizeClass } from '../ring/heap.ts';
import { localRegion } from '../ring/region.ts';
import { Fifo } from './ends/fifo.ts';
import { EndTable } from './ends/table.ts';
import type { Attachment } from './simulated/attachment.ts';
import { DatagramEnd } from './simulated/datagram.ts';
import type { SimulatedEvent } from './simulated/events.ts';
import { type SimulatedMachine, SimulatedNetwork, type Sleeper } from './simulated/network.ts';
import { StreamEnd } from './simulated/stream.ts';

/** A heap for simulations, of which there are many at once: 2 MiB. */
export const SIMULATED_SIZE_CLASSES: readonly SizeClass[] = [
  { bytes: 256, count: 512 },
  { bytes: 2048, count: 256 },
  { bytes: 16384, count: 64 },
  { bytes: 65536, count: 4 },
];

export interface SimulatedDatapathOptions {
  /** Kernels on the same machine share its ports and its loopback. Default `localhost`. */
  readonly machine?: string;
  /** Addresses under which other machines reach this one. */
  readonly addresses?: readonly string[];
  /** Default {@link SIMULATED_SIZE_CLASSES}, on the network of the process DEFAULT_SIZE_CLASSES. */
  readonly sizeClasses?: readonly SizeClass[];
  /** A heap in checked mode. */
  readonly checked?: boolean;
  /** A heap to share with other kernels of this thread; buffers then pass between them without a copy. */
  readonly heap?: Heap;
}

/** A kernel on a simulated network, in the network's time; the network's `run` gives it its turns. */
export function simulatedKernel(
  network: SimulatedNetwork,
  options: SimulatedDatapathOptions & Omit<KernelOptions, 'now'> = {},
): Kernel {
  return network.drive(new Kernel(new SimulatedDatapath(network, options), { ...options, now: network.now }));
}

let shared: SimulatedNetwork | null = null;

/** The network of ordinary programs: one for the process, ideal, in real time (`--datapath simulated`). */
export function processNetwork(): SimulatedNetwork {
  shared ??= new SimulatedNetwork({ clock: () => performance.now() });
  return shared;
}

export class SimulatedDatapath extends EndTable<StreamEnd | DatagramEnd> implements Datapath, Attachment, Sleeper {
  readonly name = 'simulated';
  readonly heap: Heap;
  readonly network: SimulatedNetwork;
  readonly machine: SimulatedMachine;
  /** The kernel sleeps in another event loop and must be woken. */
  armed = false;
  draining = 0;
  readonly #inbox = new Fifo<SimulatedEvent>();
  #onReadable: () => void = () => {};
  #disposed = false;

  /** @param network by default the one of this process, where a heap has the sizes of any other datapath's */
  constructor(network?: SimulatedNetwork, options: SimulatedDatapathOptions = {}) {
    super();
    this.network = network ?? processNetwork();
    this.machine = this.network.machine(options.machine ?? 'localhost', options.addresses);
    const sizeClasses = options.sizeClasses ?? (network === undefined ? DEFAULT_SIZE_CLASSES : SIMULATED_SIZE_CLASSES);
    this.heap =
      options.heap ?? new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, checked: options.checked ?? false });
  }

  // ---- Queues --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    const { random, faults } = this.network;
    if (random.chance(faults.descriptors)) throw systemError(ERRNO.EMFILE, 'socket', undefined, 'simulated');
    this.adopt(qd, type === SocketType.STREAM ? new StreamEnd(this, family) : new DatagramEnd(this, family));
  }

  // ---- The loop ------------------------------------------------------------------------------------------------

  poll(budget: number): number {
    this.armed = false;
    this.network.collect();
    let handled = 0;
    while (handled < budget && this.#inbox.length > 0) {
      const event = this.#inbox.shift();
      event.target!.handle(event);
      handled++;
    }
    return handled;
  }

  /** Nothing waits for a batch here, and nothing can arrive while this thread sleeps: it returns at once. */
  submit(_waitUs: number): void {}

  get arrived(): boolean {
    return this.#inbox.length > 0 || this.network.due;
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    this.network.addSleeper(this);
    // A queue in memory is no handle of libuv, so that something else must keep the process alive.
    let alive: ReturnType<typeof setInterval> | null = null;
    const unref = () => {
      if (alive !== null) clearInterval(alive);
      alive = null;
    };
    return {
      close: () => {
        unref();
        this.armed = false;
        this.#onReadable = () => {};
        this.network.removeSleeper(this);
      },
      ref: () => {
        alive ??= setInterval(() => {}, 0x7fffffff);
      },
      unref,
    };
  }

  arm(): boolean {
    if (this.arrived) return false;
    this.armed = true;
    this.network.arm();
    return true;
  }

  dispose(): void {
    this.#disposed = true;
    this.network.removeSleeper(this);
    this.closeAll();
    while (this.#inbox.length > 0) {
      const event = this.#inbox.shift();
      event.target!.handle(event);
    }
  }

  // ---- For the ends --------------------------------------------------------------------------------------------

  override openQueue(family: Family, type: SocketType): number {
    const { random, faults } = this.network;
    if (random.chance(faults.descriptors)) throw systemError(ERRNO.EMFILE, 'accept', undefined, 'simulated');
    return super.openQueue(family, type);
  }

  enqueue(event: SimulatedEvent): void {
    if (this.#disposed) {
      // What was pushed before the end is still sent, and nobody polls any more.
      event.target!.handle(event);
      return;
    }
    this.#inbox.push(event);
    this.touched();
  }

  touched(): void {
    if (this.armed) this.wake();
  }

  wake(): void {
    this.armed = false;
    setImmediate(this.#onReadable);
  }
}
