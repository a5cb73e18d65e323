/**
 * Mounts for tests: `isthmus mount` as a child process on a directory of its own, taken away when the test ends.
 * It touches the mount table, child processes and the system's temporary directory.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { mounts, unmountLazily } from '../../../src/linux/fuse.ts';
import { gather, type Ran } from '../../support/gather.ts';
import { need } from '../../support/need.ts';

export const MAIN = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const DEADLINE_MS = 30_000;

/** Whether FUSE can be mounted here by us; otherwise the test is skipped (in CI failed). */
export function needFuse(t: TestContext): boolean {
  const probe = spawnSync('sh', ['-c', ': <>/dev/fuse && unshare -m true'], { stdio: 'ignore' });
  return need(t, probe.status === 0, 'needs root, /dev/fuse and mount namespaces');
}

export interface TestMount {
  readonly directory: string;
  readonly child: ChildProcess;
  stderr(): string;
  readonly exited: Promise<number | null>;
}

/** Waits until it is so. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await sleep(10);
  }
}

export function isMounted(directory: string): boolean {
  return mounts().some((entry) => entry.directory === directory);
}

/** An empty directory to mount on; whatever is mounted there at the end of the test is taken away. */
export function mountPoint(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-mount-'));
  t.after(() => {
    while (isMounted(directory)) if (unmountLazily(directory) < 0) break;
    rmdirSync(directory);
  });
  return directory;
}

export async function startMount(t: TestContext, url: string, args: readonly string[] = []): Promise<TestMount> {
  const directory = mountPoint(t);
  const child = spawn(process.execPath, [MAIN, 'mount', ...args, url, directory], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  let over = false;
  void exited.then(() => {
    over = true;
  });
  t.after(async () => {
    if (over) return;
    child.kill('SIGINT');
    const killer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await exited;
    clearTimeout(killer);
  });
  await until('the mount stands', () => {
    if (over) throw new Error(`isthmus mount ended: ${stderr}`);
    return stderr.includes(` on ${directory};`);
  });
  return { directory, child, stderr: () => stderr, exited };
}

/** Runs a shell script; never blocks this process, whose servers may have to answer. */
export function shell(script: string, cwd: string, args: readonly string[] = []): Promise<Ran> {
  return gather(spawn('sh', ['-ec', script, 'sh', ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] }));
}
