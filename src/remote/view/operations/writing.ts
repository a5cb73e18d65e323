/**
 * Operations on a file's data and attributes: write (into the buffer), flush (onto stable storage), setattr.
 * They reach the world only through their view.
 */
import { ERRNO } from '../../../errors.ts';
import { sameU64 } from '../../operation.ts';
import type {
  Attributes,
  ChangeResult,
  CommitResult,
  Operation as ServerOperation,
  SetAttributes,
  U64,
  WriteResult,
} from '../../server.ts';
import { FileType } from '../../server.ts';
import { ErrnoError } from '../errors.ts';
import type { OpenFile } from '../files.ts';
import type { ViewNode } from '../node.ts';
import { failure, type Outcome, type Prediction, success } from '../operation.ts';
import { type AttributePatch, patched } from '../patch.ts';
import type { UndoLog } from '../undo.ts';
import type { Asked, View } from '../view.ts';
import type { WriteRun } from '../write-back.ts';
import { Changing, type Reference } from './changing.ts';
import type { AttributesAnswer, Caller } from './reading.ts';

/** Bytes written; all of them. */
export class Write extends Changing<number> {
  readonly kind = 'write';
  readonly #file: OpenFile;
  readonly #offset: number;
  #bytes: Uint8Array;

  /** `bytes` may change after the next call of a method, if that is not awaited. */
  constructor(view: View, file: OpenFile, offset: number, bytes: Uint8Array) {
    super(view, { credential: file.credential, thread: 0 }, [file.node]);
    this.#file = file;
    this.#offset = offset;
    this.#bytes = bytes;
  }

  predict(): Prediction<number> | null {
    if (this.#tooLarge() || this.view.writeBack.full) return null;
    return { outcome: success(this.#bytes.byteLength), invented: false };
  }

  /** Into the buffer now, if there is room: then nobody has to wait. Else null, and nothing is done. */
  writeNow(): Outcome<number> | null {
    if (this.#tooLarge()) return failure(ERRNO.EFBIG);
    if (this.view.writeBack.full) return null;
    this.view.writeBack.write(this.#file.node, this.#offset, this.#bytes, this.credential, null);
    return success(this.#bytes.byteLength);
  }

  override async perform(): Promise<Outcome<number>> {
    if (this.view.writeBack.full) {
      this.#bytes = this.#bytes.slice();
      this.view.pin(this.#file.node);
      await this.view.writeBack.room();
      this.view.unpin(this.#file.node);
    }
    return this.writeNow() ?? failure(ERRNO.EIO);
  }

  protected assumeNow(undo: UndoLog): number {
    this.view.writeBack.write(this.#file.node, this.#offset, this.#bytes, this.credential, undo);
    return this.#bytes.byteLength;
  }

  protected requests(): readonly ServerOperation[] {
    return [];
  }

  protected apply(): number {
    return this.#bytes.byteLength;
  }

  #tooLarge(): boolean {
    return this.#offset + this.#bytes.byteLength > this.view.server.info.maxFileSize;
  }
}

/** Everything written to the file so far, onto stable storage: at close and fsync. The answer is null. */
export class Flush extends Changing<null> {
  readonly kind = 'flush';
  readonly #file: OpenFile;
  #runs: readonly WriteRun[] = [];

  constructor(view: View, file: OpenFile) {
    super(view, { credential: file.credential, thread: 0 }, [file.node]);
    this.#file = file;
  }

  override lookLocal(): Outcome<null> | null {
    if (this.#file.node.data?.unwritten) return null;
    const errno = this.#file.takeError();
    return errno === 0 ? success(null) : failure(errno);
  }

  predict(): Prediction<null> | null {
    const { data } = this.#file.node;
    // Data that is on its way already belongs to no assumption.
    if (data !== null && !(data.sending.isEmpty && data.unstable.isEmpty)) return null;
    return { outcome: success(null), invented: false };
  }

  override async perform(): Promise<Outcome<null>> {
    const { node } = this.#file;
    this.view.pin(node);
    try {
      await this.view.writeBack.flush(node);
    } finally {
      this.view.unpin(node);
    }
    const errno = this.#file.takeError();
    return errno === 0 ? success(null) : failure(errno);
  }

  protected assumeNow(undo: UndoLog): null {
    this.#runs = this.view.writeBack.claim(this.#file.node, undo);
    return null;
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const handle = reference(this.#file.node);
    const alone = this.#runs.length === 1;
    const steps: ServerOperation[] = this.#runs.map(({ offset, bytes }) => ({
      op: 'write',
      handle,
      offset,
      data: bytes,
      stability: alone ? 'fileSync' : 'unstable',
    }));
    if (steps.length > 1) steps.push({ op: 'commit', handle, offset: 0, length: 0 });
    return steps;
  }

  protected apply(values: readonly unknown[], asked: Asked): null {
    const { view } = this;
    const { node } = this.#file;
    if (this.#runs.length === 0) return null;
    const verifiers: U64[] = [];
    let complete = true;
    for (const [i, { bytes }] of this.#runs.entries()) {
      const { count, committed, verifier, wcc } = values[i] as WriteResult;
      if (count < bytes.byteLength) complete = false;
      if (committed === 'unstable') verifiers.push(verifier);
      view.acceptOwn(node, wcc, asked);
    }
    if (verifiers.length > 0) {
      const commit = values[this.#runs.length] as CommitResult | undefined;
      if (commit === undefined || verifiers.some((each) => !sameU64(each, commit.verifier))) complete = false;
      else view.acceptOwn(node, commit.wcc, asked);
    }
    // A short write (the disk is nearly full), or a server that restarted in between: it is not what was said to the program. What
    // was assumed is undone, and the ordinary way does it again, with its own retries and the true error.
    if (!complete) throw new ErrnoError(ERRNO.EIO);
    view.writeBack.claimWritten(node, this.#runs);
    return null;
  }
}

/** Changes attributes; the size too. */
export class Setattr extends Changing<AttributesAnswer> {
  readonly kind = 'setattr';
  readonly #node: ViewNode;
  readonly #attributes: SetAttributes;
  #patch: AttributePatch | null = null;
  #runs: readonly WriteRun[] = [];

  constructor(view: View, caller: Caller, node: ViewNode, attributes: SetAttributes) {
    super(view, caller, [node]);
    this.#node = node;
    this.#attributes = attributes;
  }

  predict(): Prediction<AttributesAnswer> | null {
    const { data } = this.#node;
    if (data !== null && !(data.sending.isEmpty && data.unstable.isEmpty)) return null;
    const answer = { ...this.#answer(), attributes: this.#likely() };
    return { outcome: success({ ...answer, size: this.#attributes.size ?? answer.size, validMs: 0 }), invented: false };
  }

  protected override async prepare(): Promise<void> {
    const { size } = this.#attributes;
    const node = this.#node;
    if (size !== undefined && node.attributes.type === FileType.regular) {
      // What lies beyond the new end need not be written at all.
      node.data?.dirty.remove(size, Infinity);
      if (node.writeEnd > size) node.writeEnd = size;
    }
    // Writes after it would undo the times set, and may clear set-user-ID.
    await this.view.writeBack.send(node, true);
  }

  protected override async complete(outcome: Outcome<AttributesAnswer>): Promise<Outcome<AttributesAnswer>> {
    const { view } = this;
    const node = this.#node;
    if (node.validUntil === 0) {
      const asked = view.ask();
      view.accept(node, await view.server.getattr(node.handle!, view.call(this.credential)), asked);
    }
    return outcome.errno === 0 ? success(this.#answer()) : outcome;
  }

  protected assumeNow(undo: UndoLog): AttributesAnswer {
    const node = this.#node;
    const { mode, uid, gid, size } = this.#attributes;
    const { writeEnd } = node;
    // In its place in the order: what was written before goes to the server before.
    this.#runs = this.view.writeBack.claim(node, undo);
    const likely = this.#likely();
    const mtime = { seconds: likely.mtimeSeconds, nanoseconds: likely.mtimeNanoseconds };
    const atime = { seconds: likely.atimeSeconds, nanoseconds: likely.atimeNanoseconds };
    this.#patch = {
      mode,
      uid,
      gid,
      size,
      mtime: this.#attributes.mtime === undefined ? undefined : mtime,
      atime: this.#attributes.atime === undefined ? undefined : atime,
    };
    this.view.patch(node, this.#patch, undo);
    this.view.expire(node);
    if (size !== undefined) this.#truncate(size, undo);
    undo.push(() => {
      node.writeEnd = writeEnd;
    });
    return this.#answer();
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const handle = reference(this.#node);
    const steps: ServerOperation[] = this.#runs.map(({ offset, bytes }) => ({
      op: 'write',
      handle,
      offset,
      data: bytes,
      stability: 'fileSync',
    }));
    steps.push({ op: 'setattr', handle, attributes: this.#attributes });
    return steps;
  }

  protected apply(values: readonly unknown[], asked: Asked): AttributesAnswer {
    const { view } = this;
    const node = this.#node;
    const short = this.#runs.some(({ bytes }, i) => (values[i] as WriteResult).count < bytes.byteLength);
    if (short) throw new ErrnoError(ERRNO.EIO);
    if (this.#runs.length > 0) view.writeBack.claimWritten(node, this.#runs);
    if (this.#patch !== null) view.unpatch(node, this.#patch);
    const { wcc } = values[values.length - 1] as ChangeResult;
    const { size } = this.#attributes;
    if (size !== undefined && !this.assumed) {
      node.data?.truncate(size);
      node.writeEnd = -1;
    }
    view.acceptOwn(node, this.#runs.length > 0 ? { before: null, after: wcc.after } : wcc, asked);
    if (wcc.after === null && this.#patch !== null) view.say(node, patched(node.said, [this.#patch]));
    else if (wcc.after === null && size !== undefined) view.say(node, { ...node.said, size });
    return this.#answer();
  }

  #truncate(size: number, undo: UndoLog): void {
    const node = this.#node;
    node.writeEnd = -1;
    const { data } = node;
    if (data === null) return;
    const kept = data.valid.within(size, Infinity).map(({ start, end }) => ({ start, bytes: data.slice(start, end) }));
    data.truncate(size);
    let bytes = 0;
    for (const each of kept) bytes += each.bytes.byteLength;
    undo.push(
      () => {
        for (const each of kept) data.fill(each.start, each.bytes);
      },
      undefined,
      bytes,
    );
  }

  #likely(): Attributes {
    const { mode, uid, gid, size, mtime, atime } = this.#attributes;
    const { attributes } = this.#node;
    const times = (time: typeof mtime): { seconds: number; nanoseconds: number } | null => {
      if (time === undefined) return null;
      const wall = this.view.clock.wall();
      return time === 'server' ? { seconds: Math.floor(wall / 1000), nanoseconds: (wall % 1000) * 1e6 } : time;
    };
    const m = times(mtime);
    const a = times(atime);
    return {
      ...attributes,
      mode: mode ?? attributes.mode,
      uid: uid ?? attributes.uid,
      gid: gid ?? attributes.gid,
      size: size ?? attributes.size,
      mtimeSeconds: m?.seconds ?? attributes.mtimeSeconds,
      mtimeNanoseconds: Math.floor(m?.nanoseconds ?? attributes.mtimeNanoseconds),
      atimeSeconds: a?.seconds ?? attributes.atimeSeconds,
      atimeNanoseconds: Math.floor(a?.nanoseconds ?? attributes.atimeNanoseconds),
    };
  }

  #answer(): AttributesAnswer {
    const node = this.#node;
    return { node, attributes: node.attributes, size: node.size, validMs: this.view.attributesMs(node) };
  }
}
