/**
 * Receives straight into buffers of the heap: recv for streams, recvmmsg for datagrams.
 * It makes those system calls and completes pops; what an error means for the queue is decided by its caller.
 */
import { ERRNO } from '../../errors.ts';
import { type MappedMemory, mapArena } from '../../linux/memory.ts';
import { MESSAGE_NAME_BYTES, MessageBatch } from '../../linux/message.ts';
import { recv } from '../../linux/socket.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import type { Sock } from './sock.ts';

/** Receive sizes. A queue begins with the first; full reads take it up, and reads that fit a smaller one take it down. */
const SIZES = [2048, 16384, 65536] as const;
const SMALL_READS = 8;

/** Nothing was received because the heap has no buffer. */
export const STARVED = 1;

export class StreamReceiver {
  readonly #heap: Heap;
  readonly #base: number;

  constructor(heap: Heap) {
    this.#heap = heap;
    this.#base = heap.region.addressHigh * 2 ** 32;
  }

  /**
   * One recv per waiting pop while there may be something. A read that does not fill its buffer was the last, so no
   * further call is made just to hear EAGAIN (epoll(7), edge-triggered). At the end, `ended` is set and pops stay.
   * @returns 0, {@link STARVED}, or −errno when the connection is broken
   */
  receive(sock: Sock): number {
    while (sock.readable && sock.waiting.head !== null) {
      const buffer = this.#buffer(sock.sizeIndex);
      if (buffer === null) return STARVED;
      const { capacity } = buffer;
      const got = recv(sock.fd, this.#base + buffer.base, capacity, 0);
      if (got > 0) {
        buffer.length = got;
        if (got < capacity) sock.readable = sock.ending;
        if (got === capacity || sock.sizeIndex > 0) adapt(sock, got, capacity);
        sock.waiting.shift()!.complete(buffer);
        continue;
      }
      buffer.release();
      if (got === 0) {
        sock.ended = true;
        return 0;
      }
      if (got === -ERRNO.EAGAIN) sock.readable = false;
      else if (got !== -ERRNO.EINTR) return got;
    }
    return 0;
  }

  /** A buffer of the size wished for, else the largest there is. */
  #buffer(sizeIndex: number): HeapBuffer | null {
    const heap = this.#heap;
    let buffer = heap.tryAlloc(SIZES[sizeIndex]!);
    for (let i = sizeIndex - 1; i >= 0 && buffer === null; i--) buffer = heap.tryAlloc(SIZES[i]!);
    return buffer ?? heap.tryAlloc(1);
  }
}

function adapt(sock: Sock, got: number, capacity: number): void {
  if (got === capacity) {
    if (sock.sizeIndex < SIZES.length - 1) sock.sizeIndex++;
    sock.smallReads = 0;
  } else if (got > SIZES[sock.sizeIndex - 1]!) sock.smallReads = 0;
  else if (++sock.smallReads === SMALL_READS) {
    sock.sizeIndex--;
    sock.smallReads = 0;
  }
}

/** Most datagrams received ahead of the pops, per queue. */
export const INBOX = 32;
const FIRST_PIECE = 2048;
const LARGEST = 65536;

/**
 * Receives datagrams in batches. All datagram queues of a kernel share one set of empty buffers, held while such a
 * queue is open; what does not fit in one lies in an overflow area and is copied into a buffer of its size.
 */
export class DatagramReceiver {
  /** Datagrams dropped because the heap had no buffer large enough. */
  dropped = 0;
  readonly #heap: Heap;
  readonly #batch = new MessageBatch(INBOX, 2);
  readonly #overflow: MappedMemory = mapArena(INBOX * LARGEST, { populate: false });
  readonly #empty: (HeapBuffer | null)[] = new Array(INBOX).fill(null);
  #stocked = false;
  readonly #i32: Int32Array;
  readonly #u8: Uint8Array;

  constructor(heap: Heap) {
    this.#heap = heap;
    this.#i32 = heap.region.i32;
    this.#u8 = heap.region.u8;
    for (let i = 0; i < INBOX; i++) {
      this.#batch.setVector(i, 1, this.#overflow.addressHigh, i * LARGEST, LARGEST);
      this.#batch.setVectorCount(i, 2);
      this.#batch.setNameLength(i, MESSAGE_NAME_BYTES);
    }
  }

  /**
   * One recvmmsg: completes waiting pops, keeps the rest in the queue's inbox. Fewer than asked for means no more.
   * @returns datagrams received, or −errno; 0 with `readable` still set means that the heap is used up
   */
  receive(sock: Sock): number {
    const room = this.#refill();
    if (room === 0) return 0;
    const got = this.#batch.receive(sock.fd, room, 0);
    if (got < 0) {
      if (got === -ERRNO.EINTR) return 0;
      if (got !== -ERRNO.EAGAIN) return got;
      sock.readable = false;
      return 0;
    }
    if (got < room) sock.readable = false;
    for (let i = 0; i < got; i++) {
      const buffer = this.#take(i);
      if (buffer === null) continue;
      const op = sock.waiting.shift();
      if (op !== null) op.complete(buffer);
      else sock.inbox![(sock.inboxHead + sock.inboxCount++) % INBOX] = buffer;
    }
    return got;
  }

  /** @returns how many empty buffers there are, from the first on */
  #refill(): number {
    this.#stocked = true;
    for (let i = 0; i < INBOX; i++) {
      if (this.#empty[i] !== null) continue;
      const buffer = this.#heap.tryAlloc(FIRST_PIECE);
      if (buffer === null) return i;
      this.#empty[i] = buffer;
      this.#batch.setVector(i, 0, this.#heap.region.addressHigh, buffer.base, FIRST_PIECE);
    }
    return INBOX;
  }

  #take(i: number): HeapBuffer | null {
    const length = this.#batch.length(i);
    const nameLength = this.#batch.nameLength(i);
    this.#batch.setNameLength(i, MESSAGE_NAME_BYTES);
    let buffer = this.#empty[i]!;
    if (length > FIRST_PIECE) {
      const larger = this.#heap.tryAlloc(length);
      if (larger === null) {
        this.dropped++;
        return null;
      }
      this.#u8.copyWithin(larger.base, buffer.base, buffer.base + FIRST_PIECE);
      const from = i * LARGEST;
      this.#u8.set(this.#overflow.u8.subarray(from, from + length - FIRST_PIECE), larger.base + FIRST_PIECE);
      buffer = larger;
    } else this.#empty[i] = null;
    buffer.length = length;
    buffer.peerLength = nameLength;
    const from = this.#batch.nameOffset(i) >> 2;
    const to = buffer.peerOffset >> 2;
    for (let w = 0; w < MESSAGE_NAME_BYTES >> 2; w++) this.#i32[to + w] = this.#batch.i32[from + w]!;
    return buffer;
  }

  /** Gives the empty buffers back to the heap: no datagram queue is open. */
  rest(): void {
    if (!this.#stocked) return;
    this.#stocked = false;
    for (let i = 0; i < INBOX; i++) {
      this.#empty[i]?.release();
      this.#empty[i] = null;
    }
  }

  close(): void {
    this.rest();
    this.#batch.close();
    this.#overflow.close();
  }
}
