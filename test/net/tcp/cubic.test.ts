/** CUBIC against the equations of RFC 9438, with an ideal network: a window is acknowledged each round trip. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Connection } from '../../../src/net/tcp/connection.ts';
import { cubic } from '../../../src/net/tcp/cubic.ts';

const MSS = 1000;
const C = 0.4;
const BETA = 0.7;

/** What of a connection the window depends on. */
class Path {
  readonly connection: Connection;
  readonly rttMs: number;

  constructor(rttMs: number, segments: number) {
    this.rttMs = rttMs;
    const numbers = { mss: MSS, cwnd: segments * MSS, ssthresh: 0, srtt: rttMs * 1000, cwndCredit: 0, cubic: null };
    this.connection = { ...numbers, tcp: { nowMs: 0 } } as unknown as Connection;
  }

  get window(): number {
    return this.connection.cwnd / MSS;
  }

  /** Every other segment is acknowledged, for so many seconds. */
  pass(seconds: number): void {
    const { connection: c, rttMs } = this;
    const tcp = c.tcp as { nowMs: number };
    for (const end = tcp.nowMs + seconds * 1000; tcp.nowMs < end; tcp.nowMs += rttMs) {
      for (let acks = Math.floor(this.window / 2); acks > 0; acks--) cubic.acknowledged(c, 2 * MSS);
    }
  }

  lose(): void {
    const { connection: c } = this;
    c.ssthresh = cubic.reduce(c, c.cwnd);
    c.cwnd = c.ssthresh;
  }
}

function near(got: number, expected: number): void {
  assert.ok(Math.abs(got - expected) < 0.03 * expected + 1, `${got} segments, not about ${expected}`);
}

describe('CUBIC', () => {
  test('4.2: grows back to the old window along the cube, and past it', () => {
    const before = 400;
    const path = new Path(100, before);
    path.lose();
    near(path.window, before * BETA);
    const k = Math.cbrt((before * (1 - BETA)) / C);
    for (let t = 1; t <= 12; t++) {
      path.pass(1);
      near(path.window, C * (t - k) ** 3 + before);
    }
    assert.ok(path.window > 1.1 * before);
  });

  test('4.3: with a short round trip it is as fast as Reno, and no slower past the old window', () => {
    const path = new Path(5, 20);
    path.lose();
    const alpha = (3 * (1 - BETA)) / (1 + BETA);
    path.pass(0.04);
    near(path.window, 20 * BETA + 8 * alpha);
    const rounds = Math.ceil((20 * (1 - BETA)) / alpha);
    path.pass(((rounds - 8) * path.rttMs) / 1000);
    const old = path.window;
    near(old, 20);
    path.pass(0.1);
    near(path.window, old + 20);
  });

  test('4.7: who did not get back to the old window aims lower', () => {
    const path = new Path(100, 400);
    path.lose();
    path.pass(1);
    const reached = path.window;
    assert.ok(reached < 400);
    path.lose();
    const aim = (reached * (1 + BETA)) / 2;
    path.pass(Math.cbrt((aim - reached * BETA) / C));
    near(path.window, aim);
  });

  test('4.4: no more than half as much again in a round trip', () => {
    const path = new Path(2000, 10);
    path.lose();
    for (let round = 0; round < 20; round++) {
      const before = path.window;
      path.pass(2);
      assert.ok(path.window <= 1.5 * before + 0.1, `${before} to ${path.window}`);
    }
    assert.ok(path.window > 1000);
  });
});
