/**
 * Which TCP ports of the stack are bound, and in shared mode which ports are ours and not the host's, and for how long.
 * It touches the host's ports through the link (SharedAddresses), and a timer while there is something to give back.
 *
 * A port stays ours until its last connection is over, TIME_WAIT included: the host's kernel would answer what still comes
 * with resets. Once a second it is looked which ports have no connection left.
 */
import { ERRNO, systemError } from '../../errors.ts';
import { Family } from '../../kernel/datapath.ts';
import type { Timed, Timers } from '../../net/flow.ts';
import { type IpWords, isLoopback } from '../../net/ip/words.ts';
import { isAny } from './address.ts';
import type { SharedAddresses } from './link.ts';

const TCP = 6;
const UDP = 17;
const SWEEP_MS = 1000;

export interface BoundPort {
  readonly port: number;
  readonly words: IpWords;
  /** Takes IPv4 and IPv6. */
  readonly dual: boolean;
  readonly reusePort: boolean;
}

/** A port served in shared mode; `holders` bound sockets use it. */
interface Served {
  readonly port: number;
  readonly words: IpWords | null;
  holders: number;
}

export interface PortsOptions {
  readonly shared: SharedAddresses | null;
  /** Connections by local port. */
  readonly onPort: (port: number) => number;
  readonly timers: Timers;
  readonly now: () => number;
  readonly random: () => number;
  readonly first: number;
  readonly last: number;
  /** As in Link. */
  readonly mayUsePort?: ((protocol: number, port: number) => boolean) | undefined;
}

export class Ports implements Timed {
  readonly #options: PortsOptions;
  readonly #bound = new Map<number, BoundPort[]>();
  readonly #served: Served[] = [];
  /** Ports reserved for outgoing connections; made in shared mode only. */
  readonly #reserved: Uint8Array | null;
  #reservedCount = 0;
  #timer = -1;

  constructor(options: PortsOptions) {
    this.#options = options;
    this.#reserved = options.shared === null ? null : new Uint8Array(65536);
  }

  /** Binds a TCP socket; port 0 chooses one. @throws IsthmusError EADDRINUSE, EADDRNOTAVAIL; what the host says */
  bind(family: Family, words: IpWords, port: number, v6Only: boolean, reusePort: boolean, about: string): BoundPort {
    const dual = family === Family.INET6 && words.family === 6 && isAny(words) && !v6Only;
    const wanted = { port, words, dual, reusePort };
    if (port === 0) return this.#bindAny(wanted, about);
    if (this.#conflicts(wanted)) throw systemError(ERRNO.EADDRINUSE, 'bind', about);
    this.#serve(wanted);
    return this.#add(wanted);
  }

  #bindAny(wanted: BoundPort, about: string): BoundPort {
    const { first, last, random } = this.#options;
    const count = last - first + 1;
    const start = ((random() >>> 0) % count) | 0;
    for (let i = 0; i < count; i++) {
      const bound = { ...wanted, port: first + ((start + i) % count) };
      if (this.#bound.has(bound.port)) continue;
      try {
        this.#serve(bound);
      } catch {
        continue;
      }
      return this.#add(bound);
    }
    throw systemError(ERRNO.EADDRINUSE, 'bind', about, 'every port is in use');
  }

  #add(bound: BoundPort): BoundPort {
    const others = this.#bound.get(bound.port);
    if (others === undefined) this.#bound.set(bound.port, [bound]);
    else others.push(bound);
    return bound;
  }

  #conflicts(wanted: BoundPort): boolean {
    for (const other of this.#bound.get(wanted.port) ?? []) {
      if (other.reusePort && wanted.reusePort) continue;
      if (!other.dual && !wanted.dual && other.words.family !== wanted.words.family) continue;
      if (isAny(other.words) || isAny(wanted.words) || same(other.words, wanted.words)) return true;
    }
    return false;
  }

  release(bound: BoundPort): void {
    const left = (this.#bound.get(bound.port) ?? []).filter((other) => other !== bound);
    if (left.length === 0) this.#bound.delete(bound.port);
    else this.#bound.set(bound.port, left);
    const served = this.#find(bound);
    if (served === undefined) return;
    served.holders--;
    if (served.holders === 0) this.#arm();
  }

  /** For Tcp.mayUsePort. In shared mode the port is reserved with the host. */
  mayUse(port: number): boolean {
    if (this.#bound.size > 0 && this.#bound.has(port)) return false;
    const reserved = this.#reserved;
    if (reserved === null) return this.#options.mayUsePort?.(TCP, port) ?? true;
    if (reserved[port] !== 0) return true;
    if (!this.#options.shared!.reserve(TCP, port)) return false;
    reserved[port] = 1;
    this.#reservedCount++;
    this.#arm();
    return true;
  }

  // ---- UDP, whose table of ports is the stack's own -----------------------------------------------------------

  /** An outgoing UDP socket needs a port: gives one that `bind` takes. */
  bindUdp(bind: (port: number) => boolean): number {
    const { shared, random, mayUsePort, first, last } = this.#options;
    if (shared === null && mayUsePort === undefined) return bind(0) ? 0 : -1;
    const { firstEphemeral = first, lastEphemeral = last } = shared ?? {};
    const count = lastEphemeral - firstEphemeral + 1;
    const start = ((random() >>> 0) % count) | 0;
    for (let i = 0; i < count; i++) {
      const port = firstEphemeral + ((start + i) % count);
      if (shared === null ? !mayUsePort!(UDP, port) : !shared.reserve(UDP, port)) continue;
      if (bind(port)) return port;
      shared?.unreserve(UDP, port);
    }
    return -1;
  }

  unbindUdp(port: number): void {
    this.#options.shared?.unreserve(UDP, port);
  }

  serveUdp(port: number, words: IpWords): void {
    if (!isLoop(words)) this.#options.shared?.serve(UDP, port, isAny(words) ? null : words);
  }

  unserveUdp(port: number, words: IpWords): void {
    if (!isLoop(words)) this.#options.shared?.unserve(UDP, port, isAny(words) ? null : words);
  }

  // ---- Shared mode -------------------------------------------------------------------------------------------

  #serve(bound: BoundPort): void {
    const { shared } = this.#options;
    if (shared === null || isLoop(bound.words)) return;
    const served = this.#find(bound);
    if (served !== undefined) {
      served.holders++;
      return;
    }
    const words = isAny(bound.words) ? null : bound.words;
    shared.serve(TCP, bound.port, words);
    this.#served.push({ port: bound.port, words, holders: 1 });
  }

  #find({ port, words }: BoundPort): Served | undefined {
    return this.#served.find(
      (served) => served.port === port && (served.words === null ? isAny(words) : same(served.words, words)),
    );
  }

  #arm(): void {
    if (this.#timer >= 0) return;
    const { timers, now } = this.#options;
    this.#timer = timers.schedule(now() + SWEEP_MS, this);
  }

  expired(): void {
    this.#timer = -1;
    const { shared, onPort } = this.#options;
    if (shared === null) return;
    this.#unserve(shared, onPort);
    const reserved = this.#reserved!;
    for (let port = shared.firstEphemeral; port <= shared.lastEphemeral && this.#reservedCount > 0; port++) {
      if (reserved[port] === 0 || onPort(port) !== 0) continue;
      reserved[port] = 0;
      this.#reservedCount--;
      shared.unreserve(TCP, port);
    }
    if (this.#reservedCount > 0 || this.#served.some(({ holders }) => holders === 0)) this.#arm();
  }

  #unserve(shared: SharedAddresses, onPort: (port: number) => number): void {
    for (let i = this.#served.length - 1; i >= 0; i--) {
      const { port, words, holders } = this.#served[i]!;
      if (holders > 0 || onPort(port) !== 0) continue;
      this.#served.splice(i, 1);
      shared.unserve(TCP, port, words);
    }
  }
}

function same(a: IpWords, b: IpWords): boolean {
  return a.family === b.family && a.w3 === b.w3 && a.w2 === b.w2 && a.w1 === b.w1 && a.w0 === b.w0;
}

function isLoop({ family, w0, w1, w2, w3 }: IpWords): boolean {
  return isLoopback(family, w0, w1, w2, w3);
}
