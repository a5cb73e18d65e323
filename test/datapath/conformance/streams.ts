/** Streams between two queues of the kernel under test: every datapath must pass. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Connection } from '../../../src/kernel/connection.ts';
import { type Address, Family, SocketOption, SocketType } from '../../../src/kernel/datapath.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import { Opcode } from '../../../src/kernel/operation.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../../src/ring/heap.ts';
import { echo, failureOf, ip, pattern, readAll, type Subject, systemErrorOf, until, World } from './world.ts';

export function streamTests(subject: Subject, policy: HostPolicy): void {
  it('echoes between coroutines', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const address = world.serve(echo);
    const text = await world.run(
      (function* () {
        const conn = yield* k.connect(address);
        yield* conn.write('over and ');
        yield* conn.write('over');
        const bytes = yield* readAll(conn, 13);
        conn.end();
        assert.equal(yield* conn.pop(), null);
        assert.equal(yield* conn.pop(), null, 'the end stays the end');
        return bytes.toString();
      })(),
    );
    assert.equal(text, 'over and over');
  });

  it('serves async code: for await over connections and buffers', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const serving = (async () => {
      for await (const conn of listener) {
        for await (const buffer of conn) await conn.push(buffer);
        conn.close();
      }
    })();
    for (const word of ['first', 'second']) {
      const conn = await k.connect(listener.address);
      await conn.write(word);
      const buffer = await conn.pop();
      assert.equal(buffer?.text(), word);
      buffer?.release();
      conn.close();
    }
    listener.close();
    await serving;
  });

  it('has the calls of PDPIX: tokens and results', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    await world.run(
      (function* () {
        const server = k.socket(Family.INET, SocketType.STREAM);
        k.bind(server, { host: '127.0.0.1', port: 0 });
        k.listen(server, 8);
        const accepting = k.accept(server);
        const client = k.socket(Family.INET, SocketType.STREAM);
        const connecting = k.connect(client, k.getsockname(server));
        const [accepted, connected] = yield* k.waitAll([accepting, connecting]);
        assert.equal(accepted!.opcode, Opcode.ACCEPT);
        assert.equal(accepted!.qd, server);
        assert.equal(connected!.opcode, Opcode.CONNECT);
        assert.equal(connected!.error, null);
        const peer = accepted!.value as number;
        assert.deepEqual(k.getpeername(peer), k.getsockname(client));
        assert.deepEqual(k.getpeername(client), k.getsockname(peer));

        const pushed = yield* k.wait(k.push(client, k.alloc(3).fill('abc')));
        assert.equal(pushed.opcode, Opcode.PUSH);
        assert.equal(pushed.error, null);
        const token = k.pop(peer);
        const popped = yield* k.wait(token);
        assert.equal(popped.token, token);
        const buffer = popped.value as HeapBuffer;
        assert.equal(buffer.text(), 'abc');
        k.free(buffer);
        assert.throws(() => k.wait(token), { code: 'ERR_TOKEN_USED' });

        k.close(client);
        const end = yield* k.wait(k.pop(peer));
        assert.equal(end.value, null);
        assert.equal(end.error, null);
        k.close(peer);
        k.close(server);
        assert.throws(() => k.pop(peer), systemErrorOf('EBADF', 'pop'));
        assert.throws(() => k.close(peer), systemErrorOf('EBADF', 'close'));
      })(),
    );
  });

  it('sends a scatter-gather array as one run of bytes', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const address = world.serve(echo);
    await world.run(
      (function* () {
        const conn = yield* k.connect(address);
        const expected = pattern(7, 150 * 101);
        const pieces: HeapBuffer[] = [];
        for (let i = 0, at = 0; i < 150; at += 101, i++) {
          if (i % 10 === 0) pieces.push(k.alloc(0));
          pieces.push(k.alloc(101).fill(expected.subarray(at, at + 101)));
        }
        yield* conn.push(pieces);
        assert.ok((yield* readAll(conn, expected.length)).equals(expected));
        yield* conn.push([]);
        yield* conn.push(k.alloc(0));
        yield* conn.write('x');
        assert.equal((yield* readAll(conn, 1)).toString(), 'x');
      })(),
    );
  });

  it('sends one buffer to many connections, and the part of it that was meant', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const address = world.serve(echo);
    await world.run(
      (function* () {
        const conns: Connection[] = [];
        for (let i = 0; i < 5; i++) conns.push(yield* k.connect(address));
        const buffer = k.alloc(10).fill('0123456789');
        for (const conn of conns) {
          yield* conn.push(buffer.retain());
          // What was pushed stays as it was: the view may move on.
          buffer.offset++;
          buffer.length--;
        }
        buffer.release();
        for (const [i, conn] of conns.entries()) {
          assert.equal((yield* readAll(conn, 10 - i)).toString(), '0123456789'.slice(i));
          conn.close();
        }
      })(),
    );
  });

  it('carries bulk both ways at once, exactly, past a slow reader with small socket buffers', async () => {
    await using world = await World.open(subject, policy, { heap: { checked: false }, sendLimit: 1 << 18 });
    const { k } = world;
    const bytes = subject.bulkBytes;
    const listener = k.listen({ host: '127.0.0.1' });
    k.setsockopt(listener.qd, SocketOption.RECEIVE_BUFFER, 1 << 17);
    k.setsockopt(listener.qd, SocketOption.SEND_BUFFER, 1 << 17);
    function* send(conn: Connection, seed: number): Coroutine {
      const block = pattern(seed, 50021);
      for (let at = 0; at < bytes; at += block.length) {
        const part = block.subarray(0, Math.min(block.length, bytes - at));
        yield* conn.push(k.alloc(part.length).fill(part));
      }
      conn.end();
    }
    function* receive(conn: Connection, seed: number): Coroutine<number> {
      const block = pattern(seed, 50021);
      let got = 0;
      for (let pops = 0; ; pops++) {
        const buffer = yield* conn.pop();
        if (buffer === null) return got;
        for (let at = 0; at < buffer.length; ) {
          const from = got % block.length;
          const length = Math.min(buffer.length - at, block.length - from);
          const data = buffer.bytes.subarray(at, at + length);
          assert.equal(Buffer.compare(data, block.subarray(from, from + length)), 0, `bytes from ${got} on`);
          got += length;
          at += length;
        }
        buffer.release();
        if (pops % 64 === 0) yield* k.sleep(1);
      }
    }
    function* both(conn: Connection, seed: number): Coroutine<number> {
      const sending = k.spawn(send(conn.detach(), seed));
      const got = yield* receive(conn, 3 - seed);
      yield* sending.join();
      conn.close();
      return got;
    }
    const results = await Promise.all([
      world.run(
        (function* () {
          return yield* both(yield* listener.accept(), 1);
        })(),
      ),
      world.run(
        (function* () {
          return yield* both(yield* k.connect(listener.address), 2);
        })(),
      ),
    ]);
    assert.deepEqual(results, [bytes, bytes]);
  });

  it('pushes back when the peer does not read, and goes on when it does', async () => {
    const limit = subject.sendLimit ?? 1 << 16;
    await using world = await World.open(subject, policy, { sendLimit: limit });
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        let pushed = 0;
        let token = 0;
        // Once the kernel's own buffers are full too, a push stays pending, and the queue takes no more.
        for (let full = false; !full; pushed += 16384) {
          token = k.push(conn.qd, k.alloc(16384));
          assert.ok(conn.unsent <= limit + 16384, `${conn.unsent} unsent`);
          if ((yield* failureOf(k.waitAny([token], { timeout: 50 }))) === '') continue;
          full = conn.unsent > limit >> 1;
          if (!full) yield* k.wait(token); // it was only slow
        }
        const reading = k.spawn(readAll(peer, pushed));
        assert.equal((yield* k.wait(token)).error, null);
        conn.end();
        assert.equal((yield* reading.join()).length, pushed);
        conn.close();
      })(),
    );
  });

  it('closes by halves, either side first', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const address = world.serve(function* (conn) {
      const request = yield* readAll(conn);
      yield* conn.write(`got ${request}, `);
      yield* k.sleep(2);
      yield* conn.write('and that is all');
    });
    const talkative = world.serve(function* (conn) {
      yield* conn.write('hello');
      conn.end();
      assert.equal(yield* failureOf(conn.write('more')), 'EPIPE');
      said = (yield* readAll(conn)).toString();
    });
    let said = '';
    await world.run(
      (function* () {
        const first = yield* k.connect(address);
        yield* first.write('a request');
        first.end();
        assert.equal((yield* readAll(first)).toString(), 'got a request, and that is all');
        const second = yield* k.connect(talkative);
        assert.equal((yield* readAll(second)).toString(), 'hello');
        yield* second.write('still here');
        second.close();
      })(),
    );
    await until(() => said === 'still here', 'the server has read what came after its own end');
  });

  it('sends what was pushed before close, however much, and then ends', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const bytes = 1 << 19;
    const address = world.serve(function* (conn) {
      const pieces = Array.from({ length: bytes / 65536 }, (_, i) => k.alloc(65536).fill(pattern(i, 65536)));
      conn.push(pieces).abandon();
      conn.close();
    });
    await world.run(
      (function* () {
        const conn = yield* k.connect(address);
        yield* k.sleep(5);
        const got = yield* readAll(conn);
        assert.equal(got.length, bytes);
        for (let i = 0; i < bytes / 65536; i++) {
          assert.ok(got.subarray(i * 65536, (i + 1) * 65536).equals(pattern(i, 65536)), `piece ${i}`);
        }
      })(),
    );
  });

  it('lets the reply arrive when it closes with bytes unread', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const address = world.serve(function* (conn) {
      (yield* conn.pop())?.release();
      yield* conn.write('too much');
    });
    await world.run(
      (function* () {
        const conn = yield* k.connect(address);
        for (let i = 0; i < 8; i++) yield* conn.push(k.alloc(30_000));
        assert.equal((yield* readAll(conn, 8)).toString(), 'too much');
      })(),
    );
  });

  it('resets on abort: the peer sees it in pop and in push', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        const popping = peer.pop();
        conn.abort();
        assert.equal(yield* failureOf(popping), 'ECONNRESET');
        assert.equal(yield* failureOf(peer.pop()), 'ECONNRESET', 'and again');
        let code = '';
        for (let i = 0; i < 100 && code === ''; i++) {
          code = yield* failureOf(peer.write('anybody there?'));
          yield* k.sleep(1);
        }
        assert.match(code, /^(EPIPE|ECONNRESET)$/);
        assert.throws(() => conn.pop(), systemErrorOf('EBADF', 'pop'));
      })(),
    );
  });

  it('fails what is outstanding with ECANCELED when a queue is closed', async () => {
    await using world = await World.open(subject, policy, { sendLimit: 1024 });
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        const first = k.pop(peer.qd);
        const second = k.pop(peer.qd);
        const another = k.accept(listener.qd);
        let pushing = 0;
        for (let full = false; !full; ) {
          pushing = k.push(peer.qd, k.alloc(65536));
          full = (yield* failureOf(k.waitAny([pushing], { timeout: 100 }))) === 'ETIMEDOUT';
        }
        peer.close();
        listener.close();
        const results = yield* k.waitAll([first, second, another, pushing]);
        for (const { error } of results) assert.equal((error as NodeJS.ErrnoException | null)?.code, 'ECANCELED');
        conn.abort();
      })(),
    );
  });

  it('keeps connections in the backlog until they are accepted', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1', backlog: 64 });
    const count = 40;
    function* connect(address: Address): Coroutine {
      const conn = yield* k.connect(address);
      assert.equal(yield* conn.pop(), null);
    }
    await world.run(
      (function* () {
        const conns: Connection[] = [];
        for (let i = 0; i < count; i++) {
          const conn = yield* k.connect(listener.address);
          yield* conn.write(String(i));
          conns.push(conn);
        }
        const seen = new Set<string>();
        for (let i = 0; i < count; i++) {
          const peer = yield* listener.accept();
          const buffer = yield* peer.pop();
          seen.add(buffer!.text());
          buffer!.release();
          peer.close();
        }
        assert.equal(seen.size, count);
        for (const conn of conns) conn.close();
        assert.equal(yield* failureOf(listener.accept({ timeout: 20 })), 'ETIMEDOUT');
        // And the other way round: many accepts wait for connections that come all at once.
        const tokens = Array.from({ length: count }, () => k.accept(listener.qd));
        const tasks = Array.from({ length: count }, () => k.spawn(connect(listener.address)));
        for (const { value, error } of yield* k.waitAll(tokens)) {
          assert.equal(error, null);
          k.close(value as number);
        }
        for (const task of tasks) yield* task.join();
      })(),
    );
  });

  it('holds a thousand connections, each with its own bytes', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const count = 1000;
    // Whom the backlog has no room for asks again in a second.
    const address = world.serve(echo, { backlog: count });
    let answered = 0;
    function* client(i: number): Coroutine {
      const conn = yield* k.connect(address);
      yield* conn.write(`connection ${i}`);
      const buffer = yield* conn.pop();
      assert.equal(buffer?.text(), `connection ${i}`);
      buffer?.release();
      answered++;
      // All are open at once before the first closes.
      while (answered < count) yield* k.sleep(1);
    }
    await Promise.all(Array.from({ length: count }, (_, i) => world.run(client(i))));
    assert.equal(answered, count);
  });

  it('tells names', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const { host, port } = ip(listener.address);
    assert.equal(host, '127.0.0.1');
    assert.ok(port > 0);
    const unconnected = k.socket(Family.INET, SocketType.STREAM);
    assert.throws(() => k.getpeername(unconnected), systemErrorOf('ENOTCONN', 'getpeername'));
    k.close(unconnected);
    assert.throws(() => k.getsockname(unconnected), systemErrorOf('EBADF', 'getsockname'));
  });
}
