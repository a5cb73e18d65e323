/**
 * Everything pushed and not yet sent on one datapath: linked lists of transmit descriptors in typed arrays.
 * Pure: it holds buffers and counts bytes; transmit.ts does the system calls.
 */
import type { HeapBuffer } from '../../ring/heap.ts';

/** Words kept for a datagram's destination: sockaddr_in6 is 28 bytes. */
export const NAME_WORDS = 8;
const FIRST_CAPACITY = 1024;
/** Most descriptors unsent at once, of all queues together. */
export const MAX_UNSENT = 1 << 20;

/** What a socket of any datapath keeps about its descriptors. */
export interface Backlog {
  /** First and last unsent descriptor, -1 for none. */
  outHead: number;
  outTail: number;
  /** Unsent bytes. */
  unsent: number;
  /** The first unsent descriptor has been sent in part. */
  begun: boolean;
}

// Plain fields: those who transmit read them in their loops.
export class Outbox {
  next: Int32Array = new Int32Array(FIRST_CAPACITY);
  /** Where the bytes still to send begin in the heap, and how many they are: as they were when pushed. */
  at: Int32Array = new Int32Array(FIRST_CAPACITY);
  length: Int32Array = new Int32Array(FIRST_CAPACITY);
  /** Token of the push that waits for this descriptor, or -1. */
  owner: Int32Array = new Int32Array(FIRST_CAPACITY);
  /** Datagrams: bytes of destination address, and the address; made when a datagram socket is. */
  nameLength: Int32Array | null = null;
  names: Int32Array | null = null;
  readonly buffers: (HeapBuffer | null)[] = [];
  #free = -1;
  #made = 0;
  #inUse = 0;

  /** How many descriptors can still be appended. */
  get room(): number {
    return MAX_UNSENT - this.#inUse;
  }

  /**
   * Appends a buffer, whose reference passes to the outbox; the caller has asked for {@link room}. Gives the descriptor.
   * @param owner token of the push that will wait, or -1
   */
  append(sock: Backlog, buffer: HeapBuffer, owner: number): number {
    let node = this.#free;
    if (node >= 0) this.#free = this.next[node]!;
    else {
      if (this.#made === this.next.length) this.#grow();
      node = this.#made++;
    }
    this.#inUse++;
    this.next[node] = -1;
    this.at[node] = buffer.offset;
    this.length[node] = buffer.length;
    this.owner[node] = owner;
    this.buffers[node] = buffer;
    if (sock.outTail < 0) sock.outHead = node;
    else this.next[sock.outTail] = node;
    sock.outTail = node;
    sock.unsent += buffer.length;
    return node;
  }

  /** Drops the first descriptor: its bytes are sent, or will never be. */
  dropFirst(sock: Backlog): void {
    const node = sock.outHead;
    sock.outHead = this.next[node]!;
    if (sock.outHead < 0) sock.outTail = -1;
    sock.unsent -= this.length[node]!;
    sock.begun = false;
    this.#release(node);
  }

  dropAll(sock: Backlog): void {
    while (sock.outHead >= 0) this.dropFirst(sock);
  }

  /** `bytes` of a stream have been sent. */
  consume(sock: Backlog, bytes: number): void {
    while (sock.outHead >= 0) {
      const node = sock.outHead;
      const length = this.length[node]!;
      if (length > bytes) {
        this.at[node] = this.at[node]! + bytes;
        this.length[node] = length - bytes;
        sock.unsent -= bytes;
        if (bytes > 0) sock.begun = true;
        return;
      }
      bytes -= length;
      this.dropFirst(sock);
    }
  }

  /** Takes back the descriptors of one push, unless its first bytes are already on their way. */
  withdraw(sock: Backlog, token: number, count: number): void {
    if (sock.begun && this.owner[sock.outHead] === token) return;
    let found = 0;
    for (let node = sock.outHead; node >= 0; node = this.next[node]!) if (this.owner[node] === token) found++;
    if (found !== count) return;
    let before = -1;
    for (let node = sock.outHead; node >= 0; ) {
      const next = this.next[node]!;
      if (this.owner[node] === token) {
        if (before < 0) sock.outHead = next;
        else this.next[before] = next;
        if (next < 0) sock.outTail = before;
        sock.unsent -= this.length[node]!;
        this.#release(node);
      } else before = node;
      node = next;
    }
  }

  /** From now on descriptors can carry a destination. */
  withNames(): void {
    if (this.names !== null) return;
    this.names = new Int32Array(this.next.length * NAME_WORDS);
    this.nameLength = new Int32Array(this.next.length);
  }

  #release(node: number): void {
    const buffer = this.buffers[node]!;
    this.buffers[node] = null;
    this.next[node] = this.#free;
    this.#free = node;
    this.#inUse--;
    buffer.release();
  }

  #grow(): void {
    this.next = doubled(this.next);
    this.at = doubled(this.at);
    this.length = doubled(this.length);
    this.owner = doubled(this.owner);
    if (this.names !== null) {
      this.names = doubled(this.names);
      this.nameLength = doubled(this.nameLength!);
    }
  }
}

function doubled(array: Int32Array): Int32Array {
  const larger = new Int32Array(array.length * 2);
  larger.set(array);
  return larger;
}
