/**
 * netlink(7): messages with nested attributes built and read, and a socket that asks the kernel and is told of changes.
 * It opens netlink sockets in the calling thread's network namespace; a socket stays in it for its life.
 */
import { ERRNO, type IsthmusError, systemError } from '../errors.ts';
import { close, libcFunction, orThrow } from './libc.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { releaseScratch, reserveScratch, scratchAddress, scratchU16 } from './scratch.ts';
import { connectTo, expectSuccess, recv, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, send, setsockopt } from './socket.ts';

export const AF_NETLINK = 16;
export const NETLINK_ROUTE = 0;
export const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER_BYTES = 16;
export const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;
const NLMSGERR_ATTR_MSG = 1;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** The kernel makes no message longer than this for a reader with so much room. */
const RECEIVE_BYTES = 1 << 15;
const SEND_BYTES = 1 << 12;
const RECEIVE_QUEUE_BYTES = 1 << 20;
const SO_RCVBUF = 8;
const DUMP_TRIES = 5;

const cSocket = libcFunction<[family: number, type: number, protocol: number]>('socket', ['int', 'int', 'int']);
const decoder = new TextDecoder();

/** Builds a message piece by piece: its fixed part, then attributes. Numbers are in the machine's order. */
export class NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly bytes = new Uint8Array(SEND_BYTES);
  length = HEADER_BYTES;
  readonly #view = new DataView(this.bytes.buffer);

  constructor(type: number, flags = 0) {
    this.type = type;
    this.flags = flags | NLM_F_REQUEST;
  }

  u8(value: number): this {
    this.#room(1);
    this.bytes[this.length++] = value;
    return this;
  }

  u16(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.length, value, true);
    this.length += 2;
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.length, value, true);
    this.length += 4;
    return this;
  }

  /** An attribute: bytes, a 32-bit number, text with its closing zero, or what `value` appends. */
  attribute(type: number, value: Uint8Array | number | string | ((message: this) => void)): this {
    const start = this.length;
    this.#room(4);
    this.length += 4;
    let nested = 0;
    if (typeof value === 'number') this.u32(value);
    else if (typeof value === 'string') this.#append(new TextEncoder().encode(`${value}\0`));
    else if (value instanceof Uint8Array) this.#append(value);
    else {
      nested = NLA_F_NESTED;
      value(this);
    }
    this.#view.setUint16(start, this.length - start, true);
    this.#view.setUint16(start + 2, type | nested, true);
    this.length = align(this.length);
    return this;
  }

  /** Completes the header. */
  finish(sequence: number, flags: number): this {
    this.#view.setUint32(0, this.length, true);
    this.#view.setUint16(4, this.type, true);
    this.#view.setUint16(6, this.flags | flags, true);
    this.#view.setUint32(8, sequence, true);
    return this;
  }

  #append(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  #room(bytes: number): void {
    if (this.length + bytes > SEND_BYTES - 4)
      throw new RangeError(`a netlink message of more than ${SEND_BYTES} bytes`);
  }
}

/** One message of the kernel: a copy of its bytes behind the header. Reading outside of it gives RangeError. */
export interface NetlinkReply {
  readonly type: number;
  readonly flags: number;
  readonly view: DataView;
}

/** Attributes by type, each a view of its bytes; of several of one type the last. Malformed rest is left out. */
export type Attributes = ReadonlyMap<number, DataView>;

/** Reads the attributes of a message behind its fixed part, or those nested in one. */
export function readAttributes(view: DataView, from = 0): Attributes {
  const attributes = new Map<number, DataView>();
  for (let at = from; at + 4 <= view.byteLength; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > view.byteLength) break;
    const type = view.getUint16(at + 2, true) & NLA_TYPE_MASK;
    attributes.set(type, new DataView(view.buffer, view.byteOffset + at + 4, length - 4));
    at += align(length);
  }
  return attributes;
}

/** A number of 1, 2 or 4 bytes; `otherwise` where the attribute is missing. */
export function readNumber<Otherwise>(view: DataView | undefined, otherwise: Otherwise): number | Otherwise {
  if (view === undefined) return otherwise;
  if (view.byteLength >= 4) return view.getUint32(0, true);
  if (view.byteLength >= 2) return view.getUint16(0, true);
  return view.byteLength === 1 ? view.getUint8(0) : otherwise;
}

export function readText(view: DataView | undefined): string {
  return view === undefined ? '' : decoder.decode(readBytes(view)).replace(/\0.*$/s, '');
}

export function readBytes(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** One netlink socket. `fd` becomes readable when changes are there (watch.ts), if it is a member of groups. */
export class NetlinkSocket {
  readonly fd: number;
  readonly #memory: MappedMemory;
  #sequence = 1;
  #open = true;

  /** @param groups multicast groups to be told about */
  constructor(protocol: number, groups: readonly number[] = []) {
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    this.fd = orThrow(cSocket(AF_NETLINK, type, protocol), 'socket', 'netlink');
    this.#memory = mapArena(RECEIVE_BYTES + SEND_BYTES, { populate: false });
    const name = reserveScratch(16); // sockaddr_nl: the kernel is port 0
    try {
      scratchU16[name >> 1] = AF_NETLINK;
      expectSuccess(connectTo(this.fd, scratchAddress + name, 12), 'connect', 'netlink');
      setsockopt(this.fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
      setsockopt(this.fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
      if (groups.length > 0) setsockopt(this.fd, 1, SO_RCVBUF, RECEIVE_QUEUE_BYTES);
      for (const group of groups) setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      releaseScratch(name, 16);
    }
  }

  /**
   * Sends a request that changes something, or asks for one thing; gives what came before the acknowledgement.
   * @param about what the error's message calls it
   * @throws IsthmusError with the kernel's errno, and its own words where it has some
   */
  request(message: NetlinkMessage, about: string): NetlinkReply[] {
    return this.#exchange(message, NLM_F_ACK, about).replies;
  }

  /** Asks for a list. A list that changed while it was read is read again. */
  dump(message: NetlinkMessage, about: string): NetlinkReply[] {
    for (let i = 1; ; i++) {
      const { replies, interrupted } = this.#exchange(message, NLM_F_DUMP, about);
      if (!interrupted || i === DUMP_TRIES) return replies;
    }
  }

  /** For members of groups: what has arrived; null where messages were lost (read the lists again). Never waits. */
  changes(): NetlinkReply[] | null {
    const replies: NetlinkReply[] = [];
    for (;;) {
      const length = recv(this.fd, this.#memory.address, RECEIVE_BYTES, 0);
      if (length === -ERRNO.EAGAIN) return replies;
      if (length === -ERRNO.ENOBUFS) return null;
      expectSuccess(length, 'recv', 'netlink');
      for (const { reply } of this.#messages(length)) replies.push(reply);
    }
  }

  /** Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
    this.#memory.close();
  }

  // The kernel works a request off inside send(2) and makes the next piece of a list inside recv(2): never is there
  // anything to wait for, and EAGAIN means that an answer is missing for good.
  #exchange(message: NetlinkMessage, flags: number, about: string): { replies: NetlinkReply[]; interrupted: boolean } {
    const sequence = this.#sequence++;
    message.finish(sequence, flags);
    this.#memory.u8.set(message.bytes.subarray(0, message.length), RECEIVE_BYTES);
    expectSuccess(send(this.fd, this.#memory.address + RECEIVE_BYTES, message.length, 0), 'netlink', about);
    const replies: NetlinkReply[] = [];
    let interrupted = false;
    for (;;) {
      const length = expectSuccess(recv(this.fd, this.#memory.address, RECEIVE_BYTES, 0), 'netlink', about);
      for (const { reply, number } of this.#messages(length)) {
        if (number !== sequence) continue; // an answer to a request that failed half-way
        if ((reply.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (reply.type === NLMSG_ERROR || reply.type === NLMSG_DONE) {
          const errno = reply.view.byteLength >= 4 ? reply.view.getInt32(0, true) : 0;
          if (errno !== 0) throw refusal(errno, reply, about);
          return { replies, interrupted };
        }
        replies.push(reply);
      }
    }
  }

  #messages(length: number): { reply: NetlinkReply; number: number }[] {
    const copy = this.#memory.u8.slice(0, length);
    const view = new DataView(copy.buffer);
    const messages: { reply: NetlinkReply; number: number }[] = [];
    for (let at = 0; at + HEADER_BYTES <= length; ) {
      const bytes = view.getUint32(at, true);
      if (bytes < HEADER_BYTES || at + bytes > length) break;
      const body = new DataView(copy.buffer, at + HEADER_BYTES, bytes - HEADER_BYTES);
      const reply = { type: view.getUint16(at + 4, true), flags: view.getUint16(at + 6, true), view: body };
      messages.push({ reply, number: view.getUint32(at + 8, true) });
      at += align(bytes);
    }
    return messages;
  }
}

function refusal(errno: number, reply: NetlinkReply, about: string): IsthmusError {
  let words = '';
  // Behind the errno stands the header of the request (NETLINK_CAP_ACK), and behind that attributes.
  if ((reply.flags & NLM_F_ACK_TLVS) !== 0 && reply.type === NLMSG_ERROR) {
    words = readText(readAttributes(reply.view, 4 + HEADER_BYTES).get(NLMSGERR_ATTR_MSG));
  }
  const hint = words || (errno === -ERRNO.EPERM ? 'this needs CAP_NET_ADMIN' : undefined);
  return systemError(errno, 'netlink', about, hint);
}

function align(bytes: number): number {
  return (bytes + 3) & ~3;
}
