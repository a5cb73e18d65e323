/**
 * Record marking (RFC 5531 section 11): a stream of bytes cut into records, whatever the pieces it arrives in.
 * Pure.
 */

import { recordMemory } from '../record-memory.ts';
import { XdrReader } from '../xdr.ts';

const LAST_FRAGMENT = 0x8000_0000;
const MAX_FRAGMENTS = 1024;
/** With less than this missing of a record, what follows it may as well come in the same piece. */
const DIRECT_FROM = 64 * 1024;

/** The stream is no sequence of records (any more): a record above the limit, or in too many pieces. */
export class RecordError extends Error {
  readonly code = 'ERR_RPC_RECORD';

  constructor(message: string) {
    super(message);
    this.name = 'RecordError';
  }
}

/** Takes the stream in pieces and gives each record to `onRecord`, which must be done with a `borrowed` reader when it returns. */
export class RecordDecoder {
  readonly #limit: number;
  readonly #onRecord: (reader: XdrReader) => void;
  /** Bytes of the record mark read so far, and the mark. */
  #markBytes = 0;
  #mark = 0;
  /** Bytes still missing of the current fragment. */
  #missing = 0;
  #last = false;
  #fragments = 0;
  /** The record so far, when it does not lie in one piece of the stream. */
  #record: Uint8Array | null = null;
  #length = 0;
  /** Kept for as long as the pieces lie in the same memory. */
  #reader: XdrReader | null = null;

  constructor(limit: number, onRecord: (reader: XdrReader) => void) {
    this.#limit = limit;
    this.#onRecord = onRecord;
  }

  /**
   * Where the next bytes of the stream should be put, so that they need not be copied: the rest of a long record. Then
   * `pushInPlace` takes them. Null: anywhere, and `push` takes them.
   */
  get room(): Uint8Array | null {
    const record = this.#record;
    if (record === null || this.#markBytes < 4 || this.#missing < DIRECT_FROM) return null;
    return record.subarray(this.#length, this.#length + this.#missing);
  }

  /** Takes `length` bytes that lie in `room` already. */
  pushInPlace(length: number): void {
    this.#take(length);
  }

  /** Takes the first `length` bytes of `piece`; the memory is the caller's again afterwards. Throws a RecordError. */
  push(piece: Uint8Array, length: number): void {
    let at = 0;
    while (at < length) {
      if (this.#markBytes < 4) {
        at = this.#readMark(piece, at, length);
        // Not whole yet, or the whole of an empty fragment.
        if (this.#markBytes < 4 || at === length) continue;
      }
      const take = Math.min(this.#missing, length - at);
      if (this.#record === null && this.#last && take === this.#missing) this.#deliverInPlace(piece, at, take);
      else this.#collect(piece, at, take);
      at += take;
    }
  }

  #readMark(piece: Uint8Array, at: number, length: number): number {
    while (this.#markBytes < 4 && at < length) {
      this.#mark = (this.#mark << 8) | (piece[at++] as number);
      this.#markBytes++;
    }
    if (this.#markBytes < 4) return at;
    this.#last = (this.#mark & LAST_FRAGMENT) !== 0;
    this.#missing = this.#mark & ~LAST_FRAGMENT;
    const total = this.#length + this.#missing;
    if (total > this.#limit) throw new RecordError(`a record of ${total} bytes; at most ${this.#limit} are taken`);
    if (++this.#fragments > MAX_FRAGMENTS) throw new RecordError(`a record in more than ${MAX_FRAGMENTS} fragments`);
    if (this.#missing === 0) this.#collect(piece, at, 0);
    return at;
  }

  #deliverInPlace(piece: Uint8Array, at: number, length: number): void {
    let reader = this.#reader;
    if (reader === null || reader.bytes !== piece) {
      reader = new XdrReader(piece, true);
      this.#reader = reader;
    }
    reader.offset = at;
    reader.end = at + length;
    this.#startRecord();
    this.#onRecord(reader);
  }

  #collect(piece: Uint8Array, at: number, take: number): void {
    if (take > 0) {
      const record = this.#room(take);
      record.set(piece.subarray(at, at + take), this.#length);
    }
    this.#take(take);
  }

  /** `count` bytes more of the current fragment are in the record. */
  #take(count: number): void {
    this.#length += count;
    this.#missing -= count;
    if (this.#missing > 0) return;
    if (!this.#last) {
      this.#markBytes = 0;
      this.#mark = 0;
      return;
    }
    const record = (this.#record ?? new Uint8Array(0)).subarray(0, this.#length);
    this.#startRecord();
    this.#onRecord(new XdrReader(record));
  }

  /** Room for the whole fragment at once, so that a long record is gathered without copying it again and again. */
  #room(take: number): Uint8Array {
    const wanted = this.#length + Math.max(take, this.#missing);
    if (this.#record !== null && this.#record.length >= wanted) return this.#record;
    // Unfilled memory: every byte up to #length is written before it is read. Not a Buffer, whose slice() is a view.
    const grown = recordMemory(this.#last ? wanted : Math.min(this.#limit, wanted * 2));
    if (this.#record !== null) grown.set(this.#record.subarray(0, this.#length));
    this.#record = grown;
    return grown;
  }

  #startRecord(): void {
    this.#markBytes = 0;
    this.#mark = 0;
    this.#missing = 0;
    this.#last = false;
    this.#fragments = 0;
    this.#record = null;
    this.#length = 0;
  }
}
