import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeFrame, TraceDevice, TraceInput } from '../../../src/net/middleware/trace.ts';
import { arpFrame, type Ends, icmpFrame, ipFrame, udpFrame } from '../frames.ts';
import { hex, TestDevice, testHeap } from '../hosts.ts';
import { viewOf } from '../view.ts';

const V4: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
const V6: Ends = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' };
const say = (bytes: Uint8Array): string => describeFrame(viewOf(bytes), 0, bytes.length);

test('every kind of frame in one line', () => {
  const syn = hex('c350 0050 00000001 00000000 5002 ffff 0000 0000');
  assert.equal(say(arpFrame(V4, 1, 0)), 'arp who has 10.0.0.1, tell 10.0.0.9');
  assert.equal(say(arpFrame(V4, 2, 1)), 'arp 10.0.0.9 is at 02:00:5e:00:00:09');
  assert.equal(say(udpFrame(V4, 99, 7, new Uint8Array(5))), '10.0.0.9:99 > 10.0.0.1:7 udp len 5');
  assert.equal(say(udpFrame(V6, 99, 7, new Uint8Array(5))), '[fd00::9]:99 > [fd00::1]:7 udp len 5');
  assert.equal(say(ipFrame(V4, 6, syn)), '10.0.0.9:50000 > 10.0.0.1:80 tcp SYN seq 1 ack 0 win 65535 len 0');
  assert.equal(say(icmpFrame(V6, 128, 0, 1, new Uint8Array(4))), 'fd00::9 > fd00::1 icmp6 type 128 code 0 len 4');
  assert.equal(
    say(ipFrame(V4, 17, new Uint8Array(16), { fragment: 0x2001, id: 5 })),
    '10.0.0.9 > 10.0.0.1 fragment 5 8+ len 16',
  );
  assert.equal(say(hex('02005e000001 02005e000009 88b5 00')), 'type 88b5, 15 bytes');
  assert.equal(say(hex('02005e000001')), 'malformed: frameShort, 6 bytes');
});

test('any bytes are described', () => {
  fc.assert(
    fc.property(fc.constantFrom('0800 45', '86dd 60', '0806'), fc.uint8Array({ maxLength: 80 }), (type, tail) => {
      assert.ok(say(Uint8Array.from([...hex(`02005e000001 02005e000009 ${type}`), ...tail])).length > 0);
    }),
  );
});

test('a device and an input that tell of each frame and pass it on', () => {
  const heap = testHeap();
  const lines: string[] = [];
  const inner = new TestDevice(0x0200, 0x5e000001);
  const device = new TraceDevice(
    inner,
    () => 12.5,
    (line) => lines.push(line),
  );
  const bytes = udpFrame(V4, 99, 7, new Uint8Array(5));
  const packet = heap.alloc(42).fill(bytes.subarray(0, 42));
  const payload = heap.alloc(5).fill(bytes.subarray(42));
  device.transmit(packet, payload, payload.offset, 5);
  payload.release();
  assert.deepEqual(inner.take(), [bytes]);
  let passed = 0;
  const input = new TraceInput(
    { input: () => passed++ },
    () => 13,
    (line) => lines.push(line),
  );
  const frame = heap.alloc(bytes.length).fill(bytes);
  input.input(frame);
  frame.release();
  assert.equal(passed, 1);
  assert.deepEqual(lines, [
    '12.500 > 10.0.0.9:99 > 10.0.0.1:7 udp len 5',
    '13.000 < 10.0.0.9:99 > 10.0.0.1:7 udp len 5',
  ]);
  assert.equal(heap.inUse, 0);
});
