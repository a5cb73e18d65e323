/**
 * Checks about names: directories, rename, links, symlinks, listings, long and strange names.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { areaOf, type Check, fails, readAt, same } from './check.ts';

export const nameChecks: Check[] = [];

const directory = areaOf('directories', nameChecks);
directory('mkdir and rmdir, and what they refuse', (p) => {
  mkdirSync(p.at('d'));
  p.file('f');
  fails('EEXIST', () => mkdirSync(p.at('d')));
  fails('EEXIST', () => mkdirSync(p.at('f')));
  fails('ENOENT', () => mkdirSync(p.at('no', 'd')));
  fails('ENOTDIR', () => mkdirSync(p.at('f', 'd')));
  fails('ENOTDIR', () => rmdirSync(p.at('f')));
  fails('ENOENT', () => rmdirSync(p.at('no')));
  fails('EINVAL', () => rmdirSync(`${p.at('d')}/.`));
  writeFileSync(p.at('d', 'x'), '');
  fails('ENOTEMPTY', () => rmdirSync(p.at('d')));
  fails('ENOTEMPTY', () => rmdirSync(`${p.at('d')}/..`));
  unlinkSync(p.at('d', 'x'));
  rmdirSync(p.at('d'));
  assert.ok(!existsSync(p.at('d')));
});
directory('mkdir takes the mode less the umask', (p) => {
  const umask = process.umask(0o022);
  try {
    mkdirSync(p.at('d'), 0o775);
  } finally {
    process.umask(umask);
  }
  assert.equal(statSync(p.at('d')).mode & 0o7777, 0o755);
});
directory('unlink of a directory is EISDIR', (p) => {
  mkdirSync(p.at('d'));
  fails('EISDIR', () => unlinkSync(p.at('d')));
});
directory('the link count counts the directories in it', (p) => {
  mkdirSync(p.at('d'));
  const before = statSync(p.at('d')).nlink;
  mkdirSync(p.at('d', 'a'));
  mkdirSync(p.at('d', 'b'));
  // Some file systems always say 1.
  if (before === 2) assert.equal(statSync(p.at('d')).nlink, 4);
  rmdirSync(p.at('d', 'a'));
  if (before === 2) assert.equal(statSync(p.at('d')).nlink, 3);
});
directory('.. is the parent, and the parent’s inode number', (p) => {
  mkdirSync(p.at('d'));
  assert.ok(same(statSync(`${p.at('d')}/..`), statSync(p.dir)));
  assert.ok(same(statSync(`${p.at('d')}/.`), statSync(p.at('d'))));
});
directory('a removed directory in use lets nothing be made in it', (p) => {
  mkdirSync(p.at('d'));
  const script = 'cd d && rmdir ../d && ! echo x 2>/dev/null > f && ! mkdir e 2>/dev/null';
  p.run('sh', ['-c', script]);
});
directory('a tree of directories, made and removed by programs', (p) => {
  p.run('sh', ['-c', 'mkdir -p a/b/c/d/e/f && touch a/b/c/x a/b/y && cp -r a z && diff -r a z && rm -r a']);
  assert.deepEqual(readdirSync(p.dir), ['z']);
  rmSync(p.at('z'), { recursive: true });
  assert.deepEqual(readdirSync(p.dir), []);
});

const rename = areaOf('rename', nameChecks);
rename('a file keeps inode, contents and times; the old name is gone', (p) => {
  p.file('a', 'text');
  const before = statSync(p.at('a'));
  renameSync(p.at('a'), p.at('b'));
  const after = statSync(p.at('b'));
  assert.ok(same(before, after));
  assert.equal(after.mtimeMs, before.mtimeMs);
  assert.ok(!existsSync(p.at('a')));
});
rename('over a file replaces it; a descriptor of the replaced one stays good', (p) => {
  p.file('a', 'new');
  p.file('b', 'old');
  p.with(p.at('b'), 'r', (fd) => {
    renameSync(p.at('a'), p.at('b'));
    assert.equal(p.text(p.at('b')), 'new');
    assert.equal(readAt(fd, 0), 'old');
  });
  assert.deepEqual(readdirSync(p.dir), ['b']);
});
rename(
  'the link count of a replaced open file is 0',
  (p) => {
    p.file('a');
    p.file('b');
    p.with(p.at('b'), 'r', (fd) => {
      renameSync(p.at('a'), p.at('b'));
      assert.equal(fstatSync(fd).nlink, 0);
    });
  },
  { remote: 'the file lives on under a .nfs name, so its link count is 1' },
);
rename('between two names of one file does nothing', (p) => {
  p.file('a', 'x');
  linkSync(p.at('a'), p.at('b'));
  renameSync(p.at('a'), p.at('b'));
  assert.deepEqual(readdirSync(p.dir).sort(), ['a', 'b']);
});
rename('onto itself does nothing', (p) => {
  p.file('a', 'x');
  renameSync(p.at('a'), p.at('a'));
  assert.equal(p.text(p.at('a')), 'x');
});
rename('files and directories do not replace each other', (p) => {
  p.file('f');
  mkdirSync(p.at('d'));
  fails('EISDIR', () => renameSync(p.at('f'), p.at('d')));
  fails('ENOTDIR', () => renameSync(p.at('d'), p.at('f')));
});
rename('a directory replaces an empty one, and no other', (p) => {
  for (const name of ['a', 'b', 'c']) mkdirSync(p.at(name));
  p.file('a/x');
  p.file('c/y');
  fails(['ENOTEMPTY', 'EEXIST'], () => renameSync(p.at('a'), p.at('c')));
  renameSync(p.at('a'), p.at('b'));
  assert.deepEqual(readdirSync(p.at('b')), ['x']);
});
rename('a directory cannot go below itself', (p) => {
  mkdirSync(p.at('a'));
  mkdirSync(p.at('a', 'b'));
  fails('EINVAL', () => renameSync(p.at('a'), p.at('a', 'b', 'c')));
  fails('EINVAL', () => renameSync(p.at('a'), p.at('a', 'c')));
});
rename('a directory moved elsewhere takes its tree along, and .. and link counts follow', (p) => {
  mkdirSync(p.at('a'));
  mkdirSync(p.at('b'));
  mkdirSync(p.at('a', 'd'));
  p.file('a/d/x', 'deep');
  const links = statSync(p.at('b')).nlink;
  renameSync(p.at('a', 'd'), p.at('b', 'e'));
  assert.equal(p.text(p.at('b', 'e', 'x')), 'deep');
  assert.ok(same(statSync(`${p.at('b', 'e')}/..`), statSync(p.at('b'))));
  if (links === 2) assert.equal(statSync(p.at('b')).nlink, 3);
  assert.equal(p.run('sh', ['-c', 'cd b/e && cat ../e/x']), 'deep');
});
rename('of a symlink renames the link', (p) => {
  p.file('f', 'x');
  symlinkSync('f', p.at('l'));
  renameSync(p.at('l'), p.at('m'));
  assert.equal(readlinkSync(p.at('m')), 'f');
  p.file('g', 'y');
  renameSync(p.at('g'), p.at('m'));
  assert.equal(p.text(p.at('f')), 'x');
  assert.ok(lstatSync(p.at('m')).isFile());
});
rename('of what is not there is ENOENT, also into what is not there', (p) => {
  p.file('f');
  fails('ENOENT', () => renameSync(p.at('no'), p.at('x')));
  fails('ENOENT', () => renameSync(p.at('f'), p.at('no', 'x')));
  fails('ENOTDIR', () => renameSync(p.at('f'), p.at('f', 'x')));
});
rename('names swap through a third one again and again', (p) => {
  p.file('a', 'A');
  p.file('b', 'B');
  for (let i = 0; i < 25; i++) {
    renameSync(p.at('a'), p.at('t'));
    renameSync(p.at('b'), p.at('a'));
    renameSync(p.at('t'), p.at('b'));
    assert.equal(p.text(p.at('a')) + p.text(p.at('b')), i % 2 === 0 ? 'BA' : 'AB');
  }
});

const links = areaOf('links', nameChecks);
links('link counts go up and down, contents are one', (p) => {
  p.file('a', 'one');
  linkSync(p.at('a'), p.at('b'));
  assert.equal(statSync(p.at('a')).nlink, 2);
  assert.ok(same(statSync(p.at('a')), statSync(p.at('b'))));
  writeFileSync(p.at('b'), 'two');
  assert.equal(p.text(p.at('a')), 'two');
  unlinkSync(p.at('a'));
  assert.equal(statSync(p.at('b')).nlink, 1);
  assert.equal(p.text(p.at('b')), 'two');
});
links('what link refuses', (p) => {
  p.file('a');
  p.file('b');
  mkdirSync(p.at('d'));
  fails('EEXIST', () => linkSync(p.at('a'), p.at('b')));
  fails('EPERM', () => linkSync(p.at('d'), p.at('e')));
  fails('ENOENT', () => linkSync(p.at('no'), p.at('c')));
  fails('ENOENT', () => linkSync(p.at('a'), p.at('no', 'c')));
});
links('a link changes the ctime of the file and the mtime of the directory', (p) => {
  p.file('a');
  mkdirSync(p.at('d'));
  const [file, dir] = [statSync(p.at('a')), statSync(p.at('d'))];
  p.run('sleep', ['0.05']);
  linkSync(p.at('a'), p.at('d', 'b'));
  assert.ok(statSync(p.at('a')).ctimeMs > file.ctimeMs);
  assert.ok(statSync(p.at('d')).mtimeMs > dir.mtimeMs);
});

const symlinks = areaOf('symlinks', nameChecks);
symlinks('hold any text, and their size is its length', (p) => {
  for (const [i, target] of ['f', '/etc/passwd', '../..', 'no such thing', 'x'.repeat(1000), 'é'].entries()) {
    symlinkSync(target, p.at(`l${i}`));
    assert.equal(readlinkSync(p.at(`l${i}`)), target);
    assert.equal(lstatSync(p.at(`l${i}`)).size, Buffer.byteLength(target));
  }
  fails('EEXIST', () => symlinkSync('x', p.at('l0')));
  fails('EINVAL', () => readlinkSync(p.file('f')));
});
symlinks('are followed to files and through directories', (p) => {
  mkdirSync(p.at('d'));
  p.file('d/f', 'x');
  symlinkSync('d', p.at('l'));
  symlinkSync('l/f', p.at('m'));
  assert.equal(p.text(p.at('m')), 'x');
  assert.equal(realpathSync(p.at('l', 'f')), realpathSync(p.at('d', 'f')));
  assert.ok(lstatSync(p.at('l')).isSymbolicLink());
  assert.ok(statSync(`${p.at('l')}/`).isDirectory());
  unlinkSync(p.at('l'));
  assert.ok(existsSync(p.at('d', 'f')));
});
symlinks('in a circle are ELOOP', (p) => {
  symlinkSync('b', p.at('a'));
  symlinkSync('a', p.at('b'));
  fails('ELOOP', () => openSync(p.at('a'), 'r'));
  fails('ELOOP', () => statSync(p.at('a', 'x')));
});

const listing = areaOf('readdir', nameChecks);
const NAMES = Array.from({ length: 500 }, (_, i) => `entry-${i}`);
listing('gives every name once, with the right type', (p) => {
  for (const name of NAMES.slice(0, 300)) p.file(name);
  for (const name of NAMES.slice(300, 400)) mkdirSync(p.at(name));
  for (const name of NAMES.slice(400)) symlinkSync('x', p.at(name));
  const entries = readdirSync(p.dir, { withFileTypes: true });
  assert.deepEqual(entries.map((entry) => entry.name).sort(), [...NAMES].sort());
  assert.equal(entries.filter((entry) => entry.isDirectory()).length, 100);
  assert.equal(entries.filter((entry) => entry.isSymbolicLink()).length, 100);
});
listing('has . and .. with their inode numbers', (p) => {
  const numbers = p
    .run('ls', ['-ai'])
    .trim()
    .split('\n')
    .map((line) => line.trim().split(' '));
  const inode = (name: string) => Number(numbers.find(([, found]) => found === name)?.[0]);
  assert.equal(inode('.'), statSync(p.dir).ino);
  assert.ok(inode('..') > 0);
});
listing('shows what was made and removed before it began', (p) => {
  for (let i = 0; i < 20; i++) {
    p.file(`f${i}`);
    if (i > 0) unlinkSync(p.at(`f${i - 1}`));
    assert.deepEqual(readdirSync(p.dir), [`f${i}`]);
  }
});
listing('while entries are removed gives every other one exactly once', (p) => {
  for (const name of NAMES) p.file(name);
  const dir = opendirSync(p.dir, { bufferSize: 8 });
  const seen: string[] = [];
  for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) {
    seen.push(entry.name);
    unlinkSync(p.at(entry.name));
  }
  dir.closeSync();
  assert.equal(new Set(seen).size, seen.length);
  assert.deepEqual([...new Set([...seen, ...readdirSync(p.dir)])].sort(), [...NAMES].sort());
});
listing('while entries are made gives the old ones exactly once and ends', (p) => {
  for (const name of NAMES.slice(0, 200)) p.file(name);
  const dir = opendirSync(p.dir, { bufferSize: 8 });
  const seen: string[] = [];
  for (let entry = dir.readSync(); entry !== null && seen.length < 2000; entry = dir.readSync()) {
    seen.push(entry.name);
    if (seen.length <= 200) p.file(`new-${seen.length}`);
  }
  dir.closeSync();
  const old = seen.filter((name) => name.startsWith('entry'));
  assert.equal(new Set(old).size, 200);
  assert.equal(old.length, 200);
  assert.ok(seen.length < 2000);
});
listing('rm -r, find and du agree about a tree', (p) => {
  p.run('sh', [
    '-c',
    'for a in 1 2 3; do for b in 1 2 3; do mkdir -p $a/$b; for c in 1 2 3; do echo $c > $a/$b/$c; done; done; done',
  ]);
  assert.equal(p.run('sh', ['-c', 'find . -type f | wc -l']).trim(), '27');
  assert.equal(p.run('sh', ['-c', 'grep -r 2 . | wc -l']).trim(), '9');
  p.run('sh', ['-c', 'du -s . >/dev/null && rm -r 1 2 3']);
  assert.deepEqual(readdirSync(p.dir), []);
});

const strange = areaOf('names', nameChecks);
strange('255 bytes are a name, 256 are ENAMETOOLONG', (p) => {
  p.file('n'.repeat(255), 'x');
  assert.equal(readdirSync(p.dir)[0]?.length, 255);
  assert.equal(p.text(p.at('n'.repeat(255))), 'x');
  for (const call of [
    () => openSync(p.at('n'.repeat(256)), 'w'),
    () => mkdirSync(p.at('n'.repeat(256))),
    () => symlinkSync('x', p.at('n'.repeat(256))),
    () => renameSync(p.at('n'.repeat(255)), p.at('n'.repeat(256))),
    () => statSync(p.at('n'.repeat(256))),
  ]) {
    fails('ENAMETOOLONG', call);
  }
});
strange('a path of more than 4095 bytes is ENAMETOOLONG; deep trees are reached step by step', (p) => {
  fails('ENAMETOOLONG', () => statSync(`${p.dir}/${'./'.repeat(2100)}`));
  p.run('sh', [
    '-c',
    'i=0; while [ $i -lt 40 ]; do mkdir dddddddddddddddddddddddddddddd; cd dddddddddddddddddddddddddddddd; i=$((i+1)); done; echo deep > f; cat f',
  ]);
  rmSync(p.at('d'.repeat(30)), { recursive: true });
});
strange('any bytes but / and NUL are a name', (p) => {
  const names = [[0xff, 0xfe], [0x0a], [0x20, 0x2d, 0x2d], [0x01, 0x7f], [0xc3, 0x28], [0x2a, 0x3f, 0x5c, 0x22]];
  for (const name of names) writeFileSync(p.atBytes(Uint8Array.from(name)), Buffer.from(name).toString('hex'));
  const found = readdirSync(p.dir, { encoding: 'buffer' });
  assert.deepEqual(
    found.map((name) => name.toString('hex')).sort(),
    names.map((name) => Buffer.from(name).toString('hex')).sort(),
  );
  for (const name of found) assert.equal(p.text(p.atBytes(name)), name.toString('hex'));
});
strange('upper and lower case, composed and decomposed letters are different names', (p) => {
  for (const name of ['a', 'A', 'é', 'e\u0301']) p.file(name, name);
  assert.equal(readdirSync(p.dir).length, 4);
  assert.equal(p.text(p.at('e\u0301')), 'e\u0301');
});
strange('names that look special are not', (p) => {
  for (const name of ['-rf', '...', '.hidden', ' ', 'a\\b', '~', 'C:']) p.file(name, name);
  assert.equal(readdirSync(p.dir).length, 7);
});
