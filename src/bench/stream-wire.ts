/**
 * A wire in memory between two stacks of one thread, for measuring the stack without any kernel: frames are copied once,
 * as a network card would. It touches the one heap that both ends have; whoever uses it calls the kernels' turns himself.
 */
import { LINK_HEADROOM, type Link } from '../datapath/stack/link.ts';
import type { DatapathWatch } from '../kernel/datapath.ts';
import { type Device, type FrameInput, NO_OFFLOADS } from '../net/device.ts';
import type { Stack } from '../net/stack.ts';
import { Heap, type HeapBuffer, heapBytes, type SizeClass } from '../ring/heap.ts';
import { localRegion } from '../ring/region.ts';

const STREAM_SIZES: readonly SizeClass[] = [
  { bytes: 384, count: 4096 },
  { bytes: 2240, count: 8192 },
  { bytes: 16704, count: 256 },
  { bytes: 65728, count: 128 },
];
/** Frames on their way, at most, as many as a card's ring has. */
const QUEUE = 1024;

export class WireEnd implements Link, Device {
  readonly name = 'wire';
  readonly heap: Heap;
  readonly device = this;
  readonly scatterGather = true;
  readonly shared = null;
  readonly macHi = 0x0200;
  readonly macLo: number;
  readonly mtu = 1500;
  readonly offloads = NO_OFFLOADS;
  other: WireEnd = this;
  readonly #address: string;
  readonly #arriving: (HeapBuffer | null)[] = new Array<HeapBuffer | null>(QUEUE).fill(null);
  #first = 0;
  #count = 0;

  constructor(heap: Heap, number: number) {
    this.heap = heap;
    this.macLo = number;
    this.#address = `10.0.0.${number}`;
  }

  attach(stack: Stack): void {
    stack.addAddress(this.#address, 24);
  }

  room(): number {
    return QUEUE - this.other.#count;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadAt: number, payloadLength: number): void {
    const to = this.other;
    const frame = to.#count < QUEUE ? this.heap.tryAlloc(packet.length + payloadLength) : null;
    if (frame !== null) {
      const { memory } = packet;
      memory.copyWithin(frame.offset, packet.offset, packet.offset + packet.length);
      if (payload !== null) memory.copyWithin(frame.offset + packet.length, payloadAt, payloadAt + payloadLength);
      to.#arriving[(to.#first + to.#count++) % QUEUE] = frame;
    }
    packet.release();
  }

  flush(): void {}

  receive(budget: number, input: FrameInput): number {
    const count = Math.min(budget, this.#count);
    for (let i = 0; i < count; i++) {
      const frame = this.#arriving[this.#first]!;
      this.#arriving[this.#first] = null;
      this.#first = (this.#first + 1) % QUEUE;
      this.#count--;
      input.input(frame);
      frame.release();
    }
    return count;
  }

  get arrived(): boolean {
    return this.#count > 0;
  }

  sleep(): void {}

  watch(): DatapathWatch {
    return { close() {}, ref() {}, unref() {} };
  }

  arm(): boolean {
    return false;
  }

  dispose(): void {
    while (this.#count > 0) this.receive(QUEUE, { input() {} });
  }
}

/** Both ends, 10.0.0.1 and 10.0.0.2, over one heap with buffers of these sizes. */
export function wireInMemory(sizeClasses: readonly SizeClass[] = STREAM_SIZES): [WireEnd, WireEnd] {
  const heap = new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: LINK_HEADROOM });
  const ends: [WireEnd, WireEnd] = [new WireEnd(heap, 1), new WireEnd(heap, 2)];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}
