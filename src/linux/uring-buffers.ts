/**
 * Provided buffers: a ring of receive buffers from which the kernel picks one when data is there (io_uring_register(2),
 * IORING_REGISTER_PBUF_RING). It owns the small ring in memory; the buffers belong to whoever provides them.
 */
import { systemError } from '../errors.ts';
import { type MappedMemory, mapArena } from './memory.ts';
import { reserveScratch, scratchAddress, scratchI32, scratchU16 } from './scratch.ts';
import type { Ring } from './uring.ts';
import { Register } from './uring-abi.ts';

const ENTRY_BYTES = 16;
const TAIL_U16 = 7; // the tail takes the place of entry 0's reserved field
const INCREMENTAL = 2;
const argumentOffset = reserveScratch(40);
const A = argumentOffset >> 2;
// The kernel may read the tail from another processor (its own workers). x86 keeps the order of stores by itself.
const ORDERED_STORES = process.arch === 'x64';

export interface ProvidedBuffersOptions {
  /** Buffer group: what a receive names to take from here. 0 to 65535. */
  group: number;
  /** Most buffers at a time; a power of two up to 32768. Buffer ids are 0 to entries − 1. */
  entries: number;
  /** High word of the addresses of all buffers: they lie in one arena. */
  addressHigh: number;
  /** A buffer is used up in pieces (kernel 6.12 and later); CqeFlag.BUF_MORE says that it goes on. Default false. */
  incremental?: boolean;
}

/** A group of provided buffers. Each id is at any time with the kernel or with the program, never both. */
export class ProvidedBuffers {
  readonly group: number;
  readonly entries: number;
  /** By buffer id: low word of the address, and bytes. Plain, so that a hot loop finds received data in place. */
  readonly lows: Int32Array;
  readonly lengths: Int32Array;
  readonly #ring: Ring;
  readonly #memory: MappedMemory;
  readonly #i32: Int32Array;
  readonly #u16: Uint16Array;
  readonly #high: number;
  readonly #mask: number;
  #tail = 0;

  /** @throws IsthmusError EINVAL before kernel 5.19, EEXIST for a group in use */
  constructor(ring: Ring, options: ProvidedBuffersOptions) {
    const { group, entries } = options;
    if (!(Number.isInteger(entries) && entries > 0 && entries <= 32768 && (entries & (entries - 1)) === 0)) {
      throw new RangeError(`${entries} provided buffers: it takes a power of two up to 32768`);
    }
    if (!(Number.isInteger(group) && group >= 0 && group <= 65535)) throw new RangeError(`buffer group ${group}`);
    this.group = group;
    this.entries = entries;
    this.#mask = entries - 1;
    this.#ring = ring;
    this.#high = options.addressHigh;
    this.lows = new Int32Array(entries);
    this.lengths = new Int32Array(entries);
    this.#memory = mapArena(entries * ENTRY_BYTES);
    this.#i32 = this.#memory.i32;
    this.#u16 = this.#memory.u16;
    const result = this.#register(Register.PBUF_RING, options.incremental ? INCREMENTAL : 0);
    if (result < 0) {
      this.#memory.close();
      throw systemError(result, 'io_uring_register', `buffer group ${group}`);
    }
  }

  #register(opcode: number, flags: number): number {
    scratchI32.fill(0, A, A + 10);
    if (opcode === Register.PBUF_RING) {
      scratchI32[A + 1] = this.#memory.addressHigh;
      scratchI32[A + 2] = this.entries;
    }
    scratchU16[(A << 1) + 6] = this.group;
    scratchU16[(A << 1) + 7] = flags;
    return this.#ring.register(opcode, scratchAddress + argumentOffset, 1);
  }

  /** Gives `length` bytes at low word `low` to the kernel under `id`. Seen after {@link publish}. */
  provide(id: number, low: number, length: number): void {
    this.lows[id] = low;
    this.lengths[id] = length;
    this.recycle(id);
  }

  /** Gives the buffer with this id back to the kernel, the same memory as before. Seen after {@link publish}. */
  recycle(id: number): void {
    const k = (this.#tail & this.#mask) << 2;
    this.#i32[k] = this.lows[id]!;
    this.#i32[k + 1] = this.#high;
    this.#i32[k + 2] = this.lengths[id]!;
    this.#u16[(k << 1) + 6] = id; // not as part of a word: in entry 0 the upper half is the tail
    this.#tail = (this.#tail + 1) & 0xffff;
  }

  /** Lets the kernel see what was given; once per turn, before submit. */
  publish(): void {
    if (ORDERED_STORES) this.#u16[TAIL_U16] = this.#tail;
    else Atomics.store(this.#u16, TAIL_U16, this.#tail);
  }

  /** Takes the group away from the ring. Receives that want it then end with ENOBUFS. Call it before the ring closes. */
  close(): void {
    if (this.#memory.closed) return;
    if (!this.#ring.closed) this.#register(Register.UNREGISTER_PBUF_RING, 0);
    this.#memory.close();
  }
}
