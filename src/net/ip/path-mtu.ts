/**
 * What is known of the largest packet on the way to a host (RFC 1191, RFC 8201): a bounded cache that forgets.
 * Pure: time is passed in.
 */
import { IPV6_MINIMUM_MTU } from '../wire/ipv6.ts';
import { AddressIndex } from './address-index.ts';

export const MAX_PATHS = 1024;
/** After so long a larger packet may be tried again (RFC 1191 6.3, RFC 8201 5.4). */
export const PATH_MTU_LIFE_MS = 600_000;
/**
 * A router that claims less is not believed below this: RFC 791 has 68, but that is only good for making a host slow,
 * and Linux has the same floor (min_pmtu). IPv6 has no smaller link (RFC 8201 4).
 */
export const IPV4_MINIMUM_PATH_MTU = 552;

/** Sizes of real links, for routers that do not say theirs (RFC 1191 7.1). */
const PLATEAUS = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 552];

export class PathMtu {
  readonly #index: AddressIndex;
  readonly #mtus: Uint16Array;
  readonly #expires: Float64Array;
  /** The slot that gives way next. */
  #hand = 0;

  constructor(key: number, capacity = MAX_PATHS) {
    this.#index = new AddressIndex(capacity, key);
    this.#mtus = new Uint16Array(capacity);
    this.#expires = new Float64Array(capacity);
  }

  get size(): number {
    return this.#index.size;
  }

  /** The path's MTU, at most `link`. */
  get(now: number, family: number, w0: number, w1: number, w2: number, w3: number, link: number): number {
    if (this.#index.size === 0) return link;
    const slot = this.#index.find(family, w0, w1, w2, w3);
    if (slot < 0) return link;
    if (now >= this.#expires[slot]!) {
      this.#index.remove(slot);
      return link;
    }
    return Math.min(link, this.#mtus[slot]!);
  }

  /**
   * A router says that a packet of `size` bytes was too big, and that `claimed` would not be (0: it does not say).
   * @param current the path's MTU so far
   * @returns the new MTU, or 0 where the claim cannot be true or tells nothing new
   */
  lower(
    now: number,
    family: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    claimed: number,
    size: number,
    current: number,
  ): number {
    let mtu = claimed;
    if (family === 4 && mtu === 0) mtu = PLATEAUS.find((plateau) => plateau < Math.min(size, current)) ?? 0;
    if (family === 6 && mtu < IPV6_MINIMUM_MTU) return 0;
    if (mtu < 68) return 0;
    // A packet that the path would carry cannot have been too big for it (RFC 8899 4.6.1).
    if (mtu >= size) return 0;
    if (family === 4 && mtu < IPV4_MINIMUM_PATH_MTU) mtu = IPV4_MINIMUM_PATH_MTU;
    if (mtu >= current) return 0;
    let slot = this.#index.find(family, w0, w1, w2, w3);
    if (slot < 0) slot = this.#index.insert(family, w0, w1, w2, w3);
    if (slot < 0) {
      this.#index.remove(this.#hand);
      slot = this.#index.insert(family, w0, w1, w2, w3);
      this.#hand = (this.#hand + 1) % this.#index.capacity;
    }
    this.#mtus[slot] = mtu;
    this.#expires[slot] = now + PATH_MTU_LIFE_MS;
    return mtu;
  }
}
