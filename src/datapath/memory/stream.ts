/**
 * One end of a stream in shared memory: connect, accept, bytes in order through a window, half-close, reset.
 * It touches its link's memory, its own two windows there and nothing else of it, and the heap of its datapath.
 *
 * A window is a run of bytes that only its sender writes. DATA says how many more stand there, and how many of the other
 * direction's have been copied out; CREDIT says the latter alone. Bytes wait in the window until a pop wants them: an idle
 * connection holds no buffer, and a peer that does not read stops its sender.
 */

import { ERRNO } from '../../errors.ts';
import { type Family, SocketOption } from '../../kernel/datapath.ts';
import type { Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { releaseEach } from '../ends/buffers.ts';
import { Outbox } from '../ends/outbox.ts';
import { Phase, StreamSetup } from '../ends/stream-setup.ts';
import type { Hub, Seeker } from './hub.ts';
import { type End, Kind, windowOffset } from './layout.ts';
import { Lingering } from './lingering.ts';
import type { Link } from './link.ts';
import { StreamName } from './stream-name.ts';
import { InWindow, OutWindow } from './windows.ts';

export class StreamEnd extends StreamSetup<StreamEnd, string> implements Seeker {
  readonly name: StreamName;
  /** In the link's list of those that wait for room in the ring. */
  blocked = false;
  /** In the datapath's list of those to serve. */
  touched = false;
  readonly #hub: Hub;
  /** The name in full, where it was known from before, so that a refusal may only mean that it has moved. */
  #guess = '';

  #link: Link | null = null;
  #slot = -1;
  /** Nobody holds this queue any more. */
  #closed = false;
  /** ANSWER is still to be sent. */
  #answerDue = false;

  // Receiving.
  readonly #in = new InWindow();
  readonly #pops = new OperationFifo<HeapBuffer | null>();
  /** Nothing more will come. */
  #ended = false;
  /** Why, where it did not end well. */
  #error = 0;
  #peerGone = false;

  // Sending.
  readonly #window = new OutWindow();
  readonly #out: Outbox;
  /** No pushes any more. */
  #finished = false;
  #finSent = false;
  #resetting = false;
  #goneSent = false;
  readonly #lingering: Lingering;

  constructor(hub: Hub, family: Family) {
    super(hub, family);
    this.#hub = hub;
    this.name = new StreamName(hub, family);
    this.#out = new Outbox(hub.sendLimit);
    this.#lingering = new Lingering(hub);
  }

  setOption(option: SocketOption, value: number): void {
    this.options.set(option, value);
  }

  get unsentBytes(): number {
    return this.#out.bytes;
  }

  // ---- Setting up ----------------------------------------------------------------------------------------------

  override listen(backlog: number): void {
    const isNew = this.phase === Phase.NEW;
    super.listen(backlog);
    if (isNew) this.#hub.announce(this.name.claims, this);
  }

  protected override reach(name: string): void {
    const place = this.#hub.known(name);
    this.#guess = place?.name ?? '';
    if (place !== undefined) this.#open(place.link, place.name);
    else this.#hub.seek(name, this);
  }

  found(link: Link, name: string): void {
    if (this.connecting !== null) this.#open(link, name);
  }

  missing(): void {
    this.#refused(this.name.refusal);
  }

  #open(link: Link, name: string): void {
    const slot = link.takeSlot();
    if (slot < 0) {
      this.#refused(ERRNO.EADDRNOTAVAIL);
      return;
    }
    this.#attach(link, slot);
    this.#window.putName(link, name);
    if (!link.send(Kind.OPEN, slot, name.length, this.name.port, 0)) {
      // The ring is full of what goes before; that is 4096 messages, so to be refused is fair.
      this.#link = null;
      link.forget(slot);
      this.#refused(ERRNO.EAGAIN);
    }
  }

  #attach(link: Link, slot: number): void {
    this.#link = link;
    this.#slot = slot;
    this.#window.attach(link, slot);
    this.#in.attach(link, slot);
    link.hold(slot, this);
  }

  #refused(errno: number): void {
    const op = this.connecting;
    this.connecting = null;
    this.phase = Phase.NEW;
    op?.failErrno(errno, 'connect', this.name.about);
    this.#pops.fail(ERRNO.ENOTCONN, 'pop');
  }

  /** A connection has come to this listener. @returns 0 or the errno why not */
  arrives(link: Link, slot: number, name: string, port: number): number {
    if (this.phase !== Phase.LISTENING || this.backlog === null || this.backlog.full) return ERRNO.ECONNREFUSED;
    const server = new StreamEnd(this.#hub, this.family);
    server.name.accepted(this.name, name, port);
    server.#attach(link, slot);
    server.phase = Phase.OPEN;
    server.#answerDue = true;
    server.#finishUp();
    this.backlog.arrive(server);
    return 0;
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  push(sga: Sga, op: Operation<void>): void {
    if (this.phase !== Phase.OPEN || this.#finished || this.#error !== 0 || this.#peerGone) {
      releaseEach(sga);
      const gone = this.#finished || this.#peerGone || this.#error !== 0;
      op.failErrno(gone ? ERRNO.EPIPE : ERRNO.ENOTCONN, 'push');
      return;
    }
    const out = this.#out;
    if ('references' in sga) {
      if (out.empty && this.#sendWhole(sga)) {
        op.complete(undefined);
        return;
      }
      out.add(sga, op.token);
    } else for (const buffer of sga) out.add(buffer, op.token);
    this.#transmit();
    out.admit(op);
  }

  /** The straight way: a buffer that fits into the window, with nothing before it. */
  #sendWhole(buffer: HeapBuffer): boolean {
    const { length } = buffer;
    const window = this.#window;
    if (length === 0 || length > window.room || this.#answerDue) return false;
    if (!window.write(this.#link!, this.#in, buffer, buffer.offset, length)) return false;
    buffer.release();
    return true;
  }

  /** Sends as much of the backlog as the window and the ring have room for, and what comes after it. */
  #transmit(): void {
    const out = this.#out;
    const window = this.#window;
    // The first that the peer hears of a connection is that it was accepted.
    if (this.#answerDue) this.#finishUp();
    while (!out.empty && !this.#answerDue) {
      const { buffer, offset, left } = out.first;
      const bytes = Math.min(left, window.room);
      if (bytes === 0) break;
      if (!window.write(this.#link!, this.#in, buffer, offset, bytes)) {
        this.#link!.block(this);
        break;
      }
      out.advance(bytes);
      if (bytes === left) buffer.release();
    }
    out.settle();
    if (out.empty && (this.#finished || this.#closed)) this.#finishUp();
  }

  /** The messages that are due beside data, in their order. Tried again when the ring has room. */
  #finishUp(): void {
    const link = this.#link;
    if (link === null || !link.alive) return;
    const slot = this.#slot;
    if (this.#answerDue) {
      if (!link.send(Kind.ANSWER, slot, 0, 0, 0)) {
        link.block(this);
        return;
      }
      this.#answerDue = false;
    }
    if (this.#in.creditDue && !this.#closed && !this.#peerGone) {
      if (!link.send(Kind.CREDIT, slot, 0, this.#in.read, 0)) {
        link.block(this);
        return;
      }
      this.#in.told = this.#in.read;
    }
    if (!this.#out.empty) return;
    if (this.#resetting || (this.#finished && !this.#finSent)) {
      if (!link.send(this.#resetting ? Kind.RESET : Kind.FIN, slot, 0, 0, 0)) {
        link.block(this);
        return;
      }
      this.#finSent = true;
      this.#resetting = false;
    }
    if (!this.#closed || this.#goneSent || this.connecting !== null) return;
    if (!link.send(Kind.GONE, slot, 0, 0, 0)) {
      link.block(this);
      return;
    }
    this.#goneSent = true;
    this.#lingering.end();
    if (this.#peerGone) this.#detach();
  }

  /** The ring has room again. */
  unblock(): void {
    this.#finishUp();
    if (!this.blocked && !this.#out.empty) this.#transmit();
  }

  /** No more pushes; the peer learns of it after what is unsent. */
  finish(): void {
    if (this.phase !== Phase.OPEN || this.#finished) return;
    this.#finished = true;
    this.#finishUp();
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  pop(op: Operation<HeapBuffer | null>): void {
    if (this.phase !== Phase.OPEN && this.phase !== Phase.CONNECTING) {
      op.failErrno(ERRNO.ENOTCONN, 'pop');
      return;
    }
    this.#pops.append(op);
    if (this.#in.available > 0 || this.#ended) this.serve();
  }

  /** Gives what stands in the window to the pops that wait. */
  serve(): void {
    const pops = this.#pops;
    const window = this.#in;
    while (pops.head !== null) {
      if (window.available > 0) {
        const buffer = window.take(this.#link!, this.#hub.heap);
        if (buffer === null) {
          this.#hub.starve(this);
          return;
        }
        // Otherwise told with the next bytes that go back.
        if (window.creditDue) this.#finishUp();
        pops.shift()!.complete(buffer);
      } else if (!this.#ended) return;
      else if (this.#error !== 0) pops.shift()!.failErrno(this.#error, 'pop');
      else pops.shift()!.complete(null);
    }
  }

  // ---- Messages of the peer; false: it contradicts what came before -------------------------------------------

  dataArrived(bytes: number, read: number, anew: number): boolean {
    if (this.phase !== Phase.OPEN || this.#ended) return this.#closed && !this.#peerGone;
    if (!this.#hear(read)) return false;
    if (this.#closed) return true;
    if (!this.#in.grow(bytes, anew)) return false;
    if (this.#pops.head !== null && !this.touched) this.#hub.touch(this);
    return true;
  }

  creditArrived(read: number): boolean {
    return !this.#peerGone && this.#hear(read);
  }

  #hear(read: number): boolean {
    const bytes = this.#window.heard(read);
    if (bytes > 0 && !this.#out.empty) this.#transmit();
    return bytes >= 0;
  }

  finArrived(): boolean {
    if (this.phase !== Phase.OPEN) return this.#closed;
    if (this.#ended) return false;
    this.#end(0);
    return true;
  }

  resetArrived(): boolean {
    if (this.phase !== Phase.OPEN) return this.#closed;
    if (this.#peerGone || this.#error !== 0) return false;
    this.#end(ERRNO.ECONNRESET);
    this.#dropUnsent(ERRNO.ECONNRESET);
    return true;
  }

  goneArrived(): boolean {
    if (this.#peerGone) return false;
    this.#peerGone = true;
    if (this.phase === Phase.CONNECTING) {
      this.#detach();
      this.#refused(ERRNO.ECONNRESET);
      return true;
    }
    if (!this.#ended) this.#end(ERRNO.ECONNRESET);
    this.#dropUnsent(ERRNO.EPIPE);
    if (this.#goneSent) this.#detach();
    else if (this.#closed) this.#finishUp();
    return true;
  }

  answerArrived(errno: number): boolean {
    if (this.phase !== Phase.CONNECTING || this.#link === null || this.#link.ends[this.#slot] !== this) return false;
    if (errno !== 0) {
      // Refused: the slot is free at both ends.
      const name = this.name.target;
      this.#detach();
      if (this.#closed) return true;
      if (this.#guess !== '' && errno === ERRNO.ECONNREFUSED) {
        this.#hub.unknown(name, this.#guess);
        this.#guess = '';
        this.#hub.seek(name, this);
      } else this.#refused(errno === ERRNO.ECONNREFUSED ? this.name.refusal : errno);
      return true;
    }
    this.phase = Phase.OPEN;
    const op = this.connecting;
    this.connecting = null;
    op?.complete(undefined);
    if (this.#closed) this.#finishUp();
    return true;
  }

  /** The peer has gone without a word. What it has written can still be read. */
  lost(): void {
    if (this.phase === Phase.CONNECTING) {
      this.#detach();
      this.#refused(ERRNO.ECONNRESET);
      return;
    }
    this.#peerGone = true;
    if (!this.#ended) this.#end(ERRNO.ECONNRESET);
    this.#dropUnsent(ERRNO.ECONNRESET);
    if (this.#closed) {
      this.#lingering.end();
      this.#detach();
    }
  }

  #end(errno: number): void {
    this.#ended = true;
    this.#error = errno;
    if (!this.touched) this.#hub.touch(this);
  }

  /** Nobody will read what is left. */
  #dropUnsent(errno: number): void {
    this.#out.drop();
    this.#out.pushes.fail(errno, 'push');
  }

  /** The slot is free, and the memory not ours any more. */
  #detach(): void {
    const link = this.#link;
    if (link === null) return;
    this.#link = null;
    this.#lingering.end();
    link.forget(this.#slot);
    this.#hub.detached(link);
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  /** What was pushed is still sent; what was not popped is dropped. */
  close(abort: boolean): void {
    this.#closed = true;
    this.name.release();
    const op = this.connecting;
    this.connecting = null;
    op?.failErrno(ERRNO.ECANCELED, 'connect', this.name.about);
    this.#out.pushes.fail(ERRNO.ECANCELED, 'push');
    this.#pops.fail(ERRNO.ECANCELED, 'pop');
    this.#in.available = 0;
    if (this.backlog !== null) {
      this.backlog.close();
      return;
    }
    const link = this.#link;
    if (link === null) return;
    if (!link.alive) {
      this.#detach();
      return;
    }
    if (abort || this.options.get(SocketOption.LINGER) === 0) {
      this.#resetting = !this.#peerGone;
      this.#out.drop();
    }
    this.#finished = true;
    this.#lingering.begin();
    // Where the peer has not answered yet, the rest follows its answer.
    if (this.phase === Phase.OPEN) this.#finishUp();
    this.#lingering.limit(this.options.get(SocketOption.LINGER) ?? -1, () => this.#giveUp());
  }

  /** The peer does not read what was pushed before the close. */
  #giveUp(): void {
    this.#resetting = !this.#peerGone;
    this.#out.drop();
    if (this.phase === Phase.OPEN) this.#finishUp();
    this.#lingering.end();
    this.#hub.flush();
  }

  withdraw(op: Operation<unknown>): void {
    if ((this.connecting as unknown) === op) this.connecting = null;
    else if (this.#out.withdraw(op)) this.#transmit();
    else if (!this.#pops.remove(op)) this.backlog?.withdraw(op);
  }
}

/** The name that stands in a window, as the peer wrote it. */
export function readName(link: Link, slot: number, bytes: number): string {
  const at = windowOffset((1 - link.end) as End, slot);
  return String.fromCharCode(...link.memory.u8.slice(at, at + bytes));
}
