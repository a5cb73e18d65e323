/**
 * What the engine knows of one client: its database, protocol, transaction, watched keys and the request still arriving.
 * Plain state; the engine and the command families change it, the server holds it beside its connection.
 */
import type { Command } from './dispatch.ts';
import type { Assembler } from './resp/request.ts';

/** A command queued by MULTI, with its own copy of its arguments. */
export interface QueuedCommand {
  readonly command: Command;
  readonly bytes: Uint8Array;
  readonly off: Int32Array;
  readonly len: Int32Array;
}

/** A key watched by WATCH. */
export interface WatchedKey {
  readonly db: number;
  /** The key, a character per byte. */
  readonly key: string;
  readonly bytes: Uint8Array;
}

export const REPLY_ON = 0;
export const REPLY_OFF = 1;
/** The next command's reply is left out. */
export const REPLY_SKIP_NEXT = 2;
/** This command's reply is left out. */
export const REPLY_SKIP = 3;

/** Addresses as CLIENT LIST shows them. */
export interface SessionAddress {
  /** Peer, `127.0.0.1:5000` or `/path:0`. */
  addr?: string;
  /** Local. */
  laddr?: string;
  /** File or queue descriptor; -1 if there is none. */
  fd?: number;
}

export class Session {
  readonly id: number;
  readonly addr: string;
  readonly laddr: string;
  readonly fd: number;
  /** Unix milliseconds. */
  readonly createdAt: number;
  lastActiveAt: number;
  lastCommand = 'NULL';
  db = 0;
  resp3 = false;
  name = '';
  libName = '';
  libVersion = '';
  /** No transaction, replies on, use recorded: commands may take the fast path. Kept by `refresh`. */
  plain = true;
  /** Commands queued since MULTI; null outside a transaction. */
  queue: QueuedCommand[] | null = null;
  queueBytes = 0;
  /** A command could not be queued: EXEC will abort. */
  abortExec = false;
  /** A watched key changed: EXEC will do nothing. */
  dirtyWatch = false;
  watched: WatchedKey[] = [];
  replyMode: number = REPLY_ON;
  noEvict = false;
  noTouch = false;
  /** Nothing more is run; the server closes once what was written has gone out. */
  closing = false;
  /** The request still arriving; null between requests. */
  pending: Assembler | null = null;
  /** Free for the server: its connection. The engine never looks at it. */
  owner: unknown = undefined;

  constructor(id: number, now: number, address: SessionAddress) {
    this.id = id;
    this.createdAt = now;
    this.lastActiveAt = now;
    this.addr = address.addr ?? '?:0';
    this.laddr = address.laddr ?? '?:0';
    this.fd = address.fd ?? -1;
  }

  /** To be called after a change of `queue`, `replyMode` or `noTouch`. */
  refresh(): void {
    this.plain = this.queue === null && this.replyMode === REPLY_ON && !this.noTouch;
  }

  /** Begin as a new connection does, for RESET. The name, database and protocol go; the id stays. */
  reset(): void {
    this.db = 0;
    this.resp3 = false;
    this.name = '';
    this.queue = null;
    this.queueBytes = 0;
    this.abortExec = false;
    this.dirtyWatch = false;
    this.replyMode = REPLY_ON;
    this.noEvict = false;
    this.noTouch = false;
    this.refresh();
  }
}
