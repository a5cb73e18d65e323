/**
 * The device of a kernel that has no queue of its own: what it sends is passed to the kernel that has, and so does what comes
 * in come from there (exchange.ts). It touches the ring between the two.
 */
import type { DeviceOffloads } from '../../net/device.ts';
import type { HeapBuffer } from '../../ring/heap.ts';
import { type LinkDevice, macWords, XdpDeviceCounters } from './device.ts';
import type { Exchange } from './exchange.ts';

export interface PassedDeviceOptions {
  readonly mac: string;
  readonly mtu: number;
  readonly exchange: Exchange;
  readonly offloads: DeviceOffloads;
}

export class PassedDevice implements LinkDevice {
  readonly macHi: number;
  readonly macLo: number;
  readonly mtu: number;
  readonly offloads: DeviceOffloads;
  readonly counters = new XdpDeviceCounters();
  /** Frames are received by others, into their heaps. */
  readonly sockets = [];
  readonly starving = false;
  readonly receiving = 0;
  readonly sending = 0;
  readonly arrived = false;
  readonly #exchange: Exchange;
  #unsent = 0;

  constructor({ mac, mtu, exchange, offloads }: PassedDeviceOptions) {
    [this.macHi, this.macLo] = macWords(mac);
    this.mtu = mtu;
    this.offloads = offloads;
    this.#exchange = exchange;
  }

  room(): number {
    return this.#exchange.sendRoom();
  }

  transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void {
    if (this.#exchange.send(packet, payload, payloadOffset, payloadLength)) this.#unsent++;
    else this.counters.dropped++;
    packet.release();
  }

  flush(): void {
    if (this.#unsent === 0) return;
    this.counters.framesOut += this.#unsent;
    this.#unsent = 0;
    this.#exchange.publish();
  }

  /** Nobody tells us when the other has made room, so we must look. */
  get stuck(): boolean {
    return this.room() <= 0;
  }

  receive(): number {
    return 0;
  }

  replenish(): void {}

  retry(): void {}

  close(): void {
    this.flush();
  }
}
