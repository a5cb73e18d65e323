/**
 * What assumed changes do to a node's attributes, on top of what the server said last. Pure.
 */
import type { Attributes } from '../server.ts';

/** One assumed change; absent is left alone. */
export interface AttributePatch {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly mtime?: { readonly seconds: number; readonly nanoseconds: number } | undefined;
  readonly atime?: { readonly seconds: number; readonly nanoseconds: number } | undefined;
  /** Links more or fewer. */
  readonly links?: number | undefined;
}

/** The attributes with the changes, in the order in which they were assumed. */
export function patched(said: Attributes, patches: readonly AttributePatch[]): Attributes {
  let attributes = said;
  for (const { mode, uid, gid, size, mtime, atime, links } of patches) {
    attributes = {
      ...attributes,
      mode: mode ?? attributes.mode,
      uid: uid ?? attributes.uid,
      gid: gid ?? attributes.gid,
      size: size ?? attributes.size,
      mtimeSeconds: mtime?.seconds ?? attributes.mtimeSeconds,
      mtimeNanoseconds: mtime?.nanoseconds ?? attributes.mtimeNanoseconds,
      atimeSeconds: atime?.seconds ?? attributes.atimeSeconds,
      atimeNanoseconds: atime?.nanoseconds ?? attributes.atimeNanoseconds,
      linkCount: Math.max(0, attributes.linkCount + (links ?? 0)),
    };
  }
  return attributes;
}
