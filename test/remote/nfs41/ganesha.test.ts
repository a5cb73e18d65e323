/**
 * NFSv4.1 against a real nfs-ganesha: every operation by itself.
 */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectServer } from '../../../src/remote/connect.ts';
import { Nfs41Server } from '../../../src/remote/nfs41/server.ts';
import { AccessBit, type FileType, type ResultByName } from '../../../src/remote/server.ts';
import { bytes, remoteTests, text } from './remote-tests.ts';

const remote = remoteTests();

remote('a file from its creation to its removal, each operation by itself', async ({ server, dir, path }) => {
  const made = await server.create(dir, bytes('f'), 'guarded', { mode: 0o640 });
  assert.equal(made.attributes.type, 1);
  assert.equal(made.attributes.mode, 0o640);
  assert.equal(made.attributes.fileidLow, statSync(join(path, 'f')).ino);
  const written = await server.write(made.handle, 3, bytes('hello'), 'unstable');
  assert.equal(written.count, 5);
  assert.equal(written.wcc.after?.size, 8);
  const committed = await server.commit(made.handle, 0, 0);
  assert.deepEqual(committed.verifier, written.verifier);
  const back = await server.read(made.handle, 0, 100);
  assert.deepEqual([...back.data], [0, 0, 0, ...bytes('hello')]);
  assert.equal(back.eof, true);
  assert.equal((await server.read(made.handle, 8, 10)).data.length, 0);
  assert.equal(readFileSync(join(path, 'f'), 'latin1'), '\0\0\0hello');

  const times = { atime: { seconds: -5, nanoseconds: 7 }, mtime: { seconds: 1_000_000_000, nanoseconds: 999_999_999 } };
  const set = await server.setattr(made.handle, { ...times, mode: 0o4711, size: 2 });
  assert.equal(set.wcc.after?.size, 2);
  assert.equal(set.wcc.after?.mode, 0o4711);
  assert.equal(set.wcc.after?.atimeSeconds, -5);
  assert.equal(set.wcc.after?.mtimeNanoseconds, 999_999_999);

  const found = await server.lookup(dir, bytes('f'));
  assert.deepEqual(found.handle, made.handle);
  assert.equal(found.directory?.type, 2);
  const linked = await server.link(made.handle, dir, bytes('g'));
  assert.equal(linked.attributes?.linkCount, 2);
  const renamed = await server.rename(dir, bytes('g'), dir, bytes('h'));
  assert.ok(renamed.from.after !== null && renamed.to.after !== null);
  const link = await server.symlink(dir, bytes('s'), bytes('h'), {});
  assert.equal(text((await server.readlink(link.handle)).target), 'h');
  const fifo = await server.mknod(dir, bytes('p'), { type: 7 }, { mode: 0o600 });
  assert.equal(fifo.attributes.type, 7);
  const device = await server.mknod(dir, bytes('null'), { type: 4, major: 1, minor: 3 }, { mode: 0o600 });
  assert.deepEqual([device.attributes.deviceMajor, device.attributes.deviceMinor], [1, 3]);
  const listed = await server.readdir(dir, null, true);
  assert.deepEqual(listed.entries.map((entry) => text(entry.name)).sort(), ['f', 'h', 'null', 'p', 's']);
  for (const entry of listed.entries)
    assert.deepEqual((await server.getattr(entry.handle!)).fileidLow, entry.fileidLow);
  for (const entry of listed.entries) await server.remove(dir, entry.name);
  assert.equal((await server.readdir(dir, null, false)).entries.length, 0);
  await assert.rejects(server.getattr(made.handle), { code: 'ESTALE' });
  assert.ok((await server.fsstat(dir)).totalBytes > 0);
});

remote('failures are POSIX’s', async ({ server, dir }) => {
  const { handle: sub } = await server.mkdir(dir, bytes('d'), {});
  const { handle: file } = await server.create(dir, bytes('f'), 'guarded', {});
  const { handle: link } = await server.symlink(dir, bytes('s'), bytes('f'), {});
  await server.create(sub, bytes('x'), 'guarded', {});
  const cases: [string, () => Promise<unknown>][] = [
    ['ENOENT', () => server.lookup(dir, bytes('no'))],
    ['ENOTDIR', () => server.lookup(file, bytes('x'))],
    ['ENOTDIR', () => server.lookup(link, bytes('x'))],
    ['EEXIST', () => server.create(dir, bytes('f'), 'guarded', {})],
    ['EEXIST', () => server.create(dir, bytes('s'), 'unchecked', {})],
    ['EEXIST', () => server.mkdir(dir, bytes('f'), {})],
    ['EEXIST', () => server.symlink(dir, bytes('f'), bytes('x'), {})],
    ['EEXIST', () => server.link(file, dir, bytes('s'))],
    ['ENOTDIR', () => server.create(file, bytes('x'), 'guarded', {})],
    ['EISDIR', () => server.remove(dir, bytes('d'))],
    ['ENOTDIR', () => server.rmdir(dir, bytes('f'))],
    ['ENOTEMPTY', () => server.rmdir(dir, bytes('d'))],
    ['ENOENT', () => server.remove(dir, bytes('no'))],
    ['ENOENT', () => server.rename(dir, bytes('no'), dir, bytes('x'))],
    ['EISDIR', () => server.read(sub, 0, 10)],
    ['EINVAL', () => server.readlink(file)],
    ['ENOTDIR', () => server.readdir(file, null, false)],
    ['ENAMETOOLONG', () => server.create(dir, new Uint8Array(300).fill(97), 'guarded', {})],
    ['ERR_NFS_BAD_HANDLE', () => server.getattr(new Uint8Array(20))],
  ];
  for (const [code, call] of cases) {
    await assert.rejects(call(), (error: NodeJS.ErrnoException) => {
      assert.equal(error.code, code, error.message);
      return true;
    });
  }
});

remote('names are bytes: long ones, and such as are not UTF-8', async ({ server, dir, path }) => {
  const long = new Uint8Array(255).fill(120);
  const strange = Uint8Array.of(0xff, 0xfe, 0x80, 0x20, 0x0a);
  for (const name of [long, strange]) {
    const { handle } = await server.create(dir, name, 'guarded', {});
    assert.deepEqual((await server.lookup(dir, name)).handle, handle);
  }
  const names = (await server.readdir(dir, null, false)).entries.map((entry) =>
    Buffer.from(entry.name).toString('hex'),
  );
  assert.deepEqual(new Set(names), new Set([long, strange].map((name) => Buffer.from(name).toString('hex'))));
  const target = Uint8Array.of(0x2f, 0xe9, 0x2f);
  const { handle } = await server.symlink(dir, bytes('l'), target, {});
  assert.deepEqual([...(await server.readlink(handle)).target], [...target]);
  assert.ok(statSync(Buffer.concat([Buffer.from(`${path}/`), strange])).isFile());
});

remote('a directory of many pages', async ({ server, dir, path }) => {
  for (let i = 0; i < 1200; i++) writeFileSync(join(path, `file-with-a-long-name-${i}`), '');
  for (const plus of [false, true]) {
    const seen = new Set<string>();
    let pages = 0;
    for (let position = null, eof = false; !eof; pages++) {
      const page: ResultByName['readdir'] = await server.readdir(dir, position, plus);
      for (const entry of page.entries) {
        seen.add(text(entry.name));
        assert.equal(entry.handle !== null && entry.attributes !== null, plus);
      }
      position = page.next as never;
      eof = page.eof;
    }
    assert.equal(seen.size, 1200);
    assert.ok(pages > (plus ? 2 : 0));
  }
});

remote('a megabyte at once, and a sparse file beyond 4 GiB', async ({ server, dir }) => {
  const { handle } = await server.create(dir, bytes('big'), 'guarded', {});
  const data = new Uint8Array(server.info.maxWrite).map((_, i) => i * 7);
  assert.equal((await server.write(handle, 0, data, 'unstable')).count, data.length);
  assert.ok(Buffer.from((await server.read(handle, 0, server.info.maxRead)).data).equals(data));
  const far = 5 * 2 ** 30 + 3;
  await server.write(handle, far, bytes('end'), 'fileSync');
  const back = await server.read(handle, far - 2, 10);
  assert.deepEqual([...back.data], [0, 0, ...bytes('end')]);
  assert.equal(back.attributes?.size, far + 3);
});

remote('exclusive creates: the same verifier finds the same file, another one EEXIST', async ({ server, dir }) => {
  const verifier = { high: 17, low: 4711 };
  const one = await server.create(dir, bytes('x'), 'exclusive', { mode: 0o600 }, verifier);
  assert.equal(one.attributes.mode, 0o600);
  assert.ok(Math.abs(one.attributes.mtimeSeconds - Date.now() / 1000) < 600, 'the verifier is not left in the times');
  await assert.rejects(server.create(dir, bytes('x'), 'exclusive', {}, { high: 1, low: 1 }), { code: 'EEXIST' });
});

remote('permissions are judged by the server for who asks', async ({ server, dir }) => {
  const credential = { uid: 1000, gid: 1000, groups: [1000] };
  const { handle } = await server.create(dir, bytes('mine'), 'guarded', { mode: 0o444 }, undefined, { credential });
  const attributes = await server.getattr(handle);
  assert.deepEqual([attributes.uid, attributes.gid], [1000, 1000]);
  const [, written] = await server.batch(
    [
      { op: 'create', directory: dir, name: bytes('other'), mode: 'guarded', attributes: { mode: 0o444 } },
      { op: 'write', handle: { from: 0 }, offset: 0, data: bytes('though read-only'), stability: 'unstable' },
    ],
    { credential },
  );
  assert.ok(written?.ok, 'who makes a file may write it');
  const shown = await server.create(dir, bytes('shown'), 'guarded', { mode: 0o444 });
  const again = await server.create(dir, bytes('shown'), 'unchecked', { mode: 0o600 }, undefined, { credential });
  assert.deepEqual(again.handle, shown.handle, 'an unchecked create finds what may not be written');
  await assert.rejects(server.create(dir, bytes('shown'), 'unchecked', { size: 0 }, undefined, { credential }), {
    code: 'EACCES',
  });
  const secret = await server.create(dir, bytes('secret'), 'guarded', { mode: 0o600 });
  await assert.rejects(server.read(secret.handle, 0, 1, { credential }), { code: 'EACCES' });
  await assert.rejects(server.write(secret.handle, 0, bytes('x'), 'unstable', { credential }), { code: 'EACCES' });
  await assert.rejects(server.setattr(secret.handle, { mode: 0o777 }, undefined, { credential }), { code: 'EPERM' });
  const bits = AccessBit.read | AccessBit.modify;
  assert.equal((await server.access(secret.handle, bits, { credential })).granted, 0);
  assert.equal((await server.access(secret.handle, bits)).granted, bits);
});

remote('files held open, and byte-range locks between two clients', async ({ ganesha, server, dir }) => {
  const other = await Nfs41Server.connect({ host: '127.0.0.1', port: ganesha.port, path: '/export' });
  try {
    const mine = await server.open({ access: 'both', directory: dir, name: bytes('l'), create: 'guarded' });
    const theirs = await other.open({ access: 'both', handle: mine.handle });
    await mine.write(0, bytes('hello'), 'fileSync');
    assert.equal(text((await theirs.read(0, 10)).data), 'hello');
    const range = { exclusive: true, offset: 2, length: 3 };
    await mine.lock(range);
    await assert.rejects(theirs.lock(range), { code: 'EAGAIN' });
    const holder = await theirs.testLock(range);
    assert.deepEqual([holder?.offset, holder?.length, holder?.exclusive], [2, 3, true]);
    assert.equal(await mine.testLock(range), null);
    await mine.unlock(range);
    await theirs.lock({ exclusive: true, offset: 0, length: null });
    await theirs.close();
    await mine.close();
    await assert.rejects(mine.read(0, 1), { code: 'EBADF' });
  } finally {
    await other.close();
  }
});

remote('connect: 4.1 where the server has it, 3 by the address, and why not', async ({ ganesha, server, dir }) => {
  await server.create(dir, bytes('seen'), 'guarded', {});
  const kinds: FileType[] = [];
  for (const [url, version] of [
    [`nfs://127.0.0.1:${ganesha.port}/export`, '4.1'],
    [ganesha.url('4.1'), '4.1'],
    [ganesha.url('3'), '3'],
  ] as const) {
    const opened = await connectServer(url);
    assert.equal(opened.info.version, version);
    kinds.push((await opened.getattr(opened.root)).type);
    await opened.close();
  }
  assert.deepEqual(kinds, [2, 2, 2]);
  await assert.rejects(connectServer(`nfs://127.0.0.1:${ganesha.port}/nowhere?version=4.1`), { code: 'ENOENT' });
});
