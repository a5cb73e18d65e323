/**
 * A simulated UDP socket: datagrams that may be lost, doubled, delayed and reordered, and that know their sender.
 * It touches other sockets only through the network.
 */

import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, systemError } from '../../errors.ts';
import { type Family, SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { copyBytes, gather, releaseEach } from '../ends/buffers.ts';
import { DatagramSetup, LONGEST, RECEIVE_BUFFER } from '../ends/datagram-setup.ts';
import { Fifo } from '../ends/fifo.ts';
import { isWildcard, namedIn, readAddress } from '../ends/names.ts';
import type { Attachment } from './attachment.ts';
import { EventKind, type EventTarget, type SimulatedEvent } from './events.ts';
import type { Bound } from './machine.ts';

export class DatagramEnd extends DatagramSetup<Bound> implements EventTarget {
  readonly id: number;
  readonly datapath: Attachment;
  readonly #received = new Fifo<HeapBuffer>();
  #receivedBytes = 0;
  readonly #pops = new OperationFifo<HeapBuffer | null>();
  /** What the network said of an earlier datagram; told once. */
  #error = 0;
  #closed = false;

  constructor(datapath: Attachment, family: Family) {
    super(family);
    this.id = datapath.network.nextId();
    this.datapath = datapath;
  }

  get isConnected(): boolean {
    return this.remote !== null;
  }

  protected override bindTo(read: IpAddress): Bound {
    const { machine, network } = this.datapath;
    if (!machine.owns(read.host)) throw systemError(ERRNO.EADDRNOTAVAIL, 'bind', `${read.host}:${read.port}`);
    if (network.random.chance(network.faults.addressInUse)) {
      throw systemError(ERRNO.EADDRINUSE, 'bind', `${read.host}:${read.port}`, 'simulated');
    }
    const reusePort = this.options.get(SocketOption.REUSE_PORT) === 1;
    const v6Only = this.options.get(SocketOption.V6_ONLY) === 1;
    return machine.datagrams.bind({ ...read, reusePort, v6Only }, this);
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  /** One datagram to the connected peer; several buffers are gathered into one. */
  push(sga: Sga, op: Operation<void>): void {
    if (this.remote === null) {
      releaseEach(sga);
      op.failErrno(ERRNO.EDESTADDRREQ, 'push');
      return;
    }
    const whole = gather(sga, this.datapath.heap, LONGEST);
    if (typeof whole === 'number') op.failErrno(whole, 'push');
    else this.#send(whole, this.remote, op);
  }

  pushTo(buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    const named = to ?? buffer.peer ?? this.remote;
    if (named === null) {
      buffer.release();
      op.failErrno(ERRNO.EDESTADDRREQ, 'pushTo');
      return;
    }
    try {
      to = readAddress(this.family, named, 'pushTo') as IpAddress;
    } catch (error) {
      buffer.release();
      op.fail(error as Error);
      return;
    }
    this.#send(buffer, to, op);
  }

  #send(buffer: HeapBuffer, to: IpAddress, op: Operation<void>): void {
    const { network, machine } = this.datapath;
    const { random, faults } = network;
    if (isWildcard(to.host)) to = { host: to.host === '::' ? '::1' : '127.0.0.1', port: to.port };
    const source = machine.sourceFor(to.host);
    let errno = this.#error;
    this.#error = 0;
    if (buffer.length > LONGEST) errno = ERRNO.EMSGSIZE;
    else if (to.port === 0) errno = ERRNO.EINVAL;
    else if (source === null) errno = ERRNO.ENETUNREACH;
    if (errno !== 0 || source === null) {
      buffer.release();
      op.failErrno(errno, 'push');
      return;
    }
    let bound: Bound;
    try {
      bound = this.autobind();
    } catch (error) {
      buffer.release();
      op.fail(error as Error);
      return;
    }
    const event = network.make(EventKind.DATAGRAM, null);
    event.source = this;
    event.from = { host: isWildcard(bound.host) ? source : bound.host, port: bound.port };
    event.to = to;
    event.buffer = buffer;
    event.offset = buffer.offset;
    event.length = buffer.length;
    op.complete(undefined);
    if (network.ideal) network.deliverDatagram(event);
    else if (random.chance(faults.loss)) network.dropDatagram(event);
    else {
      if (random.chance(faults.duplicate)) {
        const copy = network.make(EventKind.DATAGRAM, null);
        copy.source = this;
        copy.from = event.from;
        copy.to = to;
        copy.buffer = buffer.retain();
        copy.offset = event.offset;
        copy.length = event.length;
        network.post(copy, this.#delay());
      }
      network.post(event, this.#delay());
    }
  }

  #delay(): number {
    const { random, faults, latency } = this.datapath.network;
    return latency() + (random.chance(faults.reorder) ? random.between(faults.stallUs) : 0);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  /** Whether a datagram from there is for this socket. */
  accepts(from: IpAddress): boolean {
    const remote = this.remote;
    return remote === null || (remote.host === from.host && remote.port === from.port);
  }

  pop(op: Operation<HeapBuffer | null>): void {
    if (this.#received.length > 0) {
      const buffer = this.#received.shift();
      this.#receivedBytes -= buffer.length;
      op.complete(buffer);
    } else if (this.#error !== 0) {
      op.failErrno(this.#error, 'pop');
      this.#error = 0;
    } else this.#pops.append(op);
  }

  receive(event: SimulatedEvent): void {
    this.datapath.enqueue(event);
  }

  handle(event: SimulatedEvent): void {
    const { network } = this.datapath;
    if (event.kind === EventKind.DATAGRAM) {
      if (!this.#arrives(event)) {
        network.dropDatagram(event);
        return;
      }
    } else if (!this.#closed) {
      if (this.#pops.head !== null) this.#pops.shift()!.failErrno(ERRNO.ECONNREFUSED, 'pop');
      else this.#error = ERRNO.ECONNREFUSED;
      this.datapath.touched();
    }
    network.recycle(event);
  }

  /** @returns false where there is no room: the datagram is lost */
  #arrives(event: SimulatedEvent): boolean {
    const { offset, length } = event;
    const { heap } = this.datapath;
    let buffer = event.buffer!;
    const limit = this.options.get(SocketOption.RECEIVE_BUFFER) ?? RECEIVE_BUFFER;
    if (this.#closed || (this.#receivedBytes + length > limit && this.#received.length > 0)) return false;
    if (buffer.heap !== heap || buffer.references !== 1 || buffer.offset !== offset || buffer.length !== length) {
      const copy = length > heap.largest ? null : heap.tryAlloc(length);
      if (copy === null) return false;
      copyBytes(buffer, offset, length, copy, copy.offset);
      buffer.release();
      buffer = copy;
    }
    const from = event.from as IpAddress;
    buffer.peer = namedIn(this.family, from.host, from.port) as IpAddress;
    if (this.#pops.head !== null) this.#pops.shift()!.complete(buffer);
    else {
      this.#received.push(buffer);
      this.#receivedBytes += length;
    }
    this.datapath.touched();
    return true;
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  close(): void {
    this.#closed = true;
    if (this.bound !== null) this.datapath.machine.datagrams.release(this.bound, this);
    while (this.#received.length > 0) this.#received.shift().release();
    this.#pops.fail(ERRNO.ECANCELED, 'pop');
  }

  withdraw(op: Operation<unknown>): void {
    this.#pops.remove(op);
  }
}
