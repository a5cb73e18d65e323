/**
 * One client of the key-value server: the coroutine that pops requests, runs them in place and pushes the replies, and the
 * second one that feeds a client that reads slowly. It touches its connection, the engine and the shared output.
 */
import { type Connection, type Coroutine, IsthmusError, type Operation, type Task } from '../../index.ts';
import { ByteQueue } from './byte-queue.ts';
import type { KvServer } from './server.ts';
import type { Session } from './session.ts';

/** How long a connection that is being closed may go on sending; so long its last reply is safe from a reset. */
const LINGER_MS = 1000;
/** Waiting replies go out in pieces of at most this size. */
export const PIECE_BYTES = 65536;
/** How long a client that is behind waits for its share of the heap to come free. */
const SHARE_MS = 2;
/** After so many turns that found earlier replies unsent, a client is behind: even the smallest reply occupies a buffer. */
const UNSENT_TURNS = 8;

export class Client {
  readonly server: KvServer;
  readonly conn: Connection;
  readonly session: Session;
  /** Place in the server's list. */
  index = -1;
  /** Replies that wait in plain memory; null while the client reads as fast as it asks. */
  #waiting: ByteQueue | null = null;
  #drainer: Task<void> | null = null;
  /** Turns in a row that found earlier replies unsent, and the last turn that looked. */
  #unsent = 0;
  #turn = 0;
  /** Bytes pushed since the client fell behind. */
  #pushed = 0;
  #progress = 0;
  #progressAt = 0;

  constructor(server: KvServer, conn: Connection, session: Session) {
    this.server = server;
    this.conn = conn;
    this.session = session;
  }

  /** Serves until either side ends; the connection then closes. */
  *serve(): Coroutine {
    const { conn, session, server } = this;
    const { engine, output, kernel } = server;
    const { writer } = output;
    try {
      while (!session.closing) {
        const buffer = yield* conn.pop();
        if (buffer === null) break;
        const { memory, offset } = buffer;
        const end = offset + buffer.length;
        if (kernel.turns !== this.#turn) {
          // what was pushed in earlier turns is gone if the client reads
          this.#turn = kernel.turns;
          this.#unsent = conn.unsent === 0 ? 0 : this.#unsent + 1;
        }
        output.begin(buffer, end, this.#unsent === 0, server.hardLimit);
        const pos = engine.run(session, memory, offset, end, writer);
        if (pos === end && output.simple && this.#waiting === null) {
          const reply = output.takeBuffer();
          if (reply === null) continue;
          const push = conn.push(reply);
          if (push.pending) this.#fallBehind(push);
          else {
            yield* push;
            if (this.#unsent >= UNSENT_TURNS) this.#fallBehind(null, new ByteQueue(), true);
          }
        } else {
          yield* this.#answer(pos === end ? null : memory.slice(pos, end));
        }
      }
      if (this.#drainer !== null) yield* this.#drainer.join();
      if (session.closing) yield* linger(conn);
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      // unless it was closed from this side: killed, idle, or given up
      if (!conn.closed) server.broken++;
    } finally {
      server.ended(this);
    }
  }

  /** Hands on the replies of a batch of any size, and runs the rest of its requests. */
  *#answer(rest: Uint8Array | null): Coroutine {
    const { conn, session, server } = this;
    const { engine, output } = server;
    for (let at = 0; ; ) {
      if (output.writer.overflowed) {
        output.drop();
        server.giveUp(this);
        return;
      }
      yield* this.#send();
      if (this.#waiting !== null) {
        const { unread } = this;
        if (unread > server.hardLimit) {
          server.giveUp(this);
          return;
        }
        if (unread > server.softLimit) yield* this.#drainer!.join();
      }
      if (rest === null || session.closing || conn.closed) return;
      yield* server.kernel.yield();
      output.begin(null, 0, false, Math.max(1, server.hardLimit - this.unread));
      at = engine.run(session, rest, at, rest.length, output.writer);
      if (at === rest.length) rest = null;
    }
  }

  *#send(): Coroutine {
    const { conn, server } = this;
    const { output } = server;
    const buffers = output.takeBuffers();
    const waiting = this.#waiting ?? new ByteQueue();
    const before = waiting.length;
    if (this.#waiting !== null && buffers !== null) {
      for (const buffer of buffers) {
        waiting.append(buffer.memory, buffer.offset, buffer.length);
        buffer.release();
      }
    }
    output.takeChunks(waiting);
    server.waiting += waiting.length - before;
    if (this.#waiting !== null) return;
    // The output is empty from here on: this may throw, and the next to write to it is another client.
    let push: Operation<void> | null = null;
    try {
      if (buffers !== null) push = conn.push(buffers);
    } catch (error) {
      server.waiting -= waiting.length;
      throw error;
    }
    if (waiting.length > 0 || push?.pending) this.#fallBehind(push, waiting);
    else if (push !== null) yield* push;
  }

  /** Bytes of replies that the client has not read yet, as far as this side can know. */
  get unread(): number {
    return this.conn.unsent + (this.#waiting === null ? 0 : this.#waiting.length);
  }

  /** From now on replies wait in plain memory; `unread`: until the client has read all that went before. */
  #fallBehind(push: Operation<void> | null, waiting: ByteQueue = new ByteQueue(), unread = false): void {
    const { server, conn } = this;
    this.#waiting = waiting;
    this.#pushed = 0;
    this.#progress = -conn.unsent;
    this.#progressAt = server.kernel.now;
    server.behind.add(this);
    server.timesBehind++;
    this.#drainer = server.kernel.spawn(this.#drain(push, waiting, unread));
  }

  /** Sends what waits, within the client's share of the heap. */
  *#drain(push: Operation<void> | null, waiting: ByteQueue, unread: boolean): Coroutine {
    const { server, conn } = this;
    const { kernel } = server;
    try {
      if (push !== null) yield* push;
      while (waiting.length > 0 || (unread && conn.unsent > 0)) {
        const share = server.heapShare;
        const bytes = Math.min(waiting.length, PIECE_BYTES, share);
        const buffer = bytes === 0 || conn.unsent + bytes > share ? null : kernel.heap.tryAlloc(bytes);
        if (buffer === null) {
          yield* kernel.sleep(SHARE_MS);
          // where others hold what there is, it is not this client that stalls
          if (conn.unsent === 0) this.#progressAt = kernel.now;
          continue;
        }
        buffer.length = waiting.take(buffer.memory, buffer.offset, bytes);
        server.waiting -= buffer.length;
        this.#pushed += buffer.length;
        yield* conn.push(buffer);
      }
    } catch {
      conn.abort(); // the coroutine that serves sees it, too
    } finally {
      server.waiting -= waiting.length;
      waiting.clear();
      this.#waiting = null;
      this.#drainer = null;
      server.behind.delete(this);
    }
  }

  /** Milliseconds for which a client that is behind has taken nothing. */
  stalledFor(now: number): number {
    const progress = this.#pushed - this.conn.unsent;
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.#progressAt = now;
    }
    return now - this.#progressAt;
  }
}

/**
 * Ends a connection so that what was pushed arrives: a close with unread input would reset it. Input is thrown away until the
 * peer has closed as well, for a second at most.
 */
export function* linger(conn: Connection): Coroutine {
  if (conn.closed) return;
  const { kernel } = conn;
  const deadline = kernel.now + LINGER_MS;
  try {
    conn.end();
    while (kernel.now < deadline) {
      const buffer = yield* conn.pop({ timeout: deadline - kernel.now });
      if (buffer === null) return;
      buffer.release();
    }
  } catch {
    // reset or out of time: it is closed either way
  } finally {
    conn.close();
  }
}
