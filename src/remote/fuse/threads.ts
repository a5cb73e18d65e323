/**
 * What the session wants to know of the threads that ask: whether one is being killed, and its groups (proc(5)).
 * It only reads /proc.
 */
import { readFileSync } from 'node:fs';

const SIGKILL_BIT = 1n << 8n;

/** Whether the thread is being killed or is gone: then nobody will look at an answer. */
export function isDying(thread: number): boolean {
  if (thread === 0) return false;
  const status = statusOf(thread);
  if (status === null) return true;
  if (/^State:\s+[ZX]/m.test(status)) return true;
  for (const line of ['SigPnd', 'ShdPnd']) {
    const mask = new RegExp(`^${line}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1];
    if (mask !== undefined && (BigInt(`0x${mask}`) & SIGKILL_BIT) !== 0n) return true;
  }
  return false;
}

/** Supplementary groups; none where the thread is gone. */
export function groupsOf(thread: number): number[] {
  const groups = /^Groups:\s*(.*)$/m.exec(statusOf(thread) ?? '')?.[1] ?? '';
  return groups
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
}

function statusOf(thread: number): string | null {
  try {
    return readFileSync(`/proc/${thread}/status`, 'latin1');
  } catch {
    return null;
  }
}
