/**
 * What two processes find where in the memory they share, and the messages in its rings.
 * Pure; both ends have these numbers from here and from nowhere else, so nothing of the peer's decides an address.
 */
import { descriptorRingBytes } from '../../ring/descriptor-ring.ts';

/** Connections that each end can begin, at once. */
export const SLOTS_EACH = 2048;
export const SLOTS = 2 * SLOTS_EACH;
/** Bytes under way on one connection in one direction, at most. A power of two. */
export const WINDOW = 1 << 16;
/** Bytes of datagrams under way in one direction; holds several of the largest. A power of two. */
export const DATAGRAM_WINDOW = 1 << 18;
/** Consumed bytes are told to the sender in quarters of a window, so that small messages cost no message back. */
export const CREDIT_STEP = WINDOW >> 2;
export const DATAGRAM_CREDIT_STEP = DATAGRAM_WINDOW >> 2;
/** Messages under way in one direction. */
export const RING_SLOTS = 4096;

const PAGE = 4096;
const RING_BYTES = Math.ceil(descriptorRingBytes(RING_SLOTS) / PAGE) * PAGE;
const RINGS = PAGE;
const DATAGRAMS = RINGS + 2 * RING_BYTES;
const WINDOWS = DATAGRAMS + 2 * DATAGRAM_WINDOW;

/** Bytes of the shared memory; pages are there only once they are used. */
export const LINK_BYTES = WINDOWS + SLOTS * 2 * WINDOW;

/** Which end of a link this is: the one that made the memory, or the one that was given it. */
export const End = { MAKER: 0, TAKER: 1 } as const;
export type End = (typeof End)[keyof typeof End];

/** Word in which an end says that it sleeps; a pair of cache lines for each. */
export function sleepWord(end: End): number {
  return (end * 128) >> 2;
}

/** What that word says: awake; wake me when there is something; or when there is, or when a slot of the ring is free. */
export const Sleep = { AWAKE: 0, UNTIL_DATA: 1, UNTIL_ROOM: 2 } as const;

/** The ring that `end` writes. */
export function ringOffset(end: End): number {
  return RINGS + end * RING_BYTES;
}

/** The bytes that `end` writes for a connection. */
export function windowOffset(end: End, slot: number): number {
  return WINDOWS + (slot * 2 + end) * WINDOW;
}

/** Where in a window its first byte stands: not always at the same place of a page, which is the same place of a cache. */
export function windowStart(slot: number): number {
  return ((slot * 5) & 63) << 6;
}

export function datagramOffset(end: End): number {
  return DATAGRAMS + end * DATAGRAM_WINDOW;
}

/** First of the slots whose connections `end` begins. */
export function firstSlot(end: End): number {
  return end * SLOTS_EACH;
}

/**
 * Messages: word 0 is the kind (upper 8 bits) and the slot. The first about a slot is OPEN, the last from each end is
 * GONE; when both have said it, the slot can be used again.
 */
export const Kind = {
  /** A connection. Word 1: bytes of the name it is for, which stand in the window; word 2: the port it comes from. */
  OPEN: 1,
  /** Word 1: 0, or the errno why not. */
  ANSWER: 2,
  /**
   * Word 1: so many bytes more stand in the sender's window; word 3: 1 where they begin at its start, because everything
   * before them has been read. Word 2 as in CREDIT.
   */
  DATA: 3,
  /**
   * Word 2: bytes that the sender has read from the other window since the connection began, modulo 2^32. On the slot
   * DATAGRAM_SLOT, word 1: so many bytes of the datagrams' window are free again.
   */
  CREDIT: 4,
  /** The end of the sender's stream. */
  FIN: 5,
  /** The sender has given the connection up. */
  RESET: 6,
  /** The sender says nothing more about this slot, and reads nothing more. */
  GONE: 7,
  /** Word 1: bytes in the datagrams' window; word 2: name of the sender; word 3: name of the receiver. */
  DATAGRAM: 8,
  /** Word 3 names no socket of this end any more. */
  UNREACHABLE: 9,
} as const;

export const KIND_SHIFT = 24;
export const SLOT_MASK = (1 << KIND_SHIFT) - 1;
export const DATAGRAM_SLOT = SLOT_MASK;
/** Longest name of a listener, in bytes. */
export const MAX_NAME = 64;
