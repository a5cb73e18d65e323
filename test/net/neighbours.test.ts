import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wordsOfText } from '../../src/net/ip/words.ts';
import { type Neighbour, NeighbourState } from '../../src/net/neighbour.ts';
import { DELAY_FIRST_PROBE_MS, REACHABLE_MS } from '../../src/net/neighbours.ts';
import type { UdpSocket } from '../../src/net/udp/socket.ts';
import { arpFrame, describe, type Ends, icmpFrame } from './frames.ts';
import { type Host, type HostOptions, hex, World } from './hosts.ts';

const NINE = wordsOfText('10.0.0.9').w3;
const REPLY: Ends = { fromMac: 9, toMac: 1, from: '10.0.0.9', to: '10.0.0.1' };

function setUp(options: HostOptions = {}): {
  world: World;
  host: Host;
  socket: UdpSocket;
  send: (to?: string) => number;
} {
  const world = new World();
  const host = world.host({ addresses: ['10.0.0.1/24', 'fd00::1/64'], ...options });
  const socket = host.stack.udp.open(4);
  const send = (to = '10.0.0.9'): number => socket.sendTo(host.buffer('data'), wordsOfText(to), 7);
  return { world, host, socket, send };
}

function nine(host: Host): Neighbour {
  return host.stack.neighbours.find(4, 0, 0, 0, NINE)!;
}

function sent(host: Host): string[] {
  return host.device.take().map((frame) => describe(frame).replace(/\d+:7/, 'N:7'));
}

const ASK = 'arp request 10.0.0.1 > 10.0.0.9';
const DATA = 'udp N:7 10.0.0.1 > 10.0.0.9';

test('packets wait for the answer and then leave in order', () => {
  const { world, host, send } = setUp();
  send();
  send();
  assert.deepEqual(sent(host), [ASK]);
  assert.equal(host.stack.neighbours.waiting, 2);
  host.receive(arpFrame(REPLY, 2, 1));
  assert.deepEqual(sent(host), [DATA, DATA]);
  assert.equal(nine(host).state, NeighbourState.REACHABLE);
  send();
  assert.deepEqual(sent(host), [DATA]);
  assert.equal(world.dispose(), 0);
});

test('nobody answers: three questions, then the connected sender hears EHOSTUNREACH and the entry is gone', () => {
  const { world, host, socket, send } = setUp();
  socket.connect(wordsOfText('10.0.0.9'), 7);
  socket.send(host.buffer('data'));
  send();
  // The frames of each second, kept here: nobody is there to hear them.
  const asked: string[] = [];
  world.carry = (frame) => asked.push(describe(frame)) < 0;
  world.run(2999);
  assert.deepEqual(asked, [ASK, ASK, ASK]);
  assert.equal(socket.error, 0);
  world.run(1);
  assert.equal(socket.takeError(), 113);
  assert.equal(host.stack.neighbours.size, 0);
  assert.equal(host.count('drop.neighbourUnreachable'), 2);
  assert.equal(host.count('neighboursFailed'), 1);
  assert.equal(host.heap.inUse, 0);
  assert.equal(world.dispose(), 0);
});

test('reachable, stale, delay, probe: a neighbour that answers stays, one that does not is forgotten', () => {
  const { world, host, send } = setUp();
  send();
  host.receive(arpFrame(REPLY, 2, 1));
  sent(host);
  world.run(REACHABLE_MS * 1.5);
  send();
  assert.deepEqual(sent(host), [DATA], 'sent at once, to what was last known');
  assert.equal(nine(host).state, NeighbourState.DELAY);
  const asked: string[] = [];
  world.carry = (frame) => asked.push(`${describe(frame)} ${frame[5]}`) < 0;
  world.run(DELAY_FIRST_PROBE_MS);
  assert.equal(nine(host).state, NeighbourState.PROBE);
  assert.deepEqual(asked, [`${ASK} 9`], 'asked directly');
  host.receive(arpFrame(REPLY, 2, 1));
  assert.equal(nine(host).state, NeighbourState.REACHABLE);
  world.run(REACHABLE_MS * 1.5);
  send();
  world.run(DELAY_FIRST_PROBE_MS + 3000);
  assert.equal(host.stack.neighbours.size, 0);
  assert.equal(world.dispose(), 0);
});

test('progress of the upper layer confirms a neighbour without a probe', () => {
  const { world, host, socket, send } = setUp();
  send();
  host.receive(arpFrame(REPLY, 2, 1));
  world.run(REACHABLE_MS * 1.5);
  send();
  assert.equal(nine(host).state, NeighbourState.DELAY);
  assert.equal(host.stack.neighbours.doubted, 1);
  socket.confirm();
  assert.equal(nine(host).state, NeighbourState.REACHABLE);
  assert.equal(host.stack.neighbours.doubted, 0);
  sent(host);
  world.run(DELAY_FIRST_PROBE_MS + 1000);
  assert.deepEqual(sent(host), []);
  assert.equal(world.dispose(), 0);
});

test('an answer is not overwritten by another within a second, whoever sends it', () => {
  const { world, host, send } = setUp();
  send();
  host.receive(arpFrame(REPLY, 2, 1));
  host.receive(arpFrame({ ...REPLY, fromMac: 66 }, 2, 1));
  assert.equal(nine(host).macLo, 0x5e000009);
  world.run(1000);
  // Later it may be: the host may have got another card. But it must show that it is there.
  host.receive(arpFrame({ ...REPLY, fromMac: 66 }, 2, 1));
  assert.equal(nine(host).macLo, 0x5e000000 | 66);
  assert.equal(nine(host).state, NeighbourState.STALE);
  assert.equal(world.dispose(), 0);
});

test('waiting packets are bounded for one neighbour and in all', () => {
  const { world, host, send } = setUp({ limits: { neighbours: { entries: 64, queued: 3, queuedInAll: 5 } } });
  for (let i = 0; i < 10; i++) send();
  assert.equal(host.stack.neighbours.waiting, 3);
  for (let i = 0; i < 10; i++) send('10.0.0.8');
  assert.equal(host.stack.neighbours.waiting, 5);
  assert.equal(host.count('drop.neighbourQueue'), 15);
  assert.deepEqual(sent(host), [ASK, 'arp request 10.0.0.1 > 10.0.0.8']);
  assert.equal(host.heap.inUse, 10, 'a header and its payload each');
  assert.equal(world.dispose(), 0);
});

test('a flood of hosts that are not there does not push out those that are', () => {
  const { world, host, send } = setUp({ limits: { neighbours: { entries: 16, queued: 2, queuedInAll: 64 } } });
  for (let i = 100; i < 104; i++) {
    send(`10.0.0.${i}`);
    host.receive(arpFrame({ ...REPLY, fromMac: i, from: `10.0.0.${i}` }, 2, 1));
  }
  for (let i = 1; i <= 90; i++) send(`10.0.0.${i + 1}`);
  assert.equal(host.stack.neighbours.size, 16);
  for (let i = 100; i < 104; i++) {
    assert.equal(
      host.stack.neighbours.find(4, 0, 0, 0, wordsOfText(`10.0.0.${i}`).w3)?.state,
      NeighbourState.REACHABLE,
    );
  }
  assert.equal(world.dispose(), 0);
});

test('what a flow remembers is not used for another neighbour in the same place', () => {
  const { world, host } = setUp({ limits: { neighbours: { entries: 1, queued: 4, queuedInAll: 4 } } });
  const a = host.stack.udp.open(4);
  a.connect(wordsOfText('10.0.0.9'), 7);
  a.send(host.buffer('x'));
  host.receive(arpFrame(REPLY, 2, 1));
  const b = host.stack.udp.open(4);
  b.connect(wordsOfText('10.0.0.8'), 7);
  b.send(host.buffer('x'));
  host.receive(arpFrame({ ...REPLY, fromMac: 8, from: '10.0.0.8' }, 2, 1));
  host.device.take();
  a.send(host.buffer('x'));
  assert.deepEqual(sent(host), [ASK]);
  assert.equal(world.dispose(), 0);
});

test('neighbour advertisements by RFC 4861 7.2.5', () => {
  const { world, host } = setUp();
  const socket = host.stack.udp.open(6);
  const peer = wordsOfText('fd00::9');
  const entry = (): Neighbour => host.stack.neighbours.find(6, peer.w0, peer.w1, peer.w2, peer.w3)!;
  const SOLICITED = 1 << 30;
  const OVERRIDE = 1 << 29;
  const advertise = (flags: number, mac: number | null, to = 'fd00::1'): void => {
    const target = hex('fd000000000000000000000000000009');
    const option = mac === null ? [] : hex(`0201 02005e0000${mac.toString(16).padStart(2, '0')}`);
    const ends: Ends = { fromMac: 9, toMac: to === 'fd00::1' ? 1 : 'all', from: 'fd00::9', to };
    host.receive(icmpFrame(ends, 136, 0, flags, Uint8Array.from([...target, ...option]), 255));
  };
  // No entry: nothing to update.
  advertise(OVERRIDE, 9, 'ff02::1');
  assert.equal(host.stack.neighbours.size, 0);
  socket.sendTo(host.buffer('x'), peer, 7);
  assert.deepEqual(sent(host), ['icmp 135/0 fd00::1 > ff02::1:ff00:9']);
  // Incomplete: without an address there is nothing to learn.
  advertise(SOLICITED, null);
  assert.equal(entry().state, NeighbourState.INCOMPLETE);
  advertise(0, 9);
  assert.equal(entry().state, NeighbourState.DELAY, 'stale, and then used by what waited');
  advertise(SOLICITED, 9);
  assert.equal(entry().state, NeighbourState.REACHABLE);
  world.run(2000);
  // Another address without override: only doubt.
  advertise(SOLICITED, 8);
  assert.equal(entry().state, NeighbourState.STALE);
  assert.equal(entry().macLo, 0x5e000009);
  // With override, unasked: taken over, still to be confirmed.
  advertise(OVERRIDE, 8, 'ff02::1');
  assert.equal(entry().macLo, 0x5e000008);
  assert.equal(entry().state, NeighbourState.STALE);
  // The same again as an answer.
  advertise(SOLICITED | OVERRIDE, 8);
  assert.equal(entry().state, NeighbourState.REACHABLE);
  // An answer to a group is forged (7.1.2).
  advertise(SOLICITED | OVERRIDE, 7, 'ff02::1');
  assert.equal(host.count('drop.ndpInvalid'), 1);
  assert.equal(world.dispose(), 0);
});

test('with half of all frames lost, neighbours are still found', () => {
  let delivered = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const world = new World(seed);
    const a = world.host({ addresses: ['10.0.0.1/24'], faults: { seed, loss: 0.5 } });
    const b = world.host({ addresses: ['10.0.0.2/24'], faults: { seed: seed + 100, loss: 0.5 } });
    const client = a.stack.udp.open(4);
    client.connect(wordsOfText('10.0.0.2'), 7);
    const server = b.stack.udp.open(4);
    server.bind(null, 7);
    for (let i = 0; i < 10; i++) {
      assert.equal(client.send(a.buffer(`n${i}`)), 0);
      world.run(1000);
      for (let got = server.read(); got !== null; got = server.read()) {
        delivered++;
        got.release();
      }
    }
    assert.equal(world.dispose(), 0);
  }
  assert.ok(delivered > 20, `${delivered} of 100`);
});
