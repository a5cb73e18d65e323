/**
 * Checks that need other processes: mmap, exec, locks, pipes and sockets in the file system, and programs at work.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { areaOf, type Check, HELPER, type Place } from './check.ts';

export const programChecks: Check[] = [];

const mmap = areaOf('mmap', programChecks);
mmap('shared and private mappings agree with read, write and truncate', (p) => {
  p.file('f', 'hello');
  assert.equal(p.run(process.execPath, [HELPER, 'map', p.at('f')]), 'mapped\n');
  assert.equal(p.text(p.at('f')), 'Wor');
});
mmap('a page beyond the end of the file is SIGBUS', (p) => {
  p.file('f', 'x');
  assert.equal(p.helper('fault', p.at('f')).signal, 'SIGBUS');
});

const exec = areaOf('exec', programChecks);
exec('a script and a program are run from here', (p) => {
  p.file('script', '#!/bin/sh\necho "args: $*"; exit 3\n', 0o755);
  const ran = p.spawn(p.at('script'), ['a', 'b']);
  assert.deepEqual([ran.stdout, ran.status], ['args: a b\n', 3]);
  copyFileSync('/bin/cat', p.at('cat'));
  chmodSync(p.at('cat'), 0o755);
  assert.equal(p.spawn(p.at('cat'), [], { input: 'through' }).stdout, 'through');
  symlinkSync('cat', p.at('tac'));
  assert.equal(p.spawn(p.at('tac'), [], { input: 'link' }).stdout, 'link');
});
exec('without x it is EACCES', (p) => {
  p.file('script', '#!/bin/sh\n', 0o644);
  assert.equal((p.spawn(p.at('script')).error as NodeJS.ErrnoException).code, 'EACCES');
});
exec('a running program cannot be written (ETXTBSY), but replaced', (p) => {
  copyFileSync('/bin/sleep', p.at('prog'));
  chmodSync(p.at('prog'), 0o755);
  const script =
    './prog 60 & pid=$!; until grep -q prog /proc/$pid/comm; do :; done; (echo x >> prog) 2>/dev/null && echo written; cp /bin/true new && mv new prog && ./prog && echo replaced; kill $pid';
  assert.equal(p.run('sh', ['-c', script]), 'replaced\n');
});
exec(
  'a program compiled here runs here',
  (p) => {
    p.file('a.c', '#include <stdio.h>\n#include "b.h"\nint main(void) { puts(B); return 0; }\n');
    p.file('b.h', '#define B "compiled"\n');
    p.run('cc', ['-o', 'a.out', 'a.c']);
    assert.equal(p.run(p.at('a.out')), 'compiled\n');
  },
  { needs: 'cc' },
);

const locks = areaOf('locks', programChecks);
/** Runs `script` in a shell while another process holds a lock on `f`. */
function whileLocked(p: Place, kind: string, from: number, length: number, script: string): string {
  const helper = `${process.execPath} ${HELPER}`;
  const all = `mkfifo hold; ${helper} lock f ${kind} ${from} ${length} < hold > state & exec 3>hold; until grep -q . state 2>/dev/null; do :; done; H="${helper}"; ${script}; exec 3>&-; wait`;
  return p.run('sh', ['-c', all]);
}
locks('fcntl: two readers, one writer, by range', (p) => {
  p.file('f', 'x'.repeat(100));
  const out = whileLocked(
    p,
    'w',
    10,
    10,
    '$H lock f w 15 1 </dev/null; $H lock f r 0 0 </dev/null; $H lock f w 20 5 </dev/null; $H test f w 0 5',
  );
  assert.equal(out, 'EAGAIN\nEAGAIN\nlocked\nfree\n');
});
locks('fcntl: readers share', (p) => {
  p.file('f', 'x');
  assert.equal(whileLocked(p, 'r', 0, 0, '$H lock f r 0 0 </dev/null; $H lock f w 0 0 </dev/null'), 'locked\nEAGAIN\n');
});
locks('fcntl: F_GETLK tells who, and an end of the process gives the lock back', (p) => {
  p.file('f', 'x');
  const out = whileLocked(
    p,
    'w',
    0,
    0,
    'exec 4<f; $H test f r 0 0 | sed "s/[0-9]*$/N/"; exec 3>&-; wait; $H lock f w 0 0 </dev/null',
  );
  assert.equal(out, 'held by N\nlocked\n');
});
locks(
  'flock',
  (p) => {
    p.file('f');
    const script = 'exec 9>f; flock -n 9 && (flock -n f true || echo busy); exec 9>&-; flock -n f echo free';
    assert.equal(p.run('sh', ['-c', script]), 'busy\nfree\n');
  },
  { needs: 'flock' },
);

const special = areaOf('special files', programChecks);
special('a fifo between two processes', (p) => {
  p.run('mkfifo', ['-m', '640', 'pipe']);
  assert.ok(lstatSync(p.at('pipe')).isFIFO());
  assert.equal(lstatSync(p.at('pipe')).mode & 0o777, 0o640);
  assert.equal(p.run('sh', ['-c', 'echo through > pipe & cat pipe; wait']), 'through\n');
});
special('a unix socket', (p) => {
  const script = `const net = require('net'); process.chdir(${JSON.stringify(p.dir)}); const s = net.createServer((c) => c.end('served')).listen('sock', () => net.connect('sock').on('data', (d) => console.log(String(d))).on('end', () => s.close()));`;
  assert.equal(p.run(process.execPath, ['-e', script]), 'served\n');
});
special(
  'device nodes',
  (p) => {
    p.run('mknod', ['null', 'c', '1', '3']);
    const { rdev } = lstatSync(p.at('null'));
    assert.ok(lstatSync(p.at('null')).isCharacterDevice());
    assert.equal(rdev, statSync('/dev/null').rdev);
  },
  { needs: 'mknod' },
);

const programs = areaOf('programs', programChecks);
programs(
  'tar packs and unpacks with modes, times and links',
  (p) => {
    mkdirSync(p.at('d', 'e'), { recursive: true });
    writeFileSync(p.at('d', 'f'), 'x', { mode: 0o640 });
    symlinkSync('f', p.at('d', 'l'));
    p.run('sh', ['-c', 'ln d/f d/h; touch -d 2001-01-01 d/f; tar cf t.tar d; mv d old; tar xf t.tar; diff -r d old']);
    assert.equal(statSync(p.at('d', 'f')).nlink, 2);
    assert.equal(statSync(p.at('d', 'f')).mode & 0o777, 0o640);
    assert.equal(statSync(p.at('d', 'f')).mtimeMs, statSync(p.at('old', 'f')).mtimeMs);
  },
  { needs: 'tar' },
);
programs(
  'git: init, add, commit, branch, checkout, status, gc, fsck',
  (p) => {
    const script = [
      'export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b',
      'git init -q r && cd r',
      'for i in 1 2 3 4 5; do mkdir d$i; echo $i > d$i/f; done',
      'git add . && git commit -qm one && git checkout -qb other && git mv d1 e1 && echo 2 >> d2/f && git commit -qam two',
      'git checkout -q - && test -d d1 && test ! -d e1 && git merge -q other && test -d e1',
      'git gc -q && git fsck --strict && git status --porcelain && git log --oneline | wc -l',
    ];
    assert.equal(p.run('sh', ['-ec', script.join('\n')]).trim(), '2');
  },
  { needs: 'git' },
);
programs('cp -a, mv between directories, sort in place, sed -i', (p) => {
  p.run('sh', [
    '-ec',
    'mkdir a b; printf "3\\n1\\n2\\n" > a/f; cp -a a/f a/g; mv a/f b/; sort -o b/f b/f; sed -i s/1/one/ b/f',
  ]);
  assert.equal(p.text(p.at('b', 'f')), 'one\n2\n3\n');
  assert.equal(p.text(p.at('a', 'g')), '3\n1\n2\n');
  assert.deepEqual(readdirSync(p.at('b')), ['f']);
});
programs('dd writes blocks at offsets without truncating', (p) => {
  p.file('f', 'x'.repeat(4096));
  p.run('sh', ['-c', 'printf abc | dd of=f bs=1 seek=100 conv=notrunc status=none']);
  assert.equal(p.text(p.at('f')), `${'x'.repeat(100)}abc${'x'.repeat(3993)}`);
});
