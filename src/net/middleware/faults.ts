/**
 * A bad link by seed: frames lost, doubled, out of order, corrupted and late. A device around a device, and a frame input
 * in front of a frame input; a lane is one direction. It touches frames only through copies of its own.
 */
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import type { Device, FrameInput } from '../device.ts';
import { HEADROOM, type Timed, type Timers } from '../flow.ts';
import { DeviceAround } from './around.ts';
import { Chance } from './chance.ts';

export interface FaultOptions {
  /** Everything that chance decides follows from it. */
  readonly seed: number;
  /** Probabilities, 0 to 1, of each frame. Default 0. */
  readonly loss?: number;
  readonly duplication?: number;
  /** The frame is held back for `reorderMs`, so that later ones pass it. */
  readonly reordering?: number;
  /** One bit behind the Ethernet header is turned over. (Real links lose such frames; checksums must not count on it.) */
  readonly corruption?: number;
  /** Every frame is late by this, and by up to as much again as `jitterMs`, in ms. Default 0. Frames keep their order. */
  readonly delayMs?: number;
  readonly jitterMs?: number;
  /** Default 5. */
  readonly reorderMs?: number;
  /** Frames held back at once; one more is lost. Default 1024. */
  readonly maxHeld?: number;
}

/** What a lane needs of its surroundings. */
export interface FaultSurroundings {
  readonly heap: Heap;
  readonly timers: Timers;
  /** Milliseconds, on the timers' clock. */
  readonly now: () => number;
}

export class FaultCounters {
  passed = 0;
  lost = 0;
  duplicated = 0;
  reordered = 0;
  corrupted = 0;
  delayed = 0;
  /** Lost because too many were held back, or because the heap was used up. */
  overflowed = 0;
}

const ETHERNET_BYTES = 14;

class Held implements Timed {
  readonly lane: FaultLane;
  readonly frame: HeapBuffer;
  timer = -1;

  constructor(lane: FaultLane, frame: HeapBuffer) {
    this.lane = lane;
    this.frame = frame;
  }

  expired(): void {
    this.lane.due(this);
  }
}

/** One direction of a bad link. `forward` gets each frame with one reference, when its time has come. */
export class FaultLane {
  readonly counters = new FaultCounters();
  readonly #options: FaultOptions;
  readonly #around: FaultSurroundings;
  readonly #forward: (frame: HeapBuffer) => void;
  readonly #chance: Chance;
  readonly #held = new Set<Held>();
  /** When the last frame that was late is due: no frame in order goes before it. */
  #lastDue = Number.NEGATIVE_INFINITY;

  constructor(options: FaultOptions, around: FaultSurroundings, forward: (frame: HeapBuffer) => void) {
    this.#options = options;
    this.#around = around;
    this.#forward = forward;
    this.#chance = new Chance(options.seed);
  }

  /** Frames held back. */
  get held(): number {
    return this.#held.size;
  }

  /** Decides about one frame in two pieces, which are borrowed. */
  pass(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    const { loss = 0, duplication = 0, reordering = 0, corruption = 0, delayMs = 0, jitterMs = 0 } = this.#options;
    const chance = this.#chance;
    const { counters } = this;
    if (chance.happens(loss)) {
      counters.lost++;
      return;
    }
    const frame = this.#copy(packet, payload, payloadOffset, payloadLength);
    if (frame === null) return;
    const twin = chance.happens(duplication) ? this.#copy(packet, payload, payloadOffset, payloadLength) : null;
    if (chance.happens(corruption) && frame.length > ETHERNET_BYTES) {
      counters.corrupted++;
      const at = frame.offset + ETHERNET_BYTES + chance.below(frame.length - ETHERNET_BYTES);
      frame.memory[at] = frame.memory[at]! ^ (1 << chance.below(8));
    }
    const late = delayMs + (jitterMs > 0 ? (chance.below(1001) * jitterMs) / 1000 : 0);
    if (chance.happens(reordering)) {
      counters.reordered++;
      this.#hold(frame, this.#around.now() + late + (this.#options.reorderMs ?? 5));
    } else this.#later(frame, late);
    if (twin === null) return;
    counters.duplicated++;
    this.#later(twin, late);
  }

  /** Drops what is held back. */
  dispose(): void {
    for (const held of this.#held) {
      this.#around.timers.cancel(held.timer);
      held.frame.release();
    }
    this.#held.clear();
  }

  /** For Held. */
  due(held: Held): void {
    this.#held.delete(held);
    this.counters.passed++;
    this.#forward(held.frame);
  }

  #later(frame: HeapBuffer, late: number): void {
    const now = this.#around.now();
    if (late === 0 && this.#lastDue <= now) {
      this.counters.passed++;
      this.#forward(frame);
      return;
    }
    this.#lastDue = Math.max(this.#lastDue, now + late);
    this.counters.delayed++;
    this.#hold(frame, this.#lastDue);
  }

  #hold(frame: HeapBuffer, until: number): void {
    if (this.#held.size >= (this.#options.maxHeld ?? 1024)) {
      this.counters.overflowed++;
      frame.release();
      return;
    }
    const held = new Held(this, frame);
    this.#held.add(held);
    held.timer = this.#around.timers.schedule(until, held);
  }

  #copy(
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): HeapBuffer | null {
    const frame = this.#around.heap.tryAlloc(HEADROOM + packet.length + payloadLength);
    if (frame === null) {
      this.counters.overflowed++;
      return null;
    }
    frame.offset = frame.base + HEADROOM;
    frame.length = packet.length + payloadLength;
    frame.memory.set(packet.memory.subarray(packet.offset, packet.offset + packet.length), frame.offset);
    if (payload !== null) {
      const bytes = payload.memory.subarray(payloadOffset, payloadOffset + payloadLength);
      frame.memory.set(bytes, frame.offset + packet.length);
    }
    return frame;
  }
}

/** A device whose frames take a bad way out. */
export class FaultyDevice extends DeviceAround {
  readonly lane: FaultLane;

  constructor(inner: Device, options: FaultOptions, around: FaultSurroundings) {
    super(inner);
    this.lane = new FaultLane(options, around, (frame) => inner.transmit(frame, null, 0, 0));
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    this.lane.pass(packet, payload, payloadOffset, payloadLength);
    packet.release();
  }
}

/** A frame input that a bad way leads to. */
export class FaultyInput implements FrameInput {
  readonly lane: FaultLane;

  constructor(inner: FrameInput, options: FaultOptions, around: FaultSurroundings) {
    this.lane = new FaultLane(options, around, (frame) => {
      inner.input(frame);
      frame.release();
    });
  }

  input(frame: HeapBuffer): void {
    this.lane.pass(frame, null, 0, 0);
  }
}
