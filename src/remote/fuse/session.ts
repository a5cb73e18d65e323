/**
 * A FUSE connection served from a view: reads requests, runs them, writes replies, in one thread.
 * It reaches the kernel only through the transport it is given, and the server through the view.
 */
import { ERRNO, IsthmusError, systemError } from '../../errors.ts';
import { closeFile } from '../view/files.ts';
import type { ViewNode } from '../view/node.ts';
import type { Outcome, ViewOperation } from '../view/operation.ts';
import type { View } from '../view/view.ts';
import { FUSE_ROOT_ID, Opcode, OUT_HEADER_BYTES } from './abi.ts';
import { type Admission, alwaysWait, type RequestOrigin } from './admission.ts';
import { Dispatch } from './dispatch.ts';
import { negotiate } from './init.ts';
import { ReplyWriter } from './reply.ts';
import { RequestReader, type WordMemory } from './request.ts';
import { type RunCounters, Runner } from './runner.ts';
import { isDying } from './threads.ts';

/** The device, as the session uses it. */
export interface FuseTransport {
  readonly request: WordMemory;
  readonly reply: WordMemory;
  /** One request into `request`: its length, or −errno. */
  read(): number;
  /** The first bytes of `reply` out: 0 or −errno. */
  write(length: number): number;
  /** Calls back while requests wait. */
  watch(onReadable: () => void): { close(): void };
  /** Sends a notification without blocking this thread: 0 or −errno. */
  notify(message: Uint8Array): Promise<number>;
}

export interface SessionOptions {
  readonly admission?: Admission;
  /** Requests of this user are made in the mount's own name; others' in theirs. */
  readonly uid: number;
  /** Bytes of data in one request. */
  readonly payloadMax: number;
}

export interface SessionCounters {
  replies: number;
  interrupts: number;
  /** Answers to requests that had been given up. */
  lateReplies: number;
  malformed: number;
  /** Requests that met a mistake in this program, and were answered EIO. */
  faults: number;
}

/** Requests handled before the event loop gets its turn. */
const BATCH_MAX = 128;
/** How often a thread that was interrupted is looked at again: perhaps it is being killed now. */
const DYING_LOOK_MS = 200;
const NOT_BOUNCEABLE: ReadonlySet<number> = new Set([Opcode.READ, Opcode.WRITE, Opcode.FLUSH, Opcode.RELEASE]);

/** Requests to which the kernel wants no answer. */
const UNANSWERED: ReadonlySet<number> = new Set([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT]);

/** A request that is not answered yet. */
interface Waiting {
  readonly origin: RequestOrigin;
}

export class FuseSession {
  readonly view: View;
  readonly counters: SessionCounters = { replies: 0, interrupts: 0, lateReplies: 0, malformed: 0, faults: 0 };
  lastFault: Error | null = null;
  /** Resolves when the file system has been unmounted; rejects when the device fails. */
  readonly ended: Promise<void>;
  readonly reader: RequestReader;
  readonly reply: ReplyWriter;
  readonly options: SessionOptions;
  readonly #transport: FuseTransport;
  readonly #runner: Runner;
  readonly #dispatch: Dispatch;
  readonly #waiting = new Map<number, Waiting>();
  readonly #interrupted = new Set<number>();
  #watch: { close(): void } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #lookQueued = false;
  #over = false;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};
  /** The protocol's minor version agreed on; 0 before. */
  minor = 0;

  constructor(view: View, transport: FuseTransport, options: SessionOptions) {
    this.view = view;
    this.options = options;
    this.#transport = transport;
    this.reader = new RequestReader(transport.request);
    this.reply = new ReplyWriter(transport.reply);
    this.#runner = new Runner(options.admission ?? alwaysWait);
    this.#dispatch = new Dispatch(this);
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever waits is told; nobody has to.
    this.ended.catch(() => {});
  }

  get runCounters(): Readonly<RunCounters> {
    return this.#runner.counters;
  }

  /** Requests that wait for an answer. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Begins to serve. Requests are handled from the event loop. */
  start(): void {
    this.#watch = this.#transport.watch(() => this.#drain());
  }

  /** Stops reading requests; what waits is no longer answered. Idempotent. */
  stop(): void {
    if (this.#over) return;
    this.#over = true;
    this.#watch?.close();
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#resolve();
  }

  /** Makes the kernel forget what it knows of a name. Runs in the pool, since it may wait for a request of ours. */
  invalidateName(directory: ViewNode, name: string): Promise<void> {
    return this.#notify((writer) => writer.invalidateEntry(directory.id, name));
  }

  /** Makes the kernel drop a file's pages and attributes. As {@link invalidateName}. */
  invalidateData(node: ViewNode): Promise<void> {
    node.kernelEpoch = -1;
    return this.#notify((writer) => writer.invalidateInode(node.id));
  }

  async #notify(write: (writer: ReplyWriter) => number): Promise<void> {
    if (this.#over) return;
    const u8 = new Uint8Array(2048);
    const { buffer } = u8;
    const length = write(new ReplyWriter({ buffer, u8, u32: new Uint32Array(buffer), i32: new Int32Array(buffer) }));
    // ENOENT: it knows nothing of it, which is what was wanted.
    await this.#transport.notify(u8.subarray(0, length));
  }

  #drain(): void {
    for (let i = 0; i < BATCH_MAX && !this.#over; i++) {
      const length = this.#transport.read();
      if (length >= 0) {
        try {
          this.#handle(length);
        } catch (error) {
          this.#fault(error as Error);
          this.refuse(ERRNO.EIO);
        }
      } else if (length === -ERRNO.EAGAIN) return;
      else if (length === -ERRNO.ENODEV) this.stop();
      else if (length !== -ERRNO.ENOENT && length !== -ERRNO.EINTR)
        this.#fail(systemError(length, 'read', '/dev/fuse'));
    }
  }

  /** After an answer from the event loop the next request of the same program may be there already. */
  #lookAgain(): void {
    if (this.#lookQueued) return;
    this.#lookQueued = true;
    setImmediate(() => {
      this.#lookQueued = false;
      this.#drain();
    });
  }

  #handle(length: number): void {
    const { reader } = this;
    const errno = reader.parse(length);
    if (errno < 0) {
      this.counters.malformed++;
      return;
    }
    const { opcode } = reader;
    if (errno !== 0) {
      if (errno !== ERRNO.ENOSYS) this.counters.malformed++;
      if (!UNANSWERED.has(opcode)) this.refuse(errno);
    } else if (opcode === Opcode.INIT) this.#init();
    else if (opcode === Opcode.INTERRUPT) this.#interrupt(reader.u64(0));
    else if (opcode === Opcode.FORGET) this.view.forget(reader.nodeId, reader.u64(0));
    else if (opcode === Opcode.BATCH_FORGET) this.#batchForget();
    else this.#dispatch.handle();
  }

  #init(): void {
    const { reader, reply } = this;
    const request = { major: reader.u32(0), minor: reader.u32(4), maxReadahead: reader.u32(8), flags: reader.u32(12) };
    const agreement = negotiate(request, this.options.payloadMax);
    if (agreement.kind === 'refused') {
      this.refuse(ERRNO.EPROTO);
      this.#fail(new IsthmusError(`mount: ${agreement.reason}`, { code: 'EPROTO', errno: -ERRNO.EPROTO }));
      return;
    }
    if (agreement.kind === 'accepted') this.minor = agreement.reply.minor;
    reply.begin(reader.unique);
    reply.init(agreement.reply);
    this.#transport.write(reply.finish());
    this.view.root.lookups = 1;
  }

  #batchForget(): void {
    const { reader } = this;
    const count = reader.u32(0);
    for (let i = 0; i < count; i++) this.view.forget(reader.u64(8 + i * 16), reader.u64(16 + i * 16));
  }

  // ---- for dispatch

  /** The request just read, as admissions see it. */
  origin(): RequestOrigin {
    const { unique, opcode, pid, uid, gid } = this.reader;
    return { unique, opcode, pid, uid, gid, bounceable: !NOT_BOUNCEABLE.has(opcode) };
  }

  node(id: number): ViewNode | undefined {
    return id === FUSE_ROOT_ID ? this.view.root : this.view.node(id);
  }

  /** Answers the request just read with an errno, 0 for plain success. */
  refuse(errno: number): void {
    this.send(this.reply.status(this.reader.unique, errno));
  }

  /** Writes out what `reply` holds. @returns whether the kernel took it */
  send(length: number): boolean {
    this.counters.replies++;
    const result = this.#transport.write(length);
    if (result === 0) return true;
    // ENOENT: nobody waits for it any more. Any other refusal would leave somebody waiting for ever.
    if (result !== -ERRNO.ENOENT && result !== -ERRNO.ENODEV && length > OUT_HEADER_BYTES) {
      const { u32 } = this.#transport.reply;
      this.#transport.write(this.reply.status(u32[2]! + u32[3]! * 2 ** 32, ERRNO.EIO));
    }
    return false;
  }

  /**
   * Runs an operation for the request just read. `answer` writes the body of a successful reply; `undo` takes back what the
   * answer promised when the kernel does not take it.
   */
  run<Answer>(
    make: () => ViewOperation<Answer>,
    answer: (answer: Answer, operation: ViewOperation<Answer>) => void,
    undo?: () => void,
    keep?: () => void,
  ): void {
    const origin = this.origin();
    const { unique } = origin;
    const waiting: Waiting = { origin };
    let atOnce = true;
    const done = (outcome: Outcome<Answer>, operation: ViewOperation<Answer>): void => {
      if (!atOnce) {
        this.#lookAgain();
        if (!this.#waiting.delete(unique)) {
          // It was interrupted, and answered then.
          this.counters.lateReplies++;
          return;
        }
        this.#interrupted.delete(unique);
      }
      if (this.#over) return;
      if (outcome.answer === null && outcome.errno !== 0) {
        this.send(this.reply.status(unique, outcome.errno));
        return;
      }
      try {
        this.reply.begin(unique);
        answer(outcome.answer as Answer, operation);
      } catch (error) {
        this.#fault(error as Error);
        this.send(this.reply.status(unique, ERRNO.EIO));
        return;
      }
      if (!this.send(this.reply.finish())) undo?.();
    };
    const finished = { value: false };
    this.#runner.run({
      origin,
      make,
      done: (outcome, operation) => {
        if (finished.value) return;
        finished.value = true;
        done(outcome, operation);
      },
      keep: keep ?? nothing,
      wanted: () => atOnce || this.#waiting.has(unique),
    });
    atOnce = false;
    if (!finished.value) this.#waiting.set(unique, waiting);
  }

  /** Ends everything that is open: after the mount is gone, so that silly names go too. */
  closeAll(): void {
    for (const file of this.#dispatch.openFiles()) closeFile(this.view, file);
  }

  // ---- interrupts

  #interrupt(unique: number): void {
    this.counters.interrupts++;
    if (!this.#waiting.has(unique)) return; // answered in the meantime
    if (this.#giveUpIfDying(unique)) return;
    this.#interrupted.add(unique);
    this.#timer ??= setInterval(() => this.#lookAtInterrupted(), DYING_LOOK_MS).unref();
  }

  #lookAtInterrupted(): void {
    for (const unique of this.#interrupted) {
      if (!this.#waiting.has(unique) || this.#giveUpIfDying(unique)) this.#interrupted.delete(unique);
    }
    if (this.#interrupted.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  /** A thread that is being killed must not wait for a server: it could not even be killed. */
  #giveUpIfDying(unique: number): boolean {
    const waiting = this.#waiting.get(unique)!;
    if (!isDying(waiting.origin.pid)) return false;
    this.#waiting.delete(unique);
    this.send(this.reply.status(unique, ERRNO.EINTR));
    return true;
  }

  /** A mistake of ours: one request fails, the mount goes on, and somebody can ask what it was. */
  #fault(error: Error): void {
    this.counters.faults++;
    this.lastFault = error;
  }

  #fail(error: Error): void {
    if (this.#over) return;
    this.#reject(error);
    this.stop();
  }
}

function nothing(): void {}
