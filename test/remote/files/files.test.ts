/** The file library against nfs-ganesha, over both versions: it answers as node:fs does on the server's own directory. */
import assert from 'node:assert/strict';
import * as local from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { mounted } from './support.ts';

/** What both node:fs/promises and the library have. */
type Tree = Pick<
  typeof local,
  'mkdir' | 'rmdir' | 'unlink' | 'rename' | 'link' | 'symlink' | 'truncate' | 'chmod' | 'access' | 'utimes'
> & {
  writeFile(path: string, data: string, options?: object): Promise<void>;
  appendFile(path: string, data: string): Promise<void>;
  readFile(path: string, encoding: 'utf8'): Promise<string>;
  readdir(path: string): Promise<string[]>;
  readlink(path: string): Promise<string>;
  rm(path: string, options?: object): Promise<void>;
  stat(path: string): Promise<local.FileHandle extends never ? never : { mode: number; size: number; nlink: number }>;
  lstat(path: string): Promise<{ mode: number; size: number; nlink: number }>;
  open(path: string, flags: string): Promise<{ close(): Promise<void> }>;
};

/** One step: what it does on a tree below `at`, and gives. */
type Step = (tree: Tree, at: (path: string) => string) => Promise<unknown>;

const brief = ({ mode, size, nlink }: { mode: number; size: number; nlink: number }, directory = false) =>
  directory ? { mode } : { mode, size, nlink };

const STEPS: readonly Step[] = [
  (fs, at) => fs.mkdir(at('d')),
  (fs, at) => fs.mkdir(at('d')),
  (fs, at) => fs.mkdir(at('d/e/f'), { recursive: true }).then(() => 'made'),
  (fs, at) => fs.mkdir(at('d/e/f'), { recursive: true }),
  (fs, at) => fs.mkdir(at('no/such')),
  (fs, at) => fs.symlink('d', at('to-d')),
  (fs, at) => fs.mkdir(at('to-d/through/a/link'), { recursive: true }).then(() => 'made'),
  (fs, at) => fs.mkdir(at('to-d/through/../through/b'), { recursive: true }).then(() => 'made'),
  (fs, at) => fs.mkdir(at('to-d'), { recursive: true }),
  (fs, at) => fs.rm(at('to-d/through'), { recursive: true }),
  (fs, at) => fs.unlink(at('to-d')),
  (fs, at) => fs.writeFile(at('plain'), ''),
  (fs, at) => fs.mkdir(at('plain'), { recursive: true }),
  (fs, at) => fs.mkdir(at('plain/below'), { recursive: true }),
  (fs, at) => fs.unlink(at('plain')),
  (fs, at) => fs.writeFile(at('d/file'), 'some text'),
  (fs, at) => fs.writeFile(at('d/file'), 'other', { flag: 'wx' }),
  (fs, at) => fs.writeFile(at('d'), 'a directory'),
  (fs, at) => fs.writeFile(at('d/new/'), 'a slash'),
  (fs, at) => fs.appendFile(at('d/file'), ' and more'),
  (fs, at) => fs.readFile(at('d/file'), 'utf8'),
  (fs, at) => fs.readFile(at('nothing'), 'utf8'),
  (fs, at) => fs.readFile(at('d'), 'utf8'),
  (fs, at) => fs.readFile(at('d/file/x'), 'utf8'),
  (fs, at) => fs.stat(at('d/file')).then((s) => brief(s)),
  (fs, at) => fs.stat(at('d')).then((s) => brief(s, true)),
  (fs, at) => fs.stat(at('d/file/')),
  (fs, at) => fs.stat(at('d/../d/./e/../file')).then((s) => brief(s)),
  (fs, at) => fs.symlink('file', at('d/link')),
  (fs, at) => fs.symlink('../d', at('d/up')),
  (fs, at) => fs.symlink('loop', at('d/loop')),
  (fs, at) => fs.symlink('nowhere', at('d/dangling')),
  (fs, at) => fs.symlink('file', at('d/link')),
  (fs, at) => fs.readlink(at('d/link')),
  (fs, at) => fs.readlink(at('d/file')),
  (fs, at) => fs.lstat(at('d/link')).then((s) => brief(s)),
  (fs, at) => fs.stat(at('d/up/up/up/link')).then((s) => brief(s)),
  (fs, at) => fs.stat(at('d/loop')),
  (fs, at) => fs.readFile(at('d/loop/x'), 'utf8'),
  (fs, at) => fs.stat(at('d/dangling')),
  (fs, at) => fs.writeFile(at('d/dangling'), 'made through a link'),
  (fs, at) => fs.readFile(at('d/nowhere'), 'utf8'),
  (fs, at) => fs.open(at('d/dangling'), 'wx'),
  (fs, at) => fs.open(at('d/link'), 'r').then((file) => file.close()),
  (fs, at) => fs.open(at('d'), 'r+'),
  (fs, at) => fs.link(at('d/file'), at('d/e/second')),
  (fs, at) => fs.link(at('d/file'), at('d/e/second')),
  (fs, at) => fs.link(at('d/nothing'), at('d/e/third')),
  (fs, at) => fs.lstat(at('d/e/second')).then((s) => brief(s)),
  (fs, at) => fs.chmod(at('d/file'), 0o640),
  (fs, at) => fs.truncate(at('d/link'), 4),
  (fs, at) => fs.truncate(at('d/file'), 9),
  (fs, at) => fs.truncate(at('d'), 0),
  (fs, at) => fs.readFile(at('d/e/second'), 'utf8'),
  (fs, at) => fs.stat(at('d/file')).then((s) => brief(s)),
  (fs, at) => fs.utimes(at('d/file'), 1000, 2000.5),
  (fs, at) => fs.access(at('d/file')),
  (fs, at) => fs.access(at('d/nothing')),
  (fs, at) => fs.rename(at('d/file'), at('d/moved')),
  (fs, at) => fs.rename(at('d/file'), at('d/again')),
  (fs, at) => fs.rename(at('d/moved'), at('d/e')),
  (fs, at) => fs.rename(at('d/e'), at('d/e/f/below')),
  (fs, at) => fs.writeFile(at('d/target'), 'overwritten'),
  (fs, at) => fs.rename(at('d/moved'), at('d/target')),
  (fs, at) => fs.readFile(at('d/target'), 'utf8'),
  (fs, at) => fs.rmdir(at('d')),
  (fs, at) => fs.rmdir(at('d/target')),
  (fs, at) => fs.unlink(at('d/link')),
  (fs, at) => fs.unlink(at('d/link')),
  (fs, at) => fs.rm(at('d/nothing')),
  (fs, at) => fs.rm(at('d/nothing'), { force: true }),
  (fs, at) => fs.writeFile(at('d/ü 名 .txt'), 'a name'),
  (fs, at) => fs.writeFile(at(`d/${'n'.repeat(255)}`), 'a long name'),
  (fs, at) => fs.writeFile(at(`d/${'n'.repeat(256)}`), 'too long a name'),
  (fs, at) => fs.readdir(at('d')).then((names) => names.sort()),
  (fs, at) => fs.readdir(at('d/target')),
  (fs, at) => fs.readdir(at('d/up/e')).then((names) => names.sort()),
  (fs, at) => fs.rmdir(at('d/e/f')),
  (fs, at) => fs.rm(at('d'), { recursive: true }),
  (fs, at) => fs.readdir(at('.')),
];

/** The result, or the error as a program would see it, without where the tree lies. */
async function outcome(step: Step, tree: Tree, at: (path: string) => string): Promise<unknown> {
  try {
    return await step(tree, at);
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    return { code, errno };
  }
}

for (const version of ['3', '4.1'] as const) {
  test(`every call answers as node:fs does (NFSv${version})`, async (t) => {
    const parts = await mounted(t, { version });
    if (parts === null) return;
    const here = await local.mkdtemp(join(tmpdir(), 'isthmus-files-'));
    t.after(() => local.rm(here, { recursive: true }));
    for (const [i, step] of STEPS.entries()) {
      const [theirs, ours]: unknown[] = [
        await outcome(step, local as unknown as Tree, (path) => `${here}/${path}`),
        await outcome(step, parts.files as unknown as Tree, (path) => `/${path}`),
      ];
      assert.deepEqual(ours, theirs, `step ${i}: ${step}`);
    }
  });
}

test("errors read as Node's do", async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  await assert.rejects(parts.files.rename('/a', '/b'), {
    name: 'FileError',
    message: "ENOENT: no such file or directory, rename '/a' -> '/b'",
    code: 'ENOENT',
    errno: -2,
    syscall: 'rename',
    path: '/a',
    dest: '/b',
  });
  await assert.rejects(parts.files.open('/a'), { message: "ENOENT: no such file or directory, open '/a'" });
});

test('names that are not UTF-8; Dirents; recursive listings', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { files, behind } = parts;
  const odd = Buffer.from([0x2f, 0xff, 0xfe, 0x80]);
  await files.writeFile(odd, 'odd');
  await files.mkdir('/dir/sub', { recursive: true });
  await files.symlink(Buffer.from([0xc0]), '/dir/link');
  assert.deepEqual(await files.readlink('/dir/link', { encoding: 'buffer' }), Buffer.from([0xc0]));
  const names = await files.readdir('/', { encoding: 'buffer' });
  assert.deepEqual(names.map((name) => name.toString('latin1')).sort(), ['dir', '\xff\xfe\x80']);
  assert.deepEqual(await local.readFile(Buffer.concat([Buffer.from(behind('')), odd]), 'utf8'), 'odd');
  const entries = await files.readdir('/dir', { withFileTypes: true });
  const kinds = entries.map((entry) => [entry.name, entry.isDirectory(), entry.isSymbolicLink(), entry.parentPath]);
  assert.deepEqual(kinds.sort(), [
    ['link', false, true, '/dir'],
    ['sub', true, false, '/dir'],
  ]);
  await files.writeFile('/dir/sub/deep', 'x');
  assert.deepEqual((await files.readdir('/dir', { recursive: true })).sort(), ['link', 'sub', 'sub/deep']);
});

test('open files: positions, reads and writes, append, sync', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { files, behind } = parts;
  const file = await files.open('/f', 'w+');
  await file.write('hello ');
  await file.write(Buffer.from('..world..'), 2, 5);
  await file.write('J', 0);
  const buffer = Buffer.alloc(4);
  assert.deepEqual(await file.read(buffer, 0, 4, 0), { bytesRead: 4, buffer });
  assert.equal(buffer.toString(), 'Jell');
  assert.equal((await file.read({ position: 9 })).bytesRead, 2);
  assert.equal((await file.read({ position: 11 })).bytesRead, 0);
  assert.equal((await file.stat()).size, 11);
  await file.truncate(5);
  await file.utimes(1, 2);
  await file.chmod(0o600);
  await file.sync();
  assert.equal(await local.readFile(behind('f'), 'utf8'), 'Jello');
  await file.close();
  await file.close();
  await assert.rejects(file.read(), { code: 'EBADF' });
  const reader = await files.open('/f');
  assert.equal((await reader.read(Buffer.alloc(2))).buffer.toString(), 'Je');
  assert.equal(await reader.readFile('utf8'), 'llo');
  await assert.rejects(reader.write('x'), { code: 'EBADF' });
  await reader.close();
  const log = await files.open('/log', 'a');
  await Promise.all(['one ', 'two ', 'three'].map((word) => log.write(word)));
  await log.close();
  assert.equal(await files.readFile('/log', 'utf8'), 'one two three');
  await files.writeFile('/pieces', ['a', Buffer.from('b'), 'c']);
  assert.equal(await files.readFile('/pieces', 'utf8'), 'abc');
});

test('close-to-open: what one has closed the other opens, and stat is never old', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { files, behind, ganesha } = parts;
  const { connectFiles } = await import('../../../src/remote/connect.ts');
  const other = await connectFiles(ganesha.url('3'));
  t.after(() => other.close());
  await files.mkdir('/d');
  for (let i = 0; i < 20; i++) {
    await files.writeFile('/d/f', 'x'.repeat(i));
    assert.equal((await other.stat('/d/f')).size, i);
    assert.equal(await other.readFile('/d/f', 'utf8'), 'x'.repeat(i));
    await other.writeFile('/d/g', `${i}`);
    assert.equal(await files.readFile('/d/g', 'utf8'), `${i}`);
  }
  // A directory that was replaced behind our back: the cached name leads to a stale handle, and the walk is done again.
  await local.rm(behind('d'), { recursive: true });
  await local.mkdir(behind('d'));
  await local.writeFile(behind('d/f'), 'the new one');
  assert.equal(await files.readFile('/d/f', 'utf8'), 'the new one');
});

test("permissions are the server's: another user is refused", async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { files, ganesha } = parts;
  await files.writeFile('/secret', 'x', { mode: 0o600 });
  await files.mkdir('/closed', { mode: 0o700 });
  const { connectFiles } = await import('../../../src/remote/connect.ts');
  const stranger = await connectFiles(ganesha.url('3').replace('uid=0&gid=0', 'uid=4000&gid=4000'));
  t.after(() => stranger.close());
  await assert.rejects(stranger.readFile('/secret'), { code: 'EACCES', syscall: 'open' });
  await assert.rejects(stranger.access('/secret', local.constants.R_OK), { code: 'EACCES' });
  await assert.rejects(stranger.writeFile('/new', 'x'), { code: 'EACCES' });
  await assert.rejects(stranger.stat('/closed/x'), { code: 'EACCES' });
  await assert.rejects(stranger.unlink('/secret'), { code: 'EACCES' });
  assert.equal((await stranger.stat('/secret')).size, 1);
});

test('abort: the call ends with the reason, the connection goes on', async (t) => {
  const parts = await mounted(t);
  if (parts === null) return;
  const { files, ganesha } = parts;
  await files.writeFile('/f', 'x');
  ganesha.pause();
  const controller = new AbortController();
  const why = new Error('enough');
  const call = files.readFile('/f', { signal: controller.signal });
  controller.abort(why);
  await assert.rejects(call, why);
  ganesha.resume();
  assert.equal(await files.readFile('/f', 'utf8'), 'x');
  await assert.rejects(files.stat('/f', { signal: AbortSignal.abort(why) }), why);
});
