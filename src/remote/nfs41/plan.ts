/**
 * Turns operations of a batch into the steps of one COMPOUND, and its reply into their results.
 * Pure: batch.ts sends it, and makes another COMPOUND of what did not fit.
 *
 * Each operation has steps of its own ("go to that directory", then the thing itself) and steps after it that only complete the
 * answer (handle, attributes, CLOSE). It has failed when one of its own failed; when one of the others failed it is done.
 */
import type { RemoteError } from '../remote-error.ts';
import {
  FileType,
  type Handle,
  type HandleRef,
  type Name,
  type Operation,
  type OperationResult,
  type SetAttributes,
} from '../server.ts';
import { ATTRIBUTES, ENTRY_ATTRIBUTES, ENTRY_FILEID, FOUND } from './attributes.ts';
import { ChangedDirectories } from './changed-directories.ts';
import { Compound, type Reply } from './compound.ts';
import { ShareAccess, Status } from './constants.ts';
import {
  access,
  type CreateType,
  commit,
  create,
  getattr,
  link,
  lookup,
  nverifyType,
  READLINK,
  type RenameReply,
  read,
  readdir,
  remove,
  rename,
  setattr,
  verifyChange,
  verifySize,
  verifyType,
  write,
} from './file-steps.ts';
import { Places } from './places.ts';
import { type ChangedDirectory, type InfoOf, isFrom, leavesCurrent, modeOf, type Planned, refs } from './planned.ts';
import { operationError, operationResult } from './results.ts';
import { close, type OpenHow, type OpenReply, open } from './state-steps.ts';
import { ANONYMOUS_STATEID, type ChangeInfo, CURRENT_STATEID, type Stateid, type Step } from './step.ts';

/** What a COMPOUND may hold. */
export interface PlanLimits {
  readonly operations: number;
  readonly requestBytes: number;
  readonly replyBytes: number;
  /** Of a COMPOUND that changes something. */
  readonly keptReplyBytes: number;
  readonly readdirBytes: number;
}

/** An open that a COMPOUND left behind because it stopped before the CLOSE. */
export interface Leak {
  /** The number in the batch of the operation that made the file. */
  readonly index: number;
  readonly stateid: Stateid;
}

export interface Settled {
  /** Results of the operations that were done, in order; null where handle or attributes could not be had. */
  readonly values: readonly (OperationResult | null)[];
  /** Why the next one was not done; null: the COMPOUND simply ended here. */
  readonly failure: { readonly status: number; readonly error: RemoteError } | null;
  readonly leak: Leak | null;
}

interface Opened {
  readonly open: number;
  readonly index: number;
  close: number;
}

const STABLE = { unstable: 0, dataSync: 1, fileSync: 2 } as const;
const ALL_ATTRIBUTES = getattr(ATTRIBUTES);
/** One step instead of GETFH and GETATTR. */
const FOUND_ATTRIBUTES = getattr(FOUND);
const WHOLE: InfoOf = (info: ChangeInfo) => info;
const OPENED: InfoOf = (reply: OpenReply) => reply.directory;
const SOURCE: InfoOf = (reply: RenameReply) => reply.source;
const TARGET: InfoOf = (reply: RenameReply) => reply.target;
const CLOSE_CURRENT = close(CURRENT_STATEID);
/** Kept free for what completes the answers: the way to each directory that changed, and its attributes. */
const TAIL_STEPS_DIRECTORY = 2;
const TAIL_STEP_REQUEST = 160;
const TAIL_STEP_REPLY = 424;
const NO_U64 = { high: 0, low: 0 };
const START_OF_LISTING = { cookie: NO_U64, verifier: NO_U64 };

export class Plan {
  readonly compound = Compound.inSession();
  readonly planned: Planned[] = [];
  readonly #limits: PlanLimits;
  readonly #places: Places;
  readonly #owner: Uint8Array;
  /** For each step: which operation it belongs to, and whether it only completes its answer. */
  readonly #stepOwner: (Planned | null)[] = [null];
  readonly #stepCompletes: boolean[] = [false];
  #writing: Planned | null = null;
  #completing = false;
  /** Whose attributes are to be asked for before the current object is left. */
  #due: Planned | null = null;
  /** Who made the current object and gets the same attributes: they must be in its result. */
  #made: Planned | null = null;
  /** The file that is open now: the current one. */
  #open: Opened | null = null;
  #opens: Opened[] = [];
  readonly #changed = new ChangedDirectories();

  /** `known`: handles that earlier COMPOUNDs of the batch gave, by operation. `owner`: an open owner no other COMPOUND uses now. */
  constructor(limits: PlanLimits, known: readonly (Handle | undefined)[], owner: Uint8Array) {
    this.#limits = limits;
    this.#places = new Places((step) => this.#emit(step), known);
    this.#owner = owner;
  }

  /** Adds an operation; false (and nothing is added) if it does not fit in or there is no way to its objects from here. */
  add(operation: Operation, index: number, next: Operation | undefined): boolean {
    if (!this.#places.reachable(refs(operation))) return false;
    const undo = this.#mark();
    const planned: Planned = {
      operation,
      index,
      main: -1,
      attributes: -1,
      directory: -1,
      changed: null,
      changedTo: null,
    };
    this.planned.push(planned);
    this.#build(planned, next);
    // The first operation goes alone however large it is: the server shall judge.
    if (this.planned.length === 1 || this.#fits()) return true;
    undo();
    this.planned.pop();
    return false;
  }

  /** Gives what takes everything back that is added from now on. */
  #mark(): () => void {
    const steps = this.compound.steps.length;
    const { current, saved } = this.#places;
    const due = this.#due;
    const made = this.#made;
    const open = this.#open;
    const opens = this.#opens.length;
    const unchange = this.#changed.mark();
    return () => {
      this.compound.truncate(steps);
      this.#stepOwner.length = steps;
      this.#stepCompletes.length = steps;
      this.#places.current = current;
      this.#places.saved = saved;
      this.#due = due;
      if (due !== null) due.attributes = -1;
      this.#made = made;
      if (made !== null) made.attributes = -1;
      this.#open = open;
      if (open !== null) open.close = -1;
      this.#opens.length = opens;
      unchange();
    };
  }

  #fits(): boolean {
    const { steps, requestBytes, replyBytes, changes } = this.compound;
    const limits = this.#limits;
    const own = (this.#due === null ? 0 : 1) + (this.#open === null ? 0 : 1);
    const tail = own + TAIL_STEPS_DIRECTORY * this.#changed.size;
    if (steps.length + tail > limits.operations) return false;
    if (requestBytes + tail * TAIL_STEP_REQUEST > limits.requestBytes) return false;
    const most = changes ? Math.min(limits.keptReplyBytes, limits.replyBytes) : limits.replyBytes;
    return replyBytes + tail * TAIL_STEP_REPLY <= most;
  }

  /** Adds what completes the answers; no operation can be added afterwards. */
  finish(): void {
    this.#leave();
    for (const directory of this.#changed) {
      const { ref, last } = directory;
      const place = this.#places.place(ref);
      const near = place === this.#places.current || place === this.#places.saved;
      if (this.#places.handle(ref) === null && !near) continue;
      this.#complete(last);
      this.#places.goTo(ref);
      directory.attributes = this.#emit(ALL_ATTRIBUTES);
    }
  }

  /** What the reply says of the operations. */
  settle(reply: Reply): Settled {
    const values: (OperationResult | null)[] = [];
    for (const planned of this.planned) {
      if (!reply.done(planned.main)) break;
      values.push(operationResult(planned, reply));
    }
    let failure: Settled['failure'] = null;
    const { status } = reply;
    if (status !== Status.ok && !this.#stepCompletes[reply.failed]) {
      const planned = this.#stepOwner[reply.failed]!;
      failure = { status, error: operationError(planned.operation, reply) };
    }
    return { values, failure, leak: this.#leak(reply) };
  }

  #leak(reply: Reply): Leak | null {
    for (const { open, close, index } of this.#opens) {
      if (!reply.done(open) || reply.done(close)) continue;
      return { index, stateid: reply.value<OpenReply>(open).stateid };
    }
    return null;
  }

  #emit(step: Step<unknown>): number {
    this.#stepOwner.push(this.#writing);
    this.#stepCompletes.push(this.#completing);
    return this.compound.add(step);
  }

  /** The steps from here on are `planned`'s own, or only complete its answer. */
  #own(planned: Planned): void {
    this.#writing = planned;
    this.#completing = false;
  }

  #complete(planned: Planned): void {
    this.#writing = planned;
    this.#completing = true;
  }

  /** Before the current object is left: the attributes that are due, and CLOSE. */
  #leave(): void {
    const due = this.#due;
    if (due !== null) {
      this.#complete(due);
      due.attributes = this.#emitAttributes();
    }
    this.#completing = true;
    this.#close();
    this.#due = null;
    this.#made = null;
  }

  /** With another stateid than the current one the current one is lost, so before that the file is closed. */
  #close(): void {
    if (this.#open !== null) this.#open.close = this.#emit(CLOSE_CURRENT);
    this.#open = null;
  }

  #build(planned: Planned, next: Operation | undefined): void {
    const { operation } = planned;
    const first = refs(operation)[0]!;
    if (this.#places.place(first) !== this.#places.current || leavesCurrent(operation)) this.#leave();
    this.#own(planned);
    this.#places.goTo(first);
    switch (operation.op) {
      case 'getattr':
        planned.main = this.#emitAttributes();
        this.#answered(planned);
        break;
      case 'setattr':
        if (operation.guard !== undefined) this.#emit(verifyChange(operation.guard));
        planned.main = this.#emit(setattr(this.#stateid(), operation.attributes));
        this.#due = planned;
        break;
      case 'lookup':
        planned.directory = this.#emit(ALL_ATTRIBUTES);
        this.#emit(lookup(operation.name));
        planned.main = planned.attributes = this.#emit(FOUND_ATTRIBUTES);
        this.#places.arrive(planned.index, operation.directory, operation.name);
        break;
      case 'access':
        planned.main = this.#emit(access(operation.bits));
        this.#due = planned;
        break;
      case 'readlink':
        planned.main = this.#emit(READLINK);
        this.#due = planned;
        break;
      case 'read':
        this.#close();
        planned.main = this.#emit(read(ANONYMOUS_STATEID, operation.offset, operation.length));
        this.#due = planned;
        break;
      case 'write': {
        const { offset, data, stability } = operation;
        planned.main = this.#emit(write(this.#stateid(), offset, data, STABLE[stability]));
        this.#due = planned;
        break;
      }
      case 'commit':
        planned.main = this.#emit(commit(operation.offset, operation.length));
        this.#due = planned;
        break;
      case 'create':
        this.#create(planned, operation);
        break;
      case 'mkdir':
        this.#make(planned, operation, { type: FileType.directory });
        // What is made next goes in here: then the way back will be one step.
        if (next !== undefined && isFrom(refs(next)[0]!, planned.index)) this.#places.save();
        break;
      case 'symlink':
        this.#make(planned, operation, { type: FileType.symlink, target: operation.target });
        break;
      case 'mknod':
        this.#make(planned, operation, operation.device);
        break;
      case 'link':
        this.#places.save();
        this.#places.goTo(operation.directory);
        planned.main = this.#emit(link(operation.name));
        this.#places.forget(operation.directory, operation.name);
        planned.changed = this.#change(operation.directory, planned, WHOLE);
        this.#complete(planned);
        this.#places.goTo(operation.handle);
        this.#due = planned;
        break;
      case 'remove':
        this.#remove(planned, operation, nverifyType(FileType.directory));
        break;
      case 'rmdir':
        this.#remove(planned, operation, verifyType(FileType.directory));
        break;
      case 'rename': {
        const { fromDirectory, fromName, toDirectory, toName } = operation;
        this.#places.save();
        this.#places.goTo(toDirectory);
        planned.main = this.#emit(rename(fromName, toName));
        this.#places.move(fromDirectory, fromName, toDirectory, toName);
        if (this.#places.place(fromDirectory) !== this.#places.place(toDirectory)) {
          planned.changed = this.#change(fromDirectory, planned, SOURCE);
        }
        planned.changedTo = this.#change(toDirectory, planned, TARGET);
        planned.changed ??= planned.changedTo;
        break;
      }
      case 'readdir': {
        const { cookie, verifier } = operation.position ?? START_OF_LISTING;
        const mask = operation.plus ? ENTRY_ATTRIBUTES : ENTRY_FILEID;
        planned.main = this.#emit(readdir(cookie, verifier, this.#limits.readdirBytes, mask));
        this.#due = planned;
        break;
      }
      case 'verify':
        if (operation.change !== undefined) this.#emit(verifyChange(operation.change));
        if (operation.size !== undefined) this.#emit(verifySize(operation.size));
        planned.main = this.#emitAttributes();
        this.#answered(planned);
        break;
    }
  }

  /** With an open file the current stateid says by what right; without one the object's permissions do. */
  #stateid(): Stateid {
    return this.#open === null ? ANONYMOUS_STATEID : CURRENT_STATEID;
  }

  /** Of the current object; if it was made here, with its handle. */
  #emitAttributes(): number {
    if (this.#made === null) return this.#emit(ALL_ATTRIBUTES);
    this.#made.attributes = this.#emit(FOUND_ATTRIBUTES);
    return this.#made.attributes;
  }

  /** An object's own attributes were the operation: they serve those who wait for them, too. */
  #answered(planned: Planned): void {
    planned.attributes = planned.main;
    if (this.#due !== null) this.#due.attributes = planned.main;
    this.#due = null;
    this.#made = null;
  }

  #make(
    planned: Planned,
    { directory, name, attributes }: { directory: HandleRef; name: Name; attributes: SetAttributes },
    what: CreateType,
  ): void {
    planned.main = this.#emit(create(what, name, attributes));
    planned.changed = this.#change(directory, planned, WHOLE);
    this.#places.arriveNew(planned.index, directory, name);
    this.#due = planned;
    this.#made = planned;
  }

  #create(planned: Planned, operation: Extract<Operation, { op: 'create' }>): void {
    const { directory, name, mode, attributes } = operation;
    const how: OpenHow =
      mode === 'exclusive'
        ? { kind: 'exclusive', verifier: operation.verifier ?? NO_U64, attributes: modeOf(attributes) }
        : { kind: mode === 'guarded' ? 'guarded' : 'create', attributes };
    const args = { access: ShareAccess.write, owner: this.#owner, how, claim: { kind: 'name', name } } as const;
    const opened = { open: this.#emit(open(args)), index: planned.index, close: -1 };
    planned.main = opened.open;
    this.#open = opened;
    this.#opens.push(opened);
    planned.changed = this.#change(directory, planned, OPENED);
    this.#places.arriveNew(planned.index, directory, name);
    if (mode === 'exclusive') {
      // The verifier may lie in the times, so they are set in any case.
      planned.main = this.#emit(setattr(CURRENT_STATEID, { atime: 'server', mtime: 'server', ...attributes }));
    }
    this.#due = planned;
    this.#made = planned;
  }

  /** REMOVE takes files and directories alike, so the type is looked at first. */
  #remove(planned: Planned, { directory, name }: { directory: HandleRef; name: Name }, check: Step<void>): void {
    const place = this.#places.place(directory);
    if (this.#places.handle(directory) === null) this.#places.save();
    this.#emit(lookup(name));
    this.#places.current = null;
    this.#emit(check);
    this.#places.goTo(directory);
    planned.main = this.#emit(remove(name));
    this.#places.current = place;
    this.#places.forget(directory, name);
    planned.changed = this.#change(directory, planned, WHOLE);
  }

  #change(ref: HandleRef, by: Planned, info: InfoOf): ChangedDirectory {
    return this.#changed.add(this.#places.place(ref), ref, by, info);
  }
}
