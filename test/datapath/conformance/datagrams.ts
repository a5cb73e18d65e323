/** Datagrams between two queues of the kernel under test: every datapath must pass. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Family, SocketType } from '../../../src/kernel/datapath.ts';
import type { UdpSocket } from '../../../src/kernel/endpoints.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';
import type { HeapBuffer } from '../../../src/ring/heap.ts';
import { failureOf, ip, pattern, type Subject, World } from './world.ts';

function* replies(socket: UdpSocket): Coroutine {
  for (;;) yield* socket.push(yield* socket.pop());
}

export function datagramTests(subject: Subject, policy: HostPolicy): void {
  for (const host of ['127.0.0.1', '::1']) {
    it(`echoes datagrams of every size over ${host}, knowing the sender`, async () => {
      await using world = await World.open(subject, policy);
      const { k } = world;
      const server = k.udp({ host });
      const client = k.udp({ host });
      k.spawn(replies(server));
      const to = ip(server.address);
      await world.run(
        (function* () {
          for (const size of [1, 64, 0, 1472, 2047, 2048, 2049, 16384, 60_000, 64]) {
            const data = pattern(size, size);
            yield* client.push(k.alloc(size).fill(data), to);
            const buffer = yield* client.pop({ timeout: 30_000 });
            assert.ok(Buffer.from(buffer.bytes).equals(data), `${size} bytes`);
            assert.deepEqual(buffer.peer, to);
            buffer.release();
          }
        })(),
      );
      server.close();
      client.close();
    });
  }

  it('keeps the boundaries and the order of a burst', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const server = k.udp({ host: '127.0.0.1' });
    const client = k.udp({ host: '127.0.0.1' });
    const to = ip(server.address);
    await world.run(
      (function* () {
        for (let i = 0; i < 100; i++) yield* client.push(k.alloc(4).fill(String(i).padStart(4, '0')), to);
        for (let i = 0; i < 100; i++) {
          const buffer = yield* server.pop({ timeout: 30_000 });
          assert.equal(buffer.text(), String(i).padStart(4, '0'));
          assert.equal(buffer.peer?.port, ip(client.address).port);
          buffer.release();
        }
      })(),
    );
    client.close();
    // Datagrams received ahead of the pops go back to the heap with their queue.
    for (let i = 0; i < 10; i++) await server.push(k.alloc(1), to);
    await k.sleep(5);
    server.close();
  });

  it('sends to the connected peer; push puts pieces together', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const server = k.udp({ host: '127.0.0.1' });
    const client = k.udp({ host: '127.0.0.1' });
    k.spawn(replies(server));
    await world.run(
      (function* () {
        yield* client.connect(ip(server.address));
        assert.deepEqual(k.getpeername(client.qd), server.address);
        yield* client.push(k.alloc(2).fill('hi'));
        const first = yield* client.pop({ timeout: 30_000 });
        assert.equal(first.text(), 'hi');
        first.release();
        yield* k.wait(k.push(client.qd, [k.alloc(3).fill('one'), k.alloc(3).fill('two')]));
        const second = yield* client.pop({ timeout: 30_000 });
        assert.equal(second.text(), 'onetwo');
        second.release();
      })(),
    );
    server.close();
    client.close();
  });

  if (subject.real) {
    it('tells a connected queue that nobody is there, and loses nothing for it', async () => {
      await using world = await World.open(subject, policy);
      const { k } = world;
      const server = k.udp({ host: '127.0.0.1' });
      const to = ip(server.address);
      server.close();
      const client = k.udp({ host: '127.0.0.1' });
      await world.run(
        (function* () {
          yield* client.connect(to);
          yield* client.push(k.alloc(1));
          assert.equal(yield* failureOf(client.pop({ timeout: 30_000 })), 'ECONNREFUSED');
          yield* client.push(k.alloc(1));
          yield* k.sleep(5);
          // Somebody is there again: however the refusal of the second is told, the next datagrams arrive.
          const again = k.udp(to);
          let told = 0;
          for (let i = 0; i < 3; i++) if ((yield* failureOf(client.push(k.alloc(1).fill(String(i))))) !== '') told++;
          const got = yield* again.pop({ timeout: 30_000 });
          assert.equal(got.text(), String(told));
          got.release();
          again.close();
        })(),
      );
      client.close();
    });
  }

  it('refuses what cannot be sent, with a code', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const socket = k.udp({ host: '127.0.0.1' });
    const to = { host: '127.0.0.1', port: 9 };
    await world.run(
      (function* () {
        assert.equal(yield* failureOf(socket.push(k.alloc(65508), to)), 'EMSGSIZE');
        assert.equal(yield* failureOf(socket.push(k.alloc(1))), 'EDESTADDRREQ');
        assert.equal(yield* failureOf(socket.push(k.alloc(1), { host: '::1', port: 9 })), 'EAFNOSUPPORT');
        assert.equal(yield* failureOf(socket.push(k.alloc(1), { host: 'localhost', port: 9 })), 'EINVAL');
        assert.equal(yield* failureOf(socket.push(k.alloc(1), { host: '127.0.0.1', port: 70_000 })), 'EINVAL');
        const stream = k.socket(Family.INET, SocketType.STREAM);
        const { error } = yield* k.wait(k.pushTo(stream, k.alloc(1), to));
        assert.match((error as NodeJS.ErrnoException | null)?.code ?? '', /^(EOPNOTSUPP|EISCONN|ENOTCONN)$/);
        k.close(stream);
      })(),
    );
    socket.close();
  });

  it('ends pops with ECANCELED when it is closed; one that timed out loses no datagram', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const socket = k.udp({ host: '127.0.0.1' });
    const to = ip(socket.address);
    await world.run(
      (function* () {
        assert.equal(yield* failureOf(socket.pop({ timeout: 2 })), 'ETIMEDOUT');
        yield* socket.push(k.alloc(4).fill('self'), to);
        const buffer: HeapBuffer = yield* socket.pop({ timeout: 30_000 });
        assert.equal(buffer.text(), 'self');
        buffer.release();
        const popping = socket.pop();
        yield* k.sleep(1);
        socket.close();
        assert.equal(yield* failureOf(popping), 'ECANCELED');
        assert.throws(() => socket.pop(), { code: 'EBADF' });
      })(),
    );
  });
}
