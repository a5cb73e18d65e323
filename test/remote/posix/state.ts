/**
 * Checks about what is attached to files: life after unlink, permissions, timestamps.
 */
import assert from 'node:assert/strict';
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { areaOf, type Check, fails, type Place, readAt, writeAll } from './check.ts';

export const stateChecks: Check[] = [];

/** Waits until the clock of any file system has moved on. */
function later(p: Place): void {
  p.run('sleep', ['0.05']);
}

const unlinked = areaOf('unlink of open files', stateChecks);
unlinked('an unlinked open file is read, written, truncated and grown', (p) => {
  p.file('f', 'before');
  p.with(p.at('f'), 'r+', (fd) => {
    unlinkSync(p.at('f'));
    assert.ok(!existsSync(p.at('f')));
    assert.equal(readAt(fd, 0), 'before');
    writeAll(fd, 'after!', 0);
    ftruncateSync(fd, 5);
    writeAll(fd, '+', 5);
    assert.equal(readAt(fd, 0), 'after+');
  });
  assert.deepEqual(readdirSync(p.dir), []);
});
unlinked('its name can be used again at once', (p) => {
  p.file('f', 'old');
  p.with(p.at('f'), 'r', (fd) => {
    unlinkSync(p.at('f'));
    p.file('f', 'new');
    assert.equal(readAt(fd, 0), 'old');
    assert.equal(p.text(p.at('f')), 'new');
    assert.notEqual(fstatSync(fd).ino, statSync(p.at('f')).ino);
  });
  assert.equal(p.text(p.at('f')), 'new');
});
unlinked('two descriptors of it see each other', (p) => {
  p.file('f', 'x');
  const [a, b] = [openSync(p.at('f'), 'r+'), openSync(p.at('f'), 'r')];
  unlinkSync(p.at('f'));
  writeAll(a, 'yz', 0);
  assert.equal(readAt(b, 0), 'yz');
  closeSync(a);
  assert.equal(readAt(b, 0), 'yz');
  closeSync(b);
});
unlinked(
  'its link count is 0',
  (p) => {
    p.with(p.file('f'), 'r', (fd) => {
      unlinkSync(p.at('f'));
      assert.equal(fstatSync(fd).nlink, 0);
    });
  },
  { remote: 'the file lives on under a .nfs name, so its link count is 1' },
);
unlinked(
  'its directory can be removed while it is open',
  (p) => {
    mkdirSync(p.at('d'));
    p.file('d/f', 'x');
    p.with(p.at('d', 'f'), 'r', (fd) => {
      unlinkSync(p.at('d', 'f'));
      rmdirSync(p.at('d'));
      assert.equal(readAt(fd, 0), 'x');
    });
  },
  { remote: 'the .nfs name keeps the directory from being empty until the file is closed' },
);
unlinked('a program goes on with a deleted temporary file', (p) => {
  const script = 'exec 3<>f; rm f; echo line >&3; cat /proc/self/fd/3; exec 3>&-; ls';
  assert.equal(p.run('sh', ['-c', script]), 'line\n');
});
unlinked('another name keeps the file', (p) => {
  p.file('a', 'x');
  linkSync(p.at('a'), p.at('b'));
  p.with(p.at('a'), 'r+', (fd) => {
    unlinkSync(p.at('a'));
    writeAll(fd, 'y', 0);
  });
  assert.equal(p.text(p.at('b')), 'y');
});

const permissions = areaOf('permissions', stateChecks);
const OTHER = { uid: 65_534, gid: 65_534 };
permissions('chmod and fchmod set all twelve bits', (p) => {
  p.file('f');
  for (const mode of [0, 0o777, 0o4755, 0o2755, 0o1777, 0o644]) {
    chmodSync(p.at('f'), mode);
    assert.equal(statSync(p.at('f')).mode & 0o7777, mode);
  }
  p.with(p.at('f'), 'r', (fd) => fchmodSync(fd, 0o600));
  assert.equal(statSync(p.at('f')).mode & 0o7777, 0o600);
});
permissions(
  'somebody else is refused what the mode refuses',
  (p) => {
    chmodSync(p.dir, 0o755);
    p.file('private', 'x', 0o600);
    p.file('public', 'x', 0o644);
    assert.equal(p.run('cat', ['public'], OTHER), 'x');
    assert.notEqual(p.spawn('cat', ['private'], OTHER).status, 0);
    assert.notEqual(p.spawn('sh', ['-c', 'echo y >> public'], OTHER).status, 0);
    assert.notEqual(p.spawn('sh', ['-c', 'echo y > new'], OTHER).status, 0);
    assert.notEqual(p.spawn('chmod', ['777', 'public'], OTHER).status, 0);
    assert.notEqual(p.spawn('rm', ['-f', 'public'], OTHER).status, 0);
    assert.equal(p.text(p.at('public')), 'x');
  },
  { needs: 'root' },
);
permissions(
  'a directory without x hides what is in it, one without r its names',
  (p) => {
    for (const [name, mode] of [
      ['nox', 0o744],
      ['nor', 0o711],
    ] as const) {
      mkdirSync(p.at(name));
      p.file(`${name}/f`, 'x');
      chmodSync(p.at(name), mode);
    }
    chmodSync(p.dir, 0o755);
    assert.notEqual(p.spawn('cat', ['nox/f'], OTHER).status, 0);
    assert.equal(p.run('cat', ['nor/f'], OTHER), 'x');
    assert.notEqual(p.spawn('ls', ['nor'], OTHER).status, 0);
  },
  { needs: 'root' },
);
permissions(
  'in a sticky directory only the owner removes',
  (p) => {
    chmodSync(p.dir, 0o1777);
    p.file('mine', 'x');
    assert.notEqual(p.spawn('rm', ['-f', 'mine'], OTHER).status, 0);
    assert.notEqual(p.spawn('mv', ['mine', 'theirs'], OTHER).status, 0);
    p.run('sh', ['-c', 'echo x > theirs && mv theirs again && rm again'], OTHER);
    assert.ok(existsSync(p.at('mine')));
  },
  { needs: 'root' },
);
permissions(
  'the owner of a new file is who made it; a set-group-ID directory gives its group',
  (p) => {
    chmodSync(p.dir, 0o777);
    p.run('touch', ['a'], OTHER);
    assert.deepEqual([statSync(p.at('a')).uid, statSync(p.at('a')).gid], [65_534, 65_534]);
    mkdirSync(p.at('d'));
    chownSync(p.at('d'), 0, 12);
    chmodSync(p.at('d'), 0o2777);
    p.run('sh', ['-c', 'touch d/f; mkdir d/e'], OTHER);
    assert.equal(statSync(p.at('d', 'f')).gid, 12);
    assert.equal(statSync(p.at('d', 'e')).gid, 12);
    assert.equal(statSync(p.at('d', 'e')).mode & 0o2000, 0o2000);
  },
  { needs: 'root' },
);
permissions(
  'a write by somebody else takes set-user-ID away, chown does so too',
  (p) => {
    chmodSync(p.dir, 0o777);
    p.file('f', 'x');
    chmodSync(p.at('f'), 0o4777);
    p.run('sh', ['-c', 'echo y >> f'], OTHER);
    assert.equal(statSync(p.at('f')).mode & 0o4000, 0);
    chmodSync(p.at('f'), 0o4755);
    chownSync(p.at('f'), 65_534, 65_534);
    assert.equal(statSync(p.at('f')).mode & 0o4000, 0);
  },
  { needs: 'root' },
);
permissions('access says what open will do', (p) => {
  p.file('f', 'x', 0o644);
  accessSync(p.at('f'), constants.R_OK | constants.W_OK);
  fails('EACCES', () => accessSync(p.at('f'), constants.X_OK));
  fails('ENOENT', () => accessSync(p.at('no')));
});
permissions(
  'chown changes owner and group, of a symlink the link’s',
  (p) => {
    p.file('f');
    symlinkSync('f', p.at('l'));
    chownSync(p.at('f'), 1, 2);
    assert.deepEqual([statSync(p.at('f')).uid, statSync(p.at('f')).gid], [1, 2]);
    p.run('chown', ['-h', '3:4', 'l']);
    assert.deepEqual([lstatSync(p.at('l')).uid, lstatSync(p.at('l')).gid], [3, 4]);
    assert.equal(statSync(p.at('f')).uid, 1);
  },
  { needs: 'root' },
);

const times = areaOf('timestamps', stateChecks);
times('writing moves mtime and ctime, reading neither', (p) => {
  p.file('f', 'x');
  const made = statSync(p.at('f'));
  later(p);
  readFileSync(p.at('f'));
  assert.equal(statSync(p.at('f')).mtimeMs, made.mtimeMs);
  assert.equal(statSync(p.at('f')).ctimeMs, made.ctimeMs);
  p.with(p.at('f'), 'r+', (fd) => writeAll(fd, 'y'));
  assert.ok(statSync(p.at('f')).mtimeMs > made.mtimeMs);
  assert.ok(statSync(p.at('f')).ctimeMs > made.ctimeMs);
});
times('chmod, link and rename move the ctime and not the mtime', (p) => {
  p.file('f');
  let before = statSync(p.at('f'));
  const { mtimeMs } = before;
  for (const change of [
    () => chmodSync(p.at('f'), 0o600),
    () => linkSync(p.at('f'), p.at('g')),
    () => unlinkSync(p.at('g')),
  ]) {
    later(p);
    change();
    const now = statSync(p.at('f'));
    assert.ok(now.ctimeMs > before.ctimeMs);
    assert.equal(now.mtimeMs, mtimeMs);
    before = now;
  }
});
times('a directory’s mtime moves when a name comes, goes or changes', (p) => {
  let before = statSync(p.dir).mtimeMs;
  for (const change of [
    () => p.file('a'),
    () => mkdirSync(p.at('d')),
    () => renameSync(p.at('a'), p.at('b')),
    () => symlinkSync('x', p.at('l')),
    () => unlinkSync(p.at('b')),
    () => rmdirSync(p.at('d')),
  ]) {
    later(p);
    change();
    const now = statSync(p.dir).mtimeMs;
    assert.ok(now > before, String(change));
    before = now;
  }
});
times('what utimes sets stays, to the microsecond', (p) => {
  p.file('f');
  for (const [atime, mtime] of [
    [1, 2],
    [1_000_000_000.123456, 1_234_567_890.654321],
    [0, 0],
  ] as const) {
    utimesSync(p.at('f'), atime, mtime);
    const now = statSync(p.at('f'));
    assert.ok(Math.abs(now.atimeMs / 1000 - atime) < 2e-6 && Math.abs(now.mtimeMs / 1000 - mtime) < 2e-6);
  }
  p.with(p.at('f'), 'r+', (fd) => futimesSync(fd, 5, 6));
  assert.equal(statSync(p.at('f')).mtimeMs, 6000);
});
times('nanoseconds are kept', (p) => {
  p.run('touch', ['-d', '2020-01-02 03:04:05.123456789 UTC', 'f']);
  assert.equal(statSync(p.at('f'), { bigint: true }).mtimeNs, 1_577_934_245_123_456_789n);
});
times(
  'of a symlink, without touching its target',
  (p) => {
    p.file('f');
    symlinkSync('f', p.at('l'));
    const target = statSync(p.at('f')).mtimeMs;
    lutimesSync(p.at('l'), 10, 20);
    assert.equal(lstatSync(p.at('l')).mtimeMs, 20_000);
    assert.equal(statSync(p.at('f')).mtimeMs, target);
  },
  { remote: 'nfs-ganesha 4.3 (FSAL_VFS) answers that it has set the times of a symlink, and has not' },
);
times('after 2038', (p) => {
  p.file('f');
  utimesSync(p.at('f'), 3_000_000_000, 4_000_000_000);
  assert.equal(statSync(p.at('f')).mtimeMs, 4e12);
});
times(
  'before 1970',
  (p) => {
    p.run('touch', ['-d', '1960-01-01 00:00:00 UTC', 'f']);
    assert.equal(p.run('stat', ['-c', '%Y', 'f']).trim(), '-315619200');
  },
  { remote: 'NFSv3 has unsigned seconds: there is no time before 1970' },
);
times('truncate and O_TRUNC move the mtime', (p) => {
  p.file('f', 'text');
  for (const change of [
    () => p.with(p.at('f'), 'r+', (fd) => ftruncateSync(fd, 2)),
    () => closeSync(openSync(p.at('f'), 'w')),
  ]) {
    const before = statSync(p.at('f')).mtimeMs;
    later(p);
    change();
    assert.ok(statSync(p.at('f')).mtimeMs > before);
  }
});
times('times set while a descriptor has unwritten data hold after its close', (p) => {
  p.with(p.at('f'), 'w', (fd) => {
    writeAll(fd, 'data');
    futimesSync(fd, 100, 200);
  });
  assert.equal(statSync(p.at('f')).mtimeMs, 200_000);
});
times(
  'make sees what is newer',
  (p) => {
    writeFileSync(p.at('Makefile'), 'out: in\n\tcp in out\n');
    p.file('in', '1');
    p.run('make', ['-s']);
    assert.equal(p.spawn('make', ['-q']).status, 0);
    later(p);
    p.file('in', '2');
    assert.equal(p.spawn('make', ['-q']).status, 1);
    p.run('make', ['-s']);
    assert.equal(p.text(p.at('out')), '2');
  },
  { needs: 'make' },
);
