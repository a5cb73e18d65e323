/**
 * What a test needs from the machine: where it cannot be had the test is skipped with a reason, but in CI it fails.
 * It touches nothing but the environment.
 */
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';

/** True when `available`; otherwise skips the test with `reason` (fails it in CI, where everything must run). */
export function need(t: TestContext, available: boolean, reason: string): boolean {
  if (available) return true;
  if (process.env.CI) throw new Error(`in CI this must run: ${reason}`);
  t.skip(reason);
  return false;
}

/** Whether a program is on the PATH. */
export function hasCommand(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' }).status === 0;
}
