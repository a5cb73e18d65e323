/**
 * What can be set on a TCP, with its defaults and where they come from. Plain data.
 */
export interface TcpConfig {
  /** Bytes of received data a connection holds, in order and out of it; the largest window it offers. */
  readonly receiveBuffer: number;
  /** Bytes queued above which a connection is not writable. */
  readonly sendBuffer: number;
  /** Packets a connection holds in order; beyond 16 small ones are copied together. */
  readonly maxReceiveBuffers: number;
  /** Packets a connection holds out of order. */
  readonly maxOutOfOrder: number;
  /** The same for all connections together: a heap must not be filled by holes. */
  readonly maxOutOfOrderTotal: number;
  /** Buffers queued to send, and segments in flight, of a connection. */
  readonly maxSendBuffers: number;
  readonly maxInFlight: number;
  readonly maxConnections: number;
  /** Connections in TIME_WAIT; one more is closed at once. */
  readonly maxTimeWait: number;
  /** `pressure`: when a listener's half-open queue is full (RFC 4987). */
  readonly synCookies: 'pressure' | 'always' | 'never';
  /** 2 MSL, in ms. RFC 9293 has 4 minutes; Linux has 60 s. */
  readonly timeWaitMs: number;
  /** RFC 6298 has 1000 ms for the first three; a floor of 200 ms is what Linux has used since 2.4. */
  readonly initialRtoMs: number;
  readonly minRtoMs: number;
  readonly maxRtoMs: number;
  /** Longest delay of an acknowledgement; RFC 9293 allows 500. */
  readonly delayedAckMs: number;
  /** RFC 8985 7.2: what the peer may delay an acknowledgement by. */
  readonly tlpMaxAckDelayMs: number;
  /** Least time to a tail loss probe: what a processor may do before it comes to the peer's turn, where round trips are shorter. */
  readonly tlpLeastMs: number;
  /** Retransmissions of a SYN, of a SYN-ACK, of data (R2 of RFC 9293 3.8.3). */
  readonly synRetries: number;
  readonly synAckRetries: number;
  readonly dataRetries: number;
  /** Unacknowledged for so long: the connection ends with ETIMEDOUT. 0: only dataRetries counts (RFC 5482). */
  readonly userTimeoutMs: number;
  readonly keepAlive: boolean;
  /** RFC 9293 3.8.4: no less than 2 hours by default. */
  readonly keepAliveIdleMs: number;
  readonly keepAliveIntervalMs: number;
  readonly keepAliveProbes: number;
  /** How long a closed connection waits for the peer's FIN. */
  readonly finWait2Ms: number;
  readonly congestion: 'cubic' | 'newreno';
  /** Segments of the initial window (RFC 6928). */
  readonly initialWindow: number;
  /** Nagle's algorithm off (TCP_NODELAY). */
  readonly noDelay: boolean;
  readonly sack: boolean;
  readonly timestamps: boolean;
  readonly windowScaling: boolean;
  /** RACK-TLP (RFC 8985); without it RFC 6675's rule says what is lost. */
  readonly rack: boolean;
  /** Largest segment we announce, whatever the path's MTU; 0 for no limit. */
  readonly maxSegment: number;
  /** False where a packet must lie in one buffer: then payloads are copied behind their headers. */
  readonly scatterGather: boolean;
  /** The device completes checksums: those of what is sent are partial (wire/partial.ts). */
  readonly checksumOffload: boolean;
  /** Ports for {@link Tcp.connect} (RFC 6335: 49152 to 65535). */
  readonly firstPort: number;
  readonly lastPort: number;
  /**
   * Buffers kept back for acknowledgements and resets when the heap is used up: without them two ends of one heap, each
   * waiting for the other to acknowledge, would wait for ever. {@link Tcp.dispose} gives them back.
   */
  readonly reservedBuffers: number;
  /** Least time between two answers to unacceptable segments of a connection (RFC 5961 section 7, ACK storms). */
  readonly challengeIntervalMs: number;
}

export const DEFAULT_TCP_CONFIG: TcpConfig = {
  receiveBuffer: 256 * 1024,
  sendBuffer: 256 * 1024,
  maxReceiveBuffers: 1024,
  maxOutOfOrder: 512,
  maxOutOfOrderTotal: 4096,
  maxSendBuffers: 16384,
  maxInFlight: 8192,
  maxConnections: 131072,
  maxTimeWait: 16384,
  synCookies: 'pressure',
  timeWaitMs: 60_000,
  initialRtoMs: 1000,
  minRtoMs: 200,
  maxRtoMs: 120_000,
  delayedAckMs: 40,
  tlpMaxAckDelayMs: 200,
  tlpLeastMs: 5,
  synRetries: 6,
  synAckRetries: 5,
  dataRetries: 15,
  userTimeoutMs: 0,
  keepAlive: false,
  keepAliveIdleMs: 7_200_000,
  keepAliveIntervalMs: 75_000,
  keepAliveProbes: 9,
  finWait2Ms: 60_000,
  congestion: 'cubic',
  initialWindow: 10,
  noDelay: true,
  sack: true,
  timestamps: true,
  windowScaling: true,
  rack: true,
  maxSegment: 0,
  scatterGather: true,
  checksumOffload: false,
  firstPort: 49152,
  lastPort: 65535,
  reservedBuffers: 0,
  challengeIntervalMs: 500,
};

/** Counters of one TCP: what was done, and what was refused or dropped and why. */
export class TcpCounters {
  segmentsIn = 0;
  segmentsOut = 0;
  malformed = 0;
  badChecksum = 0;
  /** Segments that header prediction took. */
  predicted = 0;
  noConnection = 0;
  resetsOut = 0;
  resetsIn = 0;
  badResets = 0;
  challengeAcks = 0;
  challengesSuppressed = 0;
  pawsRejected = 0;
  outOfWindow = 0;
  outOfOrder = 0;
  outOfOrderDropped = 0;
  duplicates = 0;
  receiveDropped = 0;
  coalesced = 0;
  dupAcks = 0;
  retransmits = 0;
  timeouts = 0;
  fastRecoveries = 0;
  tailProbes = 0;
  windowProbes = 0;
  keepAliveProbes = 0;
  delayedAcks = 0;
  listenOverflows = 0;
  cookiesSent = 0;
  cookiesAccepted = 0;
  cookiesRejected = 0;
  connectionsRefused = 0;
  timeWaitOverflows = 0;
  timeWaitReused = 0;
  noBuffer = 0;
  icmpIgnored = 0;
  sendRefused = 0;
}
