/**
 * How many completions a sleep in the ring waits for: with many connections talking, several are worth one wake-up.
 * Pure: it counts; the datapath asks before it sleeps and tells what the sleep brought.
 *
 * Why: a thread that answers faster than it is asked sleeps after every message. The sleep, the wake-up (which the
 * sender pays, too) and the turn around it then cost as much as the message. Interfaces moderate their interrupts for
 * the same reason.
 *
 * Bounds. A message waits for others at most {@link GATHER_US}, to which the thread's timer slack comes (50 µs by
 * default, prctl(2)). Nobody waits for more than an eighth of the connections that have talked of late, so that peers
 * who await their answers do not stand still meanwhile, and few are not delayed at all. Where messages are so rare that
 * a wait brought hardly any, the next sleeps do without.
 */

/** Microseconds that the first message may wait for the next ones. */
export const GATHER_US = 30;
/** So many make a wait worth it; and the most that are waited for. */
const ENOUGH = 4;
const MOST = 8;
/** Share of the connections talking that may be waited for, as a shift. */
const SHARE = 3;
/** Most sleeps without gathering after waits in vain. */
const MOST_PAUSES = 255;

export class Gathering {
  #pauses = 0;
  #pausesLeft = 0;

  /** Completions to wait for, at least 1. @param talking connections that have sent something of late */
  wanted(talking: number): number {
    const share = talking >> SHARE;
    if (share < ENOUGH) return 1;
    if (this.#pausesLeft > 0) {
      this.#pausesLeft--;
      return 1;
    }
    return Math.min(share, MOST);
  }

  /** What a sleep brought that waited for more than one. */
  brought(completions: number): void {
    this.#pauses = completions >= ENOUGH ? 0 : Math.min(MOST_PAUSES, 2 * this.#pauses + 1);
    this.#pausesLeft = this.#pauses;
  }
}
