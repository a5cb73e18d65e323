/**
 * The `uring` datapath: kernel sockets through one io_uring, with one system call per turn for all connections.
 * It owns its ring, its sockets and its heap's memory, an eventfd while it is watched, and short timers of the event loop.
 *
 * Receives and accepts are multishot and fill buffers of the heap; sends leave without a completion (uring/send.ts).
 * The kernel works only inside the call at the end of a turn (DEFER_TASKRUN), so what it wrote can be read plainly, and
 * the next turn begins with what this call brought. A socket of a closed queue stays until nothing of it is in flight:
 * only then its place, and with it the user data of its completions, is used again.
 */

import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO } from '../errors.ts';
import {
  type Address,
  type Datapath,
  type DatapathHost,
  type DatapathWatch,
  Family,
  SocketOption,
  SocketType,
} from '../kernel/datapath.ts';
import { Opcode, type Operation } from '../kernel/operation.ts';
import { createEventfd } from '../linux/eventfd.ts';
import { close } from '../linux/libc.ts';
import { getLimit, Limit } from '../linux/limits.ts';
import { type MappedMemory, mapArena } from '../linux/memory.ts';
import { addressText } from '../linux/sockaddr.ts';
import * as linux from '../linux/socket.ts';
import { Ring } from '../linux/uring.ts';
import { CQE_BUFFER_SHIFT, CqeFlag, Feature, Op, Setup } from '../linux/uring-abi.ts';
import { SETUP_STEPS } from '../linux/uring-setup.ts';
import { watchEventfd } from '../linux/watch.ts';
import type { Heap, HeapBuffer, Sga } from '../ring/heap.ts';
import { mapHeap } from './heap.ts';
import { getSocketOption, setSocketOption } from './socket-options.ts';
import { Outbox } from './sockets/outbox.ts';
import { Phase } from './sockets/sock.ts';
import { Acceptor } from './uring/accept.ts';
import { Batch, batchBytes } from './uring/batch.ts';
import { Closer, unlinkSocket } from './uring/closing.ts';
import { Connector, connectBytes } from './uring/connect.ts';
import { Descriptors } from './uring/descriptors.ts';
import { GATHER_US, Gathering } from './uring/gathering.ts';
import { URING_SIZE_CLASSES, type UringCounters, type UringOptions } from './uring/options.ts';
import { RECEIVER_BYTES, Receiver } from './uring/receive.ts';
import { Sender } from './uring/send.ts';
import { SILENCE_MS } from './uring/silence.ts';
import { KIND_MASK, Kind, SLOT_SHIFT, SocketTable, type UringSocket } from './uring/socket.ts';

/** Microseconds until receives are tried again that found no buffer, if nothing else happens before. */
const STARVED_US = 5000;
/** Milliseconds that the end of the datapath waits for what is in flight. */
const DISPOSE_MS = 1000;
const MAX_CONNECTIONS = 65536;
/** Most connections made here that live in the ring's file table, too. */
const OWN_CONNECTIONS = 4096;
/** On x86 the kernel's flag says all: its store cannot be seen after its look at ours (see arm). */
const STRONG_ORDER = process.arch === 'x64';
const fence = new Int32Array(1);

export class UringDatapath implements Datapath {
  readonly name = 'uring';
  readonly heap: Heap;
  readonly #ring: Ring;
  readonly #table: SocketTable;
  readonly #control: MappedMemory;
  readonly #outbox = new Outbox();
  readonly #receiver: Receiver;
  readonly #sender: Sender;
  readonly #acceptor: Acceptor;
  readonly #connector: Connector;
  readonly #closer: Closer;
  readonly #descriptors: Descriptors;
  /** The kernel tells in memory whether it has work: an idle turn then costs no call. */
  readonly #flagged: boolean;
  /** Null where nobody wants it, or where the kernel cannot wait for several and be content with fewer. */
  readonly #gathering: Gathering | null;
  #armed = false;
  #now: () => number = () => performance.now();
  #onReadable: (() => void) | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;

  /**
   * @throws IsthmusError EPERM, ENOSYS or EINVAL where io_uring is forbidden, missing or too old (Linux 6.1 is needed),
   * saying what to do; ENOMEM, EMFILE
   */
  constructor(options: UringOptions = {}) {
    const entries = options.entries ?? 1024;
    const ring = new Ring({
      entries,
      completions: options.completions ?? Math.min(65536, entries * 8),
      taskrunFlag: true,
      steps: SETUP_STEPS.filter((step) => step & Setup.DEFER_TASKRUN),
    });
    this.#ring = ring;
    let heap: Heap | null = null;
    let control: MappedMemory | null = null;
    try {
      const fixed = (options.fixedFiles ?? true) && ring.probe().supports(Op.FIXED_FD_INSTALL);
      this.#table = fixed ? registerFiles(ring, options.maxConnections) : new SocketTable(0, 0);
      heap = mapHeap({ ...options.heap, sizeClasses: options.heap?.sizeClasses ?? URING_SIZE_CLASSES });
      const connects = RECEIVER_BYTES + batchBytes(ring.entries);
      control = mapArena(connects + connectBytes(ring.entries));
      this.#receiver = new Receiver(ring, heap, control, options);
      const batch = new Batch(ring, heap, this.#outbox, control, RECEIVER_BYTES);
      this.#sender = new Sender(heap, this.#outbox, batch, options.sendLimit ?? 1 << 20);
      this.#connector = new Connector(ring, this.#table, this.#receiver, this.#sender, control, connects);
      this.#acceptor = new Acceptor(ring, this.#table, fixed, (socket) => this.#closer.abort(socket));
    } catch (error) {
      ring.close();
      heap?.region.close();
      control?.close();
      throw error;
    }
    this.heap = heap;
    this.#control = control;
    this.#flagged = (ring.flags & Setup.TASKRUN_FLAG) !== 0;
    const gather = (options.gather ?? true) && (ring.features & Feature.MIN_TIMEOUT) !== 0;
    this.#gathering = gather ? new Gathering() : null;
    this.#descriptors = new Descriptors(ring);
    this.#closer = new Closer({
      ring,
      table: this.#table,
      outbox: this.#outbox,
      receiver: this.#receiver,
      acceptor: this.#acceptor,
      connector: this.#connector,
      descriptors: this.#descriptors,
      wake: () => this.#onReadable?.(),
    });
    this.#sender.onSent = (socket) => this.#closer.advance(socket);
    this.#sender.onBlocked = (socket) => this.#closer.limitSending(socket);
    this.#sender.onShut = (socket) => this.#descriptors.shut(socket);
    this.#receiver.onFailed = (socket) => {
      if (socket.flying === 0) this.#sender.broken(socket, socket.failed);
    };
  }

  attach(host: DatapathHost): void {
    this.#now = host.now;
    this.#acceptor.host = host;
  }

  // ---- Set-up --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    if (type === SocketType.DGRAM) {
      this.#receiver.needDatagrams();
      this.#outbox.withNames();
    }
    // Unix sockets connect by a call of their own, which must not wait; the ring waits for all others by itself.
    const fd = linux.socket(family, type, family === Family.UNIX ? linux.SOCK_NONBLOCK : 0);
    this.#table.give(this.#table.add(fd, family, type, Phase.CREATED), qd);
    // Accepted connections inherit it from their listener, which saves a call for each.
    if (type === SocketType.STREAM && family !== Family.UNIX) setSocketOption(fd, SocketOption.NO_DELAY, 1);
    if (family === Family.INET6) setSocketOption(fd, SocketOption.V6_ONLY, 0);
  }

  bind(qd: number, address: Address): void {
    const socket = this.#table.of(qd, 'bind');
    linux.bind(socket.file, address);
    socket.about = addressText(address);
    if ('path' in address && !address.path.startsWith('\0')) socket.path = address.path;
  }

  listen(qd: number, backlog: number): void {
    const socket = this.#table.of(qd, 'listen');
    linux.listen(socket.file, backlog, socket.about);
    socket.phase = Phase.LISTENING;
    socket.listener = true;
    socket.backlog = backlog;
  }

  accept(qd: number, op: Operation<number>): void {
    this.#acceptor.accept(this.#table.of(qd, 'accept'), op);
  }

  connect(qd: number, address: Address, op: Operation<void>): void {
    this.#connector.connect(this.#table.of(qd, 'connect'), address, op);
  }

  getsockname(qd: number): Address {
    return this.#descriptors.use(this.#table.of(qd, 'getsockname'), linux.getsockname);
  }

  getpeername(qd: number): Address {
    return this.#descriptors.use(this.#table.of(qd, 'getpeername'), linux.getpeername);
  }

  setsockopt(qd: number, option: SocketOption, value: number): void {
    const socket = this.#table.of(qd, 'setsockopt');
    // A positive SO_LINGER would block the whole kernel when the file is closed; Closer keeps its promise without blocking.
    const inKernel = option === SocketOption.LINGER && value > 0 ? -1 : value;
    this.#descriptors.use(socket, (fd) => setSocketOption(fd, option, inKernel));
    if (option === SocketOption.LINGER) socket.linger = value;
  }

  getsockopt(qd: number, option: SocketOption): number {
    const socket = this.#table.of(qd, 'getsockopt');
    if (option === SocketOption.LINGER) return socket.linger;
    return this.#descriptors.use(socket, (fd) => getSocketOption(fd, option));
  }

  unsent(qd: number): number {
    return this.#table.of(qd, 'unsent').unsent;
  }

  /** Closed queues that are still sending, or whose operations have not come home. */
  get draining(): number {
    return this.#closer.draining;
  }

  /** Buffers of the heap that lie ready in the kernel: in use, though no program holds them. */
  get readyBuffers(): number {
    return this.#receiver.ready;
  }

  /** What happened at the bounds, since the beginning. */
  get counters(): UringCounters {
    return {
      enters: this.#ring.enters,
      shortSends: this.#sender.short,
      starvedReceives: this.#receiver.starvations,
      refusedDatagrams: this.#sender.refused,
      truncatedDatagrams: this.#receiver.truncated,
      lostConnections: this.#acceptor.lost,
    };
  }

  // ---- Data ----------------------------------------------------------------------------------------------------

  pop(qd: number, op: Operation<HeapBuffer | null>): void {
    this.#receiver.pop(this.#table.of(qd, 'pop'), op);
  }

  push(qd: number, sga: Sga, op: Operation<void>): void {
    const socket = this.#table.of(qd, 'push');
    if (socket.type === SocketType.STREAM) this.#sender.pushes.push(socket, sga, op);
    else this.#sender.pushes.pushDatagram(socket, sga, op);
  }

  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    this.#sender.pushes.pushTo(this.#table.of(qd, 'pushTo'), buffer, to, op);
  }

  shutdown(qd: number): void {
    const socket = this.#table.of(qd, 'shutdown');
    if (socket.shut || socket.phase !== Phase.OPEN) return;
    socket.shut = true;
    if (socket.outHead < 0) this.#descriptors.shut(socket);
  }

  withdraw(qd: number, op: Operation<unknown>): void {
    const socket = this.#table.of(qd, 'withdraw');
    if (op.opcode === Opcode.PUSH) this.#sender.withdraw(socket, op);
    else if (op.opcode === Opcode.CONNECT) this.#connector.withdraw(socket, op);
    else socket.waiting.remove(op);
  }

  close(qd: number, abort: boolean): void {
    const socket = this.#table.of(qd, 'close');
    this.#table.queues[qd] = null;
    socket.qd = -1;
    failAll(socket);
    if (socket.listener) {
      linux.shutdown(socket.file, linux.SHUT_RDWR); // from now on nobody can connect, though the accept is still in flight
      for (const ahead of socket.accepted.splice(0)) this.#closer.abort(ahead);
    }
    if (socket.path !== null) unlinkSocket(socket.path);
    if (abort) this.#closer.abort(socket);
    else this.#closer.close(socket);
  }

  // ---- The turn ------------------------------------------------------------------------------------------------

  poll(budget: number): number {
    if (this.#armed) this.#disarm();
    const ring = this.#ring;
    const { words, cqes, cqMask, cqTail } = ring;
    const { slots } = this.#table;
    const receiver = this.#receiver;
    let did = 0;
    for (; did < budget && ring.head !== words[cqTail]; did++) {
      const k = cqes + ((ring.head & cqMask) << 2);
      ring.head = (ring.head + 1) | 0;
      const data = words[k]!;
      const kind = data & KIND_MASK;
      if (kind <= Kind.DATAGRAM) {
        if (kind === Kind.NONE) continue;
        const socket = slots[data >>> SLOT_SHIFT]!;
        const result = words[k + 2]!;
        const flags = words[k + 3]!;
        if (socket.generation !== words[k + 1]) this.#stale(kind, flags);
        else {
          const ended =
            kind === Kind.DATAGRAM
              ? receiver.onDatagram(socket, result, flags)
              : receiver.onReceive(socket, kind, result, flags);
          if (ended && socket.phase === Phase.CLOSING) this.#closer.advance(socket);
        }
      } else if (kind !== Kind.SEND_NOW) this.#handle(k, kind, data);
    }
    return did;
  }

  /** Completions of the rarer kinds. */
  #handle(k: number, kind: number, data: number): void {
    const words = this.#ring.words;
    const result = words[k + 2]!;
    if (kind === Kind.INSTALL) {
      this.#descriptors.late(result);
      return;
    }
    const socket = this.#table.slots[data >>> SLOT_SHIFT]!;
    if (socket.generation !== words[k + 1]) return;
    if (kind === Kind.SEND) this.#sender.sent(socket, result);
    else if (kind === Kind.ACCEPT) this.#acceptor.onAccept(socket, result, words[k + 3]!);
    else if (kind === Kind.BACKLOG) this.#acceptor.onBacklog(socket, result);
    else if (kind === Kind.CONNECT) this.#connector.onConnect(socket, result);
    else this.#closer.onDiscard(socket, result);
    if (socket.phase === Phase.CLOSING) this.#closer.advance(socket);
  }

  /** No place is used again while something of it is in flight, so this does not happen; but no buffer may get lost. */
  #stale(kind: number, flags: number): void {
    if ((flags & CqeFlag.BUFFER) !== 0) this.#receiver.reclaim(kind, flags >>> CQE_BUFFER_SHIFT);
  }

  submit(waitUs: number): void {
    const ring = this.#ring;
    const sender = this.#sender;
    if (ring.closed) return;
    this.#receiver.replenish();
    let wait = ring.available > 0 ? 0 : waitUs;
    if (this.#receiver.starving && (wait < 0 || wait > STARVED_US)) wait = STARVED_US;
    if (wait !== 0 && this.#receiver.silence.pending) {
      const due = this.#receiver.silence.look(this.#now());
      if (wait < 0 || wait > due) wait = due;
    }
    do {
      if (sender.waiting && sender.transmit()) wait = 0;
      if (wait !== 0) this.#sleep(wait);
      else if (ring.pending > 0 || (ring.available === 0 && (ring.workWaiting || !this.#flagged))) ring.submit(0);
      else return;
      sender.settle();
    } while (sender.crowded);
  }

  /** Sleeps in the call until something arrives; where much is on its way, until it is worth waking up. */
  #sleep(waitUs: number): void {
    const ring = this.#ring;
    const gathering = this.#gathering;
    const wanted = gathering === null || waitUs < GATHER_US ? 1 : gathering.wanted(this.#receiver.silence.talking);
    const brought = ring.submitAndWait(wanted, waitUs, wanted > 1 ? GATHER_US : 0);
    if (wanted > 1) gathering!.brought(brought);
  }

  get arrived(): boolean {
    return this.#ring.available > 0;
  }

  watch(onReadable: () => void): DatapathWatch {
    const ring = this.#ring;
    const fd = createEventfd();
    ring.setEventfdEnabled(false);
    ring.registerEventfd(fd);
    this.#onReadable = onReadable;
    const watch = watchEventfd(fd, onReadable);
    let closed = false;
    return {
      close: () => {
        if (closed) return;
        closed = true;
        watch.close();
        if (!ring.closed) ring.unregisterEventfd();
        close(fd);
        this.#onReadable = null;
      },
      ref: () => watch.ref(),
      unref: () => watch.unref(),
    };
  }

  /**
   * Lets the kernel signal the eventfd, then looks once more: what came before signalled nobody. The kernel first sets
   * its flag and then looks at ours, we the other way round, so one of both sees the other. Where its two steps may be
   * seen in another order, a call makes sure.
   */
  arm(): boolean {
    const ring = this.#ring;
    const settled = this.#sender.pushes.settled;
    if (ring.closed) return true;
    if (this.#receiver.silence.pending) this.#receiver.silence.look(this.#now());
    if (ring.pending > 0 || this.#sender.waiting) this.submit(0);
    if (ring.available > 0 || this.#sender.pushes.settled !== settled) return false;
    this.#armed = true;
    ring.setEventfdEnabled(true);
    if (STRONG_ORDER && this.#flagged) Atomics.add(fence, 0, 1);
    else ring.submit(0);
    if (ring.available > 0 || ring.workWaiting || ring.pending > 0) {
      this.#disarm();
      return false;
    }
    if (this.#retry === null && (this.#receiver.starving || this.#receiver.silence.pending)) {
      this.#retry = setTimeout(
        () => {
          this.#retry = null;
          this.#onReadable?.();
        },
        this.#receiver.starving ? STARVED_US / 1000 : SILENCE_MS,
      );
    }
    return true;
  }

  #disarm(): void {
    this.#armed = false;
    this.#ring.setEventfdEnabled(false);
  }

  dispose(): void {
    const ring = this.#ring;
    if (ring.closed) return;
    if (this.#retry !== null) clearTimeout(this.#retry);
    for (const socket of this.#table.open()) this.#closer.abandon(socket);
    // The kernel may write to our memory until the last receive has come home.
    const until = performance.now() + DISPOSE_MS;
    while (this.#table.live > 0 && performance.now() < until) {
      ring.submitAndWait(1, 10_000);
      this.poll(Number.MAX_SAFE_INTEGER);
    }
    ring.submit(0);
    this.#receiver.close();
    ring.close();
    ring.head = ring.words[ring.cqTail]!; // nothing has arrived, and nothing ever will
    this.#control.close();
    this.heap.region.close();
  }
}

/**
 * The ring's file table; as large as RLIMIT_NOFILE allows where nobody asked for a size. What the limit leaves besides is
 * for connections made here.
 */
function registerFiles(ring: Ring, wanted: number | undefined): SocketTable {
  const limit = Math.min(getLimit(Limit.NOFILE).soft, MAX_CONNECTIONS + OWN_CONNECTIONS);
  let accepted = wanted ?? MAX_CONNECTIONS;
  while (wanted === undefined && accepted > limit && accepted > 64) accepted >>= 1;
  const own = Math.max(0, Math.min(OWN_CONNECTIONS, limit - accepted));
  ring.registerFiles(accepted + own);
  if (own > 0) ring.reserveSlots(0, accepted);
  return new SocketTable(accepted, own);
}

/** The queue is closed: whoever waits on it learns it. */
function failAll(socket: UringSocket): void {
  const { connecting } = socket;
  socket.connecting = null;
  connecting?.failErrno(ERRNO.ECANCELED, 'connect', socket.about);
  for (let op = socket.waiting.shift(); op !== null; op = socket.waiting.shift())
    op.failErrno(ERRNO.ECANCELED, 'close');
  for (let op = socket.pushing.shift(); op !== null; op = socket.pushing.shift())
    op.failErrno(ERRNO.ECANCELED, 'close');
}
