/**
 * One stream queue over our own TCP: a connection, or a listener; the operations that wait on it, and what is unsent.
 * It calls its connection and the core it belongs to. Objects are reused, so a queue costs no garbage.
 */
import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { type Address, Family, SocketOption, SocketType } from '../../kernel/datapath.ts';
import { Opcode, type Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import { Flow } from '../../net/flow.ts';
import type { IpWords } from '../../net/ip/words.ts';
import type { Connection } from '../../net/tcp/connection.ts';
import { TcpEvent, TcpState } from '../../net/tcp/constants.ts';
import type { Listener } from '../../net/tcp/listener.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { isAny, localOf, named, readEndpoint, remoteOf, setLocal, setRemote, textOf } from './address.ts';
import { Backlog, releaseAll } from './backlog.ts';
import type { Core } from './core.ts';
import { applyOptions, getOption, setOption } from './options.ts';
import type { BoundPort } from './ports.ts';

const Phase = { IDLE: 0, CONNECTING: 1, OPEN: 2, LISTENING: 3 } as const;

const ANY4: IpWords = { family: 4, w0: 0, w1: 0, w2: 0, w3: 0 };
const ANY6: IpWords = { family: 6, w0: 0, w1: 0, w2: 0, w3: 0 };

const EMPTY = new Flow();
/** The ends of a connection that is being begun. */
const scratch = new Flow();

export class StreamQueue {
  readonly core: Core;
  /** The core's own, shared with others, until one is set. */
  options: Int32Array;
  qd = -1;
  family: Family = Family.INET;
  #phase: number = Phase.IDLE;
  #connection: Connection | null = null;
  #listener: Listener | null = null;
  #bound: BoundPort | null = null;
  /** Pops, or accepts of a listener. */
  readonly #waiting = new OperationFifo();
  /** Pushes that wait for it to drain. */
  readonly #backlog = new Backlog();
  #connecting: Operation<void> | null = null;
  /** Positive errno that ended the connection. */
  #failed = 0;
  #shut = false;
  /** Where it is bound or connects to, for messages. */
  #about = '';

  constructor(core: Core) {
    this.core = core;
    this.options = core.defaultOptions;
  }

  open(family: Family): this {
    this.family = family;
    this.#phase = Phase.IDLE;
    this.#failed = 0;
    this.#shut = false;
    this.#about = '';
    this.options = this.core.defaultOptions;
    return this;
  }

  /** Options have been set: a connection must be told, since they are not those it begins with. */
  get #tuned(): boolean {
    return this.options !== this.core.defaultOptions;
  }

  // ---- Set-up --------------------------------------------------------------------------------------------------

  bind(address: Address): void {
    const { core, family, options } = this;
    const about = textOf(address);
    const { words, port } = readEndpoint(family, address, 'bind');
    if (this.#bound !== null || this.#phase !== Phase.IDLE) throw systemError(ERRNO.EINVAL, 'bind', about);
    const { family: f, w0, w1, w2, w3 } = words;
    if (!isAny(words) && !core.stack.addresses.isLocal(f, w0, w1, w2, w3)) {
      throw systemError(ERRNO.EADDRNOTAVAIL, 'bind', about);
    }
    const v6Only = options[SocketOption.V6_ONLY] !== 0;
    const reusePort = options[SocketOption.REUSE_PORT] !== 0;
    this.#bound = core.ports.bind(family, words, port, v6Only, reusePort, about);
    this.#about = textOf(named(family, words, this.#bound.port));
  }

  listen(backlog: number): void {
    const { core, options, family } = this;
    if (this.#phase === Phase.LISTENING) {
      this.#listener!.backlog = Math.max(1, backlog);
      return;
    }
    if (this.#phase !== Phase.IDLE) throw systemError(ERRNO.EINVAL, 'listen', this.#about);
    if (this.#bound === null) this.bind({ host: family === Family.INET6 ? '::' : '0.0.0.0', port: 0 });
    const { words, port, dual, reusePort } = this.#bound!;
    const flow = new Flow();
    setLocal(flow, words, port);
    const listener = core.tcp.listen(flow, backlog, dual, reusePort);
    listener.user = this;
    listener.noDelay = options[SocketOption.NO_DELAY] !== 0;
    listener.receiveBuffer = options[SocketOption.RECEIVE_BUFFER]!;
    this.#listener = listener;
    this.#phase = Phase.LISTENING;
  }

  connect(address: Address, op: Operation<void>): void {
    const { core } = this;
    if (this.#phase !== Phase.IDLE) {
      const errno = this.#phase === Phase.CONNECTING ? ERRNO.EALREADY : ERRNO.EISCONN;
      op.failErrno(errno, 'connect', this.#about);
      return;
    }
    const about = textOf(address);
    core.touch();
    try {
      const connection = core.tcp.connect(this.#ends(address, about), (c) => {
        if (this.#tuned) applyOptions(this.options, c);
        else c.sendBuffer = core.sendLimit;
      });
      connection.user = this;
      this.#connection = connection;
    } catch (error) {
      const { errno } = error as { errno?: number };
      op.fail(error instanceof IsthmusError ? systemError(errno!, 'connect', about) : (error as Error));
      return;
    }
    // A connect that failed may be tried again.
    this.#failed = 0;
    this.#about = about;
    this.#phase = Phase.CONNECTING;
    this.#connecting = op;
  }

  #ends(address: Address, about: string): Flow {
    const { core } = this;
    const { words, port } = readEndpoint(this.family, address, 'connect');
    if (port === 0) throw systemError(ERRNO.ECONNREFUSED, 'connect', about);
    // TCP copies it.
    const flow = scratch.copy(EMPTY);
    const bound = this.#bound;
    // Nobody is "any address" but this host itself (as Linux has it).
    if (isAny(words)) setRemote(flow, { ...words, w3: words.family === 4 ? 0x7f000001 : 1 }, port);
    else setRemote(flow, words, port);
    if (bound !== null) {
      const { family, w0, w1, w2, w3 } = bound.words;
      if (!isAny(bound.words)) {
        if (family !== words.family) throw systemError(ERRNO.EAFNOSUPPORT, 'connect', about);
        setLocal(flow, { family, w0, w1, w2, w3 }, bound.port);
      } else flow.localPort = bound.port;
    }
    const errno = core.stack.output.selectSource(flow);
    if (errno !== 0) throw systemError(errno, 'connect', about);
    return flow;
  }

  // ---- Accepting -----------------------------------------------------------------------------------------------

  accept(op: Operation<number>): void {
    if (this.#phase !== Phase.LISTENING) {
      op.failErrno(ERRNO.EINVAL, 'accept', this.#about);
      return;
    }
    this.#waiting.append(op as Operation<unknown>);
    if (this.#listener!.waiting > 0) this.handOut();
  }

  /** Gives connections that wait to the accepts that wait. */
  handOut(): void {
    const { core } = this;
    const listener = this.#listener!;
    while (this.#waiting.head !== null && listener.waiting > 0) {
      const op = this.#waiting.shift()!;
      let qd: number;
      try {
        qd = core.host!.openQueue(this.family, SocketType.STREAM);
      } catch (error) {
        op.fail(error as Error); // the kernel's own bound: the connection waits for the next accept
        continue;
      }
      const queue = core.streamQueue(this.family);
      queue.#adopt(listener.accept()!, this);
      core.give(queue, qd);
      op.complete(qd);
    }
  }

  #adopt(connection: Connection, listening: StreamQueue): void {
    connection.user = this;
    this.#connection = connection;
    this.#phase = Phase.OPEN;
    if (listening.#tuned) {
      this.options = listening.options.slice();
      applyOptions(this.options, connection);
    } else connection.sendBuffer = this.core.sendLimit;
    // Whatever happened before is not told again.
    if (connection.state === TcpState.CLOSED) this.#failed = connection.error;
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  pop(op: Operation<HeapBuffer | null>): void {
    const phase = this.#phase;
    if (phase === Phase.OPEN && this.#waiting.head === null) {
      const c = this.#connection!;
      const buffer = c.read();
      if (buffer !== null) {
        op.complete(buffer);
        return;
      }
      if (c.ended) {
        op.complete(null);
        return;
      }
    }
    if (this.#failed !== 0) op.failErrno(this.#failed, 'pop', this.#about);
    else if (phase !== Phase.OPEN && phase !== Phase.CONNECTING) op.failErrno(ERRNO.ENOTCONN, 'pop', this.#about);
    else this.#waiting.append(op as Operation<unknown>);
  }

  /** Something has happened on the connection. */
  handle(events: number): void {
    const c = this.#connection!;
    if ((events & TcpEvent.CONNECTED) !== 0) this.#connected();
    if ((events & TcpEvent.READABLE) !== 0) this.#receive(c);
    if ((events & TcpEvent.WRITABLE) !== 0 && this.#backlog.head !== null) this.#backlog.resume(c);
    if ((events & TcpEvent.CLOSED) !== 0) this.#over(c);
  }

  #connected(): void {
    const op = this.#connecting;
    this.#phase = Phase.OPEN;
    this.#connecting = null;
    op?.complete(undefined);
  }

  #receive(c: Connection): void {
    const waiting = this.#waiting;
    while (waiting.head !== null) {
      const buffer = c.read();
      if (buffer === null && !c.ended) return;
      waiting.shift()!.complete(buffer);
    }
  }

  /** The connection is over: by both sides, or by a failure. */
  #over(c: Connection): void {
    const errno = c.error;
    this.#failed = errno;
    if (this.#phase === Phase.CONNECTING) {
      const op = this.#connecting;
      this.#phase = Phase.IDLE;
      this.#connection = null;
      this.#connecting = null;
      c.close();
      this.#backlog.failAll(errno, 'push', this.#about);
      this.#endPops(errno);
      op?.failErrno(errno, 'connect', this.#about);
      return;
    }
    this.#backlog.failAll(errno === 0 ? ERRNO.EPIPE : errno, 'push', this.#about);
    if (errno === 0) this.#receive(c);
    this.#endPops(errno);
  }

  #endPops(errno: number): void {
    for (let op = this.#waiting.shift(); op !== null; op = this.#waiting.shift()) {
      if (errno !== 0) op.failErrno(errno, 'pop', this.#about);
      else op.complete(null);
    }
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  push(sga: Sga, op: Operation<void>): void {
    const errno = this.#refusal();
    if (errno !== 0) {
      releaseAll(sga);
      op.failErrno(errno, 'push', this.#about);
      return;
    }
    this.#backlog.push(this.#connection!, sga, op, this.#about);
  }

  /** Why nothing can be pushed now, 0 when it can. */
  #refusal(): number {
    if (this.#failed !== 0) return this.#failed;
    if (this.#shut) return ERRNO.EPIPE;
    const phase = this.#phase;
    if (phase !== Phase.OPEN && phase !== Phase.CONNECTING) return ERRNO.ENOTCONN;
    const { state } = this.#connection!;
    return state === TcpState.CLOSED || state === TcpState.TIME_WAIT ? ERRNO.EPIPE : 0;
  }

  get unsent(): number {
    return this.#backlog.bytes + (this.#connection?.unsent ?? 0);
  }

  shutdown(): void {
    if (this.#shut || this.#phase !== Phase.OPEN) return;
    const c = this.#connection!;
    this.#shut = true;
    if (this.#backlog.handAll(c)) c.shutdown();
    else c.abort();
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  withdraw(op: Operation<unknown>): void {
    if (op.opcode === Opcode.CONNECT) this.#connecting = null;
    else if (op.opcode !== Opcode.PUSH) this.#waiting.remove(op);
    else this.#backlog.withdraw(op);
  }

  close(abort: boolean): void {
    const { core } = this;
    core.touch();
    const c = this.#connection;
    this.#connection = null;
    // Everything of this object is done with before an operation fails: whoever hears of it may open the next queue.
    const graceful = !abort && this.#phase === Phase.OPEN && this.options[SocketOption.LINGER] !== 0;
    const all = c === null || !graceful || this.#backlog.handAll(c);
    this.#listener?.close();
    this.#listener = null;
    if (this.#bound !== null) core.ports.release(this.#bound);
    this.#bound = null;
    if (c !== null && graceful && all) core.closing.close(c, this.options[SocketOption.LINGER]!);
    else c?.abort();
    this.#phase = Phase.IDLE;
    const connecting = this.#connecting;
    this.#connecting = null;
    connecting?.failErrno(ERRNO.ECANCELED, 'connect', this.#about);
    for (let op = this.#waiting.shift(); op !== null; op = this.#waiting.shift())
      op.failErrno(ERRNO.ECANCELED, 'close');
    this.#backlog.failAll(ERRNO.ECANCELED, 'close', this.#about);
    core.freeStreams.push(this);
  }

  // ---- Names and options ---------------------------------------------------------------------------------------

  getsockname(): IpAddress {
    const { family } = this;
    const c = this.#connection;
    if (c !== null) return named(family, localOf(c.flow), c.flow.localPort);
    if (this.#bound !== null) return named(family, this.#bound.words, this.#bound.port);
    return named(family, family === Family.INET6 ? ANY6 : ANY4, 0);
  }

  getpeername(): IpAddress {
    const c = this.#connection;
    if (c === null || this.#phase !== Phase.OPEN) throw systemError(ERRNO.ENOTCONN, 'getpeername', this.#about);
    return named(this.family, remoteOf(c.flow), c.flow.remotePort);
  }

  setsockopt(option: SocketOption, value: number): void {
    const options = this.#tuned ? this.options : this.options.slice();
    setOption(options, option, value);
    this.options = options;
    if (this.#connection !== null) applyOptions(this.options, this.#connection);
    const listener = this.#listener;
    if (listener === null) return;
    listener.noDelay = this.options[SocketOption.NO_DELAY] !== 0;
    listener.receiveBuffer = this.options[SocketOption.RECEIVE_BUFFER]!;
  }

  getsockopt(option: SocketOption): number {
    return getOption(this.options, option);
  }
}
