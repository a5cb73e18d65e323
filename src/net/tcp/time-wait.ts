/**
 * Connections in TIME_WAIT (RFC 9293 3.3.2): of each only what answers its stragglers is kept, as integers in one array.
 * It touches its own arrays, one timer, and the TCP it answers for.
 *
 * A whole connection kept for a minute would be a survivor of every garbage collection until then. Here nothing is
 * allocated for one, and all of them share one timer: they wait for the same time, so that the list is in order of it.
 */
import type { Flow, Timed } from '../flow.ts';
import { Flag, type TcpSegment } from '../wire/tcp.ts';
import type { Connection } from './connection.ts';
import { emitForgotten } from './emit.ts';
import { isInWindow, offerWindow } from './receive.ts';
import type { Tcp } from './tcp.ts';

const FIRST_CAPACITY = 64;

// Words of a record. Links are numbers of records, -1 for none: the next in its bucket, and its neighbours in the list.
const Word = {
  PORTS: 0,
  REMOTE3: 1,
  LOCAL3: 2,
  FAMILY: 3,
  HASH: 4,
  CHAIN: 5,
  OLDER: 6,
  NEWER: 7,
  /** When it ends, in ms. */
  ENDS: 8,
  SND_NXT: 9,
  RCV_NXT: 10,
  RCV_ADV: 11,
  /** The window as the header says it. */
  WINDOW: 12,
  /** 1 where the connection has timestamps. */
  TIMESTAMPS: 13,
  TS_RECENT: 14,
  TS_OFFSET: 15,
  HEARD: 16,
  /** When something unacceptable was last answered, where CHALLENGED is 1. */
  CHALLENGE: 17,
  CHALLENGED: 18,
  // The rest of an IPv6 flow.
  REMOTE0: 19,
  REMOTE1: 20,
  REMOTE2: 21,
  LOCAL0: 22,
  LOCAL1: 23,
  LOCAL2: 24,
  SCOPE: 25,
} as const;
const STRIDE = 26;

export class TimeWait implements Timed {
  size = 0;
  readonly #tcp: Tcp;
  #words = new Int32Array(FIRST_CAPACITY * STRIDE);
  /** First record of each bucket; as many buckets as records. */
  #buckets = new Int32Array(FIRST_CAPACITY).fill(-1);
  /** Records never used yet begin here; those used before are in the list of free ones, linked through CHAIN. */
  #fresh = 0;
  #free = -1;
  #oldest = -1;
  #newest = -1;
  #timer = -1;

  constructor(tcp: Tcp) {
    this.#tcp = tcp;
  }

  /** The record of this flow, -1 for none. */
  find(flow: Flow): number {
    if (this.size === 0) return -1;
    const hash = this.#tcp.table.hash(flow);
    const words = this.#words;
    let record = this.#buckets[hash & (this.#buckets.length - 1)]!;
    while (record >= 0 && !(words[record * STRIDE + Word.HASH] === hash && this.#is(record, flow))) {
      record = words[record * STRIDE + Word.CHAIN]!;
    }
    return record;
  }

  #is(record: number, flow: Flow): boolean {
    const words = this.#words;
    const at = record * STRIDE;
    return (
      words[at + Word.PORTS] === portsOf(flow) &&
      words[at + Word.REMOTE3] === flow.remote3 &&
      words[at + Word.LOCAL3] === flow.local3 &&
      words[at + Word.FAMILY] === flow.family &&
      (flow.family === 4 ||
        (words[at + Word.REMOTE2] === flow.remote2 &&
          words[at + Word.REMOTE1] === flow.remote1 &&
          words[at + Word.REMOTE0] === flow.remote0 &&
          words[at + Word.LOCAL2] === flow.local2 &&
          words[at + Word.LOCAL1] === flow.local1 &&
          words[at + Word.LOCAL0] === flow.local0 &&
          words[at + Word.SCOPE] === flow.scope))
    );
  }

  /** Remembers a connection that has just been taken out of the table. */
  add(c: Connection): void {
    const { flow, tcp } = c;
    const record = this.#take();
    const words = this.#words;
    const at = record * STRIDE;
    const { hash } = c;
    const bucket = hash & (this.#buckets.length - 1);
    words[at + Word.PORTS] = portsOf(flow);
    words[at + Word.REMOTE3] = flow.remote3;
    words[at + Word.LOCAL3] = flow.local3;
    words[at + Word.FAMILY] = flow.family;
    words[at + Word.HASH] = hash;
    words[at + Word.CHAIN] = this.#buckets[bucket]!;
    this.#buckets[bucket] = record;
    words[at + Word.SND_NXT] = c.sndNxt;
    words[at + Word.RCV_NXT] = c.rcvNxt;
    words[at + Word.WINDOW] = offerWindow(c);
    words[at + Word.RCV_ADV] = c.rcvAdv;
    words[at + Word.TIMESTAMPS] = c.tsEnabled ? 1 : 0;
    words[at + Word.TS_RECENT] = c.tsRecent;
    words[at + Word.TS_OFFSET] = c.tsOffset;
    words[at + Word.HEARD] = c.lastHeardMs;
    words[at + Word.CHALLENGE] = c.challengeAt;
    words[at + Word.CHALLENGED] = c.challenged ? 1 : 0;
    if (flow.family === 6) {
      words[at + Word.REMOTE0] = flow.remote0;
      words[at + Word.REMOTE1] = flow.remote1;
      words[at + Word.REMOTE2] = flow.remote2;
      words[at + Word.LOCAL0] = flow.local0;
      words[at + Word.LOCAL1] = flow.local1;
      words[at + Word.LOCAL2] = flow.local2;
      words[at + Word.SCOPE] = flow.scope;
    }
    this.size++;
    tcp.table.countPort(flow.localPort, 1);
    this.#append(record);
  }

  #take(): number {
    const record = this.#free;
    if (record >= 0) {
      this.#free = this.#words[record * STRIDE + Word.CHAIN]!;
      return record;
    }
    if (this.#fresh === this.#buckets.length) this.#grow();
    return this.#fresh++;
  }

  #grow(): void {
    const words = new Int32Array(2 * this.#words.length);
    words.set(this.#words);
    this.#words = words;
    const buckets = new Int32Array(2 * this.#buckets.length).fill(-1);
    this.#buckets = buckets;
    // None is free: each of them is in a bucket.
    for (let record = 0; record < this.#fresh; record++) {
      const at = record * STRIDE;
      const bucket = words[at + Word.HASH]! & (buckets.length - 1);
      words[at + Word.CHAIN] = buckets[bucket]!;
      buckets[bucket] = record;
    }
  }

  /** 2 MSL from now: it is the newest of the list. */
  #append(record: number): void {
    const words = this.#words;
    const at = record * STRIDE;
    const { nowMs, config } = this.#tcp;
    words[at + Word.ENDS] = (nowMs + config.timeWaitMs) | 0;
    words[at + Word.OLDER] = this.#newest;
    words[at + Word.NEWER] = -1;
    if (this.#newest >= 0) words[this.#newest * STRIDE + Word.NEWER] = record;
    else this.#oldest = record;
    this.#newest = record;
    if (this.#timer < 0) this.#arm();
  }

  #unlink(record: number): void {
    const words = this.#words;
    const older = words[record * STRIDE + Word.OLDER]!;
    const newer = words[record * STRIDE + Word.NEWER]!;
    if (older >= 0) words[older * STRIDE + Word.NEWER] = newer;
    else this.#oldest = newer;
    if (newer >= 0) words[newer * STRIDE + Word.OLDER] = older;
    else this.#newest = older;
  }

  /** Its time is over, or another connection takes its place. */
  remove(record: number): void {
    const words = this.#words;
    const at = record * STRIDE;
    const next = words[at + Word.CHAIN]!;
    const bucket = words[at + Word.HASH]! & (this.#buckets.length - 1);
    let before = this.#buckets[bucket]!;
    if (before === record) this.#buckets[bucket] = next;
    else {
      while (words[before * STRIDE + Word.CHAIN] !== record) before = words[before * STRIDE + Word.CHAIN]!;
      words[before * STRIDE + Word.CHAIN] = next;
    }
    this.#unlink(record);
    words[at + Word.CHAIN] = this.#free;
    this.#free = record;
    this.size--;
    this.#tcp.table.countPort(words[at + Word.PORTS]! & 0xffff, -1);
    if (this.size === 0) this.#disarm();
  }

  /** Forgets all of them. */
  clear(): void {
    while (this.#oldest >= 0) this.remove(this.#oldest);
  }

  #arm(): void {
    const { timers } = this.#tcp;
    this.#timer = timers.schedule(this.#tcp.deadline(this.#words[this.#oldest * STRIDE + Word.ENDS]!), this);
  }

  #disarm(): void {
    if (this.#timer >= 0) this.#tcp.timers.cancel(this.#timer);
    this.#timer = -1;
  }

  /** The oldest may be due; one that was heard of again has moved to the end since. */
  expired(): void {
    this.#timer = -1;
    const { nowMs } = this.#tcp;
    while (this.#oldest >= 0 && ((this.#words[this.#oldest * STRIDE + Word.ENDS]! - nowMs) | 0) <= 0) {
      this.remove(this.#oldest);
    }
    if (this.#oldest >= 0) this.#arm();
  }

  /** A new connection of ours may take its place when timestamps tell old segments from new ones (RFC 6191, RFC 7323). */
  mayReplace(record: number): boolean {
    const at = record * STRIDE;
    const quiet = (this.#tcp.nowMs - this.#words[at + Word.HEARD]!) | 0;
    return this.#words[at + Word.TIMESTAMPS] === 1 && quiet >= 1000;
  }

  /** True for a SYN that is certainly newer than the connection (RFC 9293 3.6.1, RFC 6191). */
  isNewer(record: number, segment: TcpSegment): boolean {
    if ((segment.flags & (Flag.SYN | Flag.RST | Flag.ACK)) !== Flag.SYN) return false;
    const at = record * STRIDE;
    const words = this.#words;
    const tsRecent = words[at + Word.TS_RECENT]!;
    if (words[at + Word.TIMESTAMPS] === 1 && segment.hasTimestamps && segment.tsVal !== tsRecent) {
      return ((segment.tsVal - tsRecent) | 0) > 0;
    }
    return ((segment.seq - words[at + Word.RCV_NXT]!) | 0) > 0;
  }

  /** Removes it for a connection in its place; gives the least initial sequence number of that one. */
  replace(record: number): number {
    const leastIss = (this.#words[record * STRIDE + Word.SND_NXT]! + 65537) | 0;
    this.#tcp.counters.timeWaitReused++;
    this.remove(record);
    return leastIss;
  }

  /** RFC 9293 3.10.7.4 in TIME_WAIT: the peer's FIN again is acknowledged again, and 2 MSL begin again. */
  arrives(record: number, segment: TcpSegment, flow: Flow): void {
    const { counters, nowMs } = this.#tcp;
    const words = this.#words;
    const at = record * STRIDE;
    const { flags } = segment;
    const reset = (flags & Flag.RST) !== 0;
    if (words[at + Word.TIMESTAMPS] === 1 && !reset) {
      if (!segment.hasTimestamps) return;
      if (((segment.tsVal - words[at + Word.TS_RECENT]!) | 0) < 0) {
        counters.pawsRejected++;
        this.#answer(at, flow);
        return;
      }
    }
    const fin = (flags & Flag.FIN) !== 0;
    if (!this.#inWindow(at, segment)) {
      if (reset) return;
      counters.outOfWindow++;
      if (fin) this.#again(record);
      this.#answer(at, flow);
      return;
    }
    words[at + Word.HEARD] = nowMs;
    if (reset) {
      // RFC 1337: a reset does not end it.
      if (segment.seq === words[at + Word.RCV_NXT]) return;
      counters.badResets++;
      this.#answer(at, flow);
      return;
    }
    const ahead = ((segment.ack - words[at + Word.SND_NXT]!) | 0) > 0;
    if ((flags & Flag.SYN) !== 0 || ((flags & Flag.ACK) !== 0 && (ahead || fin))) {
      if (fin && !ahead) this.#again(record);
      this.#answer(at, flow);
    }
  }

  #inWindow(at: number, { seq, length }: TcpSegment): boolean {
    const words = this.#words;
    const window = (words[at + Word.RCV_ADV]! - words[at + Word.RCV_NXT]!) | 0;
    return isInWindow((seq - words[at + Word.RCV_NXT]!) | 0, length, window);
  }

  #again(record: number): void {
    this.#unlink(record);
    this.#append(record);
  }

  /** An acknowledgement; at most one per interval, as on a connection (RFC 5961 section 7). */
  #answer(at: number, flow: Flow): void {
    const tcp = this.#tcp;
    const words = this.#words;
    const since = (tcp.nowMs - words[at + Word.CHALLENGE]!) | 0;
    if (words[at + Word.CHALLENGED] === 1 && since < tcp.config.challengeIntervalMs) {
      tcp.counters.challengesSuppressed++;
      return;
    }
    words[at + Word.CHALLENGED] = 1;
    words[at + Word.CHALLENGE] = tcp.nowMs;
    tcp.counters.challengeAcks++;
    const tsVal = (tcp.nowMs + words[at + Word.TS_OFFSET]!) | 0;
    const timestamps = words[at + Word.TIMESTAMPS] === 1;
    const window = words[at + Word.WINDOW]!;
    const seq = words[at + Word.SND_NXT]!;
    emitForgotten(tcp, flow, seq, words[at + Word.RCV_NXT]!, window, timestamps, tsVal, words[at + Word.TS_RECENT]!);
  }
}

function portsOf(flow: Flow): number {
  return (flow.remotePort << 16) | flow.localPort;
}
