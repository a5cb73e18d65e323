/** For tests: a lab of its own for a test, stations on AF_XDP sockets in it, and waiting without sleeping. */
import type { TestContext } from 'node:test';
import { XdpSocket, type XdpSocketOptions } from '../../src/linux/af-xdp.ts';
import { bpfObjectIds } from '../../src/linux/bpf.ts';
import { createLab, type Lab, type LabOptions, type LabSide } from '../../src/linux/lab.ts';
import { type MappedMemory, mapArena } from '../../src/linux/memory.ts';
import { createNamespace } from '../../src/linux/namespace.ts';
import { XdpFilter, type XdpFilterOptions } from '../../src/linux/xdp-filter.ts';
import { xdpRefusal } from '../../src/linux/xdp-probe.ts';
import { need } from '../support/need.ts';

/** Why there can be no lab here; empty where there can. */
export function labRefusal(): string {
  const refusal = xdpRefusal();
  if (refusal !== null) return refusal.message;
  try {
    createNamespace().close();
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

/** A lab that ends with the test; null where the test was skipped. */
export function labFor(t: TestContext, options?: LabOptions): Lab | null {
  const refusal = labRefusal();
  if (!need(t, refusal === '', refusal)) return null;
  const lab = createLab(options);
  t.after(() => lab.close());
  return lab;
}

/** Resolves once `condition` holds; looks between turns of the event loop. Rejects after `timeoutMs`. */
export async function until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Kernel objects that a filter made, by their numbers. */
export interface FilterObjects {
  readonly link: number;
  readonly program: number;
  readonly maps: readonly number[];
}

/** Which of them there still are. */
export function present({ link, program, maps }: FilterObjects): string[] {
  const wanted = { link: [link], program: [program], map: maps };
  return (['link', 'program', 'map'] as const).flatMap((kind) =>
    bpfObjectIds(kind)
      .filter((id) => wanted[kind].includes(id))
      .map((id) => `${kind} ${id}`),
  );
}

export interface StationOptions extends Partial<XdpSocketOptions> {
  readonly frames?: number;
  readonly mode?: NonNullable<XdpFilterOptions['mode']>;
  /** Use another station's filter. */
  readonly filter?: XdpFilter;
  readonly free?: number[];
}

/** An AF_XDP socket with frames, on one queue of a side of the lab; and the filter of that interface. */
export class Station {
  readonly side: LabSide;
  readonly memory: MappedMemory;
  readonly filter: XdpFilter;
  readonly socket: XdpSocket;
  readonly frames: number;
  /** Offsets of chunks that are neither in a ring nor in flight. */
  readonly free: number[];
  sent = 0;

  constructor(t: TestContext, side: LabSide, options: StationOptions = {}) {
    this.side = side;
    const frameBytes = options.frameBytes ?? 2048;
    this.frames = options.frames ?? 256;
    this.memory = (options.memory as MappedMemory | undefined) ?? mapArena(this.frames * frameBytes);
    const { interfaceIndex } = side;
    const made = side.namespace.run(() => {
      const filter = options.filter ?? new XdpFilter(interfaceIndex, { mode: options.mode ?? 'auto' });
      const socket = new XdpSocket({
        interfaceIndex,
        queue: 0,
        receiveEntries: 64,
        transmitEntries: 64,
        ...options,
        memory: this.memory,
      });
      return { filter, socket };
    });
    this.filter = made.filter;
    this.socket = made.socket;
    this.filter.join(this.socket.queue, this.socket.fd);
    this.free = options.free ?? Array.from({ length: this.frames }, (_, i) => i * frameBytes);
    this.refill();
    t.after(() => this.close());
  }

  /** Half of the chunks are for receiving at most. */
  refill(): void {
    let room = Math.min(this.socket.fillRoom(), this.free.length - this.frames / 4);
    for (; room > 0; room--) this.socket.fill(this.free.pop()!);
    this.socket.publishFill();
  }

  /** Puts a frame into the transmit ring; false where there is no room. */
  put(frame: Uint8Array): boolean {
    if (this.free.length === 0 || this.socket.transmitRoom() === 0) return false;
    const at = this.free.pop()!;
    this.memory.u8.set(frame, at);
    this.socket.transmit(at, frame.length);
    this.sent++;
    return true;
  }

  send(...frames: Uint8Array[]): void {
    for (const frame of frames) if (!this.put(frame)) throw new Error('no room to send');
    this.socket.submit();
  }

  /** Takes completions back. */
  reap(): void {
    const { socket, free } = this;
    const count = socket.completions(1 << 15);
    for (let i = 0; i < count; i++) free.push(socket.completedOffset(i) & -socket.frameBytes);
    socket.releaseCompletions(count);
  }

  /** Calls `see` with each frame received, where it lies. */
  each(see: (memory: Uint8Array, offset: number, length: number) => void): number {
    const { socket, free } = this;
    const count = socket.receive(1 << 15);
    for (let i = 0; i < count; i++) {
      const offset = socket.receivedOffset(i);
      see(this.memory.u8, offset, socket.receivedLength(i));
      free.push(offset & -socket.frameBytes);
    }
    socket.releaseReceived(count);
    this.refill();
    return count;
  }

  /** Copies of the frames received. */
  take(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    this.each((memory, offset, length) => frames.push(memory.slice(offset, offset + length)));
    return frames;
  }

  /** The first frame for which `wanted` holds; others are dropped. */
  async receive(wanted: (frame: Uint8Array) => boolean, what: string): Promise<Uint8Array> {
    let found: Uint8Array | undefined;
    await until(() => {
      this.reap();
      if (this.socket.transmitting > 0) this.socket.kick();
      found ??= this.take().find(wanted);
      return found !== undefined;
    }, what);
    return found!;
  }

  close(): void {
    this.socket.close();
    this.filter.close();
    this.memory.close();
  }
}
