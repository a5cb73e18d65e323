/**
 * Finds and is found: the names that this datapath holds, the searches under way, and the sockets of its links.
 * It owns an epoll descriptor with all of those sockets and the doorbell in it.
 */
import { randomBytes } from 'node:crypto';
import { ERRNO } from '../../errors.ts';
import { EPOLLIN, EPOLLRDHUP, Epoll } from '../../linux/epoll.ts';
import { createEventfd, drainEventfd } from '../../linux/eventfd.ts';
import { close } from '../../linux/libc.ts';
import { reserveScratch, scratchAddress } from '../../linux/scratch.ts';
import { recv } from '../../linux/socket.ts';
import { Greeting, type Own, type Progress, trustedPid } from './greeting.ts';
import type { Place, Seeker } from './hub.ts';
import type { Link } from './link.ts';
import { acceptGreeting, announce, type Claim, reach } from './names.ts';

/** Events taken at once. */
const EVENTS = 64;
/** Processes that this one shares memory with, at most. */
const MOST_LINKS = 512;
/** Greetings under way that others began; the next ends the oldest. */
const MOST_GREETINGS = 256;
const DOORBELL = 0;

const oneByte = scratchAddress + reserveScratch(64);

/** Told of links. */
export interface Keeper {
  linked(link: Link): void;
  /** The peer has gone; what is in the ring is the last. */
  ending(link: Link): void;
}

/** A socket that epoll watches. */
interface Watched {
  readonly fd: number;
  ready(): void;
}

/** A search, for all who want the same name. */
interface Search {
  readonly seekers: Seeker[];
  readonly shared: boolean;
  readonly fullName: string;
}

/** Those who were found under one name: one, or some of several that share a port. */
interface Known {
  readonly shared: boolean;
  /** A search finds one of several: after some searches most likely all have been found. */
  searches: number;
  uses: number;
  readonly places: Place[];
}

/** Searches for a shared port before those found are used, and uses between two more searches: others may have come. */
const FIRST_SEARCHES = 16;
const SEARCH_EVERY = 64;

export class Rendezvous implements Own {
  readonly identity = randomBytes(16).toString('hex');
  readonly doorbell = createEventfd();
  readonly epoll = new Epoll(EVENTS);
  readonly #network: string;
  readonly #keeper: Keeper;
  readonly #watched: (Watched | null)[] = [null];
  readonly #free: number[] = [];
  readonly #byFd = new Map<number, number>();
  readonly #links = new Map<string, Link>();
  #linkCount = 0;
  /** By name, who was found there. */
  readonly #known = new Map<string, Known>();
  readonly #searches = new Map<string, Search>();
  readonly #greetings: Greeting[] = [];

  constructor(network: string, keeper: Keeper) {
    this.#network = network;
    this.#keeper = keeper;
    this.epoll.add(this.doorbell, EPOLLIN, DOORBELL);
  }

  linkTo(peer: string): Link | undefined {
    return this.#links.get(peer);
  }

  // ---- What others look for ------------------------------------------------------------------------------------

  /** @throws IsthmusError as listen(2) */
  listen(claim: Claim): void {
    announce(claim);
    this.#watch(claim.fd, () => this.#callers(claim));
  }

  release(claim: Claim): void {
    this.#unwatch(claim.fd);
    close(claim.fd);
  }

  #callers(claim: Claim): void {
    for (;;) {
      const fd = acceptGreeting(claim);
      if (fd < 0) return; // out of descriptors: whoever waits is asked for again at the next turn
      const pid = trustedPid(fd);
      if (pid < 0 || this.#linkCount >= MOST_LINKS) close(fd);
      else {
        if (this.#greetings.length >= MOST_GREETINGS) this.#drop(this.#greetings.shift()!);
        const greeting = new Greeting(fd, this, false, pid);
        this.#greetings.push(greeting);
        this.#watch(fd, () => this.#answer(greeting));
      }
    }
  }

  #answer(greeting: Greeting): void {
    const progress = greeting.progress();
    if (progress.kind === 'waiting') return;
    const at = this.#greetings.indexOf(greeting);
    if (at >= 0) this.#greetings.splice(at, 1);
    this.#end(greeting, progress);
  }

  /** The greeting is over, well or not; its socket becomes the link's. */
  #end(greeting: Greeting, progress: Progress): void {
    this.#unwatch(greeting.fd);
    if (progress.kind === 'link') this.#linked(progress.link);
    else greeting.close();
  }

  #drop(greeting: Greeting): void {
    this.#unwatch(greeting.fd);
    greeting.close();
  }

  // ---- What we look for ----------------------------------------------------------------------------------------

  known(name: string): Place | undefined {
    const known = this.#known.get(name);
    if (known === undefined) return undefined;
    if (!known.shared) return known.places[0];
    if (known.searches < FIRST_SEARCHES || ++known.uses % SEARCH_EVERY === 0) return undefined;
    return known.places[known.uses % known.places.length];
  }

  /** Nobody is there any more under this name in full. */
  unknown(name: string, fullName: string): void {
    const places = this.#known.get(name)?.places ?? [];
    const at = places.findIndex((place) => place.name === fullName);
    if (at >= 0) places.splice(at, 1);
    if (places.length === 0) this.#known.delete(name);
  }

  #remember(name: string, { shared, fullName }: Search, link: Link): void {
    let known = this.#known.get(name);
    if (known === undefined || known.shared !== shared) {
      known = { shared, searches: 0, uses: 0, places: [] };
      this.#known.set(name, known);
    }
    known.searches++;
    const at = known.places.findIndex((place) => place.name === fullName);
    if (at >= 0) known.places.splice(at, 1);
    known.places.push({ link, name: fullName });
  }

  seek(name: string, seeker: Seeker): void {
    const under = this.#searches.get(name);
    if (under !== undefined) {
      under.seekers.push(seeker);
      return;
    }
    const reached = this.#linkCount < MOST_LINKS ? reach(this.#network, name) : null;
    if (reached === null) {
      seeker.missing();
      return;
    }
    const pid = trustedPid(reached.fd);
    const greeting = new Greeting(reached.fd, this, true, pid);
    if (pid < 0 || greeting.begin() < 0) {
      greeting.close();
      seeker.missing();
      return;
    }
    this.#searches.set(name, { seekers: [seeker], shared: reached.shared, fullName: reached.name });
    this.#watch(reached.fd, () => this.#hear(name, greeting));
  }

  #hear(name: string, greeting: Greeting): void {
    const progress = greeting.progress();
    if (progress.kind === 'waiting') return;
    const search = this.#searches.get(name)!;
    this.#searches.delete(name);
    this.#end(greeting, progress);
    if (progress.kind === 'over') {
      for (const seeker of search.seekers) seeker.missing();
      return;
    }
    this.#remember(name, search, progress.link);
    for (const seeker of search.seekers) seeker.found(progress.link, search.fullName);
  }

  // ---- Links ---------------------------------------------------------------------------------------------------

  #linked(link: Link): void {
    if (!this.#links.has(link.peer)) this.#links.set(link.peer, link);
    this.#linkCount++;
    this.#watch(link.socket, () => {
      // Nothing is said here any more: a byte is as much an end as the end.
      if (recv(link.socket, oneByte, 1, 0) === -ERRNO.EAGAIN) return;
      this.#unwatch(link.socket);
      this.#keeper.ending(link);
    });
    this.#keeper.linked(link);
  }

  /** The link is over: its socket is closed next. */
  forget(link: Link): void {
    this.#unwatch(link.socket);
    this.#linkCount--;
    if (this.#links.get(link.peer) === link) this.#links.delete(link.peer);
    for (const [name, { places }] of this.#known) {
      for (const place of places.filter((each) => each.link === link)) this.unknown(name, place.name);
    }
  }

  // ---- Events --------------------------------------------------------------------------------------------------

  /** Handles what the sockets have to say; waits for at most `timeoutMs` (0: not at all). How many events there were. */
  events(timeoutMs: number): number {
    const count = this.epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      const data = this.epoll.data(i);
      if (data === DOORBELL) drainEventfd(this.doorbell);
      else this.#watched[data]?.ready();
    }
    return Math.max(0, count);
  }

  #watch(fd: number, ready: () => void): void {
    const index = this.#free.pop() ?? this.#watched.length;
    this.#watched[index] = { fd, ready };
    this.#byFd.set(fd, index);
    this.epoll.add(fd, EPOLLIN | EPOLLRDHUP, index);
  }

  #unwatch(fd: number): void {
    const index = this.#byFd.get(fd);
    if (index === undefined) return;
    this.#byFd.delete(fd);
    this.#watched[index] = null;
    this.#free.push(index);
    this.epoll.remove(fd);
  }

  dispose(): void {
    for (const greeting of this.#greetings.splice(0)) this.#drop(greeting);
    // Whatever is left: searches, and names that nobody gave back.
    for (const watched of this.#watched) if (watched !== null) close(watched.fd);
    this.#watched.length = 0;
    this.#byFd.clear();
    this.epoll.close();
    close(this.doorbell);
  }
}
