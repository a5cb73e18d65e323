/**
 * A server in trouble in the middle of a speculative run: the program sees what it would have seen, what was acknowledged to it is
 * there, and everything ends. Each run is bounded by DEADLINE_MS, far above what it takes. It starts servers and processes.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Ganesha, GaneshaOptions } from '../../../src/bench/peers/ganesha.ts';
import { MAIN, needFuse, until } from '../../remote/mount/support.ts';
import { startDelay } from '../../servers/delay.ts';
import { startGanesha } from '../../servers/ganesha.ts';
import { gather, type Ran } from '../../support/gather.ts';
import { need } from '../../support/need.ts';

const DEADLINE_MS = 60_000;
const USER = 1234;

interface Run {
  readonly server: Ganesha;
  readonly work: string;
  readonly ended: Promise<Ran>;
}

/** Starts a script of sh in an empty directory on a server 4 ms away. */
async function start(
  t: TestContext,
  script: string,
  options: GaneshaOptions = {},
  as: ((work: string) => void) | null = null,
): Promise<Run | null> {
  if (!needFuse(t)) return null;
  const server = await startGanesha(t, options);
  if (server === null) return null;
  const line = await startDelay(t, { port: server.port, oneWayMs: 2 });
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-trouble-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'mnt'));
  const work = join(server.exportDir, 'work');
  mkdirSync(work);
  as?.(work);
  const mount = join(directory, 'mnt');
  const command = ['sh', '-c', `cd ${mount}/work && ${script}`];
  // The server takes us for this user.
  const url = server.url('4.1', line.port).replace(/uid=\d+&gid=\d+/, as === null ? '$&' : `uid=${USER}&gid=${USER}`);
  const argv = [MAIN, 'speculate', '--mount', url, mount, '--', ...command];
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
  t.after(() => child.kill('SIGKILL'));
  const ended = gather(child).finally(() => clearTimeout(timer));
  return { server, work, ended };
}

test('killed and restarted: the program notices nothing, and all it wrote is there', async (t) => {
  const numbers = Array.from({ length: 40 }, (_, i) => i + 1);
  const run = await start(t, `for i in ${numbers.join(' ')}; do echo "this is $i" > f$i || exit 3; done; echo done`);
  if (run === null) return;
  await until('it is under way', () => existsSync(join(run.work, 'f3')));
  await run.server.kill();
  await run.server.restart();
  const { status: code, signal, stdout, stderr } = await run.ended;
  assert.deepEqual([code, signal, stdout], [0, null, 'done\n'], stderr);
  for (const i of numbers) assert.equal(readFileSync(join(run.work, `f${i}`), 'utf8'), `this is ${i}\n`);
});

test('frozen for a while: the program waits and goes on', async (t) => {
  const run = await start(t, 'for i in 1 2 3 4 5 6 7 8; do echo $i > f$i; done; cat f1 f8');
  if (run === null) return;
  await until('it is under way', () => existsSync(join(run.work, 'f1')));
  run.server.pause();
  await new Promise((resolve) => setTimeout(resolve, 300));
  run.server.resume();
  const { status: code, stdout, stderr } = await run.ended;
  assert.deepEqual([code, stdout], [0, '1\n8\n'], stderr);
});

test('full: what was said to be written is, and the first that was not is told', async (t) => {
  const script =
    'i=1; while [ $i -le 30 ]; do dd if=/dev/zero of=f$i bs=100000 count=1 status=none || exit 9; echo $i; i=$((i+1)); done';
  const run = await start(t, script, { tmpfs: '1m' });
  if (run === null) return;
  const { status: code, signal, stdout, stderr } = await run.ended;
  assert.deepEqual([code, signal], [9, null], stderr);
  assert.match(stderr, /No space left on device/);
  const written = stdout.split('\n').filter(Boolean);
  assert.ok(written.length >= 5 && written.length <= 10, stdout);
  for (const [at, i] of written.entries()) {
    assert.equal(Number(i), at + 1);
    assert.equal(statSync(join(run.work, `f${i}`)).size, 100_000);
  }
  assert.equal(existsSync(join(run.work, `f${written.length + 2}`)), false);
});

test('its directory is gone: the program is told, and ends', async (t) => {
  const run = await start(t, 'i=0; while echo $i > f$i; do i=$((i+1)); [ $i -lt 5000 ] || exit 0; done 2>&1; exit 4');
  if (run === null) return;
  await until('it is under way', () => existsSync(join(run.work, 'f1')));
  // Files come while it is being removed.
  await until('it is gone', () => {
    try {
      rmSync(run.work, { recursive: true });
    } catch {
      // Once more.
    }
    return !existsSync(run.work);
  });
  const { status: code, signal, stdout, stderr } = await run.ended;
  assert.deepEqual([code === 4 || code === 2, signal], [true, null], `${code} ${stdout}${stderr}`);
  assert.match(stdout + stderr, /(No such file or directory|Stale file handle|nonexistent)/);
});

test('its permission is taken away: what was done before stays, and the program is told', async (t) => {
  if (!need(t, process.getuid?.() === 0, 'only root can give files to others')) return;
  const script = 'i=0; while echo $i > f$i; do i=$((i+1)); [ $i -lt 5000 ] || exit 0; done 2>&1; echo $i; exit 4';
  // As somebody else, to whom the directory belongs at first: root may do anything.
  const run = await start(t, script, {}, (work) => chownSync(work, USER, USER));
  if (run === null) return;
  await until('it is under way', () => existsSync(join(run.work, 'f3')));
  chownSync(run.work, 0, 0);
  chmodSync(run.work, 0o755);
  const { status: code, signal, stdout, stderr } = await run.ended;
  assert.deepEqual([code === 4 || code === 2, signal], [true, null], `${code} ${stdout}${stderr}`);
  assert.match(stdout + stderr, /Permission denied/);
  // Everything that succeeded is there, in order, and nothing that did not.
  const names = readdirSync(run.work);
  for (let i = 0; i < names.length; i++) assert.equal(readFileSync(join(run.work, `f${i}`), 'utf8'), `${i}\n`);
});
