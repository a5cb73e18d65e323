/** Deadlines, cancellation and waits for several tokens: every datapath must pass. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Connection } from '../../../src/kernel/connection.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../../src/ring/heap.ts';
import { failureOf, pattern, readAll, type Subject, World } from './world.ts';

export function waitingTests(subject: Subject, policy: HostPolicy): void {
  /** Both ends of a connection, in a coroutine. */
  function withPair(name: string, body: (world: World, a: Connection, b: Connection) => Coroutine<unknown>): void {
    it(name, async () => {
      await using world = await World.open(subject, policy);
      const listener = world.k.listen({ host: '127.0.0.1' });
      await world.run(
        (function* () {
          const accepting = listener.accept();
          const a = yield* world.k.connect(listener.address);
          const b = yield* accepting;
          yield* body(world, a, b);
          a.close();
          b.close();
        })(),
      );
    });
  }

  withPair('a pop that times out loses no data', function* (_, a, b) {
    assert.equal(yield* failureOf(b.pop({ timeout: 5 })), 'ETIMEDOUT');
    yield* a.write('late');
    assert.equal((yield* readAll(b, 4)).toString(), 'late');
  });

  withPair('a pop ends with the reason of an abort signal, before, during and after', function* ({ k }, a, b) {
    const aborted = AbortSignal.abort(new RangeError('before'));
    try {
      yield* b.pop({ signal: aborted });
      assert.fail('it must not succeed');
    } catch (error) {
      assert.ok(error instanceof RangeError);
    }
    const controller = new AbortController();
    const popping = b.pop({ signal: controller.signal });
    yield* k.sleep(1);
    controller.abort(new RangeError('during'));
    try {
      yield* popping;
      assert.fail('it must not succeed');
    } catch (error) {
      assert.equal((error as Error).message, 'during');
    }
    const late = new AbortController();
    yield* a.write('data');
    const buffer = yield* b.pop({ signal: late.signal });
    late.abort();
    assert.equal(buffer?.text(), 'data');
    buffer?.release();
  });

  withPair('races of arrivals with deadlines lose and invent nothing', function* ({ k }, a, b) {
    const sent = pattern(99, 20_000);
    const sending = k.spawn(
      (function* () {
        for (let at = 0; at < sent.length; at += 100) {
          yield* a.push(k.alloc(100).fill(sent.subarray(at, at + 100)));
          if ((at / 100) % 3 === 0) yield* k.sleep(1);
        }
        a.end();
      })(),
    );
    const parts: Buffer[] = [];
    for (let timeouts = 0; ; ) {
      let buffer: HeapBuffer | null;
      try {
        buffer = yield* b.pop({ timeout: timeouts % 2 });
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ETIMEDOUT');
        timeouts++;
        continue;
      }
      if (buffer === null) break;
      parts.push(Buffer.from(buffer.bytes));
      buffer.release();
    }
    yield* sending.join();
    assert.ok(Buffer.concat(parts).equals(sent));
  });

  withPair(
    'waitAny gives the first, waitAll all; a wait that times out leaves the tokens valid',
    function* ({ k }, a, b) {
      const one = k.pop(a.qd);
      const two = k.pop(b.qd);
      assert.equal(yield* failureOf(k.waitAny([one, two], { timeout: 5 })), 'ETIMEDOUT');
      yield* a.write('to b');
      const first = yield* k.waitAny([one, two]);
      assert.equal(first.index, 1);
      assert.equal(first.token, two);
      assert.equal((first.value as HeapBuffer).text(), 'to b');
      (first.value as HeapBuffer).release();
      const three = k.pop(b.qd);
      assert.equal(yield* failureOf(k.waitAll([one, three], { timeout: 5 })), 'ETIMEDOUT');
      yield* a.write('b');
      yield* b.write('a');
      const [forA, forB] = yield* k.waitAll([one, three]);
      assert.equal((forA!.value as HeapBuffer).text(), 'a');
      assert.equal((forB!.value as HeapBuffer).text(), 'b');
      (forA!.value as HeapBuffer).release();
      (forB!.value as HeapBuffer).release();
    },
  );

  withPair('cancel fails an operation with ECANCELED and loses no data', function* ({ k }, a, b) {
    const tokens = [k.pop(b.qd), k.pop(b.qd), k.pop(b.qd)];
    k.cancel(tokens[1]!);
    yield* a.write('1');
    const first = yield* k.wait(tokens[0]!);
    assert.equal((first.value as HeapBuffer).text(), '1');
    (first.value as HeapBuffer).release();
    assert.equal(((yield* k.wait(tokens[1]!)).error as NodeJS.ErrnoException).code, 'ECANCELED');
    k.cancel(tokens[2]!);
    assert.equal(((yield* k.wait(tokens[2]!)).error as NodeJS.ErrnoException).code, 'ECANCELED');
    yield* a.write('2');
    assert.equal((yield* readAll(b, 1)).toString(), '2');
  });

  withPair('pops of one queue complete in order', function* ({ k }, a, b) {
    const tokens = Array.from({ length: 8 }, () => k.pop(b.qd));
    for (let i = 0; i < 8; i++) {
      yield* a.write(String(i));
      yield* k.sleep(1);
    }
    let text = '';
    for (const token of tokens.slice(0, 4)) {
      const { value } = yield* k.wait(token);
      text += (value as HeapBuffer).text();
      (value as HeapBuffer).release();
    }
    a.end();
    for (const token of tokens.slice(4)) {
      const { value } = yield* k.wait(token);
      text += (value as HeapBuffer | null)?.text() ?? '';
      (value as HeapBuffer | null)?.release();
    }
    assert.equal(text, '01234567');
  });

  withPair('a coroutine that is cancelled while it waits leaves the queue usable', function* ({ k }, a, b) {
    let cleaned = false;
    const task = k.spawn(
      (function* () {
        try {
          yield* b.detach().pop();
        } finally {
          cleaned = true;
        }
      })(),
    );
    yield* k.sleep(1);
    task.cancel();
    assert.ok(cleaned);
    yield* a.write('for somebody else');
    assert.equal((yield* readAll(b, 17)).toString(), 'for somebody else');
  });

  it('an accept that times out loses no connection', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        assert.equal(yield* failureOf(listener.accept({ timeout: 5 })), 'ETIMEDOUT');
        const conn = yield* k.connect(listener.address);
        const peer = yield* listener.accept({ timeout: 30_000 });
        yield* conn.write('hello');
        assert.equal((yield* readAll(peer, 5)).toString(), 'hello');
        conn.close();
      })(),
    );
  });
}
