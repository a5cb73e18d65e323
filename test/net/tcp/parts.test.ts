/** The parts of TCP that stand alone: hashes, cookies, the table, queues and reassembly. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TimerWheel } from '../../../src/kernel/timers.ts';
import { Flow } from '../../../src/net/flow.ts';
import type { Connection } from '../../../src/net/tcp/connection.ts';
import {
  cookieMss,
  cookieSack,
  cookieTimestamp,
  cookieWindowScale,
  initialSequence,
  synCookie,
} from '../../../src/net/tcp/isn.ts';
import { Reassembly } from '../../../src/net/tcp/reassembly.ts';
import { SendQueue } from '../../../src/net/tcp/send-queue.ts';
import { Mark, Rec, SentRecords } from '../../../src/net/tcp/sent-records.ts';
import { message, sipHash, sipHigh } from '../../../src/net/tcp/siphash.ts';
import { ConnectionTable } from '../../../src/net/tcp/table.ts';
import { Tcp } from '../../../src/net/tcp/tcp.ts';
import { Heap } from '../../../src/ring/heap.ts';
import { localRegion } from '../../../src/ring/region.ts';
import { FlatOutput, streamByte } from '../segment-tools.ts';

const KEY = Int32Array.of(0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c);

test("SipHash-2-4 gives its authors' test vectors", () => {
  const vectors: [number, number, number][] = [
    [0, 0xdd0e0e31, 0x726fdb47],
    [1, 0x277187b7, 0xcf2794e0],
    [2, 0x9a932462, 0x93f5f579],
  ];
  for (const [words, low, high] of vectors) {
    message[0] = 0x03020100;
    message[1] = 0x07060504;
    assert.equal(sipHash(KEY, words) >>> 0, low);
    assert.equal(sipHigh() >>> 0, high);
  }
});

function flowOf(n: number): Flow {
  const flow = new Flow();
  flow.local3 = 0x0a000001;
  flow.localPort = 80;
  flow.remote3 = n >>> 16;
  flow.remotePort = n & 0xffff;
  return flow;
}

test('initial sequence numbers differ by flow and by key and grow with the clock', () => {
  const a = initialSequence(flowOf(1), KEY, 0);
  assert.notEqual(a, initialSequence(flowOf(2), KEY, 0));
  assert.notEqual(a, initialSequence(flowOf(1), Int32Array.of(1, 2, 3, 4), 0));
  assert.equal((initialSequence(flowOf(1), KEY, 250) - a) | 0, 250);
});

test('a cookie comes back with its MSS while it is fresh, and only for its own flow', () => {
  const cookie = synCookie(flowOf(1), KEY, 42, 1400, 1_000_000);
  assert.equal(cookieMss(flowOf(1), KEY, 42, cookie, 1_000_000), 1360);
  assert.equal(cookieMss(flowOf(1), KEY, 42, cookie, 1_060_000), 1360);
  assert.equal(cookieMss(flowOf(1), KEY, 42, cookie, 1_200_000), 0);
  assert.equal(cookieMss(flowOf(2), KEY, 42, cookie, 1_000_000), 0);
  assert.equal(cookieMss(flowOf(1), KEY, 43, cookie, 1_000_000), 0);
  assert.equal(cookieMss(flowOf(1), KEY, 42, cookie ^ (1 << 24), 1_000_000), 0);
});

test('a cookie survives the wrap of the clock', () => {
  const before = -5;
  const cookie = synCookie(flowOf(1), KEY, 42, 1460, before);
  assert.equal(cookieMss(flowOf(1), KEY, 42, cookie, 5), 1460);
});

test('options travel in a timestamp that is never ahead of the clock', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.integer({ min: -1, max: 14 }),
      fc.boolean(),
      (now, scale, sack) => {
        const value = cookieTimestamp(now, scale, sack);
        assert.ok(((value - now) | 0) <= 0 && ((now - value) | 0) < 64);
        assert.equal(cookieWindowScale(value), scale);
        assert.equal(cookieSack(value), sack);
      },
    ),
  );
});

test('the table finds what is in it and nothing else, through growth and removal', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(400)), { maxLength: 900 }), (steps) => {
      const table = new ConnectionTable(7, 9);
      const model = new Map<number, Connection>();
      for (const [add, n] of steps) {
        if (add && !model.has(n)) {
          const connection = { flow: flowOf(n) } as Connection;
          model.set(n, connection);
          table.add(connection);
        } else if (!add && model.has(n)) {
          table.remove(model.get(n)!);
          model.delete(n);
        }
      }
      assert.equal(table.size, model.size);
      assert.equal(table.onPort(80), model.size);
      for (let n = 0; n <= 400; n++) assert.equal(table.find(flowOf(n)), model.get(n) ?? null);
      assert.deepEqual(new Set(table), new Set(model.values()));
    }),
    { numRuns: 30 },
  );
});

test('a port without connections is found by its bit', () => {
  const table = new ConnectionTable(7, 9);
  assert.equal(table.unusedPort(32768), 32768);
  for (let port = 32768; port < 32799; port++) table.countPort(port, 1);
  assert.equal(table.unusedPort(32768), 32799);
  table.countPort(32799, 1);
  assert.equal(table.unusedPort(32768), -1);
  table.countPort(32770, 1);
  table.countPort(32770, -1);
  assert.equal(table.unusedPort(32768), -1, 'one connection of two is left');
  table.countPort(32770, -1);
  assert.equal(table.unusedPort(32768), 32770);
  assert.equal(table.unusedPort(32771), -1, 'those before it are not looked at');
  table.countPort(65535, 1);
  assert.equal(table.unusedPort(65535), -1);
});

test('IPv6 flows are told apart by every word and by scope', () => {
  const table = new ConnectionTable(7, 9);
  const flow = new Flow().setLocal(new Uint8Array(16).fill(1), 80).setRemote(new Uint8Array(16).fill(2), 9);
  const connection = { flow } as Connection;
  table.add(connection);
  assert.equal(table.find(new Flow().copy(flow)), connection);
  for (let i = 0; i < 16; i++) {
    const bytes = new Uint8Array(16).fill(2);
    bytes[i] = 3;
    assert.equal(table.find(new Flow().copy(flow).setRemote(bytes, 9)), null);
  }
  const scoped = new Flow().copy(flow);
  scoped.scope = 4;
  assert.equal(table.find(scoped), null);
});

const CLASSES = [{ bytes: 2048, count: 64 }];

test('reassembly gives back the stream whatever the order and overlap', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 120 })), { maxLength: 40 }), (pieces) => {
      const heap = new Heap(localRegion(256 << 10), { sizeClasses: CLASSES, checked: true });
      const reassembly = new Reassembly();
      const start = -200;
      for (const [at, length] of [...pieces, [0, 520]] as const) {
        const packet = heap.alloc(600);
        for (let i = 0; i < length; i++) packet.memory[packet.base + i] = streamByte(at + i);
        reassembly.add(packet, start + at, packet.base, length, 50);
        packet.release();
      }
      let next = 0;
      for (let buffer = reassembly.take(start); buffer !== null; buffer = reassembly.take(start + next)) {
        for (const byte of buffer.bytes) assert.equal(byte, streamByte(next++));
        buffer.release();
      }
      assert.equal(next, 520);
      assert.equal(reassembly.bytes, 0);
      assert.equal(heap.inUse, 0);
    }),
    { numRuns: 100 },
  );
});

test('reassembly refuses what passes its limit and says what is a duplicate', () => {
  const heap = new Heap(localRegion(256 << 10), { sizeClasses: CLASSES });
  const reassembly = new Reassembly();
  const add = (seq: number, length: number): number => {
    const packet = heap.alloc(200);
    const kept = reassembly.add(packet, seq, packet.base, length, 2);
    packet.release();
    return kept;
  };
  assert.deepEqual(
    [add(10, 10), add(10, 10), add(12, 5), add(30, 10), add(50, 10), add(15, 20)],
    [10, 0, 0, 10, -1, -1],
  );
  // One that covers both takes their place.
  assert.equal(add(5, 40), 40);
  assert.equal(reassembly.count, 1);
  reassembly.clear();
  assert.equal(heap.inUse, 0);
});

test('reassembly keeps only the bytes that it does not have', () => {
  const heap = new Heap(localRegion(256 << 10), { sizeClasses: CLASSES });
  const reassembly = new Reassembly();
  const add = (seq: number, length: number): number => {
    const packet = heap.alloc(200);
    const kept = reassembly.add(packet, seq, packet.base, length, 9);
    packet.release();
    return kept;
  };
  assert.deepEqual([add(10, 10), add(5, 8), add(15, 10), add(24, 3)], [10, 5, 5, 2]);
  assert.equal(reassembly.bytes, 22);
  reassembly.clear();
  assert.equal(heap.inUse, 0);
});

test('the send queue finds every byte and lets go of what is acknowledged', () => {
  const heap = new Heap(localRegion(256 << 10), { sizeClasses: CLASSES });
  const queue = new SendQueue();
  let seq = 2 ** 31 - 100;
  const first = seq;
  for (let i = 1; i <= 20; i++) {
    const buffer = heap.alloc(i * 3);
    queue.push(buffer, seq | 0);
    seq += i * 3;
  }
  for (const at of [first, first + 2, first + 3, first + 400, seq - 1, first]) {
    const slot = queue.find(at | 0);
    const skip = ((at | 0) - queue.start(slot)) | 0;
    assert.ok(skip >= 0 && skip < queue.length(slot));
  }
  assert.equal(queue.find(seq | 0), -1);
  queue.acknowledge((first + 3 + 6) | 0);
  assert.equal(heap.inUse, 18);
  queue.acknowledge((first + 3 + 6 + 8) | 0);
  assert.equal(heap.inUse, 18);
  assert.equal(queue.find((first + 5) | 0), -1);
  queue.clear();
  assert.equal(heap.inUse, 0);
});

test('records keep their order through growth, wrapping and splitting', () => {
  const records = new SentRecords();
  for (let i = 0; i < 3; i++) records.push(i, 1, 0, 0);
  records.shift();
  records.shift();
  for (let i = 3; i < 12; i++) records.push(i * 100, 100, i, i === 11 ? Mark.FIN : 0);
  records.split(9, 40);
  records.split(1, 60);
  const rows = Array.from({ length: records.count }, (_, i) => {
    const at = records.at(i);
    return [records.words[at + Rec.SEQ], records.words[at + Rec.LENGTH], records.words[at + Rec.FLAGS]];
  });
  assert.deepEqual(rows.slice(0, 4), [
    [2, 1, 0],
    [300, 60, 0],
    [360, 40, 0],
    [400, 100, 0],
  ]);
  assert.deepEqual(rows.slice(-2), [
    [1100, 40, 0],
    [1140, 60, Mark.FIN],
  ]);
});

class Nowhere extends FlatOutput {
  override sent(): void {}
}

function idleTcp(maxConnections = 131072): { tcp: Tcp; heap: Heap } {
  const heap = new Heap(localRegion(1 << 20), { sizeClasses: [{ bytes: 256, count: 64 }] });
  const options = { heap, output: new Nowhere(heap), timers: new TimerWheel(0), secret: KEY, random: () => 5, now: 0 };
  return { tcp: new Tcp({ ...options, config: { maxConnections } }), heap };
}

test('connect chooses a free port each time and says when there is none', () => {
  const heap = new Heap(localRegion(1 << 20), { sizeClasses: [{ bytes: 256, count: 64 }] });
  const options = { heap, output: new Nowhere(heap), timers: new TimerWheel(0), secret: KEY, random: () => 5, now: 0 };
  const tcp = new Tcp({ ...options, config: { firstPort: 50000, lastPort: 50002 } });
  const ends = flowOf(0x50007);
  ends.localPort = 0;
  const ports = [0, 1, 2].map(() => tcp.connect(ends).flow.localPort);
  assert.deepEqual(ports.sort(), [50000, 50001, 50002]);
  assert.throws(() => tcp.connect(ends), { code: 'EADDRNOTAVAIL' });
});

test('the same two ends cannot be connected twice, and the bound on connections holds', () => {
  const { tcp } = idleTcp(2);
  tcp.connect(flowOf(0x50007));
  assert.throws(() => tcp.connect(flowOf(0x50007)), { code: 'EADDRINUSE' });
  tcp.connect(flowOf(0x50008));
  assert.throws(() => tcp.connect(flowOf(0x50009)), { code: 'ENOBUFS' });
  assert.equal(tcp.counters.connectionsRefused, 1);
});

test('listeners: one per address and port, the other family beside it, dual taking both', () => {
  const { tcp } = idleTcp();
  const v4 = new Flow().setLocal(new Uint8Array(4), 80);
  const v6 = new Flow().setLocal(new Uint8Array(16), 80);
  const first = tcp.listen(v4, 4);
  tcp.listen(v6, 4).close();
  assert.throws(() => tcp.listen(v4, 4), { code: 'EADDRINUSE' });
  assert.throws(() => tcp.listen(v6, 4, true), { code: 'EADDRINUSE' });
  first.close();
  const dual = tcp.listen(v6, 4, true);
  assert.throws(() => tcp.listen(v4, 4), { code: 'EADDRINUSE' });
  dual.close();
  assert.ok(tcp.listen(new Flow().setLocal(new Uint8Array(4), 0), 4).local.localPort >= 49152);
});
