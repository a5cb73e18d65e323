/** The schedule of an open loop: due counts and intended times agree, at any rate and however rarely it is asked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Schedule } from '../../../src/apps/load/schedule.ts';

test('what is due is exactly what was intended by then', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.double({ min: 0.5, max: 50_000, noNaN: true }),
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.array(fc.double({ min: 0, max: 20, noNaN: true }), { minLength: 1, maxLength: 10 }),
      (connections, rate, start, steps) => {
        const schedule = new Schedule(connections, rate, start);
        const due = new Int32Array(connections);
        let now = start;
        let total = 0;
        for (const step of steps) {
          now += step;
          total += schedule.advance(now, due);
          for (let slot = 0; slot < connections; slot++) {
            if (due[slot]! > 0) assert.ok(schedule.intended(slot, due[slot]! - 1) <= now);
            assert.ok(schedule.intended(slot, due[slot]!) > now);
          }
        }
        assert.equal(
          due.reduce((sum, count) => sum + count, 0),
          total,
        );
        assert.ok(schedule.nextMs > now);
      },
    ),
  );
});

test('messages go round the connections at even intervals', () => {
  const schedule = new Schedule(4, 1000, 100);
  assert.deepEqual(
    [0, 1, 2, 3].map((slot) => schedule.intended(slot, 0)),
    [100, 101, 102, 103],
  );
  assert.equal(schedule.intended(1, 2), 109);
});

test('refuses a rate of nothing', () => {
  assert.throws(() => new Schedule(1, 0, 0), RangeError);
  assert.throws(() => new Schedule(0, 1, 0), RangeError);
});
