/**
 * Requests of the FUSE protocol as bytes: checks one, and reads its fields in place (linux/fuse.h; all little-endian).
 * It touches only the memory it is given; a malformed request gives an errno, never an exception.
 */
import { ERRNO } from '../../errors.ts';
import { BODY_BYTES, IN_HEADER_BYTES, Opcode, PATH_BYTES_MAX } from './abi.ts';

/** Memory seen as bytes and as words; begins at a multiple of 8. */
export interface WordMemory {
  readonly buffer: ArrayBufferLike;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
}

const WORD = 2 ** 32;

/** One request at the beginning of the memory. The fields are plain, since the session reads all of them on the hot path. */
export class RequestReader {
  readonly #memory: WordMemory;
  readonly #text: Buffer;
  length = 0;
  opcode = 0;
  unique = 0;
  nodeId = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** Where the bytes after the last name read begin. */
  afterName = 0;

  constructor(memory: WordMemory) {
    this.#memory = memory;
    this.#text = Buffer.from(memory.buffer, memory.u8.byteOffset, memory.u8.byteLength);
  }

  /**
   * Takes the `length` bytes that were read. @returns 0; an errno to reply; −1 where not even the header is sound and
   * nothing can be replied
   */
  parse(length: number): number {
    const { u32, u8 } = this.#memory;
    if (length < IN_HEADER_BYTES || length > u8.byteLength || u32[0] !== length) return -1;
    this.length = length;
    this.opcode = u32[1]!;
    this.unique = u32[2]! + u32[3]! * WORD;
    this.nodeId = u32[4]! + u32[5]! * WORD;
    this.uid = u32[6]!;
    this.gid = u32[7]!;
    this.pid = u32[8]!;
    const least = BODY_BYTES[this.opcode];
    if (least === undefined) return ERRNO.ENOSYS;
    if (length - IN_HEADER_BYTES < least) return ERRNO.EIO;
    if (this.opcode === Opcode.WRITE && length - IN_HEADER_BYTES - 40 < this.u32(16)) return ERRNO.EIO;
    if (this.opcode === Opcode.BATCH_FORGET && (length - IN_HEADER_BYTES - 8) / 16 < this.u32(0)) return ERRNO.EIO;
    return 0;
  }

  /** The word at byte `offset` of the body. */
  u32(offset: number): number {
    return this.#memory.u32[(IN_HEADER_BYTES + offset) >> 2]!;
  }

  /** An unsigned 64-bit number; above 2^53 it is no longer exact, only large. */
  u64(offset: number): number {
    const index = (IN_HEADER_BYTES + offset) >> 2;
    return this.#memory.u32[index]! + this.#memory.u32[index + 1]! * WORD;
  }

  /** A signed 64-bit number, exact within ±2^53. */
  i64(offset: number): number {
    const index = (IN_HEADER_BYTES + offset) >> 2;
    return this.#memory.u32[index]! + this.#memory.i32[index + 1]! * WORD;
  }

  /** Bytes of the body, in place: valid until the next request is read. */
  bytes(offset: number, length: number): Uint8Array {
    const start = IN_HEADER_BYTES + offset;
    return this.#memory.u8.subarray(start, Math.min(start + length, this.length));
  }

  /**
   * The name at `offset`, as a string with a character per byte; null where it is none (not ended by NUL, empty, too long, with
   * a slash, `.` or `..`). Sets {@link afterName}.
   */
  name(offset: number): string | null {
    const text = this.#ended(offset);
    if (text === null || text === '' || text === '.' || text === '..') return null;
    return text.includes('/') ? null : text;
  }

  /** The symlink target at `offset`: as a name, but slashes are allowed. */
  target(offset: number): string | null {
    const text = this.#ended(offset);
    return text === '' ? null : text;
  }

  #ended(offset: number): string | null {
    const { u8 } = this.#memory;
    const start = IN_HEADER_BYTES + offset;
    const end = u8.indexOf(0, start);
    if (end < 0 || end >= this.length || end - start > PATH_BYTES_MAX) return null;
    this.afterName = end + 1 - IN_HEADER_BYTES;
    return this.#text.toString('latin1', start, end);
  }
}
