/**
 * What our own TCP/IP must do with the kernel's: each trial is run by the tests in small and by the program run.ts in large.
 * A trial fails by an exception; it leaves no connection and no buffer behind, which `settle` waits for.
 */
import assert from 'node:assert/strict';
import type { Connection } from '../../src/kernel/connection.ts';
import type { Coroutine } from '../../src/kernel/scheduler.ts';
import type { Task } from '../../src/kernel/task.ts';
import { Bulk, messageOf } from './exchange.ts';
import type { Ground } from './ground.ts';

/** Which side listens. */
export type Role = 'server' | 'client';

const PIECE_BYTES = 32768;

export function* echo(conn: Connection): Coroutine {
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) return;
    yield* conn.push(buffer);
  }
}

function run<T>({ k }: Ground, coroutine: Coroutine<T>): Promise<T> {
  return Promise.resolve(k.spawn(coroutine).join());
}

/** A server of ours for the length of `use`; ends when every handler has ended well. */
async function serving<T>(
  ground: Ground,
  family: 0 | 1,
  handler: (conn: Connection) => Coroutine<unknown>,
  use: (port: number) => Promise<T>,
): Promise<T> {
  const { k, ours } = ground;
  const listener = k.listen({ host: ours[family], backlog: 4096 });
  const handlers: Task<unknown>[] = [];
  const accepting = k.spawn(
    (function* (): Coroutine {
      for (;;) {
        const conn = yield* listener.accept();
        const task = k.spawn(handler(conn));
        conn.belongTo(task);
        if (handlers.length < 10_000) handlers.push(task);
      }
    })(),
  );
  try {
    const { address } = listener;
    assert.ok('port' in address);
    const result = await use(address.port);
    await Promise.all(handlers.map((task) => task.join()));
    return result;
  } finally {
    accepting.cancel();
    listener.close();
  }
}

function* exchange(ground: Ground, conn: Connection, bytes: number): Coroutine<number> {
  const { k } = ground;
  const incoming = new Bulk(2, bytes);
  const sending = k.spawn(
    (function* (): Coroutine {
      const outgoing = new Bulk(1, bytes);
      for (;;) {
        const buffer = k.alloc(PIECE_BYTES);
        let length = 0;
        // Of several pieces of the pattern, so that buffers end where the pattern does not.
        for (let piece = outgoing.next(); piece !== null; piece = outgoing.next()) {
          const used = Math.min(piece.length, PIECE_BYTES - length);
          buffer.memory.set(piece.subarray(0, used), buffer.offset + length);
          outgoing.at -= piece.length - used;
          length += used;
          if (length === PIECE_BYTES) break;
        }
        buffer.length = length;
        if (length === 0) {
          buffer.release();
          conn.end();
          return;
        }
        yield* conn.push(buffer);
      }
    })(),
  );
  for (;;) {
    const buffer = yield* conn.pop();
    if (buffer === null) break;
    const wrong = incoming.check(buffer.memory, buffer.offset, buffer.length);
    assert.equal(wrong, -1, `wrong byte at ${wrong}`);
    buffer.release();
  }
  yield* sending.join();
  conn.close();
  assert.equal(incoming.at, bytes);
  return incoming.at;
}

/** `bytes` each way at once on one connection, byte for byte. */
export async function bulk(ground: Ground, role: Role, family: 0 | 1, bytes: number): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  if (role === 'server') {
    const got = await serving(
      ground,
      family,
      (conn) => exchange(ground, conn, bytes),
      (port) => peer.number({ do: 'bulk', host: ours[family], port, bytes }),
    );
    assert.equal(got, bytes);
    return;
  }
  const host = theirs[family];
  const port = await peer.number({ do: 'listen bulk', host, bytes });
  await run(
    ground,
    (function* (): Coroutine {
      yield* exchange(ground, yield* k.connect({ host, port }), bytes);
    })(),
  );
}

function* ask(ground: Ground, conn: Connection, message: string): Coroutine {
  const { k } = ground;
  yield* conn.push(k.alloc(message.length).fill(message));
  let reply = '';
  while (reply.length < message.length) {
    const buffer = yield* conn.pop();
    assert.ok(buffer !== null, 'the stream goes on');
    reply += buffer.text();
    buffer.release();
  }
  assert.equal(reply, message);
}

/** `count` connections open at once, each with its own messages. */
export async function many(ground: Ground, role: Role, family: 0 | 1, count: number): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  if (role === 'server') {
    const got = await serving(ground, family, echo, (port) =>
      peer.number({ do: 'many', host: ours[family], port, count }),
    );
    assert.equal(got, count);
    return;
  }
  const host = theirs[family];
  const port = await peer.number({ do: 'listen echo', host });
  let open = 0;
  function* client(i: number): Coroutine {
    const conn = yield* k.connect({ host, port });
    open++;
    for (let round = 0; round < 3; round++) yield* ask(ground, conn, messageOf(i, round));
    while (open < count) yield* k.sleep(1);
    conn.end();
    assert.equal(yield* conn.pop(), null);
    conn.close();
  }
  await Promise.all(Array.from({ length: count }, (_, i) => run(ground, client(i))));
}

/** `count` connections one after the other, `parallel` at a time: connect, a message, its echo, close. */
export async function short(ground: Ground, role: Role, family: 0 | 1, count: number, parallel: number): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  if (role === 'server') {
    const got = await serving(ground, family, echo, (port) =>
      peer.number({ do: 'short', host: ours[family], port, count, parallel }),
    );
    assert.equal(got, count);
    return;
  }
  const host = theirs[family];
  const port = await peer.number({ do: 'listen echo', host });
  let begun = 0;
  function* worker(): Coroutine {
    while (begun < count) {
      const i = begun++;
      const conn = yield* k.connect({ host, port });
      yield* ask(ground, conn, messageOf(i, 0));
      conn.end();
      assert.equal(yield* conn.pop(), null);
      conn.close();
    }
  }
  await Promise.all(Array.from({ length: parallel }, () => run(ground, worker())));
}

/** Datagrams of these sizes and their echoes; fragments where they are large. */
export async function datagrams(ground: Ground, role: Role, family: 0 | 1, sizes: readonly number[]): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  if (role === 'server') {
    const socket = k.udp({ host: ours[family] });
    k.spawn(
      (function* (): Coroutine {
        for (;;) yield* socket.push(yield* socket.pop());
      })(),
    );
    const { address } = socket;
    assert.ok('port' in address);
    const got = await peer.number({ do: 'datagrams', host: ours[family], port: address.port, sizes });
    assert.equal(got, sizes.length);
    socket.close();
    return;
  }
  const host = theirs[family];
  const port = await peer.number({ do: 'echo datagrams', host });
  const socket = k.udp({ host: family === 0 ? '0.0.0.0' : '::' });
  await run(
    ground,
    (function* (): Coroutine {
      for (const size of sizes) {
        for (let tries = 0; ; tries++) {
          yield* socket.push(k.alloc(size).fill(new Uint8Array(size).fill(size & 255)), { host, port });
          try {
            const reply = yield* socket.pop({ timeout: 1000 });
            const same = reply.length === size && reply.bytes.every((byte) => byte === (size & 255));
            reply.release();
            if (same) break;
          } catch (error) {
            assert.equal((error as NodeJS.ErrnoException).code, 'ETIMEDOUT');
          }
          assert.ok(tries < 30, `no reply of ${size} bytes`);
        }
      }
    })(),
  );
  socket.close();
}

function* codeOf(coroutine: Coroutine<unknown>): Coroutine<string> {
  try {
    yield* coroutine;
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Nobody listens: refused at once, whoever asks. */
export async function refusals(ground: Ground, family: 0 | 1): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  const listener = k.listen({ host: ours[family] });
  const { address } = listener;
  assert.ok('port' in address);
  assert.equal(await peer.call({ do: 'attempt', host: ours[family], port: address.port }), '');
  listener.close();
  assert.equal(await peer.call({ do: 'attempt', host: ours[family], port: address.port }), 'ECONNREFUSED');
  const connecting = run(
    ground,
    codeOf(
      (function* (): Coroutine {
        (yield* k.connect({ host: theirs[family], port: 9 })).close();
      })(),
    ),
  );
  assert.equal(await connecting, 'ECONNREFUSED');
}

/** A reset is heard by the other side, whoever sends it. */
export async function resets(ground: Ground, family: 0 | 1): Promise<void> {
  const { k, peer, ours, theirs } = ground;
  const codes: string[] = [];
  const host = ours[family];
  await serving(
    ground,
    family,
    function* (conn) {
      yield* conn.write('hello');
      codes.push(
        yield* codeOf(
          (function* (): Coroutine {
            for (;;) (yield* conn.pop())!.release();
          })(),
        ),
      );
    },
    (port) => peer.call({ do: 'reset', host, port }),
  );
  assert.deepEqual(codes, ['ECONNRESET']);
  const heard = await serving(
    ground,
    family,
    function* (conn) {
      (yield* conn.pop())!.release();
      conn.abort();
    },
    (port) => peer.call({ do: 'await reset', host, port }),
  );
  assert.equal(heard, 'ECONNRESET');
  const port = await peer.number({ do: 'listen reset', host: theirs[family] });
  const code = run(
    ground,
    codeOf(
      (function* (): Coroutine {
        const conn = yield* k.connect({ host: theirs[family], port });
        yield* conn.write('x');
        yield* conn.pop();
      })(),
    ),
  );
  assert.equal(await code, 'ECONNRESET');
}

/** The peer ends its half first, and hears everything that is answered afterwards. */
export async function halfClose(ground: Ground, family: 0 | 1): Promise<void> {
  const { k, peer, ours } = ground;
  const text = 'a request';
  const heard = await serving(
    ground,
    family,
    function* (conn) {
      let request = '';
      for (let buffer = yield* conn.pop(); buffer !== null; buffer = yield* conn.pop()) {
        request += buffer.text();
        buffer.release();
      }
      yield* conn.write(`got ${request}, `);
      yield* k.sleep(2);
      yield* conn.write('and that is all');
    },
    (port) => peer.call({ do: 'half close', host: ours[family], port, text }),
  );
  assert.equal(heard, `got ${text}, and that is all`);
}

/**
 * Nothing is left of what was done: no queue but those of servers that go on, no connection but those that wait for time
 * to pass, no buffer.
 */
export async function settle(ground: Ground, servers = 0): Promise<void> {
  const { k, datapath, atRest, errors } = ground;
  assert.deepEqual(errors, []);
  const { tcp } = datapath;
  const left = (): number => {
    let count = 0;
    for (const c of tcp.table) if (c.sendQueue.count > 0 || c.receiveQueue.count > 0) count++;
    return count;
  };
  const deadline = performance.now() + 30_000;
  // A link may hold some frames more or less than it did at the start; and of datagrams that lost a fragment the others
  // are kept for a while.
  const held = (): number => ground.held - datapath.stack.reassembly.held;
  while (k.openQueues > servers || k.draining > 0 || left() > 0 || held() > atRest + 8) {
    assert.ok(
      performance.now() < deadline,
      `left: ${k.openQueues} queues, ${k.draining} draining, ${left()} with data, ${held() - atRest} buffers`,
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
