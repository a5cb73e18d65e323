/**
 * One remote file that is open here, once for all its handles: data in and out in pieces the server takes, unstable writes kept
 * until committed, overlapping requests in order. It asks the server and keeps to the budget it is given.
 */
import { giveBack } from '../record-memory.ts';
import { RemoteError } from '../remote-error.ts';
import type { Attributes, CallOptions, ChangeResult, Handle, RemoteServer } from '../server.ts';

import { RangeGate } from './range-gate.ts';
import { Uncommitted } from './uncommitted.ts';

/** Pieces of one read or write on the wire at once. */
const WINDOW = 16;
/** A COMMIT is sent once this much of one file waits for it. */
const COMMIT_FROM = 32 * 1024 * 1024;
const COMMIT_FROM_WRITES = 4096;
/** Server restarts in a row during one flush, after which it fails. */
const MAX_REWRITES = 16;

/** Bytes kept until committed, over all files of one mount. */
export interface Budget {
  readonly limit: number;
  /** Those that have something to commit. */
  readonly inodes: Set<Inode>;
}

export class Inode {
  readonly handle: Handle;
  readonly key: string;
  readonly #server: RemoteServer;
  readonly #budget: Budget;
  readonly #gate = new RangeGate();
  readonly #uncommitted = new Uncommitted();
  #committing: Promise<void> | null = null;
  #lastTurn: Promise<void> | null = null;
  /** Open handles. */
  references = 0;

  constructor(server: RemoteServer, handle: Handle, key: string, budget: Budget) {
    this.#server = server;
    this.handle = handle;
    this.key = key;
    this.#budget = budget;
  }

  get uncommittedBytes(): number {
    return this.#uncommitted.bytes;
  }

  /** Fills `into` from `offset` on; gives the bytes read, fewer only at the end of the file. */
  async read(into: Uint8Array, offset: number, options?: CallOptions): Promise<number> {
    const { length } = into;
    if (length === 0) return 0;
    const turn = this.#takeTurn(0);
    if (turn !== null) await turn;
    return this.#gate.run(offset, offset + length, false, async () => {
      const size = this.#server.info.maxRead;
      let total = length;
      await inPieces(length, size, async (from, to) => {
        const got = await this.#readPiece(into, from, to, offset, options);
        if (got < to) total = Math.min(total, got);
      });
      return total;
    });
  }

  /** Reads `from`..`to` of `into`; gives where it ended, before `to` only at the end of the file. */
  async #readPiece(
    into: Uint8Array,
    from: number,
    to: number,
    offset: number,
    options: CallOptions | undefined,
  ): Promise<number> {
    while (from < to) {
      const { data, eof } = await this.#server.read(this.handle, offset + from, to - from, options);
      into.set(data, from);
      giveBack(data);
      from += data.length;
      if (eof || data.length === 0) break;
    }
    return from;
  }

  /**
   * Writes all of `data` at `offset`; settled when the server has it. It is kept until committed: with `borrowed` the caller's own
   * bytes, which then must not change before `flush`, else a copy.
   */
  async write(data: Uint8Array, offset: number, borrowed: boolean, options?: CallOptions): Promise<void> {
    if (data.length === 0) return;
    const kept = borrowed ? data : new Uint8Array(data);
    const turn = this.#takeTurn(data.length);
    if (turn !== null) await turn;
    await this.#gate.run(offset, offset + data.length, true, () =>
      inPieces(kept.length, this.#server.info.maxWrite, (from, to) =>
        this.#writePiece(kept.subarray(from, to), offset + from, options),
      ),
    );
    if (this.#uncommitted.bytes > COMMIT_FROM || this.#uncommitted.size > COMMIT_FROM_WRITES) {
      // On its way while the next is written; who flushes next learns how it went.
      this.#commitOnce().catch(() => {});
    }
  }

  async #writePiece(data: Uint8Array, offset: number, options?: CallOptions): Promise<void> {
    while (data.length > 0) {
      const { count, committed, verifier } = await this.#server.write(this.handle, offset, data, 'unstable', options);
      if (committed === 'unstable') this.#uncommitted.add(offset, data.subarray(0, count), verifier);
      else this.#uncommitted.remove(offset, offset + count);
      this.#account();
      data = data.subarray(count);
      offset += count;
    }
  }

  /** Settled when everything written so far is on the server's stable storage, whatever restarts it took. */
  async flush(): Promise<void> {
    while (this.#committing !== null) await this.#committing.catch(() => {});
    if (this.#uncommitted.size > 0) await this.#commitOnce();
  }

  /** Sets the size, ordered against every read and write of this file. */
  truncate(size: number, options?: CallOptions): Promise<ChangeResult> {
    return this.#gate.run(0, Number.POSITIVE_INFINITY, true, async () => {
      const result = await this.#server.setattr(this.handle, { size }, undefined, options);
      this.#uncommitted.remove(size, Number.POSITIVE_INFINITY);
      this.#account();
      return result;
    });
  }

  /** Attributes once nothing is being written. */
  attributes(options?: CallOptions): Promise<Attributes> {
    return this.#gate.run(0, Number.POSITIVE_INFINITY, false, () => this.#server.getattr(this.handle, options));
  }

  /** Runs work that nobody else reads or writes beside: an append. */
  async append(data: Uint8Array, borrowed: boolean, options?: CallOptions): Promise<number> {
    const kept = borrowed ? data : new Uint8Array(data);
    const turn = this.#takeTurn(data.length);
    if (turn !== null) await turn;
    return this.#gate.run(0, Number.POSITIVE_INFINITY, true, async () => {
      const { size } = await this.#server.getattr(this.handle, options);
      await inPieces(kept.length, this.#server.info.maxWrite, (from, to) =>
        this.#writePiece(kept.subarray(from, to), size + from, options),
      );
      return size;
    });
  }

  #commitOnce(): Promise<void> {
    this.#committing ??= this.#commit().finally(() => {
      this.#committing = null;
    });
    return this.#committing;
  }

  async #commit(): Promise<void> {
    for (let attempt = 0; attempt < MAX_REWRITES; attempt++) {
      const covered = this.#uncommitted.snapshot();
      if (covered.length === 0) return;
      const { verifier } = await this.#server.commit(this.handle, 0, 0);
      const lost = this.#uncommitted.committed(covered, verifier);
      this.#account();
      if (lost.length === 0) return;
      await inPieces(lost.length, 1, async (index) => {
        const { offset, data } = lost[index] as (typeof lost)[number];
        await this.#gate.run(offset, offset + data.length, true, () => this.#writeAgain(offset, data));
      });
    }
    const code = { code: 'EIO', errno: -5, procedure: 'COMMIT' };
    throw new RemoteError('EIO: the server restarts faster than it can be written to, COMMIT', code);
  }

  /** Writes lost bytes again, but for those that were written anew or cut off meanwhile. */
  async #writeAgain(offset: number, data: Uint8Array): Promise<void> {
    const end = offset + data.length;
    const still = this.#uncommitted
      .snapshot()
      .filter((write) => write.offset >= offset && write.offset + write.data.length <= end);
    for (const write of still) await this.#writePiece(write.data, write.offset);
  }

  /** Forgets what could not be committed: the last handle is closed and its owner was told. */
  abandon(): void {
    this.#uncommitted.remove(0, Number.POSITIVE_INFINITY);
    this.#account();
  }

  #account(): void {
    if (this.#uncommitted.size > 0) this.#budget.inodes.add(this);
    else this.#budget.inodes.delete(this);
  }

  /**
   * What to wait for before entering the gate, null when nothing: then one enters it in the order of the calls. With no room
   * left for `bytes` more the line forms here instead, in the same order; nobody waits for room inside the gate, where a
   * commit might need to pass.
   */
  #takeTurn(bytes: number): Promise<void> | null {
    if (this.#lastTurn === null && (bytes === 0 || this.#hasRoom(bytes))) return null;
    const before = this.#lastTurn ?? Promise.resolve();
    const turn = before.then(() => (bytes === 0 ? undefined : this.#makeRoom(bytes)));
    const over: Promise<void> = turn
      .catch(() => {})
      .then(() => {
        if (this.#lastTurn === over) this.#lastTurn = null;
      });
    this.#lastTurn = over;
    return turn;
  }

  #hasRoom(bytes: number): boolean {
    let sum = bytes;
    for (const inode of this.#budget.inodes) sum += inode.uncommittedBytes;
    return sum <= this.#budget.limit;
  }

  async #makeRoom(bytes: number): Promise<void> {
    if (this.#hasRoom(bytes)) return;
    await this.flush();
    for (const inode of [...this.#budget.inodes]) {
      if (this.#hasRoom(bytes)) return;
      await inode.flush();
    }
  }
}

/**
 * Cuts 0..length into pieces and works on up to WINDOW of them at once. Rejects with the first failure, after those under way
 * have ended (their bytes must not be touched before).
 */
async function inPieces(
  length: number,
  size: number,
  work: (from: number, to: number) => Promise<void>,
): Promise<void> {
  if (length <= size) return work(0, length);
  let next = 0;
  let failure: { error: unknown } | null = null;
  const worker = async () => {
    while (next < length && failure === null) {
      const from = next;
      next = Math.min(length, from + size);
      try {
        await work(from, next);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  const count = Math.min(WINDOW, Math.ceil(length / size));
  await Promise.all(Array.from({ length: count }, worker));
  if (failure !== null) throw (failure as { error: unknown }).error;
}
