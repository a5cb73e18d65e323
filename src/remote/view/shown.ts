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

/** Attributes as a program is to see them. */
export function shownAttributes(node: ViewNode): Attributes {
  const { shown, attributes } = node;
  if (shown === null) return attributes;
  const { change } = shown;
  const holds =
    node.handle === null ||
    node.assumed > 0 ||
    (change !== null && change.high === attributes.changeHigh && change.low === attributes.changeLow);
  if (!holds) return attributes;
  const { mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds } = shown;
  const used =
    attributes.type === FileType.regular ? Math.ceil(node.size / BLOCK_BYTES) * BLOCK_BYTES : attributes.used;
  return { ...attributes, mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds, used };
}
