/**
 * Initial sequence numbers and timestamp offsets by keyed hash (RFC 6528, RFC 7323 section 5.4), and SYN cookies (RFC 4987).
 * Pure: the key and the time are passed in.
 */
import type { Flow } from '../flow.ts';
import { message, sipHash, sipHigh } from './siphash.ts';

/** MSS values a cookie can carry: the largest not above what the peer offered is used. */
const COOKIE_MSS = [216, 536, 1024, 1220, 1360, 1440, 1460, 8960] as const;
/** A cookie's clock ticks once in 64 s (65536 ms), and a cookie is good for two ticks. */
const COOKIE_TICK_BITS = 16;
/** How long a cookie is good, at most. */
export const COOKIE_LIFE_MS = 2 << COOKIE_TICK_BITS;
const COOKIE_MAC = 0xffffff;

/**
 * Both ends of a flow. The length of a message, which is hashed with it, says what it is for: 3 or 9 words (IPv4, IPv6) for
 * sequence numbers and timestamps, 5 or 11 for cookies.
 */
function fill(flow: Flow): number {
  message[0] = (flow.localPort << 16) | flow.remotePort;
  message[1] = flow.local3;
  message[2] = flow.remote3;
  if (flow.family === 4) return 3;
  message[3] = flow.local0;
  message[4] = flow.local1;
  message[5] = flow.local2;
  message[6] = flow.remote0;
  message[7] = flow.remote1;
  message[8] = flow.remote2;
  return 9;
}

/**
 * ISN = M + F(both ends, secret); M ticks every 4 µs. The other half of the hash is the flow's timestamp offset
 * ({@link hashedTimestampOffset}): a hash costs more than the rest of the choice.
 */
export function initialSequence(flow: Flow, secret: Int32Array, clock4us: number): number {
  return (sipHash(secret, fill(flow)) + clock4us) | 0;
}

/** The {@link timestampOffset} of the flow of the last {@link initialSequence}. */
export function hashedTimestampOffset(): number {
  return sipHigh();
}

/** What is added to our clock in the timestamps of a flow; the same for each of its incarnations, so that they grow. */
export function timestampOffset(flow: Flow, secret: Int32Array): number {
  sipHash(secret, fill(flow));
  return sipHigh();
}

function cookieMac(flow: Flow, secret: Int32Array, peerIss: number, tick: number, mss: number): number {
  const words = fill(flow);
  message[words] = peerIss;
  message[words + 1] = (tick << 3) | mss;
  return sipHash(secret, words + 2) & COOKIE_MAC;
}

/**
 * The ISN of a SYN-ACK for which nothing is remembered: 5 bits of time, 3 of MSS, 24 of MAC.
 * @param nowMs the clock as a 32-bit integer
 */
export function synCookie(flow: Flow, secret: Int32Array, peerIss: number, peerMss: number, nowMs: number): number {
  const tick = nowMs >>> COOKIE_TICK_BITS;
  let mss = COOKIE_MSS.length - 1;
  while (mss > 0 && COOKIE_MSS[mss]! > peerMss) mss--;
  return ((tick & 31) << 27) | (mss << 24) | cookieMac(flow, secret, peerIss, tick, mss);
}

/** The peer's MSS from a cookie that came back; 0 where it is none of ours, or too old. */
export function cookieMss(flow: Flow, secret: Int32Array, peerIss: number, cookie: number, nowMs: number): number {
  const now = nowMs >>> COOKIE_TICK_BITS;
  const age = (now - (cookie >>> 27)) & 31;
  if (age > 1) return 0;
  const mss = (cookie >>> 24) & 7;
  const tick = (now - age) & 0xffff;
  return cookieMac(flow, secret, peerIss, tick, mss) === (cookie & COOKIE_MAC) ? COOKIE_MSS[mss]! : 0;
}

// With timestamps, what else the SYN offered travels in the low bits of ours and comes back in the echo.
const COOKIE_OPTION_BITS = 5;
const COOKIE_OPTIONS = (1 << COOKIE_OPTION_BITS) - 1;
const NO_SCALE = 15;

/** A timestamp not above `tsNow` whose low bits say the peer's window shift (-1: none) and whether it takes SACK. */
export function cookieTimestamp(tsNow: number, windowScale: number, sack: boolean): number {
  const bits = ((windowScale < 0 ? NO_SCALE : windowScale) << 1) | (sack ? 1 : 0);
  const value = (tsNow & ~COOKIE_OPTIONS) | bits;
  return ((value - tsNow) | 0) > 0 ? (value - COOKIE_OPTIONS - 1) | 0 : value;
}

export function cookieWindowScale(tsEcr: number): number {
  const scale = (tsEcr & COOKIE_OPTIONS) >> 1;
  return scale === NO_SCALE ? -1 : scale;
}

export function cookieSack(tsEcr: number): boolean {
  return (tsEcr & 1) !== 0;
}
