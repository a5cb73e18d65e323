/** The coroutine scheduler: classes, fairness, ends of every kind, and misuse. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Coroutine, CoroutineClass, Scheduler } from '../../src/kernel/scheduler.ts';

interface End {
  readonly id: number;
  readonly value: unknown;
  readonly error: Error | null;
}

function newScheduler(maxCoroutines?: number) {
  const scheduler = new Scheduler(maxCoroutines === undefined ? {} : { maxCoroutines });
  const ends: End[] = [];
  scheduler.onEnded = (id, value, error) => ends.push({ id, value, error });
  const drain = () => {
    for (let rounds = 0; scheduler.ready > 0; rounds++) {
      assert.ok(rounds < 10_000, 'never at rest');
      scheduler.run();
    }
  };
  return { scheduler, ends, drain };
}

/** Stands in for an operation: it is waited for, and its coroutine is woken by hand. */
class Gate {
  readonly token = 1;
  done = false;
  value: unknown = undefined;
  open = false;
  withdrawn = 0;

  next(): this {
    this.done = this.open;
    return this;
  }

  return(value?: unknown): { done: true; value: unknown } {
    this.withdrawn++;
    return { done: true, value };
  }

  [Symbol.iterator](): Iterator<unknown, unknown> {
    return this as unknown as Iterator<unknown, unknown>;
  }
}

describe('scheduler', () => {
  it('runs coroutines to their ends and tells their values and errors', () => {
    const { scheduler, ends, drain } = newScheduler();
    const fine = scheduler.spawn(
      (function* (): Coroutine<string> {
        yield;
        return 'value';
      })(),
    );
    const bad = scheduler.spawn(
      (function* (): Coroutine {
        throw new RangeError('bad');
      })(),
    );
    assert.equal(scheduler.alive, 2);
    drain();
    assert.deepEqual(
      ends.map(({ id, value, error }) => [id, value, error?.message]),
      [
        [bad, undefined, 'bad'],
        [fine, 'value', undefined],
      ],
    );
    assert.equal(scheduler.alive, 0);
    assert.equal(scheduler.current, -1);
  });

  it('runs the application before the background before the fast path, whatever the order of spawning', () => {
    const { scheduler, drain } = newScheduler();
    const order: string[] = [];
    const say = function* (word: string): Coroutine {
      for (let i = 0; i < 2; i++) {
        order.push(word);
        yield;
      }
    };
    scheduler.spawn(say('fast'), CoroutineClass.FAST_PATH);
    scheduler.spawn(say('back'), CoroutineClass.BACKGROUND);
    scheduler.spawn(say('app'), CoroutineClass.APPLICATION);
    drain();
    assert.deepEqual(order, ['app', 'back', 'fast', 'app', 'back', 'fast']);
  });

  it('is fair: between two turns of one that gives way, every other ready coroutine has one', () => {
    const { scheduler, drain } = newScheduler();
    const count = 100;
    const turns = new Array<number>(count).fill(0);
    const check = (): void => {
      const most = Math.max(...turns);
      assert.ok(Math.min(...turns) >= most - 1, `${turns}`);
    };
    const party = function* (i: number): Coroutine {
      for (let n = 0; n < 10; n++) {
        turns[i]!++;
        check();
        if (i % 2 === 0) yield;
        else yield* scheduler.giveWay();
      }
    };
    for (let i = 0; i < count; i++) scheduler.spawn(party(i));
    drain();
    assert.deepEqual(turns, new Array(count).fill(10));
    assert.equal(scheduler.switches, count * 11);
  });

  it('keeps 100,000 coroutines, and wakes exactly those that are woken', () => {
    const { scheduler, ends, drain } = newScheduler();
    const count = 100_000;
    const gates = Array.from({ length: count }, () => new Gate());
    const ids = gates.map((gate, i) =>
      scheduler.spawn(
        (function* (): Coroutine<number> {
          yield* gate;
          return i;
        })(),
      ),
    );
    assert.equal(new Set(ids).size, count);
    drain();
    assert.equal(scheduler.alive, count);
    const woken: number[] = [];
    for (let i = 7; i < count; i += 9973) {
      gates[i]!.open = true;
      scheduler.wake(ids[i]!);
      scheduler.wake(ids[i]!); // twice is once
      woken.push(i);
    }
    assert.equal(scheduler.ready, woken.length);
    assert.equal(scheduler.run(), woken.length);
    assert.deepEqual(
      ends.map(({ value }) => value),
      woken,
    );
    // Woken for nothing, a coroutine goes on waiting.
    scheduler.wake(ids[0]!);
    assert.equal(scheduler.run(), 1);
    assert.equal(scheduler.alive, count - woken.length);
    for (let i = 0; i < count; i++) {
      gates[i]!.open = true;
      if (!woken.includes(i)) scheduler.wake(ids[i]!);
    }
    drain();
    assert.equal(scheduler.alive, 0);
    assert.equal(ends.length, count);
  });

  it('has a bound, and uses ids again', () => {
    const { scheduler, drain } = newScheduler(2);
    const brief = function* (): Coroutine {
      yield;
    };
    const ids = [scheduler.spawn(brief()), scheduler.spawn(brief())];
    assert.throws(() => scheduler.spawn(brief()), { code: 'ENOBUFS' });
    drain();
    assert.ok(ids.includes(scheduler.spawn(brief())));
    drain();
  });

  it('lets coroutines start others, which run too', () => {
    const { scheduler, ends, drain } = newScheduler();
    const tree = function* (depth: number): Coroutine {
      if (depth > 0) for (let i = 0; i < 2; i++) scheduler.spawn(tree(depth - 1));
      yield;
    };
    scheduler.spawn(tree(10));
    drain();
    assert.equal(ends.length, 2 ** 11 - 1);
  });
});

describe('cancelling a coroutine', () => {
  it('withdraws what it waits for and runs its finally blocks', () => {
    const { scheduler, ends, drain } = newScheduler();
    const gate = new Gate();
    const steps: string[] = [];
    const id = scheduler.spawn(
      (function* (): Coroutine {
        try {
          yield* gate;
          steps.push('never');
        } finally {
          steps.push('finally');
        }
      })(),
    );
    drain();
    scheduler.cancel(id);
    assert.equal(gate.withdrawn, 1);
    assert.deepEqual(steps, ['finally']);
    assert.deepEqual(ends, [{ id, value: undefined, error: null }]);
    scheduler.cancel(id);
    scheduler.wake(id);
    drain();
    assert.equal(ends.length, 1);
  });

  it('ends one that never ran, and reports an error thrown in finally', () => {
    const { scheduler, ends, drain } = newScheduler();
    let ran = false;
    const never = scheduler.spawn(
      (function* (): Coroutine {
        ran = true;
      })(),
    );
    scheduler.cancel(never);
    drain();
    assert.equal(ran, false);
    const bad = scheduler.spawn(
      (function* (): Coroutine {
        try {
          yield* new Gate();
        } finally {
          // biome-ignore lint/correctness/noUnsafeFinally: this is what is tested
          throw new Error('in finally');
        }
      })(),
    );
    drain();
    scheduler.cancel(bad);
    assert.equal(ends[1]?.error?.message, 'in finally');
    assert.equal(scheduler.alive, 0);
  });

  it('lets a finally block wait and give way, unless the end must come at once', () => {
    for (const atOnce of [false, true]) {
      const { scheduler, ends, drain } = newScheduler();
      const farewell = new Gate();
      const steps: string[] = [];
      const id = scheduler.spawn(
        (function* (): Coroutine {
          try {
            yield* new Gate();
          } finally {
            steps.push('begun');
            try {
              yield* farewell;
              yield;
              steps.push('through');
            } finally {
              steps.push('inner');
            }
          }
        })(),
      );
      drain();
      scheduler.cancel(id, atOnce);
      if (atOnce) {
        assert.deepEqual(steps, ['begun', 'inner']);
        assert.equal(farewell.withdrawn, 1);
      } else {
        assert.deepEqual(steps, ['begun']);
        assert.equal(scheduler.alive, 1);
        farewell.open = true;
        scheduler.wake(id);
        drain();
        assert.deepEqual(steps, ['begun', 'through', 'inner']);
      }
      assert.deepEqual(ends, [{ id, value: undefined, error: null }]);
    }
  });

  it('ends at once even one that waits in finally for ever', () => {
    const { scheduler, ends, drain } = newScheduler();
    const id = scheduler.spawn(
      (function* (): Coroutine {
        for (;;) {
          try {
            yield* new Gate();
          } finally {
          }
        }
      })(),
    );
    drain();
    scheduler.cancel(id, true);
    assert.equal(ends.length, 1);
    assert.equal(scheduler.alive, 0);
  });

  it('leaves those alone that are running: itself, and who cancels it', () => {
    const { scheduler, ends, drain } = newScheduler();
    let first = -1;
    let second = -1;
    first = scheduler.spawn(
      (function* (): Coroutine<string> {
        yield;
        scheduler.cancel(first);
        scheduler.cancel(second);
        yield;
        return 'survived';
      })(),
    );
    second = scheduler.spawn(
      (function* (): Coroutine {
        try {
          yield* new Gate();
        } finally {
          // Its canceller is in the middle of a call: it cannot be ended from here.
          scheduler.cancel(first);
        }
      })(),
    );
    drain();
    assert.deepEqual(
      ends.map(({ id, value, error }) => [id, value, error]),
      [
        [second, undefined, null],
        [first, 'survived', null],
      ],
    );
    assert.equal(scheduler.alive, 0);
  });

  it('may happen to one that is ready in the same pass', () => {
    const { scheduler, ends, drain } = newScheduler();
    let victim = -1;
    let ran = 0;
    scheduler.spawn(
      (function* (): Coroutine {
        yield;
        scheduler.cancel(victim);
      })(),
    );
    victim = scheduler.spawn(
      (function* (): Coroutine {
        for (;;) {
          ran++;
          yield;
        }
      })(),
    );
    drain();
    assert.equal(ran, 1);
    assert.equal(ends.length, 2);
  });
});

describe('misuse of yield', () => {
  it('is named: yielding a value is not waiting', () => {
    const { scheduler, ends, drain } = newScheduler();
    let where = '';
    scheduler.spawn(
      (function* wrong(): Coroutine {
        try {
          yield new Gate();
        } catch (error) {
          where = (error as Error).message;
          throw error;
        }
      })(),
    );
    drain();
    assert.match(where, /yield\*/);
    assert.ok(ends[0]?.error instanceof TypeError);
  });

  it('ends a coroutine that does it again and again', () => {
    const { scheduler, ends, drain } = newScheduler();
    scheduler.spawn(
      (function* (): Coroutine {
        for (;;) {
          try {
            yield 1;
          } catch {
            // It does not want to know.
          }
        }
      })(),
    );
    drain();
    assert.ok(ends[0]?.error instanceof TypeError);
    assert.equal(scheduler.alive, 0);
  });
});
