/**
 * AF_XDP sockets (kernel Documentation/networking/af_xdp.rst): frames of one queue of an interface in memory that this
 * process and the kernel share. It makes the socket in the calling thread's network namespace, registers the memory
 * (UMEM) and maps the four rings; it sees frames only where an XDP filter redirects them to it.
 *
 * Offsets of frames are offsets in the region, as everywhere in Isthmus; the rings hold offsets in the UMEM, which is the
 * part of the region from `offset` on. A frame received lies in a chunk of `frameBytes` and starts some 256 bytes into
 * it. Frames are not scattered over chunks (no XDP_USE_SG), so the MTU must be at most `frameBytes` − 256 − 18.
 */
import { ERRNO, IsthmusError } from '../errors.ts';
import { XdpRing } from './af-xdp-ring.ts';
import {
  AF_XDP,
  addressOf,
  bindXdp,
  checkUmem,
  FLAG_COPY,
  FLAG_NEED_WAKEUP,
  FLAG_SHARED_UMEM,
  FLAG_ZEROCOPY,
  type FrameMemory,
  OPTIONS_ZEROCOPY,
  Option,
  PAGE_OFFSET,
  readOption,
  registerUmem,
  ringOffsets,
  SOL_XDP,
  trySetOption,
} from './af-xdp-setup.ts';
import { close } from './libc.ts';
import { MSG_DONTWAIT, recv, SO_BUSY_POLL, SOCK_RAW, SOL_SOCKET, send, setsockopt, socket } from './socket.ts';

/** Bytes that the kernel keeps free in front of a frame for the XDP program (linux/bpf.h). */
export const XDP_PACKET_HEADROOM = 256;

const COPY_FLAG = { try: 0, never: FLAG_COPY, must: FLAG_ZEROCOPY } as const;
const SO_PREFER_BUSY_POLL = 69;
const SO_BUSY_POLL_BUDGET = 70;
const MAX_ENTRIES = 1 << 15;

export interface XdpSocketOptions {
  readonly interfaceIndex: number;
  readonly queue: number;
  readonly memory: FrameMemory;
  /** The part of `memory` that is the UMEM: whole pages from `offset` on. Default: all of it, in whole frames. */
  readonly offset?: number;
  readonly byteLength?: number;
  /** Size of a chunk: 2048, or 4096 where pages have that size. Default 2048. */
  readonly frameBytes?: number;
  /** Descriptors of each ring, powers of two up to 32768. Default 2048; fill and completion default to twice as much. */
  readonly receiveEntries?: number;
  readonly transmitEntries?: number;
  readonly fillEntries?: number;
  readonly completionEntries?: number;
  /** try: where the driver can. Default try; {@link XdpSocket.zeroCopy} says what was got. */
  readonly zeroCopy?: 'try' | 'never' | 'must';
  /** Let the kernel sleep and be told. Default true; without it the driver spins where it can. */
  readonly needWakeup?: boolean;
  /**
   * Bytes before each frame to be sent that tell the kernel of it (xdp-metadata.ts). Default 0; what the kernel does not know
   * is none ({@link XdpSocket.metadataBytes} says what was got).
   */
  readonly metadataBytes?: number;
  /** Use the UMEM of this socket, which must have the same `memory`. Of the same queue: also its fill and completion rings. */
  readonly shareWith?: XdpSocket;
  /** Poll the device from our own calls (SO_BUSY_POLL): microseconds, and frames at most. */
  readonly busyPoll?: { readonly us: number; readonly budget: number };
}

export interface XdpStatistics {
  /** Frames that did not get into the receive ring: for want of memory, or too long; because it was full; because the fill ring was empty. */
  readonly receiveDropped: number;
  readonly receiveRingFull: number;
  readonly fillRingEmpty: number;
  /** Descriptors that the kernel refused: in the fill ring, in the transmit ring. */
  readonly fillInvalid: number;
  readonly transmitInvalid: number;
  /** Times that the kernel looked for something to send and found nothing. */
  readonly transmitRingEmpty: number;
}

/**
 * A socket. Its methods allocate nothing. Per turn: `receive`, read the frames, `releaseReceived`; `fill` as many and
 * `publishFill`; `transmit` what there is and `submit` once; `completions`, `releaseCompletions`.
 */
export class XdpSocket {
  readonly fd: number;
  readonly interfaceIndex: number;
  readonly queue: number;
  readonly frameBytes: number;
  /** The UMEM: from `base` of the region, `umemBytes` long. */
  readonly base: number;
  readonly umemBytes: number;
  /** Bytes that belong to each frame to be sent, right before it and in its chunk. */
  readonly metadataBytes: number;
  /** Whether the driver reads and writes the frames in place, or the kernel copies them. */
  readonly zeroCopy: boolean;
  /** Whether the busy-poll options that were asked for are in force. */
  readonly busyPolling: boolean;
  readonly receiveRing: XdpRing;
  readonly transmitRing: XdpRing;
  readonly fillRing: XdpRing;
  readonly completionRing: XdpRing;
  /** Frames handed to the kernel for sending whose completion was not taken yet (on a shared ring: by anybody). */
  transmitting = 0;
  readonly #needWakeup: boolean;
  readonly #frameMask: number;
  readonly #ownRings: boolean;
  readonly #memory: FrameMemory;
  #open = true;

  /**
   * @throws IsthmusError EPERM without CAP_NET_RAW, ENOBUFS beyond RLIMIT_MEMLOCK, EBUSY where the queue has a socket,
   *   EOPNOTSUPP where `zeroCopy` must be and cannot, ENODEV, ENETDOWN
   */
  constructor(options: XdpSocketOptions) {
    const { interfaceIndex, queue, memory, shareWith = null } = options;
    const frameBytes = shareWith?.frameBytes ?? options.frameBytes ?? 2048;
    const base = shareWith?.base ?? options.offset ?? 0;
    const whole = Math.floor((memory.byteLength - base) / frameBytes) * frameBytes;
    const umemBytes = shareWith?.umemBytes ?? options.byteLength ?? whole;
    checkUmem(memory, base, umemBytes, frameBytes);
    if (shareWith !== null && shareWith.#memory !== memory) throw new TypeError('sockets share a UMEM of one memory');
    this.interfaceIndex = interfaceIndex;
    this.queue = queue;
    this.frameBytes = frameBytes;
    this.base = base;
    this.umemBytes = umemBytes;
    this.#memory = memory;
    this.#frameMask = frameBytes - 1;
    this.#needWakeup = shareWith === null ? (options.needWakeup ?? true) : shareWith.#needWakeup;
    const sameQueue = shareWith?.interfaceIndex === interfaceIndex && shareWith.queue === queue;
    this.#ownRings = !sameQueue;
    const receiveEntries = ringEntries(options.receiveEntries ?? 2048);
    const transmitEntries = ringEntries(options.transmitEntries ?? 2048);
    const fillEntries = ringEntries(options.fillEntries ?? Math.min(2 * receiveEntries, MAX_ENTRIES));
    const completionEntries = ringEntries(options.completionEntries ?? Math.min(2 * transmitEntries, MAX_ENTRIES));
    const mapped: XdpRing[] = [];
    this.fd = socket(AF_XDP, SOCK_RAW, 0);
    try {
      this.metadataBytes = shareWith?.metadataBytes ?? this.#register(options.metadataBytes ?? 0);
      setsockopt(this.fd, SOL_XDP, Option.RX_RING, receiveEntries);
      setsockopt(this.fd, SOL_XDP, Option.TX_RING, transmitEntries);
      if (this.#ownRings) {
        setsockopt(this.fd, SOL_XDP, Option.FILL_RING, fillEntries);
        setsockopt(this.fd, SOL_XDP, Option.COMPLETION_RING, completionEntries);
      }
      const offsets = ringOffsets(this.fd);
      const map = (name: keyof typeof PAGE_OFFSET, which: number, entries: number, bytes: number): XdpRing => {
        const ring = new XdpRing(this.fd, name, PAGE_OFFSET[name], entries, offsets[which]!, bytes);
        mapped.push(ring);
        return ring;
      };
      this.receiveRing = map('receive', 0, receiveEntries, 16);
      this.transmitRing = map('transmit', 1, transmitEntries, 16);
      this.fillRing = sameQueue ? shareWith.fillRing : map('fill', 2, fillEntries, 8);
      this.completionRing = sameQueue ? shareWith.completionRing : map('completion', 3, completionEntries, 8);
      this.busyPolling = this.#setBusyPoll(options.busyPoll);
      const copy = COPY_FLAG[options.zeroCopy ?? 'try'] | (this.#needWakeup ? FLAG_NEED_WAKEUP : 0);
      // A second socket takes the modes of the first; the kernel refuses flags for them.
      bindXdp(this.fd, interfaceIndex, queue, shareWith === null ? copy : FLAG_SHARED_UMEM, shareWith?.fd ?? 0);
      this.zeroCopy = (readOption(this.fd, Option.OPTIONS, 1)[0]! & OPTIONS_ZEROCOPY) !== 0;
      // Copy mode sends 32 frames a call unless it may send more (kernel 6.17); older ones need more calls.
      trySetOption(this.fd, SOL_XDP, Option.MAX_TX_BUDGET, transmitEntries);
    } catch (error) {
      for (const ring of mapped) ring.close();
      close(this.fd);
      throw error;
    }
  }

  /** @returns bytes of metadata */
  #register(metadataBytes: number): number {
    const address = addressOf(this.#memory) + this.base;
    try {
      registerUmem(this.fd, address, this.umemBytes, this.frameBytes, metadataBytes);
      return metadataBytes;
    } catch (error) {
      const unknown = error instanceof IsthmusError && error.errno === -ERRNO.EINVAL && metadataBytes > 0;
      if (!unknown) throw error;
      registerUmem(this.fd, address, this.umemBytes, this.frameBytes, 0);
      return 0;
    }
  }

  /** Frames to read now, at most `limit`. Then read number 0 … n − 1. Hot. */
  receive(limit: number): number {
    return Math.min(this.receiveRing.available(), limit);
  }

  /** Where the data of received frame number `i` starts, in the region. @throws IsthmusError ERR_RING_CORRUPT */
  receivedOffset(i: number): number {
    const ring = this.receiveRing;
    const d = ring.descriptors + (((ring.index + i) & ring.mask) << 2);
    const { words } = ring;
    const low = words[d]!;
    const length = words[d + 2]!;
    const inChunk = low & this.#frameMask;
    const bad =
      low < 0 || low >= this.umemBytes || words[d + 1] !== 0 || length < 0 || length > this.frameBytes - inChunk;
    if (bad) throw ring.corrupt(`a frame of ${length} bytes at ${low} of ${this.umemBytes}`);
    return this.base + low;
  }

  /** Bytes of received frame number `i`; {@link receivedOffset} has checked them. */
  receivedLength(i: number): number {
    const ring = this.receiveRing;
    return ring.words[ring.descriptors + (((ring.index + i) & ring.mask) << 2) + 2]!;
  }

  /** The descriptors of the first `count` frames are the kernel's again; their memory is ours until it is filled in again. */
  releaseReceived(count: number): void {
    const ring = this.receiveRing;
    ring.index = (ring.index + count) | 0;
    ring.release();
  }

  /** Chunks that {@link fill} takes now. */
  fillRoom(): number {
    return this.fillRing.room();
  }

  /** Gives the kernel the chunk with this offset in the region to receive into. Look at `fillRoom` before. Hot. */
  fill(offset: number): void {
    const low = offset - this.base;
    if (low < 0 || low >= this.umemBytes) throw new RangeError(`offset ${offset} is not in the UMEM`);
    const ring = this.fillRing;
    const d = ring.descriptors + ((ring.index & ring.mask) << 1);
    ring.words[d] = low & ~this.#frameMask;
    ring.words[d + 1] = 0;
    ring.index = (ring.index + 1) | 0;
  }

  /** The filled chunks are the kernel's; wakes it if it waits for some. 0 or −errno. */
  publishFill(): number {
    const ring = this.fillRing;
    ring.publish();
    if (!this.#needWakeup || !ring.needsWakeup) return 0;
    const result = recv(this.fd, 0, 0, MSG_DONTWAIT);
    return result < 0 && result !== -ERRNO.EAGAIN ? result : 0;
  }

  /** Frames that {@link transmit} takes now. */
  transmitRoom(): number {
    return this.transmitRing.room();
  }

  /**
   * Puts one frame into the transmit ring. It must lie in one chunk, with its metadata before it. Look at `transmitRoom`
   * before. Hot.
   * @param options 0, or TRANSMIT_METADATA
   */
  transmit(offset: number, length: number, options = 0): void {
    const low = offset - this.base;
    const inChunk = low & this.#frameMask;
    const fits = low >= 0 && length > 0 && low + length <= this.umemBytes;
    // The kernel takes no frame without room for metadata, though it has none.
    if (!fits || inChunk + length > this.frameBytes || inChunk < this.metadataBytes) {
      throw new RangeError(`${length} bytes at ${offset} are not in one chunk of the UMEM`);
    }
    const ring = this.transmitRing;
    const d = ring.descriptors + ((ring.index & ring.mask) << 2);
    const { words } = ring;
    words[d] = low;
    words[d + 1] = 0;
    words[d + 2] = length;
    words[d + 3] = options;
    ring.index = (ring.index + 1) | 0;
    this.transmitting++;
  }

  /** The frames put in are the kernel's: publishes them and calls it if it must be told. As {@link kick}. */
  submit(): number {
    this.transmitRing.publish();
    return this.kick();
  }

  /**
   * Has the kernel send what is in the transmit ring, if it must be told: 0, or −errno. −EAGAIN, −EBUSY and −ENOBUFS:
   * not all was sent, take completions and kick again; −ENETDOWN, −ENXIO: the interface is down or gone. In copy mode
   * this call does the sending.
   */
  kick(): number {
    if (this.#needWakeup && !this.transmitRing.needsWakeup) return 0;
    return send(this.fd, 0, 0, MSG_DONTWAIT);
  }

  /** Frames sent whose memory is ours again, at most `limit`. Then read number 0 … n − 1. Hot. */
  completions(limit: number): number {
    return Math.min(this.completionRing.available(), limit);
  }

  /** Offset in the region of sent frame number `i`, as it was given to {@link transmit}. @throws ERR_RING_CORRUPT */
  completedOffset(i: number): number {
    const ring = this.completionRing;
    const d = ring.descriptors + (((ring.index + i) & ring.mask) << 1);
    const low = ring.words[d]!;
    if (low < 0 || low >= this.umemBytes || ring.words[d + 1] !== 0) {
      throw ring.corrupt(`a completion at ${low} of ${this.umemBytes}`);
    }
    return this.base + low;
  }

  releaseCompletions(count: number): void {
    const ring = this.completionRing;
    ring.index = (ring.index + count) | 0;
    ring.release();
    this.transmitting -= count;
  }

  /** What the kernel has counted for this socket. For looking at; allocates. */
  statistics(): XdpStatistics {
    const words = readOption(this.fd, Option.STATISTICS, 12);
    const counter = (i: number): number => words[2 * i]! + words[2 * i + 1]! * 2 ** 32;
    return {
      receiveDropped: counter(0),
      fillInvalid: counter(1),
      transmitInvalid: counter(2),
      receiveRingFull: counter(3),
      fillRingEmpty: counter(4),
      transmitRingEmpty: counter(5),
    };
  }

  /** Ends the socket; the kernel forgets every frame it had. Close the watch on `fd` before. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.receiveRing.close();
    this.transmitRing.close();
    if (this.#ownRings) {
      this.fillRing.close();
      this.completionRing.close();
    }
    close(this.fd);
  }

  #setBusyPoll(busyPoll: XdpSocketOptions['busyPoll']): boolean {
    if (busyPoll === undefined) return false;
    return (
      trySetOption(this.fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1) &&
      trySetOption(this.fd, SOL_SOCKET, SO_BUSY_POLL, busyPoll.us) &&
      trySetOption(this.fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, busyPoll.budget)
    );
  }
}

function ringEntries(entries: number): number {
  const valid = Number.isInteger(entries) && entries >= 1 && entries <= MAX_ENTRIES && (entries & (entries - 1)) === 0;
  if (!valid) throw new RangeError(`a ring of ${entries}; powers of two up to ${MAX_ENTRIES}`);
  return entries;
}
