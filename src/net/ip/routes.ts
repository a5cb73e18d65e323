/**
 * The routing table: the longest prefix that fits says where a packet goes next. Pure: a small list in order of length.
 * Routes are configured; router advertisements and redirects are not believed.
 */
import { type IpFamily, type IpWords, maskWord } from './words.ts';

export const MAX_ROUTES = 64;

export interface RouteOptions {
  /** The router; null where the destination itself is on the link. */
  readonly gateway?: IpWords | null;
  /** The address that packets come from; null for the one that fits best (LocalAddresses.sourceFor). */
  readonly source?: IpWords | null;
  /** Largest packet this way, in bytes; 0 for the device's. */
  readonly mtu?: number;
}

export class Route {
  readonly family: IpFamily;
  readonly prefixLength: number;
  readonly prefix: IpWords;
  readonly mask: IpWords;
  readonly gateway: IpWords | null;
  readonly source: IpWords | null;
  readonly mtu: number;

  constructor(prefix: IpWords, prefixLength: number, options: RouteOptions) {
    const { family } = prefix;
    if (!(Number.isInteger(prefixLength) && prefixLength >= 0 && prefixLength <= (family === 4 ? 32 : 128))) {
      throw new RangeError(`bad prefix length: ${prefixLength}`);
    }
    const mask = {
      family,
      w0: maskWord(family, prefixLength, 0),
      w1: maskWord(family, prefixLength, 1),
      w2: maskWord(family, prefixLength, 2),
      w3: maskWord(family, prefixLength, 3),
    };
    this.family = family;
    this.prefixLength = prefixLength;
    this.mask = mask;
    this.prefix = {
      family,
      w0: prefix.w0 & mask.w0,
      w1: prefix.w1 & mask.w1,
      w2: prefix.w2 & mask.w2,
      w3: prefix.w3 & mask.w3,
    };
    this.gateway = options.gateway ?? null;
    this.source = options.source ?? null;
    this.mtu = options.mtu ?? 0;
    if (this.gateway !== null && this.gateway.family !== family) throw new RangeError('a gateway of another family');
    if (this.source !== null && this.source.family !== family) throw new RangeError('a source of another family');
  }

  fits(family: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const { prefix, mask } = this;
    return (
      this.family === family &&
      (w3 & mask.w3) === prefix.w3 &&
      (w2 & mask.w2) === prefix.w2 &&
      (w1 & mask.w1) === prefix.w1 &&
      (w0 & mask.w0) === prefix.w0
    );
  }
}

export class Routes {
  readonly #list: Route[] = [];

  get list(): readonly Route[] {
    return this.#list;
  }

  /** Adds a route, or replaces the one to the same prefix. @throws RangeError where it is none, or at the bound */
  add(prefix: IpWords, prefixLength: number, options: RouteOptions = {}): Route {
    const route = new Route(prefix, prefixLength, options);
    this.remove(prefix, prefixLength);
    if (this.#list.length >= MAX_ROUTES) throw new RangeError(`more than ${MAX_ROUTES} routes`);
    const at = this.#list.findIndex((other) => other.prefixLength < route.prefixLength);
    this.#list.splice(at < 0 ? this.#list.length : at, 0, route);
    return route;
  }

  remove(prefix: IpWords, prefixLength: number): boolean {
    const at = this.#list.findIndex(
      (route) =>
        route.prefixLength === prefixLength && route.fits(prefix.family, prefix.w0, prefix.w1, prefix.w2, prefix.w3),
    );
    if (at >= 0) this.#list.splice(at, 1);
    return at >= 0;
  }

  find(family: number, w0: number, w1: number, w2: number, w3: number): Route | null {
    const list = this.#list;
    for (let i = 0; i < list.length; i++) if (list[i]!.fits(family, w0, w1, w2, w3)) return list[i]!;
    return null;
  }
}
