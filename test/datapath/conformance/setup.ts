/** Names, options and the errors of set-up calls: texts, codes and system calls as Node's own. Every datapath must pass. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { Family, SocketOption, SocketType } from '../../../src/kernel/datapath.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import { echo, failureOf, ip, readAll, type Subject, systemErrorOf, until, World } from './world.ts';

export function setupTests(subject: Subject, policy: HostPolicy): void {
  const skip = subject.unix === false && 'it has no Unix sockets';
  it('says which address is in use, not available or none', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const { host, port } = ip(k.listen({ host: '127.0.0.1' }).address);
    assert.throws(() => k.listen({ host, port }), systemErrorOf('EADDRINUSE', 'bind'));
    assert.throws(() => k.listen({ host, port }), { message: new RegExp(`bind 127\\.0\\.0\\.1:${port}`) });
    assert.throws(() => k.listen({ host: '203.0.113.7' }), systemErrorOf('EADDRNOTAVAIL', 'bind'));
    assert.throws(() => k.listen({ host: '2001:db8::7' }), systemErrorOf('EADDRNOTAVAIL', 'bind'));
    assert.throws(() => k.listen({ host: 'localhost' }), systemErrorOf('EINVAL', 'bind'));
    assert.throws(() => k.listen({ host, port: 65536 }), systemErrorOf('EINVAL', 'bind'));
    assert.throws(() => k.udp({ host: '203.0.113.7' }), systemErrorOf('EADDRNOTAVAIL', 'bind'));
    assert.equal(k.openQueues, 1, 'what failed left nothing open');
  });

  it('shares a port among listeners that ask for it', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const first = k.listen({ host: '127.0.0.1', reusePort: true });
    const second = k.listen({ host: '127.0.0.1', port: ip(first.address).port, reusePort: true });
    assert.deepEqual(second.address, first.address);
    k.spawn(first.serve(echo));
    k.spawn(second.serve(echo));
    await world.run(
      (function* () {
        for (let i = 0; i < 10; i++) {
          const conn = yield* k.connect(first.address);
          yield* conn.write('x');
          assert.equal((yield* readAll(conn, 1)).toString(), 'x');
          conn.close();
        }
      })(),
    );
  });

  it('fails a connect that is refused, and connects afterwards', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const { address } = listener;
    listener.close();
    await assert.rejects(async () => k.connect(address), systemErrorOf('ECONNREFUSED', 'connect'));
    await assert.rejects(async () => k.connect(address), {
      message: new RegExp(`127\\.0\\.0\\.1:${ip(address).port}`),
    });
    await assert.rejects(async () => k.connect({ host: 'nowhere', port: 1 }), systemErrorOf('EINVAL', 'connect'));
    const qd = k.socket(Family.INET, SocketType.STREAM);
    await world.run(
      (function* () {
        const { error } = yield* k.wait(k.connect(qd, address));
        systemErrorOf('ECONNREFUSED', 'connect')(error);
        k.close(qd);
        const again = world.serve(echo);
        const conn = yield* k.connect(again);
        conn.close();
      })(),
    );
    await until(() => k.openQueues === 1, 'only the listener is left');
  });

  it('refuses calls that make no sense for the queue', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    assert.throws(() => k.socket(Family.UNIX, SocketType.DGRAM), systemErrorOf('EOPNOTSUPP', 'socket'));
    const udp = k.udp({ host: '127.0.0.1' });
    assert.throws(() => k.listen(udp.qd), { code: 'EOPNOTSUPP' });
    udp.close();
    const idle = k.socket(Family.INET, SocketType.STREAM);
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        for (const qd of [idle, listener.qd]) {
          systemErrorOf('ENOTCONN', 'pop')((yield* k.wait(k.pop(qd))).error);
          systemErrorOf('ENOTCONN', 'push')((yield* k.wait(k.push(qd, k.alloc(1)))).error);
        }
        systemErrorOf('EINVAL', 'accept')((yield* k.wait(k.accept(idle))).error);
        const conn = yield* k.connect(listener.address);
        systemErrorOf('EISCONN', 'connect')((yield* k.wait(k.connect(conn.qd, listener.address))).error);
        conn.close();
      })(),
    );
    k.close(idle);
  });

  it('sets and tells socket options', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect(listener.address);
        const peer = yield* accepting;
        for (const { qd } of [conn, peer]) {
          assert.equal(k.getsockopt(qd, SocketOption.NO_DELAY), 1, 'on by default');
          k.setsockopt(qd, SocketOption.NO_DELAY, 0);
          assert.equal(k.getsockopt(qd, SocketOption.NO_DELAY), 0);
          k.setsockopt(qd, SocketOption.KEEP_ALIVE, 1);
          assert.equal(k.getsockopt(qd, SocketOption.KEEP_ALIVE), 1);
          k.setsockopt(qd, SocketOption.SEND_BUFFER, 1 << 16);
          assert.ok(k.getsockopt(qd, SocketOption.SEND_BUFFER) >= 1 << 16);
          assert.equal(k.getsockopt(qd, SocketOption.LINGER), -1);
          k.setsockopt(qd, SocketOption.LINGER, 3);
          assert.equal(k.getsockopt(qd, SocketOption.LINGER), 3);
          assert.throws(() => k.setsockopt(qd, 99 as SocketOption, 1), systemErrorOf('ENOPROTOOPT', 'setsockopt'));
          assert.throws(() => k.setsockopt(qd, SocketOption.NO_DELAY, 0.5), systemErrorOf('EINVAL', 'setsockopt'));
        }
        // Linger 0: closing resets.
        k.setsockopt(conn.qd, SocketOption.LINGER, 0);
        conn.close();
        assert.equal(yield* failureOf(peer.pop()), 'ECONNRESET');
        peer.close();
      })(),
    );
    const udp = k.udp({ host: '127.0.0.1' });
    k.setsockopt(udp.qd, SocketOption.BROADCAST, 1);
    assert.equal(k.getsockopt(udp.qd, SocketOption.BROADCAST), 1);
    udp.close();
  });

  it('takes IPv4 on :: unless told not to', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '::' });
    k.spawn(listener.serve(echo));
    const { port } = ip(listener.address);
    const only = k.socket(Family.INET6, SocketType.STREAM);
    k.setsockopt(only, SocketOption.V6_ONLY, 1);
    k.bind(only, { host: '::', port: 0 });
    k.listen(only, 4);
    await world.run(
      (function* () {
        for (const host of ['127.0.0.1', '::1']) {
          const conn = yield* k.connect({ host, port });
          yield* conn.write(host);
          assert.equal((yield* readAll(conn, host.length)).toString(), host);
          assert.equal(ip(conn.remoteAddress).host, host);
          conn.close();
        }
        const { port: onlyPort } = ip(k.getsockname(only));
        assert.equal(yield* failureOf(k.connect({ host: '127.0.0.1', port: onlyPort })), 'ECONNREFUSED');
        (yield* k.connect({ host: '::1', port: onlyPort })).close();
      })(),
    );
    k.close(only);
  });

  it('listens on a Unix socket, and leaves no file behind', { skip }, async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const path = join(world.directory, 'echo.sock');
    const listener = k.listen({ path });
    k.spawn(listener.serve(echo));
    assert.deepEqual(listener.address, { path });
    await world.run(
      (function* () {
        const conn = yield* k.connect({ path });
        yield* conn.write('over a file');
        assert.equal((yield* readAll(conn, 11)).toString(), 'over a file');
        assert.deepEqual(conn.remoteAddress, { path });
        conn.end();
        assert.equal(yield* conn.pop(), null);
        conn.close();
      })(),
    );
    assert.throws(() => k.listen({ path }), systemErrorOf('EADDRINUSE', 'bind'));
    listener.close();
    assert.ok(!existsSync(path));
    const again = k.listen({ path });
    again.close();
  });

  it('carries bulk over a Unix socket past a slow reader', { skip }, async () => {
    await using world = await World.open(subject, policy, { heap: { checked: false } });
    const { k } = world;
    const path = join(world.directory, 'bulk.sock');
    const bytes = subject.bulkBytes >> 3;
    const listener = k.listen({ path });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect({ path });
        const peer = yield* accepting;
        const sending = k.spawn(
          (function* () {
            for (let at = 0; at < bytes; at += 65536) yield* conn.push(k.alloc(65536));
            conn.end();
          })(),
        );
        let got = 0;
        for (let pops = 0; ; pops++) {
          const buffer = yield* peer.pop();
          if (buffer === null) break;
          got += buffer.length;
          buffer.release();
          if (pops % 16 === 0) yield* k.sleep(1);
        }
        yield* sending.join();
        assert.equal(got, bytes);
        conn.close();
      })(),
    );
  });

  it('says what is wrong with a path', { skip }, async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const long = join(world.directory, 'x'.repeat(120));
    assert.throws(() => k.listen({ path: long }), systemErrorOf('ENAMETOOLONG', 'bind'));
    assert.throws(() => k.listen({ path: '' }), systemErrorOf('EINVAL', 'bind'));
    if (subject.real) {
      const nowhere = join(world.directory, 'no', 'such', 'directory.sock');
      assert.throws(() => k.listen({ path: nowhere }), systemErrorOf('ENOENT', 'bind'));
    }
    const missing = join(world.directory, 'missing.sock');
    await assert.rejects(async () => k.connect({ path: missing }), systemErrorOf('ENOENT', 'connect'));
    await assert.rejects(async () => k.connect({ path: long }), systemErrorOf('ENAMETOOLONG', 'connect'));
    assert.equal(k.openQueues, 0);
  });

  it('listens on an abstract name', { skip }, async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const path = `\0isthmus-test-${process.pid}-${subject.name}`;
    const listener = k.listen({ path });
    assert.deepEqual(listener.address, { path });
    await world.run(
      (function* () {
        const accepting = listener.accept();
        const conn = yield* k.connect({ path });
        (yield* accepting).close();
        assert.equal(yield* conn.pop(), null);
        conn.close();
      })(),
    );
  });
}
