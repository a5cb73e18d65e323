/**
 * Frames that came in on the queue of another kernel of the same interface are passed to the kernel they are for.
 * It touches memory that the kernels of one process share, and eventfds to wake them.
 *
 * The device spreads frames over queues by a hash that it does not tell. So a connection belongs to the kernel on whose
 * queue its first frame came, and there the rest comes too. What comes elsewhere is copied over: answers to a port that
 * another kernel has chosen for an outgoing connection; and to everybody, answers of neighbours and errors.
 *
 * Where there are more kernels than queues, those without one stand in the group of one that has: kernel K in that of
 * kernel K modulo the number of queues. That one spreads connections over its group by a hash of its own (flow groups), and
 * sends what they have to send.
 */
import { drainEventfd, signalEventfd } from '../../linux/eventfd.ts';
import type { Device, FrameInput } from '../../net/device.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { FrameRing, frameRingBytes } from './frame-ring.ts';

const PORTS = 65536;
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
  /** Queues that are theirs: the first so many kernels have some. */
  readonly queues: number;
  readonly frameBytes: number;
  /** Of each kernel; the process owns them. */
  readonly eventfds: readonly number[];
  readonly memory: SharedArrayBuffer;
}

/**
 * Words: whether each kernel sleeps. Then bytes: who owns each TCP and each UDP port (0 nobody). Then the rings: from each
 * kernel to each for what came in, and from each to the one that sends for it.
 */
function layout(kernels: number, frameBytes: number) {
  const owners = Math.ceil((4 * kernels) / 64) * 64;
  const rings = owners + 2 * PORTS;
  const ringBytes = frameRingBytes(frameBytes);
  const outgoing = rings + kernels * kernels * ringBytes;
  return { owners, rings, outgoing, ringBytes, bytes: outgoing + kernels * ringBytes };
}

/** @param eventfds one for each kernel */
export function shareExchange(eventfds: readonly number[], queues: number, frameBytes: number): SharedExchange {
  const kernels = eventfds.length;
  const memory = new SharedArrayBuffer(layout(kernels, frameBytes).bytes);
  return { kernels, queues: Math.min(queues, kernels), frameBytes, eventfds, memory };
}

export class Exchange implements FrameInput {
  /** Frames passed to others, taken from others, and dropped because another was too slow or there was no memory. */
  passed = 0;
  taken = 0;
  dropped = 0;
  /** Frames sent for others. */
  sent = 0;
  readonly #shared: SharedExchange;
  readonly #self: number;
  /** The kernel whose queues are also ours: ourselves, where we have some. */
  readonly #front: number;
  /** Kernels over which we spread what comes in. */
  readonly #groupSize: number;
  readonly #heap: Heap;
  readonly #sleeping: Int32Array;
  readonly #owners: Uint8Array;
  /** By kernel; our own place is empty. */
  readonly #to: readonly (FrameRing | null)[];
  readonly #from: readonly (FrameRing | null)[];
  /** What we have to send, where another does it. */
  readonly #outgoing: FrameRing | null;
  /** What others have for us to send. */
  readonly #forOthers: readonly FrameRing[];
  #next: FrameInput | null = null;

  constructor(shared: SharedExchange, self: number, heap: Heap) {
    const { kernels, queues, frameBytes, memory } = shared;
    const { owners, rings, outgoing, ringBytes } = layout(kernels, frameBytes);
    const all = Array.from({ length: kernels }, (_, kernel) => kernel);
    const ring = (from: number, to: number): FrameRing | null =>
      from === to ? null : new FrameRing(memory, rings + (from * kernels + to) * ringBytes, frameBytes);
    const toSend = (kernel: number): FrameRing => new FrameRing(memory, outgoing + kernel * ringBytes, frameBytes);
    this.#shared = shared;
    this.#self = self;
    this.#front = self % queues;
    this.#heap = heap;
    this.#sleeping = new Int32Array(memory, 0, kernels);
    this.#owners = new Uint8Array(memory, owners, 2 * PORTS);
    this.#to = all.map((kernel) => ring(self, kernel));
    this.#from = all.map((kernel) => ring(kernel, self));
    const others = all.filter((kernel) => kernel !== self && kernel % queues === self);
    this.#outgoing = this.hasQueues ? null : toSend(self);
    this.#forOthers = others.map(toSend);
    this.#groupSize = others.length + 1;
  }

  /** We receive and send by ourselves. */
  get hasQueues(): boolean {
    return this.#front === this.#self;
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
  #ownerOf({ view, offset, length }: HeapBuffer): number {
    if (length < 42) return HERE;
    const type = view.getUint16(offset + 12);
    const ip = offset + 14;
    let upper: number;
    let protocol: number;
    if (type === 0x0800) {
      const isFirst = ((view.getUint8(ip + 6) & 0x1f) | view.getUint8(ip + 7)) === 0;
      // Of a datagram in pieces only the first says its port: our group leaves all of them to us.
      if (!isFirst || (this.#groupSize > 1 && (view.getUint8(ip + 6) & 0x20) !== 0)) return HERE;
      protocol = view.getUint8(ip + 9);
      upper = ip + ((view.getUint8(ip) & 15) << 2);
      if (protocol === ICMP) return isError4(view.getUint8(upper)) ? EVERYBODY : HERE;
    } else if (type === 0x86dd) {
      protocol = view.getUint8(ip + 6);
      upper = ip + 40;
      if (protocol === ICMPV6)
        return view.getUint8(upper) < 5 || view.getUint8(upper) === ADVERTISEMENT ? EVERYBODY : HERE;
    } else return type === 0x0806 && view.getUint8(ip + 7) === ARP_REPLY ? EVERYBODY : HERE;
    if ((protocol !== TCP && protocol !== UDP) || upper + 4 > offset + length) return HERE;
    const owner = this.#owners[indexOf(protocol, view.getUint16(upper + 2))]!;
    if (owner === 0) return this.#groupSize === 1 ? HERE : this.#inGroup(view, type === 0x0800, ip, upper);
    return owner === this.#self + 1 ? HERE : owner - 1;
  }

  /** The kernel of our group that has the connection: by the other end's address and both ports. */
  #inGroup(view: DataView, is4: boolean, ip: number, upper: number): number {
    let hash = view.getInt32(upper);
    if (is4) hash ^= view.getInt32(ip + 12);
    else for (let at = ip + 8; at < ip + 24; at += 4) hash = Math.imul(hash, 31) ^ view.getInt32(at);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    const place = ((hash ^ (hash >>> 13)) >>> 0) % this.#groupSize;
    return place === 0 ? HERE : this.#self + place * this.#shared.queues;
  }

  #pass(to: number, frame: HeapBuffer): void {
    const ring = this.#to[to]!;
    if (!ring.put(frame, null, 0, 0)) {
      this.dropped++;
      return;
    }
    ring.publish();
    this.passed++;
    this.#wake(to);
  }

  #wake(kernel: number): void {
    if (Atomics.load(this.#sleeping, kernel) !== 0) signalEventfd(this.#shared.eventfds[kernel]!);
  }

  /** Others have passed something to us. */
  get arrived(): boolean {
    for (const ring of this.#from) if (ring !== null && ring.available() > 0) return true;
    for (const ring of this.#forOthers) if (ring.available() > 0) return true;
    return false;
  }

  /** Gives what others have passed to us to the input that stands behind this. @returns frames */
  receive(budget: number): number {
    let did = 0;
    for (const ring of this.#from) {
      if (ring === null || did >= budget) continue;
      const count = Math.min(ring.available(), budget - did);
      if (count === 0) continue;
      for (let i = 0; i < count; i++) {
        const frame = this.#takeFrom(ring);
        if (frame === null) continue;
        this.#next!.input(frame);
        frame.release();
      }
      ring.release();
      this.taken += count;
      did += count;
    }
    return did;
  }

  /** The next frame in a buffer of our own; null, and dropped, where there is none. */
  #takeFrom(ring: FrameRing): HeapBuffer | null {
    const buffer = this.#heap.tryAlloc(ring.nextLength());
    if (buffer === null) this.dropped++;
    ring.take(buffer);
    return buffer;
  }

  // ---- Sending for others, and by others -------------------------------------------------------------------------

  /** Gives the device what others have for us to send, as far as it has room. @returns frames */
  sendForOthers(device: Device): number {
    let did = 0;
    for (const ring of this.#forOthers) {
      const count = Math.min(ring.available(), device.room());
      if (count <= 0) continue;
      for (let i = 0; i < count; i++) {
        const frame = this.#takeFrom(ring);
        if (frame !== null) device.transmit(frame, null, 0, 0);
      }
      ring.release();
      did += count;
    }
    this.sent += did;
    return did;
  }

  sendRoom(): number {
    return this.#outgoing!.room();
  }

  /** To be sent by the kernel that has the queue, once published. False where there is no room. */
  send(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): boolean {
    return this.#outgoing!.put(packet, payload, payloadOffset, payloadLength);
  }

  publish(): void {
    this.#outgoing!.publish();
    this.#wake(this.#front);
  }

  /** From now on whoever passes a frame to us signals the eventfd. Look at `arrived` afterwards. */
  sleeps(): void {
    Atomics.store(this.#sleeping, this.#self, 1);
  }

  wakes(): void {
    if (this.#sleeping[this.#self] === 0) return;
    Atomics.store(this.#sleeping, this.#self, 0);
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
