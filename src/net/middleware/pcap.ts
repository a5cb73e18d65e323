/**
 * A pcapng file of the frames that pass (draft-ietf-opsawg-pcapng; Wireshark opens it), as bytes for whoever writes them
 * down. A device around a device, and a frame input in front of a frame input; frames themselves are only read.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { Device, FrameInput } from '../device.ts';
import { DeviceAround } from './around.ts';

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;
const OPTION_END = 0;
const IF_NAME = 2;
const EPB_FLAGS = 2;

export const Direction = { IN: 1, OUT: 2 } as const;

export interface PcapOptions {
  /** Name of the interface in the file. */
  readonly name?: string;
  /** Bytes kept of each frame. Default 65535. */
  readonly snapLength?: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Gets each block, whole; the array is its own. */
  readonly sink: (bytes: Uint8Array) => void;
}

/** Writes blocks in the little-endian form. */
export class PcapWriter {
  readonly #options: PcapOptions;
  readonly #snap: number;
  /** Frames written. */
  frames = 0;

  constructor(options: PcapOptions) {
    this.#options = options;
    this.#snap = options.snapLength ?? 65_535;
    options.sink(sectionHeader());
    options.sink(interfaceDescription(options.name ?? 'isthmus', this.#snap));
  }

  /** Writes down one frame in two pieces. */
  write(
    direction: number,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    const original = packet.length + payloadLength;
    const kept = Math.min(original, this.#snap);
    const first = Math.min(kept, packet.length);
    const block = new Block(ENHANCED_PACKET, 20 + pad(kept) + 12);
    // The unit is a microsecond where the interface says nothing else.
    const time = Math.floor(this.#options.now() * 1000);
    block.word(0);
    block.word(Math.floor(time / 2 ** 32));
    block.word(time);
    block.word(kept);
    block.word(original);
    block.bytes(packet.memory.subarray(packet.offset, packet.offset + first), pad(kept));
    if (payload !== null) block.put(payload.memory.subarray(payloadOffset, payloadOffset + kept - first), 28 + first);
    block.option(EPB_FLAGS, 4);
    block.word(direction);
    block.word(OPTION_END);
    this.frames++;
    this.#options.sink(block.end());
  }
}

/** A block: type, length, body, length again. */
class Block {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 8;

  constructor(type: number, body: number) {
    this.#bytes = new Uint8Array(12 + body);
    this.#view = new DataView(this.#bytes.buffer);
    this.#view.setUint32(0, type, true);
    this.#view.setUint32(4, 12 + body, true);
    this.#view.setUint32(8 + body, 12 + body, true);
  }

  word(value: number): void {
    this.#view.setUint32(this.#at, value >>> 0, true);
    this.#at += 4;
  }

  option(code: number, length: number): void {
    this.word(code | (length << 16));
  }

  bytes(source: Uint8Array, room: number): void {
    this.#bytes.set(source, this.#at);
    this.#at += room;
  }

  put(source: Uint8Array, at: number): void {
    this.#bytes.set(source, at);
  }

  end(): Uint8Array {
    return this.#bytes;
  }
}

function sectionHeader(): Uint8Array {
  const block = new Block(SECTION_HEADER, 16);
  block.word(BYTE_ORDER);
  // Version 1.0, and a section of unknown length.
  block.word(1);
  block.word(-1);
  block.word(-1);
  return block.end();
}

function interfaceDescription(name: string, snapLength: number): Uint8Array {
  const bytes = new TextEncoder().encode(name);
  const block = new Block(INTERFACE_DESCRIPTION, 8 + 4 + pad(bytes.length) + 4);
  block.word(LINKTYPE_ETHERNET);
  block.word(snapLength);
  block.option(IF_NAME, bytes.length);
  block.bytes(bytes, pad(bytes.length));
  block.word(OPTION_END);
  return block.end();
}

function pad(length: number): number {
  return (length + 3) & ~3;
}

/** A device whose outgoing frames are written down. */
export class PcapDevice extends DeviceAround {
  readonly #writer: PcapWriter;

  constructor(inner: Device, writer: PcapWriter) {
    super(inner);
    this.#writer = writer;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    this.#writer.write(Direction.OUT, packet, payload, payloadOffset, payloadLength);
    this.inner.transmit(packet, payload, payloadOffset, payloadLength);
  }
}

/** A frame input whose frames are written down before they go on. */
export class PcapInput implements FrameInput {
  readonly #inner: FrameInput;
  readonly #writer: PcapWriter;

  constructor(inner: FrameInput, writer: PcapWriter) {
    this.#inner = inner;
    this.#writer = writer;
  }

  input(frame: HeapBuffer): void {
    this.#writer.write(Direction.IN, frame, null, 0, 0);
    this.#inner.input(frame);
  }
}
