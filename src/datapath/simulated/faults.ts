/**
 * What a simulated network does wrong, and how slow it is. Plain data: probabilities between 0 and 1, ranges in µs
 * or bytes; it touches nothing.
 */
import { Random } from './random.ts';

export interface Faults {
  /** One way, µs, drawn for each segment and datagram; segments of a stream stay in order. */
  readonly latencyUs: readonly [number, number];
  /** A datagram is lost. */
  readonly loss: number;
  /** A datagram arrives twice. */
  readonly duplicate: number;
  /** A datagram is held back by `stallUs` more, so that later ones pass it. */
  readonly reorder: number;
  /** A segment of a stream is held back by `stallUs` more, as by a loss and its retransmission. */
  readonly stall: number;
  readonly stallUs: readonly [number, number];
  /** A segment ends early, at a random byte. */
  readonly split: number;
  /** A segment is joined to the one before it, where that has not been popped. */
  readonly coalesce: number;
  /** Longest segment, bytes. */
  readonly segmentBytes: number;
  /** Receive window of each socket, bytes; also where its send limit is drawn from. */
  readonly windowBytes: readonly [number, number];
  /** A segment breaks its connection: ECONNRESET at both ends. */
  readonly reset: number;
  /** A connection attempt is refused: ECONNREFUSED. */
  readonly refuse: number;
  /** `socket` or `accept` finds no descriptor left: EMFILE. */
  readonly descriptors: number;
  /** `bind` finds the address taken: EADDRINUSE. */
  readonly addressInUse: number;
}

/** Nothing goes wrong and nothing takes time: the loopback of an ordinary program. Buffers go straight to the peer. */
export const IDEAL: Faults = {
  latencyUs: [0, 0],
  loss: 0,
  duplicate: 0,
  reorder: 0,
  stall: 0,
  stallUs: [0, 0],
  split: 0,
  coalesce: 0,
  segmentBytes: 1 << 30,
  windowBytes: [1 << 18, 1 << 18],
  reset: 0,
  refuse: 0,
  descriptors: 0,
  addressInUse: 0,
};

/** A healthy network: latency and segments of any length, nothing lost. */
export const CALM: Faults = {
  ...IDEAL,
  latencyUs: [20, 200],
  split: 0.2,
  coalesce: 0.3,
  segmentBytes: 1448,
  windowBytes: [1 << 16, 1 << 18],
};

/**
 * Faults of a kind and strength drawn from the seed, most of them off: simulations that differ in which faults they
 * have find more than simulations that all have a little of each (swarm testing: Groce and others, ISSTA 2012).
 */
export function swarmFaults(seed: number): Faults {
  const random = new Random(seed ^ 0x5f4d);
  const sometimes = (most: number) => (random.chance(0.5) ? random.unit() * most : 0);
  const fastest = random.between([0, 500]);
  const window = random.between([1, 1 << random.between([4, 17])]);
  return {
    latencyUs: [fastest, fastest + random.between([0, 1 << random.between([0, 17])])],
    loss: sometimes(0.3),
    duplicate: sometimes(0.3),
    reorder: sometimes(0.3),
    stall: sometimes(0.1),
    stallUs: [1000, 300_000],
    split: sometimes(1),
    coalesce: sometimes(1),
    segmentBytes: random.between([1, 1 << random.between([4, 15])]),
    windowBytes: [window, window * 2],
    reset: sometimes(0.02),
    refuse: sometimes(0.2),
    descriptors: sometimes(0.1),
    addressInUse: sometimes(0.05),
  };
}
