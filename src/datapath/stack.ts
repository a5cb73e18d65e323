/**
 * The datapath over our own TCP/IP (src/net): every call and every turn of PDPIX over one stack and the link below it.
 * It touches the link that it was given, which may be a tap, the rings of AF_XDP or a wire of the simulator.
 *
 * A turn: the time, the timers, frames in, events to the queues; the program runs; what TCP has to send, frames out.
 */
import type { IpAddress } from '../address/sockaddr.ts';
import { ERRNO, systemError } from '../errors.ts';
import {
  type Address,
  type Datapath,
  type DatapathHost,
  type DatapathWatch,
  Family,
  type SocketOption,
  SocketType,
} from '../kernel/datapath.ts';
import type { Operation } from '../kernel/operation.ts';
import type { Stack } from '../net/stack.ts';
import type { Tcp } from '../net/tcp/tcp.ts';
import type { Heap, HeapBuffer, Sga } from '../ring/heap.ts';
import { badQueue, Core, type StackDatapathOptions } from './stack/core.ts';
import { DatagramQueue } from './stack/datagram.ts';
import type { Link } from './stack/link.ts';
import { StreamQueue } from './stack/stream.ts';

/** Milliseconds until sending is tried again that found no buffer, if nothing else happens before. */
const STALLED_MS = 2;

export class StackDatapath implements Datapath {
  readonly name: string;
  readonly heap: Heap;
  readonly #core: Core;
  readonly #link: Link;

  /** @throws what the link throws where it cannot have its addresses */
  constructor(link: Link, options: StackDatapathOptions = {}) {
    this.name = link.name;
    this.heap = link.heap;
    this.#link = link;
    this.#core = new Core(link, options);
  }

  attach(host: DatapathHost): void {
    this.#core.host = host;
  }

  /** For whoever configures or observes it. */
  get stack(): Stack {
    return this.#core.stack;
  }

  get tcp(): Tcp {
    return this.#core.tcp;
  }

  /** Every counter by name. */
  observe(): Record<string, number> {
    const { stack, tcp } = this.#core;
    const all = stack.observe();
    for (const [name, value] of Object.entries(tcp.counters)) all[`tcp.${name}`] = value as number;
    all['tcp.connections'] = tcp.table.size;
    all['tcp.timeWaiting'] = tcp.timeWait.size;
    for (const [name, value] of Object.entries(this.#link.observe?.() ?? {})) all[`link.${name}`] = value;
    return all;
  }

  // ---- Queues --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    const core = this.#core;
    if (family === Family.UNIX) {
      throw systemError(
        ERRNO.EAFNOSUPPORT,
        'socket',
        undefined,
        `Unix sockets are the kernel's; ${this.name} has none`,
      );
    }
    if (type === SocketType.STREAM) core.give(core.streamQueue(family), qd);
    else core.give(new DatagramQueue(core, family), qd);
  }

  bind(qd: number, address: Address): void {
    this.#queue(qd, 'bind').bind(address);
  }

  listen(qd: number, backlog: number): void {
    this.#stream(qd, 'listen').listen(backlog);
  }

  accept(qd: number, op: Operation<number>): void {
    this.#stream(qd, 'accept').accept(op);
  }

  connect(qd: number, address: Address, op: Operation<void>): void {
    this.#queue(qd, 'connect').connect(address, op);
  }

  push(qd: number, sga: Sga, op: Operation<void>): void {
    this.#queue(qd, 'push').push(sga, op);
  }

  pushTo(qd: number, buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    const queue = this.#queue(qd, 'pushTo');
    if (queue instanceof DatagramQueue) queue.pushTo(buffer, to, op);
    else {
      buffer.release();
      op.failErrno(ERRNO.EOPNOTSUPP, 'pushTo');
    }
  }

  pop(qd: number, op: Operation<HeapBuffer | null>): void {
    this.#queue(qd, 'pop').pop(op);
  }

  shutdown(qd: number): void {
    this.#queue(qd, 'shutdown').shutdown();
  }

  close(qd: number, abort: boolean): void {
    const queue = this.#queue(qd, 'close');
    this.#core.queues[qd] = null;
    queue.close(abort);
  }

  withdraw(qd: number, op: Operation<unknown>): void {
    this.#core.queues[qd]?.withdraw(op);
  }

  getsockname(qd: number): Address {
    return this.#queue(qd, 'getsockname').getsockname();
  }

  getpeername(qd: number): Address {
    return this.#queue(qd, 'getpeername').getpeername();
  }

  setsockopt(qd: number, option: SocketOption, value: number): void {
    this.#queue(qd, 'setsockopt').setsockopt(option, value);
  }

  getsockopt(qd: number, option: SocketOption): number {
    return this.#queue(qd, 'getsockopt').getsockopt(option);
  }

  unsent(qd: number): number {
    return this.#core.queues[qd]?.unsent ?? 0;
  }

  /** Connections of closed queues whose peer has not acknowledged everything. */
  get draining(): number {
    return this.#core.closing.draining;
  }

  #queue(qd: number, call: string): StreamQueue | DatagramQueue {
    return this.#core.queues[qd] ?? badQueue(qd, call);
  }

  #stream(qd: number, call: string): StreamQueue {
    const queue = this.#queue(qd, call);
    if (queue instanceof StreamQueue) return queue;
    throw systemError(ERRNO.EOPNOTSUPP, call, undefined, 'a datagram queue');
  }

  // ---- The turn ------------------------------------------------------------------------------------------------

  poll(budget: number): number {
    const core = this.#core;
    const { stack, timers } = core;
    const now = core.now();
    stack.setTime(now);
    core.inTurn = true;
    let did = timers.size > 0 ? timers.advance(now) : 0;
    did += this.#link.receive(budget, core.input);
    if (stack.looping) stack.loop();
    if (core.tcp.pending) did += this.#tellStreams();
    if (stack.udp.pending) this.#tellDatagrams();
    return did;
  }

  /** @returns events */
  #tellStreams(): number {
    const { tcp } = this.#core;
    let did = 0;
    for (let c = tcp.nextReady(); c !== null; c = tcp.nextReady()) {
      did++;
      const queue = c.user as StreamQueue | null;
      if (queue !== null) queue.handle(c.takeEvents());
      else {
        // Nobody has accepted it yet.
        c.takeEvents();
        (c.listener?.user as StreamQueue | null | undefined)?.handOut();
      }
    }
    return did;
  }

  #tellDatagrams(): void {
    const { udp } = this.#core.stack;
    for (let socket = udp.nextReady(); socket !== null; socket = udp.nextReady()) {
      (socket.user as DatagramQueue | null)?.handle(socket.takeEvents());
    }
  }

  submit(waitUs: number): void {
    const core = this.#core;
    const { stack } = core;
    // Outside of a turn when the kernel ends.
    core.touch();
    stack.flush();
    let settled = false;
    if (core.blocked.length > 0) settled = this.#flushDatagrams();
    core.inTurn = false;
    if (waitUs === 0 || settled || this.arrived) return;
    const untilUs = Math.ceil((this.#deadline() - core.now()) * 1000);
    if (untilUs <= 0) return;
    if (untilUs !== Number.POSITIVE_INFINITY && (waitUs < 0 || untilUs < waitUs)) waitUs = untilUs;
    this.#link.sleep(waitUs);
  }

  /** Sends datagrams that the device had no room for. @returns whether a push has completed */
  #flushDatagrams(): boolean {
    const { blocked, stack } = this.#core;
    let settled = false;
    for (let queue = blocked[0]; queue !== undefined; queue = blocked[0]) {
      const before = queue.unsent;
      const done = queue.flush();
      settled ||= done || queue.unsent !== before;
      if (!done) break;
      queue.listed = false;
      blocked.shift();
    }
    stack.context.device.flush();
    return settled;
  }

  /** When the next timer is due, in ms of the clock. */
  #deadline(): number {
    const { timers, tcp, blocked, now } = this.#core;
    const timer = timers.size > 0 ? timers.nextDeadline() : Number.POSITIVE_INFINITY;
    if (!tcp.wantsFlush && blocked.length === 0) return timer;
    return Math.min(timer, now() + STALLED_MS);
  }

  get arrived(): boolean {
    const { stack, tcp } = this.#core;
    return this.#link.arrived || stack.looping || tcp.pending || stack.udp.pending;
  }

  watch(onReadable: () => void): DatapathWatch {
    return this.#link.watch(onReadable);
  }

  arm(): boolean {
    return !this.arrived && this.#link.arm(this.#deadline());
  }

  dispose(): void {
    const { stack, tcp } = this.#core;
    // What is unsent never will be: a reset says so.
    for (const c of [...tcp.table]) if (c.unsent > 0) c.abort();
    stack.flush();
    tcp.dispose();
    stack.dispose();
    this.#core.closeMiddleware();
    this.#link.dispose();
  }
}
