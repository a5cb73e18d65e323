/**
 * Reads requests: a fast reader for whole multibulk requests in the input, and an assembler for everything else (requests in
 * pieces, inline requests, malformed ones). Pure; the assembler's memory is bounded by what has arrived and by its limits.
 */
import { splitInline } from './inline.ts';
import { parseInt64 } from './number.ts';

/** Requests with more arguments go through the assembler; argument arrays are at least this long. */
export const FAST_ARGS_MAX = 1024;
/** An inline request or a line of a header (redis: PROTO_INLINE_MAX_SIZE). */
export const LINE_MAX = 65536;
/** Arguments of one request. */
export const ARGS_MAX = 1048576;
/** The fast reader leaves longer bulks to the assembler, which checks them against the limits. */
const FAST_BULK_MAX = 1 << 20;
/** A larger buffer is let go after its request. */
const KEEP_BYTES = 1 << 21;
const STAR = 42;
const DOLLAR = 36;
const CR = 13;
/** CR LF as the upper half of a little-endian word. */
const CRLF = 0x0a0d;
const LF = 10;

/** Where the arguments of a request are found. */
export interface Arguments {
  argc: number;
  off: Int32Array;
  len: Int32Array;
}

/**
 * Read one whole multibulk request from `input[pos .. end)`, which begins with `*`. Gives the position behind it, or 0 if it is
 * not all there or anything about it is unusual; the assembler then decides.
 */
export function readRequest(args: Arguments, input: Uint8Array, view: DataView, pos: number, end: number): number {
  if (end - pos < 8) return 0;
  let at = pos + 4;
  let argc = input[pos + 1]! - 48;
  if (argc < 1 || argc > 9) return 0;
  if (input[pos + 2] !== CR) {
    at--;
    for (let byte = input[pos + 2]!; byte !== CR; byte = input[at++]!) {
      byte -= 48;
      if (byte < 0 || byte > 9) return 0;
      argc = argc * 10 + byte;
      if (argc > FAST_ARGS_MAX || at >= end) return 0;
    }
    at++;
  }
  if (input[at - 1] !== LF) return 0;
  const off = args.off;
  const len = args.len;
  for (let i = 0; i < argc; i++) {
    if (end - at < 5) return 0;
    // the four bytes `$n\r\n` or `$nn\r` at once
    const head = view.getInt32(at, true);
    let n = ((head >>> 8) & 0xff) - 48;
    if ((head & 0xff) !== DOLLAR || n < 0 || n > 9) return 0;
    if (head >>> 16 === CRLF) at += 4;
    else {
      const second = ((head >>> 16) & 0xff) - 48;
      if (second < 0 || second > 9 || n === 0) return 0;
      n = n * 10 + second;
      at += 3;
      for (let byte = input[at]!; byte !== CR; byte = input[at]!) {
        byte -= 48;
        at++;
        if (byte < 0 || byte > 9 || at >= end) return 0;
        n = n * 10 + byte;
        if (n > FAST_BULK_MAX) return 0;
      }
      at += 2;
      if (at > end || input[at - 1] !== LF) return 0;
    }
    if (end - at < n + 2) return 0;
    off[i] = at;
    len[i] = n;
    at += n + 2;
  }
  args.argc = argc;
  return at;
}

/** What an assembler is allowed to hold; read at each request so that CONFIG SET applies at once. */
export interface RequestLimits {
  /** proto-max-bulk-len, bytes. */
  bulkMax: number;
  /** client-query-buffer-limit: bytes of one whole request. */
  requestMax: number;
}

/**
 * Gathers one request from as many pieces as it comes in. It remembers what it has parsed, so each byte is looked at once.
 * After `feed`: `error` is set (reply it and close), or `complete` is true and `bytes`, `off`, `len`, `argc` hold the request
 * (argc 0: nothing to run), or all input was taken and more is needed.
 */
export class Assembler implements Arguments {
  bytes = new Uint8Array(512);
  argc = 0;
  off = new Int32Array(16);
  len = new Int32Array(16);
  complete = false;
  /** Text of the error reply, empty if there is none. */
  error = '';
  #length = 0;
  /** Arguments announced; -1 before the header, 0 in an inline request. */
  #expected = -1;
  /** Length of the bulk being gathered, -1 while a line is. */
  #bulk = -1;
  /** Where the line or the bulk being gathered begins in `bytes`. */
  #start = 0;

  /** Bytes held, for CLIENT LIST. */
  get held(): number {
    return this.#length;
  }

  /** Ready for the next request. A large buffer is let go. */
  reset(): void {
    this.argc = 0;
    this.complete = false;
    this.error = '';
    this.#length = 0;
    this.#expected = -1;
    this.#bulk = -1;
    this.#start = 0;
    if (this.bytes.length > KEEP_BYTES) this.bytes = new Uint8Array(512);
    if (this.off.length > FAST_ARGS_MAX) {
      this.off = new Int32Array(16);
      this.len = new Int32Array(16);
    }
  }

  /** Take bytes until the request is complete or wrong, or the input is used up; gives the position reached. */
  feed(input: Uint8Array, pos: number, end: number, limits: RequestLimits): number {
    for (;;) {
      if (this.#bulk >= 0) {
        const want = this.#start + this.#bulk + 2 - this.#length;
        const n = Math.min(want, end - pos);
        this.#append(input, pos, n, this.argc === this.#expected - 1 ? this.#start + this.#bulk + 2 : 0);
        pos += n;
        if (n < want) return pos;
        this.#add(this.#start, this.#bulk);
        this.#bulk = -1;
        this.#start = this.#length;
        if (this.argc === this.#expected) {
          this.complete = true;
          return pos;
        }
      }
      if (pos >= end) return pos;
      let lineEnd = pos;
      const stop = Math.min(end, pos + LINE_MAX);
      while (lineEnd < stop && input[lineEnd] !== LF) lineEnd++;
      const found = lineEnd < stop;
      const n = (found ? lineEnd + 1 : lineEnd) - pos;
      this.#append(input, pos, n, 0);
      pos += n;
      if (this.#length - this.#start > LINE_MAX) {
        this.error = this.#tooLong();
        return pos;
      }
      if (!found) continue;
      if (this.#line(limits)) return pos;
    }
  }

  #tooLong(): string {
    if (this.#expected > 0) return 'ERR Protocol error: too big bulk count string';
    if (this.bytes[0] === STAR) return 'ERR Protocol error: too big mbulk count string';
    return 'ERR Protocol error: too big inline request';
  }

  /** A line is complete in `bytes[#start .. #length)`. True if the request is complete or wrong. */
  #line(limits: RequestLimits): boolean {
    const bytes = this.bytes;
    const start = this.#start;
    let end = this.#length - 1;
    const terminated = end > start && bytes[end - 1] === CR;
    if (terminated) end--;
    if (this.#expected < 0 && bytes[start] !== STAR) {
      if (!splitInline(bytes, start, end, (offset, length) => this.#add(offset, length))) {
        this.error = 'ERR Protocol error: unbalanced quotes in request';
      }
      this.complete = true;
      return true;
    }
    const value = terminated ? parseInt64(bytes, start + 1, end - start - 1) : Number.NaN;
    if (this.#expected < 0) {
      if (!(value <= ARGS_MAX)) {
        this.error = 'ERR Protocol error: invalid multibulk length';
        return true;
      }
      if (value <= 0) {
        this.complete = true;
        return true;
      }
      this.#expected = value;
    } else if (bytes[start] !== DOLLAR) {
      const got = bytes[start] === 0 ? '' : `${String.fromCharCode(bytes[start]!)}'`;
      this.error = `ERR Protocol error: expected '$', got '${got}`;
      return true;
    } else if (!(value >= 0 && value <= limits.bulkMax)) {
      this.error = 'ERR Protocol error: invalid bulk length';
      return true;
    } else {
      this.#bulk = value;
      if (this.#length + value + 2 > limits.requestMax) {
        this.error = 'ERR Protocol error: request exceeds client-query-buffer-limit';
        return true;
      }
    }
    this.#start = this.#length;
    return false;
  }

  #add(offset: number, length: number): void {
    if (this.argc === this.off.length) {
      const off = new Int32Array(this.argc * 2);
      const len = new Int32Array(this.argc * 2);
      off.set(this.off);
      len.set(this.len);
      this.off = off;
      this.len = len;
    }
    this.off[this.argc] = offset;
    this.len[this.argc] = length;
    this.argc++;
  }

  /** Append bytes. Growth is by doubling, but not beyond `needed` (0: not known): memory follows what has arrived. */
  #append(input: Uint8Array, pos: number, n: number, needed: number): void {
    const length = this.#length + n;
    if (length > this.bytes.length) {
      let capacity = Math.max(this.bytes.length * 2, length);
      if (needed >= length && needed < capacity) capacity = needed;
      const bytes = new Uint8Array(capacity);
      bytes.set(this.bytes.subarray(0, this.#length));
      this.bytes = bytes;
    }
    if (n > 64) this.bytes.set(input.subarray(pos, pos + n), this.#length);
    else for (let i = 0; i < n; i++) this.bytes[this.#length + i] = input[pos + i]!;
    this.#length = length;
  }
}
