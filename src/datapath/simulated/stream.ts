/**
 * One end of a simulated stream connection (TCP or Unix): connect, accept, data in order under a window, half-close, reset.
 * It touches its peer only through events of the network, or directly where the network is ideal.
 */
import { ERRNO } from '../../errors.ts';
import { type Address, type Family, SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { releaseEach } from '../ends/buffers.ts';
import { Fifo } from '../ends/fifo.ts';
import { describe } from '../ends/names.ts';
import { Outbox } from '../ends/outbox.ts';
import { Phase, StreamSetup } from '../ends/stream-setup.ts';
import type { Attachment } from './attachment.ts';
import { EventKind, type EventTarget, type SimulatedEvent } from './events.ts';
import { Inbox } from './inbox.ts';
import type { SimulatedNetwork } from './network.ts';
import { StreamName } from './stream-name.ts';

/** Attempts to find memory for what arrives, 1, 2, 4 … 8192 ms apart, before the connection is given up. */
const MEMORY_ATTEMPTS = 16;

export class StreamEnd extends StreamSetup<StreamEnd, Address> implements EventTarget {
  readonly id: number;
  readonly datapath: Attachment;
  readonly name: StreamName;
  peer: StreamEnd | null = null;
  /** No program holds this end any more; it only sends what is left. */
  orphan = false;
  readonly #network: SimulatedNetwork;

  // Receiving.
  readonly #in: Inbox;
  #ended = false;
  #error = 0;
  /** Events that must wait, in order, until there is memory for the first. */
  readonly #held = new Fifo<SimulatedEvent>();
  #attempts = 0;
  #retryUnderWay = false;
  /** Bytes popped that the peer does not know of yet. */
  #credit = 0;
  #creditUnderWay = false;
  /** When the latest of the events that must stay in order arrives here, µs. */
  #latest = 0;

  // Sending.
  readonly #out: Outbox;
  /** Bytes sent that the peer has not popped, as far as this end knows. */
  #inFlight = 0;
  #finished = false;
  #finSent = false;
  /** Counted among its datapath's draining ends. */
  #draining = false;

  constructor(datapath: Attachment, family: Family) {
    super(datapath, family);
    this.#network = datapath.network;
    this.id = this.#network.nextId();
    this.datapath = datapath;
    this.name = new StreamName(this);
    const { random, faults } = this.#network;
    this.#in = new Inbox(datapath.heap, random.between(faults.windowBytes));
    this.#out = new Outbox(random.between(faults.windowBytes));
  }

  setOption(option: SocketOption, value: number): void {
    this.options.set(option, value);
    if (option === SocketOption.RECEIVE_BUFFER) this.#in.window = Math.max(1, value);
    else if (option === SocketOption.SEND_BUFFER) this.#out.limit = Math.max(0, value);
  }

  get unsentBytes(): number {
    return this.#out.bytes;
  }

  get listening(): boolean {
    return this.phase === Phase.LISTENING;
  }

  get backlogFull(): boolean {
    return this.backlog === null || this.backlog.full;
  }

  // ---- Setting up ----------------------------------------------------------------------------------------------

  protected override reach(to: Address): void {
    const network = this.#network;
    const event = network.make(EventKind.SYN, null);
    event.source = this;
    event.to = to;
    network.post(event, network.latency());
  }

  /** The network's answer to an attempt that failed. */
  refuse(errno: number): void {
    const event = this.#network.make(EventKind.REFUSED, this);
    event.number = errno;
    this.#network.post(event, this.#network.latency());
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  push(sga: Sga, op: Operation<void>): void {
    if (this.phase !== Phase.OPEN || this.#finished) {
      releaseEach(sga);
      const gone = this.phase === Phase.BROKEN || this.#finished;
      op.failErrno(gone ? ERRNO.EPIPE : ERRNO.ENOTCONN, 'push');
      return;
    }
    const { token } = op;
    if (!('references' in sga)) for (const buffer of sga) this.#out.add(buffer, token);
    else if (this.#network.ideal && this.#out.empty && this.peer!.#takes(sga)) {
      op.complete(undefined);
      return;
    } else this.#out.add(sga, token);
    this.#transmit();
    this.#out.admit(op);
  }

  /** Sends as much as the peer's window has room for. */
  #transmit(): void {
    const { random, faults, ideal } = this.#network;
    const peer = this.peer!;
    const out = this.#out;
    if (ideal && !out.empty && (peer.orphan || peer.phase !== Phase.OPEN)) {
      this.#fail(ERRNO.ECONNRESET);
      if (peer.phase === Phase.OPEN) peer.#reset();
      return;
    }
    while (!out.empty && this.phase === Phase.OPEN) {
      const { buffer, offset, left, begun } = out.first;
      const room = peer.#in.window - (ideal ? peer.#in.bytes : this.#inFlight);
      if (room <= 0) break;
      let bytes = Math.min(left, peer.#in.heap.largest);
      if (!ideal) {
        bytes = Math.min(bytes, faults.segmentBytes, room);
        if (random.chance(faults.split)) bytes = 1 + random.below(bytes);
        this.#send(buffer, offset, bytes, bytes === left);
      } else if (!peer.#takeSegment(buffer, offset, bytes, !begun && bytes === left, bytes === left)) {
        this.#retryLater();
        break;
      }
      out.advance(bytes);
    }
    out.settle();
    if (!out.empty || this.phase !== Phase.OPEN) return;
    this.#drained();
    if (!this.#finished || this.#finSent) return;
    this.#finSent = true;
    if (ideal) peer.#end();
    else this.#post(EventKind.FIN, peer);
  }

  #drained(): void {
    if (this.#draining) this.datapath.draining--;
    this.#draining = false;
  }

  /** One segment under way. Each segment holds a reference; the last of a buffer takes over the pusher's. */
  #send(buffer: HeapBuffer, offset: number, bytes: number, last: boolean): void {
    const { random, faults } = this.#network;
    this.#inFlight += bytes;
    if (!last) buffer.retain();
    if (random.chance(faults.reset)) {
      this.#network.brokenConnections++;
      this.#post(EventKind.RST, this.peer!);
      this.#post(EventKind.RST, this);
    }
    const event = this.#network.make(EventKind.SEGMENT, this.peer);
    event.buffer = buffer;
    event.offset = offset;
    event.length = bytes;
    let delay = this.#network.latency();
    if (random.chance(faults.stall)) delay += random.between(faults.stallUs);
    this.peer!.#latest = this.#network.post(event, delay, this.peer!.#latest);
  }

  /** Sets an event under way that must not pass others to the same end. */
  #post(kind: EventKind, to: StreamEnd, number = 0): void {
    const event = this.#network.make(kind, to);
    event.number = number;
    to.#latest = this.#network.post(event, this.#network.latency(), to.#latest);
  }

  #retryLater(): void {
    if (this.#retryUnderWay) return;
    this.#retryUnderWay = true;
    const delay = 1000 * 2 ** Math.min(13, this.#attempts++);
    this.#network.post(this.#network.make(EventKind.RETRY, this), delay);
  }

  /** No more pushes; the peer learns of it after what is unsent. */
  finish(): void {
    if (this.phase !== Phase.OPEN || this.#finished) return;
    this.#finished = true;
    this.#transmit();
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  pop(op: Operation<HeapBuffer | null>): void {
    if (!this.#in.empty) this.#acknowledge(this.#in.give(op));
    else if (this.#error !== 0) op.failErrno(this.#error, 'pop');
    else if (this.#ended) op.complete(null);
    else if (this.phase !== Phase.OPEN) op.failErrno(ERRNO.ENOTCONN, 'pop');
    else this.#in.pops.append(op);
  }

  #acknowledge(bytes: number): void {
    const peer = this.peer!;
    if (this.#network.ideal) {
      if (!peer.#out.empty) peer.#transmit();
      return;
    }
    this.#credit += bytes;
    if (this.#creditUnderWay) return;
    this.#creditUnderWay = true;
    this.#network.post(this.#network.make(EventKind.WINDOW, peer), this.#network.latency());
  }

  /** The straight way, in an ideal network: a whole buffer that nobody else holds goes from push to pop. */
  #takes(buffer: HeapBuffer): boolean {
    if (this.orphan || this.phase !== Phase.OPEN || !this.#in.fits(buffer)) return false;
    this.#in.put(buffer);
    this.datapath.touched();
    return true;
  }

  /**
   * Takes `bytes` of a buffer; false where there is no memory for them. `whole`: they are all of it;
   * `last`: the buffer's reference comes with them.
   */
  #takeSegment(buffer: HeapBuffer, offset: number, bytes: number, whole: boolean, last: boolean): boolean {
    if (this.orphan || this.phase !== Phase.OPEN) {
      if (last) buffer.release();
      if (this.phase !== Phase.BROKEN) this.#reset();
      return true;
    }
    const { random, faults, ideal } = this.#network;
    const inbox = this.#in;
    let popped = 0;
    if (inbox.join(buffer, offset, bytes, !inbox.empty && random.chance(faults.coalesce))) {
      if (last) buffer.release();
    } else if (whole && last && buffer.heap === inbox.heap && buffer.references === 1) popped = inbox.put(buffer);
    else {
      popped = inbox.putCopy(buffer, offset, bytes);
      if (popped < 0) return false;
      if (last) buffer.release();
    }
    // Where the network is ideal the sender sees the window itself, and is perhaps sending just now.
    if (popped > 0 && !ideal) this.#acknowledge(popped);
    this.datapath.touched();
    return true;
  }

  // ---- Events --------------------------------------------------------------------------------------------------

  receive(event: SimulatedEvent): void {
    this.datapath.enqueue(event);
  }

  handle(event: SimulatedEvent): void {
    const { kind } = event;
    if (kind === EventKind.RETRY) this.#retry();
    else if (kind === EventKind.WINDOW) this.#creditArrived();
    else if (kind === EventKind.SYN) this.#arrives(event.source as StreamEnd);
    else if (kind === EventKind.REFUSED) this.#fail(event.number);
    else if (this.#held.length > 0) {
      this.#held.push(event);
      return;
    } else if (!this.#inOrder(event)) {
      this.#held.push(event);
      this.#retryLater();
      return;
    }
    this.#network.recycle(event);
  }

  /** @returns false where there is no memory for it yet */
  #inOrder(event: SimulatedEvent): boolean {
    const { kind, buffer } = event;
    if (kind === EventKind.SEGMENT) {
      const whole = event.length === buffer!.length && event.offset === buffer!.offset;
      return this.#takeSegment(buffer!, event.offset, event.length, whole, true);
    }
    if (kind === EventKind.FIN) this.#end();
    else if (kind === EventKind.RST) this.#fail(event.number === 0 ? ERRNO.ECONNRESET : event.number);
    else if (kind === EventKind.SYN_ACK) this.#connected();
    return true;
  }

  #retry(): void {
    this.#retryUnderWay = false;
    while (this.#held.length > 0) {
      const event = this.#held.at(0);
      if (!this.#inOrder(event)) {
        if (this.#attempts < MEMORY_ATTEMPTS) this.#retryLater();
        else this.#giveUp();
        return;
      }
      // Handling a reset has emptied the queue.
      if (this.#held.length > 0) this.#network.recycle(this.#held.shift());
      this.#attempts = 0;
    }
    if (this.phase !== Phase.OPEN || this.#out.empty) return;
    const { unsentBytes } = this;
    if (this.#attempts >= MEMORY_ATTEMPTS) this.#giveUp();
    else this.#transmit();
    if (this.unsentBytes < unsentBytes) this.#attempts = 0;
  }

  /** What could not be received for so long will not be: both ends learn of it. */
  #giveUp(): void {
    this.#post(EventKind.RST, this.peer!, ERRNO.ETIMEDOUT);
    this.#fail(ERRNO.ECONNRESET);
  }

  #creditArrived(): void {
    const peer = this.peer!;
    this.#inFlight -= peer.#credit;
    peer.#credit = 0;
    peer.#creditUnderWay = false;
    if (this.phase === Phase.OPEN) this.#transmit();
  }

  /** A connection attempt has come to this listener. */
  #arrives(client: StreamEnd): void {
    if (client.orphan) return;
    if (this.phase !== Phase.LISTENING || this.backlogFull) {
      client.refuse(ERRNO.ECONNREFUSED);
      return;
    }
    const server = new StreamEnd(this.datapath, this.family);
    server.phase = Phase.OPEN;
    server.peer = client;
    client.peer = server;
    server.name.mirror(client.name);
    // An ideal network carries data straight to the peer, which must be connected before.
    if (this.#network.ideal) client.#connected();
    else this.#post(EventKind.SYN_ACK, client);
    this.backlog!.arrive(server);
    this.datapath.touched();
  }

  #connected(): void {
    if (this.orphan || this.phase !== Phase.CONNECTING) {
      this.#post(EventKind.RST, this.peer!);
      return;
    }
    this.phase = Phase.OPEN;
    const op = this.connecting;
    this.connecting = null;
    op?.complete(undefined);
    this.datapath.touched();
  }

  #end(): void {
    this.#ended = true;
    this.#in.end();
    this.datapath.touched();
  }

  /** The connection is over: what was received can still be popped, everything else fails. */
  #fail(errno: number): void {
    if (this.phase === Phase.BROKEN) return;
    const connecting = this.phase === Phase.CONNECTING;
    this.phase = Phase.BROKEN;
    this.#error = errno;
    this.#dropUnsent();
    while (this.#held.length > 0) this.#drop(this.#held.shift());
    const op = this.connecting;
    this.connecting = null;
    if (connecting) op?.failErrno(errno, 'connect', describe(this.name.remote!));
    this.#out.pushes.fail(errno, 'push');
    this.#in.pops.fail(errno, 'pop');
    this.datapath.touched();
  }

  #drop(event: SimulatedEvent): void {
    event.buffer?.release();
    this.#network.recycle(event);
  }

  #dropUnsent(): void {
    this.#out.drop();
    this.#drained();
  }

  /** Breaks the connection from this end. */
  #reset(): void {
    this.phase = Phase.BROKEN;
    this.#dropUnsent();
    while (this.#held.length > 0) this.#drop(this.#held.shift());
    if (this.#network.ideal) this.peer!.#fail(ERRNO.ECONNRESET);
    else this.#post(EventKind.RST, this.peer!);
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  /** As close(2): unread data, or a linger time of 0, makes it a reset (tcp(7)). */
  close(abort: boolean): void {
    this.orphan = true;
    this.name.release();
    const unread = !this.#in.empty || this.#held.length > 0;
    this.#in.drop();
    const op = this.connecting;
    this.connecting = null;
    op?.failErrno(ERRNO.ECANCELED, 'connect');
    this.#out.pushes.fail(ERRNO.ECANCELED, 'push');
    this.#in.pops.fail(ERRNO.ECANCELED, 'pop');
    if (this.backlog !== null) {
      this.phase = Phase.BROKEN;
      this.backlog.close();
    } else if (this.phase === Phase.CONNECTING) this.phase = Phase.BROKEN;
    else if (this.phase === Phase.OPEN) {
      if (abort || unread || this.options.get(SocketOption.LINGER) === 0) this.#reset();
      else {
        this.#finished = true;
        this.#transmit();
        this.#draining = !this.#out.empty;
        if (this.#draining) this.datapath.draining++;
      }
    }
  }

  withdraw(op: Operation<unknown>): void {
    if ((this.connecting as unknown) === op) this.connecting = null;
    else if (this.#out.withdraw(op)) this.#transmit();
    else if (!this.#in.pops.remove(op)) this.backlog?.withdraw(op);
  }
}
