/** Where the key-value server's replies go: buffers of the heap, plain memory beyond one client's share, and the queue behind. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ByteQueue } from '../../src/apps/kv/byte-queue.ts';
import { Output } from '../../src/apps/kv/output.ts';
import { Heap, heapBytes } from '../../src/ring/heap.ts';
import { localRegion } from '../../src/ring/region.ts';

const CLASSES = [
  { bytes: 2048, count: 4 },
  { bytes: 16384, count: 4 },
  { bytes: 65536, count: 8 },
];

function makeHeap(): Heap {
  return new Heap(localRegion(heapBytes(CLASSES)), { sizeClasses: CLASSES, checked: true });
}

/** Everything of the batch in `output`, in the order in which it would be sent. */
function collect(output: Output): Buffer {
  const parts: Buffer[] = [];
  const queue = new ByteQueue();
  for (const buffer of output.takeBuffers() ?? []) {
    parts.push(Buffer.from(buffer.bytes));
    buffer.release();
  }
  output.takeChunks(queue);
  const rest = Buffer.alloc(queue.length);
  assert.equal(queue.take(rest, 0, rest.length), rest.length);
  return Buffer.concat([...parts, rest]);
}

describe('Output', () => {
  it('writes behind the requests, so that the buffer that came in goes out', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    const requests = heap.alloc(2048).fill('PING\r\n');
    output.begin(requests, requests.offset + 6, true, 1e9);
    output.writer.ok();
    assert.equal(requests.text(), 'PING\r\n');
    assert.equal(output.simple, true);
    assert.equal(output.takeBuffer(), requests);
    assert.equal(requests.text(), '+OK\r\n');
    requests.release();
    assert.equal(heap.inUse, 0);
  });

  it('keeps the requests until a batch is taken that needs more buffers, or has no room behind them', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    for (const [size, buffers] of [
      [100, 2],
      [1500, 2],
    ] as const) {
      const requests = heap.alloc(2048).fill('x'.repeat(size));
      output.begin(requests, requests.offset + size, true, 1e9);
      output.writer.bytesBulk(new Uint8Array(5000));
      assert.equal(output.simple, false);
      const { memory, base } = requests;
      assert.equal(memory[base + size - 1], 120);
      const taken = output.takeBuffers()!;
      assert.equal(taken.length, buffers);
      assert.equal(taken[0] === requests, size === 100);
      assert.equal(
        taken.reduce((sum, buffer) => sum + buffer.length, 0),
        5009,
      );
      for (const buffer of taken) buffer.release();
      assert.equal(heap.inUse, 0);
    }
  });

  it('leaves the buffer of requests alone where it is told to', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    const requests = heap.alloc(2048).fill('PING\r\n');
    output.begin(requests, requests.offset + 6, false, 1e9);
    output.writer.ok();
    const reply = output.takeBuffer()!;
    assert.notEqual(reply, requests);
    assert.equal(requests.references, 0);
    reply.release();
    assert.equal(heap.inUse, 0);
  });

  it('releases the buffer of requests that have no reply', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    for (const size of [10, 2000]) {
      const requests = heap.alloc(2048).fill('x'.repeat(size));
      output.begin(requests, requests.offset + size, true, 1e9);
      assert.equal(output.takeBuffer(), null);
      assert.equal(heap.inUse, 0);
    }
  });

  it('never gives the leavings of a failed batch to the next client', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    for (const size of [10, 5000, 300_000]) {
      output.begin(null, 0, false, 1e9);
      output.writer.bytesBulk(Buffer.alloc(size, 's'));
      output.begin(null, 0, false, 1e9);
      output.writer.ok();
      assert.equal(collect(output).toString(), '+OK\r\n');
      assert.equal(heap.inUse, 0);
    }
  });

  it('keeps the order of replies of any size, through buffers and plain memory', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 400_000 }), { minLength: 1, maxLength: 8 }), (sizes) => {
        const heap = makeHeap();
        const output = new Output(heap);
        const expected: Buffer[] = [];
        output.begin(null, 0, false, 1e9);
        for (const [i, size] of sizes.entries()) {
          const value = Buffer.alloc(size, 65 + i);
          output.writer.bytesBulk(value);
          expected.push(Buffer.from(`$${size}\r\n`), value, Buffer.from('\r\n'));
        }
        assert.equal(output.writer.overflowed, false);
        assert.ok(collect(output).equals(Buffer.concat(expected)));
        output.drop();
        assert.equal(heap.inUse, 0);
      }),
      { numRuns: 30, seed: 7 },
    );
  });

  it('asks the engine to pause after much output, and to go on in the next batch', () => {
    const output = new Output(makeHeap());
    output.begin(null, 0, false, 1e9);
    output.writer.bytesBulk(new Uint8Array(100_000));
    assert.equal(output.writer.stop, false);
    output.writer.bytesBulk(new Uint8Array(100_000));
    assert.equal(output.writer.stop, true);
    assert.equal(collect(output).length, 200_000 + 2 * 11);
    output.begin(null, 0, false, 1e9);
    assert.equal(output.writer.stop, false);
  });

  it('refuses to go beyond the limit and leaves nothing behind', () => {
    const heap = makeHeap();
    const output = new Output(heap);
    output.begin(null, 0, false, 1_000_000);
    output.writer.bytesBulk(new Uint8Array(3_000_000));
    assert.equal(output.writer.overflowed, true);
    output.drop();
    assert.equal(heap.inUse, 0);
    output.begin(null, 0, false, 1_000_000);
    output.writer.ok();
    assert.equal(collect(output).toString(), '+OK\r\n');
  });

  it('writes to plain memory where the heap is used up', () => {
    const heap = makeHeap();
    const taken = [];
    for (let buffer = heap.tryAlloc(1); buffer !== null; buffer = heap.tryAlloc(1)) taken.push(buffer);
    const output = new Output(heap);
    output.begin(null, 0, false, 1e9);
    assert.equal(output.simple, false);
    output.writer.ok();
    assert.equal(collect(output).toString(), '+OK\r\n');
    for (const buffer of taken) buffer.release();
    output.begin(null, 0, false, 1e9);
    assert.equal(output.simple, true);
    output.drop();
    assert.equal(heap.inUse, 0);
  });
});

describe('ByteQueue', () => {
  it('is first in first out for any pieces in and out', () => {
    const piece = fc.record({ size: fc.integer({ min: 0, max: 150_000 }), adopted: fc.boolean() });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), fc.integer({ min: 1, max: 200_000 }), (pieces, room) => {
        const queue = new ByteQueue();
        const expected: Buffer[] = [];
        for (const [i, { size, adopted }] of pieces.entries()) {
          const bytes = Buffer.alloc(size + 3, i + 1);
          if (adopted) queue.adopt(bytes, size);
          else queue.append(bytes, 3, size);
          expected.push(Buffer.alloc(size, i + 1));
        }
        const all = Buffer.concat(expected);
        const got: Buffer[] = [];
        while (queue.length > 0) {
          const into = Buffer.alloc(room + 1);
          const n = queue.take(into, 1, room);
          assert.ok(n > 0 && n <= room);
          got.push(into.subarray(1, 1 + n));
        }
        assert.ok(Buffer.concat(got).equals(all));
      }),
      { numRuns: 30, seed: 11 },
    );
  });
});
