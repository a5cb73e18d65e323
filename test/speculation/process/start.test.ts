/** Starting a traced program: where it begins, what is told when it cannot, and that nothing is left when we are killed meanwhile. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readProc, statusField } from '../../../src/linux/proc.ts';
import type { LaunchOptions, ProcessEvent } from '../../../src/speculation/process/backend.ts';
import { ProcessHost } from '../../../src/speculation/process/host.ts';
import { mountPoint, needFuse, until } from '../../remote/mount/support.ts';
import { need } from '../../support/need.ts';
import { canTrace } from './can-trace.ts';

/** Runs it to its end: the last event. */
async function run(options: LaunchOptions): Promise<ProcessEvent> {
  let host: ProcessHost | undefined;
  try {
    return await new Promise<ProcessEvent>((resolve) => {
      host = new ProcessHost(options, (event) => {
        if (event.type === 'ended' || event.type === 'failed') resolve(event);
      });
      host.start();
    });
  } finally {
    await host?.close();
  }
}

test('a program begins in the directory given, and its environment is as given', async (t) => {
  if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'isthmus-start-')));
  const out = openSync(join(directory, 'out'), 'a+');
  try {
    const env = { PATH: process.env['PATH'], PWD: '/somewhere else' };
    const command = ['sh', '-c', 'readlink /proc/self/cwd; tr "\\0" "\\n" < /proc/$$/environ | grep PWD'];
    const end = await run({ command, env, cwd: directory, stdio: [out, out, out] });
    assert.deepEqual(end.type === 'ended' && end.status, { code: 0, signal: 0 });
    assert.equal(readFileSync(join(directory, 'out'), 'utf8'), `${directory}\nPWD=/somewhere else\n`);
  } finally {
    closeSync(out);
    rmSync(directory, { recursive: true });
  }
});

test('a directory that is not there is told as ENOENT of chdir', async (t) => {
  if (!need(t, canTrace(), 'ptrace is not permitted here')) return;
  const end = await run({ command: ['true'], cwd: '/nowhere/at/all' });
  assert.equal(end.type, 'failed');
  const { code, syscall } = (end as Extract<ProcessEvent, { type: 'failed' }>).error as unknown as Record<
    string,
    unknown
  >;
  assert.deepEqual({ code, syscall }, { code: 'ENOENT', syscall: 'chdir' });
});

test('killed while the program waits for the mount to enter its directory, we leave no process', async (t) => {
  if (!needFuse(t) || !need(t, canTrace(), 'ptrace is not permitted here')) return;
  const script = fileURLToPath(new URL('./start-slowly.js', import.meta.url));
  const child = spawn(process.execPath, [script, mountPoint(t)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const started = childrenOf(child.pid!);
  assert(started.length >= 2, 'the program at least, and the bell');
  child.kill('SIGKILL');
  await until('its processes are gone', () => started.every((pid) => isGone(pid)));
});

function childrenOf(pid: number): number[] {
  const all: number[] = [];
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    all.push(...(readProc(`/proc/${pid}/task/${task}/children`) ?? '').split(' ').filter(Boolean).map(Number));
  }
  return all;
}

/** Nothing is left but perhaps a zombie for init to collect. */
function isGone(pid: number): boolean {
  return !existsSync(`/proc/${pid}`) || statusField(pid, 'State')?.startsWith('Z') === true;
}
