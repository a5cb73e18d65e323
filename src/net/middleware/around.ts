/**
 * A device around another one: what middleware does not change goes to the inner one.
 * It touches nothing but that.
 */
import type { HeapBuffer } from '../../ring/heap.ts';
import type { Device } from '../device.ts';

export abstract class DeviceAround implements Device {
  protected readonly inner: Device;

  constructor(inner: Device) {
    this.inner = inner;
  }

  get macHi(): number {
    return this.inner.macHi;
  }

  get macLo(): number {
    return this.inner.macLo;
  }

  get mtu(): number {
    return this.inner.mtu;
  }

  get offloads(): Device['offloads'] {
    return this.inner.offloads;
  }

  room(): number {
    return this.inner.room();
  }

  abstract transmit(packet: HeapBuffer, payload: HeapBuffer | null, payloadOffset: number, payloadLength: number): void;

  flush(): void {
    this.inner.flush();
  }
}
