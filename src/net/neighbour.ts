/**
 * One entry of the neighbour cache (net/neighbours.ts): who the neighbour is, what is believed of it, what waits for it.
 * Plain data; the cache does everything with it.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import type { Timed } from './flow.ts';

export const NeighbourState = {
  FREE: 0,
  INCOMPLETE: 1,
  REACHABLE: 2,
  STALE: 3,
  DELAY: 4,
  PROBE: 5,
  /** Put in by hand; never probed, never forgotten. */
  PERMANENT: 6,
} as const;

/** Entries can be named in 12 bits, so that an index and a generation fit in a small integer. */
export const INDEX_BITS = 12;
export const GENERATION_MASK = 0x3ffff;

/** Who keeps entries. */
export interface NeighbourOwner {
  timerExpired(entry: Neighbour): void;
}

export interface Waiting {
  readonly packet: HeapBuffer;
  readonly payload: HeapBuffer | null;
  readonly payloadOffset: number;
  readonly payloadLength: number;
}

/** One entry. Fields are plain, because every packet sent reads them. */
export class Neighbour implements Timed {
  readonly cache: NeighbourOwner;
  readonly index: number;
  /** Changes whenever the entry may not be what it was, so that what a flow remembers is seen to be old. */
  generation = 0;
  state: number = NeighbourState.FREE;
  family = 0;
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;
  macHi = 0;
  macLo = 0;
  /** ms: until when the neighbour counts as reachable, when it was last used, when it last answered. */
  reachableUntil = 0;
  usedAt = 0;
  answeredAt = Number.NEGATIVE_INFINITY;
  solicitations = 0;
  timer = -1;
  /** In the order they came. Short, and only in use while the neighbour is not known. */
  readonly waiting: Waiting[] = [];

  constructor(cache: NeighbourOwner, index: number) {
    this.cache = cache;
    this.index = index;
  }

  /** What a flow may remember (Neighbours.at). */
  get route(): number {
    return (this.generation << INDEX_BITS) | this.index;
  }

  expired(): void {
    this.timer = -1;
    this.cache.timerExpired(this);
  }
}
