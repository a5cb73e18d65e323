/**
 * Links in one process for tests in real time: two ends of a wire, or an end that leads nowhere. Frames are copied from
 * one heap to the other, as a network card would; whoever sleeps is woken by the event loop.
 */
import { Alarm } from '../../src/datapath/stack/alarm.ts';
import { LINK_HEADROOM, type Link, type SharedAddresses } from '../../src/datapath/stack/link.ts';
import type { DatapathWatch } from '../../src/kernel/datapath.ts';
import { type Device, type DeviceOffloads, type FrameInput, NO_OFFLOADS } from '../../src/net/device.ts';
import type { Stack } from '../../src/net/stack.ts';
import { Heap, type HeapBuffer, heapBytes, type SizeClass } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

export const WIRE_HEAP: readonly SizeClass[] = [
  { bytes: 384, count: 4096 },
  { bytes: 2240, count: 4096 },
  { bytes: 16704, count: 256 },
  { bytes: 65728, count: 64 },
];

export interface WireOptions {
  readonly addresses: readonly string[];
  readonly sizeClasses?: readonly SizeClass[];
  readonly checked?: boolean;
  /** Frames that may wait at the other end; one more finds no room. Default 1024. */
  readonly queue?: number;
  readonly scatterGather?: boolean;
  /** Default none. The wire completes nothing: like a veth. */
  readonly offloads?: DeviceOffloads;
  /** Of the host whose addresses these are, too. */
  readonly shared?: (link: WireLink) => SharedAddresses;
}

/** One end. */
export class WireLink implements Link, Device {
  readonly name = 'wire';
  readonly heap: Heap;
  readonly device = this;
  readonly scatterGather: boolean;
  readonly shared: SharedAddresses | null;
  readonly macHi = 0x0200;
  readonly macLo: number;
  readonly mtu = 1500;
  readonly offloads: DeviceOffloads;
  other: WireLink | null = null;
  stack: Stack | null = null;
  /** Frames on their way to this end. */
  readonly #arriving: HeapBuffer[] = [];
  readonly #options: WireOptions;
  #alarm: Alarm | null = null;
  #armed = false;
  #onReadable: () => void = () => {};
  #open = true;

  constructor(number: number, options: WireOptions) {
    const sizeClasses = options.sizeClasses ?? WIRE_HEAP;
    const checked = options.checked ?? false;
    this.#options = options;
    this.macLo = number;
    this.shared = options.shared?.(this) ?? null;
    this.scatterGather = options.scatterGather ?? true;
    this.offloads = options.offloads ?? NO_OFFLOADS;
    this.heap = new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: LINK_HEADROOM, checked });
  }

  attach(stack: Stack, now: () => number): void {
    this.stack = stack;
    for (const address of this.#options.addresses) {
      const [host, length] = address.split('/');
      stack.addAddress(host!, Number(length));
    }
    this.#alarm = new Alarm(now, () => this.#wake());
  }

  room(): number {
    const limit = this.#options.queue ?? 1024;
    return this.other === null ? limit : limit - this.other.#arriving.length;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    if (this.other !== null) this.other.#arrive(packet, payload, payloadOffset, payloadLength);
    packet.release();
  }

  #arrive(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    const length = packet.length + payloadLength;
    const frame = this.#open ? this.heap.tryAlloc(length) : null;
    if (frame === null) return;
    frame.memory.set(packet.memory.subarray(packet.offset, packet.offset + packet.length), frame.offset);
    if (payload !== null) {
      const bytes = payload.memory.subarray(payloadOffset, payloadOffset + payloadLength);
      frame.memory.set(bytes, frame.offset + packet.length);
    }
    this.#arriving.push(frame);
    if (this.#armed) this.#wake();
  }

  flush(): void {}

  receive(budget: number, input: FrameInput): number {
    const full = this.other !== null && this.other.room() <= 0;
    const frames = this.#arriving.splice(0, budget);
    for (const frame of frames) {
      input.input(frame);
      frame.release();
    }
    if (full && this.other!.#armed) this.other!.#wake();
    return frames.length;
  }

  get arrived(): boolean {
    return this.#arriving.length > 0;
  }

  /** Nothing can arrive while this thread sleeps. */
  sleep(_waitUs: number): void {}

  #wake(): void {
    this.#armed = false;
    setImmediate(this.#onReadable);
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    // Something must keep the process alive: memory is no handle of libuv.
    let alive: ReturnType<typeof setInterval> | null = null;
    const unref = (): void => {
      if (alive !== null) clearInterval(alive);
      alive = null;
    };
    return {
      close: () => {
        unref();
        this.#onReadable = () => {};
      },
      ref: () => {
        alive ??= setInterval(() => {}, 0x7fffffff);
      },
      unref,
    };
  }

  arm(deadline: number): boolean {
    if (this.arrived) return false;
    this.#armed = true;
    this.#alarm!.set(deadline);
    return true;
  }

  dispose(): void {
    this.#open = false;
    this.#alarm?.clear();
    for (const frame of this.#arriving.splice(0)) frame.release();
  }
}

/** Both ends of a wire: hosts 1 and 2 of 10.0.0.0/24 and fd00::/64. */
export function wire(options: Omit<WireOptions, 'addresses'> = {}): [WireLink, WireLink] {
  const end = (n: number): WireLink => new WireLink(n, { ...options, addresses: [`10.0.0.${n}/24`, `fd00::${n}/64`] });
  const ends: [WireLink, WireLink] = [end(1), end(2)];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}
