/**
 * A tap as the link below the stack: the frames that the host's kernel sends to an interface come here, and ours come in
 * there. It makes the interface, configures the host's side of it, and reads and writes one frame a call.
 *
 * The descriptor is always drained, also when the heap is used up: then only what holds no data for a program is taken
 * (acknowledgements, above all), into a frame kept back for it; so what fills the heap can go.
 */
import { ERRNO } from '../../errors.ts';
import type { DatapathWatch } from '../../kernel/datapath.ts';
import { NetworkSetup } from '../../linux/network-setup.ts';
import { PollSet } from '../../linux/poll.ts';
import { TapDevice } from '../../linux/tun.ts';
import { watchDescriptor } from '../../linux/watch.ts';
import { type Device, type FrameInput, NO_OFFLOADS } from '../../net/device.ts';
import { linkLocalOf } from '../../net/ip/words.ts';
import type { Stack } from '../../net/stack.ts';
import type { Heap, HeapBuffer, HeapOptions, SizeClass } from '../../ring/heap.ts';
import { mapHeap } from '../heap.ts';
import { Alarm } from '../stack/alarm.ts';
import { LINK_HEADROOM, type Link } from '../stack/link.ts';
import { holdsNoData } from './frame.ts';
import type { TapSpec } from './options.ts';

/** As the kernel datapath's, with the headroom; frames take the second. An odd number of cache lines each. */
const SIZE_CLASSES: readonly SizeClass[] = [
  { bytes: 320, count: 16384 },
  { bytes: 2240, count: 8192 },
  { bytes: 16704, count: 2048 },
  { bytes: 65728, count: 256 },
  { bytes: (1 << 20) + 192, count: 8 },
];
const LINK_HEADER_BYTES = 18;
/** Frames that the host's kernel keeps for us while we are busy: the windows of some twenty connections. */
const HOST_QUEUE = 4096;
/** Frames written in one turn of TCP's: the host's kernel takes each in the call, so there is no queue of ours to fill. */
const ROOM = 1024;

export interface TapLinkOptions {
  readonly spec: TapSpec;
  readonly heap?: HeapOptions;
}

export class TapLink implements Link, Device {
  readonly name = 'tap';
  readonly heap: Heap;
  readonly device = this;
  readonly scatterGather = true;
  readonly shared = null;
  readonly macHi: number;
  readonly macLo: number;
  readonly mtu: number;
  readonly offloads = NO_OFFLOADS;
  readonly interfaceName: string;
  readonly interfaceIndex: number;
  readonly #spec: TapSpec;
  readonly #tap: TapDevice;
  readonly #poll: PollSet;
  readonly #high: number;
  /** Address of the region. */
  readonly #base: number;
  readonly #frameBytes: number;
  /** The frame to be received into next, and the one kept back. */
  #frame: HeapBuffer | null = null;
  readonly #lastResort: HeapBuffer;
  /** The budget was used up: there may be more. */
  #more = false;
  #alarm: Alarm | null = null;
  #framesIn = 0;
  #framesOut = 0;
  #refused = 0;
  #starved = 0;

  /** @throws IsthmusError EPERM, EBUSY, ENOENT (tun.ts), ENOMEM; RangeError where a frame is larger than every buffer */
  constructor({ spec, heap = {} }: TapLinkOptions) {
    this.#spec = spec;
    this.#tap = new TapDevice(spec.interfaceName);
    this.interfaceName = this.#tap.name;
    const { index, mtu } = configure(this.#tap, spec);
    this.interfaceIndex = index;
    this.mtu = mtu;
    // Locally administered, unicast. The interface has an address of its own: the host's.
    const random = crypto.getRandomValues(new Int32Array(2));
    this.macHi = 0x0200 | (random[0]! & 0xff);
    this.macLo = random[1]!;
    this.#frameBytes = mtu + LINK_HEADER_BYTES;
    try {
      this.heap = mapHeap({ sizeClasses: SIZE_CLASSES, headroom: LINK_HEADROOM, ...heap });
      this.#lastResort = this.heap.alloc(this.#frameBytes);
      this.#poll = new PollSet(1);
    } catch (error) {
      this.#tap.close();
      throw error;
    }
    this.#poll.add(this.#tap.fd);
    const { addressHigh } = this.heap.region;
    this.#high = addressHigh;
    this.#base = addressHigh * 2 ** 32;
  }

  attach(stack: Stack, now: () => number): void {
    for (const { host, prefixLength } of this.#spec.own) stack.addAddress(host, prefixLength);
    if (this.#spec.own.some(({ host }) => host.includes(':'))) {
      stack.addAddress(linkLocalOf(this.macHi, this.macLo), 64);
    }
    for (const gateway of this.#spec.gateways) stack.addRoute(gateway.includes(':') ? '::' : '0.0.0.0', 0, gateway);
    this.#alarm = new Alarm(now, () => this.#onAlarm());
    stack.announce();
  }

  // ---- Frames in -----------------------------------------------------------------------------------------------

  receive(budget: number, input: FrameInput): number {
    const tap = this.#tap;
    const bytes = this.#frameBytes;
    let count = 0;
    this.#more = true;
    for (; count < budget; count++) {
      const frame = this.#frame ?? this.heap.tryAlloc(bytes);
      if (frame === null) {
        if (!this.#receiveStarved(input)) return count;
        continue;
      }
      this.#frame = frame;
      const got = tap.read(this.#base + frame.offset, bytes);
      if (got <= 0) {
        this.#more = false;
        return count;
      }
      this.#framesIn++;
      const { offset } = frame;
      frame.length = got;
      input.input(frame);
      // Whom nobody kept is used again as it is.
      if (frame.references === 1) frame.offset = offset;
      else {
        this.#frame = null;
        frame.release();
      }
    }
    return count;
  }

  /** @returns whether there was a frame */
  #receiveStarved(input: FrameInput): boolean {
    const frame = this.#lastResort;
    const { offset } = frame;
    const got = this.#tap.read(this.#base + offset, this.#frameBytes);
    if (got <= 0) {
      this.#more = false;
      return false;
    }
    this.#framesIn++;
    frame.length = got;
    if (holdsNoData(frame.memory, offset, got)) input.input(frame);
    else this.#starved++;
    frame.offset = offset;
    return true;
  }

  get arrived(): boolean {
    return this.#more;
  }

  // ---- Frames out ----------------------------------------------------------------------------------------------

  room(): number {
    return ROOM;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    const tap = this.#tap;
    const { offset, length } = packet;
    const sent =
      payload === null
        ? tap.write(this.#base + offset, length)
        : tap.writePieces(this.#high, offset, length, payloadOffset, payloadLength);
    if (sent < 0) this.#refused++;
    else this.#framesOut++;
    packet.release();
  }

  flush(): void {}

  // ---- Sleep ---------------------------------------------------------------------------------------------------

  sleep(waitUs: number): void {
    if (!this.#more) this.#poll.wait(waitUs);
  }

  #onReadable: () => void = () => {};

  #onAlarm(): void {
    this.#onReadable();
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    const watch = watchDescriptor(this.#tap.fd, onReadable);
    return {
      close: () => {
        this.#onReadable = () => {};
        watch.close();
      },
      ref: watch.ref,
      unref: watch.unref,
    };
  }

  arm(deadline: number): boolean {
    if (this.#more) return false;
    this.#alarm!.set(deadline);
    return true;
  }

  observe(): Record<string, number> {
    return {
      framesIn: this.#framesIn,
      framesOut: this.#framesOut,
      refused: this.#refused,
      starved: this.#starved,
    };
  }

  dispose(): void {
    this.#alarm?.clear();
    this.#frame?.release();
    this.#frame = null;
    this.#lastResort.release();
    this.#poll.close();
    this.#tap.close();
    this.heap.region.close();
  }
}

/** Brings the host's side up with its addresses. */
function configure(tap: TapDevice, spec: TapSpec): { index: number; mtu: number } {
  try {
    const setup = new NetworkSetup();
    try {
      const link = setup.link(tap.name)!;
      const mtu = spec.mtu === null ? {} : { mtu: spec.mtu };
      setup.setLink(link.index, { up: true, queueFrames: HOST_QUEUE, ...mtu });
      for (const { host, prefixLength } of spec.host) addAddress(setup, link.index, host, prefixLength);
      return { index: link.index, mtu: spec.mtu ?? link.mtu };
    } finally {
      setup.close();
    }
  } catch (error) {
    tap.close();
    throw error;
  }
}

function addAddress(setup: NetworkSetup, index: number, host: string, prefixLength: number): void {
  try {
    setup.addAddress(index, host, prefixLength);
  } catch (error) {
    // A tap that was there before may have it already.
    if ((error as { errno?: number }).errno !== -ERRNO.EEXIST) throw error;
  }
}
