/**
 * The receiving half of the io_uring datapath: buffers of the heap lie ready in the kernel, multishot receives fill them,
 * and the filled ones go to pops without a copy. It writes receives into the ring and completes pops.
 *
 * Bounds. A queue whose program does not pop stops receiving at `heldLimit` buffers, earlier when many queues do, and
 * goes on when a pop finds nothing. Since a multishot receive takes all it can get before it can be stopped, fewer
 * buffers lie ready the more are held. If the held ones use up all that may be held, streams receive one buffer at a
 * time from a small reserve, and only for a pop that waits: what is taken from there comes back. Who finds no buffer
 * waits in line.
 */
import { ERRNO } from '../../errors.ts';
import { SocketType } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { MappedMemory } from '../../linux/memory.ts';
import { MSG_TRUNC } from '../../linux/socket.ts';
import type { Ring } from '../../linux/uring.ts';
import { CQE_BUFFER_SHIFT, CqeFlag, Op, RECV_MULTISHOT, RECVSEND_POLL_FIRST, SqeFlag } from '../../linux/uring-abi.ts';
import { prepCancelUserData, prepRecvmsgMultishot } from '../../linux/uring-prep.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { Phase } from '../sockets/sock.ts';
import { DATAGRAM_HEADER_BYTES, DATAGRAM_NAME_BYTES, datagramShape, type PoolShape, streamShape } from './options.ts';
import { Pool } from './pool.ts';
import { Silence } from './silence.ts';
import { Flight, Kind, SLOT_SHIFT, type UringSocket } from './socket.ts';

/** Received bytes that are worth copying out of a large buffer while buffers are scarce. */
const SMALL = 1024;
/** Bytes of mapped memory for the msghdr of datagram receives, at its start. */
export const RECEIVER_BYTES = 64;
const PAYLOAD = DATAGRAM_HEADER_BYTES + DATAGRAM_NAME_BYTES;

export interface ReceiverOptions {
  readonly receiveBuffers?: number | undefined;
  readonly datagramBuffers?: number | undefined;
  readonly heldLimit?: number | undefined;
}

export class Receiver {
  /** Datagrams cut because their buffer was too short. */
  truncated = 0;
  /** Receives that found no buffer. */
  starvations = 0;
  /** A stream has failed; `failed` says why. */
  onFailed: (socket: UringSocket) => void = () => {};
  /** Who may have been reset without a word. */
  readonly silence = new Silence((socket) => this.cancel(socket));
  readonly #ring: Ring;
  readonly #heap: Heap;
  readonly #streams: Pool;
  readonly #streamShape: PoolShape;
  readonly #reserve: Pool | null;
  #datagrams: Pool | null = null;
  readonly #datagramShape: PoolShape;
  readonly #heldLimit: number;
  /** The msghdr of every multishot recvmsg: room for a name, nothing else. */
  readonly #header: MappedMemory;
  /** Buffers received and not popped, by their index in the heap; linked through their `tag`. */
  readonly #held: (HeapBuffer | null)[];
  #heldStreams = 0;
  #heldDatagrams = 0;
  #starved: UringSocket[] = [];

  constructor(ring: Ring, heap: Heap, header: MappedMemory, options: ReceiverOptions) {
    this.#ring = ring;
    this.#heap = heap;
    this.#header = header;
    header.i32[2] = DATAGRAM_NAME_BYTES; // msg_namelen
    this.#heldLimit = options.heldLimit ?? 64;
    if (!(this.#heldLimit >= 1)) throw new RangeError('heldLimit must be at least 1');
    this.#held = new Array<HeapBuffer | null>(heap.bufferCount).fill(null);
    const stats = heap.stats();
    this.#datagramShape = datagramShape(stats, options.datagramBuffers);
    this.#streamShape = streamShape(stats, options.receiveBuffers);
    const { bytes, count, reserve } = this.#streamShape;
    this.#streams = new Pool(ring, heap, 0, bytes, count);
    this.#reserve = reserve > 0 ? new Pool(ring, heap, 1, bytes, reserve) : null;
    this.replenish();
  }

  /** A datagram socket is about to be made. */
  needDatagrams(): void {
    const { bytes, count } = this.#datagramShape;
    this.#datagrams ??= new Pool(this.#ring, this.#heap, 2, bytes, count);
  }

  /** The last datagram socket is closed. */
  releaseDatagrams(): void {
    this.#datagrams?.close();
    this.#datagrams = null;
  }

  /** Buffers that lie ready for the kernel to receive into: as many as the turns of late have used. */
  get ready(): number {
    return this.#streams.present + (this.#reserve?.present ?? 0) + (this.#datagrams?.present ?? 0);
  }

  /** Sockets that wait for buffers. */
  get starving(): boolean {
    return this.#starved.length > 0;
  }

  // ---- Pops ----------------------------------------------------------------------------------------------------

  pop(socket: UringSocket, op: Operation<HeapBuffer | null>): void {
    if (socket.held > 0) op.complete(this.#unhold(socket));
    else if (socket.ended) {
      if (socket.failed !== 0) op.failErrno(socket.failed, 'pop', socket.about);
      else op.complete(null);
    } else if (socket.type === SocketType.STREAM && socket.phase !== Phase.OPEN && socket.phase !== Phase.CONNECTING) {
      op.failErrno(ERRNO.ENOTCONN, 'pop', socket.about);
    } else {
      socket.waiting.append(op as Operation<unknown>);
      if (socket.receiving === Flight.NONE && socket.phase !== Phase.CONNECTING) this.arm(socket);
    }
  }

  /** Begins to receive. Before anything was received the kernel had better wait than try. */
  arm(socket: UringSocket): void {
    if (socket.starved) return;
    socket.receiving = Flight.ARMED;
    const ring = this.#ring;
    const data = socket.slot << SLOT_SHIFT;
    if (socket.type === SocketType.DGRAM) {
      socket.receivingKind = Kind.DATAGRAM;
      const { addressHigh } = this.#header;
      const { group } = this.#datagrams!;
      const { file, fileFlag, generation } = socket;
      prepRecvmsgMultishot(ring, file, fileFlag, addressHigh, 0, group, 0, data | Kind.DATAGRAM, generation);
      return;
    }
    const one = this.#streams.present === 0 && this.#reserve !== null;
    const kind = one ? Kind.RECEIVE_ONE : Kind.RECEIVE;
    const how = (one ? 0 : RECV_MULTISHOT) | (socket.received ? 0 : RECVSEND_POLL_FIRST);
    const k = ring.sqe();
    const m = ring.sqes;
    m[k] = Op.RECV | ((socket.fileFlag | SqeFlag.BUFFER_SELECT) << 8) | (how << 16);
    m[k + 1] = socket.file;
    m[k + 2] = 0;
    m[k + 3] = 0;
    m[k + 4] = 0;
    m[k + 5] = 0;
    m[k + 6] = 0; // as many bytes as the buffer has
    m[k + 7] = 0;
    m[k + 8] = data | kind;
    m[k + 9] = socket.generation;
    m[k + 10] = one ? this.#reserve!.group : this.#streams.group;
    m[k + 11] = 0;
    socket.receivingKind = kind;
    socket.received = true;
  }

  /** Ends the receive in flight; its last completion is still to come. */
  cancel(socket: UringSocket): void {
    if (socket.receiving !== Flight.ARMED) return;
    socket.receiving = Flight.CANCELLING;
    const target = (socket.slot << SLOT_SHIFT) | socket.receivingKind;
    prepCancelUserData(this.#ring, target, socket.generation, SqeFlag.CQE_SKIP, Kind.NONE, 0);
  }

  // ---- Completions ---------------------------------------------------------------------------------------------

  /**
   * Bytes of a stream, its end, or why there are none. Hot.
   * @returns whether the receive has ended, for whoever closes the socket
   */
  onReceive(socket: UringSocket, kind: number, result: number, flags: number): boolean {
    const ended = (flags & CqeFlag.MORE) === 0;
    if (ended) socket.receiving = Flight.NONE;
    if ((flags & CqeFlag.BUFFER) !== 0) {
      const pool = kind === Kind.RECEIVE ? this.#streams : this.#reserve!;
      this.#received(socket, pool, flags >>> CQE_BUFFER_SHIFT, result);
    }
    if (socket.phase === Phase.OPEN) socket.unread = (flags & CqeFlag.SOCK_NONEMPTY) !== 0;
    if (result <= 0) {
      this.#notReceived(socket, result);
      return ended;
    }
    // Only bytes raise the suspicion: the end of a receive that was asked must not lead to asking again.
    socket.heard = true;
    if (!socket.suspected) this.silence.suspect(socket);
    if (ended && socket.waiting.head !== null && socket.phase === Phase.OPEN) this.arm(socket);
    return ended;
  }

  #received(socket: UringSocket, pool: Pool, id: number, length: number): void {
    if (length <= 0 || socket.phase !== Phase.OPEN) {
      pool.putBack(id);
      socket.unread = true; // the peer is still sending, see Closer
      return;
    }
    const op = socket.waiting.head;
    if (op === null && length <= SMALL && this.#scarce(pool)) {
      const filled = pool.peek(id);
      const copy = this.#copy(filled, filled.base, length);
      if (copy !== null) {
        pool.putBack(id);
        this.#hold(socket, copy);
        return;
      }
    }
    const buffer = pool.take(id);
    buffer.length = length;
    if (op === null) this.#hold(socket, buffer);
    else {
      socket.waiting.shift();
      op.complete(buffer);
    }
  }

  /** The end of the stream, a failure, or no buffer. */
  #notReceived(socket: UringSocket, result: number): void {
    if (result === -ERRNO.ENOBUFS) {
      if (socket.receivingKind === Kind.RECEIVE) this.#streams.tooFew();
      this.#starve(socket);
    } else if (result === -ERRNO.ECANCELED || result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      if (socket.receiving === Flight.NONE && socket.waiting.head !== null && socket.phase === Phase.OPEN)
        this.arm(socket);
    } else {
      if (result < 0 && socket.failed === 0) socket.failed = -result;
      this.end(socket);
      if (result < 0) this.onFailed(socket);
    }
  }

  /** The kernel filled a buffer for a socket that is no more. */
  reclaim(kind: number, id: number): void {
    if (kind === Kind.RECEIVE) this.#streams.putBack(id);
    else if (kind === Kind.RECEIVE_ONE) this.#reserve!.putBack(id);
    else this.#datagrams?.putBack(id);
  }

  /** Nothing more will be received: pops that wait learn it. What is held can still be popped. */
  end(socket: UringSocket): void {
    socket.ended = true;
    for (let op = socket.waiting.shift(); op !== null; op = socket.waiting.shift()) {
      if (socket.failed !== 0) op.failErrno(socket.failed, 'pop', socket.about);
      else op.complete(null);
    }
  }

  /** A datagram: header, sender's address, payload. @returns as {@link onReceive} */
  onDatagram(socket: UringSocket, result: number, flags: number): boolean {
    const ended = (flags & CqeFlag.MORE) === 0;
    if (ended) socket.receiving = Flight.NONE;
    if ((flags & CqeFlag.BUFFER) !== 0) {
      const id = flags >>> CQE_BUFFER_SHIFT;
      if (result < PAYLOAD || socket.phase === Phase.CLOSING) this.#datagrams!.putBack(id);
      else this.#datagramIn(socket, id, result - PAYLOAD);
    }
    if (result === -ERRNO.ENOBUFS) {
      this.#datagrams!.tooFew();
      this.#starve(socket);
    } else if (result < 0 && result !== -ERRNO.ECANCELED && result !== -ERRNO.EINTR && result !== -ERRNO.EAGAIN) {
      // What the network said of an earlier datagram (ECONNREFUSED); the socket goes on. Were it not received at once,
      // the next datagram would not be sent for it.
      const op = socket.waiting.shift();
      if (op !== null) op.failErrno(result, 'pop', socket.about);
      else socket.failed = -result;
      if (socket.phase === Phase.OPEN) this.arm(socket);
    }
    const idle = socket.receiving === Flight.NONE && !socket.starved;
    if (idle && socket.waiting.head !== null && socket.phase !== Phase.CLOSING) this.arm(socket);
    return ended;
  }

  #datagramIn(socket: UringSocket, id: number, length: number): void {
    const pool = this.#datagrams!;
    const op = socket.waiting.head;
    const { i32 } = this.#heap.region;
    const filled = pool.peek(id);
    const header = filled.base >> 2;
    const nameLength = Math.min(i32[header]!, DATAGRAM_NAME_BYTES);
    if ((i32[header + 3]! & MSG_TRUNC) !== 0) this.truncated++;
    let buffer: HeapBuffer | null = null;
    if (op === null && length <= SMALL && this.#scarce(pool))
      buffer = this.#copy(filled, filled.base + PAYLOAD, length);
    if (buffer === null) {
      buffer = pool.take(id);
      buffer.offset = buffer.base + PAYLOAD;
      buffer.length = length;
    } else pool.putBack(id);
    const peer = buffer.peerOffset >> 2;
    const name = header + (DATAGRAM_HEADER_BYTES >> 2);
    for (let w = 0; w < DATAGRAM_NAME_BYTES >> 2; w++) i32[peer + w] = i32[name + w]!;
    buffer.peerLength = nameLength;
    if (op === null) this.#hold(socket, buffer);
    else {
      socket.waiting.shift();
      op.complete(buffer);
    }
  }

  // ---- Held buffers --------------------------------------------------------------------------------------------

  #scarce(pool: Pool): boolean {
    return pool.present < pool.count >> 1;
  }

  /** A copy in a buffer that fits, so that the large one is free at once; null where the heap has none smaller. */
  #copy(from: HeapBuffer, offset: number, length: number): HeapBuffer | null {
    const copy = this.#heap.tryAlloc(length);
    if (copy === null) return null;
    if (copy.capacity >= from.capacity) {
      copy.release();
      return null;
    }
    copy.memory.copyWithin(copy.base, offset, offset + length);
    return copy;
  }

  #hold(socket: UringSocket, buffer: HeapBuffer): void {
    buffer.tag = -1;
    this.#held[buffer.index] = buffer;
    if (socket.heldLast < 0) socket.heldFirst = buffer.index;
    else this.#held[socket.heldLast]!.tag = buffer.index;
    socket.heldLast = buffer.index;
    socket.held++;
    let left: number;
    if (socket.type === SocketType.DGRAM) {
      if (buffer.capacity >= this.#datagramShape.bytes) this.#heldDatagrams++;
      left = this.#datagramShape.most - this.#heldDatagrams;
    } else {
      if (buffer.capacity >= this.#streamShape.bytes) this.#heldStreams++;
      left = this.#streamShape.most - this.#heldStreams;
    }
    // The fewer buffers are left for all, the fewer a queue may keep: a burst may use many, a crowd leaves room for others.
    if (socket.held >= this.#heldLimit || socket.held > left >> 2) this.cancel(socket);
  }

  #unhold(socket: UringSocket): HeapBuffer {
    const buffer = this.#held[socket.heldFirst]!;
    this.#held[buffer.index] = null;
    socket.heldFirst = buffer.tag;
    if (socket.heldFirst < 0) socket.heldLast = -1;
    socket.held--;
    if (socket.type === SocketType.DGRAM) {
      if (buffer.capacity >= this.#datagramShape.bytes) this.#heldDatagrams--;
    } else if (buffer.capacity >= this.#streamShape.bytes) this.#heldStreams--;
    return buffer;
  }

  /** Frees what was received and will not be popped. @returns whether there was any */
  drop(socket: UringSocket): boolean {
    const any = socket.held > 0;
    while (socket.held > 0) this.#unhold(socket).release();
    return any;
  }

  // ---- Buffers ---------------------------------------------------------------------------------------------------

  #starve(socket: UringSocket): void {
    this.starvations++;
    if (socket.starved || socket.waiting.head === null) return;
    socket.starved = true;
    this.#starved.push(socket);
  }

  /** Before each submit: buffers that came back go to the kernel, and those who wait for them receive again. */
  replenish(): void {
    this.#streams.fill(ready(this.#streamShape, this.#heldStreams));
    this.#reserve?.fill(this.#reserve.count);
    this.#datagrams?.fill(ready(this.#datagramShape, this.#heldDatagrams));
    if (this.#starved.length > 0) this.#feed();
  }

  /** One buffer each, in the order in which they ran out. */
  #feed(): void {
    let streams = this.#streams.present + (this.#reserve?.present ?? 0);
    let datagrams = this.#datagrams?.present ?? 0;
    if (streams === 0 && datagrams === 0) return;
    const waiting: UringSocket[] = [];
    for (const socket of this.#starved) {
      const datagram = socket.type === SocketType.DGRAM;
      if ((datagram ? datagrams : streams) <= 0) {
        waiting.push(socket);
        continue;
      }
      socket.starved = false;
      const wants = socket.receiving === Flight.NONE && socket.waiting.head !== null;
      if (!wants || socket.phase === Phase.CLOSING || socket.phase === Phase.FREE) continue;
      if (datagram) datagrams--;
      else streams--;
      this.arm(socket);
    }
    this.#starved = waiting;
  }

  close(): void {
    this.#streams.close();
    this.#reserve?.close();
    this.#datagrams?.close();
  }
}

/** How many buffers should lie ready when so many are held: a quarter of those that are left. */
function ready(shape: PoolShape, held: number): number {
  const left = shape.most - held;
  return left <= 0 ? 0 : Math.min(shape.count, Math.max(1, left >> 2));
}
