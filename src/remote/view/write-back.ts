/**
 * Written data on its way to the server: gathered, sent in parallel as unstable WRITEs, committed, and sent again if the
 * server restarted in between (its verifier changed). It uses the view's server and clock.
 */
import { ERRNO } from '../../errors.ts';
import { sameU64 } from '../operation.ts';
import type { Credential, Handle, U64 } from '../server.ts';
import { errnoOf } from './errors.ts';
import type { FileData, WriteRun } from './file-data.ts';
import type { ViewNode } from './node.ts';
import type { Range } from './ranges.ts';
import type { UndoLog } from './undo.ts';
import type { View } from './view.ts';

/** How often a flush starts again because the server restarts, before it gives up. */
const COMMITS_MAX = 20;
/** The largest gap behind the end of a file that is kept as zeros. */
const HOLE_BYTES_MAX = 1 << 20;
/** Passes over data that is being written again while it is flushed. */
const PASSES_MAX = 64;

interface Writer {
  /** In whose name the last data was written. */
  credential: Credential | null;
  /** Of the WRITEs whose data is in `unstable`. */
  verifier: U64 | null;
  readonly inFlight: Set<Promise<void>>;
  /** A timer to send is set. */
  timed: boolean;
  /** Answers since the last time that the attributes were certain. */
  answers: number;
}

export class WriteBack {
  readonly #view: View;
  readonly #writers = new Map<ViewNode, Writer>();
  /** WRITEs under way, and those that wait for their turn. */
  #running = 0;
  readonly #queue: (() => void)[] = [];
  /** Who waits for room. */
  readonly #waiting: (() => void)[] = [];

  constructor(view: View) {
    this.#view = view;
  }

  /** Bytes that are not on the server's stable storage. */
  get unwrittenBytes(): number {
    let sum = 0;
    for (const node of this.#writers.keys()) {
      const { data } = node;
      if (data === null) continue;
      sum += data.dirty.bytes + data.sending.bytes + data.unstable.bytes;
      for (const { bytes } of data.claims) sum += bytes.byteLength;
    }
    return sum;
  }

  /** Whether a writer must wait for others' data to be written: too many bytes, or too many blocks that hold a few each. */
  get full(): boolean {
    if (this.#writers.size === 0) return false;
    const { budget, options } = this.#view;
    return this.unwrittenBytes >= options.unwrittenBytes || budget.exceeded;
  }

  /** Files with data not on stable storage. */
  get files(): number {
    return this.#writers.size;
  }

  /** Resolves when there is room again, having seen to it that there will be. */
  async room(): Promise<void> {
    while (this.full) {
      let oldest: ViewNode | null = null;
      for (const node of this.#writers.keys()) {
        if (node.data!.held > 0) continue;
        oldest = node;
        break;
      }
      if (oldest !== null) await this.flush(oldest);
      else await new Promise<void>((resolve) => this.#waiting.push(resolve)); // all of it is only assumed
    }
  }

  /** Takes bytes written by a program. With `undo` they stay here until they are released. */
  write(node: ViewNode, offset: number, bytes: Uint8Array, credential: Credential | null, undo: UndoLog | null): void {
    const view = this.#view;
    const data = view.dataOf(node);
    const writer = this.#writerOf(node);
    writer.credential = credential;
    const oldEnd = node.writeEnd;
    if (undo !== null) {
      data.held++;
      undo.push(
        () => {
          node.writeEnd = oldEnd;
          this.#release(node);
        },
        () => this.#release(node),
      );
    }
    this.#knowHole(node, data, offset, undo);
    data.write(offset, bytes, undo);
    const end = offset + bytes.byteLength;
    if (end > node.size) node.writeEnd = Math.max(node.writeEnd, end);
    if (data.held > 0) return;
    if (data.dirty.bytes >= view.server.info.maxWrite) this.#start(node, false);
    if (data.dirty.isEmpty) return;
    if (!writer.timed) {
      writer.timed = true;
      view.clock.after(view.options.writeDelayMs, () => {
        writer.timed = false;
        if (node.data !== null && node.data.held === 0 && this.#writers.get(node) === writer) this.#start(node, true);
      });
    }
  }

  /** Between the end of a file that is known whole and what is written behind it are zeros: nobody need ask for them. */
  #knowHole(node: ViewNode, data: FileData, offset: number, undo: UndoLog | null): void {
    const { size } = node;
    if (offset <= size || offset - size > HOLE_BYTES_MAX || !data.valid.covers(0, size)) return;
    undo?.push(() => data.valid.remove(size, offset), undefined, offset - size);
    data.fillZeros(size, offset);
  }

  /**
   * Sends everything written so far and waits for the answers; it may not be on stable storage then. With `last` nothing
   * more is expected to be written: what is small goes to stable storage at once, which saves the COMMIT at close.
   */
  async send(node: ViewNode, last = false): Promise<void> {
    const writer = this.#writers.get(node);
    if (writer === undefined) return;
    if (last && (await this.#flushSmall(node, writer, node.data!))) return;
    for (let pass = 0; pass < PASSES_MAX && node.data!.unsent; pass++) {
      this.#start(node, true);
      if (writer.inFlight.size === 0) break; // held
      await Promise.all(writer.inFlight);
    }
    // Of several answers the last to come need not be the last state.
    if (writer.answers > 1) this.#view.expire(node);
    writer.answers = 0;
    this.#settle(node);
  }

  /** Sends everything written so far and waits until it is on stable storage. Errors are counted in the node's data. */
  async flush(node: ViewNode): Promise<void> {
    const writer = this.#writers.get(node);
    if (writer === undefined) return;
    const data = node.data!;
    if (await this.#flushSmall(node, writer, data)) return;
    for (let attempt = 0; attempt < COMMITS_MAX; attempt++) {
      await this.send(node);
      if (data.unstable.isEmpty) return;
      if (await this.#commit(node, writer, data)) return;
    }
    this.#lost(node, data, data.unstable.all(), ERRNO.EIO);
  }

  /** Everything of every file, on stable storage. */
  async flushAll(): Promise<void> {
    await Promise.all([...this.#writers.keys()].map((node) => this.flush(node)));
  }

  /** Forgets what was written: the file is gone. */
  discard(node: ViewNode): void {
    const { data } = node;
    if (data === null) return;
    data.dirty.clear();
    data.unstable.clear();
    this.#settle(node);
  }

  /**
   * Takes everything that has to be sent, as it is now, out of the hands of the background: for an assumed flush.
   * `undo` gives it back.
   */
  claim(node: ViewNode, undo: UndoLog): WriteRun[] {
    const { data } = node;
    if (data === null || data.dirty.isEmpty) return [];
    const runs: WriteRun[] = [];
    for (const range of data.dirty.all()) {
      for (const piece of this.#pieces(range)) {
        runs.push({ offset: piece.start, bytes: data.slice(piece.start, piece.end) });
      }
    }
    data.dirty.clear();
    for (const run of runs) data.claims.add(run);
    undo.push(() => {
      for (const run of runs) {
        data.claims.delete(run);
        data.dirty.add(run.offset, run.offset + run.bytes.byteLength);
      }
    });
    return runs;
  }

  /** Claimed data is on stable storage now. */
  claimWritten(node: ViewNode, runs: readonly WriteRun[]): void {
    const { data } = node;
    if (data === null) return;
    for (const run of runs) data.claims.delete(run);
    this.#settle(node);
    if (data.unsent) this.#start(node, true);
  }

  #writerOf(node: ViewNode): Writer {
    let writer = this.#writers.get(node);
    if (writer === undefined) {
      writer = { credential: null, verifier: null, inFlight: new Set(), timed: false, answers: 0 };
      this.#writers.set(node, writer);
      this.#view.pin(node);
    }
    return writer;
  }

  /** One assumed write less; the last one lets the background go on. */
  #release(node: ViewNode): void {
    const { data } = node;
    if (data === null) return;
    data.held--;
    if (data.held > 0) return;
    this.#settle(node);
    if (data.unsent) this.#start(node, true);
  }

  /** Lets go of a file that has nothing left to be written. */
  #settle(node: ViewNode): void {
    this.#view.budget.enforce(); // blocks that were needed may be dropped now
    const writer = this.#writers.get(node);
    if (writer === undefined || node.data!.unwritten || node.data!.held > 0 || writer.inFlight.size > 0) return;
    this.#writers.delete(node);
    this.#view.unpin(node);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** One small piece needs no COMMIT: it goes out as a stable write. @returns false where that does not fit */
  async #flushSmall(node: ViewNode, writer: Writer, data: FileData): Promise<boolean> {
    const ranges = data.dirty.all();
    const alone =
      ranges.length === 1 && data.sending.isEmpty && data.unstable.isEmpty && data.held === 0 && data.claims.size === 0;
    if (!alone || ranges[0]!.end - ranges[0]!.start > this.#view.server.info.maxWrite) return false;
    this.#sendPiece(node, writer, data, ranges[0]!, true);
    await Promise.all(writer.inFlight);
    const done = !data.unwritten;
    if (done) {
      writer.answers = 0;
      this.#settle(node);
    }
    return done;
  }

  /** Sends what is dirty and not on its way already: all, or only what fills whole requests. */
  #start(node: ViewNode, all: boolean): void {
    const data = node.data!;
    const writer = this.#writers.get(node);
    if (data.held > 0 || data.claims.size > 0 || writer === undefined) return;
    const { maxWrite } = this.#view.server.info;
    for (const range of data.dirty.all()) {
      // Two WRITEs of the same bytes must not be under way together: servers reorder.
      for (const gap of data.sending.gaps(range.start, range.end)) {
        for (const piece of this.#pieces(gap)) {
          if (all || piece.end - piece.start >= maxWrite) this.#sendPiece(node, writer, data, piece, false);
        }
      }
    }
  }

  #pieces({ start, end }: Range): Range[] {
    const { maxWrite } = this.#view.server.info;
    const pieces: Range[] = [];
    for (let at = start; at < end; at += maxWrite) pieces.push({ start: at, end: Math.min(end, at + maxWrite) });
    return pieces;
  }

  #sendPiece(node: ViewNode, writer: Writer, data: FileData, { start, end }: Range, stable: boolean): void {
    const bytes = data.slice(start, end);
    data.dirty.remove(start, end);
    data.sending.add(start, end);
    this.#view.ownBegins(node);
    const sent = this.#write(node, writer, data, start, bytes, stable).finally(() => {
      this.#view.ownEnds(node);
      writer.inFlight.delete(sent);
    });
    writer.inFlight.add(sent);
  }

  async #write(
    node: ViewNode,
    writer: Writer,
    data: FileData,
    start: number,
    bytes: Uint8Array,
    stable: boolean,
  ): Promise<void> {
    const view = this.#view;
    await this.#turn();
    let at = 0;
    try {
      const handle: Handle = await view.handleOf(node);
      while (at < bytes.byteLength) {
        const asked = view.ask();
        const rest = at === 0 ? bytes : bytes.subarray(at);
        const stability = stable ? 'fileSync' : 'unstable';
        const result = await view.server.write(handle, start + at, rest, stability, view.call(writer.credential));
        if (result.count <= 0 || result.count > rest.byteLength) {
          this.#lost(node, data, [{ start: start + at, end: start + bytes.byteLength }], ERRNO.EIO);
          return;
        }
        const from = start + at;
        at += result.count;
        data.sending.remove(from, start + at);
        if (result.committed === 'unstable') this.#unstable(writer, data, from, start + at, result.verifier);
        writer.answers++;
        view.acceptOwn(node, result.wcc, asked);
      }
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === ERRNO.ESTALE) view.markStale(node);
      this.#lost(node, data, [{ start: start + at, end: start + bytes.byteLength }], errno);
    } finally {
      this.#turnOver();
    }
  }

  /** A WRITE was taken, but not to stable storage. Another verifier than before: what was taken earlier may be lost. */
  #unstable(writer: Writer, data: FileData, start: number, end: number, verifier: U64): void {
    if (writer.verifier !== null && !sameU64(writer.verifier, verifier)) this.#rewrite(data);
    writer.verifier = verifier;
    // Written again meanwhile: what the server has is old anyway.
    for (const gap of data.dirty.gaps(start, end)) data.unstable.add(gap.start, gap.end);
  }

  #rewrite(data: FileData): void {
    if (data.unstable.isEmpty) return;
    this.#view.counters.rewrites++;
    for (const { start, end } of data.unstable.all()) data.dirty.add(start, end);
    data.unstable.clear();
  }

  /** @returns true when all is done, well or badly; false where it must be sent again */
  async #commit(node: ViewNode, writer: Writer, data: FileData): Promise<boolean> {
    const view = this.#view;
    const committed = data.unstable.all();
    const { verifier } = writer;
    view.ownBegins(node);
    try {
      const asked = view.ask();
      const result = await view.server.commit(node.handle!, 0, 0, view.call(writer.credential));
      if (verifier === null || !sameU64(result.verifier, verifier)) {
        this.#rewrite(data);
        writer.verifier = null;
        return false;
      }
      for (const { start, end } of committed) data.unstable.remove(start, end);
      if (data.unstable.isEmpty) writer.verifier = null;
      view.acceptOwn(node, result.wcc, asked);
      return true;
    } catch (error) {
      this.#lost(node, data, committed, errnoOf(error));
      return true;
    } finally {
      view.ownEnds(node);
      this.#settle(node);
    }
  }

  /** Data that cannot be written: it is dropped, and the next close or fsync says so. */
  #lost(node: ViewNode, data: FileData, ranges: readonly Range[], errno: number): void {
    data.failed(errno);
    for (const { start, end } of ranges) {
      data.sending.remove(start, end);
      data.unstable.remove(start, end);
      for (const gap of data.dirty.gaps(start, end)) data.valid.remove(gap.start, gap.end);
    }
    node.writeEnd = data.dirty.isEmpty ? -1 : data.dirty.end;
    this.#view.expire(node);
  }

  #turn(): Promise<void> | null {
    if (this.#running < this.#view.options.parallelWrites) {
      this.#running++;
      return null;
    }
    return new Promise((resolve) => this.#queue.push(resolve));
  }

  #turnOver(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}
