/**
 * Two of our TCP/IP stacks back to back in one thread, without kernels and queues above them, on the wire in memory.
 * It touches memory and the clock only.
 */

import { TimerWheel } from '../kernel/timers.ts';
import { Flow } from '../net/flow.ts';
import { wordsOfText } from '../net/ip/words.ts';
import { Stack } from '../net/stack.ts';
import type { TcpConfig } from '../net/tcp/config.ts';
import type { Connection } from '../net/tcp/connection.ts';
import { Tcp } from '../net/tcp/tcp.ts';
import type { Heap, SizeClass } from '../ring/heap.ts';
import { type WireEnd, wireInMemory } from './stream-wire.ts';

const SERVER = '10.0.0.1';

/** One of the two hosts: what the stack datapath has below its queues. */
export class StackEnd {
  readonly tcp: Tcp;
  readonly #wire: WireEnd;
  readonly #timers: TimerWheel;
  readonly #stack: Stack;

  constructor(wire: WireEnd, now: number, addresses: readonly string[], config: Partial<TcpConfig>) {
    const { heap, scatterGather } = wire;
    const random = () => (Math.random() * 2 ** 32) | 0;
    const timers = new TimerWheel(now);
    const stack = new Stack({ heap, device: wire, timers, random, now });
    const secret = Int32Array.from({ length: 4 }, random);
    const { output } = stack;
    this.tcp = new Tcp({ heap, output, timers, random, now, secret, config: { scatterGather, ...config } });
    stack.tcp = this.tcp;
    for (const address of addresses) stack.addAddress(address, 16);
    this.#wire = wire;
    this.#timers = timers;
    this.#stack = stack;
  }

  /** Takes in what has arrived, a batch at most. @returns frames */
  receive(now: number, budget: number): number {
    this.#stack.setTime(now);
    if (this.#timers.size > 0) this.#timers.advance(now);
    return this.#wire.receive(budget, this.#stack);
  }
}

export interface BackToBackOptions {
  readonly sizeClasses: readonly SizeClass[];
  readonly tcp?: Partial<TcpConfig>;
  /** Addresses of the client, each with its own ports: 10.0.1.1, 10.0.1.2 … Default 1. */
  readonly clientAddresses?: number;
}

export class BackToBack {
  readonly heap: Heap;
  readonly server: StackEnd;
  readonly client: StackEnd;

  constructor({ sizeClasses, tcp = {}, clientAddresses = 1 }: BackToBackOptions) {
    const [serverWire, clientWire] = wireInMemory(sizeClasses);
    const now = performance.now();
    const addresses = Array.from({ length: clientAddresses }, (_, i) => `10.0.1.${i + 1}`);
    this.heap = serverWire.heap;
    this.server = new StackEnd(serverWire, now, [SERVER], tcp);
    this.client = new StackEnd(clientWire, now, addresses, tcp);
  }

  /** A connection attempt from a client address (from 0 on) to a port of the server. */
  connect(from: number, port: number): Connection {
    const flow = new Flow();
    flow.local3 = wordsOfText(`10.0.1.${from + 1}`).w3;
    flow.remote3 = wordsOfText(SERVER).w3;
    flow.remotePort = port;
    return this.client.tcp.connect(flow);
  }

  listenFlow(port: number): Flow {
    const flow = new Flow();
    flow.local3 = wordsOfText(SERVER).w3;
    flow.localPort = port;
    return flow;
  }
}
