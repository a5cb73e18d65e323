/** What is pushed over our own TCP/IP arrives whole, in order and uncopied, however it had to wait. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import { Chance } from '../../src/net/middleware/chance.ts';
import type { HeapBuffer } from '../../src/ring/heap.ts';
import { echo, failureOf, ip, pattern, readAll } from './conformance/world.ts';
import { Pair, run } from './stack-pair.ts';

describe('pushes between two kernels on a wire', { timeout: 60_000 }, () => {
  it('sends a reply in the buffer that the request came in, and copies nothing', async () => {
    await using pair = new Pair({}, { checked: false });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    const seen: number[] = [];
    b.k.spawn(
      listener.serve(function* (conn) {
        const buffer = (yield* conn.pop())!;
        const { tcp } = b.datapath;
        const before = b.k.heap.inUse;
        yield* conn.push(buffer);
        tcp.flush();
        seen.push(b.k.heap.inUse - before);
        yield* conn.pop();
      }),
    );
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        yield* conn.write('x'.repeat(1000));
        assert.equal((yield* readAll(conn, 1000)).length, 1000);
        conn.close();
      })(),
    );
    assert.deepEqual(seen, [0]);
  });

  it('withdraws a push that waits, and sends neither it nor a hole', async () => {
    await using pair = new Pair({ sendLimit: 100_000 });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        let pushed = 0;
        for (; conn.unsent < 100_000; pushed += 50_000) conn.push(a.k.alloc(50_000).fill(pattern(1, 50_000))).abandon();
        const before = a.k.heap.inUse;
        const waiting = a.k.push(conn.qd, a.k.alloc(50_000).fill(new Uint8Array(50_000)));
        a.k.cancel(waiting);
        assert.equal(a.k.heap.inUse, before);
        assert.equal(((yield* a.k.wait(waiting)).error as NodeJS.ErrnoException).code, 'ECANCELED');
        conn.end();
        b.k.spawn(
          (function* (): Coroutine {
            const peer = yield* listener.accept();
            const all = yield* readAll(peer);
            assert.equal(all.length, pushed);
            for (let at = 0; at < pushed; at += 50_000) {
              assert.ok(all.subarray(at, at + 50_000).equals(pattern(1, 50_000)));
            }
            peer.close();
          })(),
        );
        assert.equal(yield* conn.pop(), null);
      })(),
    );
  });

  it('sends what was pushed as it was, also where it had to wait', async () => {
    await using pair = new Pair({ sendLimit: 2048 });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    const got = run(
      b,
      (function* () {
        const peer = yield* listener.accept();
        const all = yield* readAll(peer);
        peer.close();
        return all.toString();
      })(),
    );
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        const buffer = a.k.alloc(1000).fill('0123456789'.repeat(100));
        const tokens: number[] = [];
        for (let i = 0; i < 10; i++) {
          tokens.push(a.k.push(conn.qd, i % 2 === 0 ? buffer.retain() : [a.k.alloc(1).fill('|'), buffer.retain()]));
          // The view moves on.
          buffer.offset += 1;
          buffer.length -= 1;
        }
        assert.equal(buffer.length, 990);
        for (const { error } of yield* a.k.waitAll(tokens)) assert.equal(error, null);
        assert.equal(buffer.length, 990);
        buffer.release();
        conn.end();
        assert.equal(yield* conn.pop(), null);
      })(),
    );
    const whole = '0123456789'.repeat(100);
    const expected = Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? '' : '|') + whole.slice(i)).join('');
    assert.equal(await got, expected);
  });

  it('sends pushes whole and in order, whatever their sizes and whichever are withdrawn', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const chance = new Chance(seed);
      const limit = 1 << (11 + chance.below(6));
      await using pair = new Pair(
        { sendLimit: limit, tcp: { maxSendBuffers: 8 + chance.below(60) } },
        { checked: false },
      );
      const { a, b } = pair;
      const listener = b.k.listen({ host: '10.0.0.2' });
      const got = run(
        b,
        (function* () {
          const peer = yield* listener.accept();
          const all = yield* readAll(peer);
          peer.close();
          return all;
        })(),
      );
      const sent = new Map<number, Buffer>();
      const withdrawn = new Set<number>();
      await run(
        a,
        (function* () {
          const conn = yield* a.k.connect(ip(listener.address));
          const waiting: [id: number, token: number][] = [];
          for (let id = 0; id < 80; id++) {
            const message = pattern(id + seed, 8 + chance.below(chance.below(4) === 0 ? 9000 : 300));
            message.writeUInt32LE(message.length, 0);
            message.writeUInt32LE(id, 4);
            const pieces: HeapBuffer[] = [];
            for (let at = 0; at < message.length; ) {
              const length = Math.min(message.length - at, 1 + chance.below(message.length));
              pieces.push(a.k.alloc(length).fill(message.subarray(at, at + length)));
              at += length;
            }
            const few = pieces.length <= 6 ? pieces : null;
            if (few === null) for (const piece of pieces) piece.release();
            sent.set(id, message);
            const sga = few ?? a.k.alloc(message.length).fill(message);
            waiting.push([id, a.k.push(conn.qd, sga)]);
            if (chance.below(3) === 0) {
              const [which, token] = waiting.splice(chance.below(waiting.length), 1)[0]!;
              a.k.cancel(token);
              const { error } = yield* a.k.wait(token);
              if (error !== null) withdrawn.add(which);
            }
            if (chance.below(20) === 0) yield* a.k.sleep(1);
          }
          if (seed % 2 === 0)
            for (const [, token] of waiting.splice(0)) assert.equal((yield* a.k.wait(token)).error, null);
          conn.end();
          assert.equal(yield* conn.pop(), null);
          // What waited is done or was not: it has been sent all the same.
          for (const [, token] of waiting) assert.equal((yield* a.k.wait(token)).error, null);
        })(),
      );
      const all = await got;
      let last = -1;
      for (let at = 0; at < all.length; ) {
        const id = all.readUInt32LE(at + 4);
        const message = sent.get(id);
        assert.ok(message !== undefined && id > last, `seed ${seed}: message ${id} after ${last}`);
        assert.ok(all.subarray(at, at + message.length).equals(message), `seed ${seed}: message ${id} is whole`);
        for (let missing = last + 1; missing < id; missing++)
          assert.ok(withdrawn.has(missing), `seed ${seed}: ${missing}`);
        last = id;
        at += message.length;
      }
      for (let missing = last + 1; missing < 80; missing++)
        assert.ok(withdrawn.has(missing), `seed ${seed}: ${missing}`);
    }
  });

  it('takes many small buffers in one push, and more than TCP holds wait', async () => {
    await using pair = new Pair({ tcp: { maxSendBuffers: 64 } });
    const { a, b } = pair;
    const listener = b.k.listen({ host: '10.0.0.2' });
    b.k.spawn(listener.serve(echo));
    await run(
      a,
      (function* () {
        const conn = yield* a.k.connect(ip(listener.address));
        const tokens: number[] = [];
        for (let i = 0; i < 40; i++) {
          tokens.push(a.k.push(conn.qd, [a.k.alloc(2).fill('ab'), a.k.alloc(0), a.k.alloc(1).fill('c')]));
        }
        for (const { error } of yield* a.k.waitAll(tokens)) assert.equal(error, null);
        const pieces = Array.from({ length: 65 }, () => a.k.alloc(1));
        assert.equal(yield* failureOf(conn.push(pieces)), 'ENOBUFS');
        assert.equal((yield* readAll(conn, 120)).toString(), 'abc'.repeat(40));
        conn.close();
      })(),
    );
  });
});
