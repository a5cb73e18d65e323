/**
 * A slow line between two network namespaces: a tap device in each, and a thread that carries every frame from one to the
 * other after a time. There is no netem on every kernel, and this needs none.
 *
 * It owns the two devices and the thread, and all of it goes away with the process. The thread sleeps in ppoll(2), whose
 * clock is finer than a millisecond; the event loop's is not.
 */
import { Worker } from 'node:worker_threads';
import type { NetworkNamespace } from './namespace.ts';
import { NetworkSetup } from './network-setup.ts';
import { TapDevice } from './tun.ts';

/** One end of the line. */
export interface DelayedEnd {
  readonly namespace: NetworkNamespace;
  readonly interfaceName: string;
  /** IPv4, with 24 bits of network. */
  readonly address: string;
}

/** What the thread is given (delay-line-thread.ts). */
export interface DelayLineThread {
  readonly descriptors: readonly [number, number];
  readonly delayMs: number;
  /** Not 0: end. */
  readonly stop: Int32Array;
}

export interface DelayLine {
  /** Ends the line. Idempotent. */
  close(): void;
}

const QUEUE_FRAMES = 10_000;
const THREAD = new URL(
  import.meta.url.endsWith('.ts') ? './delay-line-thread.ts' : './delay-line-thread.js',
  import.meta.url,
);

/**
 * @param delayMs what each frame takes in one direction
 * @throws IsthmusError EPERM without CAP_NET_ADMIN, ENOENT without /dev/net/tun
 */
export function delayLine(ends: readonly [DelayedEnd, DelayedEnd], delayMs: number): DelayLine {
  const taps: TapDevice[] = [];
  try {
    const macs = ends.map((end) => {
      const { tap, mac } = end.namespace.run(() => openEnd(end));
      taps.push(tap);
      return mac;
    });
    // Neither has to ask for the other: the first packet takes no longer than the others.
    for (const [i, end] of ends.entries()) {
      end.namespace.run(() => introduce(end, ends[1 - i]!.address, macs[1 - i]!));
    }
  } catch (error) {
    for (const tap of taps) tap.close();
    throw error;
  }
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workerData: DelayLineThread = { descriptors: [taps[0]!.fd, taps[1]!.fd], delayMs, stop };
  const thread = new Worker(THREAD, { workerData });
  thread.unref();
  // The descriptors are in use until the thread has ended.
  thread.once('exit', () => {
    for (const tap of taps) tap.close();
  });
  return { close: () => void Atomics.store(stop, 0, 1) };
}

function openEnd({ interfaceName, address }: DelayedEnd): { tap: TapDevice; mac: string } {
  const tap = new TapDevice(interfaceName);
  const setup = new NetworkSetup();
  try {
    const { index, mac } = setup.link(interfaceName)!;
    // What is on its way waits in the thread; the device's own queue is for bursts.
    setup.setLink(index, { up: true, queueFrames: QUEUE_FRAMES });
    setup.addAddress(index, address, 24);
    return { tap, mac };
  } catch (error) {
    tap.close();
    throw error;
  } finally {
    setup.close();
  }
}

function introduce({ interfaceName }: DelayedEnd, address: string, mac: string): void {
  const setup = new NetworkSetup();
  try {
    setup.setNeighbour(setup.link(interfaceName)!.index, address, mac);
  } finally {
    setup.close();
  }
}
