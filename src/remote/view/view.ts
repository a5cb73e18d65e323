/**
 * The cached, bounded view of a remote tree: what is known, for how long it is vouched for, and how answers of the server
 * change it (docs/design/mount.md says what is promised). It reaches the world only through the server and the clock.
 */
import { ERRNO } from '../../errors.ts';
import { LISTING_MAX } from '../listing.ts';
import type { Attributes, CallOptions, Credential, Handle, RemoteServer, U64, Wcc } from '../server.ts';
import { FileType } from '../server.ts';
import type { Clock } from './clock.ts';
import { ErrnoError } from './errors.ts';
import { DataBudget, FileData } from './file-data.ts';
import { Loader } from './loader.ts';
import type { NameEntry, ViewNode } from './node.ts';
import { NodeTable } from './nodes.ts';
import { type AttributePatch, patched } from './patch.ts';
import { keepShown } from './shown.ts';
import type { UndoLog } from './undo.ts';
import { WriteBack } from './write-back.ts';

export interface ViewOptions {
  /** Milliseconds that attributes of files are vouched for: at first, and at most after long quiet. */
  readonly fileMinMs: number;
  readonly fileMaxMs: number;
  readonly directoryMinMs: number;
  readonly directoryMaxMs: number;
  /** Bytes of cached file data. */
  readonly dataBytes: number;
  /** Bytes of it that the server has not on stable storage yet; then writers wait. */
  readonly unwrittenBytes: number;
  /** Cached names. */
  readonly names: number;
  /** Entries of one directory at most; more is EOVERFLOW. */
  readonly listing: number;
  /** Milliseconds after which written data goes to the server by itself. */
  readonly writeDelayMs: number;
  readonly parallelWrites: number;
  /** Bytes read ahead of a sequential reader. */
  readonly readAheadBytes: number;
  /** Who owns what the mount makes in its own name: for what is assumed to have been made. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** The times are the Linux NFS client's. */
export const VIEW_DEFAULTS: ViewOptions = {
  fileMinMs: 3000,
  fileMaxMs: 60_000,
  directoryMinMs: 30_000,
  directoryMaxMs: 60_000,
  dataBytes: 256 << 20,
  unwrittenBytes: 64 << 20,
  names: 500_000,
  listing: LISTING_MAX,
  writeDelayMs: 1000,
  parallelWrites: 16,
  readAheadBytes: 8 << 20,
  owner: { uid: 0, gid: 0 },
};

/** When a request was sent: an answer speaks of no earlier moment. */
export interface Asked {
  readonly sequence: number;
  readonly ms: number;
}

/** One name of a listing; without a node where the server gave no handle. */
export interface ListedName {
  readonly name: string;
  readonly node: ViewNode | null;
  readonly ino: U64;
  /** 0: not known. */
  readonly type: FileType | 0;
}

/** How a directory stood when a listing of it began. */
export interface ListingStart {
  readonly epoch: number;
  readonly changes: number;
}

export interface ViewCounters {
  /** Answers in which something had been changed by somebody else. */
  foreignChanges: number;
  staleHandles: number;
  /** Data sent again because the server had restarted before it was committed. */
  rewrites: number;
}

export class View {
  readonly server: RemoteServer;
  readonly clock: Clock;
  readonly options: ViewOptions;
  readonly nodes: NodeTable;
  readonly budget: DataBudget;
  readonly writeBack: WriteBack;
  readonly loader: Loader;
  readonly counters: ViewCounters = { foreignChanges: 0, staleHandles: 0, rewrites: 0 };
  /** For the admission: looks whether an open file is held by a program (and not only by checkpoints). */
  held: ((node: ViewNode, name: string) => boolean) | null = null;
  #sequence = 1;
  #sillyNames = 0;

  /** Made by {@link openView}. */
  constructor(server: RemoteServer, rootAttributes: Attributes, clock: Clock, options: ViewOptions) {
    this.server = server;
    this.clock = clock;
    this.options = options;
    this.nodes = new NodeTable(server.root, rootAttributes, options.names);
    this.budget = new DataBudget(options.dataBytes);
    this.writeBack = new WriteBack(this);
    this.loader = new Loader(this);
  }

  get root(): ViewNode {
    return this.nodes.root;
  }

  /** The node of an id; undefined once it is forgotten. */
  node(id: number): ViewNode | undefined {
    return this.nodes.byId(id);
  }

  /** Marks the moment before a request is sent. */
  ask(): Asked {
    return { sequence: ++this.#sequence, ms: this.clock.now() };
  }

  /** Options of a call in somebody's name; the connection's own for null. */
  call(credential: Credential | null, signal?: AbortSignal): CallOptions {
    return credential === null ? { signal } : { signal, credential };
  }

  /** The handle, as soon as there is one. @throws ErrnoError EIO when the making of the node was undone; ESTALE */
  async handleOf(node: ViewNode): Promise<Handle> {
    while (node.handle === null && node.pending !== null) await node.pending.promise;
    // Its making was undone: with ESTALE the kernel walks the path again, and asks for the name.
    if (node.handle === null) throw new ErrnoError(node.stale ? ERRNO.ESTALE : ERRNO.EIO);
    return node.handle;
  }

  // ---- what is vouched for

  /** Milliseconds for which the node's attributes are still vouched for; 0: not any more. */
  attributesMs(node: ViewNode): number {
    // What is about to be sent will change the times.
    if (node.handle === null || node.data?.unsent) return 0;
    return Math.max(0, node.validUntil - this.clock.now());
  }

  /** Milliseconds for which the kernel may keep the attributes: not at all what is assumed, since others would be shown it. */
  keepMs(node: ViewNode): number {
    return node.assumed > 0 ? 0 : this.attributesMs(node);
  }

  /** Whether what is known of the node can be vouched for, not counting what we have changed ourselves. */
  isVouched(node: ViewNode): boolean {
    return node.handle === null || this.clock.now() < node.validUntil;
  }

  /** Whether what is known of names and listing in this directory can be vouched for now. An assumed one is all our own. */
  directoryVouched(directory: ViewNode): boolean {
    return directory.handle === null || this.clock.now() < directory.validUntil;
  }

  /** Milliseconds for which a name is still vouched for. */
  nameMs(directory: ViewNode, entry: NameEntry): number {
    if (entry.epoch !== directory.epoch || directory.handle === null || entry.assumed) return 0;
    return Math.max(0, Math.min(entry.until, directory.validUntil) - this.clock.now());
  }

  vouched(directory: ViewNode, entry: NameEntry): boolean {
    if (entry.epoch !== directory.epoch) return false;
    return directory.handle === null || this.clock.now() < Math.min(entry.until, directory.validUntil);
  }

  /** Whether every name of the directory is known and vouched for. */
  complete(directory: ViewNode): boolean {
    const { names } = directory;
    if (names === null || names.completeEpoch !== directory.epoch) return false;
    return this.directoryVouched(directory) && (directory.handle === null || this.clock.now() < names.completeUntil);
  }

  completeMs(directory: ViewNode): number {
    if (!this.complete(directory) || directory.handle === null) return 0;
    return Math.max(0, Math.min(directory.names!.completeUntil, directory.validUntil) - this.clock.now());
  }

  /** From now on the node's attributes have to be asked for. */
  expire(node: ViewNode): void {
    node.validUntil = 0;
  }

  // ---- what the server says

  /** The node of an object that the server named; known before or not. */
  found(handle: Handle, attributes: Attributes, asked: Asked): ViewNode {
    const known = this.nodes.byHandle(handle);
    if (known !== undefined && !known.stale && known.attributes.type === attributes.type) {
      this.accept(known, attributes, asked);
      return known;
    }
    // A handle that came back as another kind of object is another object.
    if (known !== undefined) this.nodes.abandonHandle(known);
    const node = this.nodes.add(handle, attributes);
    this.#vouch(node, attributes, asked, false);
    return node;
  }

  /**
   * Takes attributes that were asked for. A change that no request of ours explains was made by somebody else.
   * @returns false where they may be of before a change of ours or of after it, and nothing tells which: they are not kept
   */
  accept(node: ViewNode, attributes: Attributes | null, asked: Asked): boolean {
    if (attributes === null || node.handle === null) return true;
    if (this.#mayBeEither(node, asked)) return false;
    this.acceptMade(node, attributes, asked);
    return true;
  }

  /** The same of what our own request said of the object that it made: it is of before whatever was sent behind it. */
  acceptMade(node: ViewNode, attributes: Attributes, asked: Asked): void {
    if (this.#older(node, attributes, asked, true)) return;
    const changed = !sameChange(node.said, attributes);
    if (changed && node.ownInFlight === 0 && node.ownDoneAt <= asked.sequence) this.#foreignChange(node);
    this.#vouch(node, attributes, asked, changed);
  }

  /** A request of ours that changes the node is about to be sent. Every call is followed by one of {@link ownEnds}. */
  ownBegins(node: ViewNode): void {
    node.ownInFlight++;
  }

  ownEnds(node: ViewNode): void {
    node.ownInFlight--;
    node.ownDoneAt = ++this.#sequence;
  }

  /**
   * Takes what an own change did to a node's attributes; call it before {@link ownEnds}. For a directory only `before` shows
   * that nobody else was there; for a file, its absence is taken for that.
   */
  acceptOwn(node: ViewNode, wcc: Wcc, asked: Asked): void {
    const { before, after } = wcc;
    const isDirectory = node.attributes.type === FileType.directory;
    const alone = node.ownInFlight <= 1 && node.acceptedAt <= asked.sequence;
    if (before === null ? isDirectory : alone && !isChange(node.said, before)) this.#foreignChange(node);
    if (after === null) this.changedUnsaid(node);
    else if (!this.#older(node, after, asked, false)) {
      this.#vouch(node, after, asked, true);
      // Several at once: the last answer need not be the last state.
      if (node.ownInFlight > 1) this.expire(node);
    } else this.expire(node);
  }

  /** A change of ours was made, and the server has not told the node's attributes since. */
  changedUnsaid(node: ViewNode): void {
    node.unsaid = true;
    this.expire(node);
  }

  /** The server does not know the node any more. */
  markStale(node: ViewNode): void {
    if (node.stale || node.id === 1) return;
    node.stale = true;
    this.counters.staleHandles++;
    this.expire(node);
    node.data?.dropClean();
    node.epoch++;
    // Where no name is known to stand for it any more, it may have been removed by ourselves.
    if (node.parent !== null && node.nameCount > 0) this.#foreignChange(node.parent);
  }

  // ---- what is assumed of attributes

  /** The attributes without what is assumed are these. */
  say(node: ViewNode, attributes: Attributes): void {
    node.said = attributes;
    node.attributes = node.patches.length === 0 ? attributes : patched(attributes, node.patches);
  }

  /** Assumes a change of attributes, until `unpatch` or the undo log takes it back. */
  patch(node: ViewNode, patch: AttributePatch, undo: UndoLog): void {
    node.patches.push(patch);
    this.say(node, node.said);
    undo.push(() => this.unpatch(node, patch));
  }

  /** The change is not assumed any more: it has been made, or it was not. */
  unpatch(node: ViewNode, patch: AttributePatch): void {
    const at = node.patches.indexOf(patch);
    if (at < 0) return;
    node.patches.splice(at, 1);
    this.say(node, node.said);
  }

  // ---- names

  nameOf(directory: ViewNode, name: string): NameEntry | undefined {
    return directory.names?.names.get(name);
  }

  /**
   * Remembers what a name stands for, as an answer said. @param epochBefore the directory's epoch when it was asked: if it is
   * another one now, the answer may be older than the change, and is only a guess
   */
  learnName(
    directory: ViewNode,
    name: string,
    node: ViewNode | null,
    epochBefore: number,
    changesBefore: number,
  ): void {
    if (changesBefore < 0 || this.changesOf(directory) !== changesBefore || directory.ownInFlight > 0) {
      // A change of ours was under way meanwhile; which of the two came first is not known.
      if (this.nameOf(directory, name) !== undefined) return;
    }
    const sure = directory.epoch === epochBefore;
    const until = sure ? Infinity : this.clock.now() + this.options.fileMinMs;
    this.nodes.setName(directory, name, { node, listed: null, epoch: directory.epoch, until, assumed: false });
  }

  /**
   * Own changes of names so far, to be taken before a question is sent and compared when its answer comes; −1 where changes are
   * assumed that the server may not have made when it answers.
   */
  changesOf(directory: ViewNode): number {
    return directory.assumed > 0 ? -1 : (directory.names?.changes ?? 0);
  }

  /** Sets what a name stands for after a change of ours (null: nothing any more). */
  changeName(directory: ViewNode, name: string, node: ViewNode | null, undo: UndoLog | null): void {
    const old = directory.names?.names.get(name);
    const entry = { node, listed: null, epoch: directory.epoch, until: Infinity, assumed: undo !== null };
    // The old node must outlive the name while it may come back.
    if (undo !== null && old?.node) old.node.pins++;
    this.nodes.setName(directory, name, entry);
    directory.names!.changes++;
    if (undo === null) return;
    const release = (): void => {
      if (old?.node) this.unpin(old.node);
    };
    const restore = (): void => {
      if (directory.names !== null) directory.names.changes++;
      if (this.nameOf(directory, name) === entry) {
        // Where nothing was known, a complete listing says again that there is no such name.
        if (old === undefined) this.nodes.removeName(directory, name);
        else this.nodes.setName(directory, name, old);
      }
      release();
    };
    undo.push(restore, () => {
      entry.assumed = false;
      release();
    });
  }

  /** What is known of a name has turned out wrong. */
  doubtName(directory: ViewNode, name: string): void {
    const entry = this.nameOf(directory, name);
    if (entry !== undefined) entry.epoch = -1;
    if (directory.names !== null) directory.names.completeEpoch = -1;
    this.expire(directory);
  }

  /** Everything that is in a directory, as a listing said that was complete when it ended. */
  learnListing(directory: ViewNode, listed: readonly ListedName[], before: ListingStart): void {
    const { names } = directory;
    if (before.changes < 0 || this.changesOf(directory) !== before.changes || directory.ownInFlight > 0) return;
    if (listed.length > this.options.names / 2) return;
    const until = directory.epoch === before.epoch ? Infinity : this.clock.now() + this.options.fileMinMs;
    const { epoch } = directory;
    const old = new Set(names?.names.keys());
    for (const { name, node, ino } of listed) {
      old.delete(name);
      this.nodes.setName(directory, name, { node, listed: node === null ? ino : null, epoch, until, assumed: false });
    }
    for (const name of old) this.nodes.removeName(directory, name);
    directory.names ??= { names: new Map(), completeEpoch: -1, completeUntil: 0, changes: 0 };
    directory.names.completeEpoch = epoch;
    directory.names.completeUntil = until;
    this.nodes.touched(directory);
  }

  /** A directory just made is empty, and everything that will be in it is known. */
  learnEmpty(directory: ViewNode): void {
    directory.names = { names: new Map(), completeEpoch: directory.epoch, completeUntil: Infinity, changes: 0 };
    this.nodes.touched(directory);
  }

  // ---- references

  /** Whether a program has the file open. Copies of processes, kept to go back to, do not count: {@link held} tells. */
  isOpen(node: ViewNode, name: string): boolean {
    return node.opens > 0 && (this.held === null || this.held(node, name));
  }

  pin(node: ViewNode): void {
    node.pins++;
  }

  unpin(node: ViewNode): void {
    node.pins--;
    this.nodes.release(node);
  }

  /** The kernel gives references back. Counts beyond what it has are ignored. */
  forget(id: number, count: number): void {
    const node = this.node(id);
    if (node === undefined) return;
    node.lookups = Math.max(0, node.lookups - count);
    this.nodes.release(node);
  }

  /** Numbers the names of files removed while open; the start makes them differ between mounts. */
  nextSillyNumber(): number {
    if (this.#sillyNames === 0) this.#sillyNames = Math.floor(this.clock.wall()) % 2 ** 31;
    return this.#sillyNames++;
  }

  dataOf(node: ViewNode): FileData {
    node.data ??= new FileData(this.budget);
    return node.data;
  }

  // ---- the rules

  /**
   * Whether an answer came to a question that was under way together with a change of ours which can be seen in it only by the
   * number of links: one that the server executes now and that is assumed on top of what it says, or one of which it did not say
   * what has become of the object.
   */
  #mayBeEither(node: ViewNode, asked: Asked): boolean {
    if (node.unsaid && asked.sequence < node.ownDoneAt) return true;
    return node.ownInFlight > 0 && node.patches.some(({ links }) => links !== undefined);
  }

  /**
   * Whether an answer is older than what is known: it was asked before that was accepted, and its change time is earlier, or
   * (`orSame`) the same with another size: then it came in the same tick of the server's clock.
   */
  #older(node: ViewNode, attributes: Attributes, asked: Asked, orSame: boolean): boolean {
    if (node.acceptedAt <= asked.sequence) return false;
    const { ctimeSeconds, ctimeNanoseconds, size } = node.said;
    const seconds = attributes.ctimeSeconds - ctimeSeconds;
    if (seconds !== 0) return seconds < 0;
    const nanoseconds = attributes.ctimeNanoseconds - ctimeNanoseconds;
    return nanoseconds === 0 ? orSame && attributes.size !== size : nanoseconds < 0;
  }

  #vouch(node: ViewNode, attributes: Attributes, asked: Asked, changed: boolean): void {
    const { fileMinMs, fileMaxMs, directoryMinMs, directoryMaxMs } = this.options;
    const isDirectory = attributes.type === FileType.directory;
    const least = isDirectory ? directoryMinMs : fileMinMs;
    const most = isDirectory ? directoryMaxMs : fileMaxMs;
    // Only a confirmation after the time was up says that the object is quiet.
    if (changed || node.lifeMs === 0) node.lifeMs = least;
    else if (asked.ms >= node.validUntil) node.lifeMs = Math.min(most, Math.max(least, node.lifeMs * 2));
    if (node.unsaid) {
      node.unsaid = false;
      keepShown(node, attributes);
    }
    this.say(node, attributes);
    node.acceptedAt = ++this.#sequence;
    node.validUntil = Math.max(asked.ms + node.lifeMs, changed ? 0 : node.validUntil);
    if (node.writeEnd >= 0 && !node.data?.unsent && node.assumed === 0) {
      if (attributes.size >= node.writeEnd || node.ownInFlight === 0) node.writeEnd = -1;
    }
  }

  #foreignChange(node: ViewNode): void {
    this.counters.foreignChanges++;
    node.epoch++;
    node.data?.dropClean();
  }
}

export function sameChange(a: Attributes, b: Attributes): boolean {
  return a.changeHigh === b.changeHigh && a.changeLow === b.changeLow && a.size === b.size;
}

function isChange(attributes: Attributes, change: U64): boolean {
  return attributes.changeHigh === change.high && attributes.changeLow === change.low;
}

/** Asks for the root's attributes and makes a view of the tree. */
export async function openView(
  server: RemoteServer,
  clock: Clock,
  options: Partial<ViewOptions> = {},
  signal?: AbortSignal,
): Promise<View> {
  const attributes = await server.getattr(server.root, { signal });
  return new View(server, attributes, clock, { ...VIEW_DEFAULTS, ...options });
}
