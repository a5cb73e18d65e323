/**
 * What is under way in a simulated network: events in order of time, and the queues they wait in.
 * Pure data structures; what an event means is its target's affair.
 */

import type { IpAddress } from '../../address/sockaddr.ts';
import type { Address } from '../../kernel/datapath.ts';
import type { HeapBuffer } from '../../ring/heap.ts';

export const EventKind = {
  SYN: 1,
  SYN_ACK: 2,
  REFUSED: 3,
  SEGMENT: 4,
  FIN: 5,
  RST: 6,
  WINDOW: 7,
  DATAGRAM: 8,
  UNREACHABLE: 9,
  RETRY: 10,
} as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** Where an event is handled: an end of a connection or a datagram socket. */
export interface EventTarget {
  readonly id: number;
  /** Takes the event over: releases its buffer, or keeps it. */
  handle(event: SimulatedEvent): void;
  /** Puts the event where {@link EventTarget.handle} is called from: its datapath's inbox, usually. */
  receive(event: SimulatedEvent): void;
}

export class SimulatedEvent {
  /** µs. */
  time = 0;
  /** Orders events of the same time. */
  sequence = 0;
  kind: EventKind = EventKind.RETRY;
  target: EventTarget | null = null;
  /** Who sent it, where that matters. */
  source: EventTarget | null = null;
  buffer: HeapBuffer | null = null;
  offset = 0;
  length = 0;
  /** An errno, or a count. */
  number = 0;
  /** A datagram's sender, as its addresses are known on the network. */
  from: IpAddress | null = null;
  /** Destination of a datagram or of a connection attempt. */
  to: Address | null = null;
}

/** Events by time: a binary heap, with a pool so that a long simulation does not churn. */
export class EventQueue {
  readonly #heap: SimulatedEvent[] = [];
  readonly #pool: SimulatedEvent[] = [];
  #sequence = 0;

  get length(): number {
    return this.#heap.length;
  }

  /** Time of the first event, µs; Infinity when there is none. */
  get nextTime(): number {
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0]!.time;
  }

  /** A fresh event to fill in and {@link EventQueue.add}. */
  make(kind: EventKind, target: EventTarget | null): SimulatedEvent {
    const event = this.#pool.pop() ?? new SimulatedEvent();
    event.kind = kind;
    event.target = target;
    return event;
  }

  add(event: SimulatedEvent, time: number): void {
    event.time = time;
    event.sequence = this.#sequence++;
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  /** Takes the first event out. There must be one. */
  take(): SimulatedEvent {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    const { length } = heap;
    if (length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  /** Gives a handled event back to the pool. Its buffer must have gone elsewhere. */
  recycle(event: SimulatedEvent): void {
    event.target = event.source = event.buffer = event.from = event.to = null;
    event.offset = event.length = event.number = 0;
    this.#pool.push(event);
  }
}

function before(a: SimulatedEvent, b: SimulatedEvent): boolean {
  return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
}
