import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimerWheel } from '../../../src/kernel/timers.ts';
import { Chance } from '../../../src/net/middleware/chance.ts';
import {
  type FaultCounters,
  type FaultOptions,
  FaultyDevice,
  FaultyInput,
} from '../../../src/net/middleware/faults.ts';
import { Direction, PcapDevice, PcapInput, PcapWriter } from '../../../src/net/middleware/pcap.ts';
import type { HeapBuffer } from '../../../src/ring/heap.ts';
import { TestDevice, testHeap } from '../hosts.ts';
import { readPcapng } from './pcapng.ts';

/** Sends numbered frames of 60 bytes, one a millisecond; gives those that arrive, in order, and the counters. */
function through(
  options: FaultOptions,
  frames: number,
): { arrived: Uint8Array[]; times: number[]; counters: FaultCounters } {
  const heap = testHeap();
  const timers = new TimerWheel(0);
  let now = 0;
  const inner = new TestDevice(2, 1);
  const device = new FaultyDevice(inner, options, { heap, timers, now: () => now });
  const arrived: Uint8Array[] = [];
  const times: number[] = [];
  const collect = (): void => {
    for (const frame of inner.take()) {
      arrived.push(frame);
      times.push(now);
    }
  };
  for (let n = 0; n < frames; n++) {
    const packet = heap.alloc(20);
    packet.memory.fill(0, packet.offset, packet.offset + 20);
    new DataView(heap.region.u8.buffer).setUint32(packet.offset + 16, n);
    const payload = heap.alloc(40);
    payload.memory.fill(n & 255, payload.offset, payload.offset + 40);
    device.transmit(packet, payload, payload.offset, 40);
    payload.release();
    collect();
    now++;
    timers.advance(now);
    collect();
  }
  for (let i = 0; i < 2000; i++) {
    timers.advance(++now);
    collect();
  }
  assert.equal(heap.inUse, 0);
  return { arrived, times, counters: device.lane.counters };
}

function number(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint32(16);
}

test('no faults: every frame as it was, both pieces', () => {
  const { arrived } = through({ seed: 1 }, 50);
  assert.deepEqual(
    arrived.map(number),
    Array.from({ length: 50 }, (_, i) => i),
  );
  assert.ok(arrived.every((frame, n) => frame.length === 60 && frame.subarray(20).every((byte) => byte === n)));
});

test('the same seed gives the same faults, another gives others', () => {
  const options = { loss: 0.1, duplication: 0.1, reordering: 0.2, corruption: 0.1, delayMs: 3, jitterMs: 4 };
  const a = through({ seed: 1, ...options }, 200);
  const b = through({ seed: 1, ...options }, 200);
  const c = through({ seed: 2, ...options }, 200);
  assert.deepEqual(a, b);
  assert.notDeepEqual(a.arrived, c.arrived);
});

test('loss, duplication, corruption and reordering happen about as often as they should', () => {
  const about = (count: number, expected: number): void =>
    assert.ok(Math.abs(count - expected) < expected / 2, `${count}, not about ${expected}`);
  const lost = through({ seed: 3, loss: 0.1 }, 1000);
  about(lost.counters.lost, 100);
  assert.equal(lost.arrived.length, 1000 - lost.counters.lost);
  const doubled = through({ seed: 3, duplication: 0.1 }, 1000);
  about(doubled.counters.duplicated, 100);
  assert.equal(doubled.arrived.length, 1000 + doubled.counters.duplicated);
  const wrong = through({ seed: 3, corruption: 0.1 }, 1000);
  about(wrong.counters.corrupted, 100);
  // One bit, never in the Ethernet header.
  const clean = through({ seed: 3 }, 1000).arrived;
  const bits = wrong.arrived.map((frame, n) =>
    frame.reduce((sum, byte, i) => {
      const difference = byte ^ clean[n]![i]!;
      if (difference !== 0) assert.ok(i >= 14);
      return sum + difference.toString(2).replaceAll('0', '').length;
    }, 0),
  );
  assert.equal(bits.filter((count) => count === 1).length, wrong.counters.corrupted);
  assert.equal(bits.filter((count) => count > 1).length, 0);
  const mixed = through({ seed: 3, reordering: 0.1, reorderMs: 5 }, 1000);
  about(mixed.counters.reordered, 100);
  const order = mixed.arrived.map(number);
  assert.notDeepEqual(
    order,
    order.toSorted((a, b) => a - b),
  );
  assert.deepEqual(
    order.toSorted((a, b) => a - b),
    clean.map(number),
  );
});

test('delay and jitter keep the order', () => {
  const { arrived, times } = through({ seed: 4, delayMs: 10, jitterMs: 20 }, 200);
  assert.deepEqual(
    arrived.map(number),
    Array.from({ length: 200 }, (_, i) => i),
  );
  times.forEach((time, n) => {
    assert.ok(time - n >= 10, `frame ${n} after ${time - n} ms`);
  });
});

test('what is held back is bounded, and let go at the end', () => {
  const heap = testHeap();
  const timers = new TimerWheel(0);
  const seen: number[] = [];
  const input = new FaultyInput(
    { input: (frame: HeapBuffer) => seen.push(frame.length) },
    { seed: 1, delayMs: 100, maxHeld: 5 },
    { heap, timers, now: () => 0 },
  );
  for (let i = 0; i < 8; i++) {
    const frame = heap.alloc(60 + i);
    input.input(frame);
    frame.release();
  }
  assert.equal(input.lane.held, 5);
  assert.equal(input.lane.counters.overflowed, 3);
  timers.advance(100);
  assert.deepEqual(seen, [60, 61, 62, 63, 64]);
  const last = heap.alloc(60);
  input.input(last);
  last.release();
  input.lane.dispose();
  assert.equal(timers.size, 0);
  assert.equal(heap.inUse, 0);
});

test('chance: below n, and about as probable as asked', () => {
  const chance = new Chance(9);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[chance.below(10)]!++;
  assert.ok(counts.every((count) => count > 850 && count < 1150));
  let hits = 0;
  for (let i = 0; i < 10_000; i++) if (chance.happens(0.25)) hits++;
  assert.ok(hits > 2300 && hits < 2700);
  assert.equal(chance.happens(0), false);
});

test('pcapng: what passes is in the file, in two pieces or one, with direction, time and length', () => {
  const heap = testHeap();
  const blocks: Uint8Array[] = [];
  let now = 1_700_000_000_000;
  const writer = new PcapWriter({ name: 'veth0', snapLength: 50, now: () => now, sink: (bytes) => blocks.push(bytes) });
  const inner = new TestDevice(2, 1);
  const device = new PcapDevice(inner, writer);
  const seen: number[] = [];
  const input = new PcapInput({ input: (frame: HeapBuffer) => seen.push(frame.length) }, writer);
  const bytes = Uint8Array.from({ length: 70 }, (_, i) => i);
  const packet = heap.alloc(17).fill(bytes.subarray(0, 17));
  const payload = heap.alloc(53).fill(bytes.subarray(17));
  device.transmit(packet, payload, payload.offset, 10);
  now += 1.5;
  const second = heap.alloc(17).fill(bytes.subarray(0, 17));
  device.transmit(second, payload, payload.offset, 53);
  payload.release();
  now += 1;
  const third = heap.alloc(33).fill(bytes.subarray(0, 33));
  input.input(third);
  third.release();
  assert.deepEqual(
    inner.take().map((frame) => frame.length),
    [27, 70],
  );
  assert.equal(heap.inUse, 0);
  assert.deepEqual(seen, [33]);

  const total = blocks.reduce((sum, block) => sum + block.length, 0);
  const file = new Uint8Array(total);
  blocks.reduce((at, block) => {
    file.set(block, at);
    return at + block.length;
  }, 0);
  const { name, link, snap, records } = readPcapng(file);
  assert.deepEqual([name, link, snap], ['veth0', 1, 50]);
  assert.equal(writer.frames, 3);
  assert.deepEqual(records, [
    { ms: 1_700_000_000_000, bytes: bytes.subarray(0, 27), original: 27, direction: Direction.OUT },
    { ms: 1_700_000_000_001.5, bytes: bytes.subarray(0, 50), original: 70, direction: Direction.OUT },
    { ms: 1_700_000_000_002.5, bytes: bytes.subarray(0, 33), original: 33, direction: Direction.IN },
  ]);
});
