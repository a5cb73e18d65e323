/**
 * Hosts with a stack each on one Ethernet segment, in simulated time. For tests; it touches only what it makes.
 */
import { TimerWheel } from '../../src/kernel/timers.ts';
import { type Device, type DeviceOffloads, type FrameInput, NO_OFFLOADS } from '../../src/net/device.ts';
import { Chance } from '../../src/net/middleware/chance.ts';
import { type FaultOptions, FaultyInput } from '../../src/net/middleware/faults.ts';
import { Stack, type StackOptions } from '../../src/net/stack.ts';
import type { TcpConfig } from '../../src/net/tcp/config.ts';
import { Tcp } from '../../src/net/tcp/tcp.ts';
import { Heap, type HeapBuffer, heapBytes, type SizeClass } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const SIZES: readonly SizeClass[] = [
  { bytes: 256, count: 512 },
  { bytes: 2048, count: 1024 },
  { bytes: 16384, count: 64 },
  { bytes: 131072, count: 8 },
];

export function testHeap(checked = true, sizeClasses: readonly SizeClass[] = SIZES): Heap {
  return new Heap(localRegion(heapBytes(sizeClasses)), { checked, sizeClasses });
}

interface Sent {
  readonly packet: HeapBuffer;
  readonly at: number;
  readonly length: number;
  readonly payload: HeapBuffer | null;
  readonly payloadAt: number;
  readonly payloadLength: number;
}

/** A device that holds what is transmitted, as a NIC's ring does, and reads the bytes only when they are carried. */
export class TestDevice implements Device {
  readonly macHi: number;
  readonly macLo: number;
  mtu = 1500;
  offloads = NO_OFFLOADS;
  limit = 1_000_000;
  flushes = 0;
  readonly #ring: Sent[] = [];

  constructor(macHi: number, macLo: number) {
    this.macHi = macHi;
    this.macLo = macLo;
  }

  room(): number {
    return this.limit - this.#ring.length;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadAt: number, payloadLength: number): void {
    payload?.retain();
    this.#ring.push({ packet, at: packet.offset, length: packet.length, payload, payloadAt, payloadLength });
  }

  flush(): void {
    this.flushes++;
  }

  /** The oldest frames transmitted and not yet taken, at most `most`. */
  take(most = Number.POSITIVE_INFINITY): Uint8Array[] {
    const sent = this.#ring.splice(0, Math.min(most, this.#ring.length));
    return sent.map(({ packet, at, length, payload, payloadAt, payloadLength }) => {
      const frame = new Uint8Array(length + payloadLength);
      frame.set(packet.memory.subarray(at, at + length));
      if (payload !== null) frame.set(payload.memory.subarray(payloadAt, payloadAt + payloadLength), length);
      packet.release();
      payload?.release();
      return frame;
    });
  }
}

export interface HostOptions extends Partial<StackOptions> {
  readonly addresses?: readonly string[];
  readonly faults?: FaultOptions;
  readonly mtu?: number;
  readonly offloads?: DeviceOffloads;
  readonly tcp?: Partial<TcpConfig> | true;
  readonly checked?: boolean;
}

export class Host {
  readonly heap: Heap;
  readonly device: TestDevice;
  readonly stack: Stack;
  readonly tcp: Tcp | null = null;
  readonly faulty: FaultyInput | null;
  readonly #entrance: FrameInput;

  constructor(world: World, number: number, options: HostOptions) {
    this.heap = options.heap ?? testHeap(options.checked ?? true);
    this.device = new TestDevice(0x0200, 0x5e000000 | number);
    if (options.mtu !== undefined) this.device.mtu = options.mtu;
    if (options.offloads !== undefined) this.device.offloads = options.offloads;
    const { timers, chance, now } = world;
    const base = { heap: this.heap, device: this.device, timers, random: chance.next, now };
    this.stack = new Stack({ ...base, ...options });
    for (const address of options.addresses ?? []) {
      const [host, length] = address.split('/');
      this.stack.addAddress(host!, Number(length));
    }
    if (options.tcp !== undefined) {
      const secret = Int32Array.from({ length: 4 }, chance.next);
      const checksumOffload = this.device.offloads.transmitPartial;
      const config = { checksumOffload, ...(options.tcp === true ? {} : options.tcp) };
      const output = this.stack.output;
      this.tcp = new Tcp({ heap: this.heap, output, timers, secret, random: chance.next, now, config });
      this.stack.tcp = this.tcp;
    }
    const around = { heap: this.heap, timers, now: () => world.now };
    this.faulty = options.faults === undefined ? null : new FaultyInput(this.stack, options.faults, around);
    this.#entrance = this.faulty ?? this.stack;
  }

  /** Gives the stack one frame, as a NIC would: in a fresh buffer, which is padded to Ethernet's least. */
  receive(bytes: Uint8Array): void {
    const frame = this.heap.tryAlloc(64 + Math.max(60, bytes.length));
    if (frame === null) return;
    frame.offset = frame.base + 64;
    frame.length = Math.max(60, bytes.length);
    frame.memory.fill(0, frame.offset, frame.offset + frame.length);
    frame.memory.set(bytes, frame.offset);
    this.#entrance.input(frame);
    frame.release();
  }

  /** A buffer with these bytes and `headroom` before them. */
  buffer(data: Uint8Array | string, headroom = 0): HeapBuffer {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    const buffer = this.heap.alloc(headroom + bytes.length);
    buffer.offset = buffer.base + headroom;
    buffer.length = bytes.length;
    buffer.memory.set(bytes, buffer.offset);
    return buffer;
  }

  /** A counter of the stack, 0 where it has not counted. */
  count(name: string): number {
    return this.stack.observe()[name] ?? 0;
  }
}

/** The segment and its time. */
export class World {
  now = 1000;
  readonly timers = new TimerWheel(1000);
  readonly chance: Chance;
  readonly hosts: Host[] = [];
  /** Frames carried. */
  carried = 0;
  /** Frames that a host's device sends in one step. */
  rate = Number.POSITIVE_INFINITY;
  /** Called for each frame; false loses it. */
  carry: (frame: Uint8Array, from: Host) => boolean = () => true;

  constructor(seed = 1) {
    this.chance = new Chance(seed);
  }

  host(options: HostOptions = {}): Host {
    const host = new Host(this, this.hosts.length + 1, options);
    this.hosts.push(host);
    return host;
  }

  /** Carries frames until there are none, at this moment. `turn` is the program. */
  settle(turn: () => void = () => {}): void {
    for (let i = 0; i < 10_000; i++) {
      for (const host of this.hosts) {
        host.stack.setTime(this.now);
        host.stack.loop();
      }
      turn();
      for (const host of this.hosts) host.stack.flush();
      let moved = this.hosts.some((host) => host.stack.looping);
      for (const from of this.hosts) {
        for (const frame of from.device.take(this.rate)) {
          moved = true;
          this.carried++;
          if (!this.carry(frame, from)) continue;
          for (const to of this.hosts) if (to !== from) to.receive(frame);
        }
      }
      if (!moved) return;
    }
    throw new Error('the hosts do not come to rest');
  }

  /** Lets time pass: timers and frames, until `ms` are over. */
  run(ms: number, turn: () => void = () => {}): void {
    const end = this.now + ms;
    this.settle(turn);
    for (;;) {
      const next = Math.min(end, Math.max(this.now, this.timers.nextDeadline()));
      this.now = next;
      for (const host of this.hosts) host.stack.setTime(next);
      const fired = this.timers.advance(next);
      this.settle(turn);
      if (fired === 0 && next >= end) return;
    }
  }

  /** Ends every stack; gives how many buffers are still out. */
  dispose(): number {
    let left = 0;
    for (const host of this.hosts) {
      host.faulty?.lane.dispose();
      host.stack.dispose();
      host.device.take();
      left += host.heap.inUse;
    }
    return left;
  }
}

/** Bytes from hexadecimal text, white space ignored. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** The Internet checksum of RFC 1071, as simple as can be: the model for the fast one. */
export function plainSum(...pieces: Uint8Array[]): number {
  const bytes = pieces.flatMap((piece) => [...piece]);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}
