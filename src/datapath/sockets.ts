/**
 * The `kernel` datapath: non-blocking sockets of Linux and one edge-triggered epoll; works everywhere, unprivileged.
 * It owns its sockets, its epoll descriptor, its heap's memory, and a timer of the event loop while a close lingers.
 *
 * Edge-triggered, because a queue whose program does not pop then costs nothing: its readiness is noted once per arrival
 * and never asked about again. There is no read-ahead on streams: bytes stay in the kernel until a pop wants them, so
 * an idle connection holds no buffer and a withdrawn pop loses nothing. Transmission waits for the end of the turn, so
 * that what a turn pushes on one queue leaves in one call.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO } from '../errors.ts';
import type { Address, Datapath, DatapathHost, DatapathWatch } from '../kernel/datapath.ts';
import { Family, SocketOption, SocketType } from '../kernel/datapath.ts';
import { Opcode, type Operation } from '../kernel/operation.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../linux/epoll.ts';
import { addressText } from '../linux/sockaddr.ts';
import * as linux from '../linux/socket.ts';
import { watchDescriptor } from '../linux/watch.ts';
import type { Heap, HeapBuffer, HeapOptions, Sga } from '../ring/heap.ts';
import { mapHeap } from './heap.ts';
import { getSocketOption, setSocketOption } from './socket-options.ts';
import { acceptConnections, handOut } from './sockets/accept.ts';
import { Closer, unlinkSocket } from './sockets/closing.ts';
import { Outbox } from './sockets/outbox.ts';
import { DatagramReceiver, INBOX, STARVED, StreamReceiver } from './sockets/receive.ts';
import { Sender } from './sockets/send.ts';
import { Phase, type Sock } from './sockets/sock.ts';
import { interestOf, SocketTable } from './sockets/table.ts';

export interface SocketsOptions {
  readonly heap?: HeapOptions;
  /** Unsent bytes of one queue above which a push completes only when half of them have gone. Default 1 MiB. */
  readonly sendLimit?: number;
}

/** Milliseconds until a pop is tried again that found the heap used up, if nothing else happens before. */
const STARVED_MS = 5;

export class SocketsDatapath implements Datapath {
  readonly name = 'kernel';
  readonly heap: Heap;
  readonly #table = new SocketTable();
  readonly #outbox = new Outbox();
  readonly #closer: Closer;
  readonly #sender: Sender;
  readonly #streams: StreamReceiver;
  #datagrams: DatagramReceiver | null = null;
  #host: DatapathHost | null = null;
  /** Events taken from epoll, and how many of them have been handled. */
  #events = 0;
  #handled = 0;
  /** Sockets with a pop or an accept waiting and something to take, without an event to say so. */
  readonly #listed: Sock[] = [];
  #listedFirst = 0;
  /** Sockets whose pops found the heap used up. */
  readonly #starved: Sock[] = [];
  #retry: ReturnType<typeof setTimeout> | null = null;
  #onReadable: () => void = () => {};

  constructor(options: SocketsOptions = {}) {
    this.heap = mapHeap(options.heap);
    this.#closer = new Closer(
      this.#table,
      this.#outbox,
      () => performance.now(),
      () => this.#onReadable(),
    );
    const limit = options.sendLimit ?? 1 << 20;
    this.#sender = new Sender(this.heap, this.#table, this.#outbox, this.#closer, limit);
    this.#sender.onBroken = (sock) => this.#drainBroken(sock);
    this.#streams = new StreamReceiver(this.heap);
  }

  attach(host: DatapathHost): void {
    this.#host = host;
  }

  // ---- Set-up --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    const fd = linux.socket(family, type);
    const sock = this.#table.add(fd, family, type, Phase.CREATED);
    try {
      // Accepted connections inherit it from their listener, which saves a call for each.
      if (type === SocketType.STREAM && family !== Family.UNIX) setSocketOption(fd, SocketOption.NO_DELAY, 1);
      if (family === Family.INET6) setSocketOption(fd, SocketOption.V6_ONLY, 0);
      if (type === SocketType.DGRAM) {
        sock.inbox ??= new Array<HeapBuffer>(INBOX);
        this.#outbox.withNames();
        linux.expectSuccess(this.#table.watch(sock, interestOf(sock)), 'epoll_ctl');
      }
    } catch (error) {
      this.#table.remove(sock);
      throw error;
    }
    this.#table.give(sock, qd);
  }

  bind(qd: number, address: Address): void {
    const sock = this.#table.of(qd, 'bind');
    linux.bind(sock.fd, address);
    sock.about = addressText(address);
    if ('path' in address && !address.path.startsWith('\0')) sock.path = address.path;
  }

  listen(qd: number, backlog: number): void {
    const sock = this.#table.of(qd, 'listen');
    linux.listen(sock.fd, backlog, sock.about);
    sock.phase = Phase.LISTENING;
    linux.expectSuccess(this.#table.watch(sock, interestOf(sock)), 'epoll_ctl', sock.about);
  }

  accept(qd: number, op: Operation<number>): void {
    const listener = this.#table.of(qd, 'accept');
    if (listener.phase !== Phase.LISTENING) {
      op.failErrno(ERRNO.EINVAL, 'accept', listener.about);
      return;
    }
    listener.waiting.append(op as Operation<unknown>);
    if (listener.accepted.length > 0) handOut(this.#table, this.#host!, listener);
    else if (listener.readable) this.#list(listener);
  }

  connect(qd: number, address: Address, op: Operation<void>): void {
    const sock = this.#table.of(qd, 'connect');
    sock.about = addressText(address);
    if (sock.type === SocketType.STREAM && sock.phase !== Phase.CREATED) {
      op.failErrno(sock.phase === Phase.CONNECTING ? ERRNO.EALREADY : ERRNO.EISCONN, 'connect', sock.about);
      return;
    }
    // A connect that failed may be tried again.
    sock.ended = false;
    sock.failed = 0;
    let result: number;
    try {
      result = linux.connect(sock.fd, address);
    } catch (error) {
      op.fail(error as Error);
      return;
    }
    if (result === -ERRNO.EINPROGRESS) {
      sock.phase = Phase.CONNECTING;
      sock.connecting = op;
    } else if (result === 0) sock.phase = Phase.OPEN;
    if (result === 0 || sock.phase === Phase.CONNECTING) {
      const watched = this.#table.watch(sock, interestOf(sock));
      if (watched < 0) result = watched;
    }
    if (result === 0) op.complete();
    else if (result !== -ERRNO.EINPROGRESS) {
      sock.connecting = null;
      op.failErrno(result, 'connect', sock.about);
    }
  }

  getsockname(qd: number): Address {
    return linux.getsockname(this.#table.of(qd, 'getsockname').fd);
  }

  getpeername(qd: number): Address {
    return linux.getpeername(this.#table.of(qd, 'getpeername').fd);
  }

  setsockopt(qd: number, option: SocketOption, value: number): void {
    const sock = this.#table.of(qd, 'setsockopt');
    // A positive SO_LINGER would block the whole kernel in close(2); Closer keeps its promise without blocking.
    const inKernel = option === SocketOption.LINGER && value > 0 ? -1 : value;
    setSocketOption(sock.fd, option, inKernel);
    if (option === SocketOption.LINGER) sock.linger = value;
  }

  getsockopt(qd: number, option: SocketOption): number {
    const sock = this.#table.of(qd, 'getsockopt');
    return option === SocketOption.LINGER ? sock.linger : getSocketOption(sock.fd, option);
  }

  unsent(qd: number): number {
    return this.#table.of(qd, 'unsent').unsent;
  }

  /** Closed queues that still have something to send. */
  get draining(): number {
    return this.#closer.draining;
  }

  // ---- Data ----------------------------------------------------------------------------------------------------

  pop(qd: number, op: Operation<HeapBuffer | null>): void {
    const sock = this.#table.of(qd, 'pop');
    if (sock.ended) {
      if (sock.failed !== 0) op.failErrno(sock.failed, 'pop', sock.about);
      else op.complete(null);
    } else if (sock.inboxCount > 0) op.complete(takeDatagram(sock));
    else if (sock.type === SocketType.STREAM && sock.phase !== Phase.OPEN && sock.phase !== Phase.CONNECTING) {
      op.failErrno(ERRNO.ENOTCONN, 'pop', sock.about);
    } else {
      sock.waiting.append(op as Operation<unknown>);
      if (sock.readable && sock.phase !== Phase.CONNECTING) this.#list(sock);
    }
  }

  push(qd: number, sga: Sga, op: Operation<void>): void {
    const sock = this.#table.of(qd, 'push');
    if (sock.type === SocketType.STREAM) this.#sender.pushes.push(sock, sga, op);
    else this.#sender.pushes.pushDatagram(sock, sga, op);
  }

  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    this.#sender.pushes.pushTo(this.#table.of(qd, 'pushTo'), buffer, to, op);
  }

  shutdown(qd: number): void {
    const sock = this.#table.of(qd, 'shutdown');
    if (sock.shut || sock.phase !== Phase.OPEN) return;
    sock.shut = true;
    if (sock.outHead < 0) linux.shutdown(sock.fd, linux.SHUT_WR);
  }

  withdraw(qd: number, op: Operation<unknown>): void {
    const sock = this.#table.of(qd, 'withdraw');
    if (op.opcode === Opcode.CONNECT) sock.connecting = null;
    else if (op.opcode !== Opcode.PUSH) sock.waiting.remove(op);
    else if (sock.pushing.remove(op)) this.#outbox.withdraw(sock, op.token, op.datum);
  }

  close(qd: number, abort: boolean): void {
    const sock = this.#table.of(qd, 'close');
    this.#table.queues[qd] = null;
    sock.qd = -1;
    failAll(sock);
    for (const ahead of sock.accepted.splice(0)) this.#table.remove(ahead);
    while (sock.inboxCount > 0) takeDatagram(sock).release();
    if (sock.path !== null) unlinkSocket(sock.path);
    if (abort || sock.phase === Phase.CONNECTING) this.#closer.abort(sock);
    else this.#closer.close(sock);
  }

  // ---- The turn ------------------------------------------------------------------------------------------------

  poll(budget: number): number {
    if (this.#starved.length > 0) this.#feed();
    let did = this.#listed.length > 0 ? this.#takeListed(budget) : 0;
    if (this.#handled >= this.#events) this.#wait(0);
    while (this.#handled < this.#events && did < budget) {
      this.#handle(this.#handled++);
      did++;
    }
    return did;
  }

  submit(waitUs: number): void {
    const before = this.#sender.pushes.settled;
    this.#sender.flushAll();
    if (this.#datagrams !== null && this.#table.datagramSockets === 0) this.#datagrams.rest();
    if (waitUs === 0 || this.#sender.pushes.settled !== before || this.arrived) return;
    const ms = waitUs < 0 ? -1 : Math.ceil(waitUs / 1000);
    this.#wait(this.#starved.length > 0 && (ms < 0 || ms > STARVED_MS) ? STARVED_MS : ms);
  }

  get arrived(): boolean {
    return this.#handled < this.#events || this.#listed.length > 0;
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    return watchDescriptor(this.#table.epoll.fd, onReadable);
  }

  // epoll's own descriptor stays readable while events are pending, so there is nothing to arm but the rare retry.
  arm(): boolean {
    if (this.arrived) return false;
    if (this.#starved.length > 0 && this.#retry === null) {
      this.#retry = setTimeout(() => {
        this.#retry = null;
        this.#onReadable();
      }, STARVED_MS);
    }
    return true;
  }

  dispose(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#closer.dispose();
    for (const sock of this.#table.open()) this.#closer.abandon(sock);
    this.#datagrams?.close();
    this.#sender.close();
    this.#table.epoll.close();
    this.heap.region.close();
  }

  // ---- Arrivals ------------------------------------------------------------------------------------------------

  #wait(timeoutMs: number): void {
    this.#handled = 0;
    this.#events = Math.max(0, this.#table.epoll.wait(timeoutMs));
  }

  #handle(i: number): void {
    const sock = this.#table.ofEvent(this.#table.epoll.data(i));
    if (sock === null) return;
    const events = this.#table.epoll.events(i);
    if ((events & ~EPOLLOUT) !== 0) {
      sock.readable = true;
      if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) sock.ending = true;
    }
    if (sock.phase === Phase.CONNECTING) this.#connected(sock, events);
    else if (sock.phase === Phase.LINGERING) this.#closer.discard(sock);
    else {
      if (sock.waiting.head !== null && sock.readable) this.#take(sock);
      if (sock.blocked && (events & ~EPOLLIN) !== 0) this.#sender.flush(sock);
    }
  }

  #connected(sock: Sock, events: number): void {
    if ((events & ~EPOLLIN) === 0) return;
    const errno = linux.takeSocketError(sock.fd);
    const op = sock.connecting;
    sock.connecting = null;
    if (errno !== 0) {
      sock.phase = Phase.CREATED;
      sock.ended = true;
      sock.failed = -errno;
      op?.failErrno(errno, 'connect', sock.about);
      this.#failWaiting(sock);
      this.#sender.broken(sock, -errno);
      return;
    }
    sock.phase = Phase.OPEN;
    op?.complete(undefined);
    if (sock.outHead >= 0) this.#sender.flush(sock);
    else if (sock.family === Family.UNIX) this.#table.watch(sock, interestOf(sock));
    if (sock.waiting.head !== null && sock.readable) this.#take(sock);
  }

  /** Something may be there and somebody waits for it. @returns false when the heap is used up: no reason to hurry */
  #take(sock: Sock): boolean {
    if (sock.type === SocketType.DGRAM) return this.#takeDatagrams(sock);
    if (sock.phase === Phase.LISTENING) {
      acceptConnections(this.#table, this.#host!, sock);
      if (sock.readable && sock.waiting.head !== null) this.#list(sock);
      return true;
    }
    const result = this.#streams.receive(sock);
    if (result === STARVED) {
      this.#starved.push(sock);
      return false;
    }
    if (result < 0) {
      sock.ended = true;
      this.#sender.broken(sock, -result);
    } else if (sock.ended) this.#failWaiting(sock);
    return true;
  }

  #takeDatagrams(sock: Sock): boolean {
    this.#datagrams ??= new DatagramReceiver(this.heap);
    const got = this.#datagrams.receive(sock);
    if (got < 0) sock.waiting.shift()!.failErrno(got, 'pop', sock.about);
    else if (got === 0 && sock.readable) {
      this.#starved.push(sock);
      return false;
    }
    // What an error left behind, or a full batch, comes without another event.
    if (sock.readable && sock.waiting.head !== null) this.#list(sock);
    return true;
  }

  /** The stream has ended, well or not: pops that still wait learn it. */
  #failWaiting(sock: Sock): void {
    for (let op = sock.waiting.shift(); op !== null; op = sock.waiting.shift()) {
      if (sock.failed !== 0) op.failErrno(sock.failed, 'pop', sock.about);
      else op.complete(null);
    }
  }

  /** Sending has failed: the receive queue may still hold bytes, then the end. */
  #drainBroken(sock: Sock): void {
    sock.readable = true;
    sock.ending = true;
    if (sock.ended) this.#failWaiting(sock);
    else if (sock.waiting.head !== null) this.#list(sock);
  }

  #list(sock: Sock): void {
    if (sock.listed) return;
    sock.listed = true;
    this.#listed.push(sock);
  }

  /** At most half of the budget, so that those with much to read cannot starve those with something new. */
  #takeListed(budget: number): number {
    const end = Math.min(this.#listed.length, this.#listedFirst + Math.max(1, budget >> 1));
    let did = 0;
    while (this.#listedFirst < end) {
      const sock = this.#listed[this.#listedFirst++]!;
      sock.listed = false;
      const idle = sock.fd < 0 || !sock.readable || sock.waiting.head === null;
      if (idle || this.#take(sock)) did++;
    }
    if (this.#listedFirst === this.#listed.length || this.#listedFirst > 1024) {
      this.#listed.splice(0, this.#listedFirst);
      this.#listedFirst = 0;
    }
    return did;
  }

  #feed(): void {
    for (const sock of this.#starved.splice(0)) this.#list(sock);
  }
}

function takeDatagram(sock: Sock): HeapBuffer {
  const buffer = sock.inbox![sock.inboxHead]!;
  sock.inboxHead = (sock.inboxHead + 1) % INBOX;
  sock.inboxCount--;
  return buffer;
}

/** The queue is closed: whoever waits on it learns it. */
function failAll(sock: Sock): void {
  const { connecting } = sock;
  sock.connecting = null;
  connecting?.failErrno(ERRNO.ECANCELED, 'connect', sock.about);
  for (let op = sock.waiting.shift(); op !== null; op = sock.waiting.shift()) op.failErrno(ERRNO.ECANCELED, 'close');
  for (let op = sock.pushing.shift(); op !== null; op = sock.pushing.shift()) op.failErrno(ERRNO.ECANCELED, 'close');
}
