/**
 * XDR (RFC 4506): an encoder into a growing buffer and a bounds-checked decoder, both on Uint8Array and DataView.
 * Pure. 64-bit numbers are two 32-bit halves, or doubles up to 2^53 − 1; a larger one read as a double is a typed error.
 */

const TWO_32 = 0x1_0000_0000;
/** Larger byte arrays are not copied into the encoder's buffer but handed on as they are. */
const SPLICE_FROM = 32 * 1024;

export type XdrErrorCode =
  | 'ERR_XDR_SHORT'
  | 'ERR_XDR_TOO_LONG'
  | 'ERR_XDR_VALUE'
  | 'ERR_XDR_RANGE'
  | 'ERR_XDR_TRAILING';

/** Bytes that are not the XDR they should be. `SHORT`: they end early; `TOO_LONG`: a length above its limit; `VALUE`: no such value; `RANGE`: above 2^53 − 1; `TRAILING`: more than asked for. */
export class XdrError extends Error {
  readonly code: XdrErrorCode;

  constructor(code: XdrErrorCode, message: string) {
    super(message);
    this.name = 'XdrError';
    this.code = code;
  }
}

/** A byte array that stands in the output at `at`, without having been copied. */
export interface Splice {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * Appends XDR values. `length` counts the bytes in `bytes`; byte arrays of 32 KiB and more stand in `splices` instead, in
 * order of their place, so that a writer of sockets can send them uncopied. Fields are plain: the record writer patches lengths.
 */
export class XdrWriter {
  bytes: Uint8Array;
  view: DataView;
  length = 0;
  splices: Splice[] = [];
  /** Bytes in `splices`. */
  spliced = 0;

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Starts again in a buffer nobody else holds: the same one, or a new one when the old is still being sent. */
  reset(keepBuffer: boolean): void {
    if (!keepBuffer) {
      this.bytes = new Uint8Array(this.bytes.length);
      this.view = new DataView(this.bytes.buffer);
    }
    this.length = 0;
    this.spliced = 0;
    if (this.splices.length > 0) this.splices = [];
  }

  /** Takes back everything from `length` on, e.g. when encoding threw half-way. */
  rewind(length: number, splices: number): void {
    this.length = length;
    while (this.splices.length > splices) this.spliced -= (this.splices.pop() as Splice).bytes.length;
  }

  u32(value: number): void {
    const at = this.length;
    if (at + 4 > this.bytes.length) this.#grow(4);
    this.view.setUint32(at, value);
    this.length = at + 4;
  }

  i32(value: number): void {
    this.u32(value >>> 0);
  }

  bool(value: boolean): void {
    this.u32(value ? 1 : 0);
  }

  /** An unsigned 64-bit number of at most 2^53 − 1; a RangeError for any other number is the caller's mistake. */
  u64(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is not an unsigned 53-bit number`);
    this.halves(Math.floor(value / TWO_32), value >>> 0);
  }

  /** A signed 64-bit number between −(2^53 − 1) and 2^53 − 1. */
  i64(value: number): void {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is not a 53-bit number`);
    this.halves(Math.floor(value / TWO_32), value >>> 0);
  }

  halves(high: number, low: number): void {
    const at = this.length;
    if (at + 8 > this.bytes.length) this.#grow(8);
    this.view.setUint32(at, high);
    this.view.setUint32(at + 4, low);
    this.length = at + 8;
  }

  /** `opaque<>`: the length, the bytes, zeros up to a multiple of four. */
  opaque(value: Uint8Array): void {
    this.u32(value.length);
    this.fixed(value);
  }

  /** `opaque[n]`. */
  fixed(value: Uint8Array): void {
    const size = value.length;
    const padding = -size & 3;
    if (size >= SPLICE_FROM) {
      this.splices.push({ at: this.length, bytes: value });
      this.spliced += size;
      if (padding > 0) this.#zeros(padding);
      return;
    }
    if (this.length + size + padding > this.bytes.length) this.#grow(size + padding);
    this.bytes.set(value, this.length);
    this.length += size;
    if (padding > 0) this.#zeros(padding);
  }

  /** Bytes that are XDR already (a multiple of four). */
  encoded(value: Uint8Array): void {
    if (this.length + value.length > this.bytes.length) this.#grow(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
  }

  /** `string<>`, in UTF-8. */
  string(value: string): void {
    this.opaque(Buffer.from(value, 'utf8'));
  }

  /** Everything so far as one new array, splices in their places. */
  toBytes(): Uint8Array {
    const out = new Uint8Array(this.length + this.spliced);
    let from = 0;
    let at = 0;
    for (const splice of this.splices) {
      out.set(this.bytes.subarray(from, splice.at), at);
      at += splice.at - from;
      out.set(splice.bytes, at);
      at += splice.bytes.length;
      from = splice.at;
    }
    out.set(this.bytes.subarray(from, this.length), at);
    return out;
  }

  #zeros(count: number): void {
    if (this.length + count > this.bytes.length) this.#grow(count);
    this.bytes.fill(0, this.length, this.length + count);
    this.length += count;
  }

  #grow(more: number): void {
    const bytes = new Uint8Array(Math.max(this.bytes.length * 2, this.length + more));
    bytes.set(this.bytes.subarray(0, this.length));
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

/** Reads XDR values from `bytes` between `offset` and `end`; throws an XdrError rather than read outside. */
export class XdrReader {
  bytes: Uint8Array;
  view: DataView;
  offset: number;
  end: number;
  /** True when `bytes` will be overwritten once decoding is over: then byte arrays are copied out. */
  borrowed: boolean;

  constructor(bytes: Uint8Array, borrowed = false) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = 0;
    this.end = bytes.length;
    this.borrowed = borrowed;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  u32(): number {
    const at = this.offset;
    if (at + 4 > this.end) throw short(4, this.end - at);
    this.offset = at + 4;
    return this.view.getUint32(at);
  }

  i32(): number {
    return this.u32() | 0;
  }

  /** 0 or 1; anything else is no boolean. */
  bool(): boolean {
    const value = this.u32();
    if (value > 1) throw new XdrError('ERR_XDR_VALUE', `${value} is not a boolean`);
    return value === 1;
  }

  /** A discriminant or enum from `low` to `high`. */
  enumeration(low: number, high: number, what: string): number {
    const value = this.u32();
    if (value < low || value > high) throw new XdrError('ERR_XDR_VALUE', `${value} is not a ${what}`);
    return value;
  }

  /** An unsigned 64-bit number as a double; `ERR_XDR_RANGE` above 2^53 − 1. */
  u64(): number {
    const high = this.u32();
    const low = this.u32();
    if (high > 0x1f_ffff) throw new XdrError('ERR_XDR_RANGE', 'a 64-bit number above 2^53 - 1');
    return high * TWO_32 + low;
  }

  /** An unsigned 64-bit number as a double, 2^53 − 1 for everything above (sizes of huge file systems, "no limit"). */
  u64Clamped(): number {
    const high = this.u32();
    const low = this.u32();
    return high > 0x1f_ffff ? Number.MAX_SAFE_INTEGER : high * TWO_32 + low;
  }

  /** A signed 64-bit number as a double; `ERR_XDR_RANGE` outside ±(2^53 − 1). */
  i64(): number {
    const high = this.u32() | 0;
    const low = this.u32();
    const value = high * TWO_32 + low;
    if (!Number.isSafeInteger(value)) throw new XdrError('ERR_XDR_RANGE', 'a 64-bit number outside 53 bits');
    return value;
  }

  /** `opaque<limit>`. A copy if the memory is borrowed, else a view. */
  opaque(limit: number): Uint8Array {
    const size = this.u32();
    if (size > limit) throw new XdrError('ERR_XDR_TOO_LONG', `${size} bytes where at most ${limit} may be`);
    return this.fixed(size);
  }

  /** `opaque[size]`. */
  fixed(size: number): Uint8Array {
    const at = this.#take(size);
    // Not bytes.slice(), which for a Buffer is a view.
    return this.borrowed ? new Uint8Array(this.bytes.subarray(at, at + size)) : this.bytes.subarray(at, at + size);
  }

  /** `string<limit>` in UTF-8 (faulty sequences replaced), for texts meant for people. */
  string(limit: number): string {
    const bytes = this.opaque(limit);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  }

  skip(size: number): void {
    this.#take(size);
  }

  /** The length of an array of elements that take at least `elementBytes` each: no more than the bytes left can hold. */
  count(elementBytes: number, limit = 0xffff_ffff): number {
    const count = this.u32();
    if (count > limit) throw new XdrError('ERR_XDR_TOO_LONG', `${count} elements where at most ${limit} may be`);
    if (count * elementBytes > this.remaining) throw short(count * elementBytes, this.remaining);
    return count;
  }

  /** Asserts that everything was read. */
  finish(): void {
    if (this.offset !== this.end) {
      throw new XdrError('ERR_XDR_TRAILING', `${this.end - this.offset} bytes left over`);
    }
  }

  #take(size: number): number {
    const at = this.offset;
    const next = at + size + (-size & 3);
    if (next > this.end) throw short(size, this.end - at);
    this.offset = next;
    return at;
  }
}

function short(wanted: number, left: number): XdrError {
  return new XdrError('ERR_XDR_SHORT', `${wanted} bytes wanted, ${left} left`);
}
