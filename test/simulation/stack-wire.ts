/**
 * A wire between stacks in simulated time: frames are lost, doubled, late, out of order and damaged by chance from a seed.
 * It also gives the kernels at its ends their turns; it touches nothing outside the process.
 */

import type { Random } from '../../src/datapath/simulated/random.ts';
import { LINK_HEADROOM, type Link } from '../../src/datapath/stack/link.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import { IsthmusError } from '../../src/errors.ts';
import type { DatapathWatch } from '../../src/kernel/datapath.ts';
import { Kernel, type KernelOptions } from '../../src/kernel/kernel.ts';
import { type Device, type FrameInput, NO_OFFLOADS } from '../../src/net/device.ts';
import type { Stack } from '../../src/net/stack.ts';
import type { TcpConfig } from '../../src/net/tcp/config.ts';
import { Heap, type HeapBuffer, heapBytes, type SizeClass } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const ETHERNET_BYTES = 14;
const ARP = 0x0806;

export interface WireFaults {
  /** One way, least and most, in ms. Frames keep their order but for `reordering`. */
  readonly latencyMs: readonly [number, number];
  /** Probabilities, of each frame. */
  readonly loss: number;
  readonly duplication: number;
  /** The frame is late by up to `reorderMs` more, and others pass it. */
  readonly reordering: number;
  readonly reorderMs: number;
  /** One bit of the IP packet is turned over. ARP is spared: it has no checksum, and a network that lies in it is another matter. */
  readonly corruption: number;
  /** From time to time nothing passes for a while: the probability of each frame, and for how long at most, in ms. */
  readonly outage: number;
  readonly outageMs: number;
  readonly mtu: number;
}

/** Faults of a kind and strength drawn anew, most of them off: such simulations find more (Groce and others, ISSTA 2012). */
export function drawFaults(random: Random): WireFaults {
  const sometimes = (most: number) => (random.chance(0.4) ? random.unit() * most : 0);
  const fastest = random.below(40);
  return {
    latencyMs: [fastest, fastest + random.below(1 << random.below(7))],
    loss: sometimes(0.2),
    duplication: sometimes(0.2),
    reordering: sometimes(0.3),
    reorderMs: 1 + random.below(200),
    corruption: sometimes(0.1),
    outage: sometimes(0.01),
    outageMs: 1 + random.below(4000),
    mtu: random.chance(0.3) ? 1280 + random.below(221) : 1500,
  };
}

export interface HostOptions {
  readonly addresses: readonly string[];
  readonly sizeClasses: readonly SizeClass[];
  readonly checked: boolean;
  readonly scatterGather: boolean;
  /** Frames received and not yet taken; one more is lost. */
  readonly queue: number;
  readonly tcp?: Partial<TcpConfig>;
  readonly kernel?: KernelOptions;
}

interface FrameUnderWay {
  readonly at: number;
  readonly to: SimulatedHost;
  readonly bytes: Uint8Array;
}

/** One machine at the wire: its link, and the kernel above. */
export class SimulatedHost implements Link, Device {
  readonly name = 'wire';
  readonly heap: Heap;
  readonly device = this;
  readonly scatterGather: boolean;
  readonly shared = null;
  readonly macHi = 0x0200;
  readonly macLo: number;
  readonly mtu: number;
  readonly offloads = NO_OFFLOADS;
  readonly kernel: Kernel;
  readonly datapath: StackDatapath;
  /** When the stack wants a turn even if nothing arrives. */
  deadline = Number.POSITIVE_INFINITY;
  /** Nothing sent before this may arrive before it, unless it is reordered. */
  lastDue = 0;
  overflowed = 0;
  readonly #wire: StackWire;
  readonly #options: HostOptions;
  readonly #arriving: HeapBuffer[] = [];

  constructor(wire: StackWire, number: number, options: HostOptions) {
    const { sizeClasses, checked } = options;
    this.#wire = wire;
    this.#options = options;
    this.macLo = number;
    this.mtu = wire.faults.mtu;
    this.scatterGather = options.scatterGather;
    this.heap = new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, checked, headroom: LINK_HEADROOM });
    this.datapath = new StackDatapath(this, {
      now: wire.now,
      random: () => wire.random.next() | 0,
      ...(options.tcp && { tcp: options.tcp }),
    });
    this.kernel = new Kernel(this.datapath, { ...options.kernel, now: wire.now });
  }

  attach(stack: Stack): void {
    for (const address of this.#options.addresses) {
      const [host, length] = address.split('/');
      stack.addAddress(host!, Number(length));
    }
  }

  room(): number {
    return 1024;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    const bytes = new Uint8Array(packet.length + payloadLength);
    bytes.set(packet.memory.subarray(packet.offset, packet.offset + packet.length));
    if (payload !== null) {
      bytes.set(payload.memory.subarray(payloadOffset, payloadOffset + payloadLength), packet.length);
    }
    packet.release();
    this.#wire.carry(this, bytes);
  }

  flush(): void {}

  /** A frame has come to the end of the wire. */
  arrive(bytes: Uint8Array): void {
    const frame = this.#arriving.length < this.#options.queue ? this.heap.tryAlloc(bytes.length) : null;
    if (frame === null) {
      this.overflowed++;
      return;
    }
    frame.memory.set(bytes, frame.offset);
    this.#arriving.push(frame);
  }

  receive(budget: number, input: FrameInput): number {
    const frames = this.#arriving.splice(0, budget);
    for (const frame of frames) {
      input.input(frame);
      frame.release();
    }
    return frames.length;
  }

  get arrived(): boolean {
    return this.#arriving.length > 0;
  }

  sleep(): void {}

  watch(): DatapathWatch {
    return { close() {}, ref() {}, unref() {} };
  }

  arm(deadline: number): boolean {
    this.deadline = deadline;
    return !this.arrived;
  }

  dispose(): void {
    for (const frame of this.#arriving.splice(0)) frame.release();
  }
}

export class StackWire {
  readonly random: Random;
  readonly faults: WireFaults;
  readonly hosts: SimulatedHost[] = [];
  /** Frames carried, and a hash of all of them with their times: equal for equal runs. */
  frames = 0;
  digest = 0;
  turns = 0;
  #time = 0;
  #blackUntil = 0;
  /** A binary heap by time; the order of insertion decides between equals. */
  readonly #underWay: (FrameUnderWay & { readonly number: number })[] = [];
  readonly #trace: ((line: string) => void) | null;

  constructor(random: Random, faults: WireFaults, trace: ((line: string) => void) | null = null) {
    this.random = random;
    this.faults = faults;
    this.#trace = trace;
  }

  /** Milliseconds. */
  readonly now = (): number => this.#time;

  add(options: HostOptions): SimulatedHost {
    const host = new SimulatedHost(this, this.hosts.length + 1, options);
    this.hosts.push(host);
    return host;
  }

  get pending(): number {
    return this.#underWay.length;
  }

  /** A frame leaves a host; every other host hears it, and its stack looks at the address. */
  carry(from: SimulatedHost, bytes: Uint8Array): void {
    const { random, faults } = this;
    this.frames++;
    let hash = Math.imul(this.digest ^ bytes.length, 0x01000193) ^ ((this.#time * 1000) | 0);
    for (let i = ETHERNET_BYTES; i < bytes.length && i < 64; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
    this.digest = hash ^ (hash >>> 15);
    this.#trace?.(`${this.#time.toFixed(3)} ${from.macLo} ${bytes.length} ${this.digest >>> 0}`);
    if (random.chance(faults.outage)) this.#blackUntil = this.#time + random.below(faults.outageMs);
    if (this.#time < this.#blackUntil) return;
    for (const to of this.hosts) {
      if (to === from || random.chance(faults.loss)) continue;
      this.#send(to, bytes);
      if (random.chance(faults.duplication)) this.#send(to, bytes);
    }
  }

  #send(to: SimulatedHost, bytes: Uint8Array): void {
    const { random, faults } = this;
    const [least, most] = faults.latencyMs;
    let at = Math.max(this.#time + least + random.unit() * (most - least), to.lastDue);
    if (random.chance(faults.reordering)) at += random.unit() * faults.reorderMs;
    else to.lastDue = at;
    if (random.chance(faults.corruption) && ((bytes[12]! << 8) | bytes[13]!) !== ARP) {
      bytes = bytes.slice();
      const where = ETHERNET_BYTES + random.below(bytes.length - ETHERNET_BYTES);
      bytes[where] = bytes[where]! ^ (1 << random.below(8));
    }
    this.#push({ at, to, bytes, number: this.frames });
  }

  // ---- Time ----------------------------------------------------------------------------------------------------

  /** Turns for everybody until nothing more happens, or until `untilMs`. @throws what escapes a coroutine */
  run(untilMs: number, maxTurns: number): void {
    for (;;) {
      this.#settle(maxTurns);
      let next = this.#underWay[0]?.at ?? Number.POSITIVE_INFINITY;
      let busy = false;
      for (const host of this.hosts) {
        const { kernel, datapath } = host;
        if (kernel.closed) continue;
        if (!kernel.idle || !datapath.arm()) busy = true;
        if (kernel.timers.size > 0) next = Math.min(next, kernel.timers.nextDeadline());
        next = Math.min(next, host.deadline);
      }
      if (busy) continue;
      if (next === Number.POSITIVE_INFINITY || next > untilMs) return;
      this.#time = Math.max(this.#time, next);
    }
  }

  #settle(maxTurns: number): void {
    for (let did = 1; did > 0; ) {
      did = 0;
      while (this.#underWay.length > 0 && this.#underWay[0]!.at <= this.#time) {
        const { to, bytes } = this.#pop();
        if (!to.kernel.closed) to.arrive(bytes);
      }
      const { hosts } = this;
      const first = this.random.below(hosts.length);
      for (let i = 0; i < hosts.length; i++) {
        const { kernel } = hosts[(first + i) % hosts.length]!;
        if (kernel.closed) continue;
        did += kernel.turn(0);
        this.turns++;
        if (kernel.fatal !== null) throw kernel.fatal;
      }
      if (this.turns > maxTurns) {
        throw new IsthmusError(`after ${this.turns} turns the kernels still do not rest`, {
          code: 'ERR_SIMULATION_BUSY',
        });
      }
    }
  }

  #push(frame: FrameUnderWay & { readonly number: number }): void {
    const heap = this.#underWay;
    let at = heap.length;
    heap.push(frame);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(frame, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = frame;
  }

  #pop(): FrameUnderWay {
    const heap = this.#underWay;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: { at: number; number: number }, b: { at: number; number: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.number < b.number);
}
