import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wordsOfText } from '../../src/net/ip/words.ts';
import { NeighbourState } from '../../src/net/neighbour.ts';
import { arpFrame, describe, type Ends, icmpFrame, ipFrame, udpBytes, udpFrame } from './frames.ts';
import { type Host, hex, World } from './hosts.ts';

const HERE = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' } as const satisfies Ends;
const HERE6 = { fromMac: 9, toMac: 1, from: 'fd00::9', to: 'fd00::1' } as const satisfies Ends;
const LETTERS = new TextEncoder().encode('abcdefghijklmnopqrstuvwxyz');

function alone(options = {}): { world: World; host: Host } {
  const world = new World();
  const host = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'], ...options });
  return { world, host };
}

function sent(host: Host): string[] {
  return host.device.take().map(describe);
}

/** The host knows who .9 is, so that its answers go out at once. */
function knowsNine(host: Host): void {
  host.stack.neighbours.set(4, 0, 0, 0, wordsOfText('10.0.0.9').w3, 0x0200, 0x5e000009, true);
  const peer = wordsOfText('fd00::9');
  host.stack.neighbours.set(6, peer.w0, peer.w1, peer.w2, peer.w3, 0x0200, 0x5e000009, true);
}

test('two hosts ping each other, IPv4 and IPv6, and resolve each other on the way', () => {
  const world = new World();
  const a = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'] });
  const b = world.host({ addresses: ['10.0.0.2/24', 'fd00::2/64'] });
  const ping = (ends: Ends, type: number): void => {
    a.receive(icmpFrame(ends, type, 0, 0x00010001, LETTERS));
    world.settle();
  };
  // A request that claims to be b's makes a answer b, which counts an echo reply.
  ping({ fromMac: 2, toMac: 1, from: '10.0.0.2', to: '10.0.0.1' }, 8);
  ping({ fromMac: 2, toMac: 1, from: 'fd00::2', to: 'fd00::1' }, 128);
  assert.equal(a.count('echoesAnswered'), 2);
  assert.equal(b.count('echoReplies'), 2);
  assert.equal(a.count('arpRequestsOut'), 1);
  assert.equal(a.count('solicitationsOut'), 1);
  assert.equal(b.count('arpRepliesOut'), 1);
  assert.equal(b.count('advertisementsOut'), 1);
  assert.equal(world.dispose(), 0);
});

test('an echo reply has the request’s bytes; a request to a group or to another is not answered', () => {
  const { world, host } = alone();
  knowsNine(host);
  host.receive(icmpFrame(HERE, 8, 0, 0x12345678, LETTERS));
  const [reply] = host.device.take();
  assert.equal(describe(reply!), 'icmp 0/0 10.0.0.1 > 10.0.0.9');
  assert.deepEqual(reply!.subarray(38), Uint8Array.from([...hex('12345678'), ...LETTERS]));
  host.receive(icmpFrame({ ...HERE, toMac: 'all', to: '10.0.0.255' }, 8, 0, 1, LETTERS));
  host.receive(icmpFrame({ ...HERE, to: '10.0.0.7' }, 8, 0, 1, LETTERS));
  host.receive(icmpFrame({ ...HERE, toMac: 7 }, 8, 0, 1, LETTERS));
  // To one host, in a frame to all (RFC 1122 3.3.6).
  host.receive(icmpFrame({ ...HERE, toMac: 'all' }, 8, 0, 1, LETTERS));
  assert.deepEqual(sent(host), []);
  assert.equal(host.count('drop.icmpGroup'), 1);
  assert.equal(host.count('drop.ipNotOurs'), 1);
  assert.equal(host.count('drop.frameNotOurs'), 1);
  assert.equal(host.count('drop.ipLinkBroadcast'), 1);
  assert.equal(world.dispose(), 0);
});

test('echo replies and errors are limited, and the limit refills with time', () => {
  const icmp = { echoesPerSecond: 10, echoBurst: 3, errorsPerSecond: 2, errorBurst: 1 };
  const { world, host } = alone({ limits: { icmp } });
  knowsNine(host);
  for (let i = 0; i < 10; i++) host.receive(icmpFrame(HERE, 8, 0, i, LETTERS));
  assert.equal(sent(host).length, 3);
  assert.equal(host.count('drop.icmpRate'), 7);
  for (let i = 0; i < 10; i++) host.receive(udpFrame(HERE, 1000, 2000, LETTERS));
  assert.deepEqual(sent(host), ['icmp 3/3 10.0.0.1 > 10.0.0.9']);
  assert.equal(host.count('errorsWithheld'), 9);
  world.run(1000);
  for (let i = 0; i < 10; i++) host.receive(icmpFrame(HERE, 8, 0, i, LETTERS));
  assert.equal(sent(host).length, 3);
  assert.equal(world.dispose(), 0);
});

test('a datagram to a port of nobody is refused with the packet quoted', () => {
  const { world, host } = alone();
  knowsNine(host);
  const datagram = udpFrame(HERE, 1000, 2000, LETTERS);
  host.receive(datagram);
  const [error] = host.device.take();
  assert.equal(describe(error!), 'icmp 3/3 10.0.0.1 > 10.0.0.9');
  assert.deepEqual(error!.subarray(42), datagram.subarray(14));
  const datagram6 = udpFrame(HERE6, 1000, 2000, LETTERS);
  host.receive(datagram6);
  const [error6] = host.device.take();
  assert.equal(describe(error6!), 'icmp 1/4 fd00::1 > fd00::9');
  assert.deepEqual(error6!.subarray(62), datagram6.subarray(14));
  // A long one is quoted to 576 and to 1280 bytes in all.
  host.receive(udpFrame(HERE, 1000, 2000, new Uint8Array(1400)));
  host.receive(udpFrame(HERE6, 1000, 2000, new Uint8Array(1400)));
  assert.deepEqual(
    host.device.take().map((frame) => frame.length),
    [14 + 576, 14 + 1280],
  );
  // Never about a broadcast (RFC 1122 3.2.2).
  host.receive(udpFrame({ ...HERE, toMac: 'all', to: '10.0.0.255' }, 1000, 2000, LETTERS));
  assert.deepEqual(sent(host), []);
  assert.equal(world.dispose(), 0);
});

test('unknown protocols are refused; ICMP errors never are', () => {
  const { world, host } = alone();
  knowsNine(host);
  host.receive(ipFrame(HERE, 132, LETTERS));
  host.receive(ipFrame(HERE6, 132, LETTERS));
  assert.deepEqual(sent(host), ['icmp 3/2 10.0.0.1 > 10.0.0.9', 'icmp 4/1 fd00::1 > fd00::9']);
  // A destination option that says to discard and tell, then one about an ICMPv6 error.
  host.receive(ipFrame(HERE6, 60, hex('1100 8504 00000000')));
  assert.deepEqual(sent(host), ['icmp 4/2 fd00::1 > fd00::9']);
  host.receive(icmpFrame(HERE, 3, 3, 0, new Uint8Array(40)));
  host.receive(icmpFrame(HERE6, 1, 4, 0, new Uint8Array(60)));
  assert.deepEqual(sent(host), []);
  assert.equal(host.count('drop.icmpQuote'), 2);
  assert.equal(world.dispose(), 0);
});

test('packets that cannot come from the wire are dropped', () => {
  const { world, host } = alone();
  const socket = host.stack.udp.open(4);
  socket.bind(null, 2000);
  const from = (source: string): void => host.receive(udpFrame({ ...HERE, from: source }, 1, 2000, LETTERS));
  for (const source of [
    '127.0.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '10.0.0.255',
    '10.0.0.1',
    '0.0.0.0',
    '240.0.0.1',
  ]) {
    from(source);
  }
  assert.equal(host.count('drop.ipSource'), 7);
  host.receive(udpFrame({ ...HERE, to: '127.0.0.1' }, 1, 2000, LETTERS));
  host.receive(udpFrame({ ...HERE6, from: 'ff02::1' }, 1, 2000, LETTERS));
  host.receive(udpFrame({ ...HERE6, from: '::1' }, 1, 2000, LETTERS));
  assert.equal(host.count('drop.ipSource'), 9);
  assert.equal(host.count('drop.ipNotOurs'), 1);
  assert.equal(socket.readable, 0);
  from('10.0.0.9');
  assert.equal(socket.readable, 1);
  assert.equal(world.dispose(), 0);
});

test('VLAN tags, 802.3 lengths and unknown types are counted and dropped', () => {
  const { world, host } = alone();
  const tagged = new Uint8Array(64);
  tagged.set(hex('02005e000001 02005e000009 8100 0001 0800'));
  host.receive(tagged);
  tagged.set(hex('88b5'), 12);
  host.receive(tagged);
  tagged.set(hex('0040'), 12);
  host.receive(tagged);
  assert.equal(host.count('drop.frameVlan'), 1);
  assert.equal(host.count('drop.frameType'), 2);
  assert.equal(world.dispose(), 0);
});

test('ARP: questions for us are answered and teach us; answers unasked teach nothing new', () => {
  const { world, host } = alone();
  const { neighbours } = host.stack;
  const nine = wordsOfText('10.0.0.9').w3;
  // An unasked reply, and a gratuitous one, make no entry.
  host.receive(arpFrame(HERE, 2, 1));
  host.receive(arpFrame({ ...HERE, toMac: 'all', to: '10.0.0.9' }, 1, 0));
  assert.equal(neighbours.size, 0);
  host.receive(arpFrame({ ...HERE, toMac: 'all' }, 1, 0));
  assert.deepEqual(sent(host), ['arp reply 10.0.0.1 > 10.0.0.9']);
  assert.equal(neighbours.find(4, 0, 0, 0, nine)?.state, NeighbourState.STALE);
  // Known now: a gratuitous announcement from another station moves it.
  host.receive(arpFrame({ ...HERE, fromMac: 8, toMac: 'all', to: '10.0.0.9' }, 1, 0));
  assert.equal(neighbours.find(4, 0, 0, 0, nine)?.macLo, 0x5e000008);
  assert.equal(host.count('neighboursMoved'), 1);
  // A probe for our address is answered, and nothing is learned from it (RFC 5227).
  host.receive(arpFrame({ ...HERE, fromMac: 7, toMac: 'all', from: '0.0.0.0' }, 1, 0));
  assert.deepEqual(sent(host), ['arp reply 10.0.0.1 > 0.0.0.0']);
  // Nor from hosts that are not on this link.
  host.receive(arpFrame({ ...HERE, from: '192.168.7.7', toMac: 'all' }, 1, 0));
  assert.deepEqual(sent(host), ['arp reply 10.0.0.1 > 192.168.7.7']);
  assert.equal(neighbours.size, 1);
  assert.equal(world.dispose(), 0);
});

test('ARP: an address of ours that another claims is counted and defended once in ten seconds', () => {
  const { world, host } = alone();
  const claim = arpFrame({ ...HERE, from: '10.0.0.1', to: '10.0.0.1', toMac: 'all' }, 1, 0);
  host.receive(claim);
  host.receive(claim);
  assert.deepEqual(sent(host), ['arp request 10.0.0.1 > 10.0.0.1']);
  assert.equal(host.count('drop.arpConflict'), 2);
  world.run(10_000);
  host.receive(claim);
  assert.deepEqual(sent(host), ['arp request 10.0.0.1 > 10.0.0.1']);
  assert.equal(host.stack.neighbours.size, 0);
  assert.equal(world.dispose(), 0);
});

test('addresses are announced', () => {
  const { host } = alone();
  host.stack.announce();
  assert.deepEqual(sent(host), ['arp request 10.0.0.1 > 10.0.0.1', 'icmp 136/0 fd00::1 > ff02::1']);
});

test('neighbour discovery: only with hop limit 255, a test for duplicates is answered to all', () => {
  const { world, host } = alone();
  const target = hex('fd000000000000000000000000000001');
  const group: Ends = { ...HERE6, to: 'ff02::1:ff00:1', toMac: 'all' };
  const withMac = Uint8Array.from([...target, ...hex('0101 02005e000009')]);
  host.receive(icmpFrame(group, 135, 0, 0, withMac, 64));
  assert.equal(host.count('drop.ndpHopLimit'), 1);
  host.receive(icmpFrame(group, 135, 0, 0, withMac, 255));
  assert.deepEqual(sent(host), ['icmp 136/0 fd00::1 > fd00::9']);
  host.receive(icmpFrame({ ...group, from: '::' }, 135, 0, 0, target, 255));
  assert.deepEqual(sent(host), ['icmp 136/0 fd00::1 > ff02::1']);
  host.receive(icmpFrame({ ...group, from: '::' }, 135, 0, 0, withMac, 255));
  assert.equal(host.count('drop.ndpInvalid'), 1);
  // Router advertisements and redirects are not believed.
  host.receive(icmpFrame({ ...HERE6, from: 'fe80::9' }, 134, 0, 0, new Uint8Array(8), 255));
  host.receive(icmpFrame({ ...HERE6, from: 'fe80::9' }, 137, 0, 0, new Uint8Array(32), 255));
  assert.equal(host.count('drop.ndpIgnored'), 2);
  // Another host says that our address is its own.
  host.receive(icmpFrame({ ...group, to: 'ff02::1' }, 136, 0, 1 << 29, withMac, 255));
  assert.equal(host.count('drop.ndpConflict'), 1);
  assert.equal(world.dispose(), 0);
});

test('neighbour discovery in fragments is not read (RFC 6980), even in one', () => {
  const { world, host } = alone();
  const ends: Ends = { ...HERE6, to: 'fd00::1' };
  const whole = icmpFrame(ends, 135, 0, 0, hex('fd000000000000000000000000000001 0101 02005e000009'), 255);
  const atomic = Uint8Array.from([...hex('3a00 0000 00000001'), ...whole.subarray(54)]);
  host.receive(ipFrame(ends, 44, atomic, { hops: 255 }));
  assert.equal(host.count('drop.ndpFragment'), 1);
  assert.equal(host.stack.neighbours.size, 0);
  assert.equal(world.dispose(), 0);
});

test('where the host answers, this stack answers nothing and asks through the lookup', () => {
  const asked: number[] = [];
  const { world, host } = alone({ answers: false, lookup: (n: { w3: number }) => asked.push(n.w3) });
  host.receive(arpFrame({ ...HERE, toMac: 'all' }, 1, 0));
  host.receive(icmpFrame(HERE, 8, 0, 1, LETTERS));
  host.receive(udpFrame(HERE, 1000, 2000, LETTERS));
  host.stack.announce();
  assert.deepEqual(sent(host), []);
  const socket = host.stack.udp.open(4);
  socket.connect(wordsOfText('10.0.0.9'), 7);
  assert.equal(socket.send(host.buffer('x')), 0);
  const nine = wordsOfText('10.0.0.9').w3;
  assert.deepEqual(asked, [nine]);
  host.stack.neighbours.set(4, 0, 0, 0, nine, 0x0200, 0x5e000009, false);
  assert.equal(sent(host).length, 1);
  assert.equal(world.dispose(), 0);
});

test('to ourselves: datagrams between two sockets, by address and by loopback, never on the wire', () => {
  const { world, host } = alone();
  for (const [address, family] of [
    ['127.0.0.1', 4],
    ['10.0.0.1', 4],
    ['::1', 6],
    ['fd00::1', 6],
  ] as const) {
    const server = host.stack.udp.open(family);
    server.bind(null, 4000);
    const client = host.stack.udp.open(family);
    client.connect(wordsOfText(address), 4000);
    assert.equal(client.send(host.buffer('hello')), 0);
    assert.equal(server.readable, 0, 'not before the next turn');
    world.settle();
    const got = server.read()!;
    assert.equal(got.text(), 'hello');
    assert.equal(got.peer?.host, address);
    assert.equal(server.reply(got), 0);
    world.settle();
    const back = client.read()!;
    assert.equal(back.text(), 'hello');
    back.release();
    client.close();
    server.close();
  }
  assert.equal(world.carried, 0);
  assert.equal(host.count('loopback'), 8);
  assert.equal(world.dispose(), 0);
});

test('what a datagram for nobody does to ourselves: the sender hears of it', () => {
  const { world, host } = alone();
  const client = host.stack.udp.open(4);
  client.connect(wordsOfText('127.0.0.1'), 4001);
  client.send(host.buffer('hello'));
  world.settle();
  assert.equal(host.stack.udp.nextReady(), client);
  assert.equal(client.takeEvents(), 2);
  assert.equal(client.takeError(), 111);
  assert.equal(client.takeError(), 0);
  assert.equal(world.dispose(), 0);
});

test('a full device drops and counts', () => {
  const { world, host } = alone();
  knowsNine(host);
  host.device.limit = 0;
  host.receive(icmpFrame(HERE, 8, 0, 1, LETTERS));
  assert.equal(host.count('drop.deviceFull'), 1);
  assert.equal(host.stack.output.room(), 0);
  assert.equal(world.dispose(), 0);
});

test('addresses and routes come and go', () => {
  const { world, host } = alone();
  host.stack.addAddress('192.168.1.1', 16);
  host.stack.addRoute('0.0.0.0', 0, '10.0.0.254');
  const socket = host.stack.udp.open(4);
  assert.equal(socket.sendTo(host.buffer('x'), wordsOfText('192.168.77.1'), 9), 0);
  assert.equal(socket.sendTo(host.buffer('x'), wordsOfText('8.8.8.8'), 9), 0);
  assert.deepEqual(sent(host), ['arp request 192.168.1.1 > 192.168.77.1', 'arp request 10.0.0.1 > 10.0.0.254']);
  assert.equal(host.stack.removeAddress('192.168.1.1'), true);
  assert.equal(host.stack.removeAddress('192.168.1.1'), false);
  assert.equal(host.stack.routes.find(4, 0, 0, 0, wordsOfText('192.168.77.1').w3)?.prefixLength, 0);
  assert.equal(host.stack.removeRoute('0.0.0.0', 0), true);
  assert.equal(socket.sendTo(host.buffer('x'), wordsOfText('8.8.8.8'), 9), 101);
  assert.equal(world.dispose(), 0);
});

test('ICMP errors about UDP reach the connected socket only where the quoted packet is its own', () => {
  const { world, host } = alone();
  knowsNine(host);
  const socket = host.stack.udp.open(4);
  socket.bind(null, 5000);
  socket.connect(wordsOfText('10.0.0.9'), 7);
  const mine: Ends = { fromMac: 1, toMac: 9, from: '10.0.0.1', to: '10.0.0.9' };
  const quote = (ends: Ends, from: number, to: number): Uint8Array =>
    ipFrame(ends, 17, udpBytes(ends, from, to, LETTERS)).subarray(14);
  const tell = (quoted: Uint8Array, code = 3): void => host.receive(icmpFrame(HERE, 3, code, 0, quoted));
  tell(quote(mine, 5000, 8));
  tell(quote(mine, 5001, 7));
  tell(quote({ ...mine, from: '10.0.0.2' }, 5000, 7));
  tell(quote(mine, 5000, 7).subarray(0, 27));
  assert.equal(socket.error, 0);
  tell(quote(mine, 5000, 7).subarray(0, 28));
  assert.equal(socket.takeError(), 111);
  tell(quote(mine, 5000, 7), 1);
  assert.equal(socket.takeError(), 113);
  host.receive(icmpFrame(HERE, 11, 0, 0, quote(mine, 5000, 7)));
  assert.equal(socket.takeError(), 113);
  assert.equal(host.count('timeExceededIn'), 1);
  assert.equal(world.dispose(), 0);
});
