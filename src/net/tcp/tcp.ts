/**
 * One TCP: its connections and listeners, segments in, segments out, events up (docs/design/net.md).
 * It touches what it was given (heap, output, timers, key, clock) and nothing else.
 */
import { ERRNO, systemError } from '../../errors.ts';
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import { Flow, HEADROOM, pseudoSum, type SegmentOutput, type Timers } from '../flow.ts';
import { checksum, fold } from '../wire/checksum.ts';
import { Flag, TCP_CHECKSUM_AT, TCP_HEADER_BYTES, TCP_PROTOCOL, TcpSegment } from '../wire/tcp.ts';
import { DEFAULT_TCP_CONFIG, type TcpConfig, TcpCounters } from './config.ts';
import type { CongestionControl } from './congestion.ts';
import { Connection } from './connection.ts';
import { Phase, TcpEvent, TcpState } from './constants.ts';
import { cubic } from './cubic.ts';
import { emit, emitBare, RESERVE_DATA } from './emit.ts';
import { listenArrives, startSending, windowShift } from './handshake.ts';
import { segmentArrives } from './input.ts';
import { COOKIE_LIFE_MS, hashedTimestampOffset, initialSequence } from './isn.ts';
import { Listener, ListenerTable } from './listener.ts';
import { newReno } from './newreno.ts';
import { flushConnection, sendSyn } from './output.ts';
import { markLost } from './recovery.ts';
import { Rec } from './sent-records.ts';
import { ConnectionTable } from './table.ts';
import { TimeWait } from './time-wait.ts';
import { stopTimers } from './timers.ts';

/** HEADROOM, a header, every option, and a little data. */
const RESERVE_BYTES = HEADROOM + 60 + RESERVE_DATA;

/** Ports looked at for one without connections before those that have some to other places. */
const UNUSED_PORT_LOOKS = 256;

export interface TcpOptions {
  readonly heap: Heap;
  readonly output: SegmentOutput;
  readonly timers: Timers;
  /** 128 bits nobody can guess: four words. */
  readonly secret: Int32Array;
  /** 32 random bits. */
  readonly random: () => number;
  /** Milliseconds of a monotonic clock, may be fractional. */
  readonly now: number;
  readonly config?: Partial<TcpConfig>;
}

export class Tcp {
  readonly heap: Heap;
  readonly output: SegmentOutput;
  readonly timers: Timers;
  readonly secret: Int32Array;
  readonly config: TcpConfig;
  readonly counters = new TcpCounters();
  readonly table: ConnectionTable;
  readonly timeWait = new TimeWait(this);
  readonly congestion: CongestionControl;
  /** The clock as 32-bit integers that wrap: ms, µs, and 4 µs for sequence numbers. */
  nowMs = 0;
  nowUs = 0;
  clock4us = 0;
  /** The checksum of what is given to {@link Tcp.input} may be partial (wire/partial.ts). */
  acceptsPartial = false;
  /** Packets held out of order, on all connections. */
  outOfOrderHeld = 0;
  /** Asked for each port that an outgoing connection would choose; false: another is tried. Null: all are free to use. */
  mayUsePort: ((port: number) => boolean) | null = null;
  readonly #random: () => number;
  #cookieAt = Number.NEGATIVE_INFINITY;
  /** The clock as it was given, in an array so that it is never boxed. */
  readonly #time = new Float64Array(1);
  readonly #listeners = new ListenerTable();
  readonly #segment = new TcpSegment();
  readonly #reserve: HeapBuffer[] = [];
  #readyHead: Connection | null = null;
  #readyTail: Connection | null = null;
  #outputHead: Connection | null = null;
  #outputTail: Connection | null = null;

  constructor(options: TcpOptions) {
    this.heap = options.heap;
    this.output = options.output;
    this.timers = options.timers;
    this.secret = options.secret;
    this.config = { ...DEFAULT_TCP_CONFIG, ...options.config };
    this.congestion = this.config.congestion === 'cubic' ? cubic : newReno;
    this.table = new ConnectionTable(options.random() | 0, options.random() | 0);
    this.#random = options.random;
    this.setTime(options.now);
    this.#fillReserve();
  }

  /** The time of everything that follows, until it is set again. */
  setTime(ms: number): void {
    this.#time[0] = ms;
    this.nowMs = Math.floor(ms) | 0;
    this.nowUs = Math.floor(ms * 1000) | 0;
    this.clock4us = Math.floor(ms * 250) | 0;
  }

  /** A deadline in 32-bit milliseconds as the timers count them. */
  deadline(at: number): number {
    return Math.floor(this.#time[0]!) + ((at - this.nowMs) | 0);
  }

  /** A segment: `length` bytes at `at` of the packet, which is borrowed. `flow` gives the addresses; its ports are set here. */
  input(packet: HeapBuffer, at: number, length: number, flow: Flow): void {
    const { counters } = this;
    const segment = this.#segment;
    counters.segmentsIn++;
    const { view } = packet;
    if (!segment.parse(view, at, length)) {
      counters.malformed++;
      return;
    }
    flow.localPort = segment.destinationPort;
    flow.remotePort = segment.sourcePort;
    const connection = this.table.find(flow);
    flow.pseudo = connection === null ? pseudoSum(flow, TCP_PROTOCOL) : connection.flow.pseudo;
    const partial = fold(flow.pseudo + length);
    const accepted = this.acceptsPartial && view.getUint16(at + TCP_CHECKSUM_AT) === partial;
    if (!accepted && fold(partial + checksum(view, at, length)) !== 0xffff) {
      counters.badChecksum++;
      return;
    }
    if (connection !== null) {
      segmentArrives(connection, segment, packet);
      return;
    }
    const waiting = this.timeWait.find(flow);
    let leastIss: number | null = null;
    if (waiting >= 0) {
      if (!this.timeWait.isNewer(waiting, segment) || this.#listeners.find(flow) === null) {
        this.timeWait.arrives(waiting, segment, flow);
        return;
      }
      leastIss = this.timeWait.replace(waiting);
    }
    const opened = this.#strayArrives(segment, flow, leastIss);
    // The segment that ends a handshake by cookie may carry data.
    if (opened !== null && segment.length > 0) segmentArrives(opened, segment, packet);
  }

  /** RFC 9293 3.10.7.1 and 3.10.7.2. */
  #strayArrives(segment: TcpSegment, flow: Flow, leastIss: number | null): Connection | null {
    const listener = this.#listeners.find(flow);
    if (listener !== null) return listenArrives(this, listener, segment, flow, leastIss);
    this.counters.noConnection++;
    if ((segment.flags & Flag.RST) !== 0) return null;
    if ((segment.flags & Flag.ACK) !== 0) emitBare(this, flow, segment.ack, 0, Flag.RST, 0);
    else emitBare(this, flow, 0, (segment.seq + segment.length) | 0, Flag.RST | Flag.ACK, 0);
    return null;
  }

  /** A buffer for a header with its options and a little data, kept back for when the heap is used up; null where those are used up too. */
  takeReserve(): HeapBuffer | null {
    return this.#reserve.pop() ?? null;
  }

  #fillReserve(): void {
    while (this.#reserve.length < this.config.reservedBuffers) {
      const buffer = this.heap.tryAlloc(RESERVE_BYTES);
      if (buffer === null) return;
      this.#reserve.push(buffer);
    }
  }

  /** Ends every connection without a word to its peer, and lets go of every buffer and timer. */
  dispose(): void {
    for (const connection of [...this.table]) {
      this.destroy(connection, 0);
      connection.close();
    }
    this.timeWait.clear();
    for (const buffer of this.#reserve.splice(0)) buffer.release();
  }

  /** Sends what has been queued and acknowledges what has been received, on every connection touched since the last time. */
  flush(): void {
    if (this.#reserve.length < this.config.reservedBuffers) this.#fillReserve();
    let connection = this.#outputHead;
    this.#outputHead = null;
    this.#outputTail = null;
    while (connection !== null) {
      const next: Connection | null = connection.nextOutput;
      connection.nextOutput = null;
      connection.hasOutput = false;
      flushConnection(connection);
      connection = next;
    }
  }

  /** True when a flush has something to look at. */
  get wantsFlush(): boolean {
    return this.#outputHead !== null;
  }

  /** True while {@link Tcp.nextReady} may give a connection. */
  get pending(): boolean {
    return this.#readyHead !== null;
  }

  /** The next connection on which something has happened ({@link Connection.takeEvents}), or null. */
  nextReady(): Connection | null {
    for (;;) {
      const connection = this.#readyHead;
      if (connection === null) return null;
      this.#readyHead = connection.nextReady;
      if (this.#readyHead === null) this.#readyTail = null;
      connection.nextReady = null;
      connection.isReady = false;
      if (connection.events !== 0) return connection;
    }
  }

  /**
   * Listens on `local`; an address of zeros takes any of its family, with `dual` any of both. A port of 0 chooses one.
   * Listeners that all have `reusePort` may share a port; a connection is then of one of them, by its remote side.
   * @throws IsthmusError EADDRINUSE where another listener has it; EADDRNOTAVAIL where no port is left
   */
  listen(local: Flow, backlog: number, dual = false, reusePort = false): Listener {
    const flow = new Flow().copy(local);
    if (flow.localPort === 0) {
      flow.localPort = this.#listeners.freePort(this.config.firstPort, this.config.lastPort, this.#random());
    }
    const listener = new Listener(this, flow, dual, backlog, reusePort);
    this.#listeners.add(listener);
    return listener;
  }

  /** Takes a listener away; what is half open is reset. Use {@link Listener.close}. */
  unlisten(listener: Listener): void {
    this.#listeners.remove(listener);
    if (listener.halfOpen === 0) return;
    const halfOpen = [...this.table].filter((c) => c.listener === listener && c.state === TcpState.SYN_RECEIVED);
    for (const connection of halfOpen) this.reset(connection, ERRNO.ECONNABORTED);
  }

  /**
   * Begins a connection; the SYN goes out in this call. A local port of 0 chooses one (RFC 6056).
   * @throws IsthmusError EADDRINUSE where these two ends are connected; EADDRNOTAVAIL where no port is left; ENOBUFS at the bound
   */
  connect(ends: Flow, configure?: (connection: Connection) => void): Connection {
    if (this.table.size >= this.config.maxConnections) {
      this.counters.connectionsRefused++;
      throw systemError(ERRNO.ENOBUFS, 'connect', undefined, `${this.table.size} connections`);
    }
    const c = new Connection(this);
    c.flow.copy(ends);
    c.flow.route = -1;
    configure?.(c);
    if (c.flow.localPort !== 0 && this.table.find(c.flow) !== null) throw inUse(c.flow);
    const old = c.flow.localPort === 0 ? this.#choosePort(c.flow) : this.timeWait.find(c.flow);
    if (old >= 0 && !this.timeWait.mayReplace(old)) throw inUse(c.flow);
    const leastIss = old >= 0 ? this.timeWait.replace(old) : null;
    c.flow.pseudo = pseudoSum(c.flow, TCP_PROTOCOL);
    c.iss = initialSequence(c.flow, this.secret, this.clock4us);
    c.tsOffset = hashedTimestampOffset();
    if (leastIss !== null && ((c.iss - leastIss) | 0) < 0) c.iss = leastIss;
    c.rcvScale = windowShift(c.receiveBuffer);
    c.mss = this.pathMss(c.flow);
    startSending(c);
    c.state = TcpState.SYN_SENT;
    c.lastHeardMs = this.nowMs;
    this.table.add(c);
    sendSyn(c);
    return c;
  }

  /**
   * RFC 6056, algorithm 1: the first free port from one by chance on. One without any connection is sought for a while
   * first, since it is found by one look; gives the record in TIME_WAIT whose place is taken, -1 for none.
   */
  #choosePort(flow: Flow): number {
    const { firstPort, lastPort } = this.config;
    const count = lastPort - firstPort + 1;
    // In small integers: V8 takes a remainder of 32 bits as doubles, and a port that it made so is a box in every flow.
    const start = Math.imul(this.#random() >>> 16, count) >>> 16;
    for (let port = firstPort + start, looks = 0; looks < UNUSED_PORT_LOOKS; looks++) {
      const unused = this.table.unusedPort(port);
      if (unused >= 0 && unused <= lastPort && this.#mayUse(unused)) {
        flow.localPort = unused;
        return -1;
      }
      port = unused < 0 ? (port | 31) + 1 : unused + 1;
      if (port > lastPort) port = firstPort;
    }
    for (let i = 0; i < count; i++) {
      flow.localPort = firstPort + ((start + i) % count);
      if (this.table.find(flow) !== null) continue;
      const old = this.timeWait.find(flow);
      if (old >= 0 && !this.timeWait.mayReplace(old)) continue;
      if (this.#mayUse(flow.localPort)) return old;
    }
    throw systemError(ERRNO.EADDRNOTAVAIL, 'connect', undefined, `ports ${firstPort} to ${lastPort} are in use`);
  }

  #mayUse(port: number): boolean {
    return !this.#listeners.hasPort(port) && (this.mayUsePort === null || this.mayUsePort(port));
  }

  /** Most data in a segment that the path to a flow's remote side takes. */
  pathMss(flow: Flow): number {
    const headers = (flow.family === 4 ? 20 : 40) + TCP_HEADER_BYTES;
    return Math.max(64, this.output.mtu(flow) - headers);
  }

  /** The MSS option we send (RFC 6691). */
  announcedMss(flow: Flow): number {
    const { maxSegment } = this.config;
    const mss = Math.min(this.pathMss(flow), 65535);
    return maxSegment > 0 ? Math.min(mss, maxSegment) : mss;
  }

  /**
   * ICMP says that a packet of this flow was too big (RFC 1191, RFC 8201).
   * @param seq the sequence number in the quoted header
   * @param mtu of the next hop, as the IP layer believes it
   */
  packetTooBig(flow: Flow, seq: number, mtu: number): void {
    const c = this.table.find(flow);
    const least = flow.family === 4 ? 68 : 1280;
    if (c === null || !inFlight(c, seq) || mtu < least) {
      this.counters.icmpIgnored++;
      return;
    }
    const mss = Math.max(64 - 12, mtu - (flow.family === 4 ? 40 : 60) - (c.tsEnabled ? 12 : 0));
    if (mss >= c.mss) return;
    c.cwnd = Math.max(c.cwnd, mss);
    c.mss = mss;
    for (let i = 0; i < c.sent.count; i++) if (c.sent.words[c.sent.at(i) + Rec.LENGTH]! > mss) markLost(c, i);
    this.wantOutput(c);
  }

  /**
   * ICMP says that a flow's remote side is unreachable. A hard error ends an attempt to connect; on a connection every
   * error is remembered and told when it times out (RFC 9293 3.9.2.2, RFC 5927).
   */
  unreachable(flow: Flow, seq: number, errno: number, hard: boolean): void {
    const c = this.table.find(flow);
    if (c === null || !inFlight(c, seq)) this.counters.icmpIgnored++;
    else if (hard && c.state === TcpState.SYN_SENT) this.destroy(c, errno);
    else c.softError = errno;
  }

  // What follows is for the modules of this folder.

  cookieSent(): void {
    this.#cookieAt = this.#time[0]!;
  }

  /** A cookie was sent so lately that it may still come back. */
  get cookiesRecent(): boolean {
    return this.#time[0]! - this.#cookieAt < COOKIE_LIFE_MS;
  }

  raise(c: Connection, events: number): void {
    if (c.orphan) return;
    c.events |= events;
    if (c.isReady) return;
    c.isReady = true;
    if (this.#readyTail === null) this.#readyHead = c;
    else this.#readyTail.nextReady = c;
    this.#readyTail = c;
  }

  /** The connection stays in the list, and is passed over. */
  forgetEvents(c: Connection): void {
    c.events = 0;
  }

  wantOutput(c: Connection): void {
    if (c.hasOutput) return;
    c.hasOutput = true;
    if (this.#outputTail === null) this.#outputHead = c;
    else this.#outputTail.nextOutput = c;
    this.#outputTail = c;
  }

  /** An acknowledgement that must not wait for the flush. */
  ackAtOnce(c: Connection): void {
    if (!emit(c, c.sndNxt, 0, Flag.ACK)) this.wantOutput(c);
  }

  /** Ends a connection with a reset to the peer. */
  reset(c: Connection, errno: number): void {
    const { state } = c;
    if (state !== TcpState.SYN_SENT && state !== TcpState.TIME_WAIT && state !== TcpState.CLOSED) {
      emitBare(this, c.flow, c.sndNxt, c.rcvNxt, Flag.RST | Flag.ACK, 0);
    }
    this.destroy(c, errno);
  }

  /** Both sides have closed. What its owner still holds is what it has not read; what still comes is answered from a record. */
  enterTimeWait(c: Connection): void {
    if (this.timeWait.size >= this.config.maxTimeWait) {
      this.counters.timeWaitOverflows++;
      if (c.ackNow) this.ackAtOnce(c);
      this.destroy(c, 0);
      return;
    }
    stopTimers(c);
    this.#release(c);
    this.table.remove(c);
    this.timeWait.add(c);
    c.state = TcpState.TIME_WAIT;
    c.phase = Phase.OPEN;
    this.raise(c, TcpEvent.CLOSED);
  }

  #release(c: Connection): void {
    c.sendQueue.clear();
    c.sent.clear();
    c.sackedBytes = 0;
    c.sackedCount = 0;
    c.lostBytes = 0;
    c.retransBytes = 0;
    if (c.reassembly !== null) {
      this.outOfOrderHeld -= c.reassembly.count;
      c.reassembly.clear();
    }
    c.sackBlockCount = 0;
    c.dsack = false;
    if (c.orphan) c.receiveQueue.clear();
  }

  /** The connection is no more: the table, the timers and its buffers are let go, its owner hears of it. */
  destroy(c: Connection, errno: number): void {
    const { state, listener } = c;
    if (state === TcpState.CLOSED) return;
    stopTimers(c);
    if (state !== TcpState.TIME_WAIT) this.table.remove(c);
    c.state = TcpState.CLOSED;
    c.error = errno;
    this.#release(c);
    if (listener !== null) {
      if (state === TcpState.SYN_RECEIVED) listener.halfOpen--;
      else listener.remove(c);
      c.listener = null;
      c.receiveQueue.clear();
      c.events = 0;
    } else if (state !== TcpState.TIME_WAIT) this.raise(c, TcpEvent.CLOSED);
  }
}

function inUse(flow: Flow): Error {
  return systemError(ERRNO.EADDRINUSE, 'connect', `port ${flow.localPort}`);
}

/** RFC 5927 4.1: an ICMP message about data we do not have in flight is forged or late. */
function inFlight(c: Connection, seq: number): boolean {
  return ((seq - c.sndUna) | 0) >= 0 && ((seq - c.sndNxt) | 0) < 0;
}
