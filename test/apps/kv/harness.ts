/**
 * An engine for tests: a clock that stands still until told, random numbers from a seed, replies gathered in an array.
 * Touches nothing outside the process.
 */
import { Engine } from '../../../src/apps/kv/engine.ts';
import { type ReplySink, ReplyWriter } from '../../../src/apps/kv/resp/reply.ts';
import type { Session } from '../../../src/apps/kv/session.ts';

/** Small, good enough and repeatable (xorshift32). */
export function seededRandom(seed: number): () => number {
  let x = seed | 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

/** Keeps what a writer writes, in chunks of a given size, up to a limit. */
export class MemorySink implements ReplySink {
  readonly writer: ReplyWriter;
  readonly #size: number;
  readonly #limit: number;
  readonly #parts: Buffer[] = [];
  #from = 0;
  #taken = 0;

  constructor(size = 4096, limit = Number.POSITIVE_INFINITY) {
    this.#size = size;
    this.#limit = limit;
    this.writer = new ReplyWriter(this);
    this.writer.install(new Uint8Array(size), 0, size);
  }

  next(writer: ReplyWriter): boolean {
    this.#collect(writer);
    if (this.#taken > this.#limit) return false;
    // chunks begin somewhere inside their array, as a heap's do
    writer.install(new Uint8Array(this.#size + 32), 16, 16 + this.#size);
    this.#from = 16;
    return true;
  }

  #collect(writer: ReplyWriter): void {
    if (writer.pos > writer.end) throw new Error(`written ${writer.pos - writer.end} bytes beyond the chunk's end`);
    const part = Buffer.from(writer.bytes.slice(this.#from, writer.pos));
    this.#parts.push(part);
    this.#taken += part.length;
    this.#from = writer.pos;
  }

  /** Everything written since the last call. */
  take(): Buffer {
    if (!this.writer.overflowed) this.#collect(this.writer);
    const all = Buffer.concat(this.#parts);
    this.#parts.length = 0;
    this.#taken = 0;
    return all;
  }
}

export type Argument = string | number | Uint8Array;

/** A request as clients send it. Strings are UTF-8. */
export function encodeRequest(args: readonly Argument[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = typeof arg === 'object' ? Buffer.from(arg) : Buffer.from(String(arg));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
  }
  return Buffer.concat(parts);
}

/** One client of a test engine. */
export class TestClient {
  readonly session: Session;
  readonly sink: MemorySink;
  readonly #engine: Engine;

  constructor(engine: Engine, sink: MemorySink) {
    this.#engine = engine;
    this.sink = sink;
    this.session = engine.createSession({ addr: '127.0.0.1:1', laddr: '127.0.0.1:2' });
  }

  /** Send bytes; gives the raw reply. */
  send(bytes: Uint8Array): Buffer {
    const end = this.#engine.run(this.session, bytes, 0, bytes.length, this.sink.writer);
    if (end !== bytes.length) throw new Error(`the engine stopped at ${end} of ${bytes.length}`);
    return this.sink.take();
  }

  /** Run one command; gives the raw reply, a character per byte. */
  call(...args: Argument[]): string {
    return this.send(encodeRequest(args)).toString('latin1');
  }
}

export interface TestEngine {
  readonly engine: Engine;
  /** Milliseconds; assign to move the clock. */
  now: number;
  readonly client: TestClient;
  connect(sink?: MemorySink): TestClient;
  /** `client.call`. */
  call(...args: Argument[]): string;
}

export function createTestEngine(options: { seed?: number; now?: number; chunk?: number } = {}): TestEngine {
  const random = seededRandom(options.seed ?? 1);
  const state = { now: options.now ?? 1_700_000_000_000 };
  const engine = new Engine({ now: () => state.now, random });
  const connect = (sink = new MemorySink(options.chunk)): TestClient => new TestClient(engine, sink);
  const client = connect();
  return {
    engine,
    client,
    connect,
    call: (...args) => client.call(...args),
    get now() {
      return state.now;
    },
    set now(value: number) {
      state.now = value;
    },
  };
}
