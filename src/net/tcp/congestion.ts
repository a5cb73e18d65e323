/**
 * What a congestion control must do; CUBIC and NewReno are the two there are. Types, and what both share.
 */
import type { Connection } from './connection.ts';
import { Phase } from './constants.ts';

export interface CongestionControl {
  readonly name: string;
  /** `acked` bytes were newly acknowledged while the congestion window was in use and no recovery goes on. */
  acknowledged(c: Connection, acked: number): void;
  /** Loss: the new slow start threshold in bytes, remembering what it needs. `flight` is the data in flight. */
  reduce(c: Connection, flight: number): number;
  /** A retransmission timeout has happened. */
  timedOut(c: Connection): void;
}

/** IW = min(n × MSS, max(2 × MSS, n × 1460)) (RFC 6928, n = 10). */
export function initialWindow(mss: number, segments: number): number {
  return Math.min(segments * mss, Math.max(2 * mss, segments * 1460));
}

/**
 * Slow start by bytes (RFC 5681 3.1, RFC 3465), at most so many segments for an acknowledgement: receivers acknowledge
 * whole batches (Linux's GRO, and we), and the window should still grow by them. 8 is RFC 9406's for a sender that does
 * not pace; after a timeout an acknowledgement may tell of what had arrived long ago, so that it stays at 2.
 */
const SEGMENTS_PER_ACK = 8;
const SEGMENTS_PER_ACK_AFTER_TIMEOUT = 2;

/** @returns the bytes left past ssthresh */
export function slowStart(c: Connection, acked: number): number {
  const room = c.ssthresh - c.cwnd;
  const segments = c.phase === Phase.LOSS ? SEGMENTS_PER_ACK_AFTER_TIMEOUT : SEGMENTS_PER_ACK;
  const step = Math.min(acked, room, segments * c.mss);
  c.cwnd += step;
  return step === room ? acked - step : 0;
}
