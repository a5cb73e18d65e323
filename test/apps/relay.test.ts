/** The relay on the simulated datapath: sessions for each client, their bound and their expiry, and no copy. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpoint, Relay, type RelayOptions, relay } from '../../src/apps/relay.ts';
import { SimulatedNetwork } from '../../src/datapath/simulated/network.ts';
import { simulatedKernel } from '../../src/datapath/simulated.ts';
import type { IpAddress, Kernel, UdpSocket } from '../../src/index.ts';
import { runApp } from '../support/run-app.ts';

const PARTNER: IpAddress = { host: '127.0.0.1', port: 9 };

interface Partner {
  readonly socket: UdpSocket;
  /** Ports it was spoken to from. */
  readonly ports: number[];
}

/** Answers every datagram with the port it came from and its text. */
function startPartner(k: Kernel): Partner {
  const partner = { socket: k.udp(PARTNER), ports: [] as number[] };
  k.spawn(
    (function* () {
      for (;;) {
        const buffer = yield* partner.socket.pop();
        const { port } = buffer.peer!;
        partner.ports.push(port);
        const answer = k.alloc(64).fill(`to ${buffer.text()}`);
        answer.peer = buffer.peer;
        buffer.release();
        yield* partner.socket.push(answer);
      }
    })(),
  );
  return partner;
}

function setUp(options: Partial<RelayOptions> = {}) {
  const network = new SimulatedNetwork();
  const k = simulatedKernel(network, { checked: true });
  const peers = simulatedKernel(network, { checked: true });
  const running = new Relay(k, { from: 0, host: '127.0.0.1', to: PARTNER, maxSessions: 3, expiry: 120, ...options });
  const task = k.spawn(running.run());
  const front = running.front.address as IpAddress;
  return { network, k, peers, running, task, front };
}

/** A client that sends each text and gathers what comes back. */
function startClient(k: Kernel, front: IpAddress) {
  const socket = k.udp({ host: '127.0.0.1' });
  const got: string[] = [];
  k.spawn(
    (function* () {
      for (;;) {
        const buffer = yield* socket.pop();
        assert.deepEqual(buffer.peer, front);
        got.push(buffer.text());
        buffer.release();
      }
    })(),
  );
  const say = (text: string) =>
    k.spawn(
      (function* () {
        yield* socket.push(k.alloc(64).fill(text), front);
      })(),
    );
  return { socket, got, say };
}

describe('relay', () => {
  it('gives each client a session of its own and returns the answers to whom they belong', () => {
    const { network, k, peers, running, task, front } = setUp();
    const partner = startPartner(peers);
    const ann = startClient(peers, front);
    const bob = startClient(peers, front);
    ann.say('ann 1');
    bob.say('bob 1');
    network.run(10);
    ann.say('ann 2');
    network.run(20);
    assert.deepEqual(ann.got, ['to ann 1', 'to ann 2']);
    assert.deepEqual(bob.got, ['to bob 1']);
    assert.equal(new Set(partner.ports).size, 2);
    assert.deepEqual([running.sessions, running.forwarded, running.returned], [2, 3, 3]);
    task.cancel();
    network.run(30);
    assert.equal(k.openQueues, 0);
    assert.equal(k.heap.inUse, 0);
  });

  it('copies nothing: the relay allocates no buffer', () => {
    const network = new SimulatedNetwork();
    const shared = simulatedKernel(network);
    const k = simulatedKernel(network, { heap: shared.heap });
    const running = new Relay(k, { from: 0, host: '127.0.0.1', to: PARTNER, maxSessions: 3, expiry: 120 });
    k.spawn(running.run());
    const socket = shared.udp(PARTNER);
    const sent = shared.alloc(64).fill('the very buffer');
    const client = shared.udp({ host: '127.0.0.1' });
    let same = false;
    shared.spawn(
      (function* () {
        yield* client.push(sent, running.front.address as IpAddress);
        const there = yield* socket.pop();
        yield* socket.push(there);
        same = there === sent && (yield* client.pop()) === sent;
      })(),
    );
    network.run(10);
    assert.equal(same, true);
  });

  it('drops the datagrams of clients beyond its bound, and counts them', () => {
    const { network, peers, running, front } = setUp();
    startPartner(peers);
    const clients = Array.from({ length: 5 }, () => startClient(peers, front));
    for (const [i, client] of clients.entries()) client.say(`${i}`);
    network.run(10);
    assert.equal(running.sessions, 3);
    assert.equal(running.refused, 2);
    assert.equal(clients.filter(({ got }) => got.length === 1).length, 3);
  });

  it('ends a session after a time without datagrams, whichever way they go', () => {
    const { network, peers, running, front } = setUp({ expiry: 10 });
    const partner = startPartner(peers);
    const ann = startClient(peers, front);
    const bob = startClient(peers, front);
    ann.say('1');
    bob.say('1');
    network.run(6_000);
    bob.say('2');
    network.run(10_500);
    assert.equal(running.sessions, 1, 'the one that was silent has expired');
    ann.say('2');
    network.run(11_000);
    assert.equal(running.sessions, 2);
    assert.deepEqual(ann.got, ['to 1', 'to 2']);
    assert.equal(new Set(partner.ports).size, 3, 'a new session has a new socket');
    network.run(60_000);
    assert.equal(running.sessions, 0);
  });

  it('lives on when the partner is not there', () => {
    const { network, k, peers, running, front } = setUp();
    const ann = startClient(peers, front);
    ann.say('1');
    network.run(10);
    ann.say('2');
    network.run(20);
    assert.ok(running.undelivered > 0);
    startPartner(peers);
    ann.say('3');
    network.run(30);
    assert.deepEqual(ann.got, ['to 3']);
    assert.equal(k.heap.inUse, 0);
  });

  it('starts from its options', () => {
    const network = new SimulatedNetwork();
    const k = simulatedKernel(network);
    const app = runApp(k, relay, { from: 0, to: '127.0.0.1:9' });
    network.run(1);
    assert.ok(app.port('udp') > 0);
    app.task.cancel();
    assert.equal(k.openQueues, 0);
  });

  it('reads endpoints', () => {
    assert.deepEqual(parseEndpoint('127.0.0.1:7000'), { host: '127.0.0.1', port: 7000 });
    assert.deepEqual(parseEndpoint('[::1]:9'), { host: '::1', port: 9 });
    for (const bad of ['', '127.0.0.1', ':7', '::1:7', '[::1]', '1.2.3.4:0', '1.2.3.4:65536', '1.2.3.4:x']) {
      assert.throws(() => parseEndpoint(bad), { code: 'EINVAL' });
    }
  });
});
