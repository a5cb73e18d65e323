/**
 * Where the engine writes replies: behind the requests in the buffer that brought them, in more buffers of the kernel's heap,
 * and in plain memory beyond what one client may take of it. It touches the heap only; one serves all connections, for
 * `Engine.run` never waits.
 */
import type { Heap, HeapBuffer } from '../../ring/heap.ts';
import type { ByteQueue } from './byte-queue.ts';
import { type ReplySink, ReplyWriter } from './resp/reply.ts';

/** Less room than this behind the requests is left alone. */
const ROOM_BYTES = 1024;
/** First, second and further buffers of one batch of replies. */
const FIRST_BYTES = 2048;
const SECOND_BYTES = 16384;
const FURTHER_BYTES = 65536;
/** Replies to one batch beyond this stop the engine until they have been handed on. */
const PAUSE_BYTES = 131072;
const PLAIN_BYTES = 262144;

export class Output implements ReplySink {
  readonly writer: ReplyWriter;
  readonly #heap: Heap;
  /** The requests being answered, unless the replies are written into their own buffer. */
  #requests: HeapBuffer | null = null;
  /** The buffer that is being written, from `#start` on; null while a plain chunk is. */
  #current: HeapBuffer | null = null;
  #start = 0;
  #plain: Uint8Array | null = null;
  /** Full buffers and full chunks of this batch, in order: all buffers come before all chunks. */
  #buffers: HeapBuffer[] = [];
  readonly #chunks: { bytes: Uint8Array; length: number }[] = [];
  #bytes = 0;
  #limit = 0;
  /** Replies to one batch beyond this go to plain memory, so that one client cannot use up the heap; bytes. */
  heapBytes = 262144;
  /** Bytes taken so far, over all batches. */
  total = 0;

  constructor(heap: Heap) {
    this.#heap = heap;
    this.writer = new ReplyWriter(this);
  }

  /**
   * To be called before a batch. `requests` holds them, up to `end`, and its reference passes to the output; null where they
   * lie elsewhere. `reuse`: replies may be written behind them; such a large buffer is for who takes its replies at once.
   * `limit`: bytes of replies after which the client is given up.
   */
  begin(requests: HeapBuffer | null, end: number, reuse: boolean, limit: number): void {
    const { writer } = this;
    // Whatever was left by a batch that ended in an error was another client's.
    if (this.#current !== null || this.#buffers.length > 0 || this.#chunks.length > 0) this.drop();
    writer.stop = false;
    writer.overflowed = false;
    this.#limit = limit;
    if (requests !== null) {
      const start = (end + 63) & ~63;
      const stop = requests.base + requests.capacity;
      if (reuse && stop - start >= ROOM_BYTES) {
        this.#current = requests;
        this.#start = start;
        writer.install(requests.memory, start, stop);
        return;
      }
      this.#requests = requests;
    }
    this.#install(FIRST_BYTES);
  }

  #install(bytes: number): void {
    const buffer = this.#heap.tryAlloc(bytes - this.#heap.headroom);
    if (buffer !== null) {
      this.#current = buffer;
      this.#start = buffer.offset;
      this.writer.install(buffer.memory, buffer.offset, buffer.base + buffer.capacity);
    } else this.#installPlain(bytes);
  }

  #installPlain(bytes: number): void {
    const chunk = new Uint8Array(bytes);
    this.#plain = chunk;
    this.writer.install(chunk, 0, bytes);
  }

  next(writer: ReplyWriter): boolean {
    this.#finish(writer.pos);
    if (this.#bytes > this.#limit) return false;
    if (this.#bytes >= PAUSE_BYTES) writer.stop = true;
    if (this.#chunks.length > 0 || this.#bytes >= this.heapBytes) this.#installPlain(PLAIN_BYTES);
    else this.#install(this.#buffers.length < 2 ? SECOND_BYTES : FURTHER_BYTES);
    return true;
  }

  #finish(pos: number): void {
    const current = this.#current;
    if (current !== null) {
      const length = pos - this.#start;
      this.#current = null;
      this.#bytes += length;
      // A buffer of requests may still be read: it is kept, empty or not, until the batch is taken.
      current.offset = this.#start;
      current.length = length;
      this.#buffers.push(current);
    } else if (this.#plain !== null) {
      this.#chunks.push({ bytes: this.#plain, length: pos });
      this.#bytes += pos;
      this.#plain = null;
    }
  }

  /** The batch was answered in one buffer, or not at all. */
  get simple(): boolean {
    return this.#current !== null && this.#buffers.length === 0;
  }

  /** What a simple batch was answered; the caller's to push. Null where nothing was written. */
  takeBuffer(): HeapBuffer | null {
    const current = this.#current!;
    const length = this.writer.pos - this.#start;
    this.#current = null;
    if (this.#requests !== null) this.#releaseRequests();
    if (length === 0) {
      current.release();
      return null;
    }
    current.offset = this.#start;
    current.length = length;
    this.total += length;
    return current;
  }

  /** The buffers of any batch, or null. To be called once, before {@link takeChunks}. */
  takeBuffers(): readonly HeapBuffer[] | null {
    this.#finish(this.writer.pos);
    this.total += this.#bytes;
    this.#bytes = 0;
    if (this.#requests !== null) this.#releaseRequests();
    const buffers = this.#buffers;
    if (buffers.length === 0) return null;
    this.#buffers = [];
    const filled = buffers.filter((buffer) => buffer.length > 0);
    for (const buffer of buffers) if (buffer.length === 0) buffer.release();
    return filled.length === 0 ? null : filled;
  }

  #releaseRequests(): void {
    this.#requests!.release();
    this.#requests = null;
  }

  /** Moves what was written behind the buffers, in plain memory, to `queue`. */
  takeChunks(queue: ByteQueue): void {
    for (const { bytes, length } of this.#chunks) queue.adopt(bytes, length);
    this.#chunks.length = 0;
  }

  /** Drops the batch: its client is given up, or the output is no longer needed. */
  drop(): void {
    for (const buffer of this.takeBuffers() ?? []) buffer.release();
    this.#chunks.length = 0;
  }
}
