/**
 * The times that assumed changes are shown with: never before what was changed earlier, and not after the server's own clock,
 * so that what is changed later, by the server's clock or again assumed, is not shown as older.
 * It reads the wall clock it is given, and writes `node.shown`.
 */
import { type Attributes, FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation } from '../../remote/view/operation.ts';
import { type ShownTimes, shownAttributes } from '../../remote/view/shown.ts';

interface Moment {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** The server's clock may stand still for so long between two ticks. */
const TICK_MS = 10;
/** Between two changes for which no time has passed. */
const STEP_NS = 1000;

export class AssumedTimes {
  readonly #wall: () => number;
  /** The server's clock is at least so far before ours. */
  #offsetMs = Number.NEGATIVE_INFINITY;
  /** The latest that the server has said, and that we have shown. */
  #latest: Moment = { seconds: 0, nanoseconds: 0 };
  #last: Moment = { seconds: 0, nanoseconds: 0 };

  /** @param wall milliseconds since 1970, here */
  constructor(wall: () => number) {
    this.#wall = wall;
  }

  /** The server has said this of something: it changed at that time, so it is later there now. */
  seen({ ctimeSeconds: seconds, ctimeNanoseconds: nanoseconds }: Attributes): void {
    if (!isLater(seconds, nanoseconds, this.#latest)) return;
    this.#latest = { seconds, nanoseconds };
    this.#offsetMs = Math.max(this.#offsetMs, seconds * 1000 + nanoseconds / 1e6 - this.#wall());
  }

  /**
   * Shows the change with the present time. @param oldMtime of the first node touched before it was assumed
   * @returns what takes it back
   */
  assumed(mutation: Mutation, oldMtime: Moment | null): () => void {
    const now = this.#now(mutation);
    const before: [ViewNode, ShownTimes | null][] = [];
    const show = (node: ViewNode, mtime: Moment): void => {
      before.push([node, node.shown]);
      node.shown = {
        mtimeSeconds: mtime.seconds,
        mtimeNanoseconds: mtime.nanoseconds,
        ctimeSeconds: now.seconds,
        ctimeNanoseconds: now.nanoseconds,
        change: null,
      };
    };
    const { kind, makes } = mutation;
    for (const node of mutation.touches) {
      const isDirectory = node.attributes.type === FileType.directory;
      if (kind === 'flush') continue;
      if (kind === 'setattr') show(node, setMtime(node, oldMtime) ?? shownMtime(node));
      else if (kind === 'write' || isDirectory) show(node, now);
      else show(node, shownMtime(node));
    }
    if (makes !== null) show(makes.node, now);
    return () => {
      for (const [node, shown] of before.reverse()) node.shown = shown;
    };
  }

  /** The server has done it: what it says now is what is shown with other times. */
  settled(mutation: Mutation): void {
    const nodes = mutation.makes === null ? mutation.touches : [...mutation.touches, mutation.makes.node];
    for (const node of nodes) {
      const { changeHigh: high, changeLow: low } = node.attributes;
      if (node.shown !== null) node.shown = { ...node.shown, change: { high, low } };
    }
  }

  #now(mutation: Mutation): Moment {
    for (const { said } of mutation.touches) this.seen(said);
    const ms = this.#wall() + this.#offsetMs - TICK_MS;
    const now = { seconds: Math.floor(ms / 1000), nanoseconds: Math.floor((ms % 1000) * 1e6) };
    if (isLater(this.#latest.seconds, this.#latest.nanoseconds, this.#last)) this.#last = this.#latest;
    this.#last = later(now, after(this.#last));
    return this.#last;
  }
}

/** The modification time that a setattr has set; null where it has not. */
function setMtime({ attributes }: ViewNode, old: Moment | null): Moment | null {
  const { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = attributes;
  return old === null || (old.seconds === seconds && old.nanoseconds === nanoseconds) ? null : { seconds, nanoseconds };
}

function shownMtime(node: ViewNode): Moment {
  const { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = shownAttributes(node);
  return { seconds, nanoseconds };
}

function isLater(seconds: number, nanoseconds: number, than: Moment): boolean {
  return seconds > than.seconds || (seconds === than.seconds && nanoseconds > than.nanoseconds);
}

function after({ seconds, nanoseconds }: Moment): Moment {
  const sum = nanoseconds + STEP_NS;
  return sum < 1e9 ? { seconds, nanoseconds: sum } : { seconds: seconds + 1, nanoseconds: sum - 1e9 };
}

function later(a: Moment, b: Moment): Moment {
  return isLater(a.seconds, a.nanoseconds, b) ? a : b;
}
