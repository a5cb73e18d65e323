/**
 * The simulated datapath: streams, datagrams and Unix sockets in memory, over a network with faults and time from a seed.
 * It touches nothing outside the process; every kernel on the same {@link SimulatedNetwork} can reach the others.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO, systemError } from '../errors.ts';
import {
  type Address,
  type Datapath,
  type DatapathHost,
  type DatapathWatch,
  type Family,
  SocketOption,
  SocketType,
} from '../kernel/datapath.ts';
import { Kernel, type KernelOptions } from '../kernel/kernel.ts';
import type { Operation } from '../kernel/operation.ts';
import { DEFAULT_SIZE_CLASSES, Heap, type HeapBuffer, heapBytes, type Sga, type SizeClass } from '../ring/heap.ts';
import { localRegion } from '../ring/region.ts';
import type { Attachment } from './simulated/attachment.ts';
import { DatagramEnd } from './simulated/datagram.ts';
import { Fifo, type SimulatedEvent } from './simulated/events.ts';
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

const DEFAULT_OPTIONS: ReadonlyMap<SocketOption, number> = new Map([
  [SocketOption.NO_DELAY, 1],
  [SocketOption.REUSE_ADDRESS, 0],
  [SocketOption.REUSE_PORT, 0],
  [SocketOption.KEEP_ALIVE, 0],
  [SocketOption.RECEIVE_BUFFER, 1 << 18],
  [SocketOption.SEND_BUFFER, 1 << 18],
  [SocketOption.LINGER, -1],
  [SocketOption.V6_ONLY, 0],
  [SocketOption.BROADCAST, 0],
  [SocketOption.KEEP_ALIVE_IDLE, 7200],
  [SocketOption.KEEP_ALIVE_INTERVAL, 75],
]);

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

export class SimulatedDatapath implements Datapath, Attachment, Sleeper {
  readonly name = 'simulated';
  readonly heap: Heap;
  readonly network: SimulatedNetwork;
  readonly machine: SimulatedMachine;
  /** The kernel sleeps in another event loop and must be woken. */
  armed = false;
  draining = 0;
  readonly #ends: (StreamEnd | DatagramEnd | null)[] = [];
  readonly #inbox = new Fifo<SimulatedEvent>();
  #host: DatapathHost | null = null;
  #onReadable: () => void = () => {};
  #disposed = false;

  /** @param network by default the one of this process, where a heap has the sizes of any other datapath's */
  constructor(network?: SimulatedNetwork, options: SimulatedDatapathOptions = {}) {
    this.network = network ?? processNetwork();
    this.machine = this.network.machine(options.machine ?? 'localhost', options.addresses);
    const sizeClasses = options.sizeClasses ?? (network === undefined ? DEFAULT_SIZE_CLASSES : SIMULATED_SIZE_CLASSES);
    this.heap =
      options.heap ?? new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, checked: options.checked ?? false });
  }

  attach(host: DatapathHost): void {
    this.#host = host;
  }

  // ---- Queues --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    const { random, faults } = this.network;
    if (random.chance(faults.descriptors)) throw systemError(ERRNO.EMFILE, 'socket', undefined, 'simulated');
    if (type === SocketType.STREAM) this.#ends[qd] = new StreamEnd(this, family);
    else this.#ends[qd] = new DatagramEnd(this, family);
  }

  #end(qd: number): StreamEnd | DatagramEnd {
    const end = this.#ends[qd];
    if (end === null || end === undefined) throw systemError(ERRNO.EBADF, 'simulated', `queue ${qd}`);
    return end;
  }

  bind(qd: number, address: Address): void {
    this.#end(qd).bind(address);
  }

  listen(qd: number, backlog: number): void {
    this.#end(qd).listen(backlog);
  }

  accept(qd: number, op: Operation<number>): void {
    this.#end(qd).accept(op);
  }

  connect(qd: number, address: Address, op: Operation<void>): void {
    this.#end(qd).connect(address, op);
  }

  push(qd: number, sga: Sga, op: Operation<void>): void {
    this.#end(qd).push(sga, op);
  }

  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    this.#end(qd).pushTo(buffer, to, op);
  }

  pop(qd: number, op: Operation<HeapBuffer | null>): void {
    this.#end(qd).pop(op);
  }

  shutdown(qd: number): void {
    this.#end(qd).finish();
  }

  close(qd: number, abort: boolean): void {
    const end = this.#ends[qd];
    this.#ends[qd] = null;
    end?.close(abort);
  }

  withdraw(qd: number, op: Operation<unknown>): void {
    this.#ends[qd]?.withdraw(op);
  }

  getsockname(qd: number): Address {
    return this.#end(qd).getsockname();
  }

  getpeername(qd: number): Address {
    return this.#end(qd).getpeername();
  }

  setsockopt(qd: number, option: SocketOption, value: number): void {
    if (!DEFAULT_OPTIONS.has(option)) throw systemError(ERRNO.ENOPROTOOPT, 'setsockopt', `option ${option}`);
    if (!Number.isInteger(value)) throw systemError(ERRNO.EINVAL, 'setsockopt', `${value}`);
    this.#end(qd).setOption(option, value);
  }

  getsockopt(qd: number, option: SocketOption): number {
    const value = this.#end(qd).options.get(option) ?? DEFAULT_OPTIONS.get(option);
    if (value === undefined) throw systemError(ERRNO.ENOPROTOOPT, 'getsockopt', `option ${option}`);
    return value;
  }

  unsent(qd: number): number {
    return this.#ends[qd]?.unsentBytes ?? 0;
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
    for (let qd = 0; qd < this.#ends.length; qd++) this.close(qd, false);
    while (this.#inbox.length > 0) {
      const event = this.#inbox.shift();
      event.target!.handle(event);
    }
  }

  // ---- For the ends --------------------------------------------------------------------------------------------

  openQueue(family: Family, type: SocketType): number {
    return this.#host!.openQueue(family, type);
  }

  adopt(qd: number, end: StreamEnd): void {
    this.#ends[qd] = end;
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
