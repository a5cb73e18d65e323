/**
 * A filter that several threads of this process use: one has made it (xdp-filter.ts) and keeps it, the others join.
 * It duplicates the maps' descriptors. Which ports are open is counted in memory that the threads share.
 */
import { BpfMap, type XdpMode } from './bpf.ts';
import { AddressTable } from './xdp-addresses.ts';
import {
  FILTER_MAPS,
  MAX_QUEUES,
  Protocol,
  readCounters,
  type XdpFilter,
  type XdpFilterCounters,
} from './xdp-filter.ts';
import { ADDRESS_SLOTS, OWN_ADDRESS, PORT_BITMAP_BYTES, SERVED_ADDRESS } from './xdp-layout.ts';

const PORTS = 65536;
/** The shared memory: a lock is its first word; behind it how many threads hold each port. */
const LOCK = 0;
const HOLDERS_AT = 64;
const MAX_HOLDERS = 255;

/** What a thread needs to join, for structured cloning. */
export interface SharedFilter {
  readonly interfaceIndex: number;
  readonly mode: XdpMode | null;
  readonly sockets: number;
  readonly addresses: number;
  readonly ports: number;
  readonly counters: number;
  readonly memory: SharedArrayBuffer;
}

/** Nobody may change the filter's own addresses and ports after this. It must stay open for as long as others have joined. */
export function shareFilter(filter: XdpFilter): SharedFilter {
  const { sockets, addresses, ports, counters } = filter.maps;
  return {
    interfaceIndex: filter.interfaceIndex,
    mode: filter.mode,
    sockets: sockets.fd,
    addresses: addresses.fd,
    ports: ports.fd,
    counters: counters.fd,
    memory: new SharedArrayBuffer(HOLDERS_AT + 2 * ADDRESS_SLOTS * PORTS),
  };
}

/** As XdpFilter, for one of several threads. A port is the kernel's again when the last thread has given it back. */
export class JoinedXdpFilter {
  readonly interfaceIndex: number;
  readonly mode: XdpMode | null;
  readonly #sockets: BpfMap;
  readonly #addresses: BpfMap;
  readonly #ports: BpfMap;
  readonly #counters: BpfMap;
  readonly #table: AddressTable;
  readonly #words: Int32Array;
  readonly #holders: Uint8Array;
  readonly #bitmaps: Uint8Array;

  constructor(shared: SharedFilter) {
    this.interfaceIndex = shared.interfaceIndex;
    this.mode = shared.mode;
    this.#sockets = new BpfMap({ ...FILTER_MAPS.sockets, existing: shared.sockets });
    this.#addresses = new BpfMap({ ...FILTER_MAPS.addresses, existing: shared.addresses });
    this.#ports = new BpfMap({ ...FILTER_MAPS.ports, existing: shared.ports });
    this.#counters = new BpfMap({ ...FILTER_MAPS.counters, existing: shared.counters });
    this.#table = new AddressTable(this.#addresses);
    this.#words = new Int32Array(shared.memory, 0, HOLDERS_AT / 4);
    this.#holders = new Uint8Array(shared.memory, HOLDERS_AT);
    this.#bitmaps = this.#ports.mapped!.u8;
  }

  join(queue: number, socketFd: number): void {
    if (!(queue >= 0 && queue < MAX_QUEUES)) throw new RangeError(`queue ${queue}; at most ${MAX_QUEUES}`);
    this.#sockets.update(queue, socketFd);
  }

  /** @throws IsthmusError ENOSPC */
  own(address: string): void {
    this.#locked(() => this.#table.set(address, OWN_ADDRESS));
  }

  /** @throws IsthmusError ENOSPC */
  slotOf(address: string): number {
    return this.#locked(() => this.#table.set(address, SERVED_ADDRESS));
  }

  setPort(slot: number, protocol: Protocol, port: number, served: boolean): void {
    const row = 2 * slot + (protocol === Protocol.UDP ? 1 : 0);
    const at = row * PORT_BITMAP_BYTES + (port >> 3);
    const bit = 1 << (port & 7);
    const holder = row * PORTS + port;
    this.#locked(() => {
      const holders = this.#holders[holder]! + (served ? 1 : -1);
      if (holders < 0 || holders > MAX_HOLDERS) return;
      this.#holders[holder] = holders;
      if (holders > 0) this.#bitmaps[at]! |= bit;
      else this.#bitmaps[at]! &= ~bit;
    });
  }

  /** Other threads may serve ports of the address: it keeps its slot until the filter is closed. */
  forget(_address: string): void {}

  counters(): XdpFilterCounters {
    return readCounters(this.#counters);
  }

  close(): void {
    for (const map of [this.#sockets, this.#addresses, this.#ports, this.#counters]) map.close();
  }

  /** Short, and only where ports come and go. */
  #locked<Result>(action: () => Result): Result {
    const words = this.#words;
    while (Atomics.compareExchange(words, LOCK, 0, 1) !== 0) Atomics.wait(words, LOCK, 1, 1);
    try {
      return action();
    } finally {
      Atomics.store(words, LOCK, 0);
      Atomics.notify(words, LOCK);
    }
  }
}
