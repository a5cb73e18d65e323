/**
 * What a congestion control must do; CUBIC and NewReno are the two there are. Types, and what both share.
 */
import type { Connection } from './connection.ts';

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

/** Slow start (RFC 5681 3.1, with RFC 3465's limit of 2 MSS per acknowledgement); gives the bytes left past ssthresh. */
export function slowStart(c: Connection, acked: number): number {
  const room = c.ssthresh - c.cwnd;
  const step = Math.min(acked, room, 2 * c.mss);
  c.cwnd += step;
  return step === room ? acked - step : 0;
}
