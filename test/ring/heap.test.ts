/** The buffer heap against a model, at its bounds, and in checked mode against every kind of misuse. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Heap, type HeapBuffer, type HeapOptions, heapBytes, type SizeClass } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const CLASSES: readonly SizeClass[] = [
  { bytes: 64, count: 4 },
  { bytes: 256, count: 3 },
  { bytes: 1024, count: 2 },
];

function newHeap(options: HeapOptions = {}): Heap {
  const sizeClasses = options.sizeClasses ?? CLASSES;
  return new Heap(localRegion(heapBytes(sizeClasses)), { ...options, sizeClasses });
}

type Step =
  | { readonly do: 'alloc'; readonly bytes: number }
  | { readonly do: 'retain' | 'release' | 'narrow'; readonly which: number };

/** What a buffer must still hold: each was filled with a byte of its own. */
interface Held {
  readonly buffer: HeapBuffer;
  readonly mark: number;
  references: number;
}

describe('heap', () => {
  for (const checked of [false, true]) {
    it(`gives out disjoint buffers and takes them back, ${checked ? 'checked' : 'unchecked'}`, () => {
      const step: fc.Arbitrary<Step> = fc.oneof(
        { weight: 3, arbitrary: fc.record({ do: fc.constant('alloc' as const), bytes: fc.nat({ max: 1024 }) }) },
        {
          weight: 4,
          arbitrary: fc.record({
            do: fc.constantFrom('retain' as const, 'release' as const, 'release' as const, 'narrow' as const),
            which: fc.nat(),
          }),
        },
      );
      fc.assert(
        fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
          const heap = newHeap({ checked });
          const free = CLASSES.map(({ count }) => count);
          let held: Held[] = [];
          let mark = 0;
          let exhausted = 0;
          for (const s of steps) {
            if (s.do === 'alloc') {
              const expected = CLASSES.findIndex(({ bytes }, c) => bytes >= s.bytes && free[c]! > 0);
              const buffer = heap.tryAlloc(s.bytes);
              if (expected < 0) {
                assert.equal(buffer, null);
                exhausted++;
              } else {
                assert.ok(buffer !== null);
                assert.equal(buffer.classIndex, expected);
                assert.equal(buffer.length, s.bytes);
                assert.equal(buffer.capacity, CLASSES[expected]!.bytes);
                assert.equal(buffer.base % 64, 0);
                free[expected]!--;
                mark = (mark + 1) & 127;
                buffer.memory.fill(mark, buffer.base, buffer.base + buffer.capacity);
                held.push({ buffer, mark, references: 1 });
              }
            } else if (held.length > 0) {
              const one = held[s.which % held.length]!;
              if (s.do === 'retain') {
                one.buffer.retain();
                one.references++;
              } else if (s.do === 'narrow') {
                const by = Math.min(one.buffer.length, 3);
                one.buffer.offset += by;
                one.buffer.length -= by;
              } else {
                one.buffer.release();
                if (--one.references === 0) {
                  free[one.buffer.classIndex]!++;
                  held = held.filter((h) => h !== one);
                }
              }
            }
            assert.equal(heap.inUse, held.length);
            assert.equal(heap.exhausted, exhausted);
            for (const h of held) {
              assert.equal(h.buffer.references, h.references);
              const end = h.buffer.base + h.buffer.capacity;
              for (let i = h.buffer.base; i < end; i += 17) assert.equal(h.buffer.memory[i], h.mark);
            }
          }
          for (const [c, { bytes, count, inUse, highWater }] of heap.stats().entries()) {
            assert.deepEqual({ bytes, count }, CLASSES[c]);
            assert.equal(inUse, count - free[c]!);
            assert.ok(highWater >= inUse && highWater <= count);
          }
        }),
        { numRuns: checked ? 60 : 400, seed: 20260106 },
      );
    });
  }

  it('falls back to larger classes, then is exhausted, then serves again', () => {
    const heap = newHeap();
    const all = Array.from({ length: 9 }, () => heap.alloc(1));
    assert.deepEqual(
      all.map((buffer) => buffer.capacity),
      [64, 64, 64, 64, 256, 256, 256, 1024, 1024],
    );
    assert.equal(heap.tryAlloc(0), null);
    assert.throws(() => heap.alloc(1), { code: 'ENOMEM', syscall: 'alloc' });
    assert.equal(heap.exhausted, 2);
    all[5]!.release();
    assert.equal(heap.alloc(1).base, all[5]!.base);
    assert.equal(heap.tryAlloc(1), null);
    assert.deepEqual(
      heap.stats().map(({ highWater }) => highWater),
      [4, 3, 2],
    );
  });

  it('refuses sizes it can never serve, and regions and classes that do not fit', () => {
    const heap = newHeap();
    assert.equal(heap.largest, 1024);
    for (const bytes of [1025, -1, Number.NaN, Number.POSITIVE_INFINITY])
      assert.throws(() => heap.alloc(bytes), RangeError);
    assert.throws(() => new Heap(localRegion(64), { sizeClasses: CLASSES }), RangeError);
    for (const bad of [
      { bytes: 100, count: 1 },
      { bytes: 32, count: 1 },
      { bytes: 64, count: 0 },
    ]) {
      assert.throws(() => newHeap({ sizeClasses: [bad] }), RangeError);
    }
    assert.throws(() => newHeap({ sizeClasses: [] }), RangeError);
  });

  it('resets offset, length and peer when a buffer is used again', () => {
    const heap = newHeap({ sizeClasses: [{ bytes: 64, count: 1 }] });
    const first = heap.alloc(10);
    first.offset += 4;
    first.peer = { host: '192.0.2.1', port: 9 };
    first.release();
    const second = heap.alloc(20);
    assert.equal(second.offset, second.base);
    assert.equal(second.length, 20);
    assert.equal(second.peer, null);
  });

  it('fills and reads text and bytes, and knows peers of both families', () => {
    const heap = newHeap();
    const buffer = heap.alloc(0).fill('héllo');
    assert.equal(buffer.length, 6);
    assert.equal(buffer.text(), 'héllo');
    assert.deepEqual(buffer.fill(new Uint8Array([1, 2])).bytes, new Uint8Array([1, 2]));
    assert.throws(() => buffer.fill('x'.repeat(65)), RangeError);
    const other = heap.alloc(1);
    other.peer = { host: '203.0.113.9', port: 65535 };
    for (const peer of [
      { host: '127.0.0.1', port: 7 },
      { host: '2001:db8::1', port: 80 },
      { host: 'fe80::1%3', port: 1 },
    ]) {
      buffer.peer = peer;
      assert.deepEqual(buffer.peer, peer);
    }
    assert.deepEqual(other.peer, { host: '203.0.113.9', port: 65535 });
    buffer.peer = null;
    assert.equal(buffer.peer, null);
  });

  it('refuses a double free and use after free even unchecked, while the buffer is free', () => {
    const buffer = newHeap().alloc(1);
    buffer.release();
    assert.throws(() => buffer.release(), { name: 'IsthmusError', code: 'ERR_BUFFER_DOUBLE_FREE' });
    assert.throws(() => buffer.retain(), { code: 'ERR_BUFFER_FREED' });
    assert.throws(() => buffer.bytes, { code: 'ERR_BUFFER_FREED' });
    assert.throws(() => buffer.fill('x'), { code: 'ERR_BUFFER_FREED' });
  });
});

describe('heap in checked mode', () => {
  const only = { checked: true, sizeClasses: [{ bytes: 64, count: 1 }] };

  function allocatesHere(heap: Heap): HeapBuffer {
    return heap.alloc(1);
  }
  function freesHere(buffer: HeapBuffer): void {
    buffer.release();
  }

  it('names where a buffer that is freed twice was allocated and freed, even after it was given to somebody else', () => {
    const heap = newHeap(only);
    const buffer = allocatesHere(heap);
    freesHere(buffer);
    const other = heap.alloc(1);
    assert.notEqual(other, buffer);
    assert.throws(
      () => buffer.release(),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_BUFFER_DOUBLE_FREE');
        assert.match(error.message, /allocatesHere/);
        assert.match(error.message, /freesHere/);
        return true;
      },
    );
    // The innocent holder is not touched.
    assert.equal(other.references, 1);
    assert.equal(heap.inUse, 1);
  });

  it('names use after free through a stale handle', () => {
    const heap = newHeap(only);
    const buffer = allocatesHere(heap);
    freesHere(buffer);
    heap.alloc(1).fill('secret');
    for (const use of [() => buffer.bytes, () => buffer.text(), () => buffer.retain(), () => buffer.fill('x')]) {
      assert.throws(use, { code: 'ERR_BUFFER_FREED', message: /freesHere/ });
    }
  });

  it('poisons what is freed, and names a write after it at the next allocation', () => {
    const heap = newHeap(only);
    const buffer = allocatesHere(heap).fill('data');
    const { memory, base } = buffer;
    freesHere(buffer);
    assert.equal(memory[base], 0xdb);
    memory[base + 5] = 1;
    assert.throws(() => heap.tryAlloc(1), { code: 'ERR_BUFFER_FREED', message: /written at byte 5[\s\S]*freesHere/ });
  });

  it('finds a write into a buffer that was never allocated', () => {
    const heap = newHeap(only);
    heap.region.u8[3] = 7;
    assert.throws(() => heap.alloc(1), { code: 'ERR_BUFFER_FREED', message: /written at byte 3/ });
  });
});

describe('a heap with headroom', () => {
  it('leaves so many bytes in front of what it gives', () => {
    const sizeClasses = [
      { bytes: 256, count: 2 },
      { bytes: 1024, count: 2 },
    ];
    const heap = new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: 128, checked: true });
    assert.equal(heap.largest, 896);
    const small = heap.alloc(128);
    assert.equal(small.offset - small.base, 128);
    assert.equal(small.capacity, 256);
    assert.equal(heap.alloc(129).capacity, 1024);
    small.fill('x'.repeat(128));
    assert.equal(small.offset - small.base, 128);
    assert.throws(() => small.fill('x'.repeat(129)), RangeError);
    assert.throws(() => heap.alloc(897), RangeError);
    assert.throws(() => new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: 1024 }), RangeError);
    assert.throws(() => new Heap(localRegion(heapBytes(sizeClasses)), { sizeClasses, headroom: 2 }), RangeError);
  });
});
