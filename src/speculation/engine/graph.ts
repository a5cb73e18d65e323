/**
 * Questions about the graph of intervals: what goes with what, what an object rests on, what it depends on already.
 * Pure; it changes nothing.
 */
import { currentInterval, type Interval, type SpeculativeObject } from './interval.ts';

/** Everything that is undone with an interval. */
export function closure(start: Interval): Set<Interval> {
  const undone = new Set<Interval>();
  const reach = [start];
  while (reach.length > 0) {
    const interval = reach.pop()!;
    if (undone.has(interval) || interval.state !== 'open') continue;
    undone.add(interval);
    reach.push(...interval.effects);
    const { log } = interval.object;
    for (let i = log.length - 1; i >= 0 && log[i] !== interval; i--) reach.push(log[i]!);
  }
  return undone;
}

/** The interval that an object's present hypotheses rest in: its own, or its maker's while it has no checkpoint. */
export function anchor(object: SpeculativeObject): Interval | null {
  let interval = currentInterval(object);
  while (interval !== null && interval.checkpoint === null && interval.maker !== null) interval = interval.maker;
  return interval;
}

/** Does the object depend on this interval already: it made it itself, or has absorbed it? */
export function knows(object: SpeculativeObject, cause: Interval): boolean {
  if (cause.object === object || cause.maker?.object === object) return true;
  for (const interval of object.log) {
    if (interval.causes.has(cause)) return true;
    // What the makers of an object without a checkpoint have absorbed or done, it can only be undone with.
    let made: Interval = interval;
    while (made.checkpoint === null && made.maker !== null) {
      made = made.maker;
      if (made === cause || made === cause.maker || made.causes.has(cause)) return true;
    }
  }
  return false;
}
