/** Whether this machine lets us trace a process of our own. */
import { seize, sendSignal, TraceOption, waited, waitFor } from '../../../src/linux/ptrace.ts';
import { spawnStopped } from '../../../src/linux/spawn.ts';

const SIGKILL = 9;
let known: boolean | undefined;

export function canTrace(): boolean {
  known ??= process.arch === 'x64' && tryIt();
  return known;
}

function tryIt(): boolean {
  const pid = spawnStopped({ command: ['true'], env: {}, stdio: [0, 1, 2] });
  const able = seize(pid, TraceOption.EXITKILL) === 0;
  sendSignal(pid, SIGKILL);
  while (waitFor(pid) > 0 && !waited.ended);
  return able;
}
