/** The timer wheel against a plain list, over random schedules, cancellations and jumps of time. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Timed, TimerWheel } from '../../src/kernel/timers.ts';

const DAY = 86_400_000;

class Recorder implements Timed {
  readonly fired: number[] = [];
  onExpired: (timer: number) => void = () => {};

  expired(timer: number): void {
    this.fired.push(timer);
    this.onExpired(timer);
  }
}

type Step =
  | { readonly do: 'schedule'; readonly after: number }
  | { readonly do: 'cancel'; readonly which: number }
  | { readonly do: 'advance'; readonly by: number };

const distance = fc.oneof(
  fc.integer({ min: -50, max: 70 }),
  fc.integer({ min: 0, max: 5000 }),
  fc.integer({ min: 0, max: 300_000 }),
  fc.integer({ min: 0, max: 40 * DAY }),
  fc.double({ min: -2, max: 200, noNaN: true }),
  fc.constantFrom(
    63,
    64,
    65,
    4095,
    4096,
    4097,
    2 ** 18,
    2 ** 24,
    2 ** 30 - 1,
    2 ** 30,
    2 ** 30 + 1,
    2 ** 31,
    2 ** 32 + 5,
  ),
);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('schedule' as const), after: distance }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), which: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), by: distance.map(Math.abs) }) },
);

interface Modelled {
  readonly timer: number;
  /** The tick it must fire at: its deadline rounded up, or the time of scheduling where that was later. */
  readonly tick: number;
}

describe('timer wheel', () => {
  it('fires exactly what a sorted list would, in order, never early', () => {
    const start = fc.constantFrom(0, 0.25, 63.9, 2 ** 31 - 100.5, 2 ** 32 - 7, 1.7e12 + 0.125);
    fc.assert(
      fc.property(start, fc.array(step, { maxLength: 60 }), (origin, steps) => {
        let now = origin;
        const wheel = new TimerWheel(now);
        const target = new Recorder();
        let model: Modelled[] = [];
        const gone: number[] = [];
        for (const s of steps) {
          if (s.do === 'schedule') {
            const tick = Math.max(Math.ceil(now + s.after), Math.floor(now));
            model.push({ timer: wheel.schedule(now + s.after, target), tick });
          } else if (s.do === 'cancel') {
            const all = [...model.map((m) => m.timer), ...gone];
            const timer = all[s.which % Math.max(1, all.length)];
            if (timer === undefined) continue;
            assert.equal(
              wheel.cancel(timer),
              model.some((m) => m.timer === timer),
            );
            if (model.some((m) => m.timer === timer)) gone.push(timer);
            model = model.filter((m) => m.timer !== timer);
          } else {
            now += s.by;
            target.fired.length = 0;
            const due = model.filter((m) => m.tick <= Math.floor(now));
            assert.equal(wheel.advance(now), due.length);
            assert.deepEqual(
              target.fired.map((timer) => model.find((m) => m.timer === timer)?.tick),
              due.map((m) => m.tick).sort((a, b) => a - b),
            );
            gone.push(...target.fired);
            model = model.filter((m) => m.tick > Math.floor(now));
          }
          const first = Math.min(...model.map((m) => m.tick));
          assert.equal(wheel.size, model.length);
          assert.ok(wheel.nextDeadline() <= first, `next ${wheel.nextDeadline()} is later than ${first}`);
          if (model.length === 0) assert.equal(wheel.nextDeadline(), Number.POSITIVE_INFINITY);
        }
      }),
      { numRuns: 1000, seed: 20260101 },
    );
  });

  it('reaches every timer when driven only by nextDeadline, on time to the millisecond', () => {
    fc.assert(
      fc.property(fc.array(distance.map(Math.abs), { minLength: 1, maxLength: 30 }), (deadlines) => {
        const wheel = new TimerWheel(0);
        const target = new Recorder();
        const due = new Map(deadlines.map((deadline) => [wheel.schedule(deadline, target), Math.ceil(deadline)]));
        let now = 0;
        target.onExpired = (timer) => assert.equal(now, due.get(timer));
        for (let turns = 0; wheel.size > 0; turns++) {
          assert.ok(turns < 40 * deadlines.length, 'too many wake-ups');
          now = wheel.nextDeadline();
          wheel.advance(now);
        }
        assert.equal(target.fired.length, deadlines.length);
      }),
      { numRuns: 500, seed: 20260102 },
    );
  });

  it('lets targets schedule and cancel while it fires', () => {
    const wheel = new TimerWheel(0);
    const target = new Recorder();
    const victim = wheel.schedule(10, target);
    const killer = new Recorder();
    killer.onExpired = () => {
      assert.ok(wheel.cancel(victim));
      wheel.schedule(7, target); // in the past: the next advance
      wheel.schedule(30, target); // still within this advance
    };
    wheel.schedule(8, killer);
    assert.equal(wheel.advance(50), 2);
    assert.equal(target.fired.length, 1);
    assert.equal(wheel.size, 1);
    assert.equal(wheel.nextDeadline(), 50);
    assert.equal(wheel.advance(50), 1);
    assert.equal(wheel.nextDeadline(), Number.POSITIVE_INFINITY);
  });

  it('lets a timer of a tick cancel another of the same tick', () => {
    const wheel = new TimerWheel(0);
    const target = new Recorder();
    const killer = new Recorder();
    wheel.schedule(10, killer);
    const victim = wheel.schedule(10, target);
    killer.onExpired = () => assert.ok(wheel.cancel(victim));
    assert.equal(wheel.advance(10), 1);
    assert.deepEqual(target.fired, []);
    assert.equal(wheel.size, 0);
  });

  it('keeps the other timers when a target throws', () => {
    const wheel = new TimerWheel(0);
    const bad = new Recorder();
    bad.onExpired = () => {
      throw new Error('no');
    };
    const good = new Recorder();
    wheel.schedule(5, bad);
    wheel.schedule(5, good);
    wheel.schedule(6, good);
    assert.throws(() => wheel.advance(7), /no/);
    assert.equal(wheel.advance(7), 2);
    assert.equal(good.fired.length, 2);
  });

  it('ignores a clock that goes backwards', () => {
    const wheel = new TimerWheel(100);
    const target = new Recorder();
    wheel.schedule(150, target);
    assert.equal(wheel.advance(120), 0);
    assert.equal(wheel.advance(10), 0);
    assert.equal(wheel.advance(150), 1);
  });

  it('treats a stale handle as nothing, also after its slot has been used again', () => {
    const wheel = new TimerWheel(0, { maxTimers: 1 });
    const target = new Recorder();
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      const timer = wheel.schedule(i, target);
      for (const old of seen) assert.equal(wheel.cancel(old), false);
      assert.ok(timer >= 0 && !seen.has(timer));
      if (i % 100 === 0) seen.add(timer);
      assert.equal(wheel.advance(i), 1);
    }
    assert.equal(wheel.cancel(-1), false);
    assert.equal(wheel.cancel(12345), false);
  });

  it('has a bound, and refuses what is no time', () => {
    const wheel = new TimerWheel(0, { maxTimers: 300 });
    const target = new Recorder();
    for (let i = 0; i < 300; i++) wheel.schedule(i, target);
    assert.throws(() => wheel.schedule(1, target), { code: 'ENOBUFS' });
    assert.equal(wheel.advance(1000), 300);
    wheel.schedule(1, target);
    for (const deadline of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      assert.throws(() => wheel.schedule(deadline, target), RangeError);
    }
    assert.throws(() => new TimerWheel(0, { maxTimers: 0 }), RangeError);
  });
});
