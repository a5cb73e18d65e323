import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type IpWords, wordsOfText } from '../../../src/net/ip/words.ts';
import { UdpEvent, type UdpSocket } from '../../../src/net/udp/socket.ts';
import { type Ends, ipFrame, udpBytes, udpFrame } from '../frames.ts';
import { type Host, World } from '../hosts.ts';

const HERE: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };
const HERE6: Ends = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' };
const DATA = new TextEncoder().encode('data');
const at = (text: string): IpWords => wordsOfText(text);

function pair(seed = 1, faults?: { seed: number; loss: number }): { world: World; a: Host; b: Host } {
  const world = new World(seed);
  const options = faults === undefined ? {} : { faults };
  const a = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'], ...options });
  const b = world.host({ addresses: ['10.0.0.2/24', 'fd00::2/64'], ...options });
  return { world, a, b };
}

/** Sends back what it gets. */
function echo(socket: UdpSocket): () => void {
  return () => {
    for (let got = socket.read(); got !== null; got = socket.read()) assert.equal(socket.reply(got), 0);
  };
}

test('an echo between two stacks, both families, connected and not', () => {
  const { world, a, b } = pair();
  for (const [family, address] of [
    [4, '10.0.0.2'],
    [6, 'fd00::2'],
  ] as const) {
    const server = b.stack.udp.open(family);
    server.bind(null, 7);
    const connected = a.stack.udp.open(family);
    connected.connect(at(address), 7);
    const loose = a.stack.udp.open(family);
    loose.bind(null, 0);
    assert.ok(loose.flow.localPort >= 49_152);
    assert.equal(connected.send(a.buffer('one')), 0);
    assert.equal(loose.sendTo(a.buffer('two'), at(address), 7), 0);
    world.settle(echo(server));
    for (const [socket, text] of [
      [connected, 'one'],
      [loose, 'two'],
    ] as const) {
      const got = socket.read()!;
      assert.equal(got.text(), text);
      assert.deepEqual(got.peer, { host: address, port: 7 });
      got.release();
    }
    // Each raised its event once.
    assert.equal(a.stack.udp.nextReady()?.takeEvents(), UdpEvent.READABLE);
    assert.equal(a.stack.udp.nextReady()?.takeEvents(), UdpEvent.READABLE);
    assert.equal(a.stack.udp.nextReady(), null);
    server.close();
  }
  assert.equal(world.dispose(), 0);
});

test('nothing is copied: the application reads the frame’s own buffer, and its reply leaves in it', () => {
  const { world, b } = pair();
  const server = b.stack.udp.open(4);
  server.bind(null, 7);
  b.stack.neighbours.set(4, 0, 0, 0, at('10.0.0.9').w3, 0x0200, 0x5e000009, true);
  const bytes = udpFrame({ ...HERE, toMac: 2, to: '10.0.0.2' }, 99, 7, DATA);
  const frame = b.heap.alloc(bytes.length);
  frame.memory.set(bytes, frame.base);
  b.stack.input(frame);
  frame.release();
  const got = server.read()!;
  assert.equal(got, frame);
  assert.equal(got.offset, frame.base + 42);
  const used = b.heap.inUse;
  let seen = 0;
  const { device } = b;
  const transmit = device.transmit.bind(device);
  device.transmit = (packet, payload, offset, length) => {
    seen++;
    assert.equal(packet, frame);
    assert.equal(payload, null);
    assert.equal(b.heap.inUse, used);
    transmit(packet, payload, offset, length);
  };
  assert.equal(server.reply(got), 0);
  assert.equal(seen, 1);
  // Where others hold the buffer, or there is no room in front, a header of its own goes before it.
  device.transmit = (packet, payload, offset, length) => {
    seen++;
    assert.equal(payload?.memory, packet.memory);
    assert.equal(length, 4);
    transmit(packet, payload, offset, length);
  };
  const other = b.buffer('data', 64).retain();
  assert.equal(server.sendTo(other, at('10.0.0.9'), 99), 0);
  assert.equal(other.offset, other.base + 64);
  other.release();
  assert.equal(server.sendTo(b.buffer('data', 41), at('10.0.0.9'), 99), 0);
  assert.equal(seen, 3);
  assert.equal(world.dispose(), 0);
});

test('ports: taken, free again, any against one address, both families', () => {
  const { world, a } = pair();
  const { udp } = a.stack;
  const code = (run: () => void): string => {
    try {
      run();
      return 'no error';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const first = udp.open(4);
  first.bind(at('10.0.0.1'), 53);
  assert.equal(
    code(() => udp.open(4).bind(at('10.0.0.1'), 53)),
    'EADDRINUSE',
  );
  assert.equal(
    code(() => udp.open(4).bind(null, 53)),
    'EADDRINUSE',
  );
  assert.equal(
    code(() => udp.open(4).bind(at('127.0.0.1'), 53)),
    'no error',
  );
  assert.equal(
    code(() => udp.open(6).bind(null, 53)),
    'no error',
  );
  assert.equal(
    code(() => udp.open(6, { dual: true }).bind(null, 53)),
    'EADDRINUSE',
  );
  assert.equal(
    code(() => udp.open(4).bind(at('10.0.0.77'), 53)),
    'EADDRNOTAVAIL',
  );
  assert.equal(
    code(() => udp.open(4).bind(at('fd00::1'), 54)),
    'EAFNOSUPPORT',
  );
  assert.equal(
    code(() => first.bind(null, 55)),
    'EINVAL',
  );
  assert.throws(() => udp.open(4).bind(null, 70_000), RangeError);
  assert.equal(
    code(() => udp.open(4).connect(at('8.8.8.8'), 53)),
    'ENETUNREACH',
  );
  assert.equal(
    code(() => udp.open(4).connect(at('fd00::2'), 53)),
    'EAFNOSUPPORT',
  );
  first.close();
  first.close();
  assert.equal(
    code(() => udp.open(4).bind(at('10.0.0.1'), 53)),
    'no error',
  );
  assert.equal(world.dispose(), 0);
});

test('a datagram goes to the connected socket before the bound one before the one for any', () => {
  const { world, a } = pair();
  const { udp } = a.stack;
  const any = udp.open(4);
  any.bind(null, 60);
  a.receive(udpFrame(HERE, 99, 60, DATA));
  assert.equal(any.readable, 1);
  any.close();
  const bound = udp.open(4);
  bound.bind(at('10.0.0.1'), 60);
  bound.connect(at('10.0.0.9'), 99);
  a.receive(udpFrame(HERE, 99, 60, DATA));
  a.receive(udpFrame(HERE, 98, 60, DATA));
  a.receive(udpFrame({ ...HERE, from: '10.0.0.8' }, 99, 60, DATA));
  assert.equal(bound.readable, 1, 'a connected socket hears its peer only');
  assert.equal(a.count('drop.udpPort'), 2);
  assert.equal(world.dispose(), 0);
});

test('a socket for both families has IPv4 peers as IPv6 addresses, and answers them', () => {
  const { world, a } = pair();
  const socket = a.stack.udp.open(6, { dual: true });
  socket.bind(null, 61);
  const peer = at('fd00::9');
  a.stack.neighbours.set(4, 0, 0, 0, at('10.0.0.9').w3, 0x0200, 0x5e000009, true);
  a.stack.neighbours.set(6, peer.w0, peer.w1, peer.w2, peer.w3, 0x0200, 0x5e000009, true);
  a.receive(udpFrame(HERE, 99, 61, DATA));
  a.receive(udpFrame(HERE6, 99, 61, DATA));
  const first = socket.read()!;
  const second = socket.read()!;
  assert.equal(first.peer?.host, '::ffff:10.0.0.9');
  assert.equal(second.peer?.host, 'fd00::9');
  assert.equal(socket.reply(first), 0);
  assert.equal(socket.reply(second), 0);
  assert.equal(socket.sendTo(a.buffer('x'), at('::ffff:10.0.0.9'), 99), 0);
  const types = a.device.take().map((frame) => (frame[12]! << 8) | frame[13]!);
  assert.deepEqual(types, [0x0800, 0x86dd, 0x0800]);
  assert.equal(world.dispose(), 0);
});

test('the receive queue is bounded in datagrams and in bytes', () => {
  const { world, a } = pair();
  const few = a.stack.udp.open(4, { limits: { datagrams: 4, bytes: 10_000 } });
  few.bind(null, 62);
  const small = a.stack.udp.open(4, { limits: { datagrams: 400, bytes: 2500 } });
  small.bind(null, 63);
  for (let i = 0; i < 10; i++) a.receive(udpFrame(HERE, 99, 62, DATA));
  for (let i = 0; i < 10; i++) a.receive(udpFrame(HERE, 99, 63, new Uint8Array(1000)));
  assert.deepEqual([few.readable, few.dropped, small.readable, small.dropped], [4, 6, 2, 8]);
  assert.equal(a.count('drop.udpQueueFull'), 14);
  // The ring goes round.
  for (let i = 0; i < 20; i++) {
    few.read()!.release();
    a.receive(udpFrame(HERE, 99, 62, Uint8Array.of(i)));
    assert.equal(few.readable, 4);
  }
  const last: number[] = [];
  for (let got = few.read(); got !== null; got = few.read()) {
    last.push(got.memory[got.offset]!);
    got.release();
  }
  assert.deepEqual(last, [16, 17, 18, 19]);
  assert.equal(world.dispose(), 0);
});

test('checksums: wrong ones are dropped, none is right for IPv4 only', () => {
  const { world, a } = pair();
  const socket = a.stack.udp.open(4);
  socket.bind(null, 64);
  const socket6 = a.stack.udp.open(6);
  socket6.bind(null, 64);
  const bytes = udpBytes(HERE, 99, 64, DATA);
  bytes[8] = bytes[8]! ^ 1;
  a.receive(ipFrame(HERE, 17, bytes));
  assert.equal(socket.readable, 0);
  const none = udpBytes(HERE, 99, 64, DATA);
  none[6] = none[7] = 0;
  a.receive(ipFrame(HERE, 17, none));
  assert.equal(socket.readable, 1);
  a.receive(ipFrame(HERE6, 17, none));
  assert.equal(socket6.readable, 0);
  assert.equal(a.count('drop.udpChecksum'), 2);
  assert.equal(world.dispose(), 0);
});

test('what cannot be sent: no room keeps the buffer with the caller, everything else releases it', () => {
  const { world, a } = pair();
  const socket = a.stack.udp.open(4);
  assert.equal(socket.send(a.buffer('x')), 89);
  assert.equal(socket.reply(a.buffer('x')), 89);
  assert.equal(socket.sendTo(a.buffer('x'), at('fd00::2'), 7), 97);
  assert.equal(socket.sendTo(a.buffer('x'), at('8.8.8.8'), 7), 101);
  assert.equal(socket.sendTo(a.buffer('x'), at('10.0.0.2'), 0), 22);
  assert.equal(socket.sendTo(a.buffer(new Uint8Array(65_508)), at('10.0.0.2'), 7), 90);
  assert.equal(a.heap.inUse, 0);
  a.device.limit = 0;
  const kept = a.buffer('x');
  assert.equal(socket.sendTo(kept, at('10.0.0.2'), 7), 11);
  assert.equal(kept.references, 1);
  kept.release();
  assert.equal(world.dispose(), 0);
});

test('broadcast and groups leave to their hardware addresses and arrive at bound sockets', () => {
  const { world, a, b } = pair();
  const server = b.stack.udp.open(4);
  server.bind(null, 67);
  const client = a.stack.udp.open(4);
  a.stack.addRoute('224.0.0.0', 4, null);
  for (const address of ['255.255.255.255', '10.0.0.255', '224.0.0.1', '224.0.0.251']) {
    assert.equal(client.sendTo(a.buffer(address), at(address), 67), 0);
  }
  world.settle();
  const got: string[] = [];
  for (let buffer = server.read(); buffer !== null; buffer = server.read()) {
    got.push(buffer.text());
    buffer.release();
  }
  assert.deepEqual(got, ['255.255.255.255', '10.0.0.255', '224.0.0.1']);
  b.stack.addresses.join(at('224.0.0.251'));
  client.sendTo(a.buffer('joined'), at('224.0.0.251'), 67);
  world.settle();
  const joined = server.read()!;
  assert.equal(joined.text(), 'joined');
  joined.release();
  // A socket bound to the group answers from the host's own address.
  const member = b.stack.udp.open(4);
  member.bind(at('224.0.0.251'), 5353);
  client.sendTo(a.buffer('question'), at('224.0.0.251'), 5353);
  world.settle(echo(member));
  const answer = client.read()!;
  assert.deepEqual(answer.peer, { host: '10.0.0.2', port: 5353 });
  answer.release();
  assert.equal(a.count('arpRequestsOut'), 0);
  assert.equal(world.dispose(), 0);
});

test('path MTU: a "too big" about a datagram of ours makes the next ones fragments; a forged one does not', () => {
  const { world, a, b } = pair();
  const server = b.stack.udp.open(4);
  server.bind(null, 7);
  const client = a.stack.udp.open(4);
  client.bind(null, 5000);
  client.connect(at('10.0.0.2'), 7);
  client.send(a.buffer(new Uint8Array(1400)));
  let quoted = new Uint8Array(0);
  world.carry = (frame) => {
    if (frame.length > 1000) quoted = frame.slice(14);
    return true;
  };
  world.settle();
  server.read()!.release();
  const tooBig = (mtu: number, change: (bytes: Uint8Array) => void): void => {
    const quote = quoted.slice(0, 28);
    change(quote);
    const bytes = new Uint8Array(8 + quote.length);
    bytes.set([3, 4, 0, 0, 0, 0, mtu >> 8, mtu & 255]);
    bytes.set(quote, 8);
    let sum = 0;
    for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    bytes.set([sum >> 8, sum & 255], 2);
    a.receive(ipFrame({ ...HERE, from: '10.0.0.254' }, 1, bytes));
  };
  const mtu = (): number => a.stack.output.mtu(client.flow);
  tooBig(1000, (quote) => quote.set([0x13, 0x89], 20));
  tooBig(1000, (quote) => quote.set([10, 0, 0, 77], 12));
  tooBig(1000, (quote) => quote.set([0, 100], 2));
  tooBig(1499, () => {});
  assert.equal(mtu(), 1500);
  tooBig(1000, () => {});
  assert.equal(mtu(), 1000);
  assert.equal(a.count('pathMtuLowered'), 1);
  client.send(a.buffer(new Uint8Array(1400)));
  world.settle();
  assert.equal(a.count('fragmentsOut'), 2);
  const got = server.read()!;
  assert.equal(got.length, 1400);
  got.release();
  world.run(600_000);
  assert.equal(mtu(), 1500, 'tried again after ten minutes');
  assert.equal(world.dispose(), 0);
});

test('echo with a fifth of all frames lost: what comes back is what was sent', () => {
  let answered = 0;
  for (let seed = 1; seed <= 5; seed++) {
    const { world, a, b } = pair(seed, { seed, loss: 0.2 });
    const server = b.stack.udp.open(4);
    server.bind(null, 7);
    const client = a.stack.udp.open(4);
    client.connect(at('10.0.0.2'), 7);
    for (let i = 0; i < 40; i++) {
      client.send(a.buffer(`message ${i}`));
      world.run(200, echo(server));
      for (let got = client.read(); got !== null; got = client.read()) {
        assert.match(got.text(), /^message \d+$/);
        answered++;
        got.release();
      }
    }
    assert.equal(world.dispose(), 0);
  }
  assert.ok(answered > 80, `${answered} of 200`);
});
