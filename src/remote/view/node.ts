/**
 * One object of the remote tree as the view knows it: identity, attributes, and what is cached beneath it.
 * Plain state: the rules that change it are in view.ts and the operations; its fields are plain since those read them.
 */
import type { Attributes, Handle, Name, U64 } from '../server.ts';
import type { FileData } from './file-data.ts';
import type { AttributePatch } from './patch.ts';
import type { ShownTimes } from './shown.ts';

/** What a name of a directory stands for. */
export interface NameEntry {
  /** Null: there is no such name (negative), or it is there but what it is has not been asked ({@link listed}). */
  node: ViewNode | null;
  /** The listing gave the name without a handle: its file number. Else null. */
  listed: U64 | null;
  /** Of the directory, when this was learnt: vouched for only while it is still the same. */
  epoch: number;
  /** Vouched for until then at most, milliseconds. */
  until: number;
  /** A change that is only assumed has made it so: the kernel must not keep it. */
  assumed: boolean;
}

/** What is known beneath a directory. Names are strings with a character per byte. */
export interface DirectoryNames {
  readonly names: Map<string, NameEntry>;
  /** The epoch in which `names` held every name there is; −1: never. */
  completeEpoch: number;
  completeUntil: number;
  /** Own changes of names so far, to notice those that come during a listing. */
  changes: number;
}

/** Where an open file that was removed waits for its last close. */
export interface SillyName {
  readonly directory: ViewNode;
  readonly name: string;
}

/** Resolved when a node that was assumed has its handle, or never will. */
export interface Pending {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

export class ViewNode {
  /** Stable while anything refers to the node, and never used again. 1 is the root. */
  readonly id: number;
  /** Null while its making is only assumed. */
  handle: Handle | null;
  /** As the server said last, with what is assumed; of an assumed node, as it will probably be. */
  attributes: Attributes;
  /** The same without what is assumed. Both are set by the view only. */
  said: Attributes;
  /** What is assumed, in order. */
  readonly patches: AttributePatch[] = [];
  /** Vouched for until then (milliseconds of the clock). */
  validUntil = 0;
  /** How long attributes are vouched for; longer the longer they have not changed. */
  lifeMs = 0;
  /** The view's sequence number when `attributes` were accepted. */
  acceptedAt = 0;
  /** A change of ours since then of which the server did not say what the attributes are now. */
  unsaid = false;
  /** Counts changes by others: data and names learnt in an earlier epoch are only guesses. */
  epoch = 0;
  /** Own requests under way that change it, and the sequence number when the last one ended. */
  ownInFlight = 0;
  ownDoneAt = 0;
  /** References that the kernel holds. */
  lookups = 0;
  /** Open files and directories. */
  opens = 0;
  /** Whoever else needs the node to stay (unwritten data, speculation). */
  pins = 0;
  /** Names in cached directories that stand for it. */
  nameCount = 0;
  /** The st_ino shown to programs. */
  inoHigh: number;
  inoLow: number;
  /** The size that local writes reach, if the server does not know it yet; else −1. */
  writeEnd = -1;
  names: DirectoryNames | null = null;
  data: FileData | null = null;
  target: Name | null = null;
  targetEpoch = -1;
  /** Where it was last seen: for `..`. */
  parent: ViewNode | null = null;
  silly: SillyName | null = null;
  /** Of a directory: removals of silly names in it that are under way. */
  readonly leaving = new Set<Promise<void>>();
  /** The server does not know the handle any more. */
  stale = false;
  /** Its removal is assumed, or was: a directory that the kernel does not know to be dead. */
  removed = false;
  /** The epoch of the data that the kernel may have kept; −1: none. */
  kernelEpoch = -1;
  /** Who looked it up at the server last, and when (milliseconds). */
  lookedUpBy = 0;
  lookedUpAt = -Infinity;
  pending: Pending | null = null;
  /** Assumed changes of it whose truth is not known yet. */
  assumed = 0;
  /** Times that programs have been shown of an assumed change; kept by the admission. */
  shown: ShownTimes | null = null;
  /** For the admission's own use; the view never looks at it. */
  speculation: unknown = null;

  constructor(id: number, handle: Handle | null, attributes: Attributes) {
    this.id = id;
    this.handle = handle;
    this.attributes = attributes;
    this.said = attributes;
    this.inoHigh = attributes.fileidHigh;
    this.inoLow = attributes.fileidLow;
  }

  /** Bytes as a program sees them: with what has been written here. */
  get size(): number {
    return Math.max(this.attributes.size, this.writeEnd);
  }

  /** Whether the view may not forget the node. */
  get held(): boolean {
    return this.lookups > 0 || this.opens > 0 || this.pins > 0 || this.id === 1;
  }
}
