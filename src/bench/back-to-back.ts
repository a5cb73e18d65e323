/**
 * Two of our TCP/IP stacks back to back in one thread: what one sends, the other receives, with no kernel and no wire.
 * It touches memory and the clock only; each frame is copied once, as a network card would.
 */

import { TimerWheel } from '../kernel/timers.ts';
import type { Device, FrameInput } from '../net/device.ts';
import { Flow } from '../net/flow.ts';
import { wordsOfText } from '../net/ip/words.ts';
import { Stack } from '../net/stack.ts';
import type { TcpConfig } from '../net/tcp/config.ts';
import type { Connection } from '../net/tcp/connection.ts';
import { Tcp } from '../net/tcp/tcp.ts';
import { Heap, type HeapBuffer, heapBytes, type SizeClass } from '../ring/heap.ts';
import { localRegion } from '../ring/region.ts';

const QUEUE = 8192;
const HEADROOM = 128;

/** One of the two hosts, and the device below its stack. */
export class StackEnd implements Device {
  readonly macHi = 0x0200;
  readonly macLo: number;
  readonly mtu: number;
  readonly offloads = { receiveChecksum: false };
  readonly heap: Heap;
  readonly timers: TimerWheel;
  readonly stack: Stack;
  readonly tcp: Tcp;
  other: StackEnd | null = null;
  /** A ring of frames on their way to this end. */
  readonly #arriving = new Array<HeapBuffer | null>(QUEUE).fill(null);
  #head = 0;
  #count = 0;

  constructor(
    heap: Heap,
    number: number,
    mtu: number,
    now: number,
    addresses: readonly string[],
    config: Partial<TcpConfig>,
  ) {
    const random = () => (Math.random() * 2 ** 32) | 0;
    this.macLo = number;
    this.mtu = mtu;
    this.heap = heap;
    this.timers = new TimerWheel(now);
    this.stack = new Stack({ heap, device: this, timers: this.timers, random, now });
    this.tcp = new Tcp({
      heap,
      output: this.stack.output,
      timers: this.timers,
      random,
      now,
      secret: Int32Array.from({ length: 4 }, random),
      config: { scatterGather: false, ...config },
    });
    this.stack.tcp = this.tcp;
    for (const address of addresses) this.stack.addAddress(address, 16);
  }

  room(): number {
    return QUEUE - this.other!.#count;
  }

  transmit(packet: HeapBuffer, _payload: HeapBuffer | null, _offset: number, _length: number): void {
    const { offset, length } = packet;
    const frame = this.heap.tryAlloc(length);
    if (frame !== null) {
      frame.memory.copyWithin(frame.offset, offset, offset + length);
      this.other!.#arrive(frame);
    }
    packet.release();
  }

  #arrive(frame: HeapBuffer): void {
    this.#arriving[(this.#head + this.#count++) & (QUEUE - 1)] = frame;
  }

  flush(): void {}

  /** Takes in what has arrived, a batch at most. @returns frames */
  receive(now: number, budget: number): number {
    const { stack, timers } = this;
    stack.setTime(now);
    if (timers.size > 0) timers.advance(now);
    const frames = Math.min(this.#count, budget);
    const input: FrameInput = stack;
    for (let i = 0; i < frames; i++) {
      const frame = this.#arriving[this.#head]!;
      this.#arriving[this.#head] = null;
      this.#head = (this.#head + 1) & (QUEUE - 1);
      this.#count--;
      input.input(frame);
      frame.release();
    }
    return frames;
  }
}

export interface BackToBackOptions {
  readonly sizeClasses: readonly SizeClass[];
  readonly mtu?: number;
  readonly tcp?: Partial<TcpConfig>;
  /** Addresses of the client, each with its own ports: 10.0.1.1, 10.0.1.2 … Default 1. */
  readonly clientAddresses?: number;
}

export class BackToBack {
  readonly heap: Heap;
  readonly server: StackEnd;
  readonly client: StackEnd;

  constructor({ sizeClasses, mtu = 1500, tcp = {}, clientAddresses = 1 }: BackToBackOptions) {
    const heap = new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: HEADROOM });
    const now = performance.now();
    const addresses = Array.from({ length: clientAddresses }, (_, i) => `10.0.1.${i + 1}`);
    this.heap = heap;
    this.server = new StackEnd(heap, 1, mtu, now, ['10.0.0.1'], tcp);
    this.client = new StackEnd(heap, 2, mtu, now, addresses, tcp);
    this.server.other = this.client;
    this.client.other = this.server;
  }

  /** A connection attempt from a client address (from 0 on) to a port of the server. */
  connect(from: number, port: number): Connection {
    const flow = new Flow();
    flow.local3 = wordsOfText(`10.0.1.${from + 1}`).w3;
    flow.remote3 = wordsOfText('10.0.0.1').w3;
    flow.remotePort = port;
    return this.client.tcp.connect(flow);
  }

  listenFlow(port: number): Flow {
    const flow = new Flow();
    flow.local3 = wordsOfText('10.0.0.1').w3;
    flow.localPort = port;
    return flow;
  }
}
