/**
 * A device of the stack over AF_XDP sockets: one for each queue, all over the heap's frames, for one thread.
 * It touches the sockets, their rings and the heap; what it receives goes to the input it is given.
 *
 * A frame that is being received, held by the program or being sent is a buffer of the heap with a reference for each
 * holder. The kernel holds one for each frame in a fill ring or in flight.
 */
import { ERRNO } from '../../errors.ts';
import { XdpSocket } from '../../linux/af-xdp.ts';
import { METADATA_BYTES, requestChecksum, TRANSMIT_METADATA } from '../../linux/xdp-metadata.ts';
import { type Device, type DeviceOffloads, type FrameInput, NO_OFFLOADS } from '../../net/device.ts';
import { partialChecksum } from '../../net/wire/partial.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { type FrameHeap, largestMtu, SMALL_BYTES } from './heap.ts';

const SMALL_SHIFT = Math.log2(SMALL_BYTES);
const CACHE_LINE_BYTES = 64;
/** Frames taken from a queue in one go. */
const MOST_AT_ONCE = 256;

export interface XdpDeviceOptions {
  readonly interfaceIndex: number;
  readonly mac: string;
  readonly mtu: number;
  /** Queues of the interface to open; frames are sent on the first. */
  readonly queues: readonly number[];
  readonly frames: FrameHeap;
  readonly zeroCopy: 'try' | 'never';
  /**
   * Frames given to the kernel for receiving, of each queue: at first, and at most, since twice as many are given whenever
   * half of them have come at once. Powers of two. Default 512 and 4096.
   */
  readonly receiveFrames?: number;
  readonly maxReceiveFrames?: number;
  /** Frames sent at most before their completion; a power of two. Default 2048. */
  readonly transmitFrames?: number;
  /** Of the interface; without `transmitPartial` where the kernel cannot be asked to complete checksums. Default none. */
  readonly offloads?: DeviceOffloads;
}

export class XdpDeviceCounters {
  /** Frames received and sent. */
  framesIn = 0;
  framesOut = 0;
  /** Frames that had to be copied to be sent: they did not lie in one frame of the UMEM, or with too little before them. */
  copied = 0;
  /** Frames dropped here: no room in the ring, no buffer to copy to. */
  dropped = 0;
  /** Times that a queue could not get all the frames it should have for receiving. */
  starved = 0;
  /** Calls that had the kernel send. */
  kicks = 0;
}

/** One queue. Plain data for the device's loops. */
class Lane {
  readonly socket: XdpSocket;
  /** Frames that the kernel has for receiving, or has received into; and how many it should have. */
  outstanding = 0;
  target: number;

  constructor(socket: XdpSocket, target: number) {
    this.socket = socket;
    this.target = target;
  }
}

/** What the link needs of a device beside sending: there are those with sockets, and those without (passed-device.ts). */
export type LinkDevice = Pick<
  XdpDevice,
  | keyof Device
  | 'counters'
  | 'sockets'
  | 'receive'
  | 'arrived'
  | 'receiving'
  | 'sending'
  | 'starving'
  | 'replenish'
  | 'stuck'
  | 'retry'
  | 'close'
>;

export class XdpDevice implements Device {
  readonly macHi: number;
  readonly macLo: number;
  readonly mtu: number;
  readonly offloads: DeviceOffloads;
  readonly counters = new XdpDeviceCounters();
  readonly #heap: Heap;
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #lanes: Lane[] = [];
  readonly #transmitter: XdpSocket;
  readonly #maxTarget: number;
  readonly #base: number;
  readonly #end: number;
  readonly #frameBytes: number;
  readonly #frameShift: number;
  /** The heap's buffers, and which of them is the first frame; those below the size of a frame lie behind the frames. */
  readonly #buffers: readonly HeapBuffer[];
  readonly #firstFrame: number;
  readonly #framesEnd: number;
  /** Which buffer each block of the smallest size belongs to, behind the frames. */
  readonly #smaller: Int32Array;
  readonly #maxInFlight: number;
  /** Before each frame to be sent; 0 where none can be told of. */
  readonly #metadataBytes: number;
  /** Frames that may be sent before the room is measured again; 0: it is to be measured. */
  #room = 0;
  /** Frames in the transmit ring that the kernel was not told of. */
  #unsent = 0;
  /** The kernel did not send all, and must be called again. */
  #again = false;
  #starving = false;
  /** Where the frames of the batch begin, and what {@link #fetch} has read: unused, the reading would be optimized away. */
  readonly #offsets = new Int32Array(MOST_AT_ONCE);
  readonly #fetched = new Uint8Array(1);
  /** Queue to begin with, so that no queue starves the others. */
  #turn = 0;
  #open = true;

  /** @throws IsthmusError EBUSY where a queue is taken, ENOBUFS, EINVAL where there is no such queue */
  constructor(options: XdpDeviceOptions) {
    const { frames, queues } = options;
    const { heap, frameBytes } = frames;
    [this.macHi, this.macLo] = macWords(options.mac);
    this.mtu = Math.min(options.mtu, largestMtu(frameBytes));
    const { receivePartial, transmitPartial } = options.offloads ?? NO_OFFLOADS;
    this.#heap = heap;
    this.#memory = heap.region.u8;
    this.#view = heap.view;
    // Half of the frames are the program's.
    const share = 2 ** Math.floor(Math.log2(Math.max(2, frames.count / 2 / queues.length)));
    this.#maxTarget = Math.min(share, options.maxReceiveFrames ?? 4096);
    const target = Math.min(this.#maxTarget, options.receiveFrames ?? 512);
    this.#base = frames.offset;
    this.#end = frames.offset + frames.byteLength;
    this.#frameBytes = frameBytes;
    this.#frameShift = Math.log2(frameBytes);
    const transmitEntries = options.transmitFrames ?? 2048;
    this.#maxInFlight = 2 * transmitEntries;
    this.#buffers = heap.buffers;
    this.#firstFrame = heap.buffers.findIndex(({ base }) => base === frames.offset);
    this.#framesEnd = frames.offset + frames.count * frameBytes;
    this.#smaller = smallerBuffers(heap, this.#firstFrame + frames.count, this.#end);
    try {
      for (const queue of queues) {
        const shareWith = this.#lanes[0]?.socket;
        const socket = new XdpSocket({
          interfaceIndex: options.interfaceIndex,
          queue,
          memory: heap.region,
          offset: frames.offset,
          byteLength: frames.byteLength,
          frameBytes,
          receiveEntries: this.#maxTarget,
          transmitEntries,
          fillEntries: this.#maxTarget,
          completionEntries: this.#maxInFlight,
          zeroCopy: options.zeroCopy,
          metadataBytes: transmitPartial ? METADATA_BYTES : 0,
          ...(shareWith && { shareWith }),
        });
        this.#lanes.push(new Lane(socket, target));
      }
      this.#transmitter = this.#lanes[0]!.socket;
      this.#metadataBytes = this.#transmitter.metadataBytes;
      this.offloads = { receivePartial, transmitPartial: this.#metadataBytes > 0 };
      this.replenish();
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  get sockets(): readonly XdpSocket[] {
    return this.#lanes.map(({ socket }) => socket);
  }

  /** A queue has fewer frames for receiving than it should, because the heap had none. */
  get starving(): boolean {
    return this.#starving;
  }

  /** Frames that the kernel has for receiving: buffers of the heap that nobody else has. */
  get receiving(): number {
    let sum = 0;
    for (const { outstanding } of this.#lanes) sum += outstanding;
    return sum;
  }

  /** Frames in flight. */
  get sending(): number {
    return this.#transmitter.transmitting;
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  /** Frames have arrived. No system call. */
  get arrived(): boolean {
    const lanes = this.#lanes;
    for (let i = 0; i < lanes.length; i++) if (lanes[i]!.socket.receiveRing.available() > 0) return true;
    return false;
  }

  /**
   * Takes back what was sent, then hands at most `budget` frames to `input`, each to its end. No system call, but where
   * the kernel waits to be told of new memory.
   * @returns how many frames there were
   */
  receive(input: FrameInput, budget: number): number {
    if (this.#transmitter.transmitting > 0) this.#reap();
    if (this.#starving) this.replenish();
    const lanes = this.#lanes;
    if (lanes.length === 1) return this.#receiveFrom(lanes[0]!, input, budget);
    let did = 0;
    const first = this.#turn;
    this.#turn = first + 1 === lanes.length ? 0 : first + 1;
    for (let i = 0; i < lanes.length && did < budget; i++) {
      did += this.#receiveFrom(lanes[(first + i) % lanes.length]!, input, budget - did);
    }
    return did;
  }

  #receiveFrom(lane: Lane, input: FrameInput, budget: number): number {
    const { socket } = lane;
    const available = socket.receiveRing.available();
    if (available === 0) return 0;
    const buffers = this.#buffers;
    const firstFrame = this.#firstFrame;
    const shift = this.#frameShift;
    const offsets = this.#offsets;
    const count = Math.min(available, budget, offsets.length);
    this.#fetch(socket, count);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const offset = offsets[i]!;
      const buffer = buffers[firstFrame + ((offset - this.#base) >> shift)]!;
      buffer.offset = offset;
      buffer.length = socket.receivedLength(i);
      buffer.peerLength = 0;
      input.input(buffer);
      // Let go by everybody: the chunk goes straight back to the kernel.
      if (buffer.references === 1) socket.fill(buffer.base);
      else {
        buffer.references--;
        kept++;
      }
    }
    socket.releaseReceived(count);
    this.counters.framesIn += count;
    lane.outstanding -= kept;
    if (2 * available > lane.target && lane.target < this.#maxTarget) lane.target *= 2;
    if (lane.outstanding < lane.target) this.#fill(lane);
    socket.publishFill();
    return count;
  }

  /**
   * Reads a byte of each frame's headers and of what follows them, and its buffer. The frames lie in the cache of whoever
   * wrote them, and the buffers were last used hundreds of frames ago: here the processor waits for many at once, in the
   * stack it would wait for one after the other, a twentieth of its time.
   */
  #fetch(socket: XdpSocket, count: number): void {
    const memory = this.#memory;
    const offsets = this.#offsets;
    const buffers = this.#buffers;
    const firstFrame = this.#firstFrame;
    const base = this.#base;
    const shift = this.#frameShift;
    let bits = 0;
    for (let i = 0; i < count; i++) {
      const offset = socket.receivedOffset(i);
      offsets[i] = offset;
      const { references } = buffers[firstFrame + ((offset - base) >> shift)]!;
      bits |= memory[offset]! | memory[offset + CACHE_LINE_BYTES]! | references;
    }
    this.#fetched[0] = bits;
  }

  /** Gives every queue the frames that it should have for receiving, as far as the heap has some. */
  replenish(): void {
    this.#starving = false;
    for (const lane of this.#lanes) {
      if (lane.outstanding >= lane.target) continue;
      this.#fill(lane);
      lane.socket.publishFill();
    }
  }

  #fill(lane: Lane): void {
    const { socket } = lane;
    const heap = this.#heap;
    const frameBytes = this.#frameBytes;
    let missing = lane.target - lane.outstanding;
    for (; missing > 0; missing--) {
      const buffer = heap.tryAlloc(frameBytes - heap.headroom);
      if (buffer === null) break;
      if (buffer.capacity !== frameBytes) {
        buffer.release(); // frames have run out, and the next class is not of the UMEM
        break;
      }
      socket.fill(buffer.base);
    }
    lane.outstanding = lane.target - missing;
    if (missing > 0) {
      this.#starving = true;
      this.counters.starved++;
    }
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  room(): number {
    if (this.#room === 0) {
      const socket = this.#transmitter;
      // The completion ring must have a place for each.
      this.#room = Math.min(socket.transmitRoom(), this.#maxInFlight - socket.transmitting);
    }
    return this.#room;
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    if (this.room() === 0) {
      this.counters.dropped++;
      packet.release();
      return;
    }
    let frame = packet;
    const { base } = packet;
    // A buffer of the UMEM lies in one chunk, and what it holds does too.
    const isFrame = payload === null && base >= this.#base && base < this.#end;
    if (!isFrame || packet.offset - base < this.#metadataBytes) {
      const copy = this.#copy(packet, payload, payloadOffset, payloadLength);
      packet.release();
      if (copy === null) return;
      frame = copy;
    }
    this.#transmitter.transmit(frame.offset, frame.length, this.#metadataBytes === 0 ? 0 : this.#tell(frame));
    this.#room--;
    this.#unsent++;
  }

  /** Asks for the whole checksum of a frame that has a partial one. @returns the descriptor's options */
  #tell({ offset, length }: HeapBuffer): number {
    const place = partialChecksum(this.#view, offset, length);
    if (place === 0) return 0;
    requestChecksum(this.#view, offset, place);
    return TRANSMIT_METADATA;
  }

  /** A frame in one piece; null (and counted) where there is no buffer. */
  #copy(
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): HeapBuffer | null {
    const length = packet.length + payloadLength;
    const copy = this.#heap.tryAlloc(length);
    if (copy === null || copy.base < this.#base) {
      copy?.release();
      this.counters.dropped++;
      return null;
    }
    this.counters.copied++;
    const { memory } = copy;
    memory.copyWithin(copy.offset, packet.offset, packet.offset + packet.length);
    if (payload !== null) {
      memory.copyWithin(copy.offset + packet.length, payloadOffset, payloadOffset + payloadLength);
    }
    return copy;
  }

  flush(): void {
    if (this.#unsent === 0) return;
    const socket = this.#transmitter;
    this.counters.framesOut += this.#unsent;
    this.#unsent = 0;
    socket.transmitRing.publish();
    this.#kick();
    // What is left of the room may be less than there is now: a datagram of many pieces would be refused for it.
    this.#room = 0;
  }

  #kick(): void {
    this.counters.kicks++;
    const result = this.#transmitter.kick();
    this.#again = result === -ERRNO.EAGAIN || result === -ERRNO.EBUSY || result === -ERRNO.ENOBUFS;
  }

  /** The kernel has frames of ours that it only sends when it is called again. */
  get stuck(): boolean {
    return this.#again;
  }

  /** The interface was changed: what it refused before may go now. */
  retry(): void {
    if (this.#transmitter.transmitting > 0) this.#kick();
  }

  #reap(): void {
    const socket = this.#transmitter;
    const count = socket.completions(this.#maxInFlight);
    if (count > 0) {
      for (let i = 0; i < count; i++) this.#bufferAt(socket.completedOffset(i)).release();
      socket.releaseCompletions(count);
    }
    if (this.#again) this.#kick();
  }

  #bufferAt(offset: number): HeapBuffer {
    const behind = offset - this.#framesEnd;
    const index =
      behind < 0
        ? this.#firstFrame + ((offset - this.#base) >> this.#frameShift)
        : this.#smaller[behind >> SMALL_SHIFT]!;
    return this.#buffers[index]!;
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  /** Gives the frames in flight some time to leave, then closes the sockets. Buffers go with the heap. Idempotent. */
  close(drainMs = 100): void {
    if (!this.#open) return;
    this.flush();
    const until = performance.now() + drainMs;
    while (this.#transmitter.transmitting > 0 && performance.now() < until) this.#reap();
    this.#close();
  }

  #close(): void {
    this.#open = false;
    for (let i = this.#lanes.length - 1; i >= 0; i--) this.#lanes[i]!.socket.close();
  }
}

/** The first 16 and the last 32 bits of a station's address. */
export function macWords(text: string): [hi: number, lo: number] {
  const bytes = text.split(':').map((byte) => Number.parseInt(byte, 16));
  return [(bytes[0]! << 8) | bytes[1]!, (bytes[2]! << 24) | (bytes[3]! << 16) | (bytes[4]! << 8) | bytes[5]!];
}

/** For each block of the smallest size from the buffer number `first` to `end`: the number of its buffer. */
function smallerBuffers({ buffers }: Heap, first: number, end: number): Int32Array {
  const numbers: number[] = [];
  for (let index = first; index < buffers.length && buffers[index]!.base < end; index++) {
    const blocks = buffers[index]!.capacity >> SMALL_SHIFT;
    for (let block = 0; block < blocks; block++) numbers.push(index);
  }
  return Int32Array.from(numbers);
}
