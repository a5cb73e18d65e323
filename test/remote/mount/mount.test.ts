/**
 * `isthmus mount` over a real server: what programs do on it, what other clients change beneath it, and how it ends.
 * It starts nfs-ganesha and mounts; all of it goes with the tests.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startGanesha } from '../../servers/ganesha.ts';
import { hasCommand, need } from '../../support/need.ts';
import { isMounted, MAIN, mountPoint, needFuse, shell, startMount, until } from './support.ts';

/** The source stands beside this file in the checkout; what is compiled may lie elsewhere. */
const POSIX_C = [
  new URL('./posix.c', import.meta.url),
  new URL('../../../../test/remote/mount/posix.c', import.meta.url),
]
  .map((url) => fileURLToPath(url))
  .find((path) => existsSync(path));

const PROGRAMS = `
mkdir work && cd work
git init -q r && cd r && git config user.email a@b && git config user.name n
for i in 1 2 3 4 5 6; do mkdir d$i; echo "file $i" > d$i/f$i; done
git add -A && git commit -qm one && test -z "$(git status --porcelain)"
cd .. && git clone -q r r2 && diff -r --exclude=.git r r2 && git -C r2 fsck
tar cf t.tar r2 && mkdir x && tar xf t.tar -C x && diff -r x/r2 r2
printf '#include <stdio.h>\\nint f(void);int main(void){printf("%%d\\\\n",f());return 0;}\\n' > m.c
printf 'int f(void){return 42;}\\n' > f.c
printf 'm: m.o f.o\\n\\tcc -o m m.o f.o\\nm.o: m.c\\n\\tcc -c m.c\\nf.o: f.c\\n\\tcc -c f.c\\n' > Makefile
make -s && test "$(./m)" = 42 && make -q
printf '#!/bin/sh\\necho ran $1\\n' > s && chmod +x s && test "$(./s x)" = "ran x"
dd if=/dev/urandom of=big bs=1M count=3 2>/dev/null && cp big big2 && cmp big big2
cd .. && mv work moved && test -f moved/m && rm -r moved && test -z "$(ls -A | grep -v posix)"
echo done
`;

/** Mounts as a user in a namespace where everybody may open the device, uses it, unmounts it; and again, killed. */
const AS_USER = `
fuse=$1 dir=$2 id=$3 node=$4 main=$5 url=$6
mount --bind "$fuse" /dev/fuse
as="setpriv --reuid $id --regid $id --clear-groups --"
mounted() { grep -q " $dir .*fuse.isthmus" /proc/self/mountinfo; }
wait_for() { i=0; until "$@"; do i=$((i + 1)); [ $i -lt 600 ] || exit 9; sleep 0.05; done; }
gone() { ! mounted; }
$as $node $main mount "$url" $dir 2>/dev/null & server=$!
trap 'kill -9 $server 2>/dev/null' EXIT
wait_for mounted
$as sh -c "cd $dir && echo mine > f && cat f"
$as $node $main unmount $dir
gone && wait $server && echo unmounted
$as $node $main mount "$url" $dir 2>/dev/null & server=$!
wait_for mounted
kill -9 $server
wait_for gone
echo gone
`;

// Each test has a server of its own.
describe('isthmus mount', { concurrency: 2 }, () => {
  it('programs work on it: sh, git, tar, make, cc, dd', async (t) => {
    if (!needFuse(t) || !need(t, hasCommand('git') && hasCommand('make') && hasCommand('cc'), 'needs git, make, cc'))
      return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory } = await startMount(t, server.url(process.env['ISTHMUS_MOUNT_VERSION'] === '4.1' ? '4.1' : '3'));
    const ran = await shell(PROGRAMS, directory);
    assert.equal(ran.status, 0, ran.stderr);
    assert.match(ran.stdout, /done\n$/);
    assert.deepEqual(readdirSync(server.exportDir), []);
  });

  for (const version of ['3', '4.1']) {
    it(`system calls behave as on Linux's own NFS (NFSv${version})`, async (t) => {
      if (!needFuse(t) || !need(t, hasCommand('cc'), 'needs cc')) return;
      const server = await startGanesha(t);
      if (server === null) return;
      const { directory } = await startMount(t, server.url(version as '3'));
      const ran = await shell('cc -o posix "$1" && mkdir empty && cd empty && ../posix && ls -A', directory, [
        POSIX_C!,
      ]);
      assert.equal(ran.stdout, 'ok\n', ran.stderr);
    });
  }

  it('a database works on it', async (t) => {
    if (!needFuse(t) || !need(t, hasCommand('sqlite3'), 'sqlite3 is not installed')) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory } = await startMount(t, server.url('3'));
    const sql = 'create table t(a); insert into t values(1),(2),(39); select sum(a) from t;';
    const ran = await shell(
      `sqlite3 db '${sql}' && sqlite3 db 'pragma integrity_check; select count(*) from t'`,
      directory,
    );
    assert.equal(ran.stdout, '42\nok\n3\n', ran.stderr);
  });

  it('what another client changes is seen at the next open, and in the next listing', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory } = await startMount(t, server.url('3'));
    const behind = (name: string): string => join(server.exportDir, name);
    writeFileSync(behind('f'), 'one');
    assert.equal((await shell('cat f; cat f', directory)).stdout, 'oneone');
    writeFileSync(behind('f'), 'two');
    assert.equal((await shell('cat f', directory)).stdout, 'two');
    writeFileSync(behind('g'), 'new');
    assert.equal((await shell('ls; cat g', directory)).stdout, 'f\ng\nnew');
    await shell('echo three > f', directory);
    assert.equal(readFileSync(behind('f'), 'utf8'), 'three\n');
  });

  it('a process that is killed leaves no mount behind', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory, child, exited } = await startMount(t, server.url('3'));
    assert.ok(isMounted(directory));
    child.kill('SIGKILL');
    await exited;
    await until('the guardian has unmounted', () => !isMounted(directory));
    assert.deepEqual(readdirSync(directory), []);
  });

  it('Ctrl-C and SIGHUP unmount, also while a program uses the mount', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    for (const signal of ['SIGINT', 'SIGHUP'] as const) {
      const { directory, child, exited } = await startMount(t, server.url('3'));
      const user = spawn('sleep', ['1000'], { cwd: directory, stdio: 'ignore' });
      await until('it uses the mount', () => readFileSync(`/proc/${user.pid}/comm`, 'utf8') === 'sleep\n');
      child.kill(signal);
      assert.equal(await exited, 0);
      assert.ok(!isMounted(directory));
      user.kill('SIGKILL');
    }
  });

  it('isthmus unmount: refuses while it is used, and says what is not a mount of ours', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory, exited } = await startMount(t, server.url('3'));
    const unmount = (...args: string[]) =>
      spawnSync(process.execPath, [MAIN, 'unmount', ...args], { encoding: 'utf8' });
    const user = spawn('sleep', ['1000'], { cwd: directory, stdio: 'ignore' });
    await until('it uses the mount', () => readFileSync(`/proc/${user.pid}/comm`, 'utf8') === 'sleep\n');
    const busy = unmount(directory);
    assert.equal(busy.status, 1);
    assert.match(busy.stderr, /EBUSY.*--lazy/);
    assert.ok(isMounted(directory));
    const gone = new Promise((resolve) => user.once('exit', resolve));
    user.kill('SIGKILL');
    await gone;
    assert.equal(unmount(directory).status, 0);
    assert.equal(await exited, 0);
    assert.match(unmount(directory).stderr, /nothing is mounted there/);
    assert.match(unmount('/proc').stderr, /what is mounted there is proc/);
  });

  it('mount -b returns when the mount stands', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const directory = mountPoint(t);
    const back = spawnSync(process.execPath, [MAIN, 'mount', '-b', server.url('3'), directory], { encoding: 'utf8' });
    assert.equal(back.status, 0, back.stderr);
    assert.ok(isMounted(directory));
    assert.equal((await shell('echo hello > f; cat f', directory)).stdout, 'hello\n');
    assert.equal(spawnSync(process.execPath, [MAIN, 'unmount', directory]).status, 0);
  });

  it('what cannot be mounted is said in one line', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const mount = (...args: string[]) => spawnSync(process.execPath, [MAIN, 'mount', ...args], { encoding: 'utf8' });
    const directory = mountPoint(t);
    assert.match(mount(server.url('3'), join(directory, 'none')).stderr, /^isthmus mount: ENOENT: .*none/);
    assert.match(
      mount(server.url('3').replace('/export', '/none'), directory).stderr,
      /^isthmus mount: (ENOENT|EACCES)/,
    );
    assert.match(mount('http://x/y', directory).stderr, /not a URL of a file server/);
    assert.match(mount('-b', server.url('3'), join(directory, 'none')).stderr, /^isthmus mount: ENOENT/);
  });

  it('a mount for one command: its exit code, and nobody else sees it', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const directory = mountPoint(t);
    const run = async (script: string) =>
      shell('"$1" "$2" mount "$3" "$4" -- sh -c "$5"', '/', [
        process.execPath,
        MAIN,
        server.url('3'),
        directory,
        script,
      ]);
    const ran = await run(`cd ${directory} && echo kept > f && cat f && exit 7`);
    assert.equal(ran.status, 7, ran.stderr);
    assert.equal(ran.stdout, 'kept\n');
    assert.equal(readFileSync(join(server.exportDir, 'f'), 'utf8'), 'kept\n');
    assert.equal((await run('kill -TERM $$')).status, 143);
    // Also one that is on the mount itself.
    copyFileSync('/bin/sh', join(server.exportDir, 'shell'));
    const argv = [
      process.execPath,
      MAIN,
      'mount',
      server.url('3'),
      directory,
      '--',
      join(directory, 'shell'),
      '-c',
      'exit 5',
    ];
    assert.equal((await shell('exec "$@"', '/', argv)).status, 5);
    assert.equal((await shell('exec "$@"', '/', [...argv.slice(0, 6), 'no-such-command'])).status, 127);
    assert.deepEqual(readdirSync(directory), []);
  });

  it('with --allow-other others may enter, and ask the server in their own name', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const asUser = async (directory: string, script: string) =>
      shell('exec setpriv --reuid 12345 --regid 12345 --clear-groups sh -c "cd $1 && $2"', '/', [directory, script]);
    const closed = await startMount(t, server.url('3'));
    assert.notEqual((await asUser(closed.directory, 'ls')).status, 0, 'without it nobody else enters');
    const { directory } = await startMount(t, server.url('3'), ['--allow-other']);
    chmodSync(directory, 0o777);
    writeFileSync(join(server.exportDir, 'secret'), 'x', { mode: 0o600 });
    const ran = await asUser(directory, 'echo own > f; stat -c %u:%g f; cat secret 2>&1; chmod 777 secret 2>&1');
    assert.match(ran.stdout, /^12345:12345\ncat: secret: Permission denied\nchmod: .*Operation not permitted\n$/);
    assert.equal(statSync(join(server.exportDir, 'f')).uid, 12345);
  });

  it('a file that is removed while open leaves nothing behind when the mount ends', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory, child, exited } = await startMount(t, server.url('3'));
    const user = spawn('sh', ['-c', `exec 3> ${directory}/f; rm ${directory}/f; exec sleep 1000`], { stdio: 'ignore' });
    await until('it is renamed', () => readdirSync(server.exportDir).some((name) => name.startsWith('.nfs')));
    child.kill('SIGTERM');
    assert.equal(await exited, 0);
    user.kill('SIGKILL');
    assert.deepEqual(readdirSync(server.exportDir), []);
  });

  it('without privileges, in a user namespace', async (t) => {
    if (!needFuse(t)) return;
    const id = '12345';
    const asUser = ['setpriv', '--reuid', id, '--regid', id, '--clear-groups'];
    const can = spawnSync(asUser[0]!, [...asUser.slice(1), 'unshare', '-Um', 'true'], { cwd: '/', stdio: 'ignore' });
    if (!need(t, can.status === 0, 'no user namespaces for users here')) return;
    const server = await startGanesha(t);
    if (server === null) return;
    chownSync(server.exportDir, Number(id), Number(id));
    // Another name for the device, that anybody may open.
    const own = mkdtempSync(join(tmpdir(), 'isthmus-user-'));
    t.after(() => rmSync(own, { recursive: true, force: true }));
    chmodSync(own, 0o777);
    spawnSync('mknod', ['-m', '666', join(own, 'fuse'), 'c', '10', '229']);
    mkdirSync(join(own, 'mnt'));
    chmodSync(join(own, 'mnt'), 0o777);
    const url = server.url('3').replace('uid=0', `uid=${id}`).replace('gid=0', `gid=${id}`);
    const argv = [process.execPath, MAIN, 'mount', url, join(own, 'mnt'), '--device', join(own, 'fuse'), '--'];
    const script = `cd ${join(own, 'mnt')} && echo mine > f && cat f && id -u && grep CapEff /proc/self/status`;
    const ran = await shell('exec "$@"', '/', [...asUser, ...argv, 'sh', '-c', script]);
    assert.equal(ran.stdout, `mine\n${id}\nCapEff:\t0000000000000000\n`, ran.stderr);
    // Without a COMMAND it takes the helper of fuse3, which is not found here.
    const plain = await shell('exec "$@"', '/', [...asUser, 'env', 'PATH=/nowhere', ...argv.slice(0, -1)]);
    assert.equal(plain.status, 1);
    assert.match(plain.stderr, /EPERM.*\n?.*needs root, or fusermount3/);
  });

  for (const version of ['3', '4.1'] as const) {
    it(`the server is killed and restarted under load: programs wait, and nothing is lost (NFSv${version})`, async (t) => {
      if (!needFuse(t)) return;
      const server = await startGanesha(t);
      if (server === null) return;
      const { directory } = await startMount(t, server.url(version));
      const script = `
      i=0
      while [ $i -lt 30 ]; do
        mkdir d$i; head -c 300000 /dev/zero | tr '\\0' "$((i % 10))" > d$i/f; mv d$i/f d$i/g; i=$((i + 1))
      done
      cat d*/g | wc -c`;
      const running = shell(script, directory);
      for (const each of [5, 15]) {
        await until(`directory ${each} is there`, () => existsSync(join(server.exportDir, `d${each}`)));
        await server.kill();
        await server.restart();
      }
      const ran = await running;
      assert.equal(ran.status, 0, ran.stderr);
      assert.equal(ran.stdout.trim(), String(30 * 300_000));
      for (let i = 0; i < 30; i++) {
        const data = readFileSync(join(server.exportDir, `d${i}`, 'g'));
        assert.ok(data.length === 300_000 && data.every((byte) => byte === 0x30 + (i % 10)), `d${i}`);
      }
    });
  }

  it('a program that waits for a silent server can be killed', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory } = await startMount(t, server.url('3'));
    server.pause();
    // From outside: starting a program waits for its working directory.
    const child = spawn('mkdir', [join(directory, 'd')], { cwd: '/', stdio: 'ignore' });
    const exited = new Promise<string | null>((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
    await until('it waits in the kernel', () =>
      / mkdir\) [SD] /.test(` ${readFileSync(`/proc/${child.pid}/stat`, 'utf8').replace('(', ' ')}`),
    );
    child.kill('SIGKILL');
    assert.equal(await exited, 'SIGKILL');
    server.resume();
    assert.equal((await shell('ls', directory)).status, 0);
  });

  it('Ctrl-C while the server is silent: the mount goes, and whoever waited is told', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const { directory, child, exited } = await startMount(t, server.url('3'));
    server.pause();
    const asking = spawn('mkdir', [join(directory, 'd')], { cwd: '/', stdio: 'ignore' });
    const told = new Promise<number | null>((resolve) => asking.once('exit', (code) => resolve(code)));
    // In mkdir or mkdirat, as x86-64 and arm64 number them.
    const isInMkdir = () => /^(83|258|34) /.test(readFileSync(`/proc/${asking.pid}/syscall`, 'utf8'));
    await until('it waits in the kernel', isInMkdir);
    child.kill('SIGINT');
    assert.equal(await exited, 0);
    assert.ok(!isMounted(directory));
    assert.notEqual(await told, 0);
    server.resume();
  });

  it('a directory of many files is listed whole, and a program starts from the mount', async (t) => {
    if (!needFuse(t)) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const many = join(server.exportDir, 'many');
    mkdirSync(many);
    const names = Array.from({ length: 1500 }, (_, i) => `a name of some length for number ${i}`);
    for (const name of names) writeFileSync(join(many, name), '');
    copyFileSync('/bin/sh', join(server.exportDir, 'shell'));
    const { directory } = await startMount(t, server.url('3'));
    const listed = (await shell('ls many', directory)).stdout.trim().split('\n');
    assert.deepEqual(listed.sort(), names.sort());
    const big = await shell('cmp shell /bin/sh && ./shell -c "echo $((6 * 7))"', directory);
    assert.equal(big.stdout, '42\n', big.stderr);
  });
});

// Alone: its namespace would have copies of the others' mounts, and keep them while they are taken away.
describe('isthmus mount of a user', () => {
  it('without privileges, through fusermount3', async (t) => {
    if (!needFuse(t) || !need(t, hasCommand('fusermount3'), 'fuse3 is not installed')) return;
    const server = await startGanesha(t);
    if (server === null) return;
    const id = 65_534; // nobody: the helper wants a user with a name
    const directory = mountPoint(t);
    for (const path of [server.exportDir, directory]) chownSync(path, id, id);
    const device = join(server.directory, 'fuse');
    spawnSync('mknod', ['-m', '666', device, 'c', '10', '229']);
    const url = server.url('3').replace('uid=0', `uid=${id}`).replace('gid=0', `gid=${id}`);
    const args = [device, directory, `${id}`, process.execPath, MAIN, url];
    const ran = await shell('exec unshare --mount sh -ec "$@"', '/', [AS_USER, 'sh', ...args]);
    assert.equal(ran.stdout, 'mine\nunmounted\ngone\n', ran.stderr);
    assert.equal(statSync(join(server.exportDir, 'f')).uid, id);
  });
});
