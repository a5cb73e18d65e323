/**
 * The neighbour cache: which station an IP address on the link is, for ARP and for neighbour discovery alike, with the
 * states of RFC 4861 7.3.2. It sends and keeps packets that wait for an answer; messages are read and written elsewhere.
 *
 * What is believed: an answer to a question that was asked; anything newer about an address already known (RFC 826's
 * merge, RFC 4861's override), which is then to be confirmed before it counts as reachable; and the sender of a
 * question for us. Nothing unasked makes an entry, and for a second after an answer nothing unasked changes it.
 */
import type { HeapBuffer } from '../ring/heap.ts';
import type { NetContext } from './context.ts';
import { AddressIndex } from './ip/address-index.ts';
import { etherTypeOf, transmitFrame } from './link.ts';
import {
  GENERATION_MASK,
  INDEX_BITS,
  Neighbour,
  type NeighbourOwner,
  NeighbourState,
  type Waiting,
} from './neighbour.ts';
import { Reason } from './wire/reason.ts';

/** RFC 4861 section 10. */
export const RETRANS_MS = 1000;
export const MAX_SOLICITATIONS = 3;
export const DELAY_FIRST_PROBE_MS = 5000;
export const REACHABLE_MS = 30_000;
/** For so long after an answer nothing unasked changes an entry (as Linux's locktime). */
export const LOCK_MS = 1000;
export interface NeighbourLimits {
  /** Entries, at most 4096. */
  readonly entries: number;
  /** Packets waiting for one neighbour; one more pushes out the oldest (RFC 4861 7.2.2). */
  readonly queued: number;
  /** Packets waiting in all. */
  readonly queuedInAll: number;
}

export const DEFAULT_NEIGHBOUR_LIMITS: NeighbourLimits = { entries: 1024, queued: 64, queuedInAll: 512 };

/** Who asks for addresses, and who hears of packets whose next hop did not answer. */
export interface Resolver {
  /** Asks once; `unicast` where a known station is probed. */
  solicit(neighbour: Neighbour, unicast: boolean): void;
  /** `packet`, an IP packet borrowed, could not be delivered: nobody answered. */
  unresolved(packet: HeapBuffer): void;
}

export class Neighbours implements NeighbourOwner {
  resolver: Resolver | null = null;
  readonly #context: NetContext;
  readonly #limits: NeighbourLimits;
  readonly #index: AddressIndex;
  readonly #entries: Neighbour[] = [];
  /** Entries in use whose neighbour has not been heard of lately: only then is progress of the upper layers worth a look. */
  doubted = 0;
  #incomplete = 0;
  #waiting = 0;

  constructor(context: NetContext, limits: NeighbourLimits = DEFAULT_NEIGHBOUR_LIMITS) {
    if (limits.entries > 1 << INDEX_BITS) throw new RangeError(`more than ${1 << INDEX_BITS} neighbours`);
    this.#context = context;
    this.#limits = limits;
    this.#index = new AddressIndex(limits.entries, context.random());
    for (let i = 0; i < limits.entries; i++) this.#entries.push(new Neighbour(this, i));
  }

  get size(): number {
    return this.#index.size;
  }

  /** Packets that wait for an answer. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Entries in use, for whoever observes. */
  *list(): Generator<Neighbour> {
    for (const entry of this.#entries) if (entry.state !== NeighbourState.FREE) yield entry;
  }

  /** The entry that a flow remembers; null where it may have become another. */
  at(route: number): Neighbour | null {
    const entry = this.#entries[route & ((1 << INDEX_BITS) - 1)];
    if (entry === undefined || entry.generation !== route >>> INDEX_BITS) return null;
    return entry.state === NeighbourState.FREE ? null : entry;
  }

  find(family: number, w0: number, w1: number, w2: number, w3: number): Neighbour | null {
    const slot = this.#index.find(family, w0, w1, w2, w3);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  /** The entry of an address, made where there is none; null (and counted) where the table is full of others in use. */
  resolve(family: number, w0: number, w1: number, w2: number, w3: number): Neighbour | null {
    return this.find(family, w0, w1, w2, w3) ?? this.#make(family, w0, w1, w2, w3);
  }

  /** Sends an IP packet to a neighbour, now or when it has answered. The packet's reference passes; the payload is borrowed. */
  send(
    neighbour: Neighbour,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    const context = this.#context;
    neighbour.usedAt = context.now;
    switch (neighbour.state) {
      case NeighbourState.INCOMPLETE:
        this.#wait(neighbour, packet, payload, payloadOffset, payloadLength);
        return;
      case NeighbourState.REACHABLE:
        if (context.now < neighbour.reachableUntil) break;
        this.#delay(neighbour);
        break;
      case NeighbourState.STALE:
        this.#delay(neighbour);
    }
    const { macHi, macLo } = neighbour;
    transmitFrame(context, macHi, macLo, etherTypeOf(neighbour.family), packet, payload, payloadOffset, payloadLength);
  }

  // ---- What is heard -------------------------------------------------------------------------------------------

  /**
   * A host has asked for an address of ours and said who it is (RFC 826, RFC 4861 7.2.3): it will want an answer.
   * Makes an entry where there is none.
   */
  heardQuestion(family: number, w0: number, w1: number, w2: number, w3: number, macHi: number, macLo: number): void {
    const entry = this.find(family, w0, w1, w2, w3) ?? this.#make(family, w0, w1, w2, w3);
    if (entry !== null) this.#update(entry, macHi, macLo);
  }

  /** A host has said who it is, unasked: only what is known already is brought up to date. */
  heardUnasked(family: number, w0: number, w1: number, w2: number, w3: number, macHi: number, macLo: number): void {
    const entry = this.find(family, w0, w1, w2, w3);
    if (entry !== null) this.#update(entry, macHi, macLo);
  }

  /**
   * An answer. RFC 4861 7.2.5; an ARP reply to us counts as solicited and overriding where a question is open.
   * @param hasMac an ICMPv6 advertisement may leave the address out
   */
  heardAnswer(
    family: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    hasMac: boolean,
    macHi: number,
    macLo: number,
    solicited: boolean,
    override: boolean,
  ): void {
    const entry = this.find(family, w0, w1, w2, w3);
    if (entry === null || entry.state === NeighbourState.PERMANENT) return;
    const changed = hasMac && (entry.macHi !== macHi || entry.macLo !== macLo);
    if (entry.state === NeighbourState.INCOMPLETE) {
      if (!hasMac) return;
      this.#becomeKnown(entry, macHi, macLo, solicited);
      return;
    }
    const asked = entry.state === NeighbourState.PROBE;
    if (changed && !override) {
      if (entry.state === NeighbourState.REACHABLE) entry.state = NeighbourState.STALE;
      return;
    }
    // Nobody asked, so its flag is only a claim.
    if (changed && !asked) {
      this.#update(entry, macHi, macLo);
      return;
    }
    if (changed) this.#setMac(entry, macHi, macLo);
    if (solicited) this.#setReachable(entry, true);
    else if (changed) this.#setStale(entry);
  }

  /** An ARP reply is solicited where a question is open. */
  isAsked(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const entry = this.find(family, w0, w1, w2, w3);
    return entry !== null && (entry.state === NeighbourState.INCOMPLETE || entry.state === NeighbourState.PROBE);
  }

  /** The upper layer has heard from the host behind this route (RFC 4861 7.3.1): it is reachable as it is. */
  confirm(route: number): void {
    if (route < 0) return;
    const entry = this.at(route);
    if (entry === null || entry.state === NeighbourState.INCOMPLETE || entry.state === NeighbourState.PERMANENT) return;
    this.#setReachable(entry, false);
  }

  /** Puts an entry in by hand, or learns one from elsewhere (netlink). @throws RangeError where the table is full */
  set(
    family: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    macHi: number,
    macLo: number,
    permanent: boolean,
  ): void {
    const entry = this.resolve(family, w0, w1, w2, w3);
    if (entry === null) throw new RangeError('the neighbour table is full');
    if (entry.state === NeighbourState.INCOMPLETE) this.#becomeKnown(entry, macHi, macLo, true);
    else this.#setMac(entry, macHi, macLo);
    if (permanent) {
      this.#leave(entry);
      entry.state = NeighbourState.PERMANENT;
    } else this.#setReachable(entry, true);
  }

  /** Forgets an entry; packets that wait for it are dropped as unreachable. */
  forget(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const entry = this.find(family, w0, w1, w2, w3);
    if (entry !== null) this.#fail(entry);
    return entry !== null;
  }

  /** Routes or addresses have changed: what flows remember is old. */
  invalidate(): void {
    for (const entry of this.#entries) entry.generation = (entry.generation + 1) & GENERATION_MASK;
  }

  /** Drops every packet that waits and stops every timer. */
  dispose(): void {
    for (const entry of this.#entries) {
      if (entry.state === NeighbourState.FREE) continue;
      this.#dropWaiting(entry, false);
      this.#free(entry);
    }
  }

  // ---- Timers --------------------------------------------------------------------------------------------------

  timerExpired(entry: Neighbour): void {
    switch (entry.state) {
      case NeighbourState.DELAY:
        entry.state = NeighbourState.PROBE;
        entry.solicitations = 0;
        this.#ask(entry, true);
        return;
      case NeighbourState.PROBE:
      case NeighbourState.INCOMPLETE:
        if (entry.solicitations < MAX_SOLICITATIONS) this.#ask(entry, entry.state === NeighbourState.PROBE);
        else {
          this.#context.counters.neighboursFailed++;
          this.#fail(entry);
        }
    }
  }

  #ask(entry: Neighbour, unicast: boolean): void {
    entry.solicitations++;
    this.#arm(entry, RETRANS_MS);
    this.resolver?.solicit(entry, unicast);
  }

  #delay(entry: Neighbour): void {
    entry.state = NeighbourState.DELAY;
    this.doubted++;
    this.#arm(entry, DELAY_FIRST_PROBE_MS);
  }

  #arm(entry: Neighbour, ms: number): void {
    this.#stopTimer(entry);
    entry.timer = this.#context.timers.schedule(this.#context.now + ms, entry);
  }

  #stopTimer(entry: Neighbour): void {
    if (entry.timer >= 0) this.#context.timers.cancel(entry.timer);
    entry.timer = -1;
  }

  // ---- Entries -------------------------------------------------------------------------------------------------

  #make(family: number, w0: number, w1: number, w2: number, w3: number): Neighbour | null {
    if (this.#index.size === this.#limits.entries && !this.#evict()) {
      this.#context.counters.drop(Reason.NEIGHBOUR_TABLE);
      return null;
    }
    const entry = this.#entries[this.#index.insert(family, w0, w1, w2, w3)]!;
    entry.state = NeighbourState.INCOMPLETE;
    entry.family = family;
    entry.w0 = w0;
    entry.w1 = w1;
    entry.w2 = w2;
    entry.w3 = w3;
    entry.macHi = 0;
    entry.macLo = 0;
    entry.usedAt = this.#context.now;
    entry.answeredAt = Number.NEGATIVE_INFINITY;
    entry.solicitations = 0;
    this.#incomplete++;
    return entry;
  }

  /**
   * Makes room. Questions without an answer may have half of the table, so that a flood of packets from hosts that are
   * not there does not push out those that are; otherwise the entry unused for longest goes that nobody asks about.
   */
  #evict(): boolean {
    const crowded = this.#incomplete > this.#limits.entries >> 1;
    let victim: Neighbour | null = null;
    for (const entry of this.#entries) {
      const { state } = entry;
      const candidate = crowded
        ? state === NeighbourState.INCOMPLETE
        : state === NeighbourState.STALE || state === NeighbourState.REACHABLE;
      if (candidate && (victim === null || entry.usedAt < victim.usedAt)) victim = entry;
    }
    if (victim === null) return false;
    this.#context.counters.neighboursEvicted++;
    this.#fail(victim);
    return true;
  }

  #becomeKnown(entry: Neighbour, macHi: number, macLo: number, reachable: boolean): void {
    entry.macHi = macHi;
    entry.macLo = macLo;
    if (reachable) this.#setReachable(entry, true);
    else this.#setStale(entry);
    const packets = entry.waiting.splice(0);
    this.#waiting -= packets.length;
    for (const { packet, payload, payloadOffset, payloadLength } of packets) {
      this.send(entry, packet, payload, payloadOffset, payloadLength);
      payload?.release();
    }
  }

  /** Unasked news about an entry. */
  #update(entry: Neighbour, macHi: number, macLo: number): void {
    if (entry.state === NeighbourState.PERMANENT) return;
    if (entry.state === NeighbourState.INCOMPLETE) {
      this.#becomeKnown(entry, macHi, macLo, false);
      return;
    }
    if (entry.macHi === macHi && entry.macLo === macLo) return;
    if (this.#context.now - entry.answeredAt < LOCK_MS) return;
    this.#setMac(entry, macHi, macLo);
    this.#setStale(entry);
  }

  #setMac(entry: Neighbour, macHi: number, macLo: number): void {
    if (entry.macHi === macHi && entry.macLo === macLo) return;
    if ((entry.macHi | entry.macLo) !== 0) this.#context.counters.neighboursMoved++;
    entry.macHi = macHi;
    entry.macLo = macLo;
  }

  #setReachable(entry: Neighbour, answered: boolean): void {
    this.#leave(entry);
    const { now } = this.#context;
    entry.state = NeighbourState.REACHABLE;
    // Between half and one and a half times, so that hosts do not fall into step (RFC 4861 6.3.2).
    entry.reachableUntil = now + REACHABLE_MS / 2 + ((this.#context.random() >>> 0) % REACHABLE_MS);
    if (answered) entry.answeredAt = now;
  }

  #setStale(entry: Neighbour): void {
    this.#leave(entry);
    entry.state = NeighbourState.STALE;
  }

  /** Ends what the state had begun. */
  #leave(entry: Neighbour): void {
    this.#stopTimer(entry);
    if (entry.state === NeighbourState.DELAY || entry.state === NeighbourState.PROBE) this.doubted--;
    else if (entry.state === NeighbourState.INCOMPLETE) this.#incomplete--;
  }

  #fail(entry: Neighbour): void {
    // First out of the table, so that what is told of its packets cannot find it again.
    const packets = entry.waiting.splice(0);
    this.#waiting -= packets.length;
    this.#free(entry);
    for (const waiting of packets) this.#refuse(waiting, true);
  }

  #dropWaiting(entry: Neighbour, tell: boolean): void {
    const packets = entry.waiting.splice(0);
    this.#waiting -= packets.length;
    for (const waiting of packets) this.#refuse(waiting, tell);
  }

  #refuse({ packet, payload }: Waiting, tell: boolean): void {
    this.#context.counters.drop(Reason.NEIGHBOUR_UNREACHABLE);
    if (tell) this.resolver?.unresolved(packet);
    packet.release();
    payload?.release();
  }

  #free(entry: Neighbour): void {
    this.#leave(entry);
    entry.state = NeighbourState.FREE;
    entry.generation = (entry.generation + 1) & GENERATION_MASK;
    this.#index.remove(entry.index);
  }

  #wait(
    entry: Neighbour,
    packet: HeapBuffer,
    payload: HeapBuffer | null,
    payloadOffset: number,
    payloadLength: number,
  ): void {
    const { counters } = this.#context;
    if (entry.waiting.length >= this.#limits.queued) {
      const oldest = entry.waiting.shift()!;
      this.#waiting--;
      counters.drop(Reason.NEIGHBOUR_QUEUE);
      oldest.packet.release();
      oldest.payload?.release();
    }
    if (this.#waiting >= this.#limits.queuedInAll) {
      counters.drop(Reason.NEIGHBOUR_QUEUE);
      packet.release();
    } else {
      payload?.retain();
      entry.waiting.push({ packet, payload, payloadOffset, payloadLength });
      this.#waiting++;
    }
    if (entry.timer < 0 && entry.solicitations === 0) this.#ask(entry, false);
  }
}
