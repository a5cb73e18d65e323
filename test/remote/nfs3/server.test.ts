/** Every NFSv3 procedure against nfs-ganesha. It starts a server and looks at its directory from behind. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { connectNfs3 } from '../../../src/remote/nfs3/connect.ts';
import { DUMP, EXPORT, MOUNT_NULL, withClient } from '../../../src/remote/nfs3/mount.ts';
import { AccessBit, type DirectoryPosition, FileType, type RemoteServer } from '../../../src/remote/server.ts';
import { startGanesha } from '../../servers/ganesha.ts';

const credential = { uid: 0, gid: 0, groups: [] };
const bytes = (text: string) => Buffer.from(text, 'utf8');

async function mounted(t: TestContext) {
  const ganesha = await startGanesha(t);
  if (ganesha === null) return null;
  const { port, mountPort } = ganesha;
  const server: RemoteServer = await connectNfs3({ host: '127.0.0.1', port, mountPort, path: '/export', credential });
  t.after(() => server.close());
  return { ganesha, server, root: server.root, at: (name: string) => join(ganesha.exportDir, name) };
}

const rejects = (promise: Promise<unknown>, code: string) => assert.rejects(promise, { name: 'RemoteError', code });

test('MOUNT: NULL, MNT, DUMP, EXPORT, UMNT', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { mountPort, port } = parts.ganesha;
  const options = { host: '127.0.0.1', port: mountPort, credential };
  await withClient(options, undefined, (client) => client.call(MOUNT_NULL, null));
  const exported = await withClient(options, undefined, (client) => client.call(EXPORT, null));
  assert.deepEqual(
    exported.map((entry) => entry.path),
    ['/export'],
  );
  assert.ok(Array.isArray(await withClient(options, undefined, (client) => client.call(DUMP, null))));
  await rejects(connectNfs3({ host: '127.0.0.1', port, mountPort, path: '/nothing', credential }), 'EACCES');
});

test('NULL, GETATTR, FSINFO, FSSTAT, PATHCONF', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  await server.ping();
  const attributes = await server.getattr(root);
  const real = statSync(at('.'));
  assert.equal(attributes.type, FileType.directory);
  assert.equal(attributes.mode, real.mode & 0o7777);
  assert.equal(attributes.fileidHigh * 2 ** 32 + attributes.fileidLow, real.ino);
  assert.ok(Math.abs(attributes.mtimeSeconds * 1000 + attributes.mtimeNanoseconds / 1e6 - real.mtimeMs) < 1);
  assert.equal(server.info.maxRead, 1024 * 1024);
  assert.equal(server.info.maxWrite, 1024 * 1024);
  assert.ok(server.info.maxName >= 255);
  const space = await server.fsstat(root);
  assert.ok(space.totalBytes >= space.freeBytes && space.freeBytes >= space.availableBytes && space.availableBytes > 0);
  await rejects(server.getattr(new Uint8Array(24)), 'ERR_NFS_BAD_HANDLE');
});

test('CREATE unchecked, guarded and exclusive; LOOKUP; REMOVE', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  const name = bytes('file');
  const made = await server.create(root, name, 'guarded', { mode: 0o640 });
  assert.equal(made.attributes.type, FileType.regular);
  assert.equal(statSync(at('file')).mode & 0o7777, 0o640);
  await rejects(server.create(root, name, 'guarded', { mode: 0o640 }), 'EEXIST');
  await rejects(server.create(root, name, 'exclusive', { mode: 0o640 }), 'EEXIST');
  writeFileSync(at('file'), 'something');
  const again = await server.create(root, name, 'unchecked', { size: 0 });
  assert.deepEqual(again.handle, made.handle);
  assert.equal(statSync(at('file')).size, 0);
  const verifier = { high: 12, low: 34 };
  const first = await server.create(root, bytes('ex'), 'exclusive', { mode: 0o600, uid: 5, gid: 6 }, verifier);
  assert.deepEqual([first.attributes.mode, first.attributes.uid, first.attributes.gid], [0o600, 5, 6]);
  const found = await server.lookup(root, bytes('ex'));
  assert.deepEqual(found.handle, first.handle);
  await rejects(server.lookup(root, bytes('nope')), 'ENOENT');
  await rejects(server.lookup(found.handle, bytes('x')), 'ENOTDIR');
  await rejects(server.lookup(root, Buffer.alloc(300, 'n')), 'ENAMETOOLONG');
  await server.remove(root, bytes('ex'));
  await rejects(server.remove(root, bytes('ex')), 'ENOENT');
  await rejects(server.getattr(first.handle), 'ESTALE');
});

test('WRITE, READ, COMMIT: what is written is read, holes are zeros, offsets beyond 4 GiB', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  const { handle } = await server.create(root, bytes('data'), 'guarded', { mode: 0o644 });
  const written = await server.write(handle, 3, bytes('hello'), 'fileSync');
  assert.deepEqual([written.count, written.committed], [5, 'fileSync']);
  assert.deepEqual(readFileSync(at('data')), Buffer.from('\0\0\0hello'));
  const far = 5 * 2 ** 32 + 12_345;
  const unstable = await server.write(handle, far, bytes('far'), 'unstable');
  const committed = await server.commit(handle, 0, 0);
  assert.deepEqual(unstable.verifier, committed.verifier);
  assert.equal(statSync(at('data')).size, far + 3);
  const read = await server.read(handle, 0, 100_000);
  assert.equal(Buffer.from(read.data.subarray(0, 8)).toString(), '\0\0\0hello');
  assert.ok(read.data.subarray(8).every((byte) => byte === 0));
  const tail = await server.read(handle, far - 2, 100);
  assert.deepEqual([Buffer.from(tail.data).toString(), tail.eof], ['\0\0far', true]);
  const past = await server.read(handle, far + 100, 100);
  assert.deepEqual([past.data.length, past.eof], [0, true]);
  const large = Buffer.alloc(1024 * 1024, 'large ');
  assert.equal((await server.write(handle, 0, large, 'unstable')).count, large.length);
  assert.ok(large.equals((await server.read(handle, 0, large.length)).data));
});

test('SETATTR: mode, owner, size, times, guard; ACCESS', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  const { handle } = await server.create(root, bytes('f'), 'guarded', { mode: 0o644 });
  const mtime = { seconds: 1_000_000_000, nanoseconds: 5000 };
  await server.setattr(handle, { mode: 0o4711, uid: 12, gid: 13, size: 4000, atime: 'server', mtime });
  await server.setattr(handle, { mode: 0o4711 }); // the change of owner took the set-user-id bit
  const real = statSync(at('f'));
  assert.deepEqual([real.mode & 0o7777, real.uid, real.gid, real.size], [0o4711, 12, 13, 4000]);
  await server.setattr(handle, { mtime });
  const { changeHigh: high, changeLow: low, mtimeSeconds, mtimeNanoseconds } = await server.getattr(handle);
  assert.deepEqual({ seconds: mtimeSeconds, nanoseconds: mtimeNanoseconds }, mtime);
  await rejects(server.setattr(handle, { mode: 0o600 }, { high, low: low ^ 1 }), 'ERR_NFS_NOT_SYNC');
  await server.setattr(handle, { mode: 0o600 }, { high, low });
  const all = AccessBit.read | AccessBit.modify | AccessBit.execute;
  const other = { credential: { uid: 99, gid: 99, groups: [] } };
  const owner = { credential: { uid: 12, gid: 99, groups: [] } };
  assert.equal((await server.access(handle, all, other)).granted, 0);
  assert.equal((await server.access(handle, all, owner)).granted, AccessBit.read | AccessBit.modify);
  await rejects(server.read(handle, 0, 10, other), 'EACCES');
  await rejects(server.setattr(handle, { mode: 0o777 }, undefined, other), 'EPERM');
});

test('MKDIR, RMDIR, SYMLINK, READLINK, LINK, RENAME, MKNOD', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  const directory = await server.mkdir(root, bytes('d'), { mode: 0o750 });
  assert.equal(statSync(at('d')).mode & 0o7777, 0o750);
  await rejects(server.mkdir(root, bytes('d'), {}), 'EEXIST');
  const target = Buffer.from([0x2f, 0xff, 0xfe]);
  const link = await server.symlink(root, bytes('s'), target, { mode: 0o777 });
  assert.deepEqual(readlinkSync(at('s'), { encoding: 'buffer' }), target);
  assert.deepEqual(Buffer.from((await server.readlink(link.handle)).target), target);
  await rejects(server.readlink(directory.handle), 'EINVAL');
  const file = await server.create(root, bytes('f'), 'guarded', { mode: 0o644 });
  const linked = await server.link(file.handle, directory.handle, bytes('second'));
  assert.equal(linked.attributes?.linkCount ?? 2, 2);
  assert.equal(statSync(at('d/second')).ino, statSync(at('f')).ino);
  await rejects(server.link(file.handle, directory.handle, bytes('second')), 'EEXIST');
  await server.rename(root, bytes('f'), directory.handle, bytes('moved'));
  assert.deepEqual(readdirSync(at('d')).sort(), ['moved', 'second']);
  await rejects(server.rename(root, bytes('f'), root, bytes('g')), 'ENOENT');
  await rejects(server.rmdir(root, bytes('d')), 'ENOTEMPTY');
  await server.mknod(root, bytes('pipe'), { type: FileType.fifo }, { mode: 0o600 });
  await server.mknod(root, bytes('null'), { type: FileType.character, major: 1, minor: 3 }, { mode: 0o600 });
  assert.ok(lstatSync(at('pipe')).isFIFO());
  assert.equal(lstatSync(at('null')).rdev, 0x103);
  for (const name of ['moved', 'second']) await server.remove(directory.handle, bytes(name));
  const { wcc } = await server.rmdir(root, bytes('d'));
  assert.ok(wcc.after !== null && wcc.before !== null, 'the server says how the directory was and is');
  await rejects(server.getattr(directory.handle), 'ESTALE');
});

test('READDIR and READDIRPLUS: all names once, over many pages, any bytes', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  mkdirSync(at('many'));
  const names = Array.from({ length: 800 }, (_, i) => `${i}-${'x'.repeat(i % 200)}`);
  for (const name of names) writeFileSync(at(join('many', name)), '');
  const odd = Buffer.concat([Buffer.from(at('many/')), Buffer.from([0xff, 0xc3, 0x28])]);
  writeFileSync(odd, '');
  const { handle } = await server.lookup(root, bytes('many'));
  for (const plus of [false, true]) {
    const seen: string[] = [];
    let position: DirectoryPosition | null = null;
    for (let pages = 0, eof = false; !eof; pages++) {
      assert.ok(pages < 500);
      const page = await server.readdir(handle, position, plus);
      for (const entry of page.entries) {
        seen.push(Buffer.from(entry.name).toString('latin1'));
        if (plus) assert.equal(entry.attributes?.fileidLow, entry.fileidLow);
      }
      ({ next: position, eof } = page);
    }
    assert.deepEqual(seen.sort(), [...names, '\xff\xc3\x28'].sort());
  }
});

test('a batch runs in order, refers to what it made, and stops at the first failure', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { server, root, at } = parts;
  const results = await server.batch([
    { op: 'mkdir', directory: root, name: bytes('d'), attributes: { mode: 0o755 } },
    { op: 'create', directory: { from: 0 }, name: bytes('f'), mode: 'guarded', attributes: { mode: 0o644 } },
    { op: 'write', handle: { from: 1 }, offset: 0, data: bytes('in order'), stability: 'fileSync' },
    { op: 'rmdir', directory: root, name: bytes('d') },
    { op: 'remove', directory: { from: 0 }, name: bytes('f') },
  ]);
  assert.deepEqual(
    results.map((result) => result.ok),
    [true, true, true, false],
  );
  assert.equal(readFileSync(at('d/f'), 'utf8'), 'in order');
  const change = (await server.lookup(root, bytes('d'))).attributes;
  const verify = (low: number) =>
    server.batch([
      { op: 'verify', handle: root, change: { high: change.changeHigh, low } },
      { op: 'remove', directory: root, name: bytes('never') },
    ]);
  const [refuted] = await verify(0);
  assert.ok(refuted?.ok === false && (refuted.error as { code?: string }).code === 'ERR_NFS_NOT_SYNC');
  await assert.rejects(server.batch([{ op: 'getattr', handle: { from: 3 } }]), RangeError);
});

test('a server killed and started again: handles go on, unstable writes show in the verifier', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { ganesha, server, root } = parts;
  const { handle } = await server.create(root, bytes('f'), 'guarded', { mode: 0o644 });
  const before = await server.write(handle, 0, bytes('abc'), 'unstable');
  await ganesha.kill();
  const waiting = server.getattr(handle);
  await ganesha.restart();
  assert.equal((await waiting).size, 3);
  const after = await server.commit(handle, 0, 0);
  assert.notDeepEqual(after.verifier, before.verifier);
  assert.equal(server.counters.reconnects, 1);
});
