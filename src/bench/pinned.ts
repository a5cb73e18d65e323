/**
 * Processes on CPUs of our choice.
 * It touches the calling thread's CPU affinity for a moment, because a child inherits it, with all the threads it starts.
 */
import { getAffinity, setAffinity } from '../linux/affinity.ts';

/** CPUs for the server and for the load: the first two this process may use, or one for both. */
export function chooseCpus(): { serverCpu: number; loadCpu: number } {
  const allowed = getAffinity();
  return { serverCpu: allowed[0]!, loadCpu: allowed[1] ?? allowed[0]! };
}

/** Runs `start`, which must start its process at once, with this thread on one CPU. */
export function spawnPinned<T>(cpu: number, start: () => T): T {
  const before = getAffinity();
  setAffinity([cpu]);
  try {
    return start();
  } finally {
    setAffinity(before);
  }
}
