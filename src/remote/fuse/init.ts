/**
 * What is agreed with the kernel at the start of a connection: protocol version, limits and features.
 * Pure.
 */
import { FUSE_MAJOR, FUSE_MINOR_MAX, FUSE_MINOR_MIN, InitFlag } from './abi.ts';
import type { InitReply } from './reply.ts';

const PAGE_BYTES = 4096;
/** Background requests (read-ahead, write-back of mapped pages) that the kernel has outstanding at most. */
const MAX_BACKGROUND = 64;

/** Why each is wanted is said in docs/design/mount.md. */
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.ATOMIC_O_TRUNC |
  InitFlag.BIG_WRITES |
  InitFlag.AUTO_INVAL_DATA |
  InitFlag.DO_READDIRPLUS |
  InitFlag.ASYNC_DIO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.HANDLE_KILLPRIV |
  InitFlag.ABORT_ERROR |
  InitFlag.MAX_PAGES;

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
}

/**
 * - `accepted`: the connection is up.
 * - `older`: the kernel speaks a later major version and must ask again with ours.
 * - `refused`: the kernel is too old.
 */
export type Agreement =
  | { readonly kind: 'accepted'; readonly reply: InitReply }
  | { readonly kind: 'older'; readonly reply: InitReply }
  | { readonly kind: 'refused'; readonly reason: string };

/** @param payloadMax bytes of data in one read or write */
export function negotiate(request: InitRequest, payloadMax: number): Agreement {
  const maxPages = request.flags & InitFlag.MAX_PAGES ? Math.floor(payloadMax / PAGE_BYTES) : 32;
  const reply: InitReply = {
    minor: Math.min(request.minor, FUSE_MINOR_MAX),
    maxReadahead: request.maxReadahead,
    flags: request.flags & WANTED,
    maxBackground: MAX_BACKGROUND,
    maxWrite: maxPages * PAGE_BYTES,
    maxPages,
  };
  if (request.major > FUSE_MAJOR) return { kind: 'older', reply: { ...reply, minor: FUSE_MINOR_MAX } };
  if (request.major < FUSE_MAJOR || request.minor < FUSE_MINOR_MIN) {
    const version = `${request.major}.${request.minor}`;
    return { kind: 'refused', reason: `the kernel speaks FUSE ${version}; this needs 7.${FUSE_MINOR_MIN} (Linux 5.4)` };
  }
  return { kind: 'accepted', reply };
}
