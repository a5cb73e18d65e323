/**
 * Round-trip time and the retransmission timeout (RFC 6298). Pure: it changes the connection's estimates.
 */
import type { Connection } from './connection.ts';

/** Clock granularity G, in µs: timers tick in ms. */
const GRANULARITY_US = 1000;

/** Takes one round-trip time in µs. Karn's rule is the caller's: never of a segment that was sent twice. */
export function sampleRtt(c: Connection, rtt: number): void {
  if (rtt < 0) return;
  if (rtt < c.minRtt) c.minRtt = rtt;
  if (!c.hasRtt) {
    c.hasRtt = true;
    c.srtt = rtt;
    c.rttvar = rtt >> 1;
  } else {
    const error = rtt > c.srtt ? rtt - c.srtt : c.srtt - rtt;
    c.rttvar = (3 * c.rttvar + error + 2) >> 2;
    c.srtt = (7 * c.srtt + rtt + 4) >> 3;
  }
  const { minRtoMs, maxRtoMs } = c.tcp.config;
  const spread = 4 * c.rttvar;
  // Integer division: every acknowledgement comes through here.
  const rto = ((c.srtt + Math.max(spread, GRANULARITY_US) + 999) / 1000) | 0;
  c.rtoMs = Math.min(Math.max(rto, minRtoMs), maxRtoMs);
  c.probeMs = ((2 * c.srtt + 999) / 1000) | 0;
}

/** The timeout with its exponential back-off, in ms (5.5). */
export function currentRto(c: Connection): number {
  if (c.backoff === 0) return c.rtoMs;
  const { maxRtoMs } = c.tcp.config;
  const shift = c.backoff;
  return shift > 16 ? maxRtoMs : Math.min(c.rtoMs * 2 ** shift, maxRtoMs);
}
