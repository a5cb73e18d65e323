/**
 * The sender of an open loop: hands each connection its messages when they are due, whatever became of earlier ones.
 * It touches the kernel's clock and scheduler; targets do the sending.
 */
import type { Coroutine } from '../../index.ts';
import type { Run } from './run.ts';
import type { Schedule } from './schedule.ts';

/** Where a pacer sends. */
export interface PacedTarget {
  /** Sends `count` messages on a slot; false where it cannot take them now (they stay due, and late). */
  send(slot: number, count: number): boolean;
}

/** Most messages handed to one connection at once; the rest follows in the next turn. */
const MOST_AT_ONCE = 64;
/** Timers are 1 ms coarse and an event loop's wake-up is later still: nearer than this the pacer polls the clock instead. */
export const SPIN_MS = 4;

/**
 * Runs until the run stops or the window ends. It keeps its core busy: that is what makes send times exact.
 * @param spinMs how near to a send time it begins to poll; 0 where time is simulated and passes only while all sleep
 */
export function* pace(run: Run, schedule: Schedule, target: PacedTarget, spinMs: number): Coroutine {
  const { k } = run;
  const { connections } = run.config;
  const due = new Int32Array(connections);
  while (!run.stopped) {
    const { now } = k;
    let waiting = schedule.advance(Math.min(now, run.windowEnd), due) > 0 || anyDue(due);
    if (now >= run.windowEnd && !waiting) return;
    if (waiting) {
      waiting = false;
      for (let slot = 0; slot < connections; slot++) {
        const count = due[slot]!;
        if (count === 0) continue;
        const batch = Math.min(count, MOST_AT_ONCE);
        if (sendTo(run, target, slot, batch)) due[slot] = count - batch;
        if (due[slot]! > 0) waiting = true;
      }
    }
    const gap = waiting ? 1 : schedule.nextMs - now;
    if (spinMs === 0 || gap > 2 * spinMs) yield* k.sleep(Math.min(gap, 100) - spinMs);
    else yield* k.yield();
  }
}

function sendTo(run: Run, target: PacedTarget, slot: number, count: number): boolean {
  try {
    return target.send(slot, count);
  } catch (error) {
    run.failed(error); // out of buffers, most likely: what is due stays due
    return false;
  }
}

function anyDue(due: Int32Array): boolean {
  for (let slot = 0; slot < due.length; slot++) if (due[slot]! > 0) return true;
  return false;
}
