/** Operations and their tokens: taken once, by whoever waits, in whichever way; stale tokens; cancellation; groups. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { deliverCompleted, Opcode, type Operation, OperationTable } from '../../src/kernel/operation.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';

const used = { name: 'IsthmusError', code: 'ERR_TOKEN_USED' };

function newKernel(): { k: Kernel; run(until?: number): void } {
  const network = new SimulatedNetwork();
  const k = simulatedKernel(network);
  return { k, run: (until) => network.run(until) };
}

/** An operation of nobody, waited for by its token where `raw`. */
function begin<T>(k: Kernel, raw = false): Operation<T> {
  return k.operations.acquire<T>(Opcode.JOIN, -1, raw ? deliverCompleted : null);
}

describe('operation', () => {
  it('gives its result to yield*, whether it is done before or after', () => {
    const { k, run } = newKernel();
    const seen: unknown[] = [];
    const before = begin<number>(k);
    before.complete(1);
    const after = begin<string>(k);
    const failing = begin<void>(k);
    const task = k.spawn(
      (function* (): Coroutine {
        seen.push(yield* before);
        seen.push(yield* after);
        try {
          yield* failing;
        } catch (error) {
          seen.push((error as Error).message);
        }
      })(),
    );
    run();
    assert.deepEqual(seen, [1]);
    after.complete('two');
    run();
    failing.fail(new Error('three'));
    run();
    assert.deepEqual(seen, [1, 'two', 'three']);
    assert.ok(task.finished);
    assert.equal(k.operations.inUse, 0);
  });

  it('fails with a stack where the call itself fails, and without one where somebody waits', () => {
    const { k, run } = newKernel();
    const seen: (string | undefined)[] = [];
    const wait = function* (op: Operation<void>): Coroutine {
      try {
        yield* op;
      } catch (error) {
        seen.push((error as Error).stack);
      }
    };
    const { stackTraceLimit } = Error;
    const late = begin<void>(k);
    k.spawn(wait(late));
    run();
    late.failErrno(104, 'pop');
    const early = begin<void>(k);
    early.failErrno(104, 'pop');
    k.spawn(wait(early));
    run();
    assert.doesNotMatch(seen[0]!, /\n *at /);
    assert.match(seen[1]!, /\n *at /);
    assert.equal(Error.stackTraceLimit, stackTraceLimit);
  });

  it('gives its result to await, whether it is done before or after', async () => {
    const { k } = newKernel();
    const before = begin<number>(k);
    before.complete(1);
    assert.equal(await before, 1);
    const after = begin<number>(k);
    setImmediate(() => after.complete(2));
    assert.equal(await after, 2);
    const failing = begin<number>(k);
    setImmediate(() => failing.failErrno(-104, 'pop'));
    await assert.rejects(async () => failing, { code: 'ECONNRESET', errno: -104, syscall: 'pop' });
    assert.equal(k.operations.inUse, 0);
  });

  it('is taken once', async () => {
    const { k, run } = newKernel();
    const op = begin<number>(k);
    op.complete(1);
    assert.equal(await op, 1);
    await assert.rejects(async () => op, used);
    k.spawn(
      (function* (): Coroutine {
        assert.throws(() => op.next(), used);
        yield;
      })(),
    );
    run();
    assert.equal(k.operations.inUse, 0);
  });

  it('completes once, and is waited for by one coroutine, inside one', () => {
    const { k, run } = newKernel();
    const op = begin<number>(k);
    assert.throws(() => op.next(), TypeError);
    let error: unknown;
    const wait = function* (): Coroutine {
      try {
        yield* op;
      } catch (e) {
        error = e;
      }
    };
    const first = k.spawn(wait());
    k.spawn(wait());
    run();
    assert.ok(error instanceof TypeError);
    op.complete(1);
    assert.throws(() => op.complete(2), /twice/);
    run();
    assert.ok(first.finished);
  });

  it('is withdrawn when its coroutine ends, and its late result is dropped', () => {
    const { k, run } = newKernel();
    const withdrawn: unknown[] = [];
    const dropped: unknown[] = [];
    k.operations.withdraw = (op) => withdrawn.push(op);
    k.operations.discard = (op) => dropped.push(op.value);
    const pending = begin<number>(k);
    const ready = begin<number>(k);
    for (const op of [pending, ready]) {
      const task = k.spawn(
        (function* (): Coroutine {
          yield* op;
        })(),
      );
      run();
      if (op === ready) op.complete(5);
      task.cancel();
    }
    run();
    assert.deepEqual(withdrawn, [pending]);
    assert.deepEqual(dropped, [5]);
    assert.equal(k.operations.inUse, 0);
  });

  it('has a bound', () => {
    const { k } = newKernel();
    const table = new OperationTable(k, k.scheduler, 3);
    const ops = [1, 2, 3].map(() => table.acquire(Opcode.PUSH, -1, null));
    assert.throws(() => table.acquire(Opcode.PUSH, -1, null), { code: 'ENOBUFS' });
    table.release(ops[1]!);
    assert.equal(table.acquire(Opcode.PUSH, -1, null), ops[1]);
  });
});

describe('queue token', () => {
  it('names its operation until the result is taken, and never another one after', () => {
    const { k } = newKernel();
    const stale: number[] = [];
    for (let i = 0; i < 500; i++) {
      const op = begin<number>(k, true);
      const { token } = op;
      assert.ok(Number.isInteger(token) && token >= 0 && token < 2 ** 31);
      assert.equal(k.operations.lookup(token), op);
      op.complete(i);
      assert.equal((op.next().value as { value: unknown }).value, i);
      assert.throws(() => k.operations.lookup(token), used);
      stale.push(token);
    }
    assert.equal(new Set(stale).size, stale.length);
    const live = begin<number>(k, true);
    for (const token of stale) assert.throws(() => k.wait(token), used);
    live.complete(1);
    live.abandon();
  });

  it('is refused where it was never given', () => {
    const { k } = newKernel();
    begin(k).abandon();
    for (const token of [-1, 1.5, Number.NaN, 77, 2 ** 40]) {
      assert.throws(() => k.wait(token), { name: 'IsthmusError' }, `${token}`);
    }
  });

  it('tells success and failure alike as results', async () => {
    const { k } = newKernel();
    const good = begin<number>(k, true);
    good.complete(7);
    const { token } = good;
    assert.deepEqual(await k.wait(token), { opcode: Opcode.JOIN, qd: -1, token, value: 7, error: null });
    const bad = begin<number>(k, true);
    bad.failErrno(111, 'connect');
    const result = await k.wait(bad.token);
    assert.equal(result.value, undefined);
    assert.equal((result.error as { code?: string } | null)?.code, 'ECONNREFUSED');
    assert.equal(k.operations.inUse, 0);
  });

  it('cancelled, reports ECANCELED to whoever waits', async () => {
    const { k } = newKernel();
    const op = begin<number>(k, true);
    const waiting = k.wait(op.token);
    k.cancel(op.token);
    assert.equal(((await waiting).error as { code?: string } | null)?.code, 'ECANCELED');
    assert.equal(k.operations.inUse, 0);
  });

  it('survives a deadline and an abort, which end only the wait', () => {
    const { k, run } = newKernel();
    const op = begin<number>(k, true);
    const codes: unknown[] = [];
    const controller = new AbortController();
    const task = k.spawn(
      (function* (): Coroutine {
        for (const options of [{ timeout: 50 }, { signal: controller.signal }, { signal: controller.signal }]) {
          try {
            yield* k.wait(op.token, options);
          } catch (error) {
            codes.push((error as { code?: string }).code ?? (error as Error).message);
          }
        }
        codes.push((yield* k.wait(op.token)).value);
      })(),
    );
    run();
    assert.equal(k.timers.size, 0);
    controller.abort(new Error('enough'));
    run();
    assert.deepEqual(codes, ['ETIMEDOUT', 'enough', 'enough']);
    op.complete(3);
    run();
    assert.deepEqual(codes.slice(3), [3]);
    assert.ok(task.finished);
    assert.equal(k.operations.inUse, 0);
  });
});

describe('waitAny and waitAll', () => {
  it('agree with a model, whatever the order of completion', () => {
    const plan = fc.record({
      count: fc.integer({ min: 1, max: 6 }),
      order: fc.array(fc.nat(), { maxLength: 6 }),
      early: fc.nat({ max: 6 }),
      all: fc.boolean(),
      fail: fc.nat(),
    });
    fc.assert(
      fc.property(plan, ({ count, order, early, all, fail }) => {
        const { k, run } = newKernel();
        const ops = Array.from({ length: count }, () => begin<number>(k, true));
        const tokens = ops.map((op) => op.token);
        const left = ops.map((_, i) => i);
        const sequence: number[] = [];
        for (const pick of order) if (left.length > 0) sequence.push(...left.splice(pick % left.length, 1));
        sequence.push(...left);
        const settle = (i: number) => {
          if (i === fail % count) ops[i]!.fail(new Error('failed'));
          else ops[i]!.complete(i * 10);
        };
        const check = (result: { token: number; value: unknown; error: Error | null }, i: number) => {
          assert.equal(result.token, tokens[i]);
          if (i === fail % count) assert.equal(result.error?.message, 'failed');
          else assert.deepEqual([result.value, result.error], [i * 10, null]);
        };
        const settledBefore = sequence.slice(0, Math.min(early, count));
        for (const i of settledBefore) settle(i);
        const seen: number[] = [];
        k.spawn(
          (function* (): Coroutine {
            if (all) {
              const results = yield* k.waitAll(tokens);
              for (const [i, result] of results.entries()) check(result, i);
              for (const i of sequence) seen.push(i);
              return;
            }
            const rest = [...tokens];
            while (rest.length > 0) {
              const result = yield* k.waitAny(rest);
              assert.equal(result.token, rest[result.index]);
              const i = tokens.indexOf(result.token);
              check(result, i);
              seen.push(i);
              rest.splice(result.index, 1);
            }
          })(),
        );
        run();
        for (const i of sequence.slice(settledBefore.length)) {
          if (all) assert.deepEqual(seen, []);
          settle(i);
          run();
        }
        const first = [...settledBefore].sort((a, b) => a - b);
        assert.deepEqual(seen, all ? sequence : [...first, ...sequence.slice(first.length)]);
        assert.equal(k.operations.inUse, 0);
        assert.equal(k.scheduler.alive, 0);
      }),
      { numRuns: 300, seed: 20260107 },
    );
  });

  it('leave the other tokens valid, and refuse bad sets', () => {
    const { k, run } = newKernel();
    const a = begin<number>(k, true);
    const b = begin<number>(k, true);
    assert.throws(() => k.waitAny([]), { code: 'EINVAL' });
    assert.throws(() => k.waitAny([a.token, a.token]), { code: 'EINVAL' });
    const group = k.waitAny([a.token, b.token]);
    assert.throws(() => k.waitAny([b.token]), { code: 'EBUSY' });
    a.complete(1);
    let index = -1;
    k.spawn(
      (function* (): Coroutine {
        index = (yield* group).index;
      })(),
    );
    run();
    assert.equal(index, 0);
    b.complete(2);
    assert.equal((k.wait(b.token).next().value as { value: unknown }).value, 2);
    assert.equal(k.operations.inUse, 0);
  });

  it('given up after they are done, are not told of their children any more', () => {
    const { k, run } = newKernel();
    const a = begin<number>(k, true);
    const b = begin<number>(k, true);
    const task = k.spawn(
      (function* (): Coroutine {
        yield* k.waitAny([a.token, b.token]);
      })(),
    );
    run();
    a.complete(1);
    task.cancel();
    // The group's slot belongs to somebody else now, who must not be completed by b.
    const other = k.operations.acquire<void>(Opcode.ANY, -1, null);
    other.missing = 1;
    b.complete(2);
    assert.ok(other.pending);
    other.abandon();
    for (const op of [a, b]) op.abandon();
    run();
    assert.equal(k.operations.inUse, 0);
  });
});
