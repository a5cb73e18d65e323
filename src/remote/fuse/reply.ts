/**
 * Replies and notifications of the FUSE protocol, written into memory in place (linux/fuse.h).
 * It touches only the memory it is given; each method gives the message's length in bytes.
 */
import type { Attributes, FsstatResult } from '../server.ts';
import { FileType } from '../server.ts';
import { DIRENT_BYTES, ENTRY_OUT_BYTES, INIT_OUT_BYTES, Notify, OUT_HEADER_BYTES, STATFS_OUT_BYTES } from './abi.ts';
import type { WordMemory } from './request.ts';

const WORD = 2 ** 32;
const MS_PER_SECOND = 1000;
const NS_PER_MS = 1_000_000;
/** Longest time an answer is good for in the kernel. */
const VALID_MS_MAX = 3_600_000;

/** S_IFMT bits by NFS file type. */
const FORMAT: Readonly<Record<FileType, number>> = {
  [FileType.regular]: 0o100000,
  [FileType.directory]: 0o040000,
  [FileType.block]: 0o060000,
  [FileType.character]: 0o020000,
  [FileType.symlink]: 0o120000,
  [FileType.socket]: 0o140000,
  [FileType.fifo]: 0o010000,
};

/** What a node shows of itself: `ino` may differ from the attributes' fileid for a node that the server does not know yet. */
export interface Shown {
  readonly attributes: Attributes;
  readonly inoHigh: number;
  readonly inoLow: number;
  readonly size: number;
  readonly linkCount: number;
}

/** What INIT agrees on. */
export interface InitReply {
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly maxBackground: number;
  readonly maxWrite: number;
  readonly maxPages: number;
}

export class ReplyWriter {
  readonly #memory: WordMemory;
  readonly #text: Buffer;
  readonly #capacity: number;
  #end = 0;

  constructor(memory: WordMemory) {
    this.#memory = memory;
    this.#capacity = memory.u8.byteLength;
    this.#text = Buffer.from(memory.buffer, memory.u8.byteOffset, memory.u8.byteLength);
  }

  /** Begins a reply to request `unique`. */
  begin(unique: number): void {
    this.#header(unique, 0);
  }

  /** A whole reply that says only how it ended: 0 or a positive errno. */
  status(unique: number, errno: number): number {
    this.#header(unique, -errno);
    return this.finish();
  }

  /** Ends what was begun. */
  finish(): number {
    this.#memory.u32[0] = this.#end;
    return this.#end;
  }

  /** fuse_entry_out. With node id 0 the name does not exist, and `shown` is null. */
  entry(nodeId: number, nameMs: number, attributesMs: number, shown: Shown | null): void {
    const at = this.#take(ENTRY_OUT_BYTES);
    this.#entryAt(at, nodeId, nameMs, attributesMs, shown);
  }

  /** fuse_attr_out. */
  attributes(validMs: number, shown: Shown): void {
    const index = this.#take(16) >> 2;
    this.#put64(index, seconds(validMs));
    this.#memory.u32[index + 2] = nanoseconds(validMs);
    this.#memory.u32[index + 3] = 0;
    this.#attr(this.#take(88) >> 2, shown);
  }

  /** fuse_open_out. */
  open(file: number, flags: number): void {
    const index = this.#take(16) >> 2;
    this.#put64(index, file);
    this.#memory.u32[index + 2] = flags;
    this.#memory.u32[index + 3] = 0;
  }

  /** fuse_write_out. */
  written(bytes: number): void {
    const index = this.#take(8) >> 2;
    this.#memory.u32[index] = bytes;
    this.#memory.u32[index + 1] = 0;
  }

  init(reply: InitReply): void {
    const { u32 } = this.#memory;
    const index = this.#take(INIT_OUT_BYTES) >> 2;
    u32.fill(0, index, index + (INIT_OUT_BYTES >> 2));
    u32[index] = 7;
    u32[index + 1] = reply.minor;
    u32[index + 2] = reply.maxReadahead;
    u32[index + 3] = reply.flags;
    u32[index + 4] = reply.maxBackground | (Math.floor((reply.maxBackground * 3) / 4) << 16);
    u32[index + 5] = reply.maxWrite;
    u32[index + 6] = 1; // times in nanoseconds
    u32[index + 7] = reply.maxPages;
  }

  statfs(result: FsstatResult, blockBytes: number, nameMax: number): void {
    const { u32 } = this.#memory;
    const index = this.#take(STATFS_OUT_BYTES) >> 2;
    u32.fill(0, index, index + (STATFS_OUT_BYTES >> 2));
    this.#put64(index, Math.floor(result.totalBytes / blockBytes));
    this.#put64(index + 2, Math.floor(result.freeBytes / blockBytes));
    this.#put64(index + 4, Math.floor(result.availableBytes / blockBytes));
    this.#put64(index + 6, result.totalFiles);
    this.#put64(index + 8, result.freeFiles);
    u32[index + 10] = blockBytes;
    u32[index + 11] = nameMax;
    u32[index + 12] = blockBytes;
  }

  /** Bytes as they are. */
  bytes(data: Uint8Array): void {
    const at = this.#take(data.byteLength);
    this.#memory.u8.set(data, at);
  }

  /** Room for `length` bytes of payload, to be filled in place; {@link shrink} gives back what was not needed. */
  room(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#memory.u8.subarray(at, at + length);
  }

  shrink(bytes: number): void {
    this.#end -= bytes;
  }

  /** A directory entry; false where it does not fit into `limit` bytes of payload any more. `next`: the offset after it. */
  directoryEntry(
    limit: number,
    name: string,
    inoHigh: number,
    inoLow: number,
    type: FileType | 0,
    next: number,
  ): boolean {
    const padded = (DIRENT_BYTES + name.length + 7) & ~7;
    if (this.#end - OUT_HEADER_BYTES + padded > limit) return false;
    this.#direntAt(this.#take(padded), padded, name, inoHigh, inoLow, type, next);
    return true;
  }

  /** A directory entry with attributes; node id 0: without. Otherwise as {@link directoryEntry}. */
  directoryEntryPlus(
    limit: number,
    name: string,
    inoHigh: number,
    inoLow: number,
    type: FileType | 0,
    next: number,
    nodeId: number,
    nameMs: number,
    attributesMs: number,
    shown: Shown | null,
  ): boolean {
    const padded = (DIRENT_BYTES + name.length + 7) & ~7;
    if (this.#end - OUT_HEADER_BYTES + ENTRY_OUT_BYTES + padded > limit) return false;
    this.#entryAt(this.#take(ENTRY_OUT_BYTES), nodeId, nameMs, attributesMs, shown);
    this.#direntAt(this.#take(padded), padded, name, inoHigh, inoLow, type, next);
    return true;
  }

  /** "Drop what you keep of this file's data and attributes." A whole message. */
  invalidateInode(nodeId: number): number {
    this.#header(0, Notify.INVAL_INODE);
    const index = this.#take(24) >> 2;
    this.#put64(index, nodeId);
    this.#put64(index + 2, 0);
    this.#put64(index + 4, 0);
    return this.finish();
  }

  /** "Forget this name." A whole message. */
  invalidateEntry(parentId: number, name: string): number {
    this.#header(0, Notify.INVAL_ENTRY);
    const index = this.#take(16) >> 2;
    this.#put64(index, parentId);
    this.#memory.u32[index + 2] = name.length;
    this.#memory.u32[index + 3] = 0;
    const at = this.#take(name.length + 1);
    this.#text.write(name, at, 'latin1');
    this.#memory.u8[at + name.length] = 0;
    return this.finish();
  }

  #header(unique: number, error: number): void {
    const { u32, i32 } = this.#memory;
    i32[1] = error;
    u32[2] = unique % WORD;
    u32[3] = Math.floor(unique / WORD);
    this.#end = OUT_HEADER_BYTES;
  }

  #take(bytes: number): number {
    const at = this.#end;
    if (at + bytes > this.#capacity) throw new RangeError(`a reply of more than ${this.#capacity} bytes`);
    this.#end = at + bytes;
    return at;
  }

  #put64(index: number, value: number): void {
    // Two's complement of negative numbers: the high word floors.
    this.#memory.u32[index] = value % WORD;
    this.#memory.u32[index + 1] = Math.floor(value / WORD);
  }

  #entryAt(at: number, nodeId: number, nameMs: number, attributesMs: number, shown: Shown | null): void {
    const { u32 } = this.#memory;
    const index = at >> 2;
    this.#put64(index, nodeId);
    this.#put64(index + 2, 0);
    this.#put64(index + 4, seconds(nameMs));
    this.#put64(index + 6, seconds(attributesMs));
    u32[index + 8] = nanoseconds(nameMs);
    u32[index + 9] = nanoseconds(attributesMs);
    if (shown === null) u32.fill(0, index + 10, index + 32);
    else this.#attr(index + 10, shown);
  }

  #attr(index: number, { attributes, inoHigh, inoLow, size, linkCount }: Shown): void {
    const { u32 } = this.#memory;
    u32[index] = inoLow;
    u32[index + 1] = inoHigh;
    this.#put64(index + 2, size);
    this.#put64(index + 4, Math.ceil(Math.max(attributes.used, 0) / 512));
    this.#put64(index + 6, attributes.atimeSeconds);
    this.#put64(index + 8, attributes.mtimeSeconds);
    this.#put64(index + 10, attributes.ctimeSeconds);
    u32[index + 12] = attributes.atimeNanoseconds;
    u32[index + 13] = attributes.mtimeNanoseconds;
    u32[index + 14] = attributes.ctimeNanoseconds;
    u32[index + 15] = FORMAT[attributes.type] | (attributes.mode & 0o7777);
    u32[index + 16] = linkCount;
    u32[index + 17] = attributes.uid;
    u32[index + 18] = attributes.gid;
    u32[index + 19] = deviceNumber(attributes.deviceMajor, attributes.deviceMinor);
    u32[index + 20] = 4096;
    u32[index + 21] = 0;
  }

  #direntAt(
    at: number,
    padded: number,
    name: string,
    inoHigh: number,
    inoLow: number,
    type: FileType | 0,
    next: number,
  ): void {
    const { u32, u8 } = this.#memory;
    const index = at >> 2;
    u32[index] = inoLow;
    u32[index + 1] = inoHigh;
    this.#put64(index + 2, next);
    u32[index + 4] = name.length;
    u32[index + 5] = type === 0 ? 0 : FORMAT[type] >> 12;
    this.#text.write(name, at + DIRENT_BYTES, 'latin1');
    u8.fill(0, at + DIRENT_BYTES + name.length, at + padded);
  }
}

function clampMs(ms: number): number {
  return ms > 0 ? Math.min(ms, VALID_MS_MAX) : 0;
}

function seconds(ms: number): number {
  return Math.floor(clampMs(ms) / MS_PER_SECOND);
}

function nanoseconds(ms: number): number {
  return Math.floor((clampMs(ms) % MS_PER_SECOND) * NS_PER_MS);
}

/** The kernel's 32-bit encoding of a device number (new_encode_dev). */
export function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function deviceMajor(device: number): number {
  return (device >>> 8) & 0xfff;
}

export function deviceMinor(device: number): number {
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}
