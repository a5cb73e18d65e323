/**
 * Writes RESP2 and RESP3 replies into chunks that a sink hands out, a value across as many chunks as it needs.
 * Pure: it touches the chunks and nothing else; no strings are made for the frequent replies.
 */
import { copyWords } from '../bytes.ts';
import { formatG17 } from './number.ts';

/** Every chunk a sink installs has at least this many bytes, so that a head or a short reply lies in one chunk. */
export const REPLY_CHUNK_MIN = 512;

/** Longer runs are copied by TypedArray.set: its call costs as much as this many bytes in a loop. */
const LOOP_COPY_MAX = 24;

const DISCARD_BYTES = 4096;
const CR = 13;
const LF = 10;
/** CR LF, and `+OK` CR, as little-endian words. */
const CRLF = 0x0a0d;
const PLUS_OK_CR = 0x0d4b4f2b;

/** Where replies go: the server's heap buffers, or an array in a test. */
export interface ReplySink {
  /**
   * The writer's chunk is used up to `writer.pos`. Take it, call `writer.install` with the next chunk, return true.
   * Returning false says that the peer's output limit is reached: the rest is discarded and the session is closed.
   * May set `writer.stop` so that the engine runs no further command until it is called again.
   */
  next(writer: ReplyWriter): boolean;
}

/**
 * One per engine or per server; fields are plain because the engine's fast path writes through them.
 * A writer never writes past `end`, and never leaves a head split over two chunks.
 */
export class ReplyWriter {
  bytes: Uint8Array;
  /** Over the same bytes. */
  view: DataView;
  pos = 0;
  end = 0;
  /** RESP3 for the session being served. */
  resp3 = false;
  /** Set by the sink: no further command before the output has drained. */
  stop = false;
  /** The sink refused a chunk: what was written is incomplete and the session must end. */
  overflowed = false;
  /** Replies so far that were errors. */
  errors = 0;
  readonly #sink: ReplySink;
  readonly #scratch = new Uint8Array(DISCARD_BYTES);
  #discarding = false;
  #kept: Uint8Array;
  #keptPos = 0;
  #keptEnd = 0;

  constructor(sink: ReplySink) {
    this.#sink = sink;
    this.bytes = this.#scratch;
    this.view = new DataView(this.#scratch.buffer);
    this.#kept = this.#scratch;
  }

  /** Install the chunk `[pos, end)` of `bytes`. */
  install(bytes: Uint8Array, pos: number, end: number): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.pos = pos;
    this.end = end;
  }

  /** Make room for `n` contiguous bytes, `n` at most REPLY_CHUNK_MIN. */
  ensure(n: number): void {
    if (this.end - this.pos < n) this.#next();
  }

  #next(): void {
    if (!this.#discarding) {
      if (!this.overflowed && this.#sink.next(this)) return;
      this.overflowed = true;
      this.stop = true;
    }
    this.install(this.#scratch, 0, DISCARD_BYTES);
  }

  /** Between `discard(true)` and `discard(false)` replies are thrown away (CLIENT REPLY OFF and SKIP). */
  discard(on: boolean): void {
    if (on === this.#discarding) return;
    this.#discarding = on;
    if (on) {
      this.#kept = this.bytes;
      this.#keptPos = this.pos;
      this.#keptEnd = this.end;
      this.install(this.#scratch, 0, DISCARD_BYTES);
    } else {
      this.install(this.#kept, this.#keptPos, this.#keptEnd);
      this.#kept = this.#scratch;
    }
  }

  /** Raw bytes, across chunks where needed. */
  raw(source: Uint8Array, offset: number, length: number): void {
    if (length <= LOOP_COPY_MAX && this.end - this.pos >= length) {
      const bytes = this.bytes;
      const pos = this.pos;
      for (let i = 0; i < length; i++) bytes[pos + i] = source[offset + i]!;
      this.pos = pos + length;
      return;
    }
    this.#rawLong(source, offset, length);
  }

  #rawLong(source: Uint8Array, offset: number, length: number): void {
    while (length > 0) {
      if (this.pos === this.end) this.#next();
      const n = Math.min(length, this.end - this.pos);
      this.bytes.set(source.subarray(offset, offset + n), this.pos);
      this.pos += n;
      offset += n;
      length -= n;
    }
  }

  /** `tag`, a decimal integer of at most 2^53, CRLF. */
  head(tag: number, value: number): void {
    if (this.end - this.pos < 32) this.#next();
    const bytes = this.bytes;
    let pos = this.pos;
    if (value >= 0 && value < 100) {
      // the usual length or count
      bytes[pos] = tag;
      if (value >= 10) {
        const tens = (value / 10) | 0;
        bytes[++pos] = 48 + tens;
        value -= tens * 10;
      }
      bytes[pos + 1] = 48 + value;
      bytes[pos + 2] = CR;
      bytes[pos + 3] = LF;
      this.pos = pos + 4;
      return;
    }
    bytes[pos++] = tag;
    if (value < 0) {
      bytes[pos++] = 45;
      value = -value;
    }
    if (value < 0x7fffffff) {
      let rest = value | 0;
      let digits = 1;
      for (let limit = 10; digits < 10 && rest >= limit; limit *= 10) digits++;
      for (let at = pos + digits - 1; at >= pos; at--) {
        const q = (rest / 10) | 0;
        bytes[at] = 48 + rest - q * 10;
        rest = q;
      }
      pos += digits;
    } else {
      const text = String(value);
      for (let i = 0; i < text.length; i++) bytes[pos++] = text.charCodeAt(i);
    }
    bytes[pos] = CR;
    bytes[pos + 1] = LF;
    this.pos = pos + 2;
  }

  crlf(): void {
    if (this.end - this.pos < 2) this.#next();
    this.bytes[this.pos] = CR;
    this.bytes[this.pos + 1] = LF;
    this.pos += 2;
  }

  ok(): void {
    if (this.end - this.pos < 5) this.#next();
    const { pos } = this;
    this.view.setInt32(pos, PLUS_OK_CR, true);
    this.bytes[pos + 4] = LF;
    this.pos = pos + 5;
  }

  /** `+text`; ASCII without line breaks. */
  simple(text: string): void {
    this.#line(43, text);
  }

  /** `-text`; the text begins with its code (`ERR …`). Line breaks become spaces as in redis. */
  error(text: string): void {
    this.errors++;
    this.#line(45, text.replace(/[\r\n]/g, ' '));
  }

  #line(tag: number, text: string): void {
    if (text.length + 3 > REPLY_CHUNK_MIN) {
      const bytes = Buffer.from(`${String.fromCharCode(tag)}${text}\r\n`, 'latin1');
      this.#rawLong(bytes, 0, bytes.length);
      return;
    }
    this.ensure(text.length + 3);
    const bytes = this.bytes;
    let pos = this.pos;
    bytes[pos++] = tag;
    for (let i = 0; i < text.length; i++) bytes[pos++] = text.charCodeAt(i);
    bytes[pos] = CR;
    bytes[pos + 1] = LF;
    this.pos = pos + 2;
  }

  /** `:n`; an integer of at most 2^53 (use `bigint` beyond). */
  int(value: number): void {
    this.head(58, value);
  }

  /** `:n` for any 64-bit integer. */
  bigint(value: bigint): void {
    this.#line(58, value.toString());
  }

  /** Bulk string from bytes. */
  bulk(source: Uint8Array, offset: number, length: number): void {
    this.head(36, length);
    this.raw(source, offset, length);
    this.crlf();
  }

  /** Bulk string from bytes whose view is at hand: the way of GET. */
  bulkView(source: Uint8Array, view: DataView, offset: number, length: number): void {
    // as much as `head` wants: it must not go on to the next chunk, whose view is another
    if (this.end - this.pos < length + 32) {
      this.bulk(source, offset, length);
      return;
    }
    const out = this.view;
    if (length < 10) {
      // `$n` CR LF as one word
      out.setInt32(this.pos, 0x0a0d3024 + (length << 8), true);
      this.pos += 4;
    } else this.head(36, length);
    const { pos } = this;
    copyWords(source, view, offset, length, this.bytes, out, pos);
    out.setInt16(pos + length, CRLF, true);
    this.pos = pos + length + 2;
  }

  /** Bulk string from a whole array. */
  bytesBulk(source: Uint8Array): void {
    this.bulk(source, 0, source.length);
  }

  /** Bulk string from text; `latin1` (a byte per character) unless told otherwise. */
  text(text: string, encoding: 'latin1' | 'utf8' = 'latin1'): void {
    this.bytesBulk(Buffer.from(text, encoding));
  }

  /** Bulk string of an integer of at most 2^53, as list and hash elements that hold numbers need it. */
  intBulk(value: number): void {
    this.text(String(value));
  }

  /** No value: `$-1` or, in RESP3, `_`. */
  nil(): void {
    if (this.resp3) this.#line(95, '');
    else this.head(36, -1);
  }

  /** No array: `*-1` or, in RESP3, `_`. */
  nilArray(): void {
    if (this.resp3) this.#line(95, '');
    else this.head(42, -1);
  }

  array(length: number): void {
    this.head(42, length);
  }

  /** Map of `pairs` pairs; in RESP2 an array of twice as many. */
  map(pairs: number): void {
    if (this.resp3) this.head(37, pairs);
    else this.head(42, pairs * 2);
  }

  /** Set; in RESP2 an array. */
  set(length: number): void {
    this.head(this.resp3 ? 126 : 42, length);
  }

  /** Double: `,1.5`, in RESP2 a bulk string; 17 significant digits as redis 7.0 writes them. */
  double(value: number): void {
    const text = formatG17(value);
    if (this.resp3) this.#line(44, text);
    else this.text(text);
  }

  /** Boolean: `#t`, in RESP2 the integers 1 and 0. */
  bool(value: boolean): void {
    if (this.resp3) this.#line(35, value ? 't' : 'f');
    else this.int(value ? 1 : 0);
  }

  /** Text for people: `=n` with a three letter format, in RESP2 a bulk string. */
  verbatim(text: string, format = 'txt'): void {
    const bytes = Buffer.from(text, 'utf8');
    if (!this.resp3) {
      this.bytesBulk(bytes);
      return;
    }
    this.head(61, bytes.length + 4);
    this.ensure(4);
    for (let i = 0; i < 3; i++) this.bytes[this.pos + i] = format.charCodeAt(i);
    this.bytes[this.pos + 3] = 58;
    this.pos += 4;
    this.raw(bytes, 0, bytes.length);
    this.crlf();
  }
}
