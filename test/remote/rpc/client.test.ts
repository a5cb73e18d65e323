/** The RPC client against a server whose every answer is written here. It touches loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { type RemoteError, statusError } from '../../../src/remote/remote-error.ts';
import { RpcClient, type RpcOptions } from '../../../src/remote/rpc/client.ts';
import { type Procedure, TryLater } from '../../../src/remote/rpc/message.ts';
import { XdrWriter } from '../../../src/remote/xdr.ts';
import { type FakeCall, FakeServer, successReply, toRecord } from './fake-server.ts';

/** Gives back its number plus one; the server may answer 0 for "later", 1 for "no such file". */
const PLUS_ONE: Procedure<number, number> = {
  name: 'PLUS_ONE',
  program: 77,
  version: 3,
  number: 5,
  idempotent: true,
  encode: (writer, n) => writer.u32(n),
  decode(reader) {
    const value = reader.u32();
    if (value === 0) throw new TryLater(statusError('PLUS_ONE', 10008));
    if (value === 1) throw statusError('PLUS_ONE', 2);
    return value;
  },
};

const plusOne = (call: FakeCall): void => {
  const n = call.args.u32();
  call.reply((writer) => writer.u32(n + 1));
};

async function client(t: TestContext, server: FakeServer, options: Partial<RpcOptions> = {}): Promise<RpcClient> {
  const rpc = await RpcClient.connect({
    host: '127.0.0.1',
    port: server.port,
    credential: { uid: 7, gid: 8, groups: [9, 10] },
    timeoutMs: 30_000,
    backoffMs: [1, 5],
    ...options,
  });
  t.after(() => rpc.close());
  return rpc;
}

const rejects = (promise: Promise<unknown>, code: string, more: Partial<RemoteError> = {}) =>
  assert.rejects(promise, (error: RemoteError) => {
    assert.equal(error.code, code, String(error));
    for (const [key, value] of Object.entries(more)) assert.equal(error[key as keyof RemoteError], value, key);
    return true;
  });

test('a call carries program, version, procedure and AUTH_SYS, and its reply comes back', async (t) => {
  const server = await FakeServer.start(t, plusOne);
  const rpc = await client(t, server);
  assert.equal(await rpc.call(PLUS_ONE, 41), 42);
  const call = server.calls[0] as FakeCall;
  assert.deepEqual([call.program, call.version, call.procedure, call.flavour], [77, 3, 5, 1]);
  const body = Buffer.from(call.credential);
  const afterName = 8 + ((body.readUInt32BE(4) + 3) & ~3);
  const numbers = Array.from({ length: 5 }, (_, i) => body.readUInt32BE(afterName + 4 * i));
  assert.deepEqual(numbers, [7, 8, 2, 9, 10]);
  assert.equal(await rpc.call(PLUS_ONE, 1, { credential: { uid: 99, gid: 1, groups: [] } }), 2);
  assert.equal(Buffer.from((server.calls[1] as FakeCall).credential).readUInt32BE(afterName), 99);
});

test('replies in any order and in any pieces find their calls', async (t) => {
  const waiting: FakeCall[] = [];
  const server = await FakeServer.start(t, (call) => {
    waiting.push(call);
    if (waiting.length < 100) return;
    const stream = Buffer.concat(
      waiting.reverse().map((c, i) => {
        const n = c.args.view.getUint32(0);
        return toRecord(
          successReply(c.xid, (w) => w.u32(n + 2)),
          1 + (i % 30),
        );
      }),
    );
    for (let at = 0; at < stream.length; at += 333) call.socket.write(stream.subarray(at, at + 333));
  });
  const rpc = await client(t, server);
  // The argument is read from what was decoded when the call came; here only the order matters.
  const seen = new Map<number, number>();
  server.onCall = ((onCall) => (call: FakeCall) => {
    seen.set(call.xid, call.args.u32());
    onCall({ ...call, args: { view: new DataView(new Uint32Array([0]).buffer) } as unknown as FakeCall['args'] });
  })(server.onCall);
  const results = await Promise.all(Array.from({ length: 100 }, (_, i) => rpc.call(PLUS_ONE, i)));
  assert.deepEqual(results, Array(100).fill(2));
  assert.equal(new Set(seen.keys()).size, 100, 'every xid is different');
  assert.deepEqual(
    [...seen.values()].sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
  );
});

test('calls made together leave in one piece', async (t) => {
  let pieces = 0;
  const server = await FakeServer.start(t, plusOne);
  const rpc = await client(t, server);
  await rpc.call(PLUS_ONE, 1);
  (server.calls[0] as FakeCall).socket.on('data', () => pieces++);
  await Promise.all(Array.from({ length: 200 }, (_, i) => rpc.call(PLUS_ONE, i + 1)));
  assert.ok(pieces < 20, `${pieces} pieces`);
});

test('no more calls are on the wire than allowed, and the rest follow', async (t) => {
  const held: FakeCall[] = [];
  const server = await FakeServer.start(t, (call) => {
    held.push(call);
    assert.ok(held.length <= 4, `${held.length} outstanding`);
    if (held.length === 4) for (const c of held.splice(0)) c.reply((w) => w.u32(5));
  });
  const rpc = await client(t, server, { maxOutstanding: 4 });
  const results = await Promise.all(Array.from({ length: 40 }, () => rpc.call(PLUS_ONE, 1)));
  assert.equal(results.length, 40);
  await rejects(
    Promise.all(Array.from({ length: 10 }, () => client(t, server, { maxOutstanding: 1, maxQueued: 2 }))).then(
      async ([small]) => {
        const calls = Array.from({ length: 4 }, () => small!.call(PLUS_ONE, 1));
        for (const call of calls.slice(0, 3)) call.catch(() => {});
        return calls[3];
      },
    ),
    'ENOBUFS',
    { indeterminate: false },
  );
});

test('requests that are large in sum wait for one another', async (t) => {
  let outstanding = 0;
  const BIG: Procedure<Uint8Array, number> = {
    ...(PLUS_ONE as unknown as Procedure<Uint8Array, number>),
    encode: (writer, bytes) => writer.opaque(bytes),
  };
  const server = await FakeServer.start(t, (call) => {
    outstanding++;
    assert.ok(outstanding <= 3, `${outstanding} outstanding`);
    setImmediate(() => {
      outstanding--;
      call.reply((w) => w.u32(call.args.end));
    });
  });
  const rpc = await client(t, server, { maxOutstandingBytes: 200_000 });
  const results = await Promise.all(Array.from({ length: 12 }, () => rpc.call(BIG, new Uint8Array(100_000))));
  assert.equal(results.length, 12);
});

test('a lost connection: what is outstanding is sent again, with the same xid', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    if (call.connection === 1 && server.calls.length < 20) return;
    if (call.connection === 1) server.cut();
    else plusOne(call);
  });
  const rpc = await client(t, server);
  const results = await Promise.all(Array.from({ length: 20 }, (_, i) => rpc.call(PLUS_ONE, i + 10)));
  assert.deepEqual(
    results,
    Array.from({ length: 20 }, (_, i) => i + 11),
  );
  const [first, second] = [1, 2].map((n) => server.calls.filter((c) => c.connection === n).map((c) => c.xid));
  assert.deepEqual(second, first);
  assert.equal(rpc.counters.replays, 20);
  assert.equal(rpc.counters.reconnects, 1);
});

test('a connection lost in the middle of a reply', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    const record = toRecord(successReply(call.xid, (w) => w.u32(9)));
    if (call.connection < 4) call.socket.end(record.subarray(0, 7 * call.connection));
    else call.socket.write(record);
  });
  const rpc = await client(t, server);
  assert.equal(await rpc.call(PLUS_ONE, 1), 9);
  assert.equal(server.connections, 4);
});

test('a server that is away for a while is waited for', async (t) => {
  const server = await FakeServer.start(t, plusOne);
  const rpc = await client(t, server);
  await server.stopListening();
  const call = rpc.call(PLUS_ONE, 3);
  await new Promise((resolve) => setTimeout(resolve, 30));
  await server.listen();
  assert.equal(await call, 4);
});

test('no server at all is said at once', async (t) => {
  const server = await FakeServer.start(t, plusOne);
  await server.stopListening();
  await rejects(client(t, server), 'ECONNREFUSED');
});

test('an error after a replay says so; the first time it does not', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    if (call.connection === 1 && server.calls.length === 2) server.cut();
    else call.reply((w) => w.u32(1));
  });
  const rpc = await client(t, server);
  await rejects(rpc.call(PLUS_ONE, 1), 'ENOENT', { replayed: false, status: 2 });
  await rejects(rpc.call(PLUS_ONE, 1), 'ENOENT', { replayed: true, status: 2 });
});

test('a silent server is given up, and the call is tried on a new connection', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    if (call.connection > 1) plusOne(call);
  });
  const rpc = await client(t, server, { stallMs: 50 });
  assert.equal(await rpc.call(PLUS_ONE, 5), 6);
  assert.ok(server.connections >= 2);
});

test('no answer in time is ETIMEDOUT, and its late reply meets nobody', async (t) => {
  const held: FakeCall[] = [];
  const server = await FakeServer.start(t, (call) => {
    if (call.args.u32() === 1) held.push(call);
    else call.reply((w) => w.u32(50));
  });
  const rpc = await client(t, server);
  await rejects(rpc.call(PLUS_ONE, 1, { timeoutMs: 20 }), 'ETIMEDOUT', { indeterminate: true });
  held[0]?.reply((w) => w.u32(666));
  assert.equal(await rpc.call(PLUS_ONE, 2), 50);
  assert.equal(rpc.unmatched, 1);
});

test('abort: before, while waiting, and the others go on', async (t) => {
  const held: FakeCall[] = [];
  const server = await FakeServer.start(t, (call) => held.push(call));
  const rpc = await client(t, server);
  await assert.rejects(rpc.call(PLUS_ONE, 1, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  const controller = new AbortController();
  const [aborted, other] = [rpc.call(PLUS_ONE, 1, { signal: controller.signal }), rpc.call(PLUS_ONE, 2)];
  const why = new Error('enough');
  controller.abort(why);
  await assert.rejects(aborted, why);
  while (held.length < 2) await new Promise((resolve) => setImmediate(resolve));
  for (const call of held) call.reply((w) => w.u32(8));
  assert.equal(await other, 8);
});

test('close: what is outstanding is cancelled, and nothing can be called', async (t) => {
  const server = await FakeServer.start(t, () => {});
  const rpc = await client(t, server);
  const call = rpc.call(PLUS_ONE, 1);
  call.catch(() => {});
  await rpc.close();
  await rejects(call, 'ECANCELED');
  await rejects(rpc.call(PLUS_ONE, 1), 'ECANCELED');
});

test('"ask later" is asked again, under a new xid, until time is up', async (t) => {
  const server = await FakeServer.start(t, (call) => call.reply((w) => w.u32(server.calls.length < 4 ? 0 : 7)));
  const rpc = await client(t, server);
  assert.equal(await rpc.call(PLUS_ONE, 1), 7);
  assert.equal(new Set(server.calls.map((call) => call.xid)).size, 4);
  server.onCall = (call) => call.reply((w) => w.u32(0));
  await rejects(rpc.call(PLUS_ONE, 1, { timeoutMs: 700 }), 'EAGAIN', { status: 10008 });
});

/** What a reply may be, and what becomes of it. */
const REPLIES: readonly [what: string, words: readonly number[], code: string][] = [
  ['garbage arguments', [0, 0, 0, 4], 'EOPNOTSUPP'],
  ['no such program', [0, 0, 0, 1], 'EOPNOTSUPP'],
  ['other versions', [0, 0, 0, 2, 2, 3], 'EOPNOTSUPP'],
  ['no such procedure', [0, 0, 0, 3], 'EOPNOTSUPP'],
  ['a system error', [0, 0, 0, 5], 'EIO'],
  ['an unknown accept status', [0, 0, 0, 6], 'EPROTO'],
  ['another RPC version', [1, 0, 2, 2], 'EOPNOTSUPP'],
  ['a refused credential', [1, 1, 1], 'EACCES'],
  ['an unknown refusal', [1, 9], 'EPROTO'],
  ['an unknown reply status', [7], 'EPROTO'],
  ['a verifier too long', [0, 0, 4000, 0], 'EPROTO'],
  ['nothing', [], 'EPROTO'],
  ['a header cut off', [0, 0], 'EPROTO'],
  ['results cut off', [0, 0, 0, 0], 'EPROTO'],
  ['results too long', [0, 0, 0, 0, 44, 45], 'EPROTO'],
];

test('every wrong reply is a typed error of its call alone', async (t) => {
  let words: readonly number[] = [];
  const server = await FakeServer.start(t, (call) => {
    if (call.args.u32() === 9) return call.reply((w) => w.u32(99));
    const writer = new XdrWriter();
    for (const word of [call.xid, 1, ...words]) writer.u32(word);
    call.socket.write(toRecord(writer.toBytes()));
  });
  const rpc = await client(t, server);
  for (const [what, reply, code] of REPLIES) {
    words = reply;
    const [, good] = await Promise.all([rejects(rpc.call(PLUS_ONE, 1), code), rpc.call(PLUS_ONE, 9)]);
    assert.equal(good, 99, what);
  }
  assert.equal(server.connections, 1);
});

test('unknown xids and message types are counted and harmless', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    call.socket.write(toRecord(successReply(call.xid + 1, (w) => w.u32(13))));
    call.socket.write(toRecord(new Uint8Array([0, 0, 0, 1, 0, 0, 0, 5])));
    call.reply((w) => w.u32(4));
    call.socket.write(toRecord(successReply(call.xid, (w) => w.u32(13))));
  });
  const rpc = await client(t, server);
  assert.equal(await rpc.call(PLUS_ONE, 1), 4);
  assert.equal(await rpc.call(PLUS_ONE, 1), 4);
  assert.ok(rpc.unmatched >= 4);
});

test('a stream that is no RPC ends with EPROTO, not with a loop', async (t) => {
  const server = await FakeServer.start(t, (call) => call.socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const rpc = await client(t, server);
  await rejects(rpc.call(PLUS_ONE, 1), 'EPROTO');
  assert.ok(server.connections <= 4);
});

test('a record too short for a header costs the connection, not the call', async (t) => {
  const server = await FakeServer.start(t, (call) => {
    if (call.connection === 1) call.socket.write(toRecord(new Uint8Array(3)));
    else plusOne(call);
  });
  const rpc = await client(t, server);
  assert.equal(await rpc.call(PLUS_ONE, 1), 2);
});

test('calls from the server are answered: PROG_UNAVAIL, or by whom they are meant for', async (t) => {
  const replies: Buffer[] = [];
  const server = await FakeServer.start(t, plusOne);
  const rpc = await client(t, server, {
    onCall: (reader, writer) => {
      reader.u32();
      writer.halves(0, 0);
      writer.halves(0, 0);
      writer.u32(0xabcd);
    },
  });
  const plain = await client(t, server);
  for (const each of [rpc, plain]) {
    await each.call(PLUS_ONE, 1);
    const { socket } = server.calls.at(-1) as FakeCall;
    socket.removeAllListeners('data');
    const call = new XdrWriter();
    for (const word of [0x1234, 0, 2, 0x40000000, 1, 0, 0, 0, 0, 0]) call.u32(word);
    socket.write(toRecord(call.toBytes()));
    const [reply] = (await once(socket, 'data')) as [Buffer];
    replies.push(reply.subarray(4));
  }
  assert.equal(
    replies[0]?.toString('hex'),
    '00001234000000010000000000000000000000000000 0000 0000abcd'.replaceAll(' ', ''),
  );
  assert.equal(replies[1]?.toString('hex'), '000012340000000100000000000000000000000000000001');
});

test('an encoder that throws fails its call and leaves the stream whole', async (t) => {
  const server = await FakeServer.start(t, plusOne);
  const rpc = await client(t, server);
  const BAD: Procedure<number, number> = {
    ...PLUS_ONE,
    encode(writer) {
      writer.opaque(new Uint8Array(50_000));
      throw new RangeError('no such number');
    },
  };
  const [bad, good] = [rpc.call(BAD, 1), rpc.call(PLUS_ONE, 2)];
  await assert.rejects(bad, RangeError);
  assert.equal(await good, 3);
});
