/**
 * A server in trouble in the middle of a speculative run: the program sees what it would have seen, what was acknowledged to it is
 * there, and everything ends. Each run is bounded by DEADLINE_MS, far above what it takes. It starts servers and processes.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Ganesha, GaneshaOptions } from '../../../src/bench/peers/ganesha.ts';
import { MAIN, needFuse, until } from '../../remote/mount/support.ts';
import { startDelay } from '../../servers/delay.ts';
import { startGanesha } from '../../servers/ganesha.ts';

const DEADLINE_MS = 60_000;

interface Run {
  readonly server: Ganesha;
  readonly work: string;
  readonly ended: Promise<{ code: number | null; signal: string | null; stdout: string; stderr: string }>;
}

/** Starts a script of sh in an empty directory on a server 4 ms away. */
async function start(t: TestContext, script: string, options: GaneshaOptions = {}): Promise<Run | null> {
  if (!needFuse(t)) return null;
  const server = await startGanesha(t, options);
  if (server === null) return null;
  const line = await startDelay(t, { port: server.port, oneWayMs: 2 });
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-trouble-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'mnt'));
  const work = join(server.exportDir, 'work');
  mkdirSync(work);
  const mount = join(directory, 'mnt');
  const command = ['sh', '-c', `cd ${mount}/work && ${script}`];
  const argv = [MAIN, 'speculate', '--mount', server.url('4.1', line.port), mount, '--', ...command];
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
  t.after(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Awaited<Run['ended']>>((resolve) =>
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    }),
  );
  return { server, work, ended };
}

test('killed and restarted: the program notices nothing, and all it wrote is there', async (t) => {
  const numbers = Array.from({ length: 40 }, (_, i) => i + 1);
  const run = await start(t, `for i in ${numbers.join(' ')}; do echo "this is $i" > f$i || exit 3; done; echo done`);
  if (run === null) return;
  await until('it is under way', () => existsSync(join(run.work, 'f3')));
  await run.server.kill();
  await run.server.restart();
  const { code, signal, stdout, stderr } = await run.ended;
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
  const { code, stdout, stderr } = await run.ended;
  assert.deepEqual([code, stdout], [0, '1\n8\n'], stderr);
});

test('full: what was said to be written is, and the first that was not is told', async (t) => {
  const script =
    'i=1; while [ $i -le 30 ]; do dd if=/dev/zero of=f$i bs=100000 count=1 status=none || exit 9; echo $i; i=$((i+1)); done';
  const run = await start(t, script, { tmpfs: '1m' });
  if (run === null) return;
  const { code, signal, stdout, stderr } = await run.ended;
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
  const { code, signal, stdout, stderr } = await run.ended;
  assert.deepEqual([code === 4 || code === 2, signal], [true, null], `${code} ${stdout}${stderr}`);
  assert.match(stdout + stderr, /(No such file or directory|Stale file handle|nonexistent)/);
});
