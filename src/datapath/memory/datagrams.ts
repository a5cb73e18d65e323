/**
 * All datagrams of one datapath: which link leads to which name, and which socket a name of ours means.
 * It touches the datagrams' windows of the links it is given, and looks for names through its datapath.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import { LONGEST } from '../ends/datagram-setup.ts';
import { Fifo } from '../ends/fifo.ts';
import { copyIntoWindow } from './copy.ts';
import { type DatagramEnd, datagramKey, portKey } from './datagram.ts';
import type { Hub } from './hub.ts';
import { DATAGRAM_CREDIT_STEP, DATAGRAM_SLOT, DATAGRAM_WINDOW, datagramOffset, Kind } from './layout.ts';
import type { Link } from './link.ts';
import { portName } from './names.ts';

/** Datagrams that wait for a name to be found, or for room; the next is lost. */
const MOST_WAITING = 256;

interface Route {
  readonly link: Link;
  /** The receiver's name with its share. */
  readonly key: number;
}

interface Held {
  readonly buffer: HeapBuffer;
  readonly from: number;
}

/** Bytes of the window that a datagram takes: whole words, so that copies are of words. */
export function windowBytes(bytes: number): number {
  return (bytes + 7) & ~7;
}

export class Datagrams {
  readonly #hub: Hub;
  readonly #sockets = new Map<number, DatagramEnd>();
  readonly #routes = new Map<number, Route>();
  readonly #sought = new Map<number, Fifo<Held>>();
  /** By link: datagrams that found its window or its ring full. */
  readonly #crowded = new Map<Link, Fifo<Held & { readonly to: number }>>();
  #waiting = 0;

  constructor(hub: Hub) {
    this.#hub = hub;
  }

  /** Which socket gets what is sent to this name. */
  receive(key: number, end: DatagramEnd | null): void {
    if (end === null) this.#sockets.delete(key);
    else this.#sockets.set(key, end);
  }

  // ---- Sending -------------------------------------------------------------------------------------------------

  /** Takes over the buffer's reference. */
  send(buffer: HeapBuffer, from: number, to: number): void {
    const route = this.#routes.get(to);
    if (route === undefined) this.#seek(buffer, from, to);
    else if (this.#crowded.size > 0 && this.#crowded.has(route.link)) this.#hold(route.link, buffer, from, route.key);
    else if (this.#put(route.link, buffer, from, route.key)) buffer.release();
    else this.#hold(route.link, buffer, from, route.key);
  }

  #put(link: Link, buffer: HeapBuffer, from: number, to: number): boolean {
    const { length } = buffer;
    const taken = windowBytes(length);
    if (taken > DATAGRAM_WINDOW - link.datagramUnacked || !link.alive) return false;
    const base = datagramOffset(link.end);
    const sent = link.datagramSent;
    copyIntoWindow(buffer.heap.region, buffer.offset, link.memory, base, DATAGRAM_WINDOW, sent, length);
    if (!link.send(Kind.DATAGRAM, DATAGRAM_SLOT, length, from, to)) return false;
    link.datagramSent = (sent + taken) | 0;
    link.datagramUnacked += taken;
    return true;
  }

  #hold(link: Link, buffer: HeapBuffer, from: number, to: number): void {
    if (!link.alive || !this.#mayWait(buffer)) return;
    let held = this.#crowded.get(link);
    if (held === undefined) {
      held = new Fifo();
      this.#crowded.set(link, held);
    }
    held.push({ buffer, from, to });
  }

  #mayWait(buffer: HeapBuffer): boolean {
    if (this.#waiting < MOST_WAITING) {
      this.#waiting++;
      return true;
    }
    this.#hub.lostDatagrams++;
    buffer.release();
    return false;
  }

  /** There may be room on the link again. */
  retry(link: Link): void {
    const held = this.#crowded.get(link);
    if (held === undefined) return;
    while (held.length > 0) {
      const { buffer, from, to } = held.at(0);
      if (link.alive && !this.#put(link, buffer, from, to)) return;
      held.shift();
      this.#waiting--;
      buffer.release();
    }
    this.#crowded.delete(link);
  }

  #seek(buffer: HeapBuffer, from: number, to: number): void {
    if (!this.#mayWait(buffer)) return;
    let held = this.#sought.get(to);
    if (held !== undefined) {
      held.push({ buffer, from });
      return;
    }
    held = new Fifo();
    held.push({ buffer, from });
    this.#sought.set(to, held);
    this.#hub.seek(portName(to >> 16 === 6 ? 'd6' : 'd4', to & 0xffff), {
      found: (link, name) => {
        const share = name.indexOf('#');
        const key = datagramKey(to >> 16, to & 0xffff, share < 0 ? -1 : Number(name.slice(share + 1)));
        this.#routes.set(to, { link, key });
        this.#found(to, (each) => this.send(each.buffer, each.from, to));
      },
      missing: () => {
        this.#found(to, ({ buffer: lost }) => {
          this.#hub.lostDatagrams++;
          lost.release();
        });
      },
    });
  }

  #found(to: number, then: (held: Held) => void): void {
    const held = this.#sought.get(to);
    this.#sought.delete(to);
    while (held !== undefined && held.length > 0) {
      this.#waiting--;
      then(held.shift());
    }
  }

  // ---- Receiving -----------------------------------------------------------------------------------------------

  /** A datagram stands in the link's window. False: the peer says what cannot be. */
  arrived(link: Link, bytes: number, from: number, to: number): boolean {
    const taken = windowBytes(bytes);
    if (bytes < 0 || bytes > LONGEST || taken > DATAGRAM_WINDOW - link.datagramOwed) return false;
    const end = this.#sockets.get(to);
    if (end === undefined) {
      this.#hub.lostDatagrams++;
      link.send(Kind.UNREACHABLE, DATAGRAM_SLOT, 0, 0, to);
    } else if (!end.arrives(link, bytes, from)) this.#hub.lostDatagrams++;
    link.datagramConsumed(taken, DATAGRAM_CREDIT_STEP);
    return true;
  }

  /** The peer has copied datagrams out of our window. */
  credit(link: Link, bytes: number): boolean {
    if (bytes <= 0 || bytes > link.datagramUnacked) return false;
    link.datagramUnacked -= bytes;
    return true;
  }

  /** The name is not there any more: the next datagram looks for it again. */
  unreachable(link: Link, key: number): void {
    const to = portKey(key);
    if (this.#routes.get(to)?.link === link) this.#routes.delete(to);
  }

  /** The link is over. */
  lost(link: Link): void {
    for (const [to, route] of this.#routes) if (route.link === link) this.#routes.delete(to);
    this.retry(link);
  }

  dispose(): void {
    for (const held of this.#sought.values()) while (held.length > 0) held.shift().buffer.release();
    for (const held of this.#crowded.values()) while (held.length > 0) held.shift().buffer.release();
    this.#sought.clear();
    this.#crowded.clear();
  }
}
