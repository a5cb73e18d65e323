/**
 * What every part of one stack shares: its clock, heap, device, timers, chance and counters.
 * Plain data, and the one way to get a buffer for a packet made here.
 */
import type { Heap, HeapBuffer } from '../ring/heap.ts';
import { StackCounters } from './counters.ts';
import type { Device } from './device.ts';
import { HEADROOM, type Timers } from './flow.ts';
import { Reason } from './wire/reason.ts';

export class NetContext {
  readonly heap: Heap;
  readonly device: Device;
  readonly timers: Timers;
  /** 32 random bits, as an integer. */
  readonly random: () => number;
  readonly counters = new StackCounters();
  /** Milliseconds, monotonic. */
  now: number;

  constructor(heap: Heap, device: Device, timers: Timers, random: () => number, now: number) {
    this.heap = heap;
    this.device = device;
    this.timers = timers;
    this.random = random;
    this.now = now;
  }

  /** A buffer for a packet of `bytes` above IP, with HEADROOM before it; null (and counted) where there is none. */
  alloc(bytes: number): HeapBuffer | null {
    const packet = this.heap.tryAlloc(Math.max(0, HEADROOM + bytes - this.heap.headroom));
    if (packet === null) {
      this.counters.drop(Reason.NO_BUFFER);
      return null;
    }
    packet.offset = packet.base + HEADROOM;
    packet.length = bytes;
    return packet;
  }
}
