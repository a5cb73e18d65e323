import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { wordsOfText } from '../../../src/net/ip/words.ts';
import type { UdpSocket } from '../../../src/net/udp/socket.ts';
import { describe, type Ends, ipFrame, udpBytes } from '../frames.ts';
import { type Host, type HostOptions, World } from '../hosts.ts';

const V4: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
const V6: Ends = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' };

interface Piece {
  readonly from: number;
  readonly to: number;
  /** The sender's last fragment. */
  readonly last: boolean;
  /** Added to each byte: a forged piece. */
  readonly twist?: number;
}

function setUp(options: HostOptions = {}): { world: World; host: Host; socket: UdpSocket; socket6: UdpSocket } {
  const world = new World();
  const host = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'], ...options });
  const socket = host.stack.udp.open(4);
  socket.bind(null, 7);
  const socket6 = host.stack.udp.open(6);
  socket6.bind(null, 7);
  host.stack.neighbours.set(4, 0, 0, 0, wordsOfText('10.0.0.9').w3, 0x0200, 0x5e000009, true);
  const peer = wordsOfText('fd00::9');
  host.stack.neighbours.set(6, peer.w0, peer.w1, peer.w2, peer.w3, 0x0200, 0x5e000009, true);
  return { world, host, socket, socket6 };
}

function payload(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);
}

function fragment(ends: Ends, packet: Uint8Array, piece: Piece, id: number): Uint8Array {
  const data = packet.slice(piece.from, piece.to).map((byte) => (byte + (piece.twist ?? 0)) & 255);
  const more = !piece.last;
  if (ends === V4) return ipFrame(ends, 17, data, { id, fragment: (piece.from >> 3) | (more ? 0x2000 : 0) });
  const offset = piece.from | (more ? 1 : 0);
  const header = [17, 0, offset >> 8, offset & 255, id >> 24, (id >> 16) & 255, (id >> 8) & 255, id & 255];
  return ipFrame(ends, 44, Uint8Array.from([...header, ...data]));
}

function pieces(length: number, step: number): Piece[] {
  const list: Piece[] = [];
  for (let from = 0; from < length; from += step) {
    list.push({ from, to: Math.min(length, from + step), last: from + step >= length });
  }
  return list;
}

test('fragments in any order, with duplicates, become the datagram that was sent', () => {
  const { world, host, socket, socket6 } = setUp();
  let id = 1;
  fc.assert(
    fc.property(
      fc.integer({ min: 9, max: 3000 }),
      fc.integer({ min: 8, max: 100 }),
      fc.constantFrom(V4, V6),
      fc.array(fc.nat(), { maxLength: 30 }),
      (length, units, ends, order) => {
        const data = payload(length);
        const packet = udpBytes(ends, 99, 7, data);
        const all = pieces(packet.length, 8 * units);
        if (all.length < 2) return;
        id++;
        const queue = [...all];
        order.forEach((n, i) => {
          const a = i % queue.length;
          const b = n % queue.length;
          [queue[a], queue[b]] = [queue[b]!, queue[a]!];
        });
        queue.splice(order.length % queue.length, 0, queue[0]!);
        for (const piece of queue.slice(0, 64)) host.receive(fragment(ends, packet, piece, id));
        const got = (ends === V4 ? socket : socket6).read();
        assert.ok(got !== null, `${all.length} pieces`);
        assert.deepEqual(Uint8Array.from(got.bytes), data);
        got.release();
      },
    ),
    { numRuns: 200 },
  );
  // A duplicate after the end begins a new datagram, which time ends.
  world.run(61_000);
  assert.equal(host.stack.reassembly.datagrams, 0);
  assert.equal(world.dispose(), 0);
});

test('a model agrees on overlaps: a datagram with one is never delivered, one without always is', () => {
  const ends = V4;
  const packet = udpBytes(ends, 99, 7, payload(80 - 8));
  const extra = fc.record({
    from: fc.integer({ min: 0, max: 9 }).map((n) => 8 * n),
    units: fc.integer({ min: 1, max: 5 }),
    twist: fc.constantFrom(0, 0, 0, 1),
    place: fc.nat(),
  });
  const cuts = fc.subarray([1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 1 });
  let delivered = 0;
  fc.assert(
    fc.property(cuts, fc.array(fc.nat(), { maxLength: 10 }), fc.array(extra, { maxLength: 3 }), (at, order, extras) => {
      // A whole datagram in pieces, in some order, with pieces among them that may repeat, overlap or lie.
      const edges = [0, ...at, 10];
      const list = edges.slice(1).map((to, n) => ({ from: 8 * edges[n]!, units: to - edges[n]!, twist: 0 }));
      order.forEach((n, k) => {
        const a = k % list.length;
        const b = n % list.length;
        [list[a], list[b]] = [list[b]!, list[a]!];
      });
      for (const { place, ...more } of extras) list.splice(place % (list.length + 1), 0, more);
      const { world, host, socket } = setUp({ checked: false });
      // The model: which piece each byte came from; an exact duplicate is passed over, everything else that touches is fatal.
      const seen = new Map<string, number>();
      const taken: boolean[] = [];
      let spoiled = false;
      let expected = 0;
      for (const { from, units, twist } of list) {
        const to = Math.min(packet.length, from + 8 * units);
        host.receive(fragment(ends, packet, { from, to, last: to === packet.length, twist }, 5));
        if (spoiled) continue;
        const name = `${from}-${to}`;
        if (seen.has(name)) {
          if (seen.get(name) !== twist) spoiled = true;
          continue;
        }
        for (let i = from; i < to; i++) if (taken[i]) spoiled = true;
        if (spoiled) continue;
        seen.set(name, twist);
        for (let i = from; i < to; i++) taken[i] = true;
        if (taken.filter((byte) => byte).length === packet.length) {
          // Delivered, or thrown away by its checksum where a piece was forged.
          if (![...seen.values()].includes(1)) expected++;
          seen.clear();
          taken.length = 0;
        }
      }
      assert.equal(socket.readable, expected);
      delivered += expected;
      assert.equal(world.dispose(), 0);
    }),
    { numRuns: 300, seed: 7 },
  );
  assert.ok(delivered > 50, `${delivered} delivered`);
});

test('an overlap spoils the datagram with what is still to come, until its time is over (RFC 5722)', () => {
  for (const ends of [V4, V6]) {
    const { world, host, socket, socket6 } = setUp();
    const reader = ends === V4 ? socket : socket6;
    const packet = udpBytes(ends, 99, 7, payload(56));
    const give = (from: number, to: number, twist = 0): void =>
      host.receive(fragment(ends, packet, { from, to, last: to === packet.length, twist }, 5));
    give(0, 32);
    give(24, 64);
    assert.equal(host.stack.reassembly.held, 0);
    assert.equal(host.heap.inUse, 0);
    give(32, 64);
    give(0, 32);
    assert.equal(reader.readable, 0);
    assert.equal(host.count('drop.fragmentOverlap'), 3);
    world.run(60_000);
    give(32, 64);
    give(0, 32);
    assert.equal(reader.readable, 1);
    assert.equal(world.dispose(), 0);
  }
});

test('time runs out: the sender is told where the first fragment is here', () => {
  const { world, host } = setUp();
  const packet = udpBytes(V4, 99, 7, payload(56));
  host.receive(fragment(V4, packet, { from: 0, to: 32, last: false }, 5));
  host.receive(fragment(V4, packet, { from: 32, to: 64, last: true }, 6));
  host.receive(fragment(V6, udpBytes(V6, 99, 7, payload(56)), { from: 0, to: 32, last: false }, 5));
  const told: string[] = [];
  world.carry = (frame) => told.push(describe(frame)) < 0;
  world.run(59_999);
  assert.equal(host.stack.reassembly.datagrams, 3);
  assert.deepEqual(told, []);
  world.run(1);
  assert.deepEqual(told, ['icmp 11/1 10.0.0.1 > 10.0.0.9', 'icmp 3/1 fd00::1 > fd00::9']);
  assert.equal(host.count('drop.fragmentTimeout'), 3);
  assert.equal(host.heap.inUse, 0);
  assert.equal(world.dispose(), 0);
});

test('lengths that cannot be: not a multiple of 8, empty, beyond 65535, data after the end', () => {
  const { world, host, socket } = setUp();
  const raw = (offset: number, data: number, more: boolean, id: number): void =>
    host.receive(ipFrame(V4, 17, new Uint8Array(data), { id, fragment: (offset >> 3) | (more ? 0x2000 : 0) }));
  raw(0, 12, true, 1);
  raw(8, 0, false, 2);
  raw(65_528, 16, false, 3);
  assert.equal(host.count('drop.fragmentLength'), 3);
  assert.equal(host.stack.reassembly.held, 0);
  raw(16, 8, false, 4);
  raw(24, 8, true, 4);
  raw(40, 8, false, 5);
  raw(24, 8, false, 5);
  assert.equal(host.count('drop.fragmentOverlap'), 2);
  // IPv6: told of the length (RFC 8200 4.5), and the chain of headers must be in the first (RFC 7112).
  host.receive(ipFrame(V6, 44, Uint8Array.from([17, 0, 0, 1, 0, 0, 0, 1, ...new Uint8Array(12)])));
  assert.deepEqual(host.device.take().map(describe), ['icmp 4/0 fd00::1 > fd00::9']);
  host.receive(ipFrame(V6, 44, Uint8Array.from([6, 0, 0, 1, 0, 0, 0, 2, ...new Uint8Array(16)])));
  assert.equal(host.count('drop.fragmentHeaders'), 1);
  assert.equal(socket.readable, 0);
  assert.equal(world.dispose(), 0);
});

test('an atomic fragment is a whole packet, whatever else has its identification (RFC 6946)', () => {
  const { world, host, socket6 } = setUp();
  const packet = udpBytes(V6, 99, 7, payload(56));
  host.receive(fragment(V6, packet, { from: 0, to: 32, last: false }, 5));
  host.receive(fragment(V6, packet, { from: 0, to: 64, last: true }, 5));
  assert.equal(socket6.readable, 1);
  host.receive(fragment(V6, packet, { from: 32, to: 64, last: true }, 5));
  assert.equal(socket6.readable, 2);
  assert.equal(world.dispose(), 0);
});

test('a flood of fragments is bounded in datagrams, in fragments and in buffers', () => {
  const reassembly = { datagrams: 4, fragments: 8, held: 12, timeoutMs: 60_000 };
  const { world, host, socket } = setUp({ limits: { reassembly } });
  const packet = udpBytes(V4, 99, 7, payload(400));
  for (let id = 1; id <= 200; id++) {
    for (let n = 0; n < 6; n++) host.receive(fragment(V4, packet, { from: 16 * n, to: 16 * n + 8, last: false }, id));
    assert.ok(host.stack.reassembly.held <= 12);
    assert.ok(host.stack.reassembly.datagrams <= 4);
  }
  // More pieces than a datagram may have.
  const before = host.count('drop.fragmentLimit');
  for (let n = 0; n < 9; n++) host.receive(fragment(V4, packet, { from: 8 * n, to: 8 * n + 8, last: false }, 999));
  assert.ok(host.count('drop.fragmentLimit') > before);
  // And still a datagram gets through.
  for (const piece of pieces(packet.length, 208)) host.receive(fragment(V4, packet, piece, 1000));
  assert.equal(socket.readable, 1);
  assert.equal(world.dispose(), 0);
});

test('long datagrams are sent in fragments, which the other side puts together', () => {
  for (const [address, family] of [
    ['10.0.0.2', 4],
    ['fd00::2', 6],
  ] as const) {
    const world = new World(3);
    const a = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'] });
    const b = world.host({ addresses: ['10.0.0.2/24', 'fd00::2/64'], mtu: 1280 });
    const client = a.stack.udp.open(family);
    client.connect(wordsOfText(address), 7);
    const server = b.stack.udp.open(family);
    server.bind(null, 7);
    for (const size of [1472, 1473, 5000, 30_000, family === 4 ? 65_507 : 65_527]) {
      const data = payload(size);
      assert.equal(client.send(a.buffer(data)), 0);
      world.settle();
      const got = server.read()!;
      assert.deepEqual(Uint8Array.from(got.bytes), data);
      // And back in smaller ones.
      assert.equal(server.reply(got), 0);
      world.settle();
      const back = client.read()!;
      assert.deepEqual(Uint8Array.from(back.bytes), data);
      back.release();
    }
    assert.equal(client.send(a.buffer(new Uint8Array(65_528))), 90);
    assert.equal(world.dispose(), 0);
  }
});
