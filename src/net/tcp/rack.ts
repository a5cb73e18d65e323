/**
 * RACK: loss found by time of sending (RFC 8985 section 6). It touches the scoreboard and the reordering timer.
 */
import type { Connection } from './connection.ts';
import { Phase, Retransmit } from './constants.ts';
import { DUP_THRESH, markLost } from './recovery.ts';
import { Mark, Rec } from './sent-records.ts';
import { armRetransmit } from './timers.ts';

/** A segment sent at `sentUs` that ends at `end` has just been acknowledged or SACKed (6.2, steps 1 to 3). */
export function rackDelivered(c: Connection, sentUs: number, end: number, flags: number, echoAgeMs: number): void {
  const rtt = (c.tcp.nowUs - sentUs) | 0;
  if ((flags & Mark.EVER) !== 0) {
    // Acknowledged sooner than the path allows, or for an older copy: not for the retransmission.
    if (rtt < c.minRtt || (echoAgeMs >= 0 && echoAgeMs * 1000 > rtt + 2000)) return;
  } else if (((end - c.fack) | 0) < 0) c.reorderingSeen = true;
  if (((end - c.fack) | 0) > 0) c.fack = end;
  if (c.rackValid && !sentAfter(sentUs, end, c.rackSentUs, c.rackEnd)) return;
  c.rackValid = true;
  c.rackSentUs = sentUs;
  c.rackEnd = end;
  c.rackRtt = rtt;
}

function sentAfter(timeA: number, endA: number, timeB: number, endB: number): boolean {
  const later = (timeA - timeB) | 0;
  return later > 0 || (later === 0 && ((endA - endB) | 0) > 0);
}

/** The peer reported a duplicate: our reordering window was too small, once per round trip (6.2, step 4). */
export function rackDuplicate(c: Connection): void {
  if (c.dsackRoundValid && ((c.sndUna - c.dsackRound) | 0) < 0) return;
  c.dsackRoundValid = true;
  c.dsackRound = c.sndNxt;
  c.reoWndMult = Math.min(c.reoWndMult + 1, 64);
  c.reoWndPersist = 16;
}

function reorderingWindow(c: Connection): number {
  if (!c.reorderingSeen && (c.phase !== Phase.OPEN || c.sackedCount >= DUP_THRESH)) return 0;
  return Math.min((c.reoWndMult * c.minRtt) >> 2, c.srtt);
}

/**
 * Marks what was sent long enough before something that has arrived (6.2, step 5). What may still come gets the
 * reordering timer.
 * @returns true where something is newly lost
 */
export function detectRackLoss(c: Connection): boolean {
  if (!c.rackValid) return false;
  const { sent } = c;
  const { words } = sent;
  const wait = c.rackRtt + reorderingWindow(c);
  const { nowUs } = c.tcp;
  let found = false;
  let longest = 0;
  for (let i = 0; i < sent.count; i++) {
    const at = sent.at(i);
    const flags = words[at + Rec.FLAGS]!;
    if ((flags & Mark.SACKED) !== 0) continue;
    if ((flags & (Mark.LOST | Mark.RETRANSMITTED)) === Mark.LOST) continue;
    const sentUs = words[at + Rec.SENT_US]!;
    const end = (words[at + Rec.SEQ]! + words[at + Rec.LENGTH]!) | 0;
    if (!sentAfter(c.rackSentUs, c.rackEnd, sentUs, end)) {
      // What follows was sent later still, but for retransmissions, which also are later than their first sending.
      if ((flags & Mark.EVER) === 0) break;
      continue;
    }
    const left = (sentUs + wait - nowUs) | 0;
    if (left <= 0) {
      if (markLost(c, i)) found = true;
    } else if (left > longest) longest = left;
  }
  if (longest > 0) armRetransmit(c, Retransmit.REORDER, Math.ceil(longest / 1000));
  return found;
}
