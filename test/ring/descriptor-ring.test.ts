/** The descriptor ring: against a model, across the wrap of its indices, between two threads, and with a lying peer. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  DESCRIPTOR_WORDS,
  descriptorRingBytes,
  formatDescriptorRing,
  RingConsumer,
  RingProducer,
} from '../../src/ring/descriptor-ring.ts';
import { localRegion } from '../../src/ring/region.ts';

const OFFSET = 128;
const TAIL_WORD = OFFSET >> 2;
const HEAD_WORD = (OFFSET + 128) >> 2;
const COUNT = 2_000_000;

function pair(slots: number, start = 0) {
  const region = localRegion(OFFSET + descriptorRingBytes(slots));
  formatDescriptorRing(region, OFFSET, slots, start);
  return {
    region,
    producer: new RingProducer(region, OFFSET, slots),
    consumer: new RingConsumer(region, OFFSET, slots),
  };
}

type Step =
  | { readonly do: 'push' | 'pushBatch' | 'peek' | 'pop'; readonly n: number }
  | { readonly do: 'publish' }
  | { readonly do: 'attach' };

describe('descriptor ring', () => {
  it('is a bounded queue whose contents appear at publish, whatever the indices start at', () => {
    const amount = fc.nat({ max: 20 });
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.record({
        do: fc.constantFrom('push' as const, 'pushBatch' as const, 'peek' as const, 'pop' as const),
        n: amount,
      }),
      fc.record({ do: fc.constant('publish' as const) }),
      fc.record({ do: fc.constant('attach' as const) }),
    );
    const start = fc.constantFrom(0, 1, -1, -5, -16, 2 ** 31 - 3, -(2 ** 31));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), start, fc.array(step, { maxLength: 80 }), (bits, origin, steps) => {
        const slots = 1 << bits;
        const { region, producer: first, consumer: second } = pair(slots, origin);
        let producer = first;
        let consumer = second;
        const visible: number[] = [];
        const hidden: number[] = [];
        let next = 0;
        const into = new Int32Array(20 * DESCRIPTOR_WORDS);
        for (const s of steps) {
          const room = slots - visible.length - hidden.length;
          if (s.do === 'push') {
            assert.equal(producer.push(next, ~next, next << 8, -7), room > 0);
            if (room > 0) hidden.push(next++);
          } else if (s.do === 'pushBatch') {
            for (let i = 0; i < s.n; i++) into.set([next + i, ~(next + i), (next + i) << 8, -7], i * DESCRIPTOR_WORDS);
            const taken = producer.pushBatch(into, 0, s.n);
            assert.equal(taken, Math.min(s.n, room));
            for (let i = 0; i < taken; i++) hidden.push(next++);
          } else if (s.do === 'publish') {
            producer.publish();
            visible.push(...hidden.splice(0));
          } else if (s.do === 'peek') {
            assert.equal(consumer.ready(), visible.length);
            const take = Math.min(s.n, visible.length);
            for (let i = 0; i < take; i++) {
              const at = consumer.at(i);
              const v = visible[i]!;
              assert.deepEqual([...consumer.i32.subarray(at, at + 4)], [v, ~v, v << 8, -7]);
            }
            consumer.release(take);
            visible.splice(0, take);
          } else if (s.do === 'pop') {
            const taken = consumer.pop(into, 0, s.n);
            assert.equal(taken, Math.min(s.n, visible.length));
            for (let i = 0; i < taken; i++) assert.equal(into[i * DESCRIPTOR_WORDS], visible.shift());
          } else if (hidden.length === 0) {
            // Both ends can leave and be taken up again where the indices stand.
            producer = new RingProducer(region, OFFSET, slots);
            consumer = new RingConsumer(region, OFFSET, slots);
          }
          assert.equal(producer.free(), slots - visible.length - hidden.length);
          assert.equal(producer.unpublished, hidden.length);
        }
      }),
      { numRuns: 1000, seed: 20260103 },
    );
  });

  it('refuses bad places and sizes', () => {
    const region = localRegion(1024);
    for (const slots of [0, 1, 3, 5, 2 ** 25, 1.5, Number.NaN])
      assert.throws(() => descriptorRingBytes(slots), RangeError);
    assert.throws(() => new RingProducer(region, 8, 16), RangeError);
    assert.throws(() => new RingProducer(region, -64, 16), RangeError);
    assert.throws(() => new RingConsumer(region, 576, 16), RangeError);
    const { producer, consumer } = pair(16);
    assert.throws(() => producer.pushBatch(new Int32Array(7), 0, 2), RangeError);
    assert.throws(() => consumer.pop(new Int32Array(7), 0, 2), RangeError);
    assert.throws(() => consumer.release(1), RangeError);
    assert.throws(() => consumer.release(-1), RangeError);
  });

  it('names any index the peer could not have reached', () => {
    const corrupt = { name: 'IsthmusError', code: 'ERR_RING_CORRUPT' };
    const slots = 8;
    fc.assert(
      fc.property(fc.integer(), fc.nat({ max: 8 }), fc.nat({ max: 8 }), fc.integer(), (start, pushes, pops, lie) => {
        const { region, producer, consumer } = pair(slots, start);
        for (let i = 0; i < pushes; i++) producer.push(i, 0, 0, 0);
        producer.publish();
        consumer.ready();
        const popped = Math.min(pops, pushes);
        consumer.release(popped);
        assert.equal(producer.free(), slots - (pushes - popped));
        const tail = (start + pushes) | 0;
        const head = (start + popped) | 0;

        region.i32[TAIL_WORD] = lie;
        const ready = (lie - head) >>> 0;
        if (ready <= slots && ready >= pushes - popped) assert.equal(consumer.ready(), ready);
        else assert.throws(() => consumer.ready(), corrupt);
        region.i32[TAIL_WORD] = tail;

        region.i32[HEAD_WORD] = lie;
        const used = (tail - lie) >>> 0;
        if (used <= pushes - popped) assert.equal(producer.free(), slots - used);
        else assert.throws(() => producer.free(), corrupt);
        if (used > slots) assert.throws(() => new RingProducer(region, OFFSET, slots), corrupt);
      }),
      { numRuns: 2000, seed: 20260104 },
    );
  });

  it('never writes or reads outside its slots, nor loops, when the peer lies all the time', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer(), fc.integer()), { maxLength: 50 }), (lies) => {
        const slots = 4;
        const region = localRegion(OFFSET + descriptorRingBytes(slots) + 64);
        region.u8.fill(0x5a, 0, OFFSET);
        region.u8.fill(0x5a, OFFSET + descriptorRingBytes(slots));
        const producer = new RingProducer(region, OFFSET, slots);
        const consumer = new RingConsumer(region, OFFSET, slots);
        const into = new Int32Array(4 * 100);
        for (const [tail, head] of lies) {
          region.i32[TAIL_WORD] = tail;
          region.i32[HEAD_WORD] = head;
          for (const act of [
            () => producer.pushBatch(into, 0, 100),
            () => producer.push(1, 2, 3, 4),
            () => consumer.pop(into, 0, 100),
          ]) {
            try {
              assert.ok(Number(act()) <= slots);
            } catch (error) {
              assert.equal((error as { code?: string }).code, 'ERR_RING_CORRUPT');
            }
          }
        }
        for (let i = 0; i < OFFSET; i++) assert.equal(region.u8[i], 0x5a);
        for (let i = OFFSET + descriptorRingBytes(slots); i < region.byteLength; i++) assert.equal(region.u8[i], 0x5a);
      }),
      { numRuns: 200, seed: 20260105 },
    );
  });

  it(`passes ${COUNT} descriptors intact between two threads`, { timeout: 60_000 }, async () => {
    const slots = 1 << 14;
    const region = localRegion(descriptorRingBytes(slots), true);
    formatDescriptorRing(region, 0, slots, -1000);
    const ring = new URL('../../src/ring/descriptor-ring.js', import.meta.url).href;
    const source = `
      import { parentPort, workerData } from 'node:worker_threads';
      import { RingProducer } from ${JSON.stringify(ring)};
      const { buffer, slots, count } = workerData;
      const i32 = new Int32Array(buffer);
      const pause = new Int32Array(new SharedArrayBuffer(4));
      const producer = new RingProducer({ u8: new Uint8Array(buffer), i32, byteLength: buffer.byteLength }, 0, slots);
      let batch = 1;
      for (let n = 0; n < count; ) {
        let pushed = 0;
        while (pushed < batch && n < count && producer.push(n, n ^ 0x5bd1e995, Math.imul(n, 31), ~n)) { n++; pushed++; }
        producer.publish();
        // A full ring on a busy machine: let the other thread have the core.
        if (pushed === 0) Atomics.wait(pause, 0, 0, 1);
        batch = 1 + ((batch * 7) & 1023);
      }
      parentPort.postMessage('done');
    `;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: { buffer: region.i32.buffer, slots, count: COUNT },
    });
    try {
      const consumer = new RingConsumer(region, 0, slots);
      const failed = new Promise<never>((_, reject) => worker.once('error', reject));
      let expected = 0;
      let wrong = 0;
      while (expected < COUNT) {
        const ready = consumer.ready();
        const { i32 } = consumer;
        for (let i = 0; i < ready; i++) {
          const at = consumer.at(i);
          const n = expected++;
          if (i32[at] !== n || i32[at + 1] !== (n ^ 0x5bd1e995)) wrong++;
          if (i32[at + 2] !== Math.imul(n, 31) || i32[at + 3] !== ~n) wrong++;
        }
        consumer.release(ready);
        if (ready === 0) await Promise.race([failed, new Promise((resolve) => setImmediate(resolve))]);
      }
      assert.equal(wrong, 0);
      assert.equal(consumer.ready(), 0);
    } finally {
      await worker.terminate();
    }
  });
});
