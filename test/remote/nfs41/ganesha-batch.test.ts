/**
 * Batches against a real nfs-ganesha: what travels in one round trip, and the order of what is in it.
 */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import type { Operation, ResultByName } from '../../../src/remote/server.ts';
import { all, bytes, remoteTests, roundTrips, text } from './remote-tests.ts';

const remote = remoteTests();

remote(
  '15 files made, written and closed in one round trip; 40 with times and COMMIT in three',
  async ({ server, dir, path }) => {
    const make = (i: number): Operation => ({
      op: 'create',
      directory: dir,
      name: bytes(`f${i}`),
      mode: 'guarded',
      attributes: { mode: 0o444 },
    });
    const some: Operation[] = [];
    for (let i = 0; i < 15; i++) {
      const from = some.length;
      const data = bytes(`content ${i}`);
      some.push(make(i), { op: 'write', handle: { from }, offset: 0, data, stability: 'unstable' });
    }
    const [values, trips] = await roundTrips(server, () => all(server, some));
    assert.equal(trips, 1);
    assert.equal((values[0] as ResultByName['create']).attributes.size, 9);
    for (let i = 0; i < 15; i++) assert.equal(readFileSync(join(path, `f${i}`), 'utf8'), `content ${i}`);

    const more: Operation[] = [];
    for (let i = 15; i < 55; i++) {
      const from = more.length;
      more.push(
        make(i),
        { op: 'write', handle: { from }, offset: 0, data: bytes(`content ${i}`), stability: 'unstable' },
        { op: 'setattr', handle: { from }, attributes: { mtime: { seconds: 1000 + i, nanoseconds: 0 } } },
        { op: 'commit', handle: { from }, offset: 0, length: 0 },
      );
    }
    const [, moreTrips] = await roundTrips(server, () => all(server, more));
    assert.equal(moreTrips, 3);
    for (let i = 15; i < 55; i++) {
      assert.equal(readFileSync(join(path, `f${i}`), 'utf8'), `content ${i}`);
      assert.equal(statSync(join(path, `f${i}`)).mtimeMs, (1000 + i) * 1000);
    }
  },
);

remote(
  'a server that grants more operations than it takes gets fewer from then on',
  async ({ ganesha, server, dir }) => {
    const address = { host: '127.0.0.1', port: ganesha.port, path: '/export' };
    const greedy = await Nfs41Server.connect({ ...address, maxOperations: 900 });
    try {
      const operations: Operation[] = Array.from({ length: 100 }, (_, i) => ({
        op: 'mkdir',
        directory: dir,
        name: bytes(`d${i}`),
        attributes: {},
      }));
      await all(greedy, operations);
      assert.equal((await server.readdir(dir, null, false)).entries.length, 100);
    } finally {
      await greedy.close();
    }
  },
);

remote(
  'a tree whose handles are not known: directories in directories, links, renames, in one round trip',
  async ({ server, dir, path }) => {
    const [, trips] = await roundTrips(server, () =>
      all(server, [
        { op: 'mkdir', directory: dir, name: bytes('a'), attributes: { mode: 0o755 } },
        { op: 'mkdir', directory: { from: 0 }, name: bytes('b'), attributes: { mode: 0o755 } },
        { op: 'create', directory: { from: 1 }, name: bytes('c'), mode: 'guarded', attributes: { mode: 0o644 } },
        {
          op: 'create',
          directory: { from: 0 },
          name: bytes('d'),
          mode: 'exclusive',
          attributes: {},
          verifier: { high: 5, low: 6 },
        },
        { op: 'write', handle: { from: 2 }, offset: 0, data: bytes('first'), stability: 'unstable' },
        { op: 'write', handle: { from: 3 }, offset: 0, data: bytes('second'), stability: 'unstable' },
        {
          op: 'rename',
          fromDirectory: { from: 1 },
          fromName: bytes('c'),
          toDirectory: { from: 0 },
          toName: bytes('e'),
        },
        { op: 'write', handle: { from: 2 }, offset: 5, data: bytes(' and last'), stability: 'unstable' },
        { op: 'link', handle: { from: 3 }, directory: { from: 1 }, name: bytes('d2') },
        { op: 'rename', fromDirectory: dir, fromName: bytes('a'), toDirectory: dir, toName: bytes('z') },
        { op: 'symlink', directory: { from: 1 }, name: bytes('s'), target: bytes('d2'), attributes: {} },
        { op: 'readdir', directory: { from: 1 }, position: null, plus: false },
        { op: 'read', handle: { from: 2 }, offset: 0, length: 100 },
      ]),
    );
    assert.equal(trips, 1);
    assert.equal(readFileSync(join(path, 'z/e'), 'utf8'), 'first and last');
    assert.equal(readFileSync(join(path, 'z/b/s'), 'utf8'), 'second');
  },
);

remote('an object whose name is taken away within the batch is still the object', async ({ server, dir, path }) => {
  writeFileSync(join(path, 'x'), 'old');
  const [values] = await roundTrips(server, () =>
    all(server, [
      { op: 'lookup', directory: dir, name: bytes('x') },
      { op: 'create', directory: dir, name: bytes('t'), mode: 'guarded', attributes: {} },
      { op: 'write', handle: { from: 1 }, offset: 0, data: bytes('new'), stability: 'unstable' },
      { op: 'rename', fromDirectory: dir, fromName: bytes('x'), toDirectory: dir, toName: bytes('y') },
      { op: 'rename', fromDirectory: dir, fromName: bytes('t'), toDirectory: dir, toName: bytes('x') },
      { op: 'read', handle: { from: 0 }, offset: 0, length: 10 },
      { op: 'read', handle: { from: 1 }, offset: 0, length: 10 },
    ]),
  );
  assert.equal(text(values[5].data), 'old');
  assert.equal(text(values[6].data), 'new');
});

remote('a hypothesis that holds lets the rest pass; one that does not stops it', async ({ server, dir, path }) => {
  const { handle, attributes } = await server.create(dir, bytes('f'), 'guarded', {});
  const change = { high: attributes.changeHigh, low: attributes.changeLow };
  const operations: Operation[] = [
    { op: 'verify', handle, change },
    { op: 'write', handle, offset: 0, data: bytes('mine'), stability: 'fileSync' },
    { op: 'mkdir', directory: dir, name: bytes('d'), attributes: {} },
  ];
  const [results, trips] = await roundTrips(server, () => server.batch(operations));
  assert.deepEqual(
    results.map((result) => result.ok),
    [true, true, true],
  );
  assert.equal(trips, 1);
  writeFileSync(join(path, 'f'), 'theirs');
  const again = await server.batch(operations);
  assert.equal(again.length, 1);
  assert.ok(!again[0]!.ok && (again[0]!.error as NodeJS.ErrnoException).code === 'ERR_NFS_NOT_SYNC');
  assert.equal(readFileSync(join(path, 'f'), 'utf8'), 'theirs');
  const now = await server.getattr(handle);
  await assert.rejects(server.setattr(handle, { mode: 0o600 }, change), { code: 'ERR_NFS_NOT_SYNC' });
  await server.setattr(handle, { mode: 0o600 }, { high: now.changeHigh, low: now.changeLow });
});

remote(
  'order: of 1000 batches CREATE, LOOKUP, REMOVE, 64 at once, not one is out of order',
  async ({ server, dir }) => {
    let next = 0;
    const [, trips] = await roundTrips(server, () =>
      Promise.all(
        Array.from({ length: 64 }, async () => {
          for (let i = next++; i < 1000; i = next++) {
            const name = bytes(`o${i}`);
            const values = await all(server, [
              { op: 'create', directory: dir, name, mode: 'guarded', attributes: {} },
              { op: 'lookup', directory: dir, name },
              { op: 'remove', directory: dir, name },
            ]);
            assert.deepEqual(values[0].handle, values[1].handle);
          }
        }),
      ),
    );
    assert.equal(trips, 1000);
    assert.equal((await server.readdir(dir, null, false)).entries.length, 0);
  },
);

remote('order: writes and reads of one place in one batch', async ({ server, dir }) => {
  const { handle } = await server.create(dir, bytes('f'), 'guarded', {});
  await Promise.all(
    Array.from({ length: 32 }, async (_, i) => {
      for (let round = 0; round < 8; round++) {
        const offset = i * 16;
        const [, , , read] = await all(server, [
          { op: 'write', handle, offset, data: bytes(`${round}a${i}`), stability: 'unstable' },
          { op: 'read', handle, offset, length: 16 },
          { op: 'write', handle, offset, data: bytes(`${round}b${i}`), stability: 'unstable' },
          { op: 'read', handle, offset, length: 4 },
        ]);
        assert.equal(text(read.data).slice(0, 2), `${round}b`);
      }
    }),
  );
});

remote('a failure in the middle leaves nothing open and nothing behind it done', async ({ server, dir, path }) => {
  const results = await server.batch([
    { op: 'create', directory: dir, name: bytes('f'), mode: 'guarded', attributes: {} },
    { op: 'write', handle: { from: 0 }, offset: 0, data: bytes('x'), stability: 'unstable' },
    { op: 'verify', handle: { from: 0 }, change: { high: 0, low: 0 } },
    { op: 'mkdir', directory: dir, name: bytes('d'), attributes: {} },
  ]);
  assert.deepEqual(
    results.map((result) => result.ok),
    [true, true, false],
  );
  assert.equal(readFileSync(join(path, 'f'), 'utf8'), 'x');
  assert.throws(() => statSync(join(path, 'd')));
});
