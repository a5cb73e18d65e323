/**
 * The sending half of the io_uring datapath: pushes, the send limit, and what leaves with the turn's one call.
 * It writes sends into the ring, releases buffers whose bytes the kernel has taken, and completes and fails pushes.
 *
 * The common case costs one entry and no completion: the kernel copies the bytes while it takes the entry, and says
 * something only if it could not take all of them (MSG_DONTWAIT, MSG_WAITALL, CQE_SKIP_SUCCESS). So after the call
 * `settle` looks for such news among the new completions; what has none is sent. What fell short stays at the head of
 * the queue's list and goes on with a send that completes once all is gone.
 */

import { encodeSockaddr, type IpAddress, SOCKADDR_BYTES } from '../../address/sockaddr.ts';
import { ERRNO } from '../../errors.ts';
import { Family, SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { MappedMemory } from '../../linux/memory.ts';
import { addressText } from '../../linux/sockaddr.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL } from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { Op, SqeFlag } from '../../linux/uring-abi.ts';
import type { Heap, HeapBuffer, Sga } from '../../ring/heap.ts';
import { NAME_WORDS, type Outbox } from '../sockets/outbox.ts';
import { KIND_MASK, Kind, Phase, SLOT_SHIFT, type UringSocket } from './socket.ts';

/** Largest payload of a UDP datagram over IPv4. */
const LARGEST_DATAGRAM = 65507;
/** Most pieces gathered into one send. */
const MAX_VECTORS = 64;
const HEADER_BYTES = 64;
const VECTOR_BYTES = 16;
const NOW = MSG_DONTWAIT | MSG_NOSIGNAL;
/** Result of a send without a completion. */
const ALL = 0x7fffffff;

/** Bytes of mapped memory that a sender with `entries` submissions needs: per submission a msghdr, pieces, and a name. */
export function senderBytes(entries: number): number {
  return entries * (HEADER_BYTES + SOCKADDR_BYTES) + vectorCount(entries) * VECTOR_BYTES;
}

function vectorCount(entries: number): number {
  return entries * 4 + MAX_VECTORS;
}

export class Sender {
  /** Operations settled by sending: whoever waits for them must run before anybody sleeps. */
  settled = 0;
  /** Datagrams that the kernel refused. */
  refused = 0;
  /** Sends that fell short because the peer, or the network, was slower. */
  short = 0;
  /** A closing socket has sent everything, or nothing more can be sent. */
  onSent: (socket: UringSocket) => void = () => {};
  /** The last byte before a half-close has been sent. */
  onShut: (socket: UringSocket) => void = () => {};
  /** A connection is found broken; `failed` says why, and what was unsent is gone. */
  onBroken: (socket: UringSocket) => void = () => {};
  readonly #ring: Ring;
  readonly #heap: Heap;
  readonly #outbox: Outbox;
  readonly #limit: number;
  // Scratch of one batch: msghdrs, then names, then pieces. The kernel has copied them when `enter` returns.
  readonly #memory: MappedMemory;
  readonly #i32: Int32Array;
  readonly #names: number;
  readonly #vectors: number;
  readonly #vectorCount: number;
  #vectorsUsed = 0;
  /** Sockets to transmit from. */
  readonly #dirty: UringSocket[] = [];
  #dirtyCount = 0;
  /** The batch in the kernel: whose send, which descriptor (datagrams), and what came of it. */
  readonly #batch: (UringSocket | null)[];
  readonly #nodes: Int32Array;
  readonly #results: Int32Array;
  #batchCount = 0;
  /** Completions up to here have been looked at for sends that fell short. */
  #scanned = 0;
  /** The destination of the datagram being pushed, packed; and whose it is. */
  readonly #to = new Uint8Array(SOCKADDR_BYTES);
  readonly #toWords = new Int32Array(this.#to.buffer);
  #toLength = 0;
  #toHost = '';
  #toPort = -1;

  /** @param memory {@link senderBytes} of it from `offset` on */
  constructor(ring: Ring, heap: Heap, outbox: Outbox, memory: MappedMemory, offset: number, limit: number) {
    this.#ring = ring;
    this.#heap = heap;
    this.#outbox = outbox;
    this.#limit = limit;
    this.#memory = memory;
    this.#i32 = memory.i32;
    const { entries } = ring;
    this.#batch = new Array<UringSocket | null>(entries).fill(null);
    this.#nodes = new Int32Array(entries);
    this.#results = new Int32Array(entries).fill(ALL);
    this.#names = offset + entries * HEADER_BYTES;
    this.#vectors = this.#names + entries * SOCKADDR_BYTES;
    this.#vectorCount = vectorCount(entries);
    for (let i = 0; i < entries; i++) this.#i32[this.#header(i, offset) + 5] = memory.addressHigh; // msg_iov, high word
    this.#headers = offset;
  }
  readonly #headers: number;

  #header(i: number, base: number): number {
    return (base + i * HEADER_BYTES) >> 2;
  }

  // ---- Pushes --------------------------------------------------------------------------------------------------

  push(socket: UringSocket, sga: Sga, op: Operation<void>): void {
    const single = !Array.isArray(sga);
    const count = single ? 1 : (sga as readonly HeapBuffer[]).length;
    const errno = count > this.#outbox.room ? ERRNO.ENOBUFS : refusal(socket);
    if (errno !== 0) {
      release(sga);
      op.failErrno(errno, 'push', socket.about);
      return;
    }
    if (single) {
      const waits = socket.unsent + (sga as HeapBuffer).length > this.#limit;
      this.#outbox.append(socket, sga as HeapBuffer, waits ? op.token : -1);
      this.#accepted(socket, op, waits, 1);
      return;
    }
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += (sga as readonly HeapBuffer[])[i]!.length;
    const waits = socket.unsent + bytes > this.#limit;
    for (let i = 0; i < count; i++) {
      this.#outbox.append(socket, (sga as readonly HeapBuffer[])[i]!, waits ? op.token : -1);
    }
    this.#accepted(socket, op, waits, count);
  }

  #accepted(socket: UringSocket, op: Operation<void>, waits: boolean, count: number): void {
    if (waits) {
      op.datum = count;
      socket.pushing.append(op as Operation<unknown>);
    } else op.complete(undefined);
    this.mark(socket);
  }

  /** There is something to transmit from this socket. */
  mark(socket: UringSocket): void {
    if (socket.dirty) return;
    socket.dirty = true;
    this.#dirty[this.#dirtyCount++] = socket;
  }

  /** A push that still waits is taken back, unless its first bytes are already on their way. */
  withdraw(socket: UringSocket, op: Operation<unknown>): void {
    if (!socket.pushing.remove(op)) return;
    let node = socket.outHead;
    for (let i = 0; i < socket.flying; i++) {
      if (this.#outbox.owner[node] === op.token) return;
      node = this.#outbox.next[node]!;
    }
    this.#outbox.withdraw(socket, op.token, op.datum);
  }

  /** A datagram to `to`, else to the peer written in the buffer, else to the connected peer. */
  pushTo(socket: UringSocket, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    const errno = this.#refusalOfDatagram(socket, buffer, to);
    if (errno !== 0) {
      buffer.release();
      op.failErrno(errno, 'pushTo', to === null ? socket.about : addressText(to));
      return;
    }
    const waits = socket.unsent + buffer.length > this.#limit;
    const node = this.#outbox.append(socket, buffer, waits ? op.token : -1);
    const bytes = to === null ? buffer.peerLength : this.#toLength;
    this.#outbox.nameLength![node] = bytes;
    if (bytes > 0) {
      const from = to === null ? this.#heap.region.i32 : this.#toWords;
      const names = this.#outbox.names!;
      const start = to === null ? buffer.peerOffset >> 2 : 0;
      for (let w = 0; w < NAME_WORDS; w++) names[node * NAME_WORDS + w] = from[start + w]!;
    }
    this.#accepted(socket, op, waits, 1);
  }

  #refusalOfDatagram(socket: UringSocket, buffer: HeapBuffer, to: IpAddress | null): number {
    if (socket.type !== SocketType.DGRAM) return ERRNO.EOPNOTSUPP;
    const { failed } = socket;
    socket.failed = 0;
    if (failed !== 0) return failed; // of an earlier datagram, as the kernel tells it too (udp(7))
    if (socket.shut) return ERRNO.EPIPE;
    if (buffer.length > LARGEST_DATAGRAM) return ERRNO.EMSGSIZE;
    if (this.#outbox.room === 0) return ERRNO.ENOBUFS;
    if (to === null) return buffer.peerLength > 0 || socket.phase === Phase.OPEN ? 0 : ERRNO.EDESTADDRREQ;
    // Datagrams often go where the last one went: an address is packed once.
    if (to.port !== this.#toPort || to.host !== this.#toHost) {
      this.#toPort = -1;
      try {
        this.#toLength = encodeSockaddr(to, this.#to, 0);
      } catch {
        return ERRNO.EINVAL;
      }
      this.#toHost = to.host;
      this.#toPort = to.port;
    }
    return this.#toLength > 16 && socket.family === Family.INET ? ERRNO.EAFNOSUPPORT : 0;
  }

  /** push of PDPIX on a datagram queue: one datagram. Several pieces are copied together; it is not the hot way. */
  pushDatagram(socket: UringSocket, sga: Sga, op: Operation<void>): void {
    if (!Array.isArray(sga)) {
      this.pushTo(socket, sga as HeapBuffer, null, op);
      return;
    }
    const parts = sga as readonly HeapBuffer[];
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const whole = bytes > LARGEST_DATAGRAM ? null : this.#heap.tryAlloc(bytes);
    let at = whole?.base ?? 0;
    for (const part of parts) {
      if (whole !== null) this.#heap.region.u8.copyWithin(at, part.offset, part.offset + part.length);
      at += part.length;
    }
    release(sga);
    if (whole !== null) this.pushTo(socket, whole, null, op);
    else op.failErrno(bytes > LARGEST_DATAGRAM ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS, 'push', socket.about);
  }

  // ---- Before the call -----------------------------------------------------------------------------------------

  /** There is something that {@link transmit} would write. */
  get waiting(): boolean {
    return this.#dirtyCount > 0;
  }

  /** The last {@link transmit} could not write everything: another call must follow. */
  crowded = false;

  /**
   * Writes the sends of the turn into the ring. The call must follow at once, then {@link settle}.
   * @returns whether somebody waits for what the settling will bring, so that nobody should sleep in the call
   */
  transmit(): boolean {
    let urgent = false;
    this.crowded = false;
    const count = this.#dirtyCount;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const socket = this.#dirty[i]!;
      if (socket.outHead < 0 || socket.flying > 0 || socket.phase === Phase.CONNECTING) socket.dirty = false;
      else if (!this.#room()) {
        this.#dirty[kept++] = socket;
        this.crowded = true;
      } else {
        socket.dirty = false;
        if (socket.pushing.head !== null || socket.shut || socket.phase === Phase.CLOSING) urgent = true;
        if (socket.type === SocketType.STREAM) this.#stream(socket);
        else if (this.#datagrams(socket)) {
          socket.dirty = true;
          this.#dirty[kept++] = socket;
          this.crowded = true;
        }
      }
    }
    this.#dirtyCount = kept;
    return urgent || this.crowded;
  }

  /** Room in this batch for one more send of any form. */
  #room(): boolean {
    return this.#ring.room > 0 && this.#vectorsUsed + MAX_VECTORS <= this.#vectorCount;
  }

  /** A send may do without a completion only if a completion of failure is sure to find room in shared memory. */
  #sure(): boolean {
    const ring = this.#ring;
    return ring.available + ring.pending < ring.completions && !ring.overflowing;
  }

  #stream(socket: UringSocket): void {
    const outbox = this.#outbox;
    const ring = this.#ring;
    const first = socket.outHead;
    const alone = outbox.next[first]! < 0;
    const count = alone ? 1 : this.#gather(first);
    socket.flying = count;
    const now = !socket.blocked && this.#sure();
    const i = this.#batchCount;
    const k = ring.sqe();
    const m = ring.sqes;
    const flags = now ? socket.fileFlag | SqeFlag.CQE_SKIP : socket.fileFlag;
    m[k + 1] = socket.file;
    m[k + 2] = 0;
    m[k + 3] = 0;
    if (alone) {
      m[k] = Op.SEND | (flags << 8);
      m[k + 4] = outbox.at[first]!;
      m[k + 5] = this.#heap.region.addressHigh;
      m[k + 6] = outbox.length[first]!;
    } else {
      const header = this.#headers + i * HEADER_BYTES;
      const h = header >> 2;
      this.#i32[h] = 0; // msg_name and its length: datagrams use the same headers
      this.#i32[h + 4] = this.#vectors + (this.#vectorsUsed - count) * VECTOR_BYTES;
      this.#i32[h + 6] = count;
      m[k] = Op.SENDMSG | (flags << 8);
      m[k + 4] = header;
      m[k + 5] = this.#memory.addressHigh;
      m[k + 6] = 1;
    }
    m[k + 7] = now ? NOW | MSG_WAITALL : MSG_NOSIGNAL | MSG_WAITALL;
    m[k + 8] = (socket.slot << SLOT_SHIFT) | (now ? Kind.SEND_NOW : Kind.SEND);
    m[k + 9] = now ? i : socket.generation;
    m[k + 10] = 0;
    m[k + 11] = 0;
    // Headers are counted with the batch, so a send with a completion has a place in it too, and is skipped when settling.
    this.#batch[i] = now ? socket : null;
    this.#batchCount = i + 1;
  }

  /** Lists the pieces from `node` on. @returns how many */
  #gather(node: number): number {
    const outbox = this.#outbox;
    const high = this.#heap.region.addressHigh;
    const m = this.#i32;
    let count = 0;
    let v = (this.#vectors + this.#vectorsUsed * VECTOR_BYTES) >> 2;
    for (; node >= 0 && count < MAX_VECTORS; node = outbox.next[node]!, count++, v += 4) {
      m[v] = outbox.at[node]!;
      m[v + 1] = high;
      m[v + 2] = outbox.length[node]!;
      m[v + 3] = 0;
    }
    this.#vectorsUsed += count;
    return count;
  }

  /** One send per datagram. @returns whether some are left for the next call */
  #datagrams(socket: UringSocket): boolean {
    const outbox = this.#outbox;
    const ring = this.#ring;
    const high = this.#heap.region.addressHigh;
    let node = socket.outHead;
    for (; node >= 0 && ring.room > 0; node = outbox.next[node]!) {
      const now = !socket.blocked && this.#sure();
      if (!now && socket.flying > 0) return true;
      const i = this.#batchCount++;
      const nameLength = outbox.nameLength![node]!;
      const name = this.#names + i * SOCKADDR_BYTES;
      for (let w = 0; w < NAME_WORDS; w++) this.#i32[(name >> 2) + w] = outbox.names![node * NAME_WORDS + w]!;
      const flags = now ? socket.fileFlag | SqeFlag.CQE_SKIP : socket.fileFlag;
      const k = ring.sqe();
      const m = ring.sqes;
      m[k] = Op.SEND | (flags << 8);
      m[k + 1] = socket.file;
      m[k + 2] = nameLength > 0 ? name : 0;
      m[k + 3] = nameLength > 0 ? this.#memory.addressHigh : 0;
      m[k + 4] = outbox.at[node]!;
      m[k + 5] = high;
      m[k + 6] = outbox.length[node]!;
      m[k + 7] = now ? NOW : MSG_NOSIGNAL;
      m[k + 8] = (socket.slot << SLOT_SHIFT) | (now ? Kind.SEND_NOW : Kind.SEND);
      m[k + 9] = now ? i : socket.generation;
      m[k + 10] = 0;
      m[k + 11] = nameLength;
      socket.flying++;
      this.#batch[i] = now ? socket : null;
      this.#nodes[i] = node;
      if (!now) return false; // one at a time, each with its completion
    }
    return node >= 0;
  }

  // ---- After the call ------------------------------------------------------------------------------------------

  /** The kernel has taken the batch: what it did not complain about is sent. */
  settle(): void {
    const ring = this.#ring;
    const { words, cqes, cqMask } = ring;
    const tail = words[ring.cqTail]!;
    if (this.#batchCount > 0) {
      if (ring.pending > 0) return; // not all taken (the kernel was short of memory): the next call takes the rest
      for (let c = this.#scanned; c !== tail; c = (c + 1) | 0) {
        const k = cqes + ((c & cqMask) << 2);
        if ((words[k]! & KIND_MASK) === Kind.SEND_NOW) this.#results[words[k + 1]!] = words[k + 2]!;
      }
      this.#settleBatch();
    }
    this.#scanned = tail;
  }

  #settleBatch(): void {
    const count = this.#batchCount;
    this.#batchCount = 0;
    this.#vectorsUsed = 0;
    for (let i = 0; i < count; i++) {
      const socket = this.#batch[i]!;
      if (socket === null) continue;
      this.#batch[i] = null;
      const result = this.#results[i]!;
      this.#results[i] = ALL;
      if (socket.type === SocketType.DGRAM) {
        const last = i + socket.flying - 1;
        this.#results[i] = result;
        this.#settleDatagrams(socket, i, last);
        i = last;
      } else if (result === ALL) {
        const { flying } = socket;
        socket.flying = 0;
        for (let n = 0; n < flying; n++) this.#outbox.dropFirst(socket);
        if (socket.outHead >= 0 || socket.pushing.head !== null || socket.shut || socket.phase === Phase.CLOSING) {
          this.#progressed(socket);
        }
      } else {
        this.short++;
        socket.blocked = true;
        this.sent(socket, result === -ERRNO.EAGAIN ? 0 : result);
      }
    }
  }

  /** The sends `first` to `last` of the batch are datagrams of one socket. Those that found no room stay, in order. */
  #settleDatagrams(socket: UringSocket, first: number, last: number): void {
    const outbox = this.#outbox;
    let kept = -1;
    for (let i = first; i <= last; i++) {
      const result = this.#results[i]!;
      this.#results[i] = ALL;
      this.#batch[i] = null;
      const node = this.#nodes[i]!;
      if (result === -ERRNO.EAGAIN || (result < 0 && this.#refuse(socket, node, -result))) {
        socket.outHead = outbox.next[node]!;
        outbox.next[node] = kept;
        kept = node;
      } else outbox.dropFirst(socket);
    }
    socket.flying = 0;
    if (socket.outHead < 0) socket.outTail = -1;
    for (let node = kept; node >= 0; ) {
      const next = outbox.next[node]!;
      outbox.next[node] = socket.outHead;
      if (socket.outHead < 0) socket.outTail = node;
      socket.outHead = node;
      socket.blocked = true;
      node = next;
    }
    this.#progressed(socket);
  }

  /**
   * A datagram was not sent. What is told may be of an earlier one (udp(7)): only one that is refused again is to blame.
   * @returns whether to try it again
   */
  #refuse(socket: UringSocket, node: number, errno: number): boolean {
    socket.failed = errno;
    if (socket.refused === node) {
      socket.refused = -1;
      this.refused++;
      return false;
    }
    socket.refused = node;
    return true;
  }

  /** A send with a completion has ended, or one without fell short: `result` bytes, or −errno. */
  sent(socket: UringSocket, result: number): void {
    socket.flying = 0;
    if (socket.type === SocketType.DGRAM) {
      const again = result < 0 && result !== -ERRNO.ECANCELED && this.#refuse(socket, socket.outHead, -result);
      if (!again) this.#outbox.dropFirst(socket);
    } else if (result >= 0) this.#outbox.consume(socket, result);
    else if (result !== -ERRNO.EINTR) {
      this.broken(socket, -result);
      return;
    }
    if (socket.outHead < 0) socket.blocked = false;
    this.#progressed(socket);
  }

  /** There is less to send than before. */
  #progressed(socket: UringSocket): void {
    if (socket.pushing.head !== null && socket.unsent <= this.#limit >> 1) {
      for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
        this.settled++;
        op.complete(undefined);
      }
    }
    if (socket.outHead >= 0) {
      this.mark(socket);
      return;
    }
    if (socket.shut && socket.phase !== Phase.CLOSING) this.onShut(socket);
    if (socket.phase === Phase.CLOSING) this.onSent(socket);
  }

  /** The connection is dead: nothing more can be sent. What the peer had sent before can still be read. */
  broken(socket: UringSocket, errno: number): void {
    socket.blocked = false;
    this.#outbox.dropAll(socket);
    if (socket.phase === Phase.CLOSING) {
      this.onSent(socket);
      return;
    }
    socket.failed = errno;
    for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift()) {
      this.settled++;
      op.failErrno(errno, 'push', socket.about);
    }
    this.onBroken(socket);
  }
}

/** Why nothing can be pushed on a stream now, 0 when it can. */
function refusal(socket: UringSocket): number {
  if (socket.failed !== 0) return socket.failed;
  if (socket.shut) return ERRNO.EPIPE;
  return socket.phase === Phase.OPEN || socket.phase === Phase.CONNECTING ? 0 : ERRNO.ENOTCONN;
}

function release(sga: Sga): void {
  if (!Array.isArray(sga)) (sga as HeapBuffer).release();
  else for (const buffer of sga as readonly HeapBuffer[]) buffer.release();
}
