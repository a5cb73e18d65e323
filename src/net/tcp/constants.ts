/**
 * The names of TCP: states, event bits, reasons. Constants only.
 */

/** RFC 9293 3.3.2. LISTEN is a {@link Listener}, not a connection. */
export const TcpState = {
  CLOSED: 0,
  SYN_SENT: 1,
  SYN_RECEIVED: 2,
  ESTABLISHED: 3,
  FIN_WAIT_1: 4,
  FIN_WAIT_2: 5,
  CLOSE_WAIT: 6,
  CLOSING: 7,
  LAST_ACK: 8,
  TIME_WAIT: 9,
} as const;
export type TcpState = (typeof TcpState)[keyof typeof TcpState];

/** What has happened on a connection since its events were last taken; bits. */
export const TcpEvent = {
  /** The handshake is over (of a connection that we began). */
  CONNECTED: 1,
  /** This connection is in its listener's queue. */
  ACCEPT: 2,
  /** There is data to read, or the end of the stream. */
  READABLE: 4,
  /** There was no room to send and now there is. */
  WRITABLE: 8,
  /** It is over: closed by both sides, reset or timed out; `error` says which. No event comes after it. */
  CLOSED: 16,
} as const;

/** What the congestion control is doing (RFC 5681, 6675). */
export const Phase = { OPEN: 0, RECOVERY: 1, LOSS: 2 } as const;

/** What the retransmission timer of a connection stands for; only one of them is armed at a time. */
export const Retransmit = { NONE: 0, TIMEOUT: 1, PROBE: 2, REORDER: 3, PERSIST: 4 } as const;

/** What the slow timer of a connection stands for. */
export const Life = { NONE: 0, KEEP_ALIVE: 1, FIN_WAIT_2: 2 } as const;

/** Upper bound of windows, so that differences of sequence numbers stay meaningful (RFC 7323 2.3). */
export const MAX_WINDOW = 1 << 30;
