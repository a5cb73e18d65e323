/**
 * The filter of one interface: the XDP program (xdp-program.ts) in the kernel, and the maps that say what it redirects.
 * It owns descriptors only, so program and maps leave the interface when it is closed or the process ends in any way.
 */
import { ERRNO, IsthmusError } from '../errors.ts';
import {
  BpfMap,
  type BpfProgram,
  linkXdp,
  loadXdpProgram,
  type MapOptions,
  MapType,
  type XdpLink,
  type XdpMode,
} from './bpf.ts';
import { AddressTable } from './xdp-addresses.ts';
import {
  ADDRESS_ENTRY_BYTES,
  ADDRESS_SLOTS,
  COUNTERS,
  Counter,
  FRAGMENT_KEY_BYTES,
  FRAGMENT_SLOTS,
  OWN_ADDRESS,
  PORT_BITMAP_BYTES,
  SERVED_ADDRESS,
  type XdpMapName,
} from './xdp-layout.ts';
import { assembleXdpProgram } from './xdp-program.ts';

export const MAX_QUEUES = 256;

/** The maps. The program has the address of those with one entry, so that it looks into them without a call. */
export const FILTER_MAPS = {
  sockets: { type: MapType.XSKMAP, keyBytes: 4, valueBytes: 4, maxEntries: MAX_QUEUES, name: 'isthmus_xsks' },
  addresses: {
    type: MapType.ARRAY,
    keyBytes: 4,
    valueBytes: ADDRESS_SLOTS * ADDRESS_ENTRY_BYTES,
    maxEntries: 1,
    name: 'isthmus_addr',
    mappable: true,
  },
  ports: {
    type: MapType.ARRAY,
    keyBytes: 4,
    valueBytes: 2 * ADDRESS_SLOTS * PORT_BITMAP_BYTES,
    maxEntries: 1,
    name: 'isthmus_ports',
    mappable: true,
  },
  fragments: {
    type: MapType.LRU_HASH,
    keyBytes: FRAGMENT_KEY_BYTES,
    valueBytes: 8,
    maxEntries: FRAGMENT_SLOTS,
    name: 'isthmus_frags',
  },
  counters: { type: MapType.PERCPU_ARRAY, keyBytes: 4, valueBytes: 8, maxEntries: COUNTERS, name: 'isthmus_count' },
} as const satisfies Record<XdpMapName, MapOptions>;

export interface XdpFilterOptions {
  /**
   * auto: native, and generic where the driver has no native mode. none: the program is loaded, but the interface does
   * not get it (to try it with test runs). Default auto.
   */
  readonly mode?: XdpMode | 'auto' | 'none';
  /** Count frames of this VLAN instead of those without a tag. Default 0. */
  readonly vlan?: number;
}

export interface XdpFilterCounters {
  /** Frames given to our sockets, left to the kernel, and left to it because their queue had no socket. */
  readonly redirected: number;
  readonly passed: number;
  readonly noSocket: number;
  /** Of those redirected: fragments that followed their first one. */
  readonly fragments: number;
}

export const Protocol = { TCP: 6, UDP: 17 } as const;
export type Protocol = (typeof Protocol)[keyof typeof Protocol];

export class XdpFilter {
  readonly interfaceIndex: number;
  readonly program: BpfProgram;
  readonly maps: Readonly<Record<XdpMapName, BpfMap>>;
  /** What the driver answered to native mode, where `mode` fell back to generic; null otherwise. */
  readonly nativeRefusal: IsthmusError | null;
  readonly #link: XdpLink | null;
  readonly #addresses: AddressTable;
  readonly #bitmaps: Uint8Array;
  #open = true;

  /**
   * Loads the program and puts it on the interface, which is one of the calling thread's network namespace. It redirects
   * nothing before a socket has joined.
   * @throws IsthmusError EPERM without CAP_BPF and CAP_NET_ADMIN, EBUSY where the interface has a program, EOPNOTSUPP
   *   where it has not the mode asked for
   */
  constructor(interfaceIndex: number, options: XdpFilterOptions = {}) {
    this.interfaceIndex = interfaceIndex;
    const code = assembleXdpProgram(options.vlan);
    const made: { close(): void }[] = [];
    const map = (name: XdpMapName): BpfMap => {
      const one = new BpfMap(FILTER_MAPS[name]);
      made.push(one);
      return one;
    };
    try {
      this.maps = {
        sockets: map('sockets'),
        addresses: map('addresses'),
        ports: map('ports'),
        fragments: map('fragments'),
        counters: map('counters'),
      };
      this.program = loadXdpProgram('isthmus_xdp', code, this.maps);
      made.push(this.program);
      const { link, refusal } = attach(this.program, interfaceIndex, options.mode ?? 'auto');
      this.#link = link;
      this.nativeRefusal = refusal;
    } catch (error) {
      for (const one of made) one.close();
      throw error;
    }
    this.#addresses = new AddressTable(this.maps.addresses);
    this.#bitmaps = this.maps.ports.mapped!.u8;
  }

  /** Which mode it is attached in; null for none. */
  get mode(): XdpMode | null {
    return this.#link?.mode ?? null;
  }

  /** Number of the link, to find it in lists of the kernel; 0 where it is not attached. */
  get linkId(): number {
    return this.#link?.id ?? 0;
  }

  /** Frames of ours that come in on `queue` go to this AF_XDP socket from now on. The kernel forgets it when it is closed. */
  join(queue: number, socketFd: number): void {
    if (!(queue >= 0 && queue < MAX_QUEUES)) throw new RangeError(`queue ${queue}; at most ${MAX_QUEUES}`);
    this.maps.sockets.update(queue, socketFd);
  }

  /**
   * Everything sent to `address` is ours. It must not be an address of the kernel's.
   * @throws IsthmusError ENOSPC beyond {@link ADDRESS_SLOTS} addresses
   */
  own(address: string): void {
    this.#clearPorts(this.#addresses.set(address, OWN_ADDRESS));
  }

  /** Serves a port of an address that is the kernel's otherwise. */
  serve(address: string, protocol: Protocol, port: number): void {
    this.setPort(this.slotOf(address), protocol, port, true);
  }

  /** Gives a port back to the kernel; the address stays known until {@link forget}. */
  unserve(address: string, protocol: Protocol, port: number): void {
    const slot = this.#addresses.find(address);
    if (slot >= 0) this.setPort(slot, protocol, port, false);
  }

  /**
   * The slot of a served address for {@link setPort}; it is made where there is none, with no port served.
   * @throws IsthmusError ENOSPC beyond {@link ADDRESS_SLOTS} addresses
   */
  slotOf(address: string): number {
    return this.#addresses.set(address, SERVED_ADDRESS);
  }

  /** Serves a port or gives it back: one store into memory shared with the program, for ports that come and go. */
  setPort(slot: number, protocol: Protocol, port: number, served: boolean): void {
    if (!(Number.isInteger(slot) && slot >= 0 && slot < ADDRESS_SLOTS)) throw new RangeError(`address slot ${slot}`);
    if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) throw new RangeError(`port ${port}`);
    const at = (2 * slot + (protocol === Protocol.UDP ? 1 : 0)) * PORT_BITMAP_BYTES + (port >> 3);
    const bit = 1 << (port & 7);
    if (served) this.#bitmaps[at]! |= bit;
    else this.#bitmaps[at]! &= ~bit;
  }

  /** An address is the kernel's again, with all its ports. */
  forget(address: string): void {
    this.#clearPorts(this.#addresses.forget(address));
  }

  /** What the program has counted, over all processors. */
  counters(): XdpFilterCounters {
    return readCounters(this.maps.counters);
  }

  #clearPorts(slot: number): void {
    if (slot >= 0) this.#bitmaps.fill(0, 2 * slot * PORT_BITMAP_BYTES, 2 * (slot + 1) * PORT_BITMAP_BYTES);
  }

  /** Takes the program off the interface and lets go of everything. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#link?.close();
    this.program.close();
    for (const map of Object.values(this.maps)) map.close();
  }
}

/** Sums over all processors. */
export function readCounters(counters: BpfMap): XdpFilterCounters {
  const read = (counter: number): number => {
    const value = counters.lookup(counter)!;
    const words = new Uint32Array(value.buffer);
    let sum = 0;
    for (let i = 0; i < words.length; i += 2) sum += words[i]! + words[i + 1]! * 2 ** 32;
    return sum;
  };
  return {
    redirected: read(Counter.REDIRECTED),
    passed: read(Counter.PASSED),
    noSocket: read(Counter.NO_SOCKET),
    fragments: read(Counter.FRAGMENTS),
  };
}

function attach(
  program: BpfProgram,
  interfaceIndex: number,
  mode: XdpMode | 'auto' | 'none',
): { link: XdpLink | null; refusal: IsthmusError | null } {
  if (mode === 'none') return { link: null, refusal: null };
  let refusal: IsthmusError | null = null;
  if (mode !== 'generic') {
    try {
      return { link: linkXdp(program, interfaceIndex, 'native'), refusal };
    } catch (error) {
      const fallback = mode === 'auto' && error instanceof IsthmusError && FALLS_BACK.has(error.errno);
      if (!fallback) throw error;
      refusal = error;
    }
  }
  return { link: linkXdp(program, interfaceIndex, 'generic'), refusal };
}

// What drivers answer where they cannot: no native mode, an MTU or features that do not go with it, too few queues.
// Not EBUSY or EPERM, where generic mode would fail as well or hide a mistake.
const FALLS_BACK = new Set<number>(
  [ERRNO.EOPNOTSUPP, ERRNO.EINVAL, ERRNO.ERANGE, ERRNO.ENOSPC, ERRNO.ENOMEM, ERRNO.EMSGSIZE].map((errno) => -errno),
);
