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
  HandleRef,
  Operation as ServerOperation,
  SetAttributes,
  Stability,
  U64,
  WriteResult,
} from '../../server.ts';
import { FileType } from '../../server.ts';
import { ErrnoError } from '../errors.ts';
import type { WriteRun } from '../file-data.ts';
import type { OpenFile } from '../files.ts';
import type { ViewNode } from '../node.ts';
import { failure, type Outcome, type Prediction, success } from '../operation.ts';
import { type AttributePatch, patched } from '../patch.ts';
import type { UndoLog } from '../undo.ts';
import type { Asked, View } from '../view.ts';
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

/**
 * WRITEs of assumed operations. A WRITE that takes fewer bytes than it was given succeeds; so where the server keeps an order, each is
 * followed by a look at the size, which stops the batch. That tells only of a WRITE beyond the end.
 */
class GuardedWrites {
  readonly runs: readonly WriteRun[];
  /** Some of them cannot be guarded. */
  readonly mayFallShort: boolean;
  readonly #guarded: boolean;

  /** Takes what is to be written. */
  constructor(view: View, node: ViewNode, undo: UndoLog) {
    let size = node.attributes.size;
    for (const { offset, bytes } of node.data?.claims ?? []) size = Math.max(size, offset + bytes.byteLength);
    this.runs = view.writeBack.claim(node, undo);
    let extend = true;
    for (const { offset, bytes } of this.runs) {
      const end = offset + bytes.byteLength;
      if (end <= size) extend = false;
      size = Math.max(size, end);
    }
    const ordered = view.server.info.maxBatch > 1;
    this.#guarded = ordered && extend;
    this.mayFallShort = ordered && !extend;
  }

  steps(handle: HandleRef, stability: Stability): ServerOperation[] {
    const steps: ServerOperation[] = [];
    for (const { offset, bytes } of this.runs) {
      steps.push({ op: 'write', handle, offset, data: bytes, stability });
      if (this.#guarded) steps.push({ op: 'verify', handle, size: offset + bytes.byteLength });
    }
    return steps;
  }

  /** The results of the WRITEs among those of `steps`. @throws ErrnoError EIO: not all of it was written */
  results(values: readonly unknown[]): WriteResult[] {
    return this.runs.map(({ bytes }, i) => {
      const result = values[this.#guarded ? i * 2 : i] as WriteResult;
      if (result.count < bytes.byteLength) throw new ErrnoError(ERRNO.EIO);
      return result;
    });
  }
}

/** Everything written to the file so far, onto stable storage: at close and fsync. The answer is null. */
export class Flush extends Changing<null> {
  readonly kind = 'flush';
  readonly #file: OpenFile;
  #writes: GuardedWrites | null = null;

  constructor(view: View, file: OpenFile) {
    super(view, { credential: file.credential, thread: 0 }, [file.node]);
    this.#file = file;
  }

  get mayFallShort(): boolean {
    return this.#writes?.mayFallShort ?? false;
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
    this.#writes = new GuardedWrites(this.view, this.#file.node, undo);
    return null;
  }

  protected requests(reference: Reference): readonly ServerOperation[] {
    const { runs } = this.#writes!;
    if (runs.length === 0) return [];
    const handle = reference(this.#file.node);
    if (runs.length === 1) return this.#writes!.steps(handle, 'fileSync');
    return [...this.#writes!.steps(handle, 'unstable'), { op: 'commit', handle, offset: 0, length: 0 }];
  }

  protected apply(values: readonly unknown[], asked: Asked): null {
    const { view } = this;
    const { node } = this.#file;
    const { runs } = this.#writes!;
    if (runs.length === 0) return null;
    // A short write (the disk is nearly full), or a server that restarted in between: it is not what was said to the program. What
    // was assumed is undone, and the ordinary way does it again, with its own retries and the true error.
    const verifiers: U64[] = [];
    for (const { committed, verifier, wcc } of this.#writes!.results(values)) {
      if (committed === 'unstable') verifiers.push(verifier);
      view.acceptOwn(node, wcc, asked);
    }
    if (verifiers.length > 0) {
      const commit = runs.length === 1 ? undefined : (values[values.length - 1] as CommitResult);
      if (commit === undefined || verifiers.some((each) => !sameU64(each, commit.verifier))) {
        throw new ErrnoError(ERRNO.EIO);
      }
      view.acceptOwn(node, commit.wcc, asked);
    }
    view.writeBack.claimWritten(node, runs);
    return null;
  }
}

/** Changes attributes; the size too. */
export class Setattr extends Changing<AttributesAnswer> {
  readonly kind = 'setattr';
  readonly #node: ViewNode;
  readonly #attributes: SetAttributes;
  #patch: AttributePatch | null = null;
  #writes: GuardedWrites | null = null;

  constructor(view: View, caller: Caller, node: ViewNode, attributes: SetAttributes) {
    super(view, caller, [node]);
    this.#node = node;
    this.#attributes = attributes;
  }

  get mayFallShort(): boolean {
    return this.#writes?.mayFallShort ?? false;
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
    this.#writes = new GuardedWrites(this.view, node, undo);
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
    const writes = this.#writes?.steps(handle, 'fileSync') ?? [];
    return [...writes, { op: 'setattr', handle, attributes: this.#attributes }];
  }

  protected apply(values: readonly unknown[], asked: Asked): AttributesAnswer {
    const { view } = this;
    const node = this.#node;
    const runs = this.#writes?.runs ?? [];
    this.#writes?.results(values);
    const { wcc } = values[values.length - 1] as ChangeResult;
    if (
      this.#patch !== null &&
      wcc.after !== null &&
      !isAsSet(wcc.after, patched(node.said, [this.#patch]), this.#attributes)
    ) {
      throw new ErrnoError(ERRNO.EIO);
    }
    if (runs.length > 0) view.writeBack.claimWritten(node, runs);
    if (this.#patch !== null) view.unpatch(node, this.#patch);
    const { size } = this.#attributes;
    if (size !== undefined && !this.assumed) {
      node.data?.truncate(size);
      node.writeEnd = -1;
    }
    view.acceptOwn(node, runs.length > 0 ? { before: null, after: wcc.after } : wcc, asked);
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
    return { node, attributes: node.attributes, size: node.size, validMs: this.view.keepMs(node) };
  }
}

/** Whether the server has made of the attributes what was assumed: it may drop bits of a mode, or know times less finely. */
function isAsSet(after: Attributes, assumed: Attributes, { size, mtime }: SetAttributes): boolean {
  if (after.mode !== assumed.mode || after.uid !== assumed.uid || after.gid !== assumed.gid) return false;
  if (size !== undefined && after.size !== size) return false;
  if (mtime === undefined || mtime === 'server') return true;
  return after.mtimeSeconds === assumed.mtimeSeconds && after.mtimeNanoseconds === assumed.mtimeNanoseconds;
}
