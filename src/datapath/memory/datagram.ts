/**
 * A datagram socket in shared memory: whole messages with a sender, which may be lost where nobody takes them.
 * It touches the datagrams' windows of links and the heap of its datapath.
 */

import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { Family, SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { gather, releaseEach } from '../ends/buffers.ts';
import { DatagramSetup, LONGEST, RECEIVE_BUFFER } from '../ends/datagram-setup.ts';
import { Fifo } from '../ends/fifo.ts';
import { describe, isLoopback, isWildcard, namedIn, readAddress } from '../ends/names.ts';
import { copyOutOfWindow } from './copy.ts';
import type { Hub } from './hub.ts';
import { DATAGRAM_WINDOW, datagramOffset, type End } from './layout.ts';
import type { Link } from './link.ts';
import type { Claim } from './names.ts';
import { spacesOf, unreachable } from './stream-name.ts';

/** What each datagram that waits counts for beyond its bytes. */
const OVERHEAD = 256;
const AF_INET = 2;
const AF_INET6 = 10;

/** A name as a number: port, 4 or 6, and (one more than) the share where the port is shared. */
export function datagramKey(version: number, port: number, share: number): number {
  return port | (version << 16) | ((share + 1) << 20);
}

/** The name without the share: what a sender knows. */
export function portKey(key: number): number {
  return key & 0xfffff;
}

export class DatagramEnd extends DatagramSetup<IpAddress> {
  readonly #hub: Hub;
  /** Hands a datagram to the links, and its reference with it. */
  readonly #send: (end: DatagramEnd, buffer: HeapBuffer, from: number, to: number) => void;
  #claims: readonly Claim[] = [];
  /** Keys of this socket's own names by IP version, for replies; 0 where it has none. */
  #own4 = 0;
  #own6 = 0;
  #remoteKey = 0;
  readonly #received = new Fifo<HeapBuffer>();
  #receivedBytes = 0;
  readonly #pops = new OperationFifo<HeapBuffer | null>();
  #closed = false;

  constructor(
    hub: Hub,
    family: Family,
    send: (end: DatagramEnd, buffer: HeapBuffer, from: number, to: number) => void,
  ) {
    super(family);
    this.#hub = hub;
    this.#send = send;
  }

  // ---- Names ---------------------------------------------------------------------------------------------------

  protected override bindTo(read: IpAddress): IpAddress {
    const spaces = spacesOf('d', this.family, read.host, this.options);
    const shared = this.options.get(SocketOption.REUSE_PORT) === 1;
    const { port, claims } = this.#hub.claimPort(spaces, read.port, shared, describe(read));
    this.#claims = claims;
    this.#hub.announce(claims, null);
    for (const { name, share } of claims) {
      const version = name.startsWith('d6') ? 6 : 4;
      const key = datagramKey(version, port, share);
      if (version === 6) this.#own6 = key;
      else this.#own4 = key;
      this.#hub.receive(key, this);
    }
    return { host: read.host, port };
  }

  protected override reach(to: IpAddress): void {
    this.#remoteKey = keyOf(to, 'connect');
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  /** One datagram to the connected peer; several buffers are gathered into one. */
  push(sga: Sga, op: Operation<void>): void {
    if (this.remote === null) {
      releaseEach(sga);
      op.failErrno(ERRNO.EDESTADDRREQ, 'push');
      return;
    }
    const whole = gather(sga, this.#hub.heap, LONGEST);
    if (typeof whole === 'number') op.failErrno(whole, 'push');
    else this.#transmit(whole, this.#remoteKey, op);
  }

  pushTo(buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    let key = to === null ? replyKey(buffer) : 0;
    if (key === 0) {
      const named = to ?? buffer.peer ?? this.remote;
      if (named === null) {
        buffer.release();
        op.failErrno(ERRNO.EDESTADDRREQ, 'pushTo');
        return;
      }
      try {
        key = keyOf(readAddress(this.family, named, 'pushTo') as IpAddress, 'pushTo');
      } catch (error) {
        buffer.release();
        op.fail(error as Error);
        return;
      }
    }
    this.#transmit(buffer, key, op);
  }

  #transmit(buffer: HeapBuffer, to: number, op: Operation<void>): void {
    if (buffer.length > LONGEST) {
      buffer.release();
      op.failErrno(ERRNO.EMSGSIZE, 'push');
      return;
    }
    if (this.bound === null) {
      try {
        this.autobind();
      } catch (error) {
        buffer.release();
        op.fail(error as Error);
        return;
      }
    }
    const from = to >> 16 === 6 ? this.#own6 : this.#own4;
    op.complete(undefined);
    // Where the socket has no name of the version it sends to, nobody could answer; it says its port all the same.
    this.#send(this, buffer, from === 0 ? datagramKey(to >> 16, this.bound!.port, -1) : from, to);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  pop(op: Operation<HeapBuffer | null>): void {
    if (this.#received.length > 0) {
      const buffer = this.#received.shift();
      this.#receivedBytes -= buffer.length + OVERHEAD;
      op.complete(buffer);
    } else this.#pops.append(op);
  }

  /** Takes a datagram out of the link's window; false where it is lost. */
  arrives(link: Link, bytes: number, from: number): boolean {
    const port = from & 0xffff;
    const version = (from >> 16) & 15;
    if (this.remote !== null && portKey(from) !== this.#remoteKey) return false;
    const limit = this.options.get(SocketOption.RECEIVE_BUFFER) ?? RECEIVE_BUFFER;
    if (this.#closed || (this.#receivedBytes + bytes > limit && this.#received.length > 0)) return false;
    const { heap } = this.#hub;
    const buffer = bytes > heap.largest ? null : heap.tryAlloc(bytes);
    if (buffer === null) return false;
    const base = datagramOffset((1 - link.end) as End);
    copyOutOfWindow(link.memory, base, DATAGRAM_WINDOW, link.datagramRead, heap.region, buffer.offset, bytes);
    if (version === 4 && this.family === Family.INET) writePeer4(buffer, port);
    else buffer.peer = namedIn(this.family, version === 6 ? '::1' : '127.0.0.1', port) as IpAddress;
    if (this.#pops.head !== null) this.#pops.shift()!.complete(buffer);
    else {
      this.#received.push(buffer);
      this.#receivedBytes += bytes + OVERHEAD;
    }
    return true;
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  close(): void {
    this.#closed = true;
    this.#hub.release(this.#claims);
    if (this.#own4 !== 0) this.#hub.receive(this.#own4, null);
    if (this.#own6 !== 0) this.#hub.receive(this.#own6, null);
    while (this.#received.length > 0) this.#received.shift().release();
    this.#pops.fail(ERRNO.ECANCELED, 'pop');
  }

  withdraw(op: Operation<unknown>): void {
    this.#pops.remove(op);
  }
}

/** @throws IsthmusError ENETUNREACH, EINVAL */
function keyOf(to: IpAddress, call: string): number {
  if (!isWildcard(to.host) && !isLoopback(to.host)) throw unreachable(call, to);
  if (to.port === 0) throw systemError(ERRNO.EINVAL, call, describe(to), 'not a port');
  return to.port | ((to.host.includes(':') ? 6 : 4) << 16);
}

/** The sender that is written in a buffer, read without making an address of it; 0 where there is none, or it is far away. */
function replyKey(buffer: HeapBuffer): number {
  if (buffer.peerLength === 0) return 0;
  const { memory, peerOffset: at } = buffer;
  const port = (memory[at + 2]! << 8) | memory[at + 3]!;
  const version = memory[at] === AF_INET ? 4 : memory[at] === AF_INET6 ? 6 : 0;
  if (version === 4) return memory[at + 4] === 127 && port !== 0 ? port | (4 << 16) : 0;
  return 0;
}

function writePeer4(buffer: HeapBuffer, port: number): void {
  const { memory, peerOffset: at } = buffer;
  memory.fill(0, at, at + 16);
  memory[at] = AF_INET;
  memory[at + 2] = port >> 8;
  memory[at + 3] = port & 255;
  memory[at + 4] = 127;
  memory[at + 7] = 1;
  buffer.peerLength = 16;
}
