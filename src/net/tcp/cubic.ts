/**
 * CUBIC (RFC 9438). Pure: it changes the connection's window and its own numbers and nothing else.
 * Windows are counted in segments and time in seconds, as in the RFC.
 */
import type { CongestionControl } from './congestion.ts';
import { slowStart } from './congestion.ts';
import type { Connection } from './connection.ts';

const C = 0.4;
const BETA = 0.7;
/** Additive increase of the Reno-friendly estimate (4.3). */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

// Places in a connection's numbers.
const W_MAX = 0;
const K = 1;
const EPOCH_MS = 2;
const W_EST = 3;
/** 1 while an epoch of congestion avoidance has begun. */
const STARTED = 4;
const CWND_PRIOR = 5;
const COUNT = 6;

export const cubic: CongestionControl = {
  name: 'cubic',

  acknowledged(c: Connection, acked: number): void {
    if (c.cwnd < c.ssthresh) acked = slowStart(c, acked);
    if (acked <= 0) return;
    const n = numbers(c);
    const cwnd = c.cwnd / c.mss;
    if (n[STARTED] === 0) begin(c, n, cwnd);
    const segments = acked / c.mss;
    const elapsed = ((c.tcp.nowMs - n[EPOCH_MS]!) | 0) / 1000;
    // 4.3: the window Reno would have; once past the old one it grows as fast as Reno does.
    const alpha = n[W_EST]! >= n[CWND_PRIOR]! ? 1 : ALPHA;
    const estimate = n[W_EST]! + (alpha * segments) / cwnd;
    n[W_EST] = estimate;
    if (windowAt(n, elapsed) < estimate) {
      if (estimate > cwnd) grow(c, (estimate - cwnd) * c.mss);
      return;
    }
    // 4.4, 4.5: towards the window of one round trip from now, at most half as much again.
    const target = Math.min(Math.max(windowAt(n, elapsed + c.srtt / 1e6), cwnd), 1.5 * cwnd);
    grow(c, ((target - cwnd) / cwnd) * acked);
  },

  reduce(c: Connection, flight: number): number {
    const n = numbers(c);
    const cwnd = c.cwnd / c.mss;
    // 4.7, fast convergence: a flow that did not get back to its old maximum leaves room to others.
    n[W_MAX] = cwnd < n[W_MAX]! ? (cwnd * (1 + BETA)) / 2 : cwnd;
    n[CWND_PRIOR] = cwnd;
    n[STARTED] = 0;
    c.cwndCredit = 0;
    return Math.max(Math.floor(Math.min(flight, c.cwnd) * BETA), 2 * c.mss);
  },

  timedOut(c: Connection): void {
    numbers(c)[STARTED] = 0;
    c.cwndCredit = 0;
  },
};

function numbers(c: Connection): Float64Array {
  c.cubic ??= new Float64Array(COUNT);
  return c.cubic;
}

function begin(c: Connection, n: Float64Array, cwnd: number): void {
  n[STARTED] = 1;
  n[EPOCH_MS] = c.tcp.nowMs;
  n[W_EST] = cwnd;
  if (cwnd < n[W_MAX]!) n[K] = Math.cbrt((n[W_MAX]! - cwnd) / C);
  else {
    n[K] = 0;
    n[W_MAX] = cwnd;
  }
}

/** W_cubic(t), in segments (4.2). */
function windowAt(n: Float64Array, seconds: number): number {
  const t = seconds - n[K]!;
  return C * t * t * t + n[W_MAX]!;
}

/** Adds bytes to the window; what is less than a byte waits in the credit, in thousandths. */
function grow(c: Connection, bytes: number): void {
  c.cwndCredit += Math.round(bytes * 1000);
  if (c.cwndCredit < 1000) return;
  const whole = Math.floor(c.cwndCredit / 1000);
  c.cwndCredit -= whole * 1000;
  c.cwnd += whole;
}
