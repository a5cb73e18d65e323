/** Which processes of a run are still there. Init may take a second to collect those whose parent was killed. */
import { existsSync } from 'node:fs';
import { statusField } from '../../../src/linux/proc.ts';

const LEAVE_MS = 10_000;

/** Processes of a run that are still there some time after it. */
export async function leftOf(pids: Iterable<number>): Promise<string[]> {
  const end = performance.now() + LEAVE_MS;
  for (;;) {
    const left = [...pids].filter((pid) => existsSync(`/proc/${pid}`));
    if (left.length === 0 || performance.now() > end) {
      return left.map((pid) => `${pid} ${statusField(pid, 'Name')} ${statusField(pid, 'State')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
