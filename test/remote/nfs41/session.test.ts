/**
 * Sessions against a server that loses replies, sessions and itself: what is executed how often, and what the client says.
 */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { Op, Status } from '../../../src/remote/nfs41/constants.ts';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import type { RemoteError } from '../../../src/remote/remote-error.ts';
import type { BatchResult, MakeResult, Operation } from '../../../src/remote/server.ts';
import { FakeServer, type Fault } from './fake-server.ts';

const name = (text: string) => new TextEncoder().encode(text);

async function setUp(t: TestContext, prepare: (fake: FakeServer) => void = () => {}) {
  const fake = await FakeServer.start();
  prepare(fake);
  const server = await Nfs41Server.connect({ host: '127.0.0.1', port: fake.port, path: '/export' });
  t.after(async () => {
    await server.close();
    await fake.stop();
  });
  const mkdir = (text: string) => server.mkdir(server.root, name(text), { mode: 0o755 });
  return { fake, server, mkdir };
}

/** The fault happens to the first COMPOUND that makes something. */
function once(fake: FakeServer, fault: Fault, op: number = Op.create): void {
  let happened = false;
  fake.onCompound = (ops) => {
    if (happened || !ops.includes(op)) return null;
    happened = true;
    return fault;
  };
}

const makeThree = (server: Nfs41Server): Operation[] =>
  ['a', 'b', 'c'].map((text) => ({ op: 'mkdir', directory: server.root, name: name(text), attributes: {} }));

const allOk = (results: readonly BatchResult[]) => results.every((result) => result.ok);

test('a lost reply is answered from the slot: executed once', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'lose-reply' });
  const results = await server.batch(makeThree(server));
  assert.ok(allOk(results));
  assert.deepEqual(fake.effects, ['+a', '+b', '+c']);
  assert.equal(fake.replays, 1);
  assert.equal(server.counters.replays, 1);
});

test('a lost request is executed after the reconnect: once', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'lose-request' });
  assert.ok(allOk(await server.batch(makeThree(server))));
  assert.deepEqual(fake.effects, ['+a', '+b', '+c']);
  assert.equal(fake.replays, 0);
});

test('many batches at once, each reply lost now and then: each executed once, in its own order', async (t) => {
  const { fake, server } = await setUp(t);
  let turn = 0;
  fake.onCompound = () => (++turn % 7 === 0 ? { kind: turn % 2 === 0 ? 'lose-reply' : 'lose-request' } : null);
  const batches = Array.from({ length: 60 }, (_, i) =>
    server.batch([
      { op: 'mkdir', directory: server.root, name: name(`d${i}`), attributes: {} },
      { op: 'rmdir', directory: server.root, name: name(`d${i}`) },
      { op: 'mkdir', directory: server.root, name: name(`e${i}`), attributes: {} },
    ]),
  );
  for (const results of await Promise.all(batches)) assert.ok(allOk(results));
  assert.equal(fake.effects.length, 180);
  for (let i = 0; i < 60; i++) {
    const own = fake.effects.filter((effect) => effect.slice(2) === String(i));
    assert.deepEqual(own, [`+d${i}`, `-d${i}`, `+e${i}`]);
  }
});

test('a session the server has forgotten is replaced, and the request not executed is sent again', async (t) => {
  const { fake, server, mkdir } = await setUp(t);
  fake.forgetSessions();
  await mkdir('a');
  assert.deepEqual(fake.effects, ['+a']);
  assert.equal(fake.sessionsMade, 2);
  assert.equal(fake.exchanges, 1, 'the client id lives on');
  assert.equal(server.session.renewals, 1);
});

test('a restarted server gets a new client id; what only looks is simply asked again', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'crash-after' }, Op.getattr);
  const attributes = await server.getattr(server.root);
  assert.equal(attributes.fileidLow, 1);
  assert.equal(fake.exchanges, 2);
});

for (const kind of ['crash-after', 'crash-before'] as const) {
  test(`a change in flight when the server crashed (${kind}) is settled by the names it makes`, async (t) => {
    const { fake, server } = await setUp(t);
    once(fake, { kind });
    const results = await server.batch(makeThree(server));
    assert.ok(allOk(results) && results.length === 3);
    assert.deepEqual(fake.effects, ['+a', '+b', '+c']);
    assert.equal(server.batchCounters.settled, 1);
    for (const result of results) {
      assert.ok(result.ok);
      const { handle, attributes } = result.value as MakeResult;
      assert.equal(attributes.fileidLow, handle[4]);
    }
  });

  test(`where the names leave it open (${kind}) it is indeterminate, never silently repeated`, async (t) => {
    const { fake, server } = await setUp(t);
    once(fake, { kind });
    const results = await server.batch([
      { op: 'mkdir', directory: server.root, name: name('a'), attributes: {} },
      { op: 'rmdir', directory: server.root, name: name('a') },
    ]);
    assert.equal(results.length, 1);
    const [result] = results;
    assert.ok(result !== undefined && !result.ok);
    const error = result.error as RemoteError;
    assert.equal(error.code, 'ECONNRESET');
    assert.equal(error.indeterminate, true);
    assert.deepEqual(fake.effects, kind === 'crash-after' ? ['+a', '-a'] : []);
    // And the next one works.
    await server.mkdir(server.root, name('d'), {});
    assert.equal(fake.effects.at(-1), '+d');
  });
}

test('a reply the server did not keep is settled in the same way', async (t) => {
  const { fake, mkdir } = await setUp(t, (server) => {
    server.keeps = false;
  });
  once(fake, { kind: 'lose-reply' });
  await mkdir('a');
  await mkdir('b');
  assert.deepEqual(fake.effects, ['+a', '+b']);
});

test('later (NFS4ERR_DELAY) on SEQUENCE, on an operation and behind one: only what is missing is asked again', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'status', op: Op.sequence, status: Status.delay });
  assert.ok(allOk(await server.batch(makeThree(server))));
  assert.deepEqual(fake.effects, ['+a', '+b', '+c']);

  let creates = 0;
  fake.onCompound = (ops) => {
    if (!ops.includes(Op.remove)) return null;
    return creates++ === 0 ? { kind: 'status', op: Op.remove, status: Status.delay } : null;
  };
  const results = await server.batch([
    { op: 'mkdir', directory: server.root, name: name('d'), attributes: {} },
    { op: 'rmdir', directory: server.root, name: name('d') },
  ]);
  assert.ok(allOk(results));
  assert.deepEqual(fake.effects.slice(3), ['+d', '-d']);
});

test('what completes an answer may fail: the operation is done and is looked at again', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'status', op: Op.getattr, status: Status.delay });
  const made = await server.mkdir(server.root, name('a'), {});
  assert.deepEqual(fake.effects, ['+a']);
  assert.deepEqual([...made.handle], [0, 0, 0, 0, 2]);
});

test('a batch stops at the first failure and says which', async (t) => {
  const { fake, server } = await setUp(t);
  const [a, b, c] = makeThree(server) as [Operation, Operation, Operation];
  const results = await server.batch([a, b, b, c]);
  assert.deepEqual(
    results.map((result) => result.ok),
    [true, true, false],
  );
  const failed = results[2]!;
  assert.ok(!failed.ok && (failed.error as RemoteError).code === 'EEXIST');
  assert.deepEqual(fake.effects, ['+a', '+b']);
});

test('a batch larger than the session allows becomes several COMPOUNDs, one after the other', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxOperations = 16;
  });
  const before = fake.compounds.length;
  const operations: Operation[] = Array.from({ length: 20 }, (_, i) => ({
    op: 'mkdir',
    directory: i === 0 ? server.root : { from: i - 1 },
    name: name(`d${i}`),
    attributes: {},
  }));
  const results = await server.batch(operations);
  assert.ok(allOk(results) && results.length === 20);
  assert.deepEqual(
    fake.effects,
    Array.from({ length: 20 }, (_, i) => `+d${i}`),
  );
  const sent = fake.compounds.slice(before);
  assert.ok(sent.length > 1);
  for (const ops of sent) assert.ok(ops.length <= 16, `${ops.length} operations`);
  assert.equal(server.batchCounters.compounds, sent.length);
});

test('more requests than slots wait for one; a server that wants fewer slots gets fewer', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxSlots = 2;
  });
  fake.targetSlot = 0;
  await Promise.all(Array.from({ length: 50 }, () => server.getattr(server.root)));
  await Promise.all(Array.from({ length: 50 }, (_, i) => server.mkdir(server.root, name(`d${i}`), {})));
  assert.equal(fake.effects.length, 50);
});

test('no answer in time: indeterminate for a change, not for a look; the slot is not used again', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxSlots = 4;
  });
  once(fake, { kind: 'silence' });
  await assert.rejects(server.mkdir(server.root, name('a'), {}, { timeoutMs: 50 }), {
    code: 'ETIMEDOUT',
    indeterminate: true,
  });
  once(fake, { kind: 'silence' }, Op.getattr);
  await assert.rejects(server.getattr(server.root, { timeoutMs: 50 }), { code: 'ETIMEDOUT', indeterminate: false });
  // Half of the slots are in doubt now: another session takes over.
  await server.mkdir(server.root, name('b'), {});
  assert.equal(fake.effects.at(-1), '+b');
  assert.equal(server.session.renewals, 1);
});

test('the only slot that the server wants in use is in doubt: another session takes over', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxSlots = 4;
  });
  fake.targetSlot = 0;
  await server.getattr(server.root);
  once(fake, { kind: 'silence' }, Op.getattr);
  await assert.rejects(server.getattr(server.root, { timeoutMs: 50 }), { code: 'ETIMEDOUT' });
  await server.mkdir(server.root, name('a'), {}, { timeoutMs: 20_000 });
  assert.deepEqual([fake.effects, server.session.renewals], [['+a'], 1]);
});

test('a session that could not be replaced is replaced by whoever comes next', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxSlots = 1;
  });
  let silent = true;
  let refused = 0;
  fake.onCompound = (ops) => {
    if (ops.includes(Op.getattr) && silent) return { kind: 'silence' };
    if (!ops.includes(Op.createSession) || refused++ > 0) return null;
    return { kind: 'status', op: Op.createSession, status: Status.inval };
  };
  await assert.rejects(server.getattr(server.root, { timeoutMs: 50 }), { code: 'ETIMEDOUT' });
  silent = false;
  // This one may still be told of the attempt that failed.
  await server.mkdir(server.root, name('a'), {}, { timeoutMs: 20_000 }).catch(() => {});
  await server.mkdir(server.root, name('b'), {}, { timeoutMs: 20_000 });
  assert.equal(fake.effects.at(-1), '+b');
  assert.ok(refused >= 2);
});

test('every wait is bounded: for a slot, for a session, for a server that is gone', async (t) => {
  const { fake, server } = await setUp(t, (server) => {
    server.maxSlots = 1;
  });
  fake.onCompound = () => ({ kind: 'silence' });
  const slow = server.getattr(server.root, { timeoutMs: 300 });
  slow.catch(() => {});
  // The only slot is taken.
  await assert.rejects(server.mkdir(server.root, name('a'), {}, { timeoutMs: 50 }), {
    code: 'ETIMEDOUT',
    indeterminate: false,
  });
  await assert.rejects(slow, { code: 'ETIMEDOUT' });
  // The slot is in doubt, so there is to be a new session, of which nothing is heard either.
  await assert.rejects(server.mkdir(server.root, name('b'), {}, { timeoutMs: 50 }), {
    code: 'ETIMEDOUT',
    indeterminate: false,
  });
  fake.onCompound = () => null;
  fake.cut();
  await server.mkdir(server.root, name('c'), {});
  assert.deepEqual(fake.effects, ['+c']);
});

test('an abort ends the wait at once and leaves the session usable', async (t) => {
  const { fake, server } = await setUp(t);
  const abort = new AbortController();
  fake.onCompound = (ops) => {
    if (ops.includes(Op.create)) queueMicrotask(() => abort.abort());
    return null;
  };
  const results = await server.batch(makeThree(server), { signal: abort.signal });
  assert.equal(results.length, 1);
  assert.ok(!results[0]!.ok && results[0]!.error.name === 'AbortError');
  fake.onCompound = () => null;
  await server.mkdir(server.root, name('z'), {});
  await assert.rejects(server.getattr(server.root, { signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test('nonsense in a reply is EPROTO, and the session goes on', async (t) => {
  const { fake, server } = await setUp(t);
  once(fake, { kind: 'mangle', mangle: (reply) => reply.subarray(0, reply.length - 8) }, Op.getattr);
  await assert.rejects(server.getattr(server.root), { code: 'EPROTO' });
  assert.equal((await server.getattr(server.root)).type, 2);
});

test('a server without minor version 1 is told apart', async (t) => {
  const fake = await FakeServer.start();
  t.after(() => fake.stop());
  fake.minorVersions = [0];
  await assert.rejects(Nfs41Server.connect({ host: '127.0.0.1', port: fake.port, path: '/' }), {
    code: 'EPROTONOSUPPORT',
  });
});

test('a reference to what is no earlier object of the batch is the caller’s mistake', async (t) => {
  const { server } = await setUp(t);
  const wrong: Operation[][] = [
    [{ op: 'getattr', handle: { from: 0 } }],
    [
      { op: 'getattr', handle: server.root },
      { op: 'getattr', handle: { from: 0 } },
    ],
  ];
  for (const operations of wrong) await assert.rejects(server.batch(operations), RangeError);
});

test('close gives back session and client id', async (t) => {
  const { fake, server } = await setUp(t);
  await server.close();
  assert.deepEqual(fake.compounds.slice(-2), [[Op.destroySession], [Op.destroyClientid]]);
  await assert.rejects(server.getattr(server.root), { code: 'ECANCELED' });
});
