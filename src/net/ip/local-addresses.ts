/**
 * The addresses that are ours, and which packets are for us. Pure: a small table, searched from the start.
 */
import { type IpWords, isLinkLocal6, isLoopback, maskWord } from './words.ts';

export const MAX_LOCAL_ADDRESSES = 32;

/** Whom a destination address means. */
export const Destination = { OTHER: 0, UNICAST: 1, BROADCAST: 2, MULTICAST: 3 } as const;

export interface LocalAddress extends IpWords {
  readonly prefixLength: number;
}

export class LocalAddresses {
  readonly #list: LocalAddress[] = [];
  /** Groups that packets are taken for besides the obligatory ones. */
  readonly #groups: IpWords[] = [];
  /** The IPv4 addresses that mean everybody: asked for each packet, so found once. */
  #broadcasts: readonly number[] = [-1];

  get list(): readonly LocalAddress[] {
    return this.#list;
  }

  /** @throws RangeError at the bound */
  add(address: IpWords, prefixLength: number): LocalAddress {
    if (!(Number.isInteger(prefixLength) && prefixLength >= 0 && prefixLength <= (address.family === 4 ? 32 : 128))) {
      throw new RangeError(`bad prefix length: ${prefixLength}`);
    }
    if (this.#list.length >= MAX_LOCAL_ADDRESSES) throw new RangeError(`more than ${MAX_LOCAL_ADDRESSES} addresses`);
    this.remove(address);
    const { family, w0, w1, w2, w3 } = address;
    const added: LocalAddress = { family, w0, w1, w2, w3, prefixLength };
    this.#list.push(added);
    this.#findBroadcasts();
    return added;
  }

  remove(address: IpWords): boolean {
    const at = this.#list.findIndex((own) => same(own, address));
    if (at < 0) return false;
    this.#list.splice(at, 1);
    this.#findBroadcasts();
    return true;
  }

  /** All ones, and all hosts of each network that we have an address in (RFC 1122 3.2.1.3; not of /31 and /32, RFC 3021). */
  #findBroadcasts(): void {
    const networks = this.#list.filter(({ family, prefixLength }) => family === 4 && prefixLength <= 30);
    this.#broadcasts = [-1, ...networks.map(({ w3, prefixLength }) => w3 | ~maskWord(4, prefixLength, 3))];
  }

  /** Packets to this group are taken from now on. Nothing is announced (no IGMP, no MLD). @throws RangeError at the bound */
  join(group: IpWords): void {
    if (this.#groups.some((joined) => same(joined, group))) return;
    if (this.#groups.length >= MAX_LOCAL_ADDRESSES) throw new RangeError(`more than ${MAX_LOCAL_ADDRESSES} groups`);
    this.#groups.push(group);
  }

  leave(group: IpWords): void {
    const at = this.#groups.findIndex((joined) => same(joined, group));
    if (at >= 0) this.#groups.splice(at, 1);
  }

  /** One of the addresses added (loopback addresses are not). */
  owns(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const list = this.#list;
    for (let i = 0; i < list.length; i++) {
      const own = list[i]!;
      if (own.w3 === w3 && own.family === family && own.w2 === w2 && own.w1 === w1 && own.w0 === w0) return true;
    }
    return false;
  }

  /** A packet to this address stays here. */
  isLocal(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    return this.owns(family, w0, w1, w2, w3) || isLoopback(family, w0, w1, w2, w3);
  }

  /** Whom a packet with this destination is for. */
  kind4(address: number): number {
    if (this.owns(4, 0, 0, 0, address)) return Destination.UNICAST;
    if (this.isBroadcast(address)) return Destination.BROADCAST;
    if (address >>> 28 !== 14) return Destination.OTHER;
    // 224.0.0.1 is everybody's (RFC 1112 4).
    return address === (0xe0000001 | 0) || this.#joined(4, 0, 0, 0, address)
      ? Destination.MULTICAST
      : Destination.OTHER;
  }

  kind6(w0: number, w1: number, w2: number, w3: number): number {
    if (this.owns(6, w0, w1, w2, w3)) return Destination.UNICAST;
    if (w0 >>> 24 !== 0xff) return Destination.OTHER;
    // ff01::1 and ff02::1 are everybody's; ff02::1:ffXX:XXXX belongs to each address (RFC 4291 2.8).
    const scope = (w0 >>> 16) & 15;
    if ((w0 & 0xfff0ffff) === (0xff000000 | 0) && (scope === 1 || scope === 2) && (w1 | w2) === 0 && w3 === 1) {
      return Destination.MULTICAST;
    }
    if (w0 === (0xff020000 | 0) && w1 === 0 && w2 === 1 && w3 >>> 24 === 0xff) {
      for (const own of this.#list) {
        if (own.family === 6 && (own.w3 & 0xffffff) === (w3 & 0xffffff)) return Destination.MULTICAST;
      }
    }
    return this.#joined(6, w0, w1, w2, w3) ? Destination.MULTICAST : Destination.OTHER;
  }

  /** An IPv4 address that means everybody on a link of ours. */
  isBroadcast(address: number): boolean {
    const broadcasts = this.#broadcasts;
    for (let i = 0; i < broadcasts.length; i++) if (broadcasts[i] === address) return true;
    return false;
  }

  /**
   * The address that packets to a next hop or destination come from, unless its route says another: one whose network
   * it is in; else, of IPv6, one of the same scope; else the first of the family. Null where there is none. This is
   * rules 1, 2 and 8 of RFC 6724 section 5, simplified.
   */
  sourceFor(family: number, w0: number, w1: number, w2: number, w3: number): LocalAddress | null {
    let first: LocalAddress | null = null;
    let scoped: LocalAddress | null = null;
    let near: LocalAddress | null = null;
    for (const own of this.#list) {
      if (own.family !== family) continue;
      if (contains(own, w0, w1, w2, w3) && (near === null || own.prefixLength > near.prefixLength)) near = own;
      first ??= own;
      if (family === 6 && isLinkLocal6(own.w0) === isLinkLocal6(w0)) scoped ??= own;
    }
    return near ?? scoped ?? first;
  }

  #joined(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    for (const group of this.#groups) {
      if (group.family === family && group.w3 === w3 && group.w2 === w2 && group.w1 === w1 && group.w0 === w0)
        return true;
    }
    return false;
  }
}

function same(a: IpWords, b: IpWords): boolean {
  return a.family === b.family && a.w0 === b.w0 && a.w1 === b.w1 && a.w2 === b.w2 && a.w3 === b.w3;
}

function contains(own: LocalAddress, w0: number, w1: number, w2: number, w3: number): boolean {
  const { family, prefixLength } = own;
  return (
    ((own.w0 ^ w0) & maskWord(family, prefixLength, 0)) === 0 &&
    ((own.w1 ^ w1) & maskWord(family, prefixLength, 1)) === 0 &&
    ((own.w2 ^ w2) & maskWord(family, prefixLength, 2)) === 0 &&
    ((own.w3 ^ w3) & maskWord(family, prefixLength, 3)) === 0
  );
}
