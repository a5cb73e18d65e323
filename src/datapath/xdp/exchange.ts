/**
 * Frames that came in on the queue of another kernel of the same interface are passed to the kernel they are for.
 * It touches memory that the kernels of one process share, and eventfds to wake them.
 *
 * The device spreads frames over queues by a hash that it does not tell. So a connection belongs to the kernel on whose
 * queue its first frame came, and there the rest comes too. What comes elsewhere is copied over: answers to a port that
 * another kernel has chosen for an outgoing connection; and to everybody, answers of neighbours and errors.
 */
import { drainEventfd, signalEventfd } from '../../linux/eventfd.ts';
import type { FrameInput } from '../../net/device.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';

/** Frames that wait for one kernel from one other; one more is dropped. A power of two. */
const SLOTS = 256;
const PORTS = 65536;
/** Words in front of a ring: what was put in, and a cache line further what was taken out. */
const PUT = 0;
const TAKEN = 16;
const HEAD_WORDS = 32;
/** Bytes in front of each frame: its length. */
const LENGTH_BYTES = 64;

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
const ARP_REPLY = 2;
const ADVERTISEMENT = 136;
const EVERYBODY = -1;
const HERE = -2;

/** For structured cloning. */
export interface SharedExchange {
  readonly kernels: number;
  readonly frameBytes: number;
  /** Of each kernel; the process owns them. */
  readonly eventfds: readonly number[];
  readonly memory: SharedArrayBuffer;
}

/** Words: whether each kernel sleeps. Then bytes: who owns each TCP and each UDP port (0 nobody). Then the rings. */
function layout(kernels: number, frameBytes: number) {
  const owners = Math.ceil((4 * kernels) / 64) * 64;
  const rings = owners + 2 * PORTS;
  const slotBytes = LENGTH_BYTES + frameBytes;
  const ringBytes = 4 * HEAD_WORDS + SLOTS * slotBytes;
  return { owners, rings, slotBytes, ringBytes, bytes: rings + kernels * kernels * ringBytes };
}

/** @param eventfds one for each kernel */
export function shareExchange(eventfds: readonly number[], frameBytes: number): SharedExchange {
  const kernels = eventfds.length;
  return {
    kernels,
    frameBytes,
    eventfds,
    memory: new SharedArrayBuffer(layout(kernels, frameBytes).bytes),
  };
}

export class Exchange implements FrameInput {
  /** Frames passed to others, taken from others, and dropped because another was too slow or there was no memory. */
  passed = 0;
  taken = 0;
  dropped = 0;
  readonly #shared: SharedExchange;
  readonly #self: number;
  readonly #heap: Heap;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #owners: Uint8Array;
  readonly #layout: ReturnType<typeof layout>;
  #next: FrameInput | null = null;

  constructor(shared: SharedExchange, self: number, heap: Heap) {
    this.#shared = shared;
    this.#self = self;
    this.#heap = heap;
    this.#layout = layout(shared.kernels, shared.frameBytes);
    this.#words = new Int32Array(shared.memory);
    this.#bytes = new Uint8Array(shared.memory);
    this.#owners = new Uint8Array(shared.memory, this.#layout.owners, 2 * PORTS);
  }

  /** Readable when frames were passed to us while we slept. */
  get fd(): number {
    return this.#shared.eventfds[this.#self]!;
  }

  /** An outgoing connection of ours has this port: false where it is another's. */
  claim(protocol: number, port: number): boolean {
    // Each kernel has ports of its own to choose from, so that none is asked for by two.
    if (port % this.#shared.kernels !== this.#self) return false;
    Atomics.store(this.#owners, indexOf(protocol, port), this.#self + 1);
    return true;
  }

  disclaim(protocol: number, port: number): void {
    const index = indexOf(protocol, port);
    if (Atomics.load(this.#owners, index) === this.#self + 1) Atomics.store(this.#owners, index, 0);
  }

  /** What comes in on our queues goes through here to `next`. */
  before(next: FrameInput): this {
    this.#next = next;
    return this;
  }

  input(frame: HeapBuffer): void {
    const owner = this.#ownerOf(frame);
    if (owner >= 0) this.#pass(owner, frame);
    else {
      if (owner === EVERYBODY) {
        for (let i = 0; i < this.#shared.kernels; i++) if (i !== this.#self) this.#pass(i, frame);
      }
      this.#next!.input(frame);
    }
  }

  /** The kernel a frame is for, or EVERYBODY, or HERE. */
  #ownerOf({ memory, offset, length }: HeapBuffer): number {
    if (length < 42) return HERE;
    const type = (memory[offset + 12]! << 8) | memory[offset + 13]!;
    const ip = offset + 14;
    let upper: number;
    let protocol: number;
    if (type === 0x0800) {
      if (((memory[ip + 6]! & 0x1f) | memory[ip + 7]!) !== 0) return HERE; // a later fragment
      protocol = memory[ip + 9]!;
      upper = ip + ((memory[ip]! & 15) << 2);
      if (protocol === ICMP) return isError4(memory[upper]!) ? EVERYBODY : HERE;
    } else if (type === 0x86dd) {
      protocol = memory[ip + 6]!;
      upper = ip + 40;
      if (protocol === ICMPV6) return memory[upper]! < 5 || memory[upper] === ADVERTISEMENT ? EVERYBODY : HERE;
    } else return type === 0x0806 && memory[ip + 7] === ARP_REPLY ? EVERYBODY : HERE;
    if ((protocol !== TCP && protocol !== UDP) || upper + 4 > offset + length) return HERE;
    const owner = this.#owners[indexOf(protocol, (memory[upper + 2]! << 8) | memory[upper + 3]!)]!;
    return owner === 0 || owner === this.#self + 1 ? HERE : owner - 1;
  }

  /** First word of the ring from one kernel to another. */
  #ring(from: number, to: number): number {
    return (this.#layout.rings + (from * this.#shared.kernels + to) * this.#layout.ringBytes) >> 2;
  }

  #pass(to: number, frame: HeapBuffer): void {
    const words = this.#words;
    const ring = this.#ring(this.#self, to);
    const put = words[ring + PUT]!;
    if (((put - Atomics.load(words, ring + TAKEN)) | 0) >= SLOTS || frame.length > this.#shared.frameBytes) {
      this.dropped++;
      return;
    }
    const at = 4 * (ring + HEAD_WORDS) + (put & (SLOTS - 1)) * this.#layout.slotBytes;
    words[at >> 2] = frame.length;
    this.#bytes.set(frame.memory.subarray(frame.offset, frame.offset + frame.length), at + LENGTH_BYTES);
    Atomics.store(words, ring + PUT, (put + 1) | 0);
    this.passed++;
    if (Atomics.load(words, to) !== 0) signalEventfd(this.#shared.eventfds[to]!);
  }

  /** Others have passed something to us. */
  get arrived(): boolean {
    for (let from = 0; from < this.#shared.kernels; from++) {
      if (from === this.#self) continue;
      const ring = this.#ring(from, this.#self);
      if (Atomics.load(this.#words, ring + PUT) !== this.#words[ring + TAKEN]) return true;
    }
    return false;
  }

  /** Gives what others have passed to us to the input that stands behind this. @returns frames */
  receive(budget: number): number {
    let did = 0;
    for (let from = 0; from < this.#shared.kernels && did < budget; from++) {
      if (from !== this.#self) did += this.#receiveFrom(this.#ring(from, this.#self), budget - did);
    }
    return did;
  }

  #receiveFrom(ring: number, budget: number): number {
    const words = this.#words;
    const taken = words[ring + TAKEN]!;
    const count = Math.min((Atomics.load(words, ring + PUT) - taken) | 0, budget);
    for (let i = 0; i < count; i++) {
      const at = 4 * (ring + HEAD_WORDS) + ((taken + i) & (SLOTS - 1)) * this.#layout.slotBytes;
      const length = words[at >> 2]!;
      const frame = this.#heap.tryAlloc(length);
      if (frame === null) this.dropped++;
      else {
        frame.memory.set(this.#bytes.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length), frame.offset);
        this.#next!.input(frame);
        frame.release();
      }
      this.taken++;
    }
    Atomics.store(words, ring + TAKEN, (taken + count) | 0);
    return count;
  }

  /** From now on whoever passes a frame to us signals the eventfd. Look at `arrived` afterwards. */
  sleeps(): void {
    Atomics.store(this.#words, this.#self, 1);
  }

  wakes(): void {
    if (this.#words[this.#self] === 0) return;
    Atomics.store(this.#words, this.#self, 0);
    drainEventfd(this.fd);
  }
}

function indexOf(protocol: number, port: number): number {
  return protocol === UDP ? PORTS + port : port;
}

/** Unreachable, time exceeded, parameter problem. */
function isError4(type: number): boolean {
  return type === 3 || type === 11 || type === 12;
}
