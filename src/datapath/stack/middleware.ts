/**
 * What may stand between a stack and its link: faults by seed, a capture, a trace (net/middleware), once for every link.
 * Pure: captures and lines go to the sinks it is given. A capture and a trace show what is on the wire.
 */
import { type Device, type FrameInput, NO_OFFLOADS } from '../../net/device.ts';
import { type FaultOptions, type FaultSurroundings, FaultyDevice, FaultyInput } from '../../net/middleware/faults.ts';
import { PcapDevice, PcapInput, PcapWriter } from '../../net/middleware/pcap.ts';
import { TraceDevice, TraceInput, type TraceSink } from '../../net/middleware/trace.ts';
import { completeFrame } from '../../net/wire/partial.ts';
import type { HeapBuffer } from '../../ring/heap.ts';

export interface MiddlewareOptions {
  /** In both directions, each with chance of its own. */
  readonly faults?: FaultOptions;
  /** Gets each block of a pcapng file. */
  readonly pcap?: (bytes: Uint8Array) => void;
  readonly trace?: TraceSink;
  /** Called when the datapath ends. */
  readonly close?: () => void;
}

export class Middleware {
  readonly device: Device;
  readonly #options: MiddlewareOptions;
  readonly #around: FaultSurroundings;
  readonly #writer: PcapWriter | null;

  constructor(device: Device, options: MiddlewareOptions, around: FaultSurroundings, name: string) {
    const { faults, pcap, trace } = options;
    // The file has the time of day.
    const sinceEpoch = Date.now() - around.now();
    this.#options = options;
    this.#around = around;
    this.#writer =
      pcap === undefined ? null : new PcapWriter({ name, now: () => sinceEpoch + around.now(), sink: pcap });
    if (trace !== undefined) device = new TraceDevice(device, around.now, trace);
    if (this.#writer !== null) device = new PcapDevice(device, this.#writer);
    if (faults !== undefined) device = new WholeChecksums(new FaultyDevice(device, faults, around));
    this.device = device;
  }

  /** What frames from the link are given to on their way to `input`. */
  input(input: FrameInput): FrameInput {
    const { faults, trace } = this.#options;
    if (faults !== undefined) {
      input = new WholeChecksumsInput(new FaultyInput(input, { ...faults, seed: ~faults.seed }, this.#around));
    }
    if (this.#writer !== null) input = new PcapInput(input, this.#writer);
    if (trace !== undefined) input = new TraceInput(input, this.#around.now, trace);
    return input;
  }
}

/** Frames go to be corrupted: only a whole checksum shows it. */
class WholeChecksums implements Device {
  readonly offloads = NO_OFFLOADS;
  readonly #inner: Device;

  constructor(inner: Device) {
    this.#inner = inner;
  }

  get macHi(): number {
    return this.#inner.macHi;
  }

  get macLo(): number {
    return this.#inner.macLo;
  }

  get mtu(): number {
    return this.#inner.mtu;
  }

  room(): number {
    return this.#inner.room();
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    this.#inner.transmit(packet, payload, payloadOffset, payloadLength);
  }

  flush(): void {
    this.#inner.flush();
  }
}

/** The same for frames that come in, in place. */
class WholeChecksumsInput implements FrameInput {
  readonly #inner: FrameInput;

  constructor(inner: FrameInput) {
    this.#inner = inner;
  }

  input(frame: HeapBuffer): void {
    completeFrame(frame.view, frame.offset, frame.length);
    this.#inner.input(frame);
  }
}
