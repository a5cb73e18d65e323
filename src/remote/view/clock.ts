/**
 * Time as the view sees it, handed in so that tests can simulate it.
 * The system's clock is the only thing touched.
 */

/** Takes a planned call back. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since some fixed moment; never goes back. */
  now(): number;
  /** Milliseconds since 1970. */
  wall(): number;
  /** Calls `action` once after `ms`; does not keep the process alive. */
  after(ms: number, action: () => void): Cancel;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, action) => {
    const timer = setTimeout(action, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
