/**
 * Files held open at the server: OPEN to CLOSE, reads, writes and byte-range locks under one stateid, claimed again when the
 * server has forgotten it. It touches the session.
 */
import { transportError } from '../remote-error.ts';
import type { CallOptions, Handle, Name, SetAttributes, Stability, U64, WriteResult } from '../server.ts';
import { ATTRIBUTES, type FileAttributes, toAttributes } from './attributes.ts';
import { Compound, type Reply } from './compound.ts';
import { ShareAccess, Status } from './constants.ts';
import { commit, GETFH, getattr, putfh, type ReadReply, read, type WriteReply, write } from './file-steps.ts';
import type { Session } from './session.ts';
import {
  close,
  type LockHolder,
  type LockRange,
  lock,
  lockt,
  locku,
  type OpenHow,
  type OpenReply,
  open,
} from './state-steps.ts';
import { statusError4 } from './status.ts';
import type { Stateid, Step } from './step.ts';

/** A name in a directory, or an object by its handle. */
export type OpenRequest = {
  readonly access: 'read' | 'write' | 'both';
} & (
  | {
      readonly directory: Handle;
      readonly name: Name;
      /** Absent: it must exist. */
      readonly create?: 'unchecked' | 'guarded' | 'exclusive';
      readonly attributes?: SetAttributes;
      readonly verifier?: U64;
    }
  | { readonly handle: Handle }
);

/** At most this many files are held open; above it `EMFILE`. */
const MAX_OPEN = 65_536;
const DELAY_MS = 50;
/** Longer than any server's grace period. */
const PATIENCE_MS = 120_000;
const EVERYTHING: LockRange = { exclusive: true, offset: 0, length: null };
const STABLE = { unstable: 0, dataSync: 1, fileSync: 2 } as const;
const STABILITY: readonly Stability[] = ['unstable', 'dataSync', 'fileSync'];

/** All files held open over one session. */
export class OpenFiles {
  readonly #session: Session;
  readonly #files = new Set<OpenFile>();
  #opened = 0;

  constructor(session: Session) {
    this.#session = session;
    session.onReclaim((run) => this.#reclaim(run));
  }

  async open(request: OpenRequest, options?: CallOptions): Promise<OpenFile> {
    if (this.#files.size >= MAX_OPEN) throw transportError('EMFILE', 'OPEN', 'too many files are open');
    const access = ShareAccess[request.access];
    const owner = new TextEncoder().encode(`f${this.#opened++}`);
    const compound = Compound.inSession();
    compound.add(putfh('handle' in request ? request.handle : request.directory));
    const claim = 'handle' in request ? ({ kind: 'handle' } as const) : ({ kind: 'name', name: request.name } as const);
    const opened = compound.add(open({ access, owner, how: howToOpen(request), claim }));
    const handle = compound.add(GETFH);
    const reply = await runWhole((c) => this.#session.run(c, options), compound);
    const { stateid } = reply.value<OpenReply>(opened);
    const file = new OpenFile(this.#session, reply.value<Handle>(handle), stateid, access, owner, () => {
      this.#files.delete(file);
    });
    this.#files.add(file);
    return file;
  }

  async #reclaim(run: (compound: Compound) => Promise<Reply>): Promise<void> {
    for (const file of [...this.#files]) await file.reclaim(run);
  }
}

function howToOpen(request: OpenRequest): OpenHow {
  if ('handle' in request || request.create === undefined) return { kind: 'existing' };
  const attributes = request.attributes ?? {};
  if (request.create === 'exclusive') {
    return { kind: 'exclusive', verifier: request.verifier ?? { high: 0, low: 0 }, attributes };
  }
  return { kind: request.create === 'guarded' ? 'guarded' : 'create', attributes };
}

/**
 * An open file. After a server restart it is claimed again (CLAIM_PREVIOUS within the server's grace period, else by handle);
 * where even that fails every further call rejects with why. Locks are claimed again in the same way; one that another client
 * has got meanwhile makes the file fail with `EIO`.
 */
export class OpenFile {
  readonly handle: Handle;
  readonly #session: Session;
  readonly #access: number;
  readonly #owner: Uint8Array;
  readonly #onClosed: () => void;
  #stateid: Stateid;
  #lockStateid: Stateid | null = null;
  #locks: LockRange[] = [];
  #lost: Error | null = null;
  #closed = false;

  constructor(
    session: Session,
    handle: Handle,
    stateid: Stateid,
    access: number,
    owner: Uint8Array,
    onClosed: () => void,
  ) {
    this.#session = session;
    this.handle = handle;
    this.#stateid = stateid;
    this.#access = access;
    this.#owner = owner;
    this.#onClosed = onClosed;
  }

  /** How often the open was claimed again. */
  reclaims = 0;

  async read(offset: number, length: number, options?: CallOptions): Promise<ReadReply> {
    const reply = await this.#run(() => [read(this.#io(), offset, length)], options);
    return reply.value<ReadReply>(2);
  }

  async write(offset: number, data: Uint8Array, stability: Stability, options?: CallOptions): Promise<WriteResult> {
    const steps = () => [write(this.#io(), offset, data, STABLE[stability]), getattr(ATTRIBUTES)];
    const reply = await this.#run(steps, options);
    const { count, committed, verifier } = reply.value<WriteReply>(2);
    const after = toAttributes(reply.value<FileAttributes>(3), 'GETATTR');
    return { count, committed: STABILITY[committed]!, verifier, wcc: { before: null, after } };
  }

  async commit(options?: CallOptions): Promise<U64> {
    const reply = await this.#run(() => [commit(0, 0)], options);
    return reply.value<U64>(2);
  }

  /** Rejects with `EAGAIN` while another owner's lock is in the way. */
  async lock(range: LockRange, options?: CallOptions): Promise<void> {
    const reply = await this.#run(() => [lock(range, this.#locker(), false)], options);
    this.#lockStateid = reply.value<Stateid>(2);
    this.#locks.push(range);
  }

  /** Who is in the way of this lock, or null. */
  async testLock(range: LockRange, options?: CallOptions): Promise<LockHolder | null> {
    const compound = Compound.inSession();
    compound.add(putfh(this.handle));
    compound.add(lockt(range, this.#owner));
    const reply = await this.#session.run(compound, options);
    if (reply.status === Status.denied) return reply.holder;
    if (reply.status !== Status.ok) throw statusError4(reply.failedName, reply.status);
    return null;
  }

  /** Only whole ranges as they were locked are claimed again after a restart: unlock what was locked. */
  async unlock(range: LockRange, options?: CallOptions): Promise<void> {
    if (this.#lockStateid === null) return;
    const reply = await this.#run(() => [locku(range, this.#lockStateid!)], options);
    this.#lockStateid = reply.value<Stateid>(2);
    this.#locks = this.#locks.filter(({ offset, length }) => offset !== range.offset || length !== range.length);
  }

  /** CLOSE, which gives back its locks as well. */
  async close(options?: CallOptions): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClosed();
    if (this.#lost !== null) return;
    const compound = Compound.inSession();
    compound.add(putfh(this.handle));
    // Servers may refuse to close what is locked.
    if (this.#lockStateid !== null) compound.add(locku(EVERYTHING, this.#lockStateid));
    compound.add(close(this.#stateid));
    const reply = await this.#session.run(compound, options);
    // A server that has forgotten the open has nothing to close.
    if (reply.status !== Status.ok && !isForgotten(reply.status)) throw statusError4(reply.failedName, reply.status);
  }

  /** Makes the server know this open (and its locks) again; the session calls it after the server has lost them. */
  async reclaim(run: (compound: Compound) => Promise<Reply>): Promise<void> {
    this.#lockStateid = null;
    try {
      const reply = (await this.#claim(run, 'previous')) ?? (await this.#claim(run, 'handle'));
      if (reply === null) throw transportError('EIO', 'OPEN', 'the server does not open it again');
      this.#stateid = reply;
      this.reclaims++;
      for (const range of this.#locks) await this.#claimLock(run, range);
    } catch (error) {
      this.#lost = error as Error;
    }
  }

  async #claim(run: (compound: Compound) => Promise<Reply>, kind: 'previous' | 'handle'): Promise<Stateid | null> {
    const compound = Compound.inSession();
    compound.add(putfh(this.handle));
    const args = { access: this.#access, owner: this.#owner, how: { kind: 'existing' }, claim: { kind } } as const;
    const at = compound.add(open(args));
    const reply = await run(compound);
    if (reply.status === Status.ok) return reply.value<OpenReply>(at).stateid;
    if (kind === 'previous' && reply.failed === at) return null;
    throw statusError4(reply.failedName, reply.status);
  }

  async #claimLock(run: (compound: Compound) => Promise<Reply>, range: LockRange): Promise<void> {
    for (const reclaim of [true, false]) {
      const compound = Compound.inSession();
      compound.add(putfh(this.handle));
      const at = compound.add(lock(range, this.#locker(), reclaim));
      const reply = await run(compound);
      if (reply.status === Status.ok) {
        this.#lockStateid = reply.value<Stateid>(at);
        return;
      }
    }
    throw transportError('EIO', 'LOCK', 'a lock was lost when the server was restarted');
  }

  #locker() {
    return this.#lockStateid === null
      ? ({ kind: 'open', open: this.#stateid, owner: this.#owner } as const)
      : ({ kind: 'lock', lock: this.#lockStateid } as const);
  }

  /** Reads and writes go under the lock where there is one. */
  #io(): Stateid {
    return this.#lockStateid ?? this.#stateid;
  }

  async #run(steps: () => Step<unknown>[], options?: CallOptions): Promise<Reply> {
    for (let again = 0; ; again++) {
      if (this.#lost !== null) throw this.#lost;
      if (this.#closed) throw transportError('EBADF', 'OPEN', 'the file is closed');
      const stateid = this.#stateid;
      const compound = Compound.inSession();
      compound.add(putfh(this.handle));
      for (const step of steps()) compound.add(step);
      const reply = await runPatiently((c) => this.#session.run(c, options), compound);
      if (reply.status === Status.ok) return reply;
      // Written with a stateid from before a restart, and sent after it: once more with the one that was claimed meanwhile.
      if (isForgotten(reply.status) && stateid !== this.#stateid && again < 3) continue;
      throw statusError4(reply.failedName, reply.status);
    }
  }
}

function isForgotten(status: number): boolean {
  return status === Status.badStateid || status === Status.staleStateid || status === Status.expired;
}

/** A server in its grace period, or one that waits for somebody else, wants to be asked again. */
async function runPatiently(run: (compound: Compound) => Promise<Reply>, compound: Compound): Promise<Reply> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const reply = await run(compound);
    const later = reply.status === Status.delay || reply.status === Status.grace;
    if (!later || performance.now() >= deadline) return reply;
    await new Promise((resolve) => setTimeout(resolve, DELAY_MS));
  }
}

async function runWhole(run: (compound: Compound) => Promise<Reply>, compound: Compound): Promise<Reply> {
  const reply = await runPatiently(run, compound);
  if (reply.status !== Status.ok) throw statusError4(reply.failedName, reply.status);
  return reply;
}
