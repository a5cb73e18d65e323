/**
 * The `memory` datapath: streams and datagrams between processes of one host, through memory that they share.
 * It owns its links, the names it holds, an epoll descriptor and its heap; on the path of a message is no system call.
 *
 * A name such as `memory:lab` is a small host of its own, with ports and paths. Whoever opens it can listen there and
 * connect to what others listen on. Two datapaths that talk share one memory file, with a ring in each direction for the
 * messages of all their connections (docs/design/memory.md).
 */

import { ERRNO, systemError } from '../errors.ts';
import { type Datapath, type DatapathWatch, type Family, SocketType } from '../kernel/datapath.ts';
import { watchDescriptor } from '../linux/watch.ts';
import type { Heap, HeapBuffer, HeapOptions } from '../ring/heap.ts';
import { EndTable } from './ends/table.ts';
import { mapHeap } from './heap.ts';
import { DatagramEnd } from './memory/datagram.ts';
import { Datagrams } from './memory/datagrams.ts';
import type { Hub, Place, Seeker } from './memory/hub.ts';
import { DATAGRAM_CREDIT_STEP, DATAGRAM_SLOT, KIND_SHIFT, Kind, MAX_NAME, SLOT_MASK, SLOTS } from './memory/layout.ts';
import { type Link, protocolError } from './memory/link.ts';
import { type Claim, claimPath, claimPort, type NameSpace } from './memory/names.ts';
import { Rendezvous } from './memory/rendezvous.ts';
import { readName, StreamEnd } from './memory/stream.ts';

export interface MemoryOptions {
  readonly heap?: HeapOptions;
  /** Unsent bytes of one queue above which a push waits, beyond the 64 KiB under way. Default 1 MiB. */
  readonly sendLimit?: number;
  /**
   * Microseconds to look for arrivals before sleeping in the kernel. Default 50. A message that comes meanwhile is seen
   * within a fraction of one; a sleeper must be woken, which takes some five, and the sender a system call.
   */
  readonly spinUs?: number;
}

const NAME = /^[\w.-]{1,32}$/;
const DEFAULT_SPIN_US = 50;
/** Polls between two looks at the sockets while messages keep coming. */
const LOOK_EVERY = 64;
/** Milliseconds until a pop is tried again that found the heap used up, if nothing else happens before. */
const STARVED_MS = 5;
/** Looks for arrivals between two readings of the clock. */
const LOOKS = 64;
const EPHEMERAL = { first: 32768, count: 28232 };

// The global `performance` is a getter in Node.
const clock = performance;

/**
 * Opens `memory:NAME`.
 * @param spec what stands after `memory:`: NAME (letters, digits, `_`, `.`, `-`; at most 32), then perhaps `,spin=US`
 * @throws IsthmusError EINVAL for a name that is none; as mmap(2), epoll_create(2), eventfd(2)
 */
export function openMemory(spec: string, options: MemoryOptions = {}): MemoryDatapath {
  const [name = '', ...settings] = spec.split(',');
  let { spinUs } = options;
  for (const setting of settings) {
    const match = /^spin=(\d{1,7})$/.exec(setting);
    if (match === null) throw systemError(ERRNO.EINVAL, 'datapath', `'memory:${spec}'`, `'${setting}' is no setting`);
    spinUs = Number(match[1]);
  }
  return new MemoryDatapath(name, spinUs === undefined ? options : { ...options, spinUs });
}

export class MemoryDatapath extends EndTable<StreamEnd | DatagramEnd> implements Datapath, Hub {
  readonly name = 'memory';
  readonly heap: Heap;
  readonly sendLimit: number;
  draining = 0;
  lostDatagrams = 0;
  /** Links that were ended because the peer broke the protocol; the last reason. */
  brokenLinks = 0;
  lastBroken: Error | null = null;
  readonly #network: string;
  readonly #spinMs: number;
  readonly #rendezvous: Rendezvous;
  readonly #datagrams: Datagrams;
  readonly #links: Link[] = [];
  /** Listeners by their names. */
  readonly #listeners = new Map<string, StreamEnd>();
  readonly #touched: StreamEnd[] = [];
  #starved: StreamEnd[] = [];
  /** The peers have been told to ring. */
  #armed = false;
  /** Polls that did not look at the sockets. */
  #unlooked = 0;
  /** Which link is polled first. */
  #turn = 0;
  #nextPort = EPHEMERAL.first + Math.floor(Math.random() * EPHEMERAL.count);
  #retry: ReturnType<typeof setTimeout> | null = null;
  #onReadable: () => void = () => {};
  readonly #sendDatagram = (_: DatagramEnd, buffer: HeapBuffer, from: number, to: number): void =>
    this.#datagrams.send(buffer, from, to);

  /** @throws IsthmusError EINVAL for a name that is none */
  constructor(network: string, options: MemoryOptions = {}) {
    super();
    if (!NAME.test(network)) {
      throw systemError(ERRNO.EINVAL, 'datapath', `'memory:${network}'`, 'a name is 1 to 32 letters, digits, _ . -');
    }
    this.#network = network;
    this.sendLimit = options.sendLimit ?? 1 << 20;
    this.#spinMs = (options.spinUs ?? DEFAULT_SPIN_US) / 1000;
    this.heap = mapHeap(options.heap);
    this.#rendezvous = new Rendezvous(network, {
      linked: (link) => this.#links.push(link),
      ending: (link) => {
        link.ending = true;
      },
    });
    this.#datagrams = new Datagrams(this);
  }

  // ---- Queues --------------------------------------------------------------------------------------------------

  socket(qd: number, family: Family, type: SocketType): void {
    this.adopt(
      qd,
      type === SocketType.STREAM ? new StreamEnd(this, family) : new DatagramEnd(this, family, this.#sendDatagram),
    );
  }

  // ---- The turn ------------------------------------------------------------------------------------------------

  poll(budget: number): number {
    const links = this.#links;
    if (this.#armed) this.#disarm();
    if (this.#starved.length > 0) this.#feed();
    let did = 0;
    if (links.length === 1) did = this.#take(links[0]!, budget);
    else {
      // Each time another one is first, so that none has the whole budget for ever.
      const first = this.#turn++;
      for (let i = 0; i < links.length && did < budget; i++) {
        did += this.#take(links[(first + i) % links.length]!, budget - did);
      }
    }
    if (did === 0 || ++this.#unlooked >= LOOK_EVERY) {
      this.#unlooked = 0;
      for (let i = 0; i < links.length; i++) links[i]!.tellRoom();
      did += this.#rendezvous.events(0);
    }
    for (let i = links.length - 1; i >= 0; i--) {
      const link = links[i]!;
      if (link.broken !== null || (link.ending && link.arrivals() === 0)) this.#finish(link);
    }
    this.#serve();
    return did;
  }

  #take(link: Link, budget: number): number {
    if (!link.stirred) return 0;
    const arrived = Math.min(link.arrivals(), budget);
    if (arrived === 0 || link.broken !== null) return 0;
    const { i32 } = link;
    let taken = 0;
    while (taken < arrived) {
      const at = link.messageAt(taken++);
      if (!this.#message(link, i32[at]!, i32[at + 1]!, i32[at + 2]!, i32[at + 3]!)) {
        link.broken ??= protocolError(`message ${i32[at]! >>> KIND_SHIFT} about ${i32[at]! & SLOT_MASK}`);
        break;
      }
    }
    link.release(taken);
    return taken;
  }

  /** One message, whose words were read once. False where it cannot be. */
  #message(link: Link, word0: number, word1: number, word2: number, word3: number): boolean {
    const kind = word0 >>> KIND_SHIFT;
    const slot = word0 & SLOT_MASK;
    if (slot < SLOTS) {
      const end = link.ends[slot]!;
      if (end === null) return kind === Kind.OPEN && this.#opens(link, slot, word1, word2);
      switch (kind) {
        case Kind.DATA:
          return end.dataArrived(word1, word2, word3);
        case Kind.CREDIT:
          return end.creditArrived(word2);
        case Kind.ANSWER:
          return end.answerArrived(word1);
        case Kind.FIN:
          return end.finArrived();
        case Kind.RESET:
          return end.resetArrived();
        case Kind.GONE:
          return end.goneArrived();
        default:
          return false;
      }
    }
    if (slot !== DATAGRAM_SLOT) return false;
    if (kind === Kind.DATAGRAM) return this.#datagrams.arrived(link, word1, word2, word3);
    if (kind === Kind.CREDIT) return this.#datagrams.credit(link, word1);
    if (kind !== Kind.UNREACHABLE) return false;
    this.#datagrams.unreachable(link, word3);
    return true;
  }

  #opens(link: Link, slot: number, nameBytes: number, port: number): boolean {
    if (!link.peerMayOpen(slot) || nameBytes < 1 || nameBytes > MAX_NAME) return false;
    const name = readName(link, slot, nameBytes);
    const refused = this.#listeners.get(name)?.arrives(link, slot, name, port) ?? ERRNO.ECONNREFUSED;
    if (refused !== 0) link.refuse(slot, refused);
    return true;
  }

  #serve(): void {
    const touched = this.#touched;
    for (let i = 0; i < touched.length; i++) {
      const end = touched[i]!;
      end.touched = false;
      end.serve();
    }
    touched.length = 0;
  }

  #feed(): void {
    const starved = this.#starved;
    this.#starved = [];
    for (const end of starved) end.serve();
  }

  submit(waitUs: number): void {
    const progress = this.flush();
    if (waitUs !== 0 && progress === 0 && this.#touched.length === 0) this.#sleep(waitUs);
  }

  /** Everything that was sent becomes visible. @returns how many streams that waited for room had their way */
  flush(): number {
    const links = this.#links;
    let progress = 0;
    for (let i = 0; i < links.length; i++) {
      const link = links[i]!;
      if (link.waitsForRoom) progress += link.unblock();
      this.#datagrams.retry(link);
      if (link.datagramOwed >= DATAGRAM_CREDIT_STEP) link.tellDatagrams();
      link.publish();
    }
    return progress;
  }

  /** Looks for arrivals for a while, then sleeps in the kernel until somebody rings. */
  #sleep(waitUs: number): void {
    const limitMs = waitUs < 0 ? Number.POSITIVE_INFINITY : waitUs / 1000;
    const spinMs = Math.min(this.#spinMs, limitMs);
    if (spinMs > 0 && this.#spin(spinMs)) return;
    if (limitMs <= spinMs || !this.arm()) return;
    let ms = waitUs < 0 ? -1 : Math.ceil(limitMs - spinMs);
    if (this.#starved.length > 0 && (ms < 0 || ms > STARVED_MS)) ms = STARVED_MS;
    this.#rendezvous.events(ms);
    this.#disarm();
    // A name that was found has messages sent, and the host may go to sleep elsewhere now.
    this.flush();
  }

  /** Whether something came within the time. The clock is read after so many looks, since it takes as long as many of them. */
  #spin(spinMs: number): boolean {
    for (let i = 0; i < LOOKS; i++) if (this.arrived) return true;
    const end = clock.now() + spinMs;
    do {
      for (let i = 0; i < LOOKS; i++) if (this.arrived) return true;
    } while (clock.now() < end);
    return false;
  }

  get arrived(): boolean {
    const links = this.#links;
    for (let i = 0; i < links.length; i++) if (links[i]!.stirred) return true;
    return this.#touched.length > 0;
  }

  watch(onReadable: () => void): DatapathWatch {
    this.#onReadable = onReadable;
    return watchDescriptor(this.#rendezvous.epoll.fd, onReadable);
  }

  arm(): boolean {
    let busy = this.flush() > 0 || this.#touched.length > 0;
    for (const link of this.#links) {
      link.sleep();
      link.tellRoom();
      busy ||= link.ready();
    }
    this.#armed = true;
    if (busy) {
      this.#disarm();
      return false;
    }
    if (this.#starved.length > 0 && this.#retry === null) {
      this.#retry = setTimeout(() => {
        this.#retry = null;
        this.#onReadable();
      }, STARVED_MS);
    }
    return true;
  }

  #disarm(): void {
    this.#armed = false;
    for (const link of this.#links) link.awake();
  }

  dispose(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.closeAll();
    for (const link of this.#links) link.publish();
    for (const link of [...this.#links]) this.#finish(link);
    this.#serve();
    this.#datagrams.dispose();
    this.#rendezvous.dispose();
    this.heap.region.close();
  }

  // ---- For the ends --------------------------------------------------------------------------------------------

  touch(end: StreamEnd): void {
    end.touched = true;
    this.#touched.push(end);
  }

  starve(end: StreamEnd): void {
    if (!this.#starved.includes(end)) this.#starved.push(end);
  }

  claimPort(spaces: readonly NameSpace[], port: number, shared: boolean, about: string) {
    return claimPort(this.#network, spaces, port, shared, about);
  }

  claimPath(path: string): Claim {
    return claimPath(this.#network, path);
  }

  announce(claims: readonly Claim[], owner: StreamEnd | null): void {
    for (const claim of claims) {
      this.#rendezvous.listen(claim);
      if (owner !== null) this.#listeners.set(claim.name, owner);
    }
  }

  release(claims: readonly Claim[]): void {
    for (const claim of claims) {
      this.#rendezvous.release(claim);
      this.#listeners.delete(claim.name);
    }
  }

  receive(key: number, end: DatagramEnd | null): void {
    this.#datagrams.receive(key, end);
  }

  known(name: string): Place | undefined {
    return this.#rendezvous.known(name);
  }

  unknown(name: string, fullName: string): void {
    this.#rendezvous.unknown(name, fullName);
  }

  seek(name: string, seeker: Seeker): void {
    this.#rendezvous.seek(name, seeker);
  }

  ephemeral(): number {
    const port = this.#nextPort++;
    if (this.#nextPort >= EPHEMERAL.first + EPHEMERAL.count) this.#nextPort = EPHEMERAL.first;
    return port;
  }

  // ---- The end of a link ---------------------------------------------------------------------------------------

  #finish(link: Link): void {
    if (link.broken !== null) {
      this.brokenLinks++;
      this.lastBroken = link.broken;
    }
    this.#links.splice(this.#links.indexOf(link), 1);
    this.#rendezvous.forget(link);
    link.finish();
    this.#datagrams.lost(link);
    if (link.open > 0) for (const end of link.ends) end?.lost();
    if (link.open === 0) link.memory.close();
  }

  detached(link: Link): void {
    if (!link.alive && link.open === 0) link.memory.close();
  }
}
