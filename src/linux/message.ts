/**
 * Message headers (msghdr, mmsghdr, iovec, packed addresses) laid out once in mapped memory and reused for ever, for
 * sendmsg, recvmsg and their many-at-a-time forms, by call or through io_uring. It calls sendmmsg and recvmmsg.
 */
import { libcFunction, orErrno } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { MSG_NOSIGNAL } from './socket.ts';

const HEADER_BYTES = 64; // struct mmsghdr: a msghdr of 56 bytes, then msg_len
const VECTOR_BYTES = 16;
/** Room for one packed address: sockaddr_in6 is 28 bytes. */
export const MESSAGE_NAME_BYTES = 32;

const cRecvmmsg = libcFunction<[fd: number, headers: number, count: number, flags: number, timeout: number]>(
  'recvmmsg',
  ['int', 'long', 'int', 'int', 'long'],
);
const cSendmmsg = libcFunction<[fd: number, headers: number, count: number, flags: number]>('sendmmsg', [
  'int',
  'long',
  'int',
  'int',
]);

/**
 * `count` messages, each of up to `vectors` pieces and one address. Nothing allocates after construction.
 * A piece is given as (high word, low word, length): for a buffer in an arena the low word is its offset.
 */
export class MessageBatch {
  readonly count: number;
  readonly vectors: number;
  readonly memory: MappedMemory;
  readonly i32: Int32Array;
  readonly #names: number;
  readonly #vectors: number;
  readonly #address: number;

  constructor(count: number, vectors = 1) {
    this.count = count;
    this.vectors = vectors;
    this.#vectors = count * HEADER_BYTES;
    this.#names = this.#vectors + count * vectors * VECTOR_BYTES;
    this.memory = mapArena(this.#names + count * MESSAGE_NAME_BYTES);
    this.i32 = this.memory.i32;
    this.#address = this.memory.address;
    for (let i = 0; i < count; i++) {
      const k = (i * HEADER_BYTES) >> 2;
      this.i32[k + 4] = this.vectorOffset(i, 0); // msg_iov
      this.i32[k + 5] = this.memory.addressHigh;
      this.i32[k + 6] = 1; // msg_iovlen
    }
  }

  /** Byte offset of message i's msghdr in `memory`; also the low word of its address. */
  headerOffset(i: number): number {
    return i * HEADER_BYTES;
  }

  /** Address of message i's msghdr, for sendmsg and recvmsg. */
  headerAddress(i: number): number {
    return this.#address + i * HEADER_BYTES;
  }

  /** Byte offset of message i's packed address in `memory`. */
  nameOffset(i: number): number {
    return this.#names + i * MESSAGE_NAME_BYTES;
  }

  vectorOffset(i: number, piece: number): number {
    return this.#vectors + (i * this.vectors + piece) * VECTOR_BYTES;
  }

  /** Sets one piece of message i. */
  setVector(i: number, piece: number, high: number, low: number, length: number): void {
    const k = this.vectorOffset(i, piece) >> 2;
    this.i32[k] = low;
    this.i32[k + 1] = high;
    this.i32[k + 2] = length;
  }

  setVectorCount(i: number, pieces: number): void {
    this.i32[((i * HEADER_BYTES) >> 2) + 6] = pieces;
  }

  /** Length of the packed address: 0 for none (a connected socket); before a receive, the room for it. */
  setNameLength(i: number, length: number): void {
    const k = (i * HEADER_BYTES) >> 2;
    this.i32[k] = length === 0 ? 0 : this.nameOffset(i);
    this.i32[k + 1] = length === 0 ? 0 : this.memory.addressHigh;
    this.i32[k + 2] = length;
  }

  /** After a receive: length of the sender's packed address. */
  nameLength(i: number): number {
    return this.i32[((i * HEADER_BYTES) >> 2) + 2]!;
  }

  /** After a receive: MSG_TRUNC and others. */
  flags(i: number): number {
    return this.i32[((i * HEADER_BYTES) >> 2) + 12]!;
  }

  /** After {@link receive} or {@link send}: bytes of message i. */
  length(i: number): number {
    return this.i32[((i * HEADER_BYTES) >> 2) + 14]!;
  }

  /** `recvmmsg(2)`: how many of the first `count` messages were filled, or −errno. */
  receive(fd: number, count: number, flags: number): number {
    return orErrno(cRecvmmsg(fd, this.#address, count, flags, 0));
  }

  /** `sendmmsg(2)`: how many messages from number `first` on were taken, or −errno. */
  send(fd: number, first: number, count: number, flags: number): number {
    return orErrno(cSendmmsg(fd, this.#address + first * HEADER_BYTES, count, flags | MSG_NOSIGNAL));
  }

  close(): void {
    this.memory.close();
  }
}
