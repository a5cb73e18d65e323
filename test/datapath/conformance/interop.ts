/** The datapath against peers that nobody here wrote: node:net and node:dgram. For datapaths over real sockets. */
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { it } from 'node:test';
import type { Connection } from '../../../src/kernel/connection.ts';
import type { HostPolicy } from '../../../src/kernel/host.ts';
import type { Coroutine } from '../../../src/kernel/scheduler.ts';
import { dial, echo, failureOf, ip, once, pattern, readAll, readSocket, type Subject, until, World } from './world.ts';

export function interopTests(subject: Subject, policy: HostPolicy): void {
  it('serves clients of node:net, over TCP and over a Unix socket', async () => {
    await using world = await World.open(subject, policy);
    for (const options of [{ host: '127.0.0.1' }, { host: '::1' }, { path: join(world.directory, 'net.sock') }]) {
      const socket = await dial(world.serve(echo, options));
      const sent = pattern(5, 300_000);
      socket.end(sent);
      assert.ok((await readSocket(socket)).equals(sent), JSON.stringify(options));
    }
  });

  it('is a client of a server of node:net', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const server = createServer((socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const sent = pattern(6, 300_000);
    const got = await world.run(
      (function* () {
        const conn = yield* k.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
        const writing = k.spawn(
          (function* () {
            yield* conn.write(sent);
            conn.end();
          })(),
        );
        const bytes = yield* readAll(conn);
        yield* writing.join();
        conn.close();
        return bytes;
      })(),
    );
    assert.ok(got.equals(sent));
    server.close();
  });

  it('carries bulk both ways with node:net, past a reader that stops and goes', async () => {
    await using world = await World.open(subject, policy, { heap: { checked: false } });
    const { k } = world;
    const bytes = subject.bulkBytes;
    const block = pattern(8, 65536);
    let received = 0;
    const address = world.serve(function* (conn) {
      const sending = k.spawn(
        (function* () {
          for (let at = 0; at < bytes; at += block.length) yield* conn.push(k.alloc(block.length).fill(block));
          conn.end();
        })(),
      );
      for (;;) {
        const buffer = yield* conn.pop();
        if (buffer === null) break;
        const from = received % block.length;
        const length = Math.min(buffer.length, block.length - from);
        const same = Buffer.compare(buffer.bytes.subarray(0, length), block.subarray(from, from + length));
        assert.equal(same, 0, `bytes from ${received} on`);
        received += buffer.length;
        buffer.release();
      }
      yield* sending.join();
    });
    const socket = await dial(address, { allowHalfOpen: true });
    const writing = (async () => {
      for (let at = 0; at < bytes; at += block.length) if (!socket.write(block)) await once(socket, 'drain');
      socket.end();
    })();
    let got = 0;
    let pauses = 0;
    for await (const part of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      for (let at = 0; at < part.length; ) {
        const from = got % block.length;
        const length = Math.min(part.length - at, block.length - from);
        assert.equal(Buffer.compare(part.subarray(at, at + length), block.subarray(from, from + length)), 0);
        got += length;
        at += length;
      }
      if (++pauses % 32 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await writing;
    assert.equal(got, bytes);
    await until(() => received === bytes, 'the server has read all of it');
  });

  it('half-closes with node:net, either side first', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const late = await dial(
      world.serve(function* (conn) {
        const request = yield* readAll(conn);
        yield* k.sleep(2);
        yield* conn.write(`got ${request}`);
      }),
      { allowHalfOpen: true },
    );
    late.end('the request');
    assert.equal((await readSocket(late)).toString(), 'got the request');
    let heard = '';
    const early = await dial(
      world.serve(function* (conn) {
        yield* conn.write('bye');
        conn.end();
        heard = (yield* readAll(conn)).toString();
      }),
      { allowHalfOpen: true },
    );
    assert.equal((await readSocket(early)).toString(), 'bye');
    early.end('and goodbye');
    await until(() => heard === 'and goodbye', 'the server hears what comes after its own end');
  });

  it('sees the reset of a peer, in pop and in push', async () => {
    await using world = await World.open(subject, policy);
    const codes: string[] = [];
    const address = world.serve(function* (conn) {
      codes.push(yield* failureOf(conn.pop()));
      let code = '';
      for (let i = 0; i < 100 && code === ''; i++) code = yield* failureOf(conn.write('still there?'));
      codes.push(code);
    });
    const socket = await dial(address);
    socket.resetAndDestroy();
    await until(() => codes.length === 2, 'both calls have failed');
    assert.equal(codes[0], 'ECONNRESET');
    assert.match(codes[1]!, /^(ECONNRESET|EPIPE)$/);
  });

  it('resets a peer by abort', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const socket = await dial(listener.address);
    const failed = once(socket, 'error');
    (await listener.accept()).abort();
    assert.equal(((await failed) as NodeJS.ErrnoException).code, 'ECONNRESET');
  });

  it('fails a pending push when a peer that never read resets', async () => {
    await using world = await World.open(subject, policy, { sendLimit: 1 << 18 });
    const { k } = world;
    let code = 'none';
    let unsent = 0;
    const address = world.serve(function* (conn) {
      for (;;) {
        const pushing = conn.push(k.alloc(65536));
        unsent = conn.unsent;
        code = yield* failureOf(pushing);
        if (code !== '') return;
      }
    });
    const socket = await dial(address);
    socket.pause();
    await until(() => unsent > 1 << 18, 'the backlog reaches the limit');
    assert.ok(unsent <= (1 << 18) + 65536, `${unsent} unsent: bounded by the limit and one push`);
    socket.resetAndDestroy();
    await until(() => code !== '', 'the push fails');
    assert.match(code, /^(ECONNRESET|EPIPE)$/);
  });

  it('says end of stream when a peer that sent nothing goes away', async () => {
    await using world = await World.open(subject, policy);
    const results: unknown[] = [];
    const address = world.serve(function* (conn) {
      results.push(yield* conn.pop());
    });
    (await dial(address)).destroy();
    await until(() => results.length === 1, 'the pop completes');
    assert.deepEqual(results, [null]);
  });

  it('answers a thousand clients of node:net', async () => {
    await using world = await World.open(subject, policy);
    const address = world.serve(echo);
    const sockets: Socket[] = [];
    for (let i = 0; i < 1000; i += 100) {
      sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => dial(address)))));
    }
    const replies = await Promise.all(
      sockets.map((socket, i) => {
        const reply = once(socket, 'data');
        socket.write(`client ${i}`);
        return reply;
      }),
    );
    for (const [i, reply] of replies.entries()) assert.equal(String(reply), `client ${i}`);
    const ends = sockets.map((socket) => once(socket, 'close'));
    for (const socket of sockets) socket.end();
    await Promise.all(ends);
  });

  it('is full in both directions at many connections at once', async () => {
    await using world = await World.open(subject, policy, { heap: { checked: false } });
    const address = world.serve(echo);
    const sent = pattern(11, 400_000);
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = await dial(address);
        socket.end(sent);
        assert.ok((await readSocket(socket)).equals(sent));
      }),
    );
  });

  for (const [type, host] of [
    ['udp4', '127.0.0.1'],
    ['udp6', '::1'],
  ] as const) {
    it(`answers datagrams of node:dgram (${type})`, async () => {
      await using world = await World.open(subject, policy);
      const { k } = world;
      const server = k.udp({ host });
      k.spawn(
        (function* (): Coroutine {
          for (;;) yield* server.push(yield* server.pop());
        })(),
      );
      const client = createSocket(type);
      const { port } = ip(server.address);
      for (const size of [0, 5, 2048, 2049, 40_000]) {
        const data = pattern(size, size);
        const reply = new Promise<[Buffer, RemoteInfo]>((resolve) =>
          client.once('message', (message, from) => resolve([message, from])),
        );
        client.send(data, port, host);
        const [message, from] = await reply;
        assert.ok(message.equals(data), `${size} bytes`);
        assert.equal(from.port, port);
        assert.equal(from.address, host);
      }
      client.close();
      server.close();
    });
  }

  it('knows where a connection comes from', async () => {
    await using world = await World.open(subject, policy);
    const { k } = world;
    const listener = k.listen({ host: '127.0.0.1' });
    const socket = await dial(listener.address);
    const conn: Connection = await listener.accept();
    assert.deepEqual(conn.remoteAddress, { host: '127.0.0.1', port: socket.localPort });
    assert.deepEqual(conn.localAddress, listener.address);
    socket.destroy();
    conn.close();
  });
}
