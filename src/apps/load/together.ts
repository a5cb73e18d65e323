/**
 * Runs a coroutine for each of many indices, a bounded number of them at the same time.
 * It touches the kernel's scheduler only.
 */
import type { Coroutine, Kernel } from '../../index.ts';

/** Ends when all have ended. `body` must not throw: nobody would be waiting for it yet. */
export function* together(
  k: Kernel,
  count: number,
  atOnce: number,
  body: (index: number) => Coroutine<unknown>,
): Coroutine {
  let next = 0;
  function* lane(): Coroutine {
    while (next < count) yield* body(next++);
  }
  const lanes = Array.from({ length: Math.min(count, atOnce) }, () => k.spawn(lane()));
  for (const task of lanes) yield* task.join();
}
