/**
 * The sends of one call: writes them into the ring, and afterwards tells which of them fell short.
 * It owns scratch memory for message headers and pieces; the kernel has copied them when the call returns.
 *
 * A send without a completion costs one entry and nothing else: the kernel copies the bytes while it takes the entry,
 * and says something only if it could not take all of them (MSG_DONTWAIT, MSG_WAITALL, CQE_SKIP_SUCCESS). So among the
 * completions that are new after the call, those of kind SEND_NOW name what fell short; all the rest is sent.
 */
import { SOCKADDR_BYTES } from '../../address/sockaddr.ts';
import type { MappedMemory } from '../../linux/memory.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL } from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { Op, SqeFlag } from '../../linux/uring-abi.ts';
import type { Heap } from '../../ring/heap.ts';
import { NAME_WORDS, type Outbox } from '../sockets/outbox.ts';
import { KIND_MASK, Kind, SLOT_SHIFT, type UringSocket } from './socket.ts';

/** Most pieces gathered into one send. */
const MAX_VECTORS = 64;
const HEADER_BYTES = 64;
const VECTOR_BYTES = 16;
const NOW = MSG_DONTWAIT | MSG_NOSIGNAL;
/** Result of a send about which the kernel said nothing: all of it is sent. */
export const ALL = 0x7fffffff;

/** Bytes of mapped memory for batches of `entries` submissions: per submission a msghdr, a name, and some pieces. */
export function batchBytes(entries: number): number {
  return entries * (HEADER_BYTES + SOCKADDR_BYTES) + vectorCount(entries) * VECTOR_BYTES;
}

function vectorCount(entries: number): number {
  return entries * 4 + MAX_VECTORS;
}

export class Batch {
  /** Sends written so far. */
  count = 0;
  /** Whose send it is; null for one with a completion of its own. */
  readonly sockets: (UringSocket | null)[];
  /** Of a datagram: its descriptor. */
  readonly nodes: Int32Array;
  /** After {@link collect}: {@link ALL}, or the bytes sent, or −errno. Whoever reads it puts ALL back. */
  readonly results: Int32Array;
  readonly #ring: Ring;
  readonly #outbox: Outbox;
  readonly #heapHigh: number;
  readonly #high: number;
  readonly #i32: Int32Array;
  readonly #headers: number;
  readonly #names: number;
  readonly #vectors: number;
  readonly #vectorCount: number;
  #vectorsUsed = 0;
  /** Completions up to here have been looked at. */
  #scanned = 0;

  /** @param memory {@link batchBytes} of it from `offset` on */
  constructor(ring: Ring, heap: Heap, outbox: Outbox, memory: MappedMemory, offset: number) {
    const { entries } = ring;
    this.#ring = ring;
    this.#outbox = outbox;
    this.#heapHigh = heap.region.addressHigh;
    this.#high = memory.addressHigh;
    this.#i32 = memory.i32;
    this.sockets = new Array<UringSocket | null>(entries).fill(null);
    this.nodes = new Int32Array(entries);
    this.results = new Int32Array(entries).fill(ALL);
    this.#headers = offset;
    this.#names = offset + entries * HEADER_BYTES;
    this.#vectors = this.#names + entries * SOCKADDR_BYTES;
    this.#vectorCount = vectorCount(entries);
    // Of a header only msg_iov and msg_iovlen change; no name, no control data.
    for (let i = 0; i < entries; i++) this.#i32[((offset + i * HEADER_BYTES) >> 2) + 5] = this.#high;
  }

  /** There is room for one more send of any form. */
  get room(): boolean {
    return this.#ring.room > 0 && this.#vectorsUsed + MAX_VECTORS <= this.#vectorCount;
  }

  /** A send may do without a completion only if a completion of failure is sure to find room in shared memory. */
  #sure(): boolean {
    const ring = this.#ring;
    return ring.available + ring.pending < ring.completions && !ring.overflowing;
  }

  /** Sends what a stream has, as far as one entry can. */
  stream(socket: UringSocket): void {
    const outbox = this.#outbox;
    const ring = this.#ring;
    const first = socket.outHead;
    const alone = outbox.next[first]! < 0;
    const i = this.count++;
    const pieces = alone ? 1 : this.#gather(first, i);
    socket.flying = pieces;
    const now = !socket.blocked && this.#sure();
    const flags = now ? socket.fileFlag | SqeFlag.CQE_SKIP : socket.fileFlag;
    const k = ring.sqe();
    const m = ring.sqes;
    m[k] = (alone ? Op.SEND : Op.SENDMSG) | (flags << 8);
    m[k + 1] = socket.file;
    m[k + 2] = 0;
    m[k + 3] = 0;
    m[k + 4] = alone ? outbox.at[first]! : this.#headers + i * HEADER_BYTES;
    m[k + 5] = alone ? this.#heapHigh : this.#high;
    m[k + 6] = alone ? outbox.length[first]! : 1;
    m[k + 7] = now ? NOW | MSG_WAITALL : MSG_NOSIGNAL | MSG_WAITALL;
    m[k + 8] = (socket.slot << SLOT_SHIFT) | (now ? Kind.SEND_NOW : Kind.SEND);
    m[k + 9] = now ? i : socket.generation;
    m[k + 10] = 0;
    m[k + 11] = 0;
    this.sockets[i] = now ? socket : null;
  }

  /** Lists the pieces from `node` on under header `i`. @returns how many */
  #gather(node: number, i: number): number {
    const outbox = this.#outbox;
    const m = this.#i32;
    const start = this.#vectors + this.#vectorsUsed * VECTOR_BYTES;
    let pieces = 0;
    for (let v = start >> 2; node >= 0 && pieces < MAX_VECTORS; node = outbox.next[node]!, pieces++, v += 4) {
      m[v] = outbox.at[node]!;
      m[v + 1] = this.#heapHigh;
      m[v + 2] = outbox.length[node]!;
      m[v + 3] = 0;
    }
    this.#vectorsUsed += pieces;
    const h = (this.#headers + i * HEADER_BYTES) >> 2;
    m[h + 4] = start;
    m[h + 6] = pieces;
    return pieces;
  }

  /** One send per datagram. @returns whether some are left for another call */
  datagrams(socket: UringSocket): boolean {
    const outbox = this.#outbox;
    const ring = this.#ring;
    const words = this.#i32;
    let node = socket.outHead;
    for (; node >= 0 && ring.room > 0; node = outbox.next[node]!) {
      const now = !socket.blocked && this.#sure();
      if (!now && socket.flying > 0) return true; // those with a completion go one at a time
      const i = this.count++;
      const nameLength = outbox.nameLength![node]!;
      const name = this.#names + i * SOCKADDR_BYTES;
      for (let w = 0; w < NAME_WORDS; w++) words[(name >> 2) + w] = outbox.names![node * NAME_WORDS + w]!;
      const flags = now ? socket.fileFlag | SqeFlag.CQE_SKIP : socket.fileFlag;
      const k = ring.sqe();
      const m = ring.sqes;
      m[k] = Op.SEND | (flags << 8);
      m[k + 1] = socket.file;
      m[k + 2] = nameLength > 0 ? name : 0;
      m[k + 3] = nameLength > 0 ? this.#high : 0;
      m[k + 4] = outbox.at[node]!;
      m[k + 5] = this.#heapHigh;
      m[k + 6] = outbox.length[node]!;
      m[k + 7] = now ? NOW : MSG_NOSIGNAL;
      m[k + 8] = (socket.slot << SLOT_SHIFT) | (now ? Kind.SEND_NOW : Kind.SEND);
      m[k + 9] = now ? i : socket.generation;
      m[k + 10] = 0;
      m[k + 11] = nameLength;
      socket.flying++;
      this.sockets[i] = now ? socket : null;
      this.nodes[i] = node;
      if (!now) return false;
    }
    return node >= 0;
  }

  /**
   * After the call: how many sends it took, whose results are now known; the next batch can be written.
   * 0 also while the kernel has not taken all of them (it was short of memory): the next call takes the rest.
   */
  collect(): number {
    const ring = this.#ring;
    const { words, cqes, cqMask } = ring;
    const tail = words[ring.cqTail]!;
    const { count } = this;
    if (count > 0) {
      if (ring.pending > 0) return 0;
      for (let c = this.#scanned; c !== tail; c = (c + 1) | 0) {
        const k = cqes + ((c & cqMask) << 2);
        if ((words[k]! & KIND_MASK) === Kind.SEND_NOW) this.results[words[k + 1]!] = words[k + 2]!;
      }
      this.count = 0;
      this.#vectorsUsed = 0;
    }
    this.#scanned = tail;
    return count;
  }
}
