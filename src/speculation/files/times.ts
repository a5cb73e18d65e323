/**
 * The times that assumed changes are shown with: the server's clock as far as it is known, never running backwards,
 * so that what was changed later in the program's order is not shown as older.
 * It reads the wall clock it is given, and writes `node.shown`.
 */
import { FileType } from '../../remote/server.ts';
import type { ViewNode } from '../../remote/view/node.ts';
import type { Mutation } from '../../remote/view/operation.ts';
import { type ShownTimes, shownAttributes } from '../../remote/view/shown.ts';

interface Moment {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** Weight of the newest sample of the clocks' difference. */
const GAIN = 1 / 8;

export class AssumedTimes {
  readonly #wall: () => number;
  #offsetMs: number | null = null;
  #last: Moment = { seconds: 0, nanoseconds: 0 };

  /** @param wall milliseconds since 1970, here */
  constructor(wall: () => number) {
    this.#wall = wall;
  }

  /** The server has set this time on something between then and now. */
  sample(seconds: number, nanoseconds: number, tookMs: number): void {
    const here = this.#wall() - tookMs / 2;
    const offset = seconds * 1000 + nanoseconds / 1e6 - here;
    this.#offsetMs = this.#offsetMs === null ? offset : this.#offsetMs + (offset - this.#offsetMs) * GAIN;
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
    const ms = this.#wall() + (this.#offsetMs ?? 0);
    let now: Moment = { seconds: Math.floor(ms / 1000), nanoseconds: Math.floor((ms % 1000) * 1e6) };
    now = later(now, this.#last);
    for (const { attributes } of mutation.touches) {
      now = later(now, { seconds: attributes.ctimeSeconds, nanoseconds: attributes.ctimeNanoseconds });
    }
    this.#last = now;
    return now;
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

function later(a: Moment, b: Moment): Moment {
  if (a.seconds !== b.seconds) return a.seconds > b.seconds ? a : b;
  return a.nanoseconds >= b.nanoseconds ? a : b;
}
