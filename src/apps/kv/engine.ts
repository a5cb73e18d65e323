/**
 * The key-value engine: bytes of requests in, bytes of replies out, for any number of sessions over one store.
 * Pure: no I/O, no timers; the clock and randomness are passed in, the server calls `run` and `cron`.
 */
import { viewOf } from './bytes.ts';
import { CommandContext, FLAG } from './command.ts';
import { get, setPlain } from './commands/string.ts';
import { commandSpecs } from './commands/table.ts';
import { endTransaction } from './commands/transaction.ts';
import { Config } from './config.ts';
import { type Command, CommandTable } from './dispatch.ts';
import { LookAhead } from './look-ahead.ts';
import { ERR_OOM, wrongArity } from './resp/errors.ts';
import type { ReplyWriter } from './resp/reply.ts';
import { Assembler, readRequest } from './resp/request.ts';
import { REPLY_ON, REPLY_SKIP, REPLY_SKIP_NEXT, Session, type SessionAddress } from './session.ts';
import { ActiveExpiry } from './store/active-expiry.ts';
import { ArenaFullError } from './store/arena.ts';
import { Evictor, MORE, NOTHING } from './store/eviction.ts';
import type { Keyspace } from './store/keyspace.ts';
import { Store } from './store/store.ts';
import { Watchers } from './watch.ts';

const STAR = 42;
/** `GET` and `SET` as little-endian words. */
const GET = 0x544547;
const SET = 0x544553;
/** Slots rehashed or freed by one call of `cron`: about a millisecond. */
const TIDY_SLOTS = 4096;
/** Assemblers kept between requests, and most bytes of their buffers together. */
const SPARES = 64;
const SPARE_BYTES = 1 << 24;

/** Facts about the process and the server for INFO, by section in lower case; replaces or adds lines. */
export type ServerFacts = Readonly<Record<string, Readonly<Record<string, string | number>>>>;

export interface EngineOptions {
  /** Unix time in milliseconds; may have a fraction. */
  now(): number;
  /** 32 random bits. */
  random(): number;
  /** Default 16. */
  readonly databases?: number;
  /** Facts for INFO. */
  facts?(): ServerFacts;
  /** Bytes of replies that a session's client has not read yet, for CLIENT LIST. */
  unread?(session: Session): number;
  /** A session was ended by another's CLIENT KILL: close its connection. */
  onKill?(session: Session): void;
}

export class Engine {
  readonly options: EngineOptions;
  readonly config = new Config();
  readonly store: Store;
  readonly table = new CommandTable(commandSpecs);
  readonly watchers = new Watchers();
  readonly sessions = new Map<number, Session>();
  readonly startedAt: number;
  /** Changes since the start. */
  dirty = 0;
  commandsProcessed = 0;
  sessionsCreated = 0;
  errorReplies = 0;
  inputBytes = 0;
  /** Requests that broke the protocol. */
  protocolErrors = 0;
  readonly #evictor: Evictor;
  readonly #expiry: ActiveExpiry;
  readonly #get: Command;
  readonly #set: Command;
  readonly #ahead = new LookAhead();
  #nextId = 1;
  #context: CommandContext | null = null;
  /** Assemblers that no request needs now, and the bytes of their buffers. */
  readonly #spares: Assembler[] = [];
  #spareBytes = 0;

  constructor(options: EngineOptions) {
    this.options = options;
    this.store = new Store(() => options.random(), options.databases);
    this.#evictor = new Evictor(this.store, this.config);
    this.#expiry = new ActiveExpiry(this.store);
    this.#get = this.table.byName('get')!;
    this.#set = this.table.byName('set')!;
    this.store.onRemoved = (keyspace, entry) => this.#removed(keyspace, entry);
    this.config.onChange = () => this.#configured();
    this.startedAt = Math.floor(options.now());
    this.store.setTime(this.startedAt);
  }

  // --- sessions

  createSession(address: SessionAddress = {}): Session {
    const session = new Session(this.#nextId++, Math.floor(this.options.now()), address);
    this.sessions.set(session.id, session);
    this.sessionsCreated++;
    return session;
  }

  /** The connection has ended: forget the session. */
  closeSession(session: Session): void {
    session.closing = true;
    session.pending = null;
    session.queue = null;
    this.watchers.unwatch(session);
    this.sessions.delete(session.id);
  }

  // --- running

  /**
   * Run every whole request in `input[pos .. end)` for a session and write the replies. Gives the position reached: it is `end`
   * (an incomplete request is kept in the session) unless `reply.stop` was set, then the rest waits for the next call.
   * `session.closing` afterwards: close once the replies have gone out; what input remains is of no use.
   */
  run(session: Session, input: Uint8Array, pos: number, end: number, reply: ReplyWriter): number {
    const c = this.#begin(session, reply);
    this.inputBytes += end - pos;
    const from = pos;
    const { errors } = reply;
    const view = viewOf(input);
    c.input = input;
    let seen = pos;
    while (pos < end && !session.closing && !reply.stop) {
      if (session.pending === null && input[pos] === STAR) {
        if (pos >= seen) seen = this.#ahead.touch(c.db.dict, input, pos, end);
        const next = readRequest(c, input, view, pos, end);
        if (next > 0) {
          pos = next;
          if (c.input !== input) c.input = input;
          if (session.plain) this.#runPlain(c, view);
          else this.#runGuarded(c);
          continue;
        }
      }
      pos = this.#assemble(c, input, pos, end);
    }
    if (reply.overflowed) session.closing = true;
    this.inputBytes -= end - pos;
    this.errorReplies += reply.errors - errors;
    if (pos > from) session.lastActiveAt = this.store.now;
    return session.closing ? end : pos;
  }

  #begin(session: Session, reply: ReplyWriter): CommandContext {
    const now = Math.floor(this.options.now());
    const { store } = this;
    if (now !== store.now) store.setTime(now);
    store.touching = !session.noTouch;
    const db = store.keyspaces[session.db]!;
    const c = this.#context ?? new CommandContext(this, reply, session, db);
    this.#context = c;
    c.reply = reply;
    c.session = session;
    c.db = db;
    c.now = now;
    reply.resp3 = session.resp3;
    return c;
  }

  /** Gather a request that is not whole, not multibulk or not well formed; run it if it becomes whole. */
  #assemble(c: CommandContext, input: Uint8Array, pos: number, end: number): number {
    const { session } = c;
    let pending = session.pending;
    if (pending === null) {
      pending = this.#takeAssembler();
      session.pending = pending;
    }
    pos = pending.feed(input, pos, end, this.config);
    if (pending.error !== '') {
      this.protocolErrors++;
      c.reply.error(pending.error);
      session.closing = true;
    } else if (pending.complete) {
      const { argc } = pending;
      if (argc > c.off.length) {
        c.off = new Int32Array(argc);
        c.len = new Int32Array(argc);
      }
      c.argc = argc;
      c.input = pending.bytes;
      for (let i = 0; i < argc; i++) {
        c.off[i] = pending.off[i]!;
        c.len[i] = pending.len[i]!;
      }
      session.pending = null;
      if (argc > 0) this.#runGuarded(c);
    } else return pos;
    session.pending = null;
    this.#keepAssembler(pending);
    return pos;
  }

  #takeAssembler(): Assembler {
    const spare = this.#spares.pop();
    if (spare === undefined) return new Assembler();
    this.#spareBytes -= spare.bytes.length;
    return spare;
  }

  /** Kept for the next request that comes in pieces: growing a buffer to the size of a large value costs more than copying it. */
  #keepAssembler(assembler: Assembler): void {
    assembler.reset();
    const bytes = assembler.bytes.length;
    if (this.#spareBytes + bytes > SPARE_BYTES || this.#spares.length === SPARES) return;
    this.#spareBytes += bytes;
    this.#spares.push(assembler);
  }

  /** A session in its usual state: GET and plain SET go straight to their handlers. */
  #runPlain(c: CommandContext, view: DataView): void {
    // the name, with the CR behind it, without case
    const name = c.len[0] === 3 ? view.getInt32(c.off[0]!, true) & 0x00dfdfdf : 0;
    if (name === GET && c.argc === 2) {
      this.#get.calls++;
      this.commandsProcessed++;
      c.session.lastCommand = 'get';
      get(c);
    } else if (name === SET && c.argc === 3 && this.config.maxmemory === 0) {
      this.#set.calls++;
      this.commandsProcessed++;
      c.session.lastCommand = 'set';
      try {
        setPlain(c);
      } catch (error) {
        this.#outOfMemory(c, error);
      }
    } else {
      this.#dispatch(c);
      if (c.session.replyMode !== REPLY_ON) this.#afterReply(c);
    }
  }

  #runGuarded(c: CommandContext): void {
    const { session, reply } = c;
    if (session.replyMode !== REPLY_ON) reply.discard(true);
    this.#dispatch(c);
    this.#afterReply(c);
  }

  #afterReply(c: CommandContext): void {
    const { session, reply } = c;
    reply.discard(false);
    if (session.replyMode === REPLY_SKIP) session.replyMode = REPLY_ON;
    else if (session.replyMode === REPLY_SKIP_NEXT) session.replyMode = REPLY_SKIP;
    session.refresh();
  }

  /** Find the command, check whether it may run now, run it or queue it. */
  #dispatch(c: CommandContext): void {
    const { session } = c;
    let command = this.table.find(c.input, c.off[0]!, c.len[0]!);
    if (command === null) {
      this.#reject(c, null, unknownCommand(c));
      return;
    }
    if (command.subcommands !== null && c.argc > 1) {
      const sub = command.subcommands.get(c.text(1).toLowerCase());
      if (sub === undefined && c.argc === 2 && c.is(1, 'help')) {
        replyHelp(c, command);
        return;
      }
      if (sub === undefined) {
        const name = command.name.toUpperCase();
        this.#reject(c, command, `ERR unknown subcommand '${c.shown(1)}'. Try ${name} HELP.`);
        return;
      }
      command = sub;
    }
    const { arity, flags } = command;
    if (arity > 0 ? c.argc !== arity : c.argc < -arity) {
      this.#reject(c, command, wrongArity(command.name));
      return;
    }
    if (session.queue !== null && (flags & FLAG.NO_MULTI) !== 0) {
      this.#reject(c, command, 'ERR Command not allowed inside a transaction');
      return;
    }
    if (this.config.maxmemory !== 0 && !this.#mayUseMemory(c, command)) {
      this.#reject(c, command, ERR_OOM);
      return;
    }
    session.lastCommand = command.name;
    if (session.queue !== null && !command.immediate) {
      this.#enqueue(c, command);
      return;
    }
    this.call(c, command);
  }

  /** Run a command whose arguments are in the context. */
  call(c: CommandContext, command: Command): void {
    const { reply } = c;
    const errors = reply.errors;
    command.calls++;
    this.commandsProcessed++;
    try {
      command.run(c);
    } catch (error) {
      this.#outOfMemory(c, error);
    }
    if (reply.errors !== errors) command.failed++;
  }

  /** No memory is the client's answer; anything else is a fault of ours. */
  #outOfMemory(c: CommandContext, error: unknown): void {
    const full =
      error instanceof ArenaFullError || (error instanceof RangeError && /allocation failed/i.test(error.message));
    if (!full) throw error;
    c.reply.error(ERR_OOM);
  }

  #reject(c: CommandContext, command: Command | null, text: string): void {
    if (command !== null) command.rejected++;
    if (c.session.queue !== null) c.session.abortExec = true;
    if (command?.name === 'exec') {
      // EXEC itself ends the transaction even if it may not run
      endTransaction(c, c.session);
      c.reply.error(`EXECABORT Transaction discarded because of: ${text.replace(/^ERR /, '')}`);
    } else c.reply.error(text);
  }

  #enqueue(c: CommandContext, command: Command): void {
    const { session } = c;
    const from = c.off[0]!;
    const last = c.argc - 1;
    const to = c.off[last]! + c.len[last]!;
    session.queueBytes += to - from + c.argc * 8;
    if (session.queueBytes > this.config.requestMax) {
      this.#reject(c, command, 'ERR transaction exceeds client-query-buffer-limit');
      return;
    }
    const off = c.off.slice(0, c.argc);
    for (let i = 0; i < off.length; i++) off[i]! -= from;
    session.queue!.push({ command, bytes: c.input.slice(from, to), off, len: c.len.slice(0, c.argc) });
    c.reply.simple('QUEUED');
  }

  // --- memory

  /** Evict if need be; false if the command may not run for want of memory. */
  #mayUseMemory(c: CommandContext, command: Command): boolean {
    const result = this.#evictor.makeRoom();
    if (result !== NOTHING) return true;
    const { queue } = c.session;
    let denied = (command.flags & FLAG.DENYOOM) !== 0;
    if (queue !== null) {
      if (command.name === 'exec') denied = queue.some((queued) => (queued.command.flags & FLAG.DENYOOM) !== 0);
      else if (!command.immediate) denied = true;
    }
    return !denied;
  }

  #configured(): void {
    const { config, store } = this;
    store.lfuLogFactor = config.lfuLogFactor;
    store.lfuDecayMinutes = config.lfuDecayMinutes;
    store.setLfu(config.policy === 'allkeys-lfu' || config.policy === 'volatile-lfu');
  }

  // --- changes

  /** A key changed: tell those who watch it. */
  touched(db: Keyspace, key: Uint8Array, offset: number, length: number): void {
    if (this.watchers.any) this.watchers.touch(db.id, key, offset, length);
  }

  #removed(db: Keyspace, entry: number): void {
    if (!this.watchers.any) return;
    const { dict } = db;
    this.watchers.touch(db.id, dict.chunk(entry), dict.keyStart(entry), dict.keyLength(entry));
  }

  // --- upkeep

  /**
   * Bounded upkeep: expired keys, rehashes, eviction after a lowered limit. Call it about every 100 ms; true asks for another
   * call soon, when there is nothing better to do.
   */
  cron(): boolean {
    this.store.setTime(Math.floor(this.options.now()));
    this.#expiry.cycle();
    const over = this.config.maxmemory !== 0 && this.#evictor.makeRoom() === MORE;
    return this.store.tidy(TIDY_SLOTS) || over;
  }

  /** A random integer in [0, n), n at most 2^31. */
  randomBelow(n: number): number {
    return Math.floor(((this.options.random() >>> 0) / 4294967296) * n);
  }
}

/** HELP of a container: its subcommands, a line of what each does. */
function replyHelp(c: CommandContext, container: Command): void {
  const lines = [`${container.name.toUpperCase()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`];
  for (const [name, { spec }] of container.subcommands!) lines.push(name.toUpperCase(), `    ${spec.summary}`);
  lines.push('HELP', '    Prints this help.');
  c.reply.array(lines.length);
  for (const line of lines) c.reply.simple(line);
}

/** The error for a name that is no command, with as much of its arguments as redis shows. */
function unknownCommand(c: CommandContext): string {
  let args = '';
  for (let i = 1; i < c.argc && args.length < 128; i++) args += `'${c.shown(i, 128 - args.length)}' `;
  return `ERR unknown command '${c.shown(0)}', with args beginning with: ${args}`;
}
