/**
 * One end of the memory that two datapaths share: its two rings, its connections' slots, and the peer's doorbell.
 * It owns a mapping, the descriptor of the peer's doorbell and the socket whose end tells that the peer is gone.
 *
 * Nothing that stands in the memory is believed: ring indices are checked by the rings, every message by whom it is for.
 * What contradicts the protocol breaks the link, and with it every connection that runs over it.
 */
import { IsthmusError } from '../../errors.ts';
import { signalEventfd } from '../../linux/eventfd.ts';
import { close } from '../../linux/libc.ts';
import type { MappedMemory } from '../../linux/memory.ts';
import { RingConsumer, RingProducer } from '../../ring/descriptor-ring.ts';
import { Fifo } from '../ends/fifo.ts';
import {
  DATAGRAM_SLOT,
  DATAGRAM_WINDOW,
  type End,
  firstSlot,
  KIND_SHIFT,
  Kind,
  RING_SLOTS,
  ringOffset,
  SLOTS,
  SLOTS_EACH,
  Sleep,
  sleepWord,
} from './layout.ts';
import type { StreamEnd } from './stream.ts';

/** What the peer did contradicts the protocol. */
export function protocolError(what: string): IsthmusError {
  return new IsthmusError(`the process at the other end broke the protocol: ${what}`, { code: 'ERR_PEER_PROTOCOL' });
}

// Plain fields: streams and datagram sockets work on them for every message.
export class Link {
  /** Process and datapath at the other end, as `pid:identity`; the process is the kernel's word. */
  readonly peer: string;
  readonly memory: MappedMemory;
  readonly i32: Int32Array;
  readonly end: End;
  /** Connections by slot. */
  readonly ends: (StreamEnd | null)[] = new Array<StreamEnd | null>(SLOTS).fill(null);
  /** The socket over which the memory came; it ends with the peer. */
  readonly socket: number;
  /** Messages come and go. When it is over, what has arrived can still be read. */
  alive = true;
  /** Why the link must be ended at the next poll. */
  broken: Error | null = null;
  /** The peer has ended: what is in the ring is the last. */
  ending = false;
  /** Connections on this link, closed ones that are not forgotten yet included. */
  open = 0;
  /** Of the datagrams' window: bytes written, not yet consumed by the peer; read; read and not yet told. */
  datagramSent = 0;
  datagramUnacked = 0;
  datagramRead = 0;
  datagramOwed = 0;
  readonly #out: RingProducer;
  readonly #in: RingConsumer;
  readonly #doorbell: number;
  readonly #ownSleep: number;
  readonly #peerSleep: number;
  readonly #freeSlots: number[] = [];
  /** Connections that found the ring full. */
  readonly #blocked = new Fifo<StreamEnd>();
  /** Slot and errno, in turn, of refusals that found the ring full. */
  readonly #refusals: number[] = [];
  /** Messages that have arrived and were not taken, as last seen. */
  #arrived = 0;
  #closed = false;

  /** @throws IsthmusError ERR_RING_CORRUPT where the peer has already written nonsense */
  constructor(peer: string, memory: MappedMemory, end: End, socket: number, doorbell: number) {
    this.peer = peer;
    this.memory = memory;
    this.i32 = memory.i32;
    this.end = end;
    this.socket = socket;
    this.#doorbell = doorbell;
    const other = (1 - end) as End;
    this.#out = new RingProducer(memory, ringOffset(end), RING_SLOTS);
    this.#in = new RingConsumer(memory, ringOffset(other), RING_SLOTS);
    this.#ownSleep = sleepWord(end);
    this.#peerSleep = sleepWord(other);
    for (let slot = firstSlot(end) + SLOTS_EACH - 1; slot >= firstSlot(end); slot--) this.#freeSlots.push(slot);
    // The peer may have written already, and then nothing changes any more.
    this.arrivals();
  }

  // ---- Connections ---------------------------------------------------------------------------------------------

  /** A slot for a connection that begins here; -1 when all are taken. */
  takeSlot(): number {
    return this.#freeSlots.pop() ?? -1;
  }

  /** Whether the peer may begin a connection on this slot. */
  peerMayOpen(slot: number): boolean {
    const first = firstSlot((1 - this.end) as End);
    return slot >= first && slot < first + SLOTS_EACH && this.ends[slot] === null;
  }

  hold(slot: number, end: StreamEnd): void {
    this.ends[slot] = end;
    this.open++;
  }

  /** Both ends have said that they are done with the slot, or the link is over. */
  forget(slot: number): void {
    this.ends[slot] = null;
    this.open--;
    const first = firstSlot(this.end);
    if (slot >= first && slot < first + SLOTS_EACH) this.#freeSlots.push(slot);
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  /** Puts a message into the ring; false when the ring is full (or the link is over): {@link Link.block} then. */
  send(kind: number, slot: number, word1: number, word2: number, word3: number): boolean {
    if (!this.alive) return false;
    try {
      return this.#out.push((kind << KIND_SHIFT) | slot, word1, word2, word3);
    } catch (error) {
      this.broken ??= error as Error;
      return false;
    }
  }

  /** The end's `unblock` is called when there is room in the ring again. */
  block(end: StreamEnd): void {
    if (end.blocked || !this.alive) return;
    end.blocked = true;
    this.#blocked.push(end);
  }

  /** Tells the peer that a connection of its was refused, now or when there is room. */
  refuse(slot: number, errno: number): void {
    if (this.send(Kind.ANSWER, slot, errno, 0, 0) || !this.alive) return;
    if (this.#refusals.length >= SLOTS_EACH * 2) this.broken ??= protocolError('it does not wait for answers');
    else this.#refusals.push(slot, errno);
  }

  get waitsForRoom(): boolean {
    return this.#blocked.length > 0 || this.#refusals.length > 0;
  }

  /** Lets those that found the ring full try again; gives how many had their way. */
  unblock(): number {
    let done = 0;
    while (this.#refusals.length > 0 && this.#room() > 0) {
      const [slot, errno] = this.#refusals.splice(0, 2);
      this.send(Kind.ANSWER, slot!, errno!, 0, 0);
    }
    for (let n = this.#blocked.length; n > 0 && this.#room() > 0; n--) {
      const end = this.#blocked.shift();
      end.blocked = false;
      end.unblock();
      if (!end.blocked) done++;
    }
    return done;
  }

  #room(): number {
    try {
      return this.alive ? this.#out.free() : 0;
    } catch (error) {
      this.broken ??= error as Error;
      return 0;
    }
  }

  /** Room for a datagram of so many bytes, in its window and in the ring. */
  datagramRoom(bytes: number): boolean {
    return DATAGRAM_WINDOW - this.datagramUnacked >= bytes;
  }

  /** Makes what was sent visible, and wakes the peer if it sleeps. Once per turn. */
  publish(): void {
    if (this.#out.unpublished === 0) return;
    this.#out.publish();
    // The store above and this load cannot change places (both are sequentially consistent), nor can the peer's store of
    // its flag and its load of our index: one of the two sees the other.
    if (Atomics.load(this.i32, this.#peerSleep) !== Sleep.AWAKE) this.#wake();
  }

  #wake(): void {
    Atomics.store(this.i32, this.#peerSleep, Sleep.AWAKE);
    signalEventfd(this.#doorbell);
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  /** Messages that have arrived. What the peer made impossible counts as one: the poll finds out. */
  arrivals(): number {
    try {
      this.#arrived = this.#in.ready();
    } catch (error) {
      this.broken ??= error as Error;
      this.#arrived = 1;
    }
    return this.#arrived;
  }

  /** Whether messages may have arrived: {@link Link.arrivals} says. A plain load, five times as fast as an atomic one. */
  get stirred(): boolean {
    return this.#arrived > 0 || this.#in.changed;
  }

  /** Word of the memory at which the `i`-th message that has arrived begins. The peer may still change it: read it once. */
  messageAt(i: number): number {
    return this.#in.at(i);
  }

  /** Gives the slots of the `count` oldest messages back. */
  release(count: number): void {
    this.#in.release(count);
    this.#arrived -= count;
  }

  /** Wakes a peer that sleeps until the ring has room. To be asked now and then, and before sleeping. */
  tellRoom(): void {
    if (Atomics.load(this.i32, this.#peerSleep) === Sleep.UNTIL_ROOM) this.#wake();
  }

  /** Datagrams have been read: tells the peer in steps. */
  datagramConsumed(bytes: number, step: number): void {
    this.datagramRead = (this.datagramRead + bytes) | 0;
    this.datagramOwed += bytes;
    if (this.datagramOwed >= step) this.tellDatagrams();
  }

  /** False while the ring is full; the next datagram tries again. */
  tellDatagrams(): boolean {
    if (this.datagramOwed === 0) return true;
    if (!this.send(Kind.CREDIT, DATAGRAM_SLOT, this.datagramOwed, 0, 0)) return false;
    this.datagramOwed = 0;
    return true;
  }

  // ---- Sleeping ------------------------------------------------------------------------------------------------

  /** From now on the peer rings the doorbell. Look at {@link Link.ready} after it. */
  sleep(): void {
    Atomics.store(this.i32, this.#ownSleep, this.waitsForRoom ? Sleep.UNTIL_ROOM : Sleep.UNTIL_DATA);
  }

  awake(): void {
    if (Atomics.load(this.i32, this.#ownSleep) !== Sleep.AWAKE) Atomics.store(this.i32, this.#ownSleep, Sleep.AWAKE);
  }

  /** There is something to do here: the atomic answer, for whoever goes to sleep. */
  ready(): boolean {
    return this.arrivals() > 0 || this.broken !== null || (this.waitsForRoom && this.#room() > 0);
  }

  // ---- The end -------------------------------------------------------------------------------------------------

  /** No messages any more, in either direction. The memory stays while connections have bytes in it. */
  finish(): void {
    this.alive = false;
    if (this.#closed) return;
    this.#closed = true;
    close(this.socket);
    close(this.#doorbell);
    while (this.#blocked.length > 0) this.#blocked.shift().blocked = false;
  }
}
