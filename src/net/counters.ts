/**
 * What the stack has done and what it has refused, for whoever observes it. Plain numbers: counting is an addition.
 * Pure: nothing is touched but the object itself.
 */
import { REASON_NAMES, REASONS } from './wire/reason.ts';

export class StackCounters {
  framesIn = 0;
  framesOut = 0;
  bytesIn = 0;
  bytesOut = 0;
  ip4In = 0;
  ip6In = 0;
  tcpIn = 0;
  udpIn = 0;
  udpOut = 0;
  icmpIn = 0;
  /** Echo requests answered, echo replies received. */
  echoesAnswered = 0;
  echoReplies = 0;
  errorsIn = 0;
  errorsSent = 0;
  /** Errors not sent because of the limit (RFC 1812 4.3.2.8, RFC 4443 2.4). */
  errorsWithheld = 0;
  timeExceededIn = 0;
  /** Path MTUs lowered. */
  pathMtuLowered = 0;
  arpRequestsIn = 0;
  arpRepliesIn = 0;
  arpRequestsOut = 0;
  arpRepliesOut = 0;
  solicitationsIn = 0;
  advertisementsIn = 0;
  solicitationsOut = 0;
  advertisementsOut = 0;
  /** Neighbours whose hardware address changed, that did not answer, and that gave way to others. */
  neighboursMoved = 0;
  neighboursFailed = 0;
  neighboursEvicted = 0;
  fragmentsIn = 0;
  fragmentsOut = 0;
  reassembled = 0;
  loopback = 0;
  /** Packets refused, by {@link Reason}. Doubles, because a counter may pass 2^32. */
  readonly drops = new Float64Array(REASONS);

  drop(reason: number): void {
    this.drops[reason] = this.drops[reason]! + 1;
  }

  /** Every counter by name; of the reasons, those that have occurred, as `drop.ipChecksum`. */
  observe(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const [name, value] of Object.entries(this)) if (typeof value === 'number') all[name] = value;
    for (let reason = 1; reason < REASONS; reason++) {
      if (this.drops[reason] !== 0) all[`drop.${REASON_NAMES[reason]}`] = this.drops[reason]!;
    }
    return all;
  }
}
