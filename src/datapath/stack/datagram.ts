/**
 * One datagram queue over the stack's UDP: its socket, the operations that wait on it, and datagrams the device had no
 * room for. It calls its socket and the core it belongs to.
 */
import type { IpAddress } from '../../address/sockaddr.ts';
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { type Address, Family, SocketOption } from '../../kernel/datapath.ts';
import { Opcode, type Operation } from '../../kernel/operation.ts';
import { OperationFifo } from '../../kernel/operation-fifo.ts';
import type { IpWords } from '../../net/ip/words.ts';
import { UdpEvent, type UdpSocket } from '../../net/udp/socket.ts';
import type { HeapBuffer, Sga } from '../../ring/heap.ts';
import { type Endpoint, localOf, named, readEndpoint, remoteOf, textOf } from './address.ts';
import type { Core } from './core.ts';
import { getOption, setOption } from './options.ts';

/** Largest payload of a UDP datagram over IPv4. */
const LARGEST_DATAGRAM = 65507;
/** Datagrams of one queue that wait for room in the device; one more fails with ENOBUFS. */
const MAX_HELD = 4096;

/** A push for which the device had no room. */
interface Held {
  readonly op: Operation<unknown>;
  readonly buffer: HeapBuffer;
  /** The view as it was pushed. */
  readonly offset: number;
  readonly length: number;
  /** Null: to whom it came from, or to the connected peer. */
  readonly to: Endpoint | null;
}

export class DatagramQueue {
  readonly core: Core;
  readonly family: Family;
  readonly options: Int32Array;
  qd = -1;
  /** Is in the core's list of those that have pushes to send. */
  listed = false;
  /** Made when it is bound, since it depends on V6_ONLY and REUSE_PORT. */
  #socket: UdpSocket | null = null;
  /** What it was bound to, with the port that it got. */
  #words: IpWords | null = null;
  #ephemeral = false;
  readonly #waiting = new OperationFifo();
  #held: Held[] = [];
  #heldBytes = 0;
  #about = '';
  #shut = false;
  /** The last destination by name: parsing one for each datagram would cost more than sending it. */
  #toHost = '';
  #toWords: IpWords | null = null;

  constructor(core: Core, family: Family) {
    this.core = core;
    this.family = family;
    this.options = core.defaultOptions.slice();
  }

  // ---- Set-up --------------------------------------------------------------------------------------------------

  bind(address: Address): void {
    const about = textOf(address);
    const { words, port } = readEndpoint(this.family, address, 'bind');
    if (this.#socket !== null) throw systemError(ERRNO.EINVAL, 'bind', about);
    this.#bind(words, port, about);
  }

  #bind(words: IpWords, port: number, about: string): UdpSocket {
    const { core, family, options } = this;
    const { udp } = core.stack;
    const dual = family === Family.INET6 && options[SocketOption.V6_ONLY] === 0 && words.family === 6;
    const socket = udp.open(words.family, { dual });
    socket.reusePort = options[SocketOption.REUSE_PORT] !== 0;
    try {
      if (port === 0) this.#bindEphemeral(socket, words, about);
      else {
        socket.bind(words, port);
        core.ports.serveUdp(port, words);
      }
    } catch (error) {
      socket.close();
      throw error instanceof IsthmusError ? systemError(error.errno, 'bind', about) : error;
    }
    socket.user = this;
    this.#socket = socket;
    this.#words = words;
    this.#ephemeral = port === 0;
    this.#about = textOf(named(family, words, socket.flow.localPort));
    return socket;
  }

  #bindEphemeral(socket: UdpSocket, words: IpWords, about: string): void {
    const tried = this.core.ports.bindUdp((port) => {
      try {
        socket.bind(words, port);
        return true;
      } catch (error) {
        if (error instanceof IsthmusError && error.code === 'EADDRINUSE') return false;
        throw error;
      }
    });
    if (tried < 0) throw systemError(ERRNO.EADDRINUSE, 'bind', about);
  }

  /** The socket; a queue that was never bound is now, to any address and a port of the stack's choice. */
  #open(): UdpSocket {
    const v6 = this.family === Family.INET6;
    return (
      this.#socket ?? this.#bind({ family: v6 ? 6 : 4, w0: 0, w1: 0, w2: 0, w3: 0 }, 0, v6 ? '[::]:0' : '0.0.0.0:0')
    );
  }

  connect(address: Address, op: Operation<void>): void {
    const { core } = this;
    const about = textOf(address);
    core.touch();
    try {
      const { words, port } = readEndpoint(this.family, address, 'connect');
      const socket = this.#open();
      socket.connect(socket.family === 6 ? mapped(words) : words, port);
    } catch (error) {
      op.fail(error instanceof IsthmusError ? systemError(error.errno, 'connect', about) : asSystemError(error, about));
      return;
    }
    this.#about = about;
    op.complete(undefined);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  pop(op: Operation<HeapBuffer | null>): void {
    const socket = this.#socket;
    if (socket !== null && this.#waiting.head === null) {
      const buffer = socket.read();
      if (buffer !== null) {
        op.complete(buffer);
        return;
      }
      if (socket.error !== 0) {
        op.failErrno(socket.takeError(), 'pop', this.#about);
        return;
      }
    }
    this.#waiting.append(op as Operation<unknown>);
  }

  handle(events: number): void {
    const socket = this.#socket!;
    const waiting = this.#waiting;
    if ((events & UdpEvent.READABLE) !== 0) {
      while (waiting.head !== null) {
        const buffer = socket.read();
        if (buffer === null) break;
        waiting.shift()!.complete(buffer);
      }
    }
    if ((events & UdpEvent.ERROR) !== 0 && waiting.head !== null && socket.error !== 0) {
      waiting.shift()!.failErrno(socket.takeError(), 'pop', this.#about);
    }
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  /** push of PDPIX: one datagram. Several pieces are copied together; it is not the hot way. */
  push(sga: Sga, op: Operation<void>): void {
    if (!Array.isArray(sga)) {
      this.pushTo(sga as HeapBuffer, null, op);
      return;
    }
    const { heap } = this.core;
    const parts = sga as readonly HeapBuffer[];
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const whole = bytes > LARGEST_DATAGRAM ? null : heap.tryAlloc(bytes);
    let at = whole?.offset ?? 0;
    for (const part of parts) {
      if (whole !== null) heap.region.u8.copyWithin(at, part.offset, part.offset + part.length);
      at += part.length;
      part.release();
    }
    if (whole !== null) this.pushTo(whole, null, op);
    else op.failErrno(bytes > LARGEST_DATAGRAM ? ERRNO.EMSGSIZE : ERRNO.ENOBUFS, 'push', this.#about);
  }

  pushTo(buffer: HeapBuffer, to: IpAddress | null, op: Operation<void>): void {
    this.core.touch();
    if (this.#shut) {
      buffer.release();
      op.failErrno(ERRNO.EPIPE, 'pushTo', this.#about);
      return;
    }
    let words: IpWords | null = null;
    let socket: UdpSocket;
    try {
      if (to !== null) words = this.#wordsOf(to);
      socket = this.#socket ?? this.#open();
    } catch (error) {
      buffer.release();
      op.fail(error as Error);
      return;
    }
    let errno = socket.error !== 0 ? socket.takeError() : 0;
    if (errno === 0 && this.#held.length === 0) {
      errno = this.#transmit(socket, buffer, words, to === null ? 0 : to.port);
      if (errno === 0) {
        op.complete(undefined);
        return;
      }
      if (errno === ERRNO.EAGAIN) errno = 0;
      else {
        op.failErrno(errno, 'pushTo', to === null ? this.#about : textOf(to));
        return;
      }
    }
    if (errno === 0 && this.#held.length >= MAX_HELD) errno = ERRNO.ENOBUFS;
    if (errno === 0) this.#hold(op as Operation<unknown>, buffer, words === null ? null : { words, port: to!.port });
    else {
      buffer.release();
      op.failErrno(errno, 'pushTo', to === null ? this.#about : textOf(to));
    }
  }

  /** The buffer's reference passes, but where the answer is EAGAIN. */
  #transmit(socket: UdpSocket, buffer: HeapBuffer, words: IpWords | null, port: number): number {
    if (words !== null) return socket.sendTo(buffer, words, port);
    return buffer.peerLength > 0 ? socket.reply(buffer) : socket.send(buffer);
  }

  #wordsOf(to: IpAddress): IpWords {
    if (to.host === this.#toHost && to.port >= 0 && to.port <= 65535) return this.#toWords!;
    const { words } = readEndpoint(this.family, to, 'pushTo');
    this.#toWords = words;
    this.#toHost = to.host;
    return words;
  }

  #hold(op: Operation<unknown>, buffer: HeapBuffer, to: Endpoint | null): void {
    const { offset, length } = buffer;
    this.#held.push({ op, buffer, offset, length, to });
    this.#heldBytes += length;
    if (this.listed) return;
    this.listed = true;
    this.core.blocked.push(this);
  }

  /** Sends what was held back; false where the device is full again. */
  flush(): boolean {
    const socket = this.#socket;
    let sent = 0;
    for (const { op, buffer, offset, length, to } of this.#held) {
      const others = buffer.references > 1;
      const view = others ? { offset: buffer.offset, length: buffer.length } : null;
      buffer.offset = offset;
      buffer.length = length;
      const errno = this.#transmit(socket!, buffer, to?.words ?? null, to?.port ?? 0);
      // Others go on with the view that they have.
      if (view !== null) Object.assign(buffer, view);
      if (errno === ERRNO.EAGAIN) break;
      sent++;
      this.#heldBytes -= length;
      if (errno === 0) op.complete(undefined);
      else op.failErrno(errno, 'pushTo', this.#about);
    }
    this.#held = this.#held.slice(sent);
    return this.#held.length === 0;
  }

  get unsent(): number {
    return this.#heldBytes;
  }

  shutdown(): void {
    this.#shut = true;
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  withdraw(op: Operation<unknown>): void {
    if (op.opcode !== Opcode.PUSH) {
      this.#waiting.remove(op);
      return;
    }
    const held = this.#held.find((one) => one.op === op);
    if (held === undefined) return;
    this.#held = this.#held.filter((one) => one !== held);
    this.#heldBytes -= held.length;
    held.buffer.release();
  }

  close(): void {
    const socket = this.#socket;
    if (socket !== null) {
      const port = socket.flow.localPort;
      if (this.#ephemeral) this.core.ports.unbindUdp(port);
      else this.core.ports.unserveUdp(port, this.#words!);
      socket.user = null;
      socket.close();
    }
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (let op = this.#waiting.shift(); op !== null; op = this.#waiting.shift())
      op.failErrno(ERRNO.ECANCELED, 'close');
    for (const { op, buffer } of held) {
      buffer.release();
      op.failErrno(ERRNO.ECANCELED, 'close');
    }
  }

  // ---- Names and options ---------------------------------------------------------------------------------------

  getsockname(): IpAddress {
    const { family } = this;
    const socket = this.#socket;
    if (socket === null) return { host: family === Family.INET6 ? '::' : '0.0.0.0', port: 0 };
    return named(family, socket.connected ? localOf(socket.flow) : this.#words!, socket.flow.localPort);
  }

  getpeername(): IpAddress {
    const socket = this.#socket;
    if (!socket?.connected) throw systemError(ERRNO.ENOTCONN, 'getpeername', this.#about);
    return named(this.family, remoteOf(socket.flow), socket.flow.remotePort);
  }

  setsockopt(option: SocketOption, value: number): void {
    setOption(this.options, option, value);
  }

  getsockopt(option: SocketOption): number {
    return getOption(this.options, option);
  }
}

/** An IPv4 address as a socket for both families takes it. */
function mapped(words: IpWords): IpWords {
  return words.family === 6 ? words : { family: 6, w0: 0, w1: 0, w2: 0xffff, w3: words.w3 };
}

function asSystemError(error: unknown, about: string): Error {
  return error instanceof RangeError ? systemError(ERRNO.EINVAL, 'connect', about) : (error as Error);
}
