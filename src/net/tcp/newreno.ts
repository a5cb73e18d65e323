/**
 * NewReno's congestion avoidance (RFC 5681 3.1, RFC 6582). Pure: it changes the connection's window and nothing else.
 */
import type { CongestionControl } from './congestion.ts';
import { slowStart } from './congestion.ts';
import type { Connection } from './connection.ts';

export const newReno: CongestionControl = {
  name: 'newreno',

  acknowledged(c: Connection, acked: number): void {
    if (c.cwnd < c.ssthresh) acked = slowStart(c, acked);
    if (acked <= 0) return;
    c.cwndCredit += acked;
    if (c.cwndCredit < c.cwnd) return;
    c.cwndCredit -= c.cwnd;
    c.cwnd += c.mss;
  },

  reduce(c: Connection, flight: number): number {
    c.cwndCredit = 0;
    return Math.max(flight >> 1, 2 * c.mss);
  },

  timedOut(c: Connection): void {
    c.cwndCredit = 0;
  },
};
