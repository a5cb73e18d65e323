/** What iperf3 prints, and a bulk flow over the wire in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIperf } from '../../src/bench/stream.ts';
import { wireInMemory } from '../../src/bench/stream-wire.ts';
import { StackDatapath } from '../../src/datapath/stack.ts';
import { Kernel } from '../../src/kernel/kernel.ts';

test('the end of iperf3', () => {
  const text = JSON.stringify({ end: { sum_received: { bits_per_second: 8e9 } } });
  assert.deepEqual(parseIperf(text), { bytesPerSecond: 1e9 });
  for (const wrong of ['', 'iperf3: error', '{}', '{"end":{}}', '{"error":"unable to connect to server"}']) {
    assert.throws(() => parseIperf(wrong), /iperf3 said/);
  }
});

test('the wire in memory carries a stream, and gives every buffer back', () => {
  const [left, right] = wireInMemory();
  const a = new Kernel(new StackDatapath(left));
  const b = new Kernel(new StackDatapath(right));
  const bytes = 4 << 20;
  let received = 0;
  const listener = b.listen({ host: '10.0.0.2', port: 7000 });
  b.spawn(
    listener.serve(function* (conn) {
      for (let buffer = yield* conn.pop(); buffer !== null; buffer = yield* conn.pop()) {
        for (let i = 0; i < buffer.length; i++) {
          if (buffer.memory[buffer.offset + i] !== ((received + i) & 0xff)) throw new Error(`byte ${received + i}`);
        }
        received += buffer.length;
        buffer.release();
      }
    }),
  );
  a.spawn(
    (function* () {
      const conn = yield* a.connect({ host: '10.0.0.2', port: 7000 });
      for (let sent = 0; sent < bytes; sent += 1 << 16) {
        const piece = a.alloc(1 << 16);
        for (let i = 0; i < piece.length; i++) piece.memory[piece.offset + i] = i & 0xff;
        yield* conn.push(piece);
      }
      conn.close();
    })(),
  );
  for (let turns = 0; received < bytes && turns < 1_000_000; turns++) {
    a.turn(0);
    b.turn(0);
  }
  assert.equal(received, bytes);
  a.dispose();
  b.dispose();
  assert.equal(left.heap.inUse, 0);
});
