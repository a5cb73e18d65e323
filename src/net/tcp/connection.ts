/**
 * One connection: its transmission control block (RFC 9293 3.3.1) and the calls its owner makes.
 * Data and thin calls; what happens to it is in receive, acknowledge, output, recovery and timers beside this file.
 *
 * Fields are plain, because every one of those modules reads them per segment, and integers that fit V8's small
 * integers: sequence numbers signed, times as 32-bit milliseconds or microseconds that wrap and are compared by difference.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import { Flow, type Timed } from '../flow.ts';
import { abortConnection, closeConnection, readConnection, sendOn, shutdownConnection } from './calls.ts';
import type { CongestionControl } from './congestion.ts';
import { Life, Phase, Retransmit, TcpState } from './constants.ts';
import type { Listener } from './listener.ts';
import type { Reassembly } from './reassembly.ts';
import { ReceiveQueue } from './receive-queue.ts';
import { SendQueue } from './send-queue.ts';
import { SentRecords } from './sent-records.ts';
import type { Tcp } from './tcp.ts';
import { startKeepAlive, timerExpired } from './timers.ts';

export class Connection implements Timed {
  // Fields are in the order of who touches them: what every segment reads or writes lies together, in as few lines of the
  // cache as that takes, then what comes with loss, probes, and the beginning and the end. (What has no value here but in
  // the constructor comes last in memory, which made no difference that could be measured.)
  readonly tcp: Tcp;
  readonly flow = new Flow();
  state: TcpState = TcpState.CLOSED;
  /** Whatever its owner likes. */
  user: unknown = null;

  // Events and lists of the Tcp.
  events = 0;
  nextReady: Connection | null = null;
  isReady = false;
  nextOutput: Connection | null = null;
  hasOutput = false;
  /** Closed by its owner: nobody hears events, data that still comes is refused with a reset (RFC 9293 3.6.1). */
  orphan = false;
  /** Received data is acknowledged and dropped. */
  discarding = false;

  // Send sequence space.
  sndUna = 0;
  sndNxt = 0;
  /** SND.WND in bytes, unscaled. */
  sndWnd = 0;
  sndWl1 = 0;
  sndWl2 = 0;
  /** Largest window the peer has ever offered (RFC 9293 3.8.6.2.1). */
  sndMaxWnd = 0;
  sndScale = 0;
  /** Sequence number behind the last byte queued by the application. */
  sndEnd = 0;
  readonly sendQueue = new SendQueue();
  /** send() refused or passed the limit: WRITABLE is due when half of it is free. */
  wasFull = false;
  /** The owner has said that no more is to be sent; the FIN has been sent, then acknowledged. */
  finQueued = false;
  finSent = false;

  // Receive sequence space.
  rcvNxt = 0;
  /** Right edge of the window as last advertised: RCV.NXT + RCV.WND. */
  rcvAdv = 0;
  /** The last acknowledgement sent (Last.ACK.sent of RFC 7323). */
  rcvAcked = 0;
  rcvScale = 0;
  readonly receiveQueue = new ReceiveQueue();
  reassembly: Reassembly | null = null;
  /** The peer's FIN was seen at `peerFin`; `finReceived` once everything before it is here. */
  peerFinSeen = false;
  finReceived = false;
  /** Largest segment received: what counts as full-sized when acknowledgements are delayed. */
  rcvMss = 536;
  /** Bytes received since the last acknowledgement. */
  unacked = 0;
  ackNow = false;
  /** The delayed acknowledgement's deadline, in ms, where `ackDelayed`. */
  ackDelayed = false;
  ackAt = 0;

  // Options in use, and of the owner.
  /** Most data in a segment, options that each carries taken off (RFC 6691). */
  mss = 536;
  noDelay = false;
  receiveBuffer = 0;
  sendBuffer = 0;
  userTimeoutMs = 0;
  sackEnabled = false;
  tsEnabled = false;
  tsOffset = 0;
  tsRecent = 0;
  tsRecentAt = 0;
  sackBlockCount = 0;
  dsack = false;

  // Segments in flight.
  readonly sent = new SentRecords();
  sackedBytes = 0;
  lostBytes = 0;
  retransBytes = 0;
  /** The highest sequence number acknowledged in any way (RFC 8985's RACK.fack). */
  fack = 0;
  phase: number = Phase.OPEN;
  /** SND.NXT when recovery began. */
  recoveryPoint = 0;
  dupAcks = 0;

  // Congestion control, in bytes.
  congestion: CongestionControl;
  cwnd = 0;
  ssthresh = 0x3fffffff;
  lastSentMs = 0;

  // Round-trip time, in µs (RFC 6298).
  srtt = 0;
  rttvar = 0;
  hasRtt = false;
  minRtt = 0x7fffffff;
  rtoMs = 0;
  /** Two round trips, in ms, for tail loss probes. */
  probeMs = 0;
  backoff = 0;
  /** When the oldest byte now unacknowledged was first left waiting, for the user timeout. */
  waitingSince = 0;

  // RACK-TLP (RFC 8985).
  rackSentUs = 0;
  rackEnd = 0;
  rackRtt = 0;
  rackValid = false;
  tlpActive = false;

  // Timers: one in the wheel, armed for the earliest of the deadlines or sooner.
  timer = -1;
  timerAt = 0;
  retransmitKind: number = Retransmit.NONE;
  retransmitAt = 0;
  /** Retransmissions, probes of a zero window or keep-alive probes in a row without an answer. */
  retries = 0;
  keepAliveSent = 0;
  lastHeardMs = 0;

  // The beginning, the end, and what the owner asks for.
  /** Why it is over: 0 (both sides closed) or an errno. */
  error = 0;
  /** The last ICMP error that did not end it (RFC 9293 3.9.2.2); becomes `error` when it times out. */
  softError = 0;
  listener: Listener | null = null;
  /** Of its flow, while it is in the table. */
  hash = 0;
  iss = 0;
  irs = 0;
  /** Window scaling is in use; the shift of windows in segments received and sent. */
  scaling = false;
  /** What the peer announced. */
  peerMss = 536;
  peerFin = 0;
  lifeKind: number = Life.NONE;
  lifeAt = 0;
  keepAlive = false;
  keepAliveIdleMs = 0;
  keepAliveIntervalMs = 0;
  keepAliveProbes = 0;
  /** When an unacceptable segment was last answered. */
  challengeAt = 0;
  challenged = false;

  // Loss: what is told of it, then the recovery from it.
  /** SACK blocks to send, newest first, and a duplicate to report (RFC 2883); null until something is out of order. */
  sackBlocks: Int32Array | null = null;
  dsackStart = 0;
  dsackEnd = 0;
  sackedCount = 0;
  /** Bytes acknowledged towards the next increase in congestion avoidance. */
  cwndCredit = 0;
  /** CUBIC's numbers; null until the first loss. */
  cubic: Float64Array | null = null;
  /** Proportional rate reduction (RFC 6937). */
  prrDelivered = 0;
  prrOut = 0;
  recoverFs = 0;
  reorderingSeen = false;
  reoWndMult = 1;
  reoWndPersist = 16;
  dsackRound = 0;
  dsackRoundValid = false;
  tlpEnd = 0;
  tlpRetransmit = false;

  constructor(tcp: Tcp) {
    const { config } = tcp;
    this.tcp = tcp;
    this.noDelay = config.noDelay;
    this.keepAlive = config.keepAlive;
    this.keepAliveIdleMs = config.keepAliveIdleMs;
    this.keepAliveIntervalMs = config.keepAliveIntervalMs;
    this.keepAliveProbes = config.keepAliveProbes;
    this.userTimeoutMs = config.userTimeoutMs;
    this.receiveBuffer = config.receiveBuffer;
    this.sendBuffer = config.sendBuffer;
    this.rtoMs = config.initialRtoMs;
    this.congestion = tcp.congestion;
  }

  /** Event bits since the last call ({@link TcpEvent}). */
  takeEvents(): number {
    const { events } = this;
    this.events = 0;
    return events;
  }

  /** Bytes queued to send and not acknowledged yet. */
  get unsent(): number {
    const from = this.state <= TcpState.SYN_RECEIVED ? (this.iss + 1) | 0 : this.sndUna;
    const bytes = (this.sndEnd - from) | 0;
    return Math.max(bytes, 0);
  }

  /** True while less is queued than the send buffer's limit. */
  get writable(): boolean {
    return !this.finQueued && this.state !== TcpState.CLOSED && this.unsent < this.sendBuffer;
  }

  /** True when a read gives data or when the stream has ended. */
  get readable(): boolean {
    return this.receiveQueue.count > 0 || this.finReceived;
  }

  /** True when everything the peer sent has been read and it sends no more. */
  get ended(): boolean {
    return this.finReceived && this.receiveQueue.count === 0;
  }

  /**
   * Queues a buffer's bytes; they go out in the next flush. Takes over the caller's reference when it gives true.
   * It takes the buffer that passes the send buffer's limit (see {@link Connection.writable}) and those after it, up to
   * `maxSendBuffers`. False, and the reference stays the caller's: that many are queued, or the stream is closed.
   * @param last one of the last before the end of the stream, which its owner holds already: it is taken all the same
   */
  send(buffer: HeapBuffer, last = false): boolean {
    return sendOn(this, buffer, last);
  }

  /** The next received data, with one reference for the caller; null when there is none now (see {@link Connection.ended}). */
  read(): HeapBuffer | null {
    return readConnection(this);
  }

  /** No more is sent after what is queued (a FIN). Reading goes on. */
  shutdown(): void {
    shutdownConnection(this);
  }

  /**
   * The owner is done. What is queued is still sent, then a FIN. If there is data it has not read, or more comes, the
   * peer gets a reset (RFC 9293 3.6.1, RFC 2525 2.17). No more events.
   */
  close(): void {
    closeConnection(this);
  }

  /** Ends it now: a reset to the peer, nothing more is sent (also: close with a linger time of 0). */
  abort(): void {
    abortConnection(this);
  }

  /** Keep-alive on or off (RFC 9293 3.8.4); the times are fields. */
  setKeepAlive(on: boolean): void {
    this.keepAlive = on;
    startKeepAlive(this);
  }

  /** A timer of the wheel. */
  expired(_timer: number): void {
    this.timer = -1;
    timerExpired(this);
  }
}
