/**
 * What must be true of a connection between any two calls. Shared by the simulation and the fuzz test.
 */
import assert from 'node:assert/strict';
import type { Connection } from '../../src/net/tcp/connection.ts';
import { TcpState } from '../../src/net/tcp/constants.ts';
import { Mark, Rec } from '../../src/net/tcp/sent-records.ts';

export function checkConnection(c: Connection): void {
  const { sent } = c;
  const flight = (c.sndNxt - c.sndUna) | 0;
  let next = c.sndUna;
  let sacked = 0;
  let count = 0;
  let lost = 0;
  let again = 0;
  for (let i = 0; i < sent.count; i++) {
    const at = sent.at(i);
    const length = sent.words[at + Rec.LENGTH]!;
    const flags = sent.words[at + Rec.FLAGS]!;
    assert.equal(sent.words[at + Rec.SEQ], next, 'the scoreboard has a hole');
    assert.ok(length > 0, 'an empty record');
    next = (next + length) | 0;
    if ((flags & Mark.SACKED) !== 0) {
      sacked += length;
      count++;
    }
    if ((flags & Mark.LOST) !== 0) lost += length;
    if ((flags & Mark.RETRANSMITTED) !== 0) again += length;
  }
  if (sent.count > 0) assert.equal(next, c.sndNxt, 'the scoreboard does not end at SND.NXT');
  assert.ok(flight >= 0, `SND.UNA is ${-flight} past SND.NXT`);
  if (c.sackEnabled) assert.equal(c.sackedBytes, sacked, 'SACKed bytes');
  assert.equal(c.sackedCount, count, 'SACKed segments');
  assert.equal(c.lostBytes, lost, 'lost bytes');
  assert.equal(c.retransBytes, again, 'retransmitted bytes');
  assert.ok(((c.rcvAdv - c.rcvNxt) | 0) >= 0, 'a negative window');
  assert.ok(c.cwnd >= Math.min(c.mss, 64), `a congestion window of ${c.cwnd}`);
  if (flight > 0 && c.state !== TcpState.CLOSED && c.state !== TcpState.TIME_WAIT) {
    assert.ok(c.retransmitKind !== 0, 'data in flight and no timer');
  }
  if (c.retransmitKind !== 0 || c.ackDelayed || c.lifeKind !== 0) assert.ok(c.timer >= 0, 'a deadline and no timer');
}
