/**
 * Checks about the contents of files: open flags, reading and writing, append, truncation, holes, fsync.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readvSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { areaOf, type Check, fails, readAt, writeAll } from './check.ts';

const { O_APPEND, O_CREAT, O_DIRECTORY, O_DSYNC, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } =
  constants;

export const fileChecks: Check[] = [];

const open = areaOf('open', fileChecks);
open('O_CREAT makes an empty file with the mode less the umask', (p) => {
  const umask = process.umask(0o027);
  try {
    closeSync(openSync(p.at('f'), O_CREAT | O_WRONLY, 0o666));
  } finally {
    process.umask(umask);
  }
  assert.equal(statSync(p.at('f')).mode & 0o7777, 0o640);
  assert.equal(statSync(p.at('f')).size, 0);
});
open('O_CREAT leaves mode and contents of an existing file', (p) => {
  p.file('f', 'old', 0o600);
  closeSync(openSync(p.at('f'), O_CREAT | O_RDWR, 0o777));
  assert.equal(statSync(p.at('f')).mode & 0o777, 0o600);
  assert.equal(p.text(p.at('f')), 'old');
});
open('O_EXCL fails with EEXIST for a file, a directory and a dangling symlink', (p) => {
  p.file('f');
  mkdirSync(p.at('d'));
  symlinkSync('nowhere', p.at('l'));
  for (const name of ['f', 'd', 'l']) fails('EEXIST', () => openSync(p.at(name), O_CREAT | O_EXCL | O_WRONLY));
  assert.ok(!existsSync(p.at('nowhere')));
});
open('O_CREAT through a dangling symlink makes its target', (p) => {
  symlinkSync('target', p.at('l'));
  p.with(p.at('l'), 'w', (fd) => writeAll(fd, 'x'));
  assert.equal(p.text(p.at('target')), 'x');
});
open('O_TRUNC empties a file, also when it is open elsewhere', (p) => {
  p.file('f', 'contents');
  p.with(p.at('f'), 'r', (fd) => {
    closeSync(openSync(p.at('f'), O_WRONLY | O_TRUNC));
    assert.equal(fstatSync(fd).size, 0);
    assert.equal(readAt(fd, 0), '');
  });
});
open('O_DIRECTORY of a file is ENOTDIR', (p) => {
  fails('ENOTDIR', () => openSync(p.file('f'), O_RDONLY | O_DIRECTORY));
});
open('O_NOFOLLOW of a symlink is ELOOP', (p) => {
  p.file('f');
  symlinkSync('f', p.at('l'));
  fails('ELOOP', () => openSync(p.at('l'), O_RDONLY | O_NOFOLLOW));
});
open('a directory can be opened for reading, for writing it is EISDIR', (p) => {
  mkdirSync(p.at('d'));
  closeSync(openSync(p.at('d'), O_RDONLY));
  fails('EISDIR', () => openSync(p.at('d'), O_WRONLY));
  fails('EISDIR', () => openSync(p.at('d'), O_CREAT | O_RDWR));
  p.with(p.at('d'), O_RDONLY, (fd) => fails('EISDIR', () => readAt(fd, null)));
});
open('ENOENT and ENOTDIR tell what of the path is missing', (p) => {
  p.file('f');
  fails('ENOENT', () => openSync(p.at('no'), 'r'));
  fails('ENOENT', () => openSync(p.at('no', 'f'), 'w'));
  fails('ENOTDIR', () => openSync(p.at('f', 'x'), 'w'));
  fails('ENOTDIR', () => statSync(`${p.at('f')}/`));
});
open('a descriptor allows only what it was opened for', (p) => {
  p.file('f', 'x');
  p.with(p.at('f'), 'r', (fd) => fails('EBADF', () => writeSync(fd, 'y')));
  p.with(p.at('f'), O_WRONLY, (fd) => fails('EBADF', () => readAt(fd, null)));
});
open('a file made read-only can be written through the descriptor that made it', (p) => {
  p.with(p.at('f'), O_CREAT | O_EXCL | O_RDWR, (fd) => writeAll(fd, 'data'), 0o444);
  assert.equal(p.text(p.at('f')), 'data');
});
open('of many processes that use O_EXCL on one name exactly one wins', (p) => {
  const script = 'for i in 1 2 3 4 5 6 7 8; do (set -C; echo $i > lock) 2>/dev/null && echo won & done; wait';
  for (let round = 0; round < 5; round++) {
    assert.equal(p.run('sh', ['-c', script]), 'won\n');
    unlinkSync(p.at('lock'));
  }
});

const io = areaOf('read and write', fileChecks);
io('what is written is read, by the same and by another descriptor, at once', (p) => {
  p.with(p.at('f'), 'w+', (a) => {
    writeAll(a, 'hello');
    p.with(p.at('f'), 'r+', (b) => {
      assert.equal(readAt(b, null), 'hello');
      writeAll(b, 'J', 0);
      assert.equal(readAt(a, 0), 'Jello');
    });
  });
});
io('pread and pwrite leave the offset', (p) => {
  p.with(p.at('f'), 'w+', (fd) => {
    writeAll(fd, 'abc');
    writeAll(fd, 'X', 0);
    assert.equal(readAt(fd, 1, 1), 'b');
    writeAll(fd, 'd');
    assert.equal(readAt(fd, 0), 'Xbcd');
  });
});
io('reads end at the end of the file, and continue when it has grown', (p) => {
  p.file('f', 'one');
  p.with(p.at('f'), 'r', (fd) => {
    assert.equal(readAt(fd, null), 'one');
    assert.equal(readAt(fd, null), '');
    p.with(p.at('f'), 'a', (other) => writeAll(other, 'two'));
    assert.equal(readAt(fd, null), 'two');
    assert.equal(readAt(fd, 1000), '');
  });
});
io('a write of nothing changes nothing', (p) => {
  p.with(p.at('f'), 'w+', (fd) => {
    assert.equal(writeSync(fd, Buffer.alloc(0), 0, 0, 100), 0);
    assert.equal(fstatSync(fd).size, 0);
  });
});
io('readv and writev', (p) => {
  p.with(p.at('f'), 'w+', (fd) => {
    assert.equal(writevSync(fd, [Buffer.from('ab'), Buffer.from('cde')]), 5);
    const parts = [Buffer.alloc(3), Buffer.alloc(4)];
    assert.equal(readvSync(fd, parts, 0), 5);
    assert.equal(Buffer.concat(parts).toString('latin1', 0, 5), 'abcde');
  });
});
io('four megabytes in odd pieces come back byte for byte, to a program too', (p) => {
  const data = Buffer.alloc(4 << 20);
  for (let i = 0; i < data.length; i++) data[i] = (i * 31 + (i >> 8)) & 255;
  p.with(p.at('f'), 'w', (fd) => {
    for (let at = 0, size = 1; at < data.length; at += size, size = ((size * 3) % 100_003) + 1) {
      size = Math.min(size, data.length - at);
      assert.equal(writeSync(fd, data, at, size, at), size);
    }
  });
  assert.ok(readFileSync(p.at('f')).equals(data));
  const sum = createHash('sha256').update(data).digest('hex');
  assert.equal(p.run('sha256sum', ['f']).slice(0, 64), sum);
});

const append = areaOf('append', fileChecks);
append('O_APPEND writes at the end, wherever the offset is and whoever wrote last', (p) => {
  p.file('f', 'start');
  p.with(p.at('f'), O_WRONLY | O_APPEND, (fd) => {
    p.with(p.at('f'), 'a', (other) => writeAll(other, '-other'));
    writeAll(fd, '-mine');
    truncateSync(p.at('f'), 2);
    writeAll(fd, '!');
  });
  assert.equal(p.text(p.at('f')), 'st!');
});
append('many processes append lines to one file: none is lost or torn', (p) => {
  p.file('log');
  p.run('sh', [
    '-c',
    'for w in 1 2 3 4; do (for i in 1 2 3 4 5 6 7 8 9 10; do echo "$w:$i" >> log; done) & done; wait',
  ]);
  const lines = p.text(p.at('log')).trimEnd().split('\n');
  assert.equal(new Set(lines).size, 40);
  assert.equal(lines.length, 40);
  assert.ok(lines.every((line) => /^\d:\d+$/.test(line)));
});

const truncation = areaOf('truncation', fileChecks);
truncation('shorter, and longer with zeros', (p) => {
  p.file('f', 'abcdef');
  truncateSync(p.at('f'), 3);
  truncateSync(p.at('f'), 6);
  assert.equal(p.text(p.at('f')), 'abc\0\0\0');
});
truncation('ftruncate is seen by other descriptors, offsets stay', (p) => {
  p.file('f', 'abcdef');
  p.with(p.at('f'), 'r+', (fd) => {
    assert.equal(readAt(fd, null), 'abcdef');
    p.with(p.at('f'), 'r+', (other) => ftruncateSync(other, 2));
    writeAll(fd, 'X');
    assert.equal(readAt(fd, 0), 'ab\0\0\0\0X');
  });
});
truncation('in the middle of a page, data beyond does not come back', (p) => {
  const data = 'x'.repeat(10_000);
  p.file('f', data);
  p.with(p.at('f'), 'r+', (fd) => {
    assert.equal(readAt(fd, 0, 10_000), data);
    ftruncateSync(fd, 5000);
    ftruncateSync(fd, 10_000);
    assert.equal(readAt(fd, 0, 10_000), data.slice(0, 5000) + '\0'.repeat(5000));
  });
});
truncation('of a directory EISDIR, of a read-only descriptor EINVAL or EBADF', (p) => {
  mkdirSync(p.at('d'));
  fails('EISDIR', () => truncateSync(p.at('d'), 0));
  p.with(p.file('f', 'x'), 'r', (fd) => fails(['EINVAL', 'EBADF'], () => ftruncateSync(fd, 0)));
});

const sparse = areaOf('holes', fileChecks);
sparse('a hole reads as zeros', (p) => {
  p.with(p.at('f'), 'w+', (fd) => {
    writeAll(fd, 'end', 1 << 20);
    assert.equal(fstatSync(fd).size, (1 << 20) + 3);
    assert.equal(readAt(fd, 1000, 4), '\0\0\0\0');
    assert.equal(readAt(fd, (1 << 20) - 1, 10), '\0end');
  });
});
sparse('a file beyond 4 GiB takes little room', (p) => {
  const far = 5 * 2 ** 30;
  p.with(p.at('f'), 'w+', (fd) => writeAll(fd, 'x', far));
  const { size, blocks } = statSync(p.at('f'));
  assert.equal(size, far + 1);
  assert.ok(blocks * 512 < 2 ** 20, `${blocks} blocks`);
  p.with(p.at('f'), 'r', (fd) => assert.equal(readAt(fd, far - 1), '\0x'));
});

const sync = areaOf('fsync', fileChecks);
sync('fsync and fdatasync of files, fsync of a directory', (p) => {
  p.with(p.at('f'), 'w', (fd) => {
    writeAll(fd, 'x');
    fsyncSync(fd);
    writeAll(fd, 'y');
    fdatasyncSync(fd);
  });
  p.with(p.dir, 'r', fsyncSync);
  p.run('sync', [p.at('f')]);
});
sync('O_SYNC and O_DSYNC', (p) => {
  for (const flag of [O_SYNC, O_DSYNC]) {
    p.with(p.at('f'), O_CREAT | O_RDWR | O_TRUNC | flag, (fd) => {
      writeAll(fd, 'data');
      assert.equal(readAt(fd, 0), 'data');
    });
  }
});
sync('statfs tells sizes that can be', (p) => {
  const { bsize, blocks, bfree, bavail } = statfsSync(p.dir);
  assert.ok(bsize > 0 && blocks >= bfree && bfree >= bavail && blocks > 0);
});
