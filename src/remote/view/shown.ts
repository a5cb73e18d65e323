/**
 * The times that programs are shown of objects whose change is or was assumed: once shown, they stay, although the server chose
 * slightly others, until something else changes the object. Pure.
 */
import { type Attributes, FileType } from '../server.ts';
import type { ViewNode } from './node.ts';

/** Times as assumed, and the change id that they stand for. */
export interface ShownTimes {
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly ctimeSeconds: number;
  readonly ctimeNanoseconds: number;
  /** The server's change id once it has done what was assumed; null before. */
  readonly change: { readonly high: number; readonly low: number } | null;
}

const BLOCK_BYTES = 4096;

/**
 * The node's attributes are said for the first time since a change of ours which left data and size alone: if they show no other
 * change, what was shown goes on to hold for them.
 */
export function keepShown(node: ViewNode, now: Attributes): void {
  const { shown, said } = node;
  if (shown === null || shown.change === null || !isFor(shown.change, said)) return;
  const { mtimeSeconds, mtimeNanoseconds, size } = said;
  if (now.mtimeSeconds !== mtimeSeconds || now.mtimeNanoseconds !== mtimeNanoseconds || now.size !== size) return;
  node.shown = { ...shown, change: { high: now.changeHigh, low: now.changeLow } };
}

/** Attributes as a program is to see them. */
export function shownAttributes(node: ViewNode): Attributes {
  const { shown, attributes } = node;
  if (shown === null) return attributes;
  const { change } = shown;
  const holds = node.handle === null || node.assumed > 0 || (change !== null && isFor(change, attributes));
  if (!holds) return attributes;
  const { mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds } = shown;
  const used =
    attributes.type === FileType.regular ? Math.ceil(node.size / BLOCK_BYTES) * BLOCK_BYTES : attributes.used;
  return { ...attributes, mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds, used };
}

function isFor(change: NonNullable<ShownTimes['change']>, { changeHigh, changeLow }: Attributes): boolean {
  return change.high === changeHigh && change.low === changeLow;
}
