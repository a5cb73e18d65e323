import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Flow } from '../../src/net/flow.ts';
import { wordsOfText } from '../../src/net/ip/words.ts';
import { Chance } from '../../src/net/middleware/chance.ts';
import { checksum, fold } from '../../src/net/wire/checksum.ts';
import { Protocol } from '../../src/net/wire/ipv4.ts';
import { TCP_CHECKSUM_AT } from '../../src/net/wire/tcp.ts';
import { UDP_CHECKSUM_AT } from '../../src/net/wire/udp.ts';
import { arpFrame, type Ends, icmpFrame, ipFrame, udpBytes, udpFrame } from './frames.ts';
import { type Host, hex, testHeap, World } from './hosts.ts';
import { viewOf } from './view.ts';

const V4: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
const V6: Ends = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' };
const TO_ALL: Ends = { ...V4, toMac: 'all', to: '10.0.0.255' };
const SMALL = {
  neighbours: { entries: 16, queued: 4, queuedInAll: 16 },
  reassembly: { datagrams: 8, fragments: 16, held: 32, timeoutMs: 60_000 },
};

function target(): { world: World; host: Host } {
  const world = new World(5);
  const heap = testHeap(false, [
    { bytes: 2048, count: 256 },
    { bytes: 65536 + 256, count: 4 },
  ]);
  const host = world.host({
    heap,
    addresses: ['10.0.0.1/24', 'fd00::1/64', 'fe80::1/64'],
    limits: { ...SMALL },
    tcp: { maxConnections: 64 },
  });
  host.stack.addRoute('0.0.0.0', 0, '10.0.0.254');
  const socket = host.stack.udp.open(6, { dual: true, limits: { datagrams: 8, bytes: 10_000 } });
  socket.bind(null, 7);
  host.tcp!.listen(new Flow().setLocal(new Uint8Array(16), 80), 8, true);
  return { world, host };
}

/** One valid frame of each kind: what mutations begin from. */
function corpus(): Uint8Array[] {
  const text = new TextEncoder().encode('some data that is sent');
  const mine: Ends = { fromMac: 1, toMac: 9, from: V4.to, to: V4.from };
  const mine6: Ends = { fromMac: 1, toMac: 9, from: V6.to, to: V6.from };
  const quote = ipFrame(mine, 17, udpBytes(mine, 7, 99, text)).subarray(14);
  const quote6 = ipFrame(mine6, 17, udpBytes(mine6, 7, 99, text)).subarray(14);
  const long = udpBytes(V4, 99, 7, new Uint8Array(200));
  const syn = hex('c350 0050 00000001 00000000 a002 ffff 0000 0000 0204 05b4 0402 080a 00000001 00000000 0103 0307');
  const target6 = hex('fd000000000000000000000000000001 0101 02005e000009');
  return [
    arpFrame({ ...V4, toMac: 'all' }, 1, 0),
    arpFrame(V4, 2, 1),
    udpFrame(V4, 99, 7, text),
    udpFrame(V6, 99, 7, text),
    udpFrame(TO_ALL, 99, 7, text),
    udpFrame(V4, 99, 4711, text),
    icmpFrame(V4, 8, 0, 1, text),
    icmpFrame(V6, 128, 0, 1, text),
    icmpFrame(V4, 3, 4, 1000, quote),
    icmpFrame(V4, 3, 3, 0, quote),
    icmpFrame(V6, 2, 0, 1280, quote6),
    icmpFrame(V6, 1, 4, 0, quote6),
    icmpFrame({ ...V6, to: 'ff02::1:ff00:1', toMac: 'all' }, 135, 0, 0, target6, 255),
    icmpFrame(V6, 136, 0, 0x60000000, target6, 255),
    ipFrame(V4, 17, long.subarray(0, 104), { fragment: 0x2000 }),
    ipFrame(V4, 17, long.subarray(104), { fragment: 13 }),
    ipFrame(V6, 44, Uint8Array.from([...hex('1100 0001 00000007'), ...long.subarray(0, 104)])),
    ipFrame(V6, 44, Uint8Array.from([...hex('1100 0068 00000007'), ...long.subarray(104)])),
    ipFrame(V6, 0, Uint8Array.from([...hex('3c00 0104 00000000 1100 0104 00000000'), ...udpBytes(V6, 99, 7, text)])),
    ipFrame(V4, 6, syn),
    ipFrame(V6, 6, syn),
    ipFrame(V4, 200, text),
  ];
}

/** Nothing has grown beyond its bound, and what came to wait is no more than the bounds add up to. */
function check(host: Host): void {
  const seen = host.stack.observe();
  assert.ok(seen['neighbours']! <= 16);
  assert.ok(seen['neighbourPacketsWaiting']! <= 16);
  assert.ok(seen['fragmentsHeld']! <= 32);
  assert.ok(seen['reassembling']! <= 8);
  assert.ok(seen['pathMtus']! <= 1024);
  assert.ok(host.heap.inUse <= 32 + 2 * 16 + 8 + 256, `${host.heap.inUse} buffers`);
  for (const name of Object.keys(seen)) assert.ok(seen[name]! >= 0, name);
}

/** Ends the host; every buffer must come back. */
function end(world: World, host: Host): void {
  world.carry = () => false;
  world.run(70_000);
  assert.equal(host.stack.observe()['fragmentsHeld'], 0);
  assert.equal(host.stack.observe()['neighbourPacketsWaiting'], 0);
  for (const connection of [...host.tcp!.table]) host.tcp!.destroy(connection, 0);
  assert.equal(world.dispose(), 0);
}

test('random bytes as frames: nothing is thrown, nothing leaks', () => {
  const { world, host } = target();
  const start = fc.constantFrom(
    '',
    '02005e000001 02005e000009 0800 45',
    '02005e000001 02005e000009 86dd 60',
    '02005e000001 02005e000009 0806 0001',
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 200 }), (head, tail) => {
      host.receive(Uint8Array.from([...hex(head), ...tail]));
      host.device.take();
      check(host);
    }),
    { numRuns: 3000, seed: 11 },
  );
  end(world, host);
});

test('mutated frames, their checksums wrong or right: nothing is thrown, nothing leaks, nothing grows', () => {
  const frames = corpus();
  for (const sealed of [false, true]) {
    const { world, host } = target();
    host.stack.acceptsPartial = sealed;
    const chance = new Chance(sealed ? 21 : 22);
    for (let round = 0; round < 12_000; round++) {
      let bytes = frames[chance.below(frames.length)]!.slice();
      const changes = chance.below(4);
      for (let i = 0; i < changes; i++) {
        // Mostly behind the addresses of the frame, so that it is still for us.
        const at = chance.below(8) === 0 ? chance.below(bytes.length) : 12 + chance.below(bytes.length - 12);
        bytes[at] = chance.below(3) === 0 ? chance.below(256) : bytes[at]! ^ (1 << chance.below(8));
      }
      if (chance.below(6) === 0) bytes = bytes.subarray(0, chance.below(bytes.length));
      if (chance.below(3) !== 0) repair(bytes);
      if (sealed) seal(bytes);
      host.receive(bytes);
      // The device empties now and then; time passes, and the program reads.
      if (chance.below(4) === 0) {
        host.stack.flush();
        host.device.take();
        for (let socket = host.stack.udp.nextReady(); socket !== null; socket = host.stack.udp.nextReady()) {
          socket.takeEvents();
          if (chance.below(2) === 0) socket.read()?.release();
        }
      }
      if (chance.below(50) === 0) {
        world.now += chance.below(2000);
        host.stack.setTime(world.now);
        world.timers.advance(world.now);
      }
      if (round % 16 === 0) check(host);
    }
    // The mutations reach every layer, so that what follows means something.
    for (const reason of [
      'ipTotalLength',
      'ipOption',
      'ipExtension',
      'fragmentOverlap',
      'udpPort',
      'arpSender',
      'ndpConflict',
    ]) {
      assert.ok(host.count(`drop.${reason}`) > 0, reason);
    }
    assert.ok(host.count('reassembled') > 0);
    assert.ok(host.count('errorsSent') > 0);
    assert.ok(host.tcp!.counters.segmentsIn > 100);
    if (sealed) assert.ok(host.count('pathMtuLowered') > 0 && host.tcp!.counters.segmentsOut > 100);
    // The stack still works.
    const before = host.count('echoesAnswered');
    world.now += 60_000;
    host.stack.setTime(world.now);
    world.timers.advance(world.now);
    const nine = wordsOfText('10.0.0.9').w3;
    host.stack.neighbours.set(4, 0, 0, 0, nine, 0x0200, 0x5e000009, true);
    host.receive(icmpFrame(V4, 8, 0, 1, new Uint8Array(8)));
    assert.equal(host.count('echoesAnswered'), before + 1);
    end(world, host);
  }
});

/** Makes the IPv4 header's checksum right, so that what comes after it is read. */
function repair(bytes: Uint8Array): void {
  if (bytes.length < 34 || bytes[12] !== 8 || bytes[13] !== 0 || bytes[14]! >> 4 !== 4) return;
  const length = Math.min((bytes[14]! & 15) * 4, bytes.length - 14) & ~1;
  bytes[24] = 0;
  bytes[25] = 0;
  let sum = 0;
  for (let i = 14; i < 14 + length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
  bytes[24] = sum >> 8;
  bytes[25] = sum & 255;
}

/** Makes the transport's checksum right, in a packet of one piece without extension headers: ICMP's whole, the others partial. */
function seal(bytes: Uint8Array): void {
  const view = viewOf(bytes);
  const v4 = bytes[12] === 8 && bytes[13] === 0 && bytes[14]! >> 4 === 4;
  const upper = v4 ? 14 + (bytes[14]! & 15) * 4 : 54;
  if (bytes.length < upper + 8 || (!v4 && (bytes[12] !== 0x86 || bytes[13] !== 0xdd))) return;
  const protocol = v4 ? bytes[23]! : bytes[20]!;
  const length = Math.min(bytes.length - upper, v4 ? view.getUint16(16) + 14 - upper : view.getUint16(18));
  const isIcmp = protocol === (v4 ? Protocol.ICMP : Protocol.ICMPV6);
  const at = upper + (isIcmp ? 2 : protocol === Protocol.TCP ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT);
  if (length < 8 || (!isIcmp && protocol !== Protocol.TCP && protocol !== Protocol.UDP)) return;
  if (at + 2 > upper + length) return;
  const addresses = v4 ? checksum(view, 26, 8) : checksum(view, 22, 32);
  const pseudo = v4 && isIcmp ? 0 : addresses + protocol + length;
  view.setUint16(at, 0);
  view.setUint16(at, isIcmp ? ~fold(pseudo + checksum(view, upper, length)) : fold(pseudo));
}

test('a heap that is used up drops and counts, and the stack goes on when there is room again', () => {
  const { world, host } = target();
  host.stack.neighbours.set(4, 0, 0, 0, wordsOfText('10.0.0.9').w3, 0x0200, 0x5e000009, true);
  const request = icmpFrame(V4, 8, 0, 1, new Uint8Array(8));
  const frame = host.heap.alloc(request.length);
  frame.memory.set(request, frame.base);
  const taken = [];
  for (let buffer = host.heap.tryAlloc(64); buffer !== null; buffer = host.heap.tryAlloc(64)) taken.push(buffer);
  host.stack.input(frame);
  assert.equal(host.count('drop.noBuffer'), 1);
  for (const buffer of taken) buffer.release();
  host.stack.input(frame);
  assert.equal(host.count('echoesAnswered'), 1);
  frame.release();
  end(world, host);
});
