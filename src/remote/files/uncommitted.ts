/**
 * The bytes of one file that the server has, but not yet for certain: kept until a COMMIT under the same write verifier
 * (RFC 1813 section 3.3.21), written again when the verifier is another one. Pure.
 */
import { sameU64 } from '../operation.ts';
import type { U64 } from '../server.ts';

export interface UncommittedWrite {
  readonly offset: number;
  readonly data: Uint8Array;
  readonly verifier: U64;
}

export class Uncommitted {
  /** In order of writing; never overlapping, since a later write takes the place of what it covers. */
  #writes: UncommittedWrite[] = [];
  #bytes = 0;
  /** Nothing here is at or behind this offset: writing onwards needs no search. */
  #end = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#writes.length;
  }

  /** `data` was acknowledged as unstable under `verifier`; it must not change while it is here. */
  add(offset: number, data: Uint8Array, verifier: U64): void {
    if (data.length === 0) return;
    this.remove(offset, offset + data.length);
    this.#writes.push({ offset, data, verifier });
    this.#bytes += data.length;
    this.#end = Math.max(this.#end, offset + data.length);
  }

  /** Forgets a range: it was written stably, or is no longer part of the file. */
  remove(start: number, end: number): void {
    if (start >= this.#end) return;
    if (!this.#writes.some((write) => write.offset < end && start < write.offset + write.data.length)) return;
    const kept: UncommittedWrite[] = [];
    for (const write of this.#writes) {
      const { offset, data, verifier } = write;
      const stop = offset + data.length;
      if (offset >= end || stop <= start) {
        kept.push(write);
        continue;
      }
      if (offset < start) kept.push({ offset, data: data.subarray(0, start - offset), verifier });
      if (stop > end) kept.push({ offset: end, data: data.subarray(end - offset), verifier });
    }
    this.#writes = kept;
    this.#count();
  }

  /** What a COMMIT sent now is about. */
  snapshot(): readonly UncommittedWrite[] {
    return this.#writes.slice();
  }

  /**
   * The COMMIT for `covered` answered `verifier`. Gives what must be written again: all of it that was acknowledged under another
   * verifier and is still here. It stays until it is added anew.
   */
  committed(covered: readonly UncommittedWrite[], verifier: U64): UncommittedWrite[] {
    const before = new Set(covered);
    const lost: UncommittedWrite[] = [];
    this.#writes = this.#writes.filter((write) => {
      if (!before.has(write)) return true;
      if (sameU64(write.verifier, verifier)) return false;
      lost.push(write);
      return true;
    });
    this.#count();
    return lost;
  }

  #count(): void {
    this.#bytes = 0;
    this.#end = 0;
    for (const { offset, data } of this.#writes) {
      this.#bytes += data.length;
      this.#end = Math.max(this.#end, offset + data.length);
    }
  }
}
