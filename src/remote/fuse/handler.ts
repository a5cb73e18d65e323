/**
 * What the handlers of requests have in common: names, callers, and the parts of replies that many have.
 * It uses the session it belongs to.
 */
import { ERRNO } from '../../errors.ts';
import type { ViewNode } from '../view/node.ts';
import type { LookupAnswer } from '../view/operations/lookup.ts';
import type { AttributesAnswer, Caller } from '../view/operations/reading.ts';
import { shownAttributes } from '../view/shown.ts';
import type { View } from '../view/view.ts';
import type { ReplyWriter, Shown } from './reply.ts';
import type { RequestReader } from './request.ts';
import type { FuseSession } from './session.ts';
import { groupsOf } from './threads.ts';

export abstract class Handler {
  protected readonly session: FuseSession;
  protected readonly view: View;
  protected readonly reader: RequestReader;
  protected readonly reply: ReplyWriter;

  constructor(session: FuseSession) {
    this.session = session;
    this.view = session.view;
    this.reader = session.reader;
    this.reply = session.reply;
  }

  /** The name at `offset`; where it is none, the request is refused and null given. */
  protected name(offset: number): string | null {
    const name = this.reader.name(offset);
    if (name === null) this.session.refuse(ERRNO.EINVAL);
    else if (name.length > this.view.server.info.maxName) this.session.refuse(ERRNO.ENAMETOOLONG);
    else return name;
    return null;
  }

  protected caller(thread = 0): Caller {
    const { uid, gid, pid } = this.reader;
    if (uid === this.session.options.uid || pid === 0) return { credential: null, thread };
    return { credential: { uid, gid, groups: groupsOf(pid) }, thread };
  }

  /** fuse_entry_out. @returns the node that the kernel has one reference more to */
  protected entry({ node, nameMs, attributesMs }: LookupAnswer): ViewNode | null {
    this.reply.entry(node?.id ?? 0, nameMs, attributesMs, node === null ? null : shownOf(node));
    if (node !== null) node.lookups++;
    return node;
  }

  protected uncount(node: ViewNode | null): void {
    if (node !== null) this.view.forget(node.id, 1);
  }

  protected attributes({ node, validMs }: AttributesAnswer): void {
    this.reply.attributes(validMs, shownOf(node));
  }
}

export function shownOf(node: ViewNode): Shown {
  const { inoHigh, inoLow, size } = node;
  const attributes = shownAttributes(node);
  // A silly name is no name.
  const names = node.silly === null ? attributes.linkCount : Math.max(0, attributes.linkCount - 1);
  const linkCount = node.removed ? 0 : names;
  return { attributes, inoHigh, inoLow, size, linkCount };
}
