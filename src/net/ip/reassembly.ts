/**
 * Fragments put together again (RFC 791 3.2, RFC 8200 4.5). It keeps the fragments' own buffers until all are there,
 * then copies them once into one packet, which looks as if it had never been in pieces.
 *
 * Bounded in datagrams, in fragments of each and in all, and in time. An overlap gives the whole datagram up, with what
 * is still to come of it (RFC 5722); an exact duplicate is passed over. At a bound the oldest datagram gives way.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { NetContext } from '../context.ts';
import type { Timed } from '../flow.ts';
import { checksum } from '../wire/checksum.ts';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.ts';
import { Reason } from '../wire/reason.ts';

export interface ReassemblyLimits {
  readonly datagrams: number;
  /** Fragments of one datagram. A datagram of 64 KiB over an MTU of 1280 has 53. */
  readonly fragments: number;
  /** Fragments held in all. */
  readonly held: number;
  /** From the first fragment's arrival. RFC 8200 4.5 has 60 s; RFC 1122 3.3.2 asks for 60 to 120 s, Linux has 30. */
  readonly timeoutMs: number;
}

export const DEFAULT_REASSEMBLY_LIMITS: ReassemblyLimits = {
  datagrams: 64,
  fragments: 64,
  held: 512,
  timeoutMs: 60_000,
};

/** What a fragment says of itself. One object, filled in for each fragment. */
export class FragmentInfo {
  family = 4;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** 0 for IPv6: there it is not part of the datagram's name (RFC 8200 4.5). */
  protocol = 0;
  identification = 0;
  offset = 0;
  more = false;
  /** Start of the IP packet, and what comes before the data without the fragment header. */
  packetAt = 0;
  headerLength = 0;
  /** Of IPv6, from the packet's start: the byte that names the fragment header; and what that header names. */
  nameOffset = 0;
  nextHeader = 0;
  dataAt = 0;
  dataLength = 0;
}

class Datagram implements Timed {
  readonly owner: Reassembly;
  used = false;
  family = 0;
  readonly key = new Int32Array(10);
  /** Given up: what still comes is dropped. */
  spoiled = false;
  /** Length of all the data; -1 until the last fragment is here. */
  total = -1;
  bytes = 0;
  count = 0;
  startedAt = 0;
  timer = -1;
  /** In order of their offsets. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly data: Int32Array;
  readonly buffers: (HeapBuffer | null)[] = [];
  /** Of the first fragment's packet. */
  packetAt = 0;
  headerLength = 0;
  nameOffset = 0;
  nextHeader = 0;

  constructor(owner: Reassembly, fragments: number) {
    this.owner = owner;
    this.starts = new Int32Array(fragments);
    this.ends = new Int32Array(fragments);
    this.data = new Int32Array(fragments);
  }

  expired(): void {
    this.timer = -1;
    this.owner.timedOut(this);
  }
}

export class Reassembly {
  /**
   * Called when time ran out for a datagram whose first fragment is here (RFC 1122 3.3.2, RFC 8200 4.5): `packet` is
   * that fragment's buffer, borrowed, and its IP packet begins at `at`.
   */
  onTimeout: ((packet: HeapBuffer, at: number, family: number) => void) | null = null;
  readonly #context: NetContext;
  readonly #limits: ReassemblyLimits;
  readonly #datagrams: Datagram[] = [];
  #held = 0;
  readonly #wanted = new Int32Array(10);

  constructor(context: NetContext, limits: ReassemblyLimits = DEFAULT_REASSEMBLY_LIMITS) {
    this.#context = context;
    this.#limits = limits;
    for (let i = 0; i < limits.datagrams; i++) this.#datagrams.push(new Datagram(this, limits.fragments));
  }

  /** Fragments held. */
  get held(): number {
    return this.#held;
  }

  /** Datagrams under way, those given up included. */
  get datagrams(): number {
    return this.#datagrams.reduce((count, datagram) => count + (datagram.used ? 1 : 0), 0);
  }

  /** Takes a fragment (`packet` is borrowed); gives the whole IP packet, with one reference, when this was the last. */
  add(packet: HeapBuffer, info: FragmentInfo): HeapBuffer | null {
    const { counters } = this.#context;
    const end = info.offset + info.dataLength;
    counters.fragmentsIn++;
    // IPv6 counts its first 40 bytes in no length.
    const counted = info.headerLength + end - (info.family === 4 ? 0 : IPV6_HEADER_BYTES);
    if (info.dataLength === 0 || (info.more && (info.dataLength & 7) !== 0) || counted > 65535) {
      counters.drop(Reason.FRAGMENT_LENGTH);
      return null;
    }
    const datagram = this.#find(info) ?? this.#begin(info);
    if (datagram.spoiled) {
      counters.drop(Reason.FRAGMENT_OVERLAP);
      return null;
    }
    const reason = this.#insert(datagram, packet, info, end);
    if (reason !== Reason.OK) {
      counters.drop(reason);
      if (reason !== Reason.FRAGMENT_DUPLICATE) this.#spoil(datagram);
      return null;
    }
    if (datagram.bytes !== datagram.total) return null;
    const whole = this.#join(datagram);
    this.#end(datagram);
    if (whole !== null) counters.reassembled++;
    return whole;
  }

  dispose(): void {
    for (const datagram of this.#datagrams) if (datagram.used) this.#end(datagram);
  }

  timedOut(datagram: Datagram): void {
    const first = datagram.count > 0 && datagram.starts[0] === 0 ? datagram.buffers[0]! : null;
    this.#context.counters.drop(Reason.FRAGMENT_TIMEOUT);
    if (first !== null) this.onTimeout?.(first, datagram.packetAt, datagram.family);
    this.#end(datagram);
  }

  #find(info: FragmentInfo): Datagram | null {
    const wanted = this.#wanted;
    wanted[0] = info.source0;
    wanted[1] = info.source1;
    wanted[2] = info.source2;
    wanted[3] = info.source3;
    wanted[4] = info.destination0;
    wanted[5] = info.destination1;
    wanted[6] = info.destination2;
    wanted[7] = info.destination3;
    wanted[8] = info.identification;
    wanted[9] = info.protocol;
    for (const datagram of this.#datagrams) {
      if (!datagram.used || datagram.family !== info.family) continue;
      const { key } = datagram;
      let i = 9;
      while (i >= 0 && key[i] === wanted[i]) i--;
      if (i < 0) return datagram;
    }
    return null;
  }

  /** A new datagram, named as the one last looked for. */
  #begin(info: FragmentInfo): Datagram {
    const datagram = this.#datagrams.find((candidate) => !candidate.used) ?? this.#giveWay(null)!;
    datagram.used = true;
    datagram.family = info.family;
    datagram.key.set(this.#wanted);
    datagram.spoiled = false;
    datagram.total = -1;
    datagram.bytes = 0;
    datagram.count = 0;
    datagram.startedAt = this.#context.now;
    datagram.timer = this.#context.timers.schedule(this.#context.now + this.#limits.timeoutMs, datagram);
    return datagram;
  }

  /** Frees the oldest datagram, other than `except`. */
  #giveWay(except: Datagram | null): Datagram | null {
    let oldest: Datagram | null = null;
    for (const datagram of this.#datagrams) {
      if (!datagram.used || datagram === except || (except !== null && datagram.count === 0)) continue;
      if (oldest === null || datagram.startedAt < oldest.startedAt) oldest = datagram;
    }
    if (oldest !== null) {
      this.#context.counters.drop(Reason.FRAGMENT_LIMIT);
      this.#end(oldest);
    }
    return oldest;
  }

  #insert(datagram: Datagram, packet: HeapBuffer, info: FragmentInfo, end: number): Reason {
    const { starts, ends, buffers, data } = datagram;
    // The end is where the last fragment says it is, and nothing lies beyond it.
    const last = datagram.count > 0 ? ends[datagram.count - 1]! : 0;
    if (!info.more) {
      if (datagram.total >= 0 ? datagram.total !== end : last > end) return Reason.FRAGMENT_OVERLAP;
    } else if (datagram.total >= 0 && end >= datagram.total) return Reason.FRAGMENT_OVERLAP;

    let at = datagram.count;
    while (at > 0 && starts[at - 1]! >= info.offset) at--;
    // Here: starts[at - 1] < offset <= starts[at].
    if (at < datagram.count && starts[at] === info.offset && ends[at] === end) {
      const other = buffers[at]!;
      return sameBytes(other.memory, data[at]!, packet.memory, info.dataAt, info.dataLength)
        ? Reason.FRAGMENT_DUPLICATE
        : Reason.FRAGMENT_OVERLAP;
    }
    if (at > 0 && ends[at - 1]! > info.offset) return Reason.FRAGMENT_OVERLAP;
    if (at < datagram.count && starts[at]! < end) return Reason.FRAGMENT_OVERLAP;
    if (datagram.count >= this.#limits.fragments) return Reason.FRAGMENT_LIMIT;
    while (this.#held >= this.#limits.held) if (this.#giveWay(datagram) === null) return Reason.FRAGMENT_LIMIT;

    starts.copyWithin(at + 1, at, datagram.count);
    ends.copyWithin(at + 1, at, datagram.count);
    data.copyWithin(at + 1, at, datagram.count);
    buffers.splice(at, 0, packet.retain());
    starts[at] = info.offset;
    ends[at] = end;
    data[at] = info.dataAt;
    datagram.count++;
    datagram.bytes += info.dataLength;
    this.#held++;
    if (!info.more) datagram.total = end;
    if (info.offset === 0) {
      datagram.packetAt = info.packetAt;
      datagram.headerLength = info.headerLength;
      datagram.nameOffset = info.nameOffset;
      datagram.nextHeader = info.nextHeader;
    }
    return Reason.OK;
  }

  /** One packet: the first fragment's headers, without any sign of fragments, and all the data. */
  #join(datagram: Datagram): HeapBuffer | null {
    const { headerLength, packetAt, starts, ends, data, buffers, count, total } = datagram;
    const length = headerLength + total;
    // Only the first fragment says how long its headers are; together they may be too long after all.
    if ((datagram.family === 4 ? length : length - IPV6_HEADER_BYTES) > 65535) {
      this.#context.counters.drop(Reason.FRAGMENT_LENGTH);
      return null;
    }
    const whole = this.#context.alloc(length);
    if (whole === null) return null;
    const { memory, view, offset } = whole;
    copy(memory, offset, buffers[0]!.memory, packetAt, headerLength);
    for (let i = 0; i < count; i++) {
      copy(memory, offset + headerLength + starts[i]!, buffers[i]!.memory, data[i]!, ends[i]! - starts[i]!);
    }
    if (datagram.family === 4) {
      view.setUint16(offset + 2, length);
      view.setUint16(offset + 6, 0);
      view.setUint16(offset + 10, 0);
      view.setUint16(offset + 10, ~checksum(view, offset, headerLength) & 0xffff);
    } else {
      view.setUint16(offset + 4, length - IPV6_HEADER_BYTES);
      memory[offset + datagram.nameOffset] = datagram.nextHeader;
    }
    return whole;
  }

  /** Gives up what is here, and remembers the name until its time is over. */
  #spoil(datagram: Datagram): void {
    this.#releaseAll(datagram);
    datagram.spoiled = true;
  }

  #end(datagram: Datagram): void {
    if (datagram.timer >= 0) this.#context.timers.cancel(datagram.timer);
    datagram.timer = -1;
    this.#releaseAll(datagram);
    datagram.used = false;
  }

  #releaseAll(datagram: Datagram): void {
    for (const buffer of datagram.buffers.splice(0)) buffer!.release();
    this.#held -= datagram.count;
    datagram.count = 0;
    datagram.bytes = 0;
  }
}

function copy(to: Uint8Array, at: number, from: Uint8Array, start: number, length: number): void {
  if (to === from) to.copyWithin(at, start, start + length);
  else to.set(from.subarray(start, start + length), at);
}

function sameBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}
