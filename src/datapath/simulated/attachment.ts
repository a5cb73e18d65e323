/**
 * What the ends of simulated connections need of the datapath they belong to.
 * Types only.
 */
import type { Family, SocketType } from '../../kernel/datapath.ts';
import type { Heap } from '../../ring/heap.ts';
import type { SimulatedEvent } from './events.ts';
import type { SimulatedMachine, SimulatedNetwork } from './network.ts';
import type { StreamEnd } from './stream.ts';

export interface Attachment {
  readonly heap: Heap;
  readonly network: SimulatedNetwork;
  readonly machine: SimulatedMachine;
  /** Closed ends that still have something to send. */
  draining: number;
  /** @throws IsthmusError EMFILE */
  openQueue(family: Family, type: SocketType): number;
  /** The queue descriptor now stands for this end. */
  adopt(qd: number, end: StreamEnd): void;
  /** An event for one of this datapath's ends: it is handled in the next poll. */
  enqueue(event: SimulatedEvent): void;
  /** An operation was completed from outside a poll: a kernel that sleeps must wake. */
  touched(): void;
}
