/** Partial checksums (wire/partial.ts) in frames, and in stacks whose devices leave them so or do not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Flow } from '../../src/net/flow.ts';
import { wordsOfText } from '../../src/net/ip/words.ts';
import type { Listener } from '../../src/net/tcp/listener.ts';
import { completeFrame, partialChecksum } from '../../src/net/wire/partial.ts';
import { type Ends, icmpFrame, ipFrame, leavePartial, tcpFrame, udpBytes, udpFrame } from './frames.ts';
import { type Host, type HostOptions, World } from './hosts.ts';
import { viewOf } from './view.ts';

const V4: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
const V6: Ends = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' };
const PARTIAL = { receivePartial: true, transmitPartial: true };

const isPartial = (frame: Uint8Array): boolean => partialChecksum(viewOf(frame), 0, frame.length) !== 0;

test('what is partial is found and completed, at any offset', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), fc.boolean(), fc.nat(5), (data, v4, isTcp, at) => {
      const ends = v4 ? V4 : V6;
      const whole = isTcp ? tcpFrame(ends, 80, 1000, 16, data) : udpFrame(ends, 5000, 53, data);
      const memory = new Uint8Array(whole.length + 16);
      memory.set(whole, at);
      assert.equal(partialChecksum(viewOf(memory), at, whole.length), 0);
      leavePartial(memory, at);
      const field = isTcp ? 16 : 6;
      // Padding behind the packet is the link's.
      assert.equal(partialChecksum(viewOf(memory), at, whole.length + 4), (v4 ? 34 : 54) | (field << 16));
      completeFrame(viewOf(memory), at, whole.length + 4);
      assert.deepEqual(memory.subarray(at, at + whole.length), whole);
    }),
  );
});

test('what has no partial checksum of its own is none', () => {
  const partial = udpFrame(V4, 5000, 53, new Uint8Array(40));
  leavePartial(partial);
  assert.ok(isPartial(partial));
  for (const [at, value] of [
    [13, 6],
    [14, 0x46],
    [17, 255],
    [20, 0x20],
    [21, 1],
    [23, 1],
  ] as const) {
    const other = partial.slice();
    other[at] = value;
    assert.equal(isPartial(other), false, `byte ${at}`);
  }
  for (let length = 0; length < partial.length; length++) assert.equal(partialChecksum(viewOf(partial), 0, length), 0);
  assert.equal(isPartial(icmpFrame(V4, 8, 0, 1, new Uint8Array(8))), false);
  assert.equal(isPartial(ipFrame(V4, 6, new Uint8Array(17))), false);
});

function pair(one: HostOptions, other: HostOptions): { world: World; a: Host; b: Host; sent: Uint8Array[] } {
  const world = new World(3);
  const a = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'], tcp: true, ...one });
  const b = world.host({ addresses: ['10.0.0.2/24', 'fd00::2/64'], tcp: true, ...other });
  const sent: Uint8Array[] = [];
  world.carry = (frame, from) => {
    if (from === a) sent.push(frame);
    return true;
  };
  return { world, a, b, sent };
}

function listen(host: Host): Listener {
  return host.tcp!.listen(new Flow().setLocal(new Uint8Array(4), 80), 8);
}

function connect(host: Host, to: string): Flow {
  const flow = new Flow();
  flow.remote3 = wordsOfText(to).w3;
  flow.remotePort = 80;
  host.stack.output.selectSource(flow);
  return flow;
}

test('a device that leaves them partial: TCP and UDP are sent so, and taken where the other end does too', () => {
  const { world, a, b, sent } = pair({ offloads: PARTIAL }, { offloads: PARTIAL });
  const listener = listen(b);
  const connection = a.tcp!.connect(connect(a, '10.0.0.2'));
  world.settle();
  const accepted = listener.accept()!;
  assert.ok(connection.send(a.buffer('over TCP', 124)));
  const server = b.stack.udp.open(6);
  server.bind(null, 7);
  const client = a.stack.udp.open(6);
  assert.equal(client.sendTo(a.buffer('over UDP'), wordsOfText('fd00::2'), 7), 0);
  world.settle();
  for (const got of [accepted.read()!, server.read()!]) {
    assert.match(got.text(), /^over (TCP|UDP)$/);
    got.release();
  }
  const ofTransports = sent.filter((frame) =>
    [6, 17].includes(frame[viewOf(frame).getUint16(12) === 0x0800 ? 23 : 20]!),
  );
  assert.ok(ofTransports.length >= 4);
  assert.ok(ofTransports.every(isPartial));
  assert.equal(b.tcp!.counters.badChecksum, 0);
  connection.abort();
  accepted.abort();
  world.dispose();
});

test('any other device: a partial checksum is a wrong one', () => {
  const { world, a, b } = pair({ offloads: PARTIAL }, {});
  listen(b);
  const connection = a.tcp!.connect(connect(a, '10.0.0.2'));
  const server = b.stack.udp.open(4);
  server.bind(null, 7);
  assert.equal(a.stack.udp.open(4).sendTo(a.buffer('x'), wordsOfText('10.0.0.2'), 7), 0);
  world.settle();
  assert.equal(b.tcp!.counters.badChecksum, 1);
  assert.equal(b.count('drop.udpChecksum'), 1);
  assert.equal(server.readable, 0);
  connection.abort();
  world.dispose();
});

test('where partial ones are taken, whole ones are still looked at', () => {
  const { world, b } = pair({}, { offloads: PARTIAL });
  const server = b.stack.udp.open(4);
  server.bind(null, 7);
  const ends: Ends = { fromMac: 9, toMac: 2, from: '10.0.0.9', to: '10.0.0.2' };
  const frame = udpFrame(ends, 99, 7, Uint8Array.of(1, 2, 3));
  b.receive(frame);
  assert.equal(server.readable, 1);
  frame[43] = frame[43]! ^ 1;
  b.receive(frame);
  assert.equal(server.readable, 1);
  leavePartial(frame);
  b.receive(frame);
  assert.equal(server.readable, 2);
  // Half of the sum is no sum: without the length, or complemented.
  const field = viewOf(frame).getUint16(40);
  for (const wrong of [field - 11, ~field & 0xffff]) {
    frame.set([wrong >> 8, wrong & 255], 40);
    b.receive(frame);
  }
  assert.equal(server.readable, 2);
  world.dispose();
});

test('a datagram in pieces has a whole checksum', () => {
  for (const family of [4, 6] as const) {
    // The other end takes whole ones only.
    const { world, a, b, sent } = pair({ offloads: PARTIAL }, {});
    const server = b.stack.udp.open(family);
    server.bind(null, 7);
    const data = Uint8Array.from({ length: 5001 }, (_, i) => (i * 7) & 255);
    const address = wordsOfText(family === 4 ? '10.0.0.2' : 'fd00::2');
    const socket = a.stack.udp.open(family);
    for (const headroom of [0, 120]) assert.equal(socket.sendTo(a.buffer(data, headroom), address, 7), 0);
    world.settle();
    for (let i = 0; i < 2; i++) {
      const got = server.read()!;
      assert.deepEqual(got.bytes.slice(), data);
      got.release();
    }
    assert.ok(a.count('fragmentsOut') >= 8);
    assert.ok(!sent.some(isPartial));
    world.dispose();
  }
});

test('packets to ourselves are taken with partial checksums', () => {
  const { world, a } = pair({ offloads: PARTIAL }, {});
  const listener = listen(a);
  const connection = a.tcp!.connect(connect(a, '10.0.0.1'));
  const server = a.stack.udp.open(4);
  server.bind(null, 7);
  assert.equal(a.stack.udp.open(4).sendTo(a.buffer('to me'), wordsOfText('10.0.0.1'), 7), 0);
  world.settle();
  const accepted = listener.accept()!;
  const got = server.read()!;
  assert.equal(got.text(), 'to me');
  got.release();
  assert.equal(a.tcp!.counters.badChecksum, 0);
  connection.abort();
  accepted.abort();
  world.dispose();
});

test('no checksum at all is as it was: right over IPv4 only', () => {
  const { world, b } = pair({}, { offloads: PARTIAL });
  const server = b.stack.udp.open(4);
  server.bind(null, 7);
  const bytes = udpBytes(V4, 99, 7, Uint8Array.of(1));
  bytes[6] = bytes[7] = 0;
  b.receive(ipFrame({ fromMac: 9, toMac: 2, from: '10.0.0.9', to: '10.0.0.2' }, 17, bytes));
  assert.equal(server.readable, 1);
  world.dispose();
});
